//! Exchanges the code of a consent, on a task of its own.

use std::sync::Arc;
use std::time::Duration;

use enclave::admin::{AdminError, GrantView};
use enclave::connect::{CodeExchange, CodeStep};
use enclave::pending::Pending;
use enclave::time::Now;
use tonic::Code;

use crate::events;
use crate::grpc::administrator::refuse;
use crate::refresher::Refresher;
use crate::shell::Shell;
use crate::status::Refusal;

/// How often what the provider gave is tried to be kept, and how long is waited in between: an exchange of the same
/// grant, or a store that is full, may stand in the way for a while.
const TRIES: usize = 40;
const PAUSE: Duration = Duration::from_millis(250);

/// What an exchange of a code needs.
#[derive(Clone, Debug)]
pub(super) struct Connecting {
    pub(super) shell: Arc<Shell>,
    pub(super) refresher: Arc<Refresher>,
}

impl Connecting {
    pub(super) async fn run(self, mut exchange: CodeExchange) -> Result<GrantView, Refusal> {
        let enclave = &self.shell.enclave;
        let now = || self.shell.clock.now();
        let mut request = enclave.exchange_code(&exchange, &now()).map_err(refuse)?;
        loop {
            let answer = self.refresher.send(request).await;
            match enclave
                .code_answered(&mut exchange, answer, &now())
                .map_err(refuse)?
            {
                CodeStep::Send(again) => request = *again,
                CodeStep::Keep => break,
            }
        }
        let keep = |now: &Now| enclave.keep_consent(&exchange, now);
        let view = self.keep(keep).await?;
        events::grant_deposited(&view.grant, &exchange.by().name);
        Ok(view)
    }

    /// Keeps what the provider gave: it can't be had again.
    pub(super) async fn keep(
        &self,
        keep: impl Fn(&Now) -> Result<Pending<GrantView>, AdminError>,
    ) -> Result<GrantView, Refusal> {
        for _ in 1..TRIES {
            match keep(&self.shell.clock.now()) {
                Ok(pending) => match self.shell.settle(pending).await {
                    Err(refusal) if may_pass(refusal.code) => {}
                    settled => return settled,
                },
                Err(AdminError::Busy) => {}
                Err(error) => return Err(refuse(error)),
            }
            tokio::time::sleep(PAUSE).await;
        }
        let pending = keep(&self.shell.clock.now());
        self.shell.settle(pending.map_err(refuse)?).await
    }
}

/// Whether what the store said may be over in a while.
fn may_pass(code: Code) -> bool {
    matches!(code, Code::Aborted | Code::Unavailable)
}
