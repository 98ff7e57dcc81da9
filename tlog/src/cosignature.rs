//! Cosignatures: a witness saw this checkpoint follow all it saw before [C2SP tlog-cosignature].

use core::fmt;
use core::str::FromStr;

use ring::signature::Ed25519KeyPair;
use thiserror::Error;

use crate::checkpoint::{Origin, VerifiedCheckpoint};
use crate::note::{KeyError, KeyId, KeyName, NoteSignature, Vkey, public_key_of, verify_ed25519};
use crate::tree::TreeHead;

/// Signature type of timestamped Ed25519 cosignatures [C2SP signed-note].
const COSIGNATURE_V1: u8 = 0x04;
/// Latest timestamp that may be stated [C2SP tlog-cosignature].
pub const MAX_TIMESTAMP_S: u64 = i64::MAX as u64;
/// A `timestamped_signature`: 8 bytes of time, 64 of Ed25519.
const COSIGNATURE_BYTES: usize = 72;

/// Why a cosignature is not made or not believed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CosignatureError {
    /// A timestamp beyond [`MAX_TIMESTAMP_S`].
    #[error("timestamp {timestamp_s} is out of range")]
    Timestamp {
        /// The time stated, in POSIX seconds.
        timestamp_s: u64,
    },
    /// Not 8 bytes of time and 64 of signature.
    #[error("a cosignature of {name} has {found_bytes} bytes, not {COSIGNATURE_BYTES}")]
    Length {
        /// The cosigner.
        name: KeyName,
        /// What there was.
        found_bytes: usize,
    },
    /// The signature does not verify.
    #[error("the cosignature of {name} ({key_id}) is wrong")]
    BadSignature {
        /// The cosigner.
        name: KeyName,
        /// Its key's id.
        key_id: KeyId,
    },
    /// The cosigner has not signed this note.
    #[error("{name} has not cosigned")]
    Absent {
        /// The cosigner.
        name: KeyName,
    },
    /// Two of the keys are one: the cosigned message does not hold the name, so one cosigner would
    /// count as two.
    #[error("{name} has the same key as another cosigner")]
    KeyReused {
        /// The second of them.
        name: KeyName,
    },
}

/// A witness's public key: Ed25519 for `cosignature/v1`.
///
/// `FromStr` and `Display` are its text form `name+id+base64(0x04 || key)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CosignerKey(Vkey);

impl CosignerKey {
    /// The key with this name and these 32 bytes [RFC 8032 §5.1.2].
    #[must_use]
    pub fn new(name: KeyName, public_key: [u8; 32]) -> Self {
        Self(Vkey::new(name, COSIGNATURE_V1, public_key))
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &KeyName {
        &self.0.name
    }

    /// Its id.
    #[must_use]
    pub const fn key_id(&self) -> KeyId {
        self.0.id
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.0.public_key
    }
}

impl FromStr for CosignerKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        Vkey::parse(text, COSIGNATURE_V1).map(Self)
    }
}

impl fmt::Display for CosignerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.format(COSIGNATURE_V1))
    }
}

/// Cosigns checkpoints. Holds the private key; its `Debug` shows the public one alone.
///
/// An operator of several cosigners gives each its own key [C2SP tlog-cosignature].
pub struct Cosigner {
    key: CosignerKey,
    pair: Ed25519KeyPair,
}

impl Cosigner {
    /// A cosigner with this name. The caller keeps the seed the pair was made from.
    ///
    /// # Errors
    /// [`KeyError::Length`] if the pair's public key had not 32 bytes.
    pub fn new(name: KeyName, pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        Ok(Self {
            key: CosignerKey::new(name, public_key_of(&pair)?),
            pair,
        })
    }

    /// The key that verifies what this signs.
    #[must_use]
    pub const fn key(&self) -> &CosignerKey {
        &self.key
    }

    /// Cosigns at `timestamp_s` (POSIX seconds). It says that this is the largest consistent tree the
    /// cosigner has seen of the log: the caller has verified that against what it stored, and stored
    /// this one durably.
    ///
    /// # Errors
    /// [`CosignatureError::Timestamp`].
    pub fn cosign(
        &self,
        checkpoint: &VerifiedCheckpoint,
        timestamp_s: u64,
    ) -> Result<NoteSignature, CosignatureError> {
        if timestamp_s > MAX_TIMESTAMP_S {
            return Err(CosignatureError::Timestamp { timestamp_s });
        }
        let signature = self.pair.sign(message(checkpoint, timestamp_s).as_bytes());
        let bytes = [timestamp_s.to_be_bytes().as_slice(), signature.as_ref()].concat();
        Ok(NoteSignature::from_parts(
            self.key.name().clone(),
            self.key.key_id(),
            bytes,
        ))
    }
}

