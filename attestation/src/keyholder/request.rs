//! What an enclave asks of a keyholder, in one canonical encoding that its evidence binds.

use std::fmt;

use crate::canonical::{CanonicalError, Reader, Writer, sha256};
use crate::nonces::{Nonce, NonceTree, NonceTreeError};
use crate::report_data::{Purpose, report_data};

/// The name and version of the encoding.
const DOMAIN: &str = "tokenkeep/keyholder-request/v1";
/// The most an encoded request may have.
pub const MAX_REQUEST_BYTES: usize = 2 * 1024;
/// The most an issuer may have.
const MAX_ISSUER_BYTES: usize = 512;
/// The longest name of an operation.
const MAX_OPERATION_BYTES: usize = 16;

/// What a keyholder can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Make a share under a new id, and release it.
    Enrol,
    /// Release the share of an id.
    Release,
    /// Destroy the share of an id, and confirm it. Again for one that is destroyed already.
    Destroy,
    /// Release the private key of a recovery set, which its people have combined here. The id is that of the set.
    Recover,
}

impl Operation {
    /// Its name in requests and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enrol => "enrol",
            Self::Release => "release",
            Self::Destroy => "destroy",
            Self::Recover => "recover",
        }
    }

    fn of(name: &[u8]) -> Option<Self> {
        [Self::Enrol, Self::Release, Self::Destroy, Self::Recover]
            .into_iter()
            .find(|operation| operation.as_str().as_bytes() == name)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is asked. The enclave's evidence binds all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is to be done.
    pub operation: Operation,
    /// The keyholder's public key: a request to one is none to another.
    pub keyholder: [u8; 32],
    /// The issuer of the service's tokens: the name of the deployment.
    pub issuer: String,
    /// The id of the state that the share opens.
    pub state: [u8; 16],
    /// The id of the share, chosen by the enclave; for [`Operation::Recover`] the set's id in front of zeros.
    pub share: [u8; 16],
    /// The X25519 key of this boot that the answer is sealed to.
    pub recipient: [u8; 32],
    /// SHA-256 of the manifest that the enclave runs under.
    pub manifest: [u8; 32],
}

/// Why bytes are no request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// More than [`MAX_REQUEST_BYTES`].
    #[error("the request has {found_bytes} bytes, at most {MAX_REQUEST_BYTES} are read")]
    TooLarge {
        /// Its size.
        found_bytes: usize,
    },
    /// The encoding is not canonical.
    #[error("the request's field {field} cannot be read: {error}")]
    Encoding {
        /// Which field.
        field: &'static str,
        /// Why.
        error: CanonicalError,
    },
    /// An operation that this program does not know.
    #[error("the request's operation is not known")]
    Operation,
    /// The issuer is empty, too long or not printable ASCII.
    #[error("the request's issuer is not 1 to {MAX_ISSUER_BYTES} printable ASCII characters")]
    Issuer,
}

impl Request {
    /// The id of a recovery set where a share's id stands.
    #[must_use]
    pub fn recovery_share(set: &[u8; 8]) -> [u8; 16] {
        let mut share = [0; 16];
        for (to, from) in share.iter_mut().zip(set) {
            *to = *from;
        }
        share
    }

