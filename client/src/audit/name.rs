//! The logs of a service, their origins, and the key that signs them.

use std::fmt;
use std::str::FromStr;

use attestation::KeyBundle;
use thiserror::Error;
use tlog::{KeyName, Origin, VerifierKey};

/// What stands before the key in a SubjectPublicKeyInfo for Ed25519 [RFC 8410 §4].
const ED25519_SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Hexadecimal digits of a boot identity.
const BOOT_DIGITS: usize = 64;

/// A log. Its text is its path below the service's name: `log/control` or `log/issuance/<boot>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LogName {
    /// Registry, policy, freezes, grants, keys, boots.
    Control,
    /// Issuances, refreshes and gateway calls of one boot, whose identity is 64 lowercase hex digits.
    Issuance(Boot),
}

/// The identity of a boot: 64 lowercase hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Boot(String);

/// Why a text or key is none of a log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Not the path of a log.
    #[error("not a log: log/control or log/issuance/ and 64 lowercase hex digits")]
    Path,
    /// Not a boot's identity.
    #[error("a boot is 64 lowercase hex digits")]
    Boot,
    /// The key's name does not end in `/log/control`.
    #[error("the key {name:?} is not that of a control log, whose name ends in /log/control")]
    NotControl {
        /// Its name.
        name: String,
    },
    /// The service's name makes no name of a log.
    #[error("the service's name {host:?} makes no name of a log")]
    Host {
        /// The name.
        host: String,
    },
    /// The log key is no Ed25519 key.
    #[error("the log key is not an Ed25519 key")]
    Key,
    /// The log is of another service.
    #[error("{origin:?} is no log of {host:?}")]
    Foreign {
        /// The log.
        origin: String,
        /// The service.
        host: String,
    },
}

impl Boot {
    /// Its digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Boot {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if digits && text.len() == BOOT_DIGITS {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Boot)
        }
    }
}

impl fmt::Display for LogName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control => f.write_str("log/control"),
            Self::Issuance(Boot(boot)) => write!(f, "log/issuance/{boot}"),
        }
    }
}

impl FromStr for LogName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.strip_prefix("log/").ok_or(NameError::Path)? {
            "control" => Ok(Self::Control),
            other => {
                let boot = other.strip_prefix("issuance/").ok_or(NameError::Path)?;
                Ok(Self::Issuance(boot.parse()?))
            }
        }
    }
}

/// The key of a service's logs, and the service's name in their origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKeys {
    host: String,
    public_key: [u8; 32],
}

impl LogKeys {
    /// From the name, which is the issuer without its scheme, and the Ed25519 key.
    ///
    /// # Errors
    /// [`NameError::Host`].
    pub fn new(host: &str, public_key: [u8; 32]) -> Result<Self, NameError> {
        let keys = Self {
            host: host.to_owned(),
            public_key,
        };
        // The longest name there is.
        let boot = Boot("0".repeat(BOOT_DIGITS));
        let longest = keys.text(&LogName::Issuance(boot));
        let named = longest.parse::<Origin>().is_ok() && longest.parse::<KeyName>().is_ok();
        if host.is_empty() || !named {
            let host = host.to_owned();
            return Err(NameError::Host { host });
        }
        Ok(keys)
    }

    /// From a key bundle; it is worth what the evidence is worth that binds it.
    ///
    /// # Errors
    /// [`NameError::Key`], [`NameError::Host`].
    pub fn from_bundle(bundle: &KeyBundle) -> Result<Self, NameError> {
        Self::of_spki(bundle, &bundle.log_key_spki)
    }

    /// Those of a key bundle's earlier log keys, which stay of use for checkpoints that were signed before.
    ///
    /// # Errors
    /// [`NameError::Key`], [`NameError::Host`].
    pub fn earlier_from_bundle(bundle: &KeyBundle) -> Result<Vec<Self>, NameError> {
        let earlier = bundle.earlier_log_keys.iter();
        earlier.map(|key| Self::of_spki(bundle, key)).collect()
    }

