//! The body of a call on its way to the API, counted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use enclave::limits::LimitError;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use thiserror::Error;

use super::pacing::Pacing;

/// Why a body is not passed on to its end.
#[derive(Debug, Error)]
pub(super) enum RequestBodyError {
    /// The client's connection broke.
    #[error("the client's body ended early")]
    Client(#[source] hyper::Error),
    /// It is larger than it may be.
    #[error("the body is too large")]
    TooLarge,
    /// A limit of bytes was reached.
    #[error(transparent)]
    Limited(LimitError),
}

/// A body that streams in, or none.
pub(super) struct RequestBody {
    inner: Option<Incoming>,
    sent: Arc<AtomicU64>,
    /// The most bytes that are passed on.
    max_bytes: u64,
    pacing: Pacing,
}

/// Whether a body came to its bound and was cut there.
pub(super) fn was_cut(sent: &AtomicU64, max_bytes: Option<u64>) -> bool {
    max_bytes.is_some_and(|max_bytes| sent.load(Ordering::Relaxed) > max_bytes)
}

impl RequestBody {
    /// What the client sends; `sent` counts its bytes.
    pub(super) fn new(
        inner: Incoming,
        sent: Arc<AtomicU64>,
        max_bytes: Option<u64>,
        pacing: Pacing,
    ) -> Self {
        Self {
            inner: Some(inner),
            sent,
            max_bytes: max_bytes.unwrap_or(u64::MAX),
            pacing,
        }
    }

    pub(super) fn empty() -> Self {
        Self {
            inner: None,
            sent: Arc::default(),
            max_bytes: 0,
            pacing: Pacing::unlimited(),
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
        let this = &mut *self;
        loop {
            match std::task::ready!(this.pacing.poll(context)) {
                Some(Ok(piece)) => {
                    let bytes = u64::try_from(piece.len()).unwrap_or(u64::MAX);
                    let before = this.sent.fetch_add(bytes, Ordering::Relaxed);
                    if before.saturating_add(bytes) > this.max_bytes {
                        this.inner = None;
                        this.pacing.clear();
                        return Poll::Ready(Some(Err(RequestBodyError::TooLarge)));
                    }
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Some(Err(limit)) => {
                    this.inner = None;
                    return Poll::Ready(Some(Err(RequestBodyError::Limited(limit))));
                }
                None => {}
            }
            let Some(inner) = &mut this.inner else {
                return Poll::Ready(None);
            };
            match std::task::ready!(Pin::new(inner).poll_frame(context)) {
                Some(Ok(frame)) => {
                    // Trailers are not forwarded: no rule is applied to them.
                    if let Ok(data) = frame.into_data() {
                        this.pacing.push(data);
                    }
                }
                Some(Err(error)) => {
                    return Poll::Ready(Some(Err(RequestBodyError::Client(error))));
                }
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pacing.is_empty() && self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Some(inner) => inner.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}
