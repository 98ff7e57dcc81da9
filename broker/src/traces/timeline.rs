//! What happens while a call is traced.

use parking_lot::Mutex;
use tonic::Code;

use super::Called;
use crate::clock::Stopwatch;

/// Parts of one call; more are not told. Sixteen tokens for one proof have fifty.
const MAX_PARTS: usize = 64;

/// A part of a call, in microseconds from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// When it began.
    pub begins_us: u64,
    /// When it ended.
    pub ends_us: u64,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With a code of gRPC.
    Grpc(Code),
    /// With a status of HTTP.
    Http(u16),
    /// Its caller hung up before there was an answer.
    HungUp,
}

/// A call that is over.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The call's own span.
    pub span_id: [u8; 8],
    /// The caller's.
    pub parent_span_id: Option<[u8; 8]>,
    /// What was called.
    pub called: Called,
    /// When, as the host has it.
    pub began_unix_ns: u64,
    /// How long it took.
    pub took_us: u64,
    /// What took how long of it.
    pub parts: Vec<Part>,
    /// Why it was refused, if it was.
    pub reason: Option<&'static str>,
    /// How it ended.
    pub end: End,
}

/// A call that is under way.
#[derive(Debug)]
pub(super) struct Timeline {
    began: Stopwatch,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    parts: Vec<Part>,
    reason: Option<&'static str>,
}

impl Timeline {
    pub(super) fn start(began: Stopwatch) -> Self {
        Self {
            began,
            inner: Mutex::default(),
        }
    }

    /// A part that ends now has taken so long.
    pub(super) fn part(&self, name: &'static str, us: u64) {
        let ends_us = self.began.elapsed_us();
        let parts = &mut self.inner.lock().parts;
        if parts.len() < MAX_PARTS {
            parts.push(Part {
                name,
                begins_us: ends_us.saturating_sub(us),
                ends_us,
            });
        }
    }

    pub(super) fn reason(&self, reason: &'static str) {
        self.inner.lock().reason = Some(reason);
    }

    /// How long it has taken, its parts, and the reason for which it was refused.
    pub(super) fn read(&self) -> (u64, Vec<Part>, Option<&'static str>) {
        let inner = self.inner.lock();
        (self.began.elapsed_us(), inner.parts.clone(), inner.reason)
    }
}

#[cfg(test)]
pub(super) fn finished_for_tests() -> Finished {
    Finished {
        trace_id: [0x0a; 16],
        span_id: [0x0b; 8],
        parent_span_id: Some([0x0c; 8]),
        called: Called {
            service: "tokenkeep.v1.TokenService",
            method: "IssueToken",
        },
        began_unix_ns: 1_793_491_200_000_000_000,
        took_us: 1_500,
        parts: vec![Part {
            name: "proof",
            begins_us: 100,
            ends_us: 250,
        }],
        reason: Some("USE_DPOP_NONCE"),
        end: End::Grpc(Code::Unauthenticated),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_lie_within_the_call_and_are_few() {
        let timeline = Timeline::start(Stopwatch::start());
        for _ in 0..10 * MAX_PARTS {
            timeline.part("x", u64::MAX);
        }
        timeline.reason("R");
        let (took_us, parts, reason) = timeline.read();
        assert_eq!((parts.len(), reason), (MAX_PARTS, Some("R")));
        for part in parts {
            assert_eq!(part.begins_us, 0);
            assert!(part.ends_us <= took_us);
        }
    }
}
