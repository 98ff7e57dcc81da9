//! The bytes of a frame's body: the entries of a group of batches, in order.
//!
//! ```text
//! put    = 1 | key 32 | expected generation u64 | length u32 | sealed bytes
//! delete = 2 | key 32 | expected generation u64
//! leaf   = 3 (control) or 4 (issuance) | length u32 | bytes
//! ```
//!
//! A file may begin with a snapshot: the same leaves, and instead of changes of
//! records what they have come to; of two entries for a key the later one holds.
//!
//! ```text
//! begin  = 5 | epoch u64 | origin 32 | envelope digest 32
//! set    = 6 | key 32 | generation u64 | length u32 | sealed bytes
//! unset  = 7 | key 32
//! end    = 8 | records u64 | control leaves u64 | issuance leaves u64 | origin 32
//! ```
//!
//! Numbers are big-endian. The borders of batches are not kept: a frame is
//! applied whole or not at all.

use enclave::store::{Batch, Key, Log, MAX_BATCH_ENTRIES, MAX_RECORD_BYTES, Record};
use std::ops::Range;
use thiserror::Error;

/// Batches that need more bytes than this in the file are refused.
pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const CONTROL_LEAF: u8 = 3;
const ISSUANCE_LEAF: u8 = 4;
const BEGIN: u8 = 5;
const SET: u8 = 6;
const UNSET: u8 = 7;
const END: u8 = 8;

/// Bytes of a set entry beside its sealed bytes.
pub(super) const SET_BYTES: u64 = 1 + 32 + 8 + 4;

/// Bytes of a leaf entry beside its leaf.
pub(super) const LEAF_BYTES: u64 = 1 + 4;

/// Of what a snapshot is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begin {
    /// How many snapshots the state has come through.
    pub(super) epoch: u64,
    /// The fingerprint of the place in the file before at which it was begun.
    pub(super) origin: [u8; 32],
    /// SHA-256 of the envelope that travels with an export; zeros otherwise.
    pub(super) envelope: [u8; 32],
}

/// What a snapshot must have come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub(super) counts: Counts,
    /// The fingerprint of the place in the file before that it goes up to.
    pub(super) origin: [u8; 32],
}

/// How much a state holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) records: u64,
    pub(super) control: u64,
    pub(super) issuance: u64,
}

/// One entry of a body; ranges point into the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Put {
        key: Key,
        expected_generation: u64,
        sealed: Range<usize>,
    },
    Delete {
        key: Key,
        expected_generation: u64,
    },
    Leaf {
        log: Log,
        bytes: Range<usize>,
    },
    Begin(Begin),
    Set {
        key: Key,
        generation: u64,
        sealed: Range<usize>,
    },
    Unset {
        key: Key,
    },
    End(End),
}

/// Why an authentic body can't be read: it was written by other code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncodingError {
    /// The body ends inside an entry.
    #[error("an entry ends early")]
    Short,
    /// An entry of a kind that this code doesn't know.
    #[error("entry kind {kind} is not known")]
    Kind {
        /// The kind's number.
        kind: u8,
    },
    /// A record or leaf is over its bound.
    #[error("an entry is over its bound")]
    TooLarge,
}

/// Bytes that a batch takes in a body; `None` when it, a record or a leaf is
/// over its bound.
pub(super) fn encoded_bytes(batch: &Batch) -> Option<usize> {
    let Batch { writes, leaves } = batch;
    if writes.len().checked_add(leaves.len())? > MAX_BATCH_ENTRIES {
        return None;
    }
    let mut total: usize = 0;
    for write in writes {
        let sealed = match &write.sealed {
            Some(sealed) if sealed.len() > MAX_RECORD_BYTES => return None,
            Some(sealed) => sealed.len().checked_add(4)?,
            None => 0,
        };
        total = total.checked_add(1 + 32 + 8)?.checked_add(sealed)?;
    }
    for leaf in leaves {
        if leaf.bytes.len() > MAX_RECORD_BYTES {
            return None;
        }
        total = total.checked_add(1 + 4)?.checked_add(leaf.bytes.len())?;
    }
    (total <= MAX_BATCH_BYTES).then_some(total)
}

/// Appends a batch, whose bounds [`encoded_bytes`] has checked.
pub(super) fn encode(batch: &Batch, out: &mut Vec<u8>) -> Result<(), EncodingError> {
    let Batch { writes, leaves } = batch;
    for write in writes {
        out.push(if write.sealed.is_some() { PUT } else { DELETE });
        out.extend_from_slice(&write.key.0);
        out.extend_from_slice(&write.expected_generation.to_be_bytes());
        if let Some(sealed) = &write.sealed {
            encode_bytes(sealed, out)?;
        }
    }
    for leaf in leaves {
        encode_leaf(leaf.log, &leaf.bytes, out)?;
    }
    Ok(())
}

