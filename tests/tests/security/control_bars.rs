//! The bars of the controls: what no client, no other tenant, no vendor and no operator may bring about, and what the
//! log must show of everything that was.
//!
//! Those that go over every RPC read the contract's own descriptors: an RPC that [`asks`] has no request for turns
//! them red, and says so.

mod asks;
mod contract;
mod foreign;
mod leaves;
mod loosening;
mod oracle;
mod reach;
mod served;
mod share;
mod tokens;
mod world;

use tests::bars::{self, Bar, Row};
use tests::effort;

/// What the random choices come from.
pub(crate) const SEED: u64 = 8;

/// As often as that in a full run, and as seldom as that every day.
pub(crate) fn runs(full: usize, daily: usize) -> usize {
    if effort::is_full() { full } else { daily }
}

/// What must not be found at all; the row of a full run is written down.
pub(crate) fn judge_none<T: std::fmt::Debug>(name: &'static str, found: &[T], runs: usize) {
    let row = Row {
        name,
        value: u32::try_from(found.len()).map_or(f64::INFINITY, f64::from),
        unit: "count",
        bar: Bar::AtMost(0.0),
        runs: u64::try_from(runs).unwrap_or_default(),
        seed: SEED,
    };
    let shown: Vec<&T> = found.iter().take(20).collect();
    if effort::is_full() {
        let met = bars::record("control", row);
        assert!(matches!(met, Ok(true)), "{shown:#?}");
    } else {
        assert!(row.met(), "{row:?}: {shown:#?}");
    }
}
