//! The body of an answer that keeps its request's place until the peer has taken it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};

use crate::room::Seat;

/// A body, and its request's place.
#[derive(Debug)]
pub struct Seated<B> {
    body: B,
    _seat: Arc<Seat>,
}

impl<B> Seated<B> {
    /// Keeps the place as long as the body.
    pub fn new(body: B, seat: Arc<Seat>) -> Self {
        Self { body, _seat: seat }
    }
}

impl<B: Body + Unpin> Body for Seated<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
