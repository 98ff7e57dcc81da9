//! Bodies of calls: the beginning of a request's, which decides whether it can be sent again, and an answer's.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

use super::{CallError, IDLE_TIMEOUT};

type BodyError = Box<dyn StdError + Send + Sync>;

/// How a request's body begins.
pub(super) enum Opening<B> {
    /// It is short: all of it.
    Whole(Bytes),
    /// It goes on.
    More(Streamed<B>),
}

/// A body of which some was read already. Its trailers are not passed on.
pub(super) struct Streamed<B> {
    begun: VecDeque<Bytes>,
    rest: B,
    sent: Arc<AtomicU64>,
}

/// Reads a body until its end, or until more than `most` bytes are there.
pub(super) async fn open<B>(mut body: B, most: usize) -> Result<Opening<B>, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    let mut begun = VecDeque::new();
    let mut length: usize = 0;
    while length <= most {
        match body.frame().await {
            None => {
                let mut whole = BytesMut::with_capacity(length);
                begun
                    .iter()
                    .for_each(|part: &Bytes| whole.extend_from_slice(part));
                return Ok(Opening::Whole(whole.freeze()));
            }
            Some(frame) => {
                if let Ok(data) = frame.map_err(Into::into)?.into_data() {
                    length = length.saturating_add(data.len());
                    begun.push_back(data);
                }
            }
        }
    }
    Ok(Opening::More(Streamed {
        begun,
        rest: body,
        sent: Arc::default(),
    }))
}

impl<B> Streamed<B> {
    /// Counts the bytes that were passed on.
    pub(super) fn sent(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent)
    }
}

impl<B> Body for Streamed<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let data = match self.begun.pop_front() {
                Some(data) => data,
                None => match ready!(Pin::new(&mut self.rest).poll_frame(context)) {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => data,
                        Err(_trailers) => continue,
                    },
                },
            };
            let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
            self.sent.fetch_add(bytes, Ordering::Relaxed);
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.begun.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let begun = self.begun.iter().fold(0_u64, |sum, part| {
            sum.saturating_add(u64::try_from(part.len()).unwrap_or(u64::MAX))
        });
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(begun));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(begun));
        }
        hint
    }
}

/// The body of an answer as it streams. It ends with an error if it falls silent.
pub struct AnswerBody {
    inner: Incoming,
    timer: Option<Pin<Box<Sleep>>>,
}

impl AnswerBody {
    pub(super) const fn new(inner: Incoming) -> Self {
        Self { inner, timer: None }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = CallError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CallError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            self.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(CallError::Body)));
        }
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep(IDLE_TIMEOUT)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Some(Err(CallError::Idle)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl std::fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerBody").finish_non_exhaustive()
    }
}
