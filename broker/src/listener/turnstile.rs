//! A turnstile: of many that are ready at once, one is let through after the other, a step at a time.
//!
//! A handshake takes tenths of a millisecond of a processor, and anybody can begin one. A runtime runs what is ready in
//! the order in which it became so: without a turnstile a thousand handshakes that come together are a thousand places in
//! the line before the next call of a client.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread::available_parallelism;

use tokio::sync::Semaphore;
use tokio_util::sync::PollSemaphore;

/// Lets a part of the processors work on what is behind it.
#[derive(Clone, Debug)]
pub(super) struct Turnstile(Arc<Semaphore>);

impl Turnstile {
    /// For half of the processors, but one at least.
    pub(super) fn new() -> Self {
        let processors = available_parallelism().map_or(1, usize::from);
        Self::for_so_many(processors.div_ceil(2))
    }

    fn for_so_many(at_a_time: usize) -> Self {
        Self(Arc::new(Semaphore::new(at_a_time)))
    }

    /// Work each step of which waits for its turn. It holds nothing between two steps, however long it waits there.
    pub(super) fn pass<F: Future + Unpin>(&self, work: F) -> Passing<F> {
        Passing {
            turns: PollSemaphore::new(Arc::clone(&self.0)),
            work,
        }
    }
}

/// Work behind a [`Turnstile`].
#[derive(Debug)]
pub(super) struct Passing<F> {
    turns: PollSemaphore,
    work: F,
}

impl<F: Future + Unpin> Future for Passing<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let turn = ready!(self.turns.poll_acquire(context));
        let polled = Pin::new(&mut self.work).poll(context);
        drop(turn);
        polled
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::future::poll_fn;
    use std::sync::Mutex;
    use std::task::Waker;

    use tokio::sync::oneshot;
    use tokio::task::JoinSet;

    use super::*;

    /// The semaphore has a turn to give.
    fn is_free(turnstile: &Turnstile) -> bool {
        turnstile.0.available_permits() == 1
    }

    #[tokio::test]
    async fn who_waits_for_a_peer_holds_up_nobody() {
        let turnstile = Turnstile::for_so_many(1);
        let (_silent, peer) = oneshot::channel::<()>();
        let mut waiting = turnstile.pass(peer);
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut waiting).poll(&mut context).is_pending());
        assert!(is_free(&turnstile));
        assert_eq!(turnstile.pass(std::future::ready(7)).await, 7);
    }

    #[tokio::test]
    async fn a_step_waits_for_the_one_before_and_goes_on_when_it_is_over() {
        let turnstile = Turnstile::for_so_many(1);
        let taken = Arc::clone(&turnstile.0).try_acquire_owned().unwrap();
        let mut waiting = Box::pin(turnstile.pass(std::future::ready(7)));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        drop(taken);
        assert_eq!(waiting.await, 7);
        assert!(is_free(&turnstile));
    }

    #[tokio::test]
    async fn who_gives_up_its_place_in_the_line_leaves_the_turn_to_the_next() {
        let turnstile = Turnstile::for_so_many(1);
        let taken = Arc::clone(&turnstile.0).try_acquire_owned().unwrap();
        let mut context = Context::from_waker(Waker::noop());
        let mut first = Box::pin(turnstile.pass(std::future::ready(1)));
        let mut second = Box::pin(turnstile.pass(std::future::ready(2)));
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        drop(taken);
        drop(first);
        assert_eq!(second.await, 2);
    }

    /// Many at once, each of several steps: all end, and never are two of them at work.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn one_is_let_through_after_the_other() {
        let turnstile = Turnstile::for_so_many(1);
        let at_work = Arc::new(Mutex::new(()));
        let mut all = JoinSet::new();
        for _ in 0..500 {
            let (turnstile, at_work) = (turnstile.clone(), Arc::clone(&at_work));
            all.spawn(async move {
                let mut steps = 0;
                let work = poll_fn(move |context| {
                    let _alone = at_work.try_lock().unwrap();
                    steps += 1;
                    if steps == 3 {
                        return Poll::Ready(());
                    }
                    context.waker().wake_by_ref();
                    Poll::Pending
                });
                turnstile.pass(work).await;
            });
        }
        let mut ended = 0;
        while let Some(done) = all.join_next().await {
            done.unwrap();
            ended += 1;
        }
        assert_eq!(ended, 500);
        assert!(is_free(&turnstile));
    }
}
