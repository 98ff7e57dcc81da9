//! Flakiness: a provider that misbehaves by itself now and then, by dice whose seed tells all that follows.

use super::fault::{Answer, Endpoint, Fault};

/// Longest delay that is thrown, in milliseconds.
const MAX_DELAY_MS: u64 = 800;
/// Answers are cut before this byte: token answers are a little longer.
const CUT_BELOW: u64 = 320;

/// How often, and from which seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flaky {
    /// One in so many requests to the token endpoint is struck; 0 strikes none.
    pub one_in: u32,
    /// The same seed strikes the same requests with the same faults.
    pub seed: u64,
}

/// The dice of one provider.
#[derive(Debug)]
pub(crate) struct Dice {
    one_in: u64,
    state: u64,
}

impl Dice {
    pub(crate) fn new(flaky: Flaky) -> Self {
        Self {
            one_in: u64::from(flaky.one_in),
            state: flaky.seed,
        }
    }

    /// What strikes the next request, if anything.
    pub(crate) fn throw(&mut self) -> Option<Fault> {
        if self.one_in == 0 || self.below(self.one_in) != 0 {
            return None;
        }
        let delay_ms = self.below(MAX_DELAY_MS);
        let at_byte = self.below(CUT_BELOW);
        let fault = match self.below(8) {
            0 => Fault::server_error_before_commit(),
            1 => Fault::server_error_after_commit(),
            2 => Fault::at_token(true, Answer::Truncated { at_byte }),
            3 => Fault::at_token(true, Answer::Honest).delayed_by_ms(delay_ms),
            4 => Fault::at_token(false, Answer::Honest).delayed_by_ms(delay_ms),
            5 => Fault::at_token(false, Answer::Reset),
            6 => Fault::at_token(true, Answer::Reset),
            _ => Fault::at_token(false, Answer::RateLimited { retry_after_s: 1 }),
        };
        debug_assert_eq!(fault.endpoint, Endpoint::Token);
        Some(fault)
    }

    /// A number below `bound`. (SplitMix64.)
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).checked_rem(bound).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_tells_what_strikes_and_every_kind_does() {
        let thrown = |seed, one_in| {
            let mut dice = Dice::new(Flaky { one_in, seed });
            (0..4_000).map(|_| dice.throw()).collect::<Vec<_>>()
        };
        assert_eq!(thrown(7, 4), thrown(7, 4));
        assert_ne!(thrown(7, 4), thrown(8, 4));
        assert!(thrown(7, 0).iter().all(Option::is_none));
        let all = thrown(7, 4);
        let struck: Vec<&Fault> = all.iter().flatten().collect();
        assert!((900..1_100).contains(&struck.len()), "{}", struck.len());
        let kinds: std::collections::BTreeSet<_> = struck
            .iter()
            .map(|fault| (fault.commit, fault.answer.name()))
            .collect();
        assert_eq!(kinds.len(), 8, "{kinds:?}");
    }
}