impl fmt::Debug for Cosigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cosigner")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl VerifiedCheckpoint {
    /// Verifies a cosignature that came apart from the note, as a witness answers one.
    ///
    /// Whether its time is recent, or in the future, is the caller's to judge.
    ///
    /// # Errors
    /// [`CosignatureError::Absent`] if it names another key; else what is wrong with it.
    pub fn verify_cosignature(
        &self,
        key: &CosignerKey,
        signature: &NoteSignature,
    ) -> Result<VerifiedCosignature, CosignatureError> {
        let name = || key.name().clone();
        if !key.0.is_named_by(signature) {
            return Err(CosignatureError::Absent { name: name() });
        }
        let bytes = signature.bytes();
        let length = || CosignatureError::Length {
            name: name(),
            found_bytes: bytes.len(),
        };
        let (time, ed25519) = bytes.split_first_chunk().ok_or_else(length)?;
        if bytes.len() != COSIGNATURE_BYTES {
            return Err(length());
        }
        let timestamp_s = u64::from_be_bytes(*time);
        if timestamp_s > MAX_TIMESTAMP_S {
            return Err(CosignatureError::Timestamp { timestamp_s });
        }
        if !verify_ed25519(
            key.public_key(),
            message(self, timestamp_s).as_bytes(),
            ed25519,
        ) {
            return Err(CosignatureError::BadSignature {
                name: name(),
                key_id: key.key_id(),
            });
        }
        let (origin, head) = (self.checkpoint().origin().clone(), self.head());
        Ok(VerifiedCosignature {
            key: key.clone(),
            origin,
            head,
            timestamp_s,
        })
    }

    /// Verifies this cosigner's line in the note. Of several the latest counts, and one that is wrong
    /// refuses all.
    ///
    /// # Errors
    /// [`CosignatureError::Absent`] if there is none; else what is wrong with it.
    pub fn cosignature(&self, key: &CosignerKey) -> Result<VerifiedCosignature, CosignatureError> {
        let mut latest: Option<VerifiedCosignature> = None;
        let lines = self.note().note().signatures().iter();
        for line in lines.filter(|line| key.0.is_named_by(line)) {
            let found = self.verify_cosignature(key, line)?;
            if latest
                .as_ref()
                .is_none_or(|latest| latest.timestamp_s < found.timestamp_s)
            {
                latest = Some(found);
            }
        }
        latest.ok_or_else(|| CosignatureError::Absent {
            name: key.name().clone(),
        })
    }

    /// The cosignatures of those of `keys` that signed, at most one a key, for a quorum to be counted.
    ///
    /// # Errors
    /// [`CosignatureError::KeyReused`] if two of `keys` are one key; else what is wrong with the first
    /// wrong cosignature of a known key.
    pub fn cosignatures(
        &self,
        keys: &[CosignerKey],
    ) -> Result<Vec<VerifiedCosignature>, CosignatureError> {
        let mut found = Vec::new();
        let mut seen = Vec::new();
        for key in keys {
            if seen.contains(&key.public_key()) {
                return Err(CosignatureError::KeyReused {
                    name: key.name().clone(),
                });
            }
            seen.push(key.public_key());
            match self.cosignature(key) {
                Ok(cosignature) => found.push(cosignature),
                Err(CosignatureError::Absent { .. }) => {}
                Err(
                    wrong @ (CosignatureError::Timestamp { .. }
                    | CosignatureError::Length { .. }
                    | CosignatureError::BadSignature { .. }
                    | CosignatureError::KeyReused { .. }),
                ) => return Err(wrong),
            }
        }
        Ok(found)
    }
}

/// A known cosigner's statement about a checkpoint. Made by [`VerifiedCheckpoint::verify_cosignature`]
/// alone.
///
/// ```compile_fail,E0451
/// # use tlog::{CosignerKey, Origin, TreeHead, VerifiedCosignature};
/// # fn forge(key: CosignerKey, origin: Origin, head: TreeHead) -> VerifiedCosignature {
/// VerifiedCosignature { key, origin, head, timestamp_s: 0 }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCosignature {
    key: CosignerKey,
    origin: Origin,
    head: TreeHead,
    timestamp_s: u64,
}

