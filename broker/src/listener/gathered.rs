//! A connection whose small writes leave together.
//!
//! HTTP/2 flushes behind each answer's body, and TLS makes a record and a system call of each flush. Here what is
//! written is held until whoever drives the connection has done all there is to do at the moment: answers that are ready
//! at the same time leave in one record and one system call.

use std::future::Future;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is held at most: the content of one TLS record [RFC 8446 §5.1].
const MOST_BYTES: usize = 16 * 1024;

/// Room for what is held first: most answers fit.
const FIRST_BYTES: usize = 1024;

/// The stream of a connection. What is written to it leaves when [`Driven`] says so, or when it is too much to hold.
#[derive(Debug)]
pub(super) struct Gathered<S>(Arc<Mutex<Holding<S>>>);

/// A connection over a [`Gathered`] stream, and that stream.
#[derive(Debug)]
pub(super) struct Driven<C, S> {
    connection: Pin<Box<C>>,
    stream: Gathered<S>,
    /// What is held has waited for a turn.
    waited: bool,
}

#[derive(Debug)]
struct Holding<S> {
    stream: S,
    held: Vec<u8>,
    /// So much of it has left.
    gone: usize,
}

/// A connection that is served over a stream whose small writes leave together.
pub(super) fn driven<C, S>(stream: S, serve: impl FnOnce(Gathered<S>) -> C) -> Driven<C, S> {
    let holding = Arc::new(Mutex::new(Holding {
        stream,
        held: Vec::new(),
        gone: 0,
    }));
    Driven {
        connection: Box::pin(serve(Gathered(Arc::clone(&holding)))),
        stream: Gathered(holding),
        waited: false,
    }
}

impl<C, S> Driven<C, S> {
    /// The connection.
    pub(super) fn connection(&mut self) -> Pin<&mut C> {
        self.connection.as_mut()
    }
}

