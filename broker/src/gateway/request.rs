//! The body of a call on its way to the API, counted.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// A body that streams in, or none.
#[derive(Debug)]
pub(super) struct RequestBody {
    inner: Option<Incoming>,
    sent: Arc<AtomicU64>,
}

impl RequestBody {
    /// What the client sends; `sent` counts its bytes.
    pub(super) fn new(inner: Incoming, sent: Arc<AtomicU64>) -> Self {
        Self {
            inner: Some(inner),
            sent,
        }
    }

    pub(super) fn empty() -> Self {
        Self {
            inner: None,
            sent: Arc::default(),
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
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
                    self.sent.fetch_add(bytes, Ordering::Relaxed);
                    return Poll::Ready(Some(Ok(frame)));
                }
                other => return Poll::Ready(other),
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
