//! Counts by a word of the source: a reason, an outcome.

use std::collections::BTreeMap;

use parking_lot::RwLock;

use super::is_on;
use crate::metrics::counter::Counter;

/// As many words are counted apart; the source has fewer.
pub const MAX_WORDS: usize = 128;

/// What is counted beyond them.
pub const OTHER: &str = "OTHER";

/// Counts by word. A word that was counted before costs a look-up and an addition.
#[derive(Debug)]
pub struct Reasons(RwLock<BTreeMap<&'static str, Counter>>);

impl Reasons {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(RwLock::new(BTreeMap::new()))
    }

    /// One more for a word.
    pub fn one(&self, word: &'static str) {
        if !is_on() {
            return;
        }
        if let Some(count) = self.0.read().get(word) {
            return count.one();
        }
        let mut counts = self.0.write();
        let word = if counts.len() < MAX_WORDS {
            word
        } else {
            OTHER
        };
        counts.entry(word).or_default().one();
    }

    /// Each word and its count, in the words' order.
    #[must_use]
    pub fn read(&self) -> Vec<(&'static str, u64)> {
        let counts = self.0.read();
        let all = counts.iter().map(|(word, count)| (*word, count.value()));
        all.collect()
    }
}

impl Default for Reasons {
    fn default() -> Self {
        Self::new()
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
    fn however_many_words_there_are_few_are_counted_apart() {
        crate::metrics::switch_on();
        let reasons = Reasons::new();
        for number in 0..10 * MAX_WORDS {
            // Longer than the test: words of the source are.
            let word: &'static str = Box::leak(format!("WORD_{number:04}").into_boxed_str());
            reasons.one(word);
            reasons.one("WORD_0000");
        }
        let read = reasons.read();
        assert_eq!(read.len(), MAX_WORDS + 1);
        let total: u64 = read.iter().map(|(_, count)| count).sum();
        assert_eq!(total, 20 * MAX_WORDS as u64);
        let of = |word| read.iter().find(|(found, _)| *found == word).unwrap().1;
        assert_eq!(of("WORD_0000"), 10 * MAX_WORDS as u64 + 1);
        assert_eq!(of(OTHER), 9 * MAX_WORDS as u64);
    }
}
