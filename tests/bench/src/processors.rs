//! Halves of the machine: the service on one, the generator on the other, so that load does not take from the service
//! what it needs to answer. And a generator of half as many threads, where they share all.

use std::future::Future;

use anyhow::Context;
use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use crate::machine;

/// The processors of the service and of the generator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Halves {
    pub(crate) service: Vec<usize>,
    pub(crate) generator: Vec<usize>,
}

impl Halves {
    /// Of so many processors; `None` if there is one alone.
    pub(crate) fn of(processors: usize) -> Option<Self> {
        let half = processors / 2;
        (half > 0).then(|| Self {
            service: (0..half).collect(),
            generator: (half..processors).collect(),
        })
    }

    /// The service's as `taskset` reads them.
    pub(crate) fn service_list(&self) -> String {
        let numbers: Vec<String> = self.service.iter().map(usize::to_string).collect();
        numbers.join(",")
    }
}

/// Runs a future on a runtime of its own, whose threads stay on these processors, one on each.
///
/// # Errors
/// The threads can't be bound, or what the future fails for.
pub(crate) async fn run_on<T, F>(
    processors: Vec<usize>,
    work: impl FnOnce() -> F + Send + 'static,
) -> anyhow::Result<T>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>>,
{
    apart(move || {
        let mut set = CpuSet::new();
        for processor in &processors {
            set.set(*processor);
        }
        // Threads that are begun from here on inherit it.
        sched_setaffinity(None, &set).context("the generator can't be bound to processors")?;
        block_on(processors.len(), work)
    })
    .await
}

/// Runs a future on a runtime of its own with half as many threads as there are processors, on any of them.
///
/// # Errors
/// What the future fails for.
pub(crate) async fn run_on_half_as_many<T, F>(
    work: impl FnOnce() -> F + Send + 'static,
) -> anyhow::Result<T>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>>,
{
    let threads = (machine::processors() / 2).max(1);
    apart(move || block_on(threads, work)).await
}

async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let (done, is_done) = oneshot::channel();
    let thread = std::thread::Builder::new().name("generator".to_owned());
    thread.spawn(move || {
        // Nobody waits any more only if the bench was given up.
        drop(done.send(work()));
    })?;
    is_done.await.context("the generator's thread is gone")?
}

fn block_on<T, F>(threads: usize, work: impl FnOnce() -> F) -> anyhow::Result<T>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()?;
    runtime.block_on(work())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_processor_is_of_one_half() {
        let halves = Halves::of(5).unwrap();
        assert_eq!(halves.service_list(), "0,1");
        assert_eq!(halves.generator, [2, 3, 4]);
        assert_eq!(Halves::of(1), None);
    }
}
