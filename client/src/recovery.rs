//! The shares of a recovery set, as files that people keep.
//!
//! ```text
//! # Tokenkeep recovery share 2 of 3; any 2 open the state. Keep it secret, and apart from the others.
//! set: 5f0c…            16 hex digits: the first 8 bytes of SHA-256 of the public key
//! public_key: …         64 hex digits, what the manifest names
//! threshold: 2
//! shares: 3
//! share: 2
//! values: 01234567 …    32 bytes in 8 groups of 8 hex digits
//! checksum: 89abcdef    the first 4 bytes of SHA-256 over the lines before, without the comment
//! ```

use std::fmt::Write as _;

use attestation::DepositPrivateKey;
use attestation::manifest::recovery_set;
use attestation::secret_sharing::{self, Share, SharingError};
use ring::rand::SecureRandom;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::verification::sha256;

/// The longest share file, bytes.
pub const MAX_SHARE_FILE_BYTES: usize = 4 * 1024;

/// The most shares of a set: people, not machines, keep them.
pub const MAX_PEOPLE: usize = 32;

const FIELDS: [&str; 6] = [
    "set",
    "public_key",
    "threshold",
    "shares",
    "share",
    "values",
];

/// Why shares are not made, read or combined.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecoveryError {
    /// Too few or too many.
    #[error(
        "{threshold} of {count}: give at most {MAX_PEOPLE} shares, and a threshold of at least 2 and at most as many"
    )]
    Threshold {
        /// How many are needed.
        threshold: usize,
        /// How many there are to be.
        count: usize,
    },
    /// The file is not of the form.
    #[error("line {line} is not what a share file has there: {expected}")]
    Form {
        /// The line, from 1.
        line: usize,
        /// What should be there.
        expected: &'static str,
    },
    /// A character was mistyped.
    #[error("the checksum does not fit: a character of the share was mistyped or damaged")]
    Checksum,
    /// No shares.
    #[error("no share was given")]
    None,
    /// Shares of two sets.
    #[error("the shares are of different sets: {first} and {other}")]
    Mixed {
        /// The set of the first.
        first: String,
        /// Another one.
        other: String,
    },
    /// A share twice.
    #[error("share {index} was given twice")]
    Twice {
        /// Which.
        index: u8,
    },
    /// Too few shares.
    #[error("{found} of the {needed} shares that are needed")]
    TooFew {
        /// As many were given.
        found: usize,
        /// As many are needed.
        needed: usize,
    },
    /// They combine to another key than the set's.
    #[error("the shares do not combine to the key of their set: one of them was altered")]
    Altered,
    /// No randomness.
    #[error("no randomness")]
    Random,
}

/// One share of a set.
#[derive(Debug, Clone)]
pub struct RecoveryShare {
    /// The set's public key.
    pub public_key: [u8; 32],
    /// How many are needed.
    pub threshold: usize,
    /// How many there are.
    pub count: usize,
    share: Share,
}

/// Makes a set: a new key pair, whose private half is in the shares alone.
///
/// # Errors
/// [`RecoveryError::Threshold`], [`RecoveryError::Random`].
pub fn split(
    threshold: usize,
    count: usize,
    random: &dyn SecureRandom,
) -> Result<Vec<RecoveryShare>, RecoveryError> {
    if threshold < 2 || threshold > count || count > MAX_PEOPLE {
        return Err(RecoveryError::Threshold { threshold, count });
    }
    let key = DepositPrivateKey::generate(random).map_err(|_| RecoveryError::Random)?;
    let shares = secret_sharing::split(key.expose_secret(), threshold, count, random);
    let shares = shares.map_err(|_| RecoveryError::Random)?;
    Ok(shares
        .into_iter()
        .map(|share| RecoveryShare {
            public_key: *key.public(),
            threshold,
            count,
            share,
        })
        .collect())
}

/// The private key of a set, from as many of its shares as are needed, or more.
///
/// # Errors
/// [`RecoveryError`].
pub fn combine(shares: &[RecoveryShare]) -> Result<DepositPrivateKey, RecoveryError> {
    let first = shares.first().ok_or(RecoveryError::None)?;
    for other in shares {
        let same = (other.public_key, other.threshold, other.count)
            == (first.public_key, first.threshold, first.count);
        if !same {
            return Err(RecoveryError::Mixed {
                first: first.set(),
                other: other.set(),
            });
        }
    }
    let parts: Vec<Share> = shares.iter().map(|share| share.share.clone()).collect();
    let secret = secret_sharing::combine(&parts).map_err(|error| match error {
        SharingError::Twice { index } => RecoveryError::Twice { index },
        SharingError::Threshold { .. }
        | SharingError::Index
        | SharingError::Empty
        | SharingError::Random => RecoveryError::None,
    })?;
    if shares.len() < first.threshold {
        return Err(RecoveryError::TooFew {
            found: shares.len(),
            needed: first.threshold,
        });
    }
    DepositPrivateKey::from_bytes(&secret)
        .ok()
        .filter(|key| key.public() == &first.public_key)
        .ok_or(RecoveryError::Altered)
}

