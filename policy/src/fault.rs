//! What is wrong with a policy: each fault with its place and what to do.

use std::fmt;

use miette::Diagnostic;
use thiserror::Error;

use crate::text::{MAX_DEPTH, MAX_POLICIES, MAX_POLICY_TOKENS, MAX_TEXT_BYTES, line_of};

/// The most faults that are told at once.
pub const MAX_SHOWN_FAULTS: usize = 16;

/// The longest text that is taken over from Cedar's own words, in bytes.
const MAX_WORDS_BYTES: usize = 400;

/// One fault of a policy. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The text is too long.
    #[error(
        "the policy has more than {MAX_TEXT_BYTES} bytes: split what differs by grant, or drop what repeats the grants' own lists"
    )]
    TooLarge,
    /// The text is not UTF-8.
    #[error("the policy is not UTF-8 text")]
    NotText,
    /// The schema of this build is broken.
    #[error("the schema of this build does not parse: report it")]
    NoSchema,
    /// There is no policy in it.
    #[error(
        "there is no policy: everything would be denied; to stop all, freeze the tenant, and to go back to the grants' own lists, remove the policy"
    )]
    Empty,
    /// There are too many policies.
    #[error("there are more than {MAX_POLICIES} policies: join those that differ by an id only")]
    TooMany,
    /// One policy is too long.
    #[error("line {line}: this policy has more than {MAX_POLICY_TOKENS} words and signs: split it")]
    TooLong {
        /// Where it begins.
        line: usize,
    },
    /// Something is nested too deeply.
    #[error("line {line}: more than {MAX_DEPTH} levels of brackets and `if`: split the policy")]
    TooDeep {
        /// Where.
        line: usize,
    },
    /// It does not parse.
    #[error("line {line}: {words}")]
    Syntax {
        /// Where.
        line: usize,
        /// Cedar's words.
        words: String,
    },
    /// It has a slot to be filled.
    #[error(
        "line {line}: ?principal and ?resource are for templates, and nothing fills them here: name the client or grant"
    )]
    Slot {
        /// Where the policy begins.
        line: usize,
    },
    /// It has no id.
    #[error(
        "line {line}: give the policy a name of its own that the log can say: put @id(\"what-it-does\") before it"
    )]
    NoId {
        /// Where the policy begins.
        line: usize,
    },
    /// Its id is outside the grammar.
    #[error("line {line}: @id(\"{id}\"): 1 to 63 of a-z, 0-9 and single - inside")]
    BadId {
        /// Where the policy begins.
        line: usize,
        /// What it says.
        id: String,
    },
    /// Two have the same id.
    #[error("line {line}: @id(\"{id}\") is taken by the policy on line {first}")]
    SameId {
        /// Where the second begins.
        line: usize,
        /// Both ids.
        id: String,
        /// Where the first begins.
        first: usize,
    },
    /// It does not fit the schema.
    #[error("line {line}: policy {id}: {words}")]
    Schema {
        /// Where.
        line: usize,
        /// Which policy.
        id: String,
        /// Cedar's words.
        words: String,
    },
}

/// All that is wrong with a policy, at most [`MAX_SHOWN_FAULTS`] of it; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn new(mut faults: Vec<Fault>) -> Option<Self> {
        faults.truncate(MAX_SHOWN_FAULTS);
        (!faults.is_empty()).then_some(Self(faults))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.0.iter()
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

/// The line that Cedar's error is about, if it says one.
pub(crate) fn line_in(text: &str, error: &dyn Diagnostic) -> Option<usize> {
    let label = error.labels()?.next()?;
    Some(line_of(text, label.offset()))
}

/// Cedar's words: what is wrong and what helps, in one line.
pub(crate) fn words_of(error: &dyn Diagnostic) -> String {
    let mut words = error.to_string();
    if let Some(help) = error.help() {
        words.push_str(" (");
        words.push_str(&help.to_string());
        words.push(')');
    }
    let mut words: String = words
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if words.len() > MAX_WORDS_BYTES {
        let end = (0..=MAX_WORDS_BYTES)
            .rev()
            .find(|at| words.is_char_boundary(*at));
        words.truncate(end.unwrap_or(0));
        words.push('…');
    }
    words
}
