//! The gateway's bars: what no request, no address and no reader may bring about.

mod back_ends;
pub(crate) mod frames;
mod paths;
mod shapes;
mod shapes_h2;
mod smuggling;
mod ssrf;
mod streams;

use tests::bars::{self, Bar, Row};
use tests::effort;

/// A figure that must be none at all.
pub(crate) fn none(name: &'static str, found: usize, unit: &'static str, runs: usize) -> Row {
    let value = u32::try_from(found).map_or(f64::INFINITY, f64::from);
    Row {
        name,
        value,
        unit,
        bar: Bar::AtMost(0.0),
        runs: u64::try_from(runs).unwrap_or_default(),
        seed: 0,
    }
}

/// Writes the row of a full run down; it must be met either way.
pub(crate) fn judge(row: Row, found: &dyn std::fmt::Debug) {
    if effort::is_full() {
        let met = bars::record("gateway", row);
        assert!(matches!(met, Ok(true)), "{found:#?}");
    } else {
        assert!(row.met(), "{row:?}: {found:#?}");
    }
}

/// As [`judge`], for what must not be found at all.
pub(crate) fn judge_none<T: std::fmt::Debug>(
    name: &'static str,
    unit: &'static str,
    found: &[T],
    runs: usize,
) {
    judge(none(name, found.len(), unit, runs), &found);
}
