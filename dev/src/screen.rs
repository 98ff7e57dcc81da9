//! What the demo prints: numbered steps, and under each its outcomes, a word and a line.

use std::fmt;
use std::io::{self, Write as _};

/// How wide the first column is.
const WORD_CHARS: usize = 9;

/// Prints steps and outcomes. A reader that is gone is no error: the demo's exit code tells.
#[derive(Debug)]
pub struct Screen {
    colour: bool,
    steps: u32,
}

/// How an outcome is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Good,
    Refused,
}

impl Screen {
    /// A screen; colours are for terminals.
    #[must_use]
    pub const fn new(colour: bool) -> Self {
        Self { colour, steps: 0 }
    }

    /// Text without an outcome.
    pub fn say(&self, text: impl fmt::Display) {
        put(&format!("{text}\n"));
    }

    /// The next step.
    pub fn step(&mut self, title: &str) {
        self.steps = self.steps.saturating_add(1);
        let title = format!("{}. {title}", self.steps);
        if self.colour {
            put(&format!("\n\x1b[1m{title}\x1b[0m\n"));
        } else {
            put(&format!("\n{title}\n"));
        }
    }

    /// Something that worked.
    pub fn good(&self, word: &str, text: impl fmt::Display) {
        put(&line(word, &text.to_string(), Tone::Good, self.colour));
    }

    /// Something that was refused, as it must be.
    pub fn refused(&self, text: impl fmt::Display) {
        put(&line(
            "refused",
            &text.to_string(),
            Tone::Refused,
            self.colour,
        ));
    }
}

fn line(word: &str, text: &str, tone: Tone, colour: bool) -> String {
    let padded = format!("{word:WORD_CHARS$}");
    if !colour {
        return format!("   {padded} {text}\n");
    }
    let code = match tone {
        Tone::Good => "32",
        Tone::Refused => "33",
    };
    format!("   \x1b[{code}m{padded}\x1b[0m {text}\n")
}

fn put(text: &str) {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_around_the_word_alone() {
        assert_eq!(
            line("refused", "why", Tone::Refused, false),
            "   refused   why\n"
        );
        assert_eq!(
            line("done", "it", Tone::Good, true),
            "   \x1b[32mdone     \x1b[0m it\n"
        );
    }
}