    fn of_spki(bundle: &KeyBundle, spki: &[u8]) -> Result<Self, NameError> {
        let key = spki.strip_prefix(&ED25519_SPKI);
        let key = key.and_then(|key| key.try_into().ok());
        let issuer = bundle.issuer.split_once("://");
        let host = issuer.map_or(bundle.issuer.as_str(), |(_scheme, host)| host);
        Self::new(host, key.ok_or(NameError::Key)?)
    }

    /// From the verifier key of the control log, as the service tells it at start.
    ///
    /// # Errors
    /// [`NameError::NotControl`], [`NameError::Host`].
    pub fn from_control(key: &VerifierKey) -> Result<Self, NameError> {
        let name = key.name().as_str();
        let host = name.strip_suffix("/log/control");
        let host = host.ok_or_else(|| NameError::NotControl {
            name: name.to_owned(),
        })?;
        Self::new(host, *key.public_key())
    }

    fn text(&self, name: &LogName) -> String {
        format!("{}/{name}", self.host)
    }

    /// The service's name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The first line of a log's checkpoints.
    ///
    /// # Errors
    /// [`NameError::Host`], which [`new`](Self::new) has ruled out.
    pub fn origin(&self, name: &LogName) -> Result<Origin, NameError> {
        self.text(name).parse().map_err(|_| NameError::Host {
            host: self.host.clone(),
        })
    }

    /// The key of a log under its name.
    ///
    /// # Errors
    /// [`NameError::Host`], which [`new`](Self::new) has ruled out.
    pub fn verifier_key(&self, name: &LogName) -> Result<VerifierKey, NameError> {
        let named = self.text(name).parse().map_err(|_| NameError::Host {
            host: self.host.clone(),
        })?;
        Ok(VerifierKey::new(named, self.public_key))
    }

    /// The log with this origin.
    ///
    /// # Errors
    /// [`NameError::Foreign`], [`NameError::Path`], [`NameError::Boot`].
    pub fn find(&self, origin: &str) -> Result<LogName, NameError> {
        let path = origin
            .strip_prefix(self.host.as_str())
            .and_then(|rest| rest.strip_prefix('/'));
        match path {
            Some(path) => path.parse(),
            None => Err(NameError::Foreign {
                origin: origin.to_owned(),
                host: self.host.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_one_text() {
        let boot = "a7".repeat(32);
        let issuance = format!("log/issuance/{boot}");
        for text in ["log/control", &issuance] {
            assert_eq!(text.parse::<LogName>().unwrap().to_string(), text);
        }
        for (text, error) in [
            ("", NameError::Path),
            ("control", NameError::Path),
            ("log/other", NameError::Path),
            ("log/control/", NameError::Path),
            ("log/issuance/", NameError::Boot),
            ("log/issuance/a7", NameError::Boot),
            (
                &issuance
                    .to_uppercase()
                    .replacen("LOG/ISSUANCE", "log/issuance", 1),
                NameError::Boot,
            ),
        ] {
            assert_eq!(text.parse::<LogName>(), Err(error), "{text}");
        }
    }

    #[test]
    fn keys_name_each_log_of_their_service() {
        let keys = LogKeys::new("keep.example:8444", [5; 32]).unwrap();
        let control = keys.verifier_key(&LogName::Control).unwrap();
        assert_eq!(LogKeys::from_control(&control), Ok(keys.clone()));
        assert_eq!(
            keys.find("keep.example:8444/log/control"),
            Ok(LogName::Control)
        );
        let foreign = NameError::Foreign {
            origin: "other.example/log/control".into(),
            host: "keep.example:8444".into(),
        };
        assert_eq!(keys.find("other.example/log/control"), Err(foreign));
        assert_eq!(keys.find("keep.example:8444/log/x"), Err(NameError::Path));
        let issuance = LogName::Issuance("0".repeat(64).parse().unwrap());
        let other = keys.verifier_key(&issuance).unwrap();
        let name = other.name().as_str().to_owned();
        assert_eq!(
            LogKeys::from_control(&other),
            Err(NameError::NotControl { name })
        );
        for host in ["", "a b", &"x".repeat(250)] {
            let refused = NameError::Host {
                host: host.to_owned(),
            };
            assert_eq!(LogKeys::new(host, [5; 32]), Err(refused), "{host}");
        }
    }
}
