//! When the writer waits for more batches to come: under load, and only as long as that brings any.

use std::time::Duration;

/// So many groups without a pause between them are load.
const LOAD_GROUPS: u32 = 8;

/// With so many batches a group was worth waiting for.
const WORTH_BATCHES: usize = 4;

/// How long the writer waits for others under load. It sleeps; nobody wakes it.
pub(super) const GATHERING: Duration = Duration::from_millis(1);

/// Whether there is so much to do that it pays to wait for more.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Groups in a row that came without a pause, or were large.
    in_a_row: u32,
    large: bool,
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

    pub(super) const fn is_heavy(&self) -> bool {
        self.in_a_row >= LOAD_GROUPS
    }

    /// How many batches a group has.
    pub(super) fn gathered(&mut self, batches: usize) {
        self.large = batches >= WORTH_BATCHES;
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
            waits += usize::from(load.is_heavy());
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
}
