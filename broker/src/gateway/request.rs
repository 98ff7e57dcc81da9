//! The body of a call on its way to the API, counted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use thiserror::Error;

/// Why a body is not passed on to its end.
#[derive(Debug, Error)]
pub(super) enum RequestBodyError {
    /// The client's connection broke.
    #[error("the client's body ended early")]
    Client(#[source] hyper::Error),
    /// It is larger than it may be.
    #[error("the body is too large")]
    TooLarge,
}

/// A body that streams in, or none.
#[derive(Debug)]
pub(super) struct RequestBody {
    inner: Option<Incoming>,
    sent: Arc<AtomicU64>,
    /// The most bytes that are passed on.
    max_bytes: u64,
}

/// Whether a body came to its bound and was cut there.
pub(super) fn was_cut(sent: &AtomicU64, max_bytes: Option<u64>) -> bool {
    max_bytes.is_some_and(|max_bytes| sent.load(Ordering::Relaxed) > max_bytes)
}

impl RequestBody {
    /// What the client sends; `sent` counts its bytes.
    pub(super) fn new(inner: Incoming, sent: Arc<AtomicU64>, max_bytes: Option<u64>) -> Self {
        Self {
            inner: Some(inner),
            sent,
            max_bytes: max_bytes.unwrap_or(u64::MAX),
        }
    }

    pub(super) fn empty() -> Self {
        Self {
            inner: None,
            sent: Arc::default(),
            max_bytes: 0,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(None);
        };
        loop {
            let frame = std::task::ready!(Pin::new(&mut *inner).poll_frame(context));
            match frame {
                Some(Ok(frame)) => {
                    // Trailers are not forwarded: no rule is applied to them.
                    let Some(data) = frame.data_ref() else {
                        continue;
                    };
                    let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
                    let before = self.sent.fetch_add(bytes, Ordering::Relaxed);
                    if before.saturating_add(bytes) > self.max_bytes {
                        self.inner = None;
                        return Poll::Ready(Some(Err(RequestBodyError::TooLarge)));
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Some(Err(error)) => {
                    return Poll::Ready(Some(Err(RequestBodyError::Client(error))));
                }
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Some(inner) => inner.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}
