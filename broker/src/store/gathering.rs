//! When the writer waits for more batches to come: under load, and only as long as that brings any. It waits longer where
//! so many requests are under way that each of them takes far longer anyway.

use std::time::Duration;

/// So many groups with hardly a pause between them are load, until waiting has brought nothing.
const LOAD_GROUPS: u32 = 8;

/// Each time that waiting brought nothing it takes twice as many, up to this.
const MOST_GROUPS: u32 = 1_024;

/// With so many batches a group was worth waiting for.
const WORTH_BATCHES: usize = 4;

/// A pause of less is none. Where the writer shares a processor with those that send batches, the first of them wakes it
/// before there are others: no batch ever waits behind a group, however many there are in a second.
const NO_PAUSE_US: u64 = 250;

/// How long the writer waits for others under load. It sleeps; nobody wakes it.
pub(super) const GATHERING: Duration = Duration::from_millis(1);

/// Where so many requests are under way each takes far longer than [`GATHERING`], and most of that for a processor, which
/// the writer takes from them: it waits again until half of them are there.
const MANY_CALLERS: usize = 48;

/// So many times for one group at most.
const MOST_WAITS: u32 = 8;

/// Whether there is so much to do that it pays to wait for more.
#[derive(Debug)]
pub(super) struct Load {
    /// Groups in a row that came without a pause, or were large.
    in_a_row: u32,
    /// So many are load.
    enough: u32,
    large: bool,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            in_a_row: 0,
            enough: LOAD_GROUPS,
            large: false,
        }
    }
}

impl Load {
    /// At a batch that begins a group: how long the writer had nothing to do.
    pub(super) fn found(&mut self, pause_us: u64) {
        self.in_a_row = if self.large || pause_us < NO_PAUSE_US {
            self.in_a_row.saturating_add(1)
        } else {
            0
        };
    }

    const fn is_heavy(&self) -> bool {
        self.in_a_row >= self.enough
    }

    /// Whether the writer waits once more: it has waited so often for a group that has so many batches, and there are so
    /// many callers with and without one.
    pub(super) const fn waits(&self, waits: u32, batches: usize, callers: usize) -> bool {
        match waits {
            0 => self.is_heavy(),
            1..MOST_WAITS => callers >= MANY_CALLERS && batches < callers.div_ceil(2),
            MOST_WAITS.. => false,
        }
    }

    /// How many batches a group has.
    pub(super) fn gathered(&mut self, batches: usize) {
        self.large = batches >= WORTH_BATCHES;
        if self.large {
            self.enough = LOAD_GROUPS;
        } else if self.is_heavy() {
            // Waiting brought nothing: a few callers take turns.
            self.in_a_row = 0;
            self.enough = self.enough.saturating_mul(2).min(MOST_GROUPS);
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

    /// What a writer does with groups of this size, each begun after a pause: how
    /// often it waited for others.
    fn waits(groups: &[(u64, usize)]) -> usize {
        waits_of(&mut Load::default(), groups)
    }

    fn waits_of(load: &mut Load, groups: &[(u64, usize)]) -> usize {
        let mut waits = 0;
        for (pause_us, batches) in groups {
            load.found(*pause_us);
            waits += usize::from(load.waits(0, 1, 0));
            load.gathered(*batches);
        }
        waits
    }

    #[test]
    fn whoever_comes_alone_is_never_kept_waiting() {
        assert_eq!(waits(&[(NO_PAUSE_US, 1); 1_000]), 0);
        assert_eq!(waits(&[(1_000, 3); 1_000]), 0);
    }

    #[test]
    fn callers_that_take_turns_are_kept_waiting_ever_more_rarely() {
        // Behind 8, 16, 32 and so on, up to 1,024.
        assert_eq!(waits(&[(0, 2); 1_015]), 6);
        assert_eq!(waits(&[(0, 2); 1_016]), 7);
        assert_eq!(waits(&[(100, 1); 2_040 + 10 * 1_024]), 18);
    }

    #[test]
    fn under_load_each_group_waits_for_others_until_the_load_ends() {
        assert_eq!(waits(&[(0, 4); 100]), 93);
        // Woken by the first batch of each group, before there are more.
        assert_eq!(waits(&[&[(80, 1); 7][..], &[(80, 6); 93]].concat()), 93);
        // Large groups are load although none waits behind them.
        assert_eq!(waits(&[(1_000, 8); 100]), 92);
        assert_eq!(waits(&[&[(0, 8); 20][..], &[(1_000, 1); 20]].concat()), 14);
    }

    /// How often the writer waits for a group to which each wait brings so many more batches.
    fn waits_for_one(load: &Load, callers: usize, each: usize) -> u32 {
        let brought = |waits: u32| 1 + each * waits as usize;
        (0..)
            .find(|waits| !load.waits(*waits, brought(*waits), callers))
            .unwrap()
    }

    #[test]
    fn where_many_are_under_way_a_group_waits_for_half_of_them() {
        let mut load = Load::default();
        waits_of(&mut load, &[(0, 8); 20]);
        for (callers, each, expected) in [
            (0, 5, 1),
            (MANY_CALLERS - 1, 5, 1),
            // Half of them are there behind the first wait.
            (MANY_CALLERS, 24, 1),
            (MANY_CALLERS, 12, 2),
            (128, 5, MOST_WAITS),
            (128, 9, 7),
            (usize::MAX, 5, MOST_WAITS),
        ] {
            let found = waits_for_one(&load, callers, each);
            assert_eq!(found, expected, "{callers} callers, {each} more each time");
        }
    }

    #[test]
    fn without_load_nobody_is_waited_for_however_many_are_under_way() {
        assert_eq!(waits_for_one(&Load::default(), 1_000, 1), 0);
    }

    #[test]
    fn load_is_found_at_once_again_after_a_large_group() {
        let mut load = Load::default();
        assert_eq!(waits_of(&mut load, &[(0, 2); 1_016]), 7);
        assert_eq!(waits_of(&mut load, &[(0, 8); 20]), 13);
    }
}