impl<C, S> Future for Driven<C, S>
where
    C: Future,
    S: AsyncWrite + Unpin,
{
    /// `None` if the stream broke.
    type Output = Option<C::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.connection().poll(context);
        // Answers that are ready wake the connection one by one. Behind whatever is to be done before its next turn,
        // there is more to let go of.
        if polled.is_pending() && !self.waited && !self.stream.0.lock().held.is_empty() {
            self.waited = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.waited = false;
        let gone = self.stream.0.lock().poll_let_go(context);
        match (polled, gone) {
            (Poll::Ready(ended), _) => Poll::Ready(Some(ended)),
            (Poll::Pending, Poll::Ready(Err(_))) => Poll::Ready(None),
            (Poll::Pending, Poll::Ready(Ok(())) | Poll::Pending) => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> Holding<S> {
    /// Lets go of what is held. Then no memory is held either: most connections have nothing to say for long.
    fn poll_let_go(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, held, gone } = self;
        if held.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut stream = Pin::new(stream);
        while let Some(rest) = held.get(*gone..).filter(|rest| !rest.is_empty()) {
            let written = ready!(stream.as_mut().poll_write(context, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            *gone = gone.saturating_add(written);
        }
        // TLS may have taken it, and not the socket.
        ready!(stream.poll_flush(context))?;
        *gone = 0;
        drop(mem::take(held));
        Poll::Ready(Ok(()))
    }

    /// Holds as much of some bytes as there is room for.
    fn hold(&mut self, bytes: &[u8]) -> usize {
        let room = MOST_BYTES.saturating_sub(self.held.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        if self.held.capacity() == 0 {
            self.held.reserve(FIRST_BYTES);
        }
        self.held.extend_from_slice(taken);
        taken.len()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut holding = self.0.lock();
        if holding.held.len() >= MOST_BYTES {
            ready!(holding.poll_let_go(context))?;
        }
        let mut taken: usize = 0;
        for slice in slices {
            let of_slice = holding.hold(slice);
            taken = taken.saturating_add(of_slice);
            if of_slice < slice.len() {
                break;
            }
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What is held counts as flushed: it leaves when the connection was driven.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut holding = self.0.lock();
        if holding.held.is_empty() {
            return Pin::new(&mut holding.stream).poll_flush(context);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut holding = self.0.lock();
        ready!(holding.poll_let_go(context))?;
        Pin::new(&mut holding.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// A peer that takes so many bytes at a time, and says so every other time that it is asked.
    #[derive(Debug)]
    struct Peer {
        taken: Vec<u8>,
        writes: usize,
        flushed: usize,
        at_a_time: usize,
        busy: bool,
        broken: bool,
    }

    impl Peer {
        fn new(at_a_time: usize) -> Self {
            Self {
                taken: Vec::new(),
                writes: 0,
                flushed: 0,
                at_a_time,
                busy: false,
                broken: false,
            }
        }
    }

    impl AsyncWrite for Peer {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.broken {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            self.busy = !self.busy;
            if !self.busy {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let taken = bytes.get(..self.at_a_time).unwrap_or(bytes);
            self.taken.extend_from_slice(taken);
            self.writes = self.writes.saturating_add(1);
            Poll::Ready(Ok(taken.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushed = self.taken.len();
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Writes pieces as HTTP does, each flushed, and never ends.
    async fn speak(mut stream: Gathered<Peer>, pieces: Vec<Vec<u8>>) {
        for piece in pieces {
            stream.write_all(&piece).await.unwrap();
            stream.flush().await.unwrap();
        }
        std::future::pending::<()>().await;
    }

    /// What the peer has when nothing goes on any more, and in how many writes.
    async fn told(pieces: Vec<Vec<u8>>, at_a_time: usize) -> Peer {
        let all: usize = pieces.iter().map(Vec::len).sum();
        let mut driven = driven(Peer::new(at_a_time), |stream| speak(stream, pieces));
        poll_fn(|context| {
            assert!(Pin::new(&mut driven).poll(context).is_pending());
            let holding = driven.stream.0.lock();
            assert!(holding.held.len() <= MOST_BYTES);
            match holding.stream.flushed == all && holding.held.capacity() == 0 {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        let peer = Peer::new(at_a_time);
        mem::replace(&mut driven.stream.0.lock().stream, peer)
    }

    #[tokio::test]
    async fn what_is_ready_at_the_same_time_leaves_as_one() {
        let pieces = vec![b"head".to_vec(), b"body".to_vec(), b"trailers".to_vec()];
        let peer = told(pieces, usize::MAX).await;
        assert_eq!(peer.taken, b"headbodytrailers");
        assert_eq!(peer.writes, 1);
    }

    #[tokio::test]
    async fn what_is_large_leaves_a_record_at_a_time() {
        let piece = vec![7; 3 * MOST_BYTES + 1];
        let peer = told(vec![piece.clone()], usize::MAX).await;
        assert_eq!((peer.taken, peer.writes), (piece, 4));
    }

    #[tokio::test]
    async fn a_stream_that_breaks_ends_the_connection() {
        let mut peer = Peer::new(1);
        peer.broken = true;
        let driven = driven(peer, |stream| speak(stream, vec![vec![1]]));
        assert_eq!(driven.await, None);
    }

    #[tokio::test]
    async fn what_is_held_leaves_before_the_stream_is_shut_down() {
        let driven = driven(Peer::new(2), async |mut stream: Gathered<Peer>| {
            stream.write_all(b"the last word").await.unwrap();
            stream.shutdown().await.unwrap();
            stream.0.lock().taken()
        });
        assert_eq!(driven.await.unwrap(), b"the last word");
    }

    impl Holding<Peer> {
        fn taken(&self) -> Vec<u8> {
            self.stream.taken.clone()
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_told_out_of_order(
            lengths in proptest::collection::vec(0_usize..40_000, 0..12),
            at_a_time in 1_usize..20_000,
        ) {
            let mut next = 0_u8;
            let pieces: Vec<Vec<u8>> = lengths
                .iter()
                .map(|length| {
                    let piece = (0..*length).map(|_| {
                        next = next.wrapping_mul(5).wrapping_add(3);
                        next
                    });
                    piece.collect()
                })
                .collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let peer = runtime.block_on(told(pieces.clone(), at_a_time.max(50)));
            prop_assert_eq!(peer.taken, pieces.concat());
        }
    }
}
