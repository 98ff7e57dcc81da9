//! The body of an API's answer, cut when nothing comes for too long.

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use thiserror::Error;
use tokio::task::AbortHandle;
use tokio::time::{Sleep, sleep};

use super::pool::Lease;

/// Why a body ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IdleBodyError {
    /// The connection broke.
    #[error("the upstream's body ended early")]
    Truncated,
    /// Nothing came for as long as is allowed.
    #[error("the upstream's body stood still")]
    Idle,
}

/// A streamed body. Dropping it before its end closes the connection.
pub struct IdleBody {
    inner: Incoming,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// None: the connection serves nobody else.
    lease: Option<Lease>,
}

/// Ends the task that drives a connection when it is dropped.
pub(super) struct Connection(pub(super) AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl IdleBody {
    pub(super) fn new(inner: Incoming, idle: Duration, lease: Lease) -> Self {
        Self {
            inner,
            idle,
            timer: None,
            lease: Some(lease),
        }
    }
}

impl Drop for IdleBody {
    fn drop(&mut self) {
        // An error has taken the lease.
        if self.inner.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.give_back();
        }
    }
}

impl Body for IdleBody {
    type Data = Bytes;
    type Error = IdleBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IdleBodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            self.timer = None;
            return Poll::Ready(match frame {
                Some(Ok(frame)) => Some(Ok(frame)),
                Some(Err(_broken)) => {
                    self.lease = None;
                    Some(Err(IdleBodyError::Truncated))
                }
                None => {
                    if let Some(lease) = self.lease.take() {
                        lease.give_back();
                    }
                    None
                }
            });
        }
        let idle = self.idle;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(idle)));
        ready!(timer.as_mut().poll(context));
        self.lease = None;
        Poll::Ready(Some(Err(IdleBodyError::Idle)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl fmt::Debug for IdleBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdleBody([redacted])")
    }
}
