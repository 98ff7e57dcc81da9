//! Which of the stored keys is used for what: of each kind the one in use, those before it whose overlap has not
//! ended, and a CA that is to take over.
//!
//! It is one record, so that a rotation is one compared-and-set write beside the key's own: two rotations at once
//! end with one of them refused, and a crash leaves the old keys or the new ones.

use serde::{Deserialize, Serialize};

use super::bundled::MAX_OTHERS;

/// The name of its record, beside those of the keys.
pub(crate) const RING: &str = "ring";

/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// A key that the enclave speaks with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyKind {
    /// Signs tokens.
    Signing,
    /// The enclave CA.
    Ca,
    /// Deposits are sealed to it.
    Deposit,
    /// Signs checkpoints of the logs.
    Log,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Signing, Self::Ca, Self::Deposit, Self::Log];

    /// Its name for people and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Signing => "signing",
            Self::Ca => "ca",
            Self::Deposit => "deposit",
            Self::Log => "log",
        }
    }

    /// The name of the first key of this kind in the store; later ones have their number behind it.
    const fn stored(self) -> &'static str {
        match self {
            Self::Signing => "token",
            Self::Ca => "authority",
            Self::Deposit => "hpke",
            Self::Log => "log",
        }
    }

    /// Seconds of overlap if nobody says otherwise. Signing: a token's longest life and the time that others keep
    /// the JWKS. CA and log: time for people to tell whoever pinned the old one. Deposit: from evidence to deposit.
    #[must_use]
    pub const fn default_overlap_s(self) -> u64 {
        match self {
            Self::Signing => 600,
            Self::Ca | Self::Log => 30 * DAY_S,
            Self::Deposit => 3_600,
        }
    }

    /// The longest overlap in seconds.
    #[must_use]
    pub const fn max_overlap_s(self) -> u64 {
        match self {
            Self::Signing | Self::Deposit => DAY_S,
            Self::Ca | Self::Log => 365 * DAY_S,
        }
    }

    /// How many keys before the current one are kept.
    pub(crate) const fn max_earlier(self) -> usize {
        match self {
            Self::Signing => 8,
            Self::Ca | Self::Deposit => 0,
            Self::Log => MAX_OTHERS,
        }
    }

    /// The name of the record of a key of this kind.
    pub(crate) fn record(self, number: u32) -> String {
        if number == 1 {
            self.stored().to_owned()
        } else {
            format!("{}-{number}", self.stored())
        }
    }

    /// Whether a name is of a record of a key.
    pub(crate) fn is_record(name: &str) -> bool {
        Self::ALL.into_iter().any(|kind| {
            let number = name.strip_prefix(kind.stored());
            number.is_some_and(|number| {
                let number = number.strip_prefix('-').map(str::parse::<u32>);
                name == kind.stored() || number.is_some_and(|number| number.is_ok())
            })
        })
    }
}

/// The keys in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ring {
    signing: Slot,
    ca: Slot,
    deposit: Slot,
    log: Slot,
}

/// The keys of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Slot {
    /// From 1; each key of a kind has its own.
    pub(crate) number: u32,
    /// Unix time in seconds; 0 if it is not known.
    pub(crate) made_at_s: u64,
    /// Newest first.
    pub(crate) earlier: Vec<Earlier>,
    /// The one that is to take over.
    pub(crate) next: Option<Next>,
}

/// A key that was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Earlier {
    pub(crate) number: u32,
    pub(crate) made_at_s: u64,
    /// When its overlap ends.
    pub(crate) until_s: u64,
    /// The public half as a JWK, where that is all that is kept.
    pub(crate) jwk: Option<String>,
}

/// A key that is announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Next {
    pub(crate) number: u32,
    pub(crate) made_at_s: u64,
    /// When it takes over.
    pub(crate) from_s: u64,
}

impl Slot {
    const fn first(made_at_s: u64) -> Self {
        Self {
            number: 1,
            made_at_s,
            earlier: Vec::new(),
            next: None,
        }
    }

    /// The number of a new key.
    pub(crate) fn next_number(&self) -> u32 {
        let newest = self.next.as_ref().map_or(self.number, |next| next.number);
        newest.saturating_add(1)
    }
}

impl Ring {
    /// One key of each kind.
    pub(crate) const fn first(made_at_s: u64) -> Self {
        Self {
            signing: Slot::first(made_at_s),
            ca: Slot::first(made_at_s),
            deposit: Slot::first(made_at_s),
            log: Slot::first(made_at_s),
        }
    }

    pub(crate) const fn slot(&self, kind: KeyKind) -> &Slot {
        match kind {
            KeyKind::Signing => &self.signing,
            KeyKind::Ca => &self.ca,
            KeyKind::Deposit => &self.deposit,
            KeyKind::Log => &self.log,
        }
    }

    pub(crate) const fn slot_mut(&mut self, kind: KeyKind) -> &mut Slot {
        match kind {
            KeyKind::Signing => &mut self.signing,
            KeyKind::Ca => &mut self.ca,
            KeyKind::Deposit => &mut self.deposit,
            KeyKind::Log => &mut self.log,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_keys_are_told_from_others() {
        for kind in KeyKind::ALL {
            for number in [1, 2, 70] {
                assert!(KeyKind::is_record(&kind.record(number)), "{kind:?}");
            }
        }
        for other in [RING, "", "token-", "token-x", "tokens", "log2", "newest"] {
            assert!(!KeyKind::is_record(other), "{other}");
        }
    }
}