impl VerifiedCosignature {
    /// Who cosigned.
    #[must_use]
    pub const fn key(&self) -> &CosignerKey {
        &self.key
    }

    /// The log.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The tree head cosigned.
    #[must_use]
    pub const fn head(&self) -> TreeHead {
        self.head
    }

    /// When, in POSIX seconds by the cosigner's clock.
    #[must_use]
    pub const fn timestamp_s(&self) -> u64 {
        self.timestamp_s
    }
}

/// The signed message: two lines of its own, then the note's text [C2SP tlog-cosignature].
fn message(checkpoint: &VerifiedCheckpoint, timestamp_s: u64) -> String {
    format!(
        "cosignature/v1\ntime {timestamp_s}\n{}",
        checkpoint.note().text()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::hash::leaf_hash;
    use crate::note::{NoteSigner, VerifierKey};

    const TIME_S: u64 = 1_679_315_147;

    fn pair(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("seed")
    }

    fn cosigner(name: &str, seed: u8) -> Cosigner {
        Cosigner::new(name.parse().expect("name"), pair(seed)).expect("key")
    }

    fn log() -> (NoteSigner, Origin) {
        let name = "log.example".parse().expect("name");
        (
            NoteSigner::new(name, pair(9)).expect("key"),
            "log.example".parse().expect("origin"),
        )
    }

    fn checkpoint(size: u64) -> VerifiedCheckpoint {
        checkpoint_with(size, Vec::new())
    }

    fn checkpoint_with(size: u64, cosignatures: Vec<NoteSignature>) -> VerifiedCheckpoint {
        let (signer, origin) = log();
        let head = TreeHead {
            size,
            root: leaf_hash(b""),
        };
        let checkpoint = Checkpoint::new(origin.clone(), head).expect("not empty");
        let note = checkpoint.sign(&signer).expect("signs");
        let note = note
            .with_signatures(cosignatures)
            .expect("room")
            .to_string();
        let keys = [signer.verifier_key().clone()];
        VerifiedCheckpoint::open(note.as_bytes(), &origin, &keys).expect("opens")
    }

    #[test]
    fn a_cosignature_says_who_when_and_what() {
        let witness = cosigner("w1", 1);
        let signature = witness.cosign(&checkpoint(5), TIME_S).expect("cosigns");
        let line = signature.to_string();
        assert_eq!(line.parse(), Ok(signature.clone()));
        let cosigned = checkpoint_with(5, vec![signature]);
        let verified = cosigned.cosignature(witness.key()).expect("verifies");
        assert_eq!(verified.key(), witness.key());
        assert_eq!(verified.timestamp_s(), TIME_S);
        assert_eq!(verified.head(), cosigned.head());
        assert_eq!(verified.origin().as_str(), "log.example");
        let latest = MAX_TIMESTAMP_S;
        let signature = witness.cosign(&cosigned, latest).expect("in range");
        let verified = cosigned.verify_cosignature(witness.key(), &signature);
        assert_eq!(
            verified.map(|cosignature| cosignature.timestamp_s()),
            Ok(latest)
        );
        let error = CosignatureError::Timestamp {
            timestamp_s: latest + 1,
        };
        assert_eq!(witness.cosign(&cosigned, latest + 1), Err(error));
    }

    #[test]
    fn every_other_cosignature_is_refused() {
        let witness = cosigner("w1", 1);
        let key = witness.key();
        let (name, id) = (key.name().clone(), key.key_id());
        let checkpoint = checkpoint(5);
        let good = witness.cosign(&checkpoint, TIME_S).expect("cosigns");
        let bad = || CosignatureError::BadSignature {
            name: name.clone(),
            key_id: id,
        };
        let absent = || CosignatureError::Absent { name: name.clone() };
        let length = |found_bytes| CosignatureError::Length {
            name: name.clone(),
            found_bytes,
        };
        let with_bytes = |edit: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.bytes().to_vec();
            edit(&mut bytes);
            NoteSignature::from_parts(name.clone(), id, bytes)
        };
        let raw = pair(1);
        let untimed = raw.sign(checkpoint.note().text().as_bytes());
        let untimed = [&TIME_S.to_be_bytes()[..], untimed.as_ref()].concat();
        let renamed =
            NoteSignature::from_parts("w2".parse().expect("name"), id, good.bytes().to_vec());
        let note_type = NoteSigner::new(name.clone(), pair(1)).expect("key");
        let rows = [
            (
                "another tree",
                witness
                    .cosign(&self::checkpoint(6), TIME_S)
                    .expect("cosigns"),
                bad(),
            ),
            ("another time", with_bytes(&|b| b[7] ^= 1), bad()),
            ("another signature", with_bytes(&|b| b[8] ^= 1), bad()),
            (
                "no time signed",
                NoteSignature::from_parts(name.clone(), id, untimed),
                bad(),
            ),
            (
                "time out of range",
                with_bytes(&|b| b[0] |= 0x80),
                CosignatureError::Timestamp {
                    timestamp_s: TIME_S | 1 << 63,
                },
            ),
            ("too long", with_bytes(&|b| b.push(0)), length(73)),
            ("too short", with_bytes(&|b| b.truncate(71)), length(71)),
            ("no time", with_bytes(&|b| b.truncate(7)), length(7)),
            ("another name", renamed, absent()),
            (
                "another key",
                cosigner("w1", 2)
                    .cosign(&checkpoint, TIME_S)
                    .expect("cosigns"),
                absent(),
            ),
            (
                "a note signature",
                note_type.sign(checkpoint.note().text()).expect("signs"),
                absent(),
            ),
        ];
        assert!(checkpoint.verify_cosignature(key, &good).is_ok());
        for (what, signature, error) in rows {
            let verdict = checkpoint.verify_cosignature(key, &signature);
            assert_eq!(verdict, Err(error.clone()), "{what}");
            let cosigned = checkpoint_with(5, vec![signature]);
            assert_eq!(cosigned.cosignature(key), Err(error.clone()), "{what}");
            let listed = if error == absent() {
                Ok(Vec::new())
            } else {
                Err(error)
            };
            assert_eq!(
                cosigned.cosignatures(core::slice::from_ref(key)),
                listed,
                "{what}"
            );
        }
    }

    #[test]
    fn cosigners_are_counted_once() {
        let (one, two, three) = (cosigner("w1", 1), cosigner("w2", 2), cosigner("w3", 3));
        let plain = checkpoint(5);
        let lines = [(&one, 10), (&two, 11), (&one, 12), (&one, 9)]
            .map(|(witness, time_s)| witness.cosign(&plain, time_s).expect("cosigns"));
        let cosigned = checkpoint_with(5, lines.to_vec());
        let keys = [three.key().clone(), two.key().clone(), one.key().clone()];
        let found = cosigned.cosignatures(&keys).expect("all verify");
        let found: Vec<_> = found
            .iter()
            .map(|c| (c.key().name().as_str(), c.timestamp_s()))
            .collect();
        assert_eq!(found, [("w2", 11), ("w1", 12)]);
        let twin = cosigner("twin", 1);
        let keys = [one.key().clone(), twin.key().clone()];
        let error = CosignatureError::KeyReused {
            name: twin.key().name().clone(),
        };
        assert_eq!(cosigned.cosignatures(&keys), Err(error));
    }

    #[test]
    fn a_cosigners_key_is_not_a_logs_key() {
        let text = cosigner("w1", 1).key().to_string();
        assert_eq!(
            text.parse::<CosignerKey>().map(|key| key.to_string()),
            Ok(text.clone())
        );
        let error = KeyError::SignatureType {
            expected: 1,
            found: 4,
        };
        assert_eq!(text.parse::<VerifierKey>(), Err(error));
        let log = NoteSigner::new("w1".parse().expect("name"), pair(1)).expect("key");
        let error = KeyError::SignatureType {
            expected: 4,
            found: 1,
        };
        assert_eq!(
            log.verifier_key().to_string().parse::<CosignerKey>(),
            Err(error)
        );
    }

    #[test]
    fn a_cosigner_shows_nothing_private() {
        let shown = format!("{:?}", cosigner("w1", 0x5a));
        assert!(shown.starts_with("Cosigner { key: CosignerKey("));
        assert!(!shown.contains("90, 90") && !shown.to_lowercase().contains("5a5a"));
    }
}