    /// The one encoding: length-prefixed parts in the order of the fields.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self {
            operation,
            keyholder,
            issuer,
            state,
            share,
            recipient,
            manifest,
        } = self;
        let mut writer = Writer::new(DOMAIN);
        writer
            .part(operation.as_str().as_bytes())
            .part(keyholder)
            .part(issuer.as_bytes())
            .part(state)
            .part(share)
            .part(recipient)
            .part(manifest);
        writer.finish()
    }

    /// Reads an encoded request.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RequestError> {
        if bytes.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLarge {
                found_bytes: bytes.len(),
            });
        }
        let wrong = |field| move |error| RequestError::Encoding { field, error };
        let mut reader = Reader::new(bytes, DOMAIN).map_err(wrong("domain"))?;
        let operation = reader
            .part(MAX_OPERATION_BYTES)
            .map_err(wrong("operation"))?;
        let operation = Operation::of(operation).ok_or(RequestError::Operation)?;
        let keyholder = reader.array().map_err(wrong("keyholder"))?;
        let issuer = reader.part(MAX_ISSUER_BYTES).map_err(wrong("issuer"))?;
        if issuer.is_empty() || !issuer.iter().all(u8::is_ascii_graphic) {
            return Err(RequestError::Issuer);
        }
        let issuer = String::from_utf8_lossy(issuer).into_owned();
        let request = Self {
            operation,
            keyholder,
            issuer,
            state: reader.array().map_err(wrong("state"))?,
            share: reader.array().map_err(wrong("share"))?,
            recipient: reader.array().map_err(wrong("recipient"))?,
            manifest: reader.array().map_err(wrong("manifest"))?,
        };
        reader.finish().map_err(wrong("end"))?;
        Ok(request)
    }

    /// SHA-256 of the encoding.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.encode())
    }

    /// What the report that asks this under a keyholder's nonce must bind: purpose `keyholder`, a tree of that nonce
    /// alone, and the request's digest in the place of a key bundle's.
    ///
    /// # Errors
    /// [`NonceTreeError`], which one nonce never causes.
    pub fn report_data(&self, nonce: &Nonce) -> Result<[u8; 64], NonceTreeError> {
        let tree = NonceTree::new(std::slice::from_ref(nonce))?;
        Ok(report_data(
            Purpose::Keyholder,
            &tree.root(),
            &self.digest(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn sample() -> Request {
        Request {
            operation: Operation::Release,
            keyholder: [1; 32],
            issuer: "https://tokens.example".to_owned(),
            state: [2; 16],
            share: [3; 16],
            recipient: [4; 32],
            manifest: [5; 32],
        }
    }

    #[test]
    fn a_request_comes_back_as_it_was_and_every_field_counts() {
        let base = sample();
        assert_eq!(Request::decode(&base.encode()).as_ref(), Ok(&base));
        let others = [
            Request {
                operation: Operation::Destroy,
                ..base.clone()
            },
            Request {
                keyholder: [9; 32],
                ..base.clone()
            },
            Request {
                issuer: "https://tokens.example2".to_owned(),
                ..base.clone()
            },
            Request {
                state: [9; 16],
                ..base.clone()
            },
            Request {
                share: [9; 16],
                ..base.clone()
            },
            Request {
                recipient: [9; 32],
                ..base.clone()
            },
            Request {
                manifest: [9; 32],
                ..base.clone()
            },
        ];
        let data = base.report_data(&[7; 32]).unwrap();
        for other in others {
            assert_ne!(other.report_data(&[7; 32]).unwrap(), data, "{other:?}");
        }
        assert_ne!(base.report_data(&[8; 32]).unwrap(), data);
    }

    #[test]
    fn each_fault_of_a_request_is_named() {
        let good = sample().encode();
        let wrong = |field, error| RequestError::Encoding { field, error };
        let with = |change: fn(&mut Request)| {
            let mut request = sample();
            change(&mut request);
            request.encode()
        };
        let mut trailing = good.clone();
        trailing.push(0);
        let mut other_kind = good.clone();
        other_kind[8] ^= 1;
        let mut operation = good.clone();
        operation[8 + DOMAIN.len() + 8] ^= 1;
        let rows = [
            (
                vec![0; MAX_REQUEST_BYTES + 1],
                RequestError::TooLarge {
                    found_bytes: MAX_REQUEST_BYTES + 1,
                },
            ),
            (Vec::new(), wrong("domain", CanonicalError::Truncated)),
            (other_kind, wrong("domain", CanonicalError::WrongDomain)),
            (operation, RequestError::Operation),
            (
                with(|request| request.issuer = String::new()),
                RequestError::Issuer,
            ),
            (
                with(|request| request.issuer = "a b".to_owned()),
                RequestError::Issuer,
            ),
            (
                trailing,
                wrong("end", CanonicalError::Trailing { count_bytes: 1 }),
            ),
            (
                good[..good.len() - 1].to_vec(),
                wrong("manifest", CanonicalError::Truncated),
            ),
        ];
        for (bytes, expected) in rows {
            assert_eq!(Request::decode(&bytes), Err(expected));
        }
    }
}
