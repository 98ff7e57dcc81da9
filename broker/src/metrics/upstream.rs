//! Exchanges with providers, and what became of them.

use super::histogram::{Durations, durations};
use super::reasons::Reasons;

/// What became of a request to a provider.
#[derive(Debug)]
pub struct Answered {
    /// In a word.
    pub outcome: &'static str,
    /// How long it took.
    pub took: Durations,
}

const fn answered(outcome: &'static str) -> Answered {
    Answered {
        outcome,
        took: durations(),
    }
}

/// There was a whole answer.
pub static ANSWERED: Answered = answered("answered");
/// The answer was cut off.
pub static CUT: Answered = answered("cut");
/// Nothing was sent.
pub static NOT_SENT: Answered = answered("not_sent");
/// It was sent, and nothing is known.
pub static AMBIGUOUS: Answered = answered("ambiguous");

/// All of them.
pub static ALL: [&Answered; 4] = [&ANSWERED, &CUT, &NOT_SENT, &AMBIGUOUS];

/// Exchanges that are over, by outcome.
pub static EXCHANGES: Reasons = Reasons::new();