/// Appends a leaf.
pub(super) fn encode_leaf(log: Log, leaf: &[u8], out: &mut Vec<u8>) -> Result<(), EncodingError> {
    out.push(match log {
        Log::Control => CONTROL_LEAF,
        Log::Issuance => ISSUANCE_LEAF,
    });
    encode_bytes(leaf, out)
}

/// Appends the beginning of a snapshot.
pub(super) fn encode_begin(begin: &Begin, out: &mut Vec<u8>) {
    let Begin {
        epoch,
        origin,
        envelope,
    } = begin;
    out.push(BEGIN);
    out.extend_from_slice(&epoch.to_be_bytes());
    out.extend_from_slice(origin);
    out.extend_from_slice(envelope);
}

/// Appends what a record has come to.
pub(super) fn encode_set(record: &Record, out: &mut Vec<u8>) -> Result<(), EncodingError> {
    out.push(SET);
    out.extend_from_slice(&record.key.0);
    out.extend_from_slice(&record.generation.to_be_bytes());
    encode_bytes(&record.sealed, out)
}

/// Appends that a record is gone.
pub(super) fn encode_unset(key: &Key, out: &mut Vec<u8>) {
    out.push(UNSET);
    out.extend_from_slice(&key.0);
}

/// Appends the end of a snapshot.
pub(super) fn encode_end(end: &End, out: &mut Vec<u8>) {
    let End { counts, origin } = end;
    out.push(END);
    for count in [counts.records, counts.control, counts.issuance] {
        out.extend_from_slice(&count.to_be_bytes());
    }
    out.extend_from_slice(origin);
}

