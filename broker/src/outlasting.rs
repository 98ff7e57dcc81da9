//! Work that is not stopped half way.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// Work that whoever waits for it drives; if the waiting ends before the work does, a task drives it on. A task for
/// each would cost a way through the scheduler and back.
pub(crate) struct Outlasting<F: Future<Output: Send> + Send + 'static> {
    /// None once it is done.
    work: Option<Pin<Box<F>>>,
}

impl<F: Future<Output: Send> + Send + 'static> Outlasting<F> {
    pub(crate) fn new(work: F) -> Self {
        let work = Some(Box::pin(work));
        Self { work }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Outlasting<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(work) = &mut self.work else {
            // Its end was told.
            return Poll::Pending;
        };
        let polled = work.as_mut().poll(context);
        if polled.is_ready() {
            self.work = None;
        }
        polled
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Outlasting<F> {
    fn drop(&mut self) {
        // Without a runtime the process is at its end, where a task would be stopped as well.
        if let (Some(work), Ok(runtime)) = (self.work.take(), Handle::try_current()) {
            drop(runtime.spawn(work));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn work_ends_whether_or_not_it_is_waited_for() {
        assert_eq!(Outlasting::new(async { 7 }).await, 7);

        let (go, gone) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let mut work = Outlasting::new(async move {
            gone.await.unwrap();
            tell.send("done").unwrap();
        });
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut work).poll(&mut context).is_pending());
        drop(work);
        go.send(()).unwrap();
        assert_eq!(told.await.unwrap(), "done");
    }

    #[tokio::test]
    async fn work_that_was_never_asked_for_ends_too() {
        let (tell, told) = oneshot::channel();
        drop(Outlasting::new(async move { tell.send("done") }));
        assert_eq!(told.await.unwrap(), "done");
    }
}
