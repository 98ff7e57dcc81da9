//! Bytes of a call's bodies against the limits that they count on: held back for a while, or cut.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use enclave::gateway::Admitted;
use enclave::limits::{ByteBudgets, LimitError};
use tokio::time::Sleep;

use crate::shell::Shell;

/// What is counted at once: as much waits as one piece.
const PIECE_BYTES: usize = 16_384;

/// The bytes of one body. Where they are not limited, all pass as they come.
pub(super) struct Pacing {
    counted: Option<Counted>,
    /// What is not counted yet.
    rest: Bytes,
    /// What is counted, and when it may pass.
    held: Option<(Pin<Box<Sleep>>, Bytes)>,
}

struct Counted {
    shell: Arc<Shell>,
    budgets: ByteBudgets,
    reached: Reached,
}

/// The limit that cut a body, if one did.
pub(super) type Reached = Arc<OnceLock<LimitError>>;

impl Pacing {
    /// Of a body of a call; `reached` is told when it is cut.
    pub(super) fn of(shell: &Arc<Shell>, admitted: &Admitted, reached: &Reached) -> Self {
        let counted = admitted.byte_budgets().map(|budgets| Counted {
            shell: Arc::clone(shell),
            budgets,
            reached: Arc::clone(reached),
        });
        Self {
            counted,
            ..Self::unlimited()
        }
    }

    /// Of a body that counts on no limit.
    pub(super) fn unlimited() -> Self {
        Self {
            counted: None,
            rest: Bytes::new(),
            held: None,
        }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty() && self.held.is_none()
    }

    /// Takes in what came. Only when nothing waits.
    pub(super) fn push(&mut self, data: Bytes) {
        self.rest = data;
    }

    /// Drops what waits.
    pub(super) fn clear(&mut self) {
        self.rest = Bytes::new();
        self.held = None;
    }

    /// The next piece that may pass; none when nothing waits.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, LimitError>>> {
        loop {
            if let Some((sleep, _)) = &mut self.held {
                ready!(sleep.as_mut().poll(context));
                let held = self.held.take();
                return Poll::Ready(held.map(|(_, piece)| Ok(piece)));
            }
            if self.rest.is_empty() {
                return Poll::Ready(None);
            }
            let Some(counted) = &self.counted else {
                return Poll::Ready(Some(Ok(std::mem::take(&mut self.rest))));
            };
            let piece = self.rest.split_to(PIECE_BYTES.min(self.rest.len()));
            match counted.spend(piece.len()) {
                Ok(0) => return Poll::Ready(Some(Ok(piece))),
                Ok(wait_ms) => {
                    let sleep = tokio::time::sleep(Duration::from_millis(wait_ms));
                    self.held = Some((Box::pin(sleep), piece));
                }
                Err(error) => {
                    self.rest = Bytes::new();
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

impl Counted {
    fn spend(&self, bytes: usize) -> Result<u64, LimitError> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let now = self.shell.clock.now();
        let spent = self.shell.enclave.spend_bytes(&self.budgets, bytes, &now);
        if let Err(error) = spent {
            self.reached.get_or_init(|| error);
        }
        spent
    }
}
