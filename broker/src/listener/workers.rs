//! Threads that serve connections, each with a runtime of its own.
//!
//! A connection stays on one thread, and so do its requests: nothing of them is handed from one processor to another,
//! and answers that are ready together leave together. Work that outlasts a request goes on there as well.

use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Whose threads serve connections. The threads end when the last copy is dropped.
#[derive(Clone, Debug)]
pub struct Workers(Option<Arc<Threads>>);

#[derive(Debug)]
struct Threads {
    handles: Vec<Handle>,
    next: AtomicUsize,
    /// Dropped, they end the threads.
    _ends: Vec<oneshot::Sender<()>>,
}

impl Workers {
    /// So many threads. They take connections in turn.
    ///
    /// # Errors
    /// The system gives no thread or no means to wait for sockets.
    pub fn start(count: NonZeroUsize) -> io::Result<Self> {
        let mut handles = Vec::with_capacity(count.get());
        let mut ends = Vec::with_capacity(count.get());
        for number in 0..count.get() {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (end, ended) = oneshot::channel::<()>();
            handles.push(runtime.handle().clone());
            ends.push(end);
            thread::Builder::new()
                .name(format!("connections-{number}"))
                .spawn(move || {
                    // It ends when nobody can end it any more.
                    drop(runtime.block_on(ended));
                    runtime.shutdown_background();
                })?;
        }
        Ok(Self(Some(Arc::new(Threads {
            handles,
            next: AtomicUsize::new(0),
            _ends: ends,
        }))))
    }

    /// None of its own: connections are served by the runtime of whoever accepts them.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// The thread for the next connection.
    pub(super) fn next(&self) -> Option<&Handle> {
        let threads = self.0.as_deref()?;
        let turn = threads.next.fetch_add(1, Ordering::Relaxed);
        let place = turn.checked_rem(threads.handles.len())?;
        threads.handles.get(place)
    }

    /// Tasks that the threads have.
    #[must_use]
    pub fn tasks(&self) -> usize {
        let handles = self.0.iter().flat_map(|threads| &threads.handles);
        handles
            .map(|handle| handle.metrics().num_alive_tasks())
            .sum()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[tokio::test]
    async fn connections_are_taken_in_turn_and_the_threads_end_with_their_owner() {
        let workers = Workers::start(NonZeroUsize::new(3).unwrap()).unwrap();
        let mut names = BTreeSet::new();
        for _ in 0..3 {
            let name = workers
                .next()
                .unwrap()
                .spawn(async { thread::current().name().map(str::to_owned) });
            names.insert(name.await.unwrap().unwrap());
        }
        let expected = ["connections-0", "connections-1", "connections-2"];
        assert!(names.iter().eq(expected.iter()), "{names:?}");
        let (hold, held) = oneshot::channel::<()>();
        let endless = workers.next().unwrap().spawn(async move {
            let _hold = hold;
            std::future::pending::<()>().await;
        });
        drop(workers);
        assert!(endless.await.unwrap_err().is_cancelled());
        assert!(held.await.is_err());
        assert!(Workers::none().next().is_none());
    }
}