fn encode_bytes(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), EncodingError> {
    let length = u32::try_from(bytes.len()).map_err(|_over| EncodingError::TooLarge)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// Reads all entries of a body.
pub(super) fn decode(body: &[u8]) -> Result<Vec<Entry>, EncodingError> {
    let mut entries = Vec::new();
    let mut cursor = Cursor { body, at: 0 };
    while let Some(kind) = cursor.body.get(cursor.at).copied() {
        cursor.range(1)?;
        entries.push(match kind {
            PUT => Entry::Put {
                key: Key(cursor.array()?),
                expected_generation: cursor.number()?,
                sealed: cursor.sized()?,
            },
            DELETE => Entry::Delete {
                key: Key(cursor.array()?),
                expected_generation: cursor.number()?,
            },
            CONTROL_LEAF => Entry::Leaf {
                log: Log::Control,
                bytes: cursor.sized()?,
            },
            ISSUANCE_LEAF => Entry::Leaf {
                log: Log::Issuance,
                bytes: cursor.sized()?,
            },
            BEGIN => Entry::Begin(Begin {
                epoch: cursor.number()?,
                origin: cursor.array()?,
                envelope: cursor.array()?,
            }),
            SET => Entry::Set {
                key: Key(cursor.array()?),
                generation: cursor.number()?,
                sealed: cursor.sized()?,
            },
            UNSET => Entry::Unset {
                key: Key(cursor.array()?),
            },
            END => Entry::End(End {
                counts: Counts {
                    records: cursor.number()?,
                    control: cursor.number()?,
                    issuance: cursor.number()?,
                },
                origin: cursor.array()?,
            }),
            kind => return Err(EncodingError::Kind { kind }),
        });
    }
    Ok(entries)
}

struct Cursor<'a> {
    body: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn range(&mut self, bytes: usize) -> Result<Range<usize>, EncodingError> {
        let end = self.at.checked_add(bytes).ok_or(EncodingError::Short)?;
        if end > self.body.len() {
            return Err(EncodingError::Short);
        }
        let range = self.at..end;
        self.at = end;
        Ok(range)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EncodingError> {
        let range = self.range(N)?;
        self.body
            .get(range)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(EncodingError::Short)
    }

    fn number(&mut self) -> Result<u64, EncodingError> {
        self.array().map(u64::from_be_bytes)
    }

    fn sized(&mut self) -> Result<Range<usize>, EncodingError> {
        let length = usize::try_from(u32::from_be_bytes(self.array()?))
            .map_err(|_over| EncodingError::TooLarge)?;
        if length > MAX_RECORD_BYTES {
            return Err(EncodingError::TooLarge);
        }
        self.range(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enclave::store::{Leaf, Write};

    fn batch() -> Batch {
        Batch {
            writes: vec![
                Write {
                    key: Key([1; 32]),
                    expected_generation: 4,
                    sealed: Some(b"sealed".to_vec()),
                },
                Write {
                    key: Key([2; 32]),
                    expected_generation: 9,
                    sealed: None,
                },
            ],
            leaves: vec![
                Leaf::new(Log::Control, b"c".to_vec()),
                Leaf::new(Log::Issuance, vec![]),
            ],
        }
    }

    fn encoded(batch: &Batch) -> Vec<u8> {
        let mut out = vec![];
        encode(batch, &mut out).unwrap();
        out
    }

    #[test]
    fn a_batch_is_read_back_entry_by_entry() {
        let body = encoded(&batch());
        assert_eq!(encoded_bytes(&batch()), Some(body.len()));
        assert_eq!(
            decode(&body).unwrap(),
            [
                Entry::Put {
                    key: Key([1; 32]),
                    expected_generation: 4,
                    sealed: 45..51
                },
                Entry::Delete {
                    key: Key([2; 32]),
                    expected_generation: 9
                },
                Entry::Leaf {
                    log: Log::Control,
                    bytes: 97..98
                },
                Entry::Leaf {
                    log: Log::Issuance,
                    bytes: 103..103
                },
            ]
        );
    }

    #[test]
    fn a_snapshot_is_read_back_entry_by_entry() {
        let begin = Begin {
            epoch: 3,
            origin: [1; 32],
            envelope: [2; 32],
        };
        let end = End {
            counts: Counts {
                records: 1,
                control: 2,
                issuance: 3,
            },
            origin: [4; 32],
        };
        let record = Record {
            key: Key([5; 32]),
            generation: 6,
            sealed: b"sealed".as_slice().into(),
        };
        let mut body = vec![];
        encode_begin(&begin, &mut body);
        encode_set(&record, &mut body).unwrap();
        encode_unset(&Key([7; 32]), &mut body);
        encode_leaf(Log::Control, b"leaf", &mut body).unwrap();
        encode_end(&end, &mut body);
        assert_eq!(
            decode(&body).unwrap(),
            [
                Entry::Begin(begin),
                Entry::Set {
                    key: Key([5; 32]),
                    generation: 6,
                    sealed: 118..124
                },
                Entry::Unset { key: Key([7; 32]) },
                Entry::Leaf {
                    log: Log::Control,
                    bytes: 162..166
                },
                Entry::End(end),
            ]
        );
        for length in [1, 72, 73 + 44, 124 + 32, 166 + 1, 166 + 56] {
            assert_eq!(
                decode(&body[..length]).unwrap_err(),
                EncodingError::Short,
                "{length}"
            );
        }
    }

    #[test]
    fn unreadable_bodies_are_refused() {
        let body = encoded(&batch());
        let mut large = body.clone();
        large[41..45].copy_from_slice(&65_537_u32.to_be_bytes());
        let rows: [(&str, &[u8], EncodingError); 5] = [
            ("cut in the key", &body[..20], EncodingError::Short),
            ("cut in the bytes", &body[..50], EncodingError::Short),
            ("cut in a length", &body[..94], EncodingError::Short),
            ("unknown kind", &[9], EncodingError::Kind { kind: 9 }),
            ("record over the bound", &large, EncodingError::TooLarge),
        ];
        for (name, bytes, expected) in rows {
            assert_eq!(decode(bytes).unwrap_err(), expected, "{name}");
        }
    }

    #[test]
    fn batches_over_a_bound_have_no_size() {
        let leaf = |bytes: usize| Leaf::new(Log::Control, vec![0; bytes]);
        let of = |leaves: Vec<Leaf>| Batch {
            writes: vec![],
            leaves,
        };
        let write = Batch {
            writes: vec![Write {
                key: Key([0; 32]),
                expected_generation: 0,
                sealed: Some(vec![0; MAX_RECORD_BYTES + 1]),
            }],
            leaves: vec![],
        };
        assert_eq!(
            encoded_bytes(&of(vec![leaf(1); MAX_BATCH_ENTRIES])),
            Some(6 * 1024)
        );
        assert_eq!(
            encoded_bytes(&of(vec![leaf(1); MAX_BATCH_ENTRIES + 1])),
            None,
            "entries"
        );
        assert_eq!(encoded_bytes(&of(vec![leaf(65_537)])), None, "a leaf");
        assert_eq!(encoded_bytes(&write), None, "a record");
        assert_eq!(encoded_bytes(&of(vec![leaf(65_536); 64])), None, "in all");
    }
}
