//! Traces: of one call in so many, what took how long, sent to a collector by OpenTelemetry's protocol (OTLP over HTTP,
//! JSON). Off unless `[traces]` of `host.toml` names a collector.
//!
//! A span has names of the contract, words of the source and times: no id of a tenant, client or grant, no resource, no
//! token. What a caller sends as `traceparent` joins its trace to ours and decides nothing.
//!
//! | module | holds |
//! | --- | --- |
//! | [`parent`] | the caller's `traceparent` |
//! | [`timeline`] | what happens while a call is traced |
//! | [`otlp`] | the spans as a collector reads them |
//! | [`collector`] | the queue, and how it is sent |

pub mod collector;
pub mod otlp;
pub mod parent;
pub mod timeline;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::mpsc;

use crate::clock::{Stopwatch, told_unix_ns};
use crate::metrics::reasons::Reasons;
use parent::Parent;
use timeline::{End, Finished, Timeline};

/// What became of traces: `SENT`, `DROPPED` (too many waited), `NOT_TAKEN` (by the collector).
pub static OUTCOMES: Reasons = Reasons::new();

/// Traces that may wait for being sent; more are dropped.
const QUEUE: usize = 1_024;

static TRACER: OnceLock<Tracer> = OnceLock::new();

tokio::task_local! {
    static CURRENT: Arc<Timeline>;
}

/// Chooses which calls are traced.
#[derive(Debug)]
struct Tracer {
    one_in: u64,
    seen: AtomicU64,
    queue: mpsc::Sender<Finished>,
}

impl Tracer {
    fn new(one_in: u64) -> (Self, mpsc::Receiver<Finished>) {
        let (queue, finished) = mpsc::channel(QUEUE);
        let tracer = Self {
            one_in,
            seen: AtomicU64::new(0),
            queue,
        };
        (tracer, finished)
    }

    /// Whether the next call is traced.
    fn takes(&self) -> bool {
        let seen = self.seen.fetch_add(1, Ordering::Relaxed);
        seen.checked_rem(self.one_in) == Some(0)
    }

    fn finish(&self, finished: Finished) {
        if self.queue.try_send(finished).is_err() {
            OUTCOMES.one("DROPPED");
        }
    }
}

/// Begins to trace one call in `one_in`; gives where the traces come. Once in a process: later ones get none.
#[must_use]
pub fn start(one_in: u64) -> Option<mpsc::Receiver<Finished>> {
    let (tracer, finished) = Tracer::new(one_in);
    TRACER.set(tracer).ok().map(|()| finished)
}

/// What is called: names of the contract, or of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Called {
    /// The service.
    pub service: &'static str,
    /// The method.
    pub method: &'static str,
}

/// A call that is traced.
#[derive(Debug)]
pub struct Trace {
    tracer: &'static Tracer,
    timeline: Arc<Timeline>,
    called: Called,
    parent: Option<Parent>,
    began_unix_ns: u64,
    end: End,
}

/// Begins to trace a call, if it is one that is traced.
#[must_use]
pub fn begin(called: Called, headers: &HeaderMap) -> Option<Trace> {
    let tracer = TRACER.get().filter(|tracer| tracer.takes())?;
    Some(Trace {
        tracer,
        timeline: Arc::new(Timeline::start(Stopwatch::start())),
        called,
        parent: Parent::of(headers),
        began_unix_ns: told_unix_ns(),
        end: End::HungUp,
    })
}

impl Trace {
    /// Does what is to be traced; `end` says how it ended. What is dropped before was hung up on.
    pub async fn around<F: Future>(
        mut self,
        work: F,
        end: impl FnOnce(&F::Output) -> End,
    ) -> F::Output {
        let answer = CURRENT.scope(Arc::clone(&self.timeline), work).await;
        self.end = end(&answer);
        answer
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let Some((trace_id, span_id)) = ids(self.parent.as_ref()) else {
            return;
        };
        let (took_us, parts, reason) = self.timeline.read();
        self.tracer.finish(Finished {
            trace_id,
            span_id,
            parent_span_id: self.parent.map(|parent| parent.span_id),
            called: self.called,
            began_unix_ns: self.began_unix_ns,
            took_us,
            parts,
            reason,
            end: self.end,
        });
    }
}

