//! When the writer waits for more batches to come: under load, and only as long as that brings any.

use std::time::Duration;

/// So many groups without a pause between them are load.
const LOAD_GROUPS: u32 = 8;

/// With so many batches a group was worth waiting for.
const WORTH_BATCHES: usize = 4;

/// How long the writer waits for others under load. It sleeps; nobody wakes it.
const SHORT: Duration = Duration::from_millis(1);

/// And how long when so many come meanwhile that the processor is what they wait for: half as many groups leave it more
/// time for them than the wait takes.
const LONG: Duration = Duration::from_millis(2);

/// So many batches in a short wait, and the next one is long; in a long one it takes twice as many.
const MANY_BATCHES: usize = 6;

/// Whether there is so much to do that it pays to wait for more.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Groups in a row that came without a pause, or were large.
    in_a_row: u32,
    large: bool,
    /// Waits are long.
    many: bool,
}

impl Load {
    /// Behind a group: whether the next batch waits already.
    pub(super) fn found(&mut self, waits: bool) {
        self.in_a_row = if waits || self.large {
            self.in_a_row.saturating_add(1)
        } else {
            0
        };
    }

    const fn is_heavy(&self) -> bool {
        self.in_a_row >= LOAD_GROUPS
    }

    /// How long to wait for others; none if it is no load.
    pub(super) const fn gathering(&self) -> Option<Duration> {
        match (self.is_heavy(), self.many) {
            (false, _) => None,
            (true, false) => Some(SHORT),
            (true, true) => Some(LONG),
        }
    }

    /// How many batches a group has.
    pub(super) fn gathered(&mut self, batches: usize) {
        self.large = batches >= WORTH_BATCHES;
        let many = match self.many {
            false => MANY_BATCHES,
            true => MANY_BATCHES.saturating_mul(2),
        };
        self.many = self.is_heavy() && batches >= many;
        if self.is_heavy() && !self.large {
            // Waiting brought nothing: a few callers take turns.
            self.in_a_row = 0;
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]
mod tests {
    use super::*;

    /// What a writer does with groups of this size, each found waiting or not: how
    /// often it waited for others.
    fn waits(groups: &[(bool, usize)]) -> usize {
        let mut load = Load::default();
        let mut waits = 0;
        for (waiting, batches) in groups {
            load.found(*waiting);
            waits += usize::from(load.gathering().is_some());
            load.gathered(*batches);
        }
        waits
    }

    #[test]
    fn whoever_comes_alone_is_never_kept_waiting() {
        assert_eq!(waits(&[(false, 1); 1_000]), 0);
        assert_eq!(waits(&[(false, 3); 1_000]), 0);
    }

    #[test]
    fn a_few_callers_that_take_turns_are_kept_waiting_one_time_in_eight() {
        assert_eq!(waits(&[(true, 2); 800]), 100);
    }

    #[test]
    fn under_load_each_group_waits_for_others_until_the_load_ends() {
        assert_eq!(waits(&[(true, 4); 100]), 93);
        // Large groups are load although none waits behind them.
        assert_eq!(waits(&[(false, 8); 100]), 92);
        let mut ends = vec![(true, 8); 20];
        ends.extend([(false, 1); 20]);
        assert_eq!(waits(&ends), 14);
    }

    #[test]
    fn waits_are_long_while_many_come() {
        let mut load = Load::default();
        let mut after = |batches| {
            load.found(true);
            load.gathered(batches);
            load.gathering()
        };
        for _ in 1..LOAD_GROUPS {
            assert_eq!(after(20), None);
        }
        assert_eq!(after(MANY_BATCHES - 1), Some(SHORT));
        assert_eq!(after(MANY_BATCHES), Some(LONG));
        // At the same pace a long wait brings twice as many.
        assert_eq!(after(2 * MANY_BATCHES), Some(LONG));
        assert_eq!(after(2 * MANY_BATCHES - 1), Some(SHORT));
        assert_eq!(after(100), Some(LONG));
        assert_eq!(after(1), None);
        assert_eq!(after(100), None);
    }
}