fn checksum(body: &str) -> String {
    let digest = sha256(body.as_bytes());
    hex::encode(digest.first_chunk::<4>().copied().unwrap_or_default())
}

impl RecoveryShare {
    /// The id of the set.
    #[must_use]
    pub fn set(&self) -> String {
        hex::encode(recovery_set(&self.public_key))
    }

    /// Which share of the set, from 1.
    #[must_use]
    pub const fn index(&self) -> u8 {
        self.share.index()
    }

    /// The file.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let Self {
            public_key,
            threshold,
            count,
            share,
        } = self;
        let values = Zeroizing::new(hex::encode(share.expose()));
        let mut body = Zeroizing::new(String::with_capacity(MAX_SHARE_FILE_BYTES));
        let lines = format!(
            "set: {}\npublic_key: {}\nthreshold: {threshold}\nshares: {count}\nshare: {}\nvalues:",
            self.set(),
            hex::encode(public_key),
            share.index()
        );
        body.push_str(&lines);
        for (at, digit) in values.chars().enumerate() {
            if at.checked_rem(8) == Some(0) {
                body.push(' ');
            }
            body.push(digit);
        }
        body.push('\n');
        let mut text = Zeroizing::new(String::with_capacity(MAX_SHARE_FILE_BYTES));
        // Writing to a string cannot fail.
        writeln!(
            text,
            "# Tokenkeep recovery share {} of {count}; any {threshold} open the state. Keep it secret, and apart from the others.",
            share.index()
        )
        .unwrap_or_default();
        text.push_str(&body);
        writeln!(text, "checksum: {}", checksum(&body)).unwrap_or_default();
        text
    }

    /// Reads a file, as people may have typed it: comments, empty lines, spaces and upper case do not matter.
    ///
    /// # Errors
    /// [`RecoveryError::Form`] with the line, [`RecoveryError::Checksum`].
    pub fn from_text(text: &str) -> Result<Self, RecoveryError> {
        let mut fields: Vec<Zeroizing<String>> = Vec::new();
        let mut body = Zeroizing::new(String::with_capacity(MAX_SHARE_FILE_BYTES));
        let mut stated = None;
        let mut number = 0;
        for (at, line) in text.lines().enumerate() {
            number = at.saturating_add(1);
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let expected = FIELDS.get(fields.len()).copied().unwrap_or("checksum");
            let form = RecoveryError::Form {
                line: number,
                expected,
            };
            let (name, value) = line.split_once(':').ok_or(form.clone())?;
            if name.trim() != expected || stated.is_some() {
                return Err(form);
            }
            let value = Zeroizing::new(value.trim().to_ascii_lowercase());
            if expected == "checksum" {
                stated = Some(value);
                continue;
            }
            let words: Vec<&str> = value.split_whitespace().collect();
            writeln!(body, "{expected}: {}", words.join(" ")).unwrap_or_default();
            fields.push(Zeroizing::new(words.concat()));
        }
        let next = FIELDS.get(fields.len()).copied().unwrap_or("checksum");
        let stated = stated.ok_or(RecoveryError::Form {
            line: number,
            expected: next,
        })?;
        if *stated != checksum(&body) {
            return Err(RecoveryError::Checksum);
        }
        let field = |name: &'static str| {
            let at = FIELDS.iter().position(|field| *field == name);
            let text = at.and_then(|at| fields.get(at));
            let line = at.unwrap_or_default().saturating_add(1);
            let form = RecoveryError::Form {
                line,
                expected: name,
            };
            (text.map(|text| text.as_str()).unwrap_or_default(), form)
        };
        let bytes = |name| -> Result<Zeroizing<[u8; 32]>, RecoveryError> {
            let (text, form) = field(name);
            let mut bytes = Zeroizing::new([0; 32]);
            hex::decode_to_slice(text, bytes.as_mut_slice()).map_err(|_| form)?;
            Ok(bytes)
        };
        let small = |name| -> Result<u8, RecoveryError> {
            let (text, form) = field(name);
            let number = text.parse::<u8>().map_err(|_| form.clone())?;
            if number == 0 || usize::from(number) > MAX_PEOPLE {
                return Err(form);
            }
            Ok(number)
        };
        let (_, form) = field("share");
        let share = Share::new(small("share")?, bytes("values")?).map_err(|_| form)?;
        let read = Self {
            public_key: *bytes("public_key")?,
            threshold: small("threshold")?.into(),
            count: small("shares")?.into(),
            share,
        };
        let (set, form) = field("set");
        if set != read.set() {
            return Err(form);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;

    fn set() -> Vec<RecoveryShare> {
        split(2, 3, &SystemRandom::new()).unwrap()
    }

    #[test]
    fn any_two_of_three_shares_give_the_key_back_as_people_type_them() {
        let shares = set();
        let typed = |share: &RecoveryShare| {
            let text = share.to_text();
            let text = text.replace("values: ", "values:   ");
            let text = text.replacen("set:", "\n# a note\n  set:", 1);
            RecoveryShare::from_text(&text).unwrap()
        };
        for pair in [[0, 1], [0, 2], [2, 1]] {
            let pair = pair.map(|at: usize| typed(&shares[at]));
            let key = combine(&pair).unwrap();
            assert_eq!(key.public(), &shares[0].public_key);
        }
        let upper = shares[0].to_text().to_string();
        let (head, values) = upper.split_once("values:").unwrap();
        let upper = format!("{head}values:{}", values.to_uppercase());
        let upper = upper.replace("CHECKSUM", "checksum");
        assert_eq!(RecoveryShare::from_text(&upper).unwrap().index(), 1);
        assert_eq!(combine(&shares).unwrap().public(), &shares[0].public_key);
    }

    #[test]
    fn wrong_mixed_twice_and_too_few_shares_are_told_apart() {
        let (mine, other) = (set(), set());
        let error = |shares: &[&RecoveryShare]| {
            let shares: Vec<RecoveryShare> = shares.iter().copied().cloned().collect();
            combine(&shares).unwrap_err()
        };
        assert_eq!(error(&[]), RecoveryError::None);
        assert_eq!(
            error(&[&mine[0]]),
            RecoveryError::TooFew {
                found: 1,
                needed: 2
            }
        );
        assert_eq!(
            error(&[&mine[1], &mine[1]]),
            RecoveryError::Twice { index: 2 }
        );
        assert_eq!(
            error(&[&mine[0], &other[1]]),
            RecoveryError::Mixed {
                first: mine[0].set(),
                other: other[0].set(),
            }
        );
        let altered = RecoveryShare {
            share: other[1].share.clone(),
            ..mine[1].clone()
        };
        assert_eq!(error(&[&mine[0], &altered]), RecoveryError::Altered);
        for (threshold, count) in [(1, 3), (4, 3), (2, 33), (0, 0)] {
            let refused = split(threshold, count, &SystemRandom::new()).unwrap_err();
            assert_eq!(refused, RecoveryError::Threshold { threshold, count });
        }
    }

    #[test]
    fn each_fault_of_a_share_file_is_named() {
        let text = set()[0].to_text().to_string();
        let form = |line, expected| RecoveryError::Form { line, expected };
        let rows = [
            (String::new(), form(0, "set")),
            (
                text.replace("share: 1", "share: 2"),
                RecoveryError::Checksum,
            ),
            (text.replace("threshold: 2\n", ""), form(4, "threshold")),
            (text.replace("checksum: ", "sum: "), form(8, "checksum")),
            (format!("{text}set: 00\n"), form(9, "checksum")),
            (text.replace("set: ", "set "), form(2, "set")),
            (
                text.lines().take(7).collect::<Vec<_>>().join("\n"),
                form(7, "checksum"),
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(
                RecoveryShare::from_text(&text).unwrap_err(),
                expected,
                "{text}"
            );
        }
        let flipped = text
            .chars()
            .enumerate()
            .filter(|(_, c)| c.is_ascii_hexdigit());
        for (at, digit) in flipped.skip(60).step_by(7) {
            let other = if digit == '0' { "1" } else { "0" };
            let mut changed = text.clone();
            changed.replace_range(at..=at, other);
            assert!(RecoveryShare::from_text(&changed).is_err(), "{changed}");
        }
    }

    #[test]
    fn debug_shows_no_value() {
        let share = &set()[0];
        let values = hex::encode(share.share.expose());
        assert!(!format!("{share:?}").contains(&values));
    }
}