/// Ids of a span: in its caller's trace, if it has one. None without random bytes.
fn ids(parent: Option<&Parent>) -> Option<([u8; 16], [u8; 8])> {
    let rng = SystemRandom::new();
    let (mut trace_id, mut span_id) = ([0; 16], [0; 8]);
    rng.fill(&mut span_id).ok()?;
    match parent {
        Some(parent) => trace_id = parent.trace_id,
        None => rng.fill(&mut trace_id).ok()?,
    }
    Some((trace_id, span_id))
}

/// Whether this task works on a call that is traced.
#[must_use]
pub fn is_traced() -> bool {
    TRACER.get().is_some() && CURRENT.try_with(|_| ()).is_ok()
}

/// A part of the call that ends now has taken so long.
pub fn part(name: &'static str, us: u64) {
    // Most calls are not traced.
    if TRACER.get().is_some() {
        let noted = CURRENT.try_with(|timeline| timeline.part(name, us));
        noted.unwrap_or_default();
    }
}

/// The stable reason for which the call is refused.
pub fn reason(reason: &'static str) {
    if TRACER.get().is_some() {
        let noted = CURRENT.try_with(|timeline| timeline.reason(reason));
        noted.unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        reason = "a test that overflows fails"
    )]

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn one_call_in_so_many_is_traced() {
        for one_in in [1, 3, 100] {
            let (tracer, _finished) = Tracer::new(one_in);
            let taken = (0..900).filter(|_| tracer.takes()).count();
            assert_eq!(taken as u64, 900 / one_in);
        }
    }

    #[test]
    fn what_does_not_fit_the_queue_is_dropped() {
        crate::metrics::switch_on();
        let (tracer, mut finished) = Tracer::new(1);
        for _ in 0..QUEUE + 5 {
            tracer.finish(timeline::finished_for_tests());
        }
        let mut kept = 0;
        while finished.try_recv().is_ok() {
            kept += 1;
        }
        assert_eq!(kept, QUEUE);
        let dropped = OUTCOMES.read();
        assert!(
            dropped
                .iter()
                .any(|(word, count)| *word == "DROPPED" && *count >= 5)
        );
    }

    #[test]
    fn a_call_that_is_hung_up_on_has_its_span() {
        let (tracer, mut finished) = Tracer::new(1);
        let tracer = Box::leak(Box::new(tracer));
        let traced = || Trace {
            tracer,
            timeline: Arc::new(Timeline::start(Stopwatch::start())),
            called: timeline::finished_for_tests().called,
            parent: None,
            began_unix_ns: 7,
            end: End::HungUp,
        };
        let end = |_: &()| End::Http(200);
        let mut hung_up = Box::pin(traced().around(std::future::pending(), end));
        assert_eq!((&mut hung_up).now_or_never(), None);
        assert!(finished.try_recv().is_err());
        drop(hung_up);
        assert_eq!(finished.try_recv().unwrap().end, End::HungUp);
        let answered = traced().around(std::future::ready(()), end);
        assert_eq!(answered.now_or_never(), Some(()));
        assert_eq!(finished.try_recv().unwrap().end, End::Http(200));
    }

    #[test]
    fn a_span_is_in_its_callers_trace() {
        let parent = Parent {
            trace_id: [7; 16],
            span_id: [8; 8],
        };
        let (trace_id, span_id) = ids(Some(&parent)).unwrap();
        assert_eq!(trace_id, [7; 16]);
        assert_ne!(span_id, [8; 8]);
        assert_ne!(ids(None), ids(None));
    }
}
