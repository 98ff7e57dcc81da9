//! How long each stage of a token and of a call through the gateway takes.

use std::cell::Cell;

use enclave::stage::{Stage, Stages};

use super::histogram::{Durations, durations};
use super::is_on;
use crate::clock::Stopwatch;
use crate::traces;

/// A part of what happens between a request and its answer.
#[derive(Debug)]
pub struct Part {
    /// Its name.
    pub name: &'static str,
    /// How long it took, where it passed.
    pub took: Durations,
}

impl Part {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            took: durations(),
        }
    }

    /// Begins to measure it, if anything is measured or this request is traced.
    pub fn begin(&'static self) -> Begun {
        let wanted = is_on() || traces::is_traced();
        Begun(wanted.then(|| (self, Stopwatch::start())))
    }

    fn note(&self, us: u64) {
        if is_on() {
            self.took.observe(us);
        }
        traces::part(self.name, us);
    }
}

/// Who asks.
pub static AUTHENTICATE: Part = Part::new("authenticate");
/// With which key.
pub static PROOF: Part = Part::new("proof");
/// May it.
pub static POLICY: Part = Part::new("policy");
/// The signature, and the leaf.
pub static MINT: Part = Part::new("mint");
/// Until a batch is durable.
pub static COMMIT: Part = Part::new("commit");
/// Whether the gateway lets a call pass.
pub static ADMIT: Part = Part::new("admit");
/// Until there is an upstream access token.
pub static ACCESS: Part = Part::new("access");
/// Until the API's answer has begun.
pub static UPSTREAM: Part = Part::new("upstream");

/// All of them.
pub static ALL: [&Part; 8] = [
    &AUTHENTICATE,
    &PROOF,
    &POLICY,
    &MINT,
    &COMMIT,
    &ADMIT,
    &ACCESS,
    &UPSTREAM,
];

/// A part that has begun. Dropped, it is not counted.
#[derive(Debug)]
#[must_use = "say that it passed"]
pub struct Begun(Option<(&'static Part, Stopwatch)>);

impl Begun {
    /// It passed.
    pub fn passed(self) {
        if let Some((part, watch)) = self.0 {
            part.note(watch.elapsed_us());
        }
    }
}

/// Times the stages of one decision.
#[derive(Debug)]
pub struct Laps(Cell<Option<Stopwatch>>);

impl Laps {
    /// From now on.
    #[must_use]
    pub fn start() -> Self {
        let wanted = is_on() || traces::is_traced();
        Self(Cell::new(wanted.then(Stopwatch::start)))
    }
}

impl Stages for Laps {
    fn passed(&self, stage: Stage) {
        let Some(watch) = self.0.get() else {
            return;
        };
        let (us, next) = watch.lap();
        self.0.set(Some(next));
        let part = match stage {
            Stage::Authenticate => &AUTHENTICATE,
            Stage::Proof => &PROOF,
            Stage::Policy => &POLICY,
            Stage::Mint => &MINT,
        };
        part.note(us);
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        reason = "a test that overflows fails"
    )]

    use super::*;

    #[test]
    fn each_stage_that_passed_is_counted_once() {
        crate::metrics::switch_on();
        let before = POLICY.took.read().count;
        let laps = Laps::start();
        laps.passed(Stage::Policy);
        laps.passed(Stage::Policy);
        // Tests beside this one may count there, too.
        assert!(POLICY.took.read().count >= before + 2);
        let begun = ACCESS.begin();
        drop(begun);
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|part| part.name).collect();
        assert_eq!(names.len(), ALL.len());
    }
}
