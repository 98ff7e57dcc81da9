//! The names of logs: the control log, and an issuance log for each boot.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::store::Log;

/// Bytes of a boot identity.
const BOOT_ID_BYTES: usize = 32;

/// The random identity of one boot, as the key bundle names it. Its text is 64
/// lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BootId([u8; BOOT_ID_BYTES]);

/// Text is no boot identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a boot identity is 64 lowercase hex digits")]
pub struct NotABootId;

impl BootId {
    /// The identity with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; BOOT_ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; BOOT_ID_BYTES] {
        &self.0
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for BootId {
    type Err = NotABootId;

    fn from_str(text: &str) -> Result<Self, NotABootId> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != BOOT_ID_BYTES || !rest.is_empty() {
            return Err(NotABootId);
        }
        let mut bytes = [0; BOOT_ID_BYTES];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high)?.wrapping_shl(4) | digit(*low)?;
        }
        Ok(Self(bytes))
    }
}

fn digit(character: u8) -> Result<u8, NotABootId> {
    match character {
        b'0'..=b'9' => Ok(character.wrapping_sub(b'0')),
        b'a'..=b'f' => Ok(character.wrapping_sub(b'a').wrapping_add(10)),
        _ => Err(NotABootId),
    }
}

/// A log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LogName {
    /// Registry, policy, freezes, grants, keys, boots: one history.
    Control,
    /// Issuances, refreshes and gateway calls of one boot.
    Issuance(BootId),
}

impl LogName {
    /// The stream of the store that holds its leaves.
    #[must_use]
    pub const fn stream(self) -> Log {
        match self {
            Self::Control => Log::Control,
            Self::Issuance(_) => Log::Issuance,
        }
    }

    /// The path of its prefix behind the public origin, without slashes at the
    /// ends: `log/control` or `log/issuance/<boot>`.
    #[must_use]
    pub fn path(self) -> String {
        match self {
            Self::Control => "log/control".to_owned(),
            Self::Issuance(boot) => format!("log/issuance/{boot}"),
        }
    }

    /// Reads [`path`](Self::path).
    #[must_use]
    pub fn from_path(path: &str) -> Option<Self> {
        match path.strip_prefix("log/")? {
            "control" => Some(Self::Control),
            other => {
                let boot = other.strip_prefix("issuance/")?.parse();
                boot.ok().map(Self::Issuance)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_identity_has_one_text() {
        let boot = BootId::from_bytes([0xa7; 32]);
        let text = boot.to_string();
        assert_eq!(text, "a7".repeat(32));
        assert_eq!(text.parse(), Ok(boot));
        for bad in [
            "",
            &text[1..],
            &text[2..],
            &text.to_uppercase(),
            &text.replacen('a', "g", 1),
            &format!("{text}00"),
        ] {
            assert_eq!(bad.parse::<BootId>(), Err(NotABootId), "{bad}");
        }
    }

    #[test]
    fn a_log_is_found_by_its_path_alone() {
        let boot = BootId::from_bytes([0xa7; 32]);
        for name in [LogName::Control, LogName::Issuance(boot)] {
            let path = name.path();
            assert_eq!(LogName::from_path(&path), Some(name));
            for other in [format!("/{path}"), format!("{path}/"), path.to_uppercase()] {
                assert_eq!(LogName::from_path(&other), None, "{other}");
            }
        }
        for other in [
            "",
            "log/",
            "log/issuance",
            "log/issuance/",
            "log/issuance/a7",
        ] {
            assert_eq!(LogName::from_path(other), None, "{other}");
        }
    }
}
