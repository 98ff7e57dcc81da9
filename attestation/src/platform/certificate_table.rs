//! The certificate table that comes with a SEV-SNP report: GUIDs, offsets, lengths, all chosen by the host.

use std::ops::Range;

/// The longest table that is read, bytes. The host's real ones have four pages at most.
pub const MAX_TABLE_BYTES: usize = 64 * 1024;

/// The most entries that are read.
pub const MAX_ENTRIES: usize = 16;

/// The longest certificate that is read, bytes. AMD's have below 2 KiB.
pub const MAX_CERTIFICATE_BYTES: usize = 8 * 1024;

/// GUID, offset, length [AMD 56421, table "Certificate table entry"].
const ENTRY_BYTES: usize = 24;

/// `63da758d-e664-4564-adc5-f4b93be8accd`
const VCEK: [u8; 16] = *b"\x63\xda\x75\x8d\xe6\x64\x45\x64\xad\xc5\xf4\xb9\x3b\xe8\xac\xcd";
/// `a8074bc2-a25a-483e-aae6-39c045a0b8a1`
const VLEK: [u8; 16] = *b"\xa8\x07\x4b\xc2\xa2\x5a\x48\x3e\xaa\xe6\x39\xc0\x45\xa0\xb8\xa1";
/// `4ab7b379-bbac-4fe4-a02f-05aef327c782`
const ASK: [u8; 16] = *b"\x4a\xb7\xb3\x79\xbb\xac\x4f\xe4\xa0\x2f\x05\xae\xf3\x27\xc7\x82";
/// `c0b406a4-a803-4952-9743-3fb6014cd0ae`
const ARK: [u8; 16] = *b"\xc0\xb4\x06\xa4\xa8\x03\x49\x52\x97\x43\x3f\xb6\x01\x4c\xd0\xae";

/// The certificates of a table, DER. Nothing about them was verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateTable {
    /// The chip's own key.
    pub vcek: Option<Vec<u8>>,
    /// The key that AMD lends to a cloud.
    pub vlek: Option<Vec<u8>>,
    /// AMD's signing key.
    pub ask: Option<Vec<u8>>,
    /// AMD's root.
    pub ark: Option<Vec<u8>>,
}

/// Why bytes are no certificate table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateTableFault {
    /// Longer than [`MAX_TABLE_BYTES`].
    #[error("the table has {found_bytes} bytes, at most {MAX_TABLE_BYTES} are read")]
    TooLong {
        /// How many it has.
        found_bytes: usize,
    },
    /// The list of entries has no end within its bounds.
    #[error("the list of entries does not end within {MAX_ENTRIES} entries and the table")]
    NoEnd,
    /// The entry that ends the list has an offset or a length.
    #[error("the last entry has no GUID, but an offset or a length")]
    DirtyEnd,
    /// An entry is outside the table, or overlaps the list or another entry.
    #[error("entry {index} is outside the table, or overlaps the list or another entry")]
    Place {
        /// Which, from 0.
        index: usize,
    },
    /// A GUID is there twice.
    #[error("entry {index} repeats a GUID")]
    Repeated {
        /// Which, from 0.
        index: usize,
    },
    /// Longer than [`MAX_CERTIFICATE_BYTES`].
    #[error("entry {index} has {found_bytes} bytes, at most {MAX_CERTIFICATE_BYTES} are read")]
    CertificateTooLong {
        /// Which, from 0.
        index: usize,
        /// How many it has.
        found_bytes: usize,
    },
    /// An entry is not exactly one DER sequence.
    #[error("entry {index} is not one DER certificate")]
    NotDer {
        /// Which, from 0.
        index: usize,
    },
}

impl CertificateTable {
    /// Reads a table; no bytes at all are an empty one. What has another GUID is passed over, revocation lists
    /// among them: a verifier never takes those from the attester.
    ///
    /// # Errors
    /// [`CertificateTableFault`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CertificateTableFault> {
        let found_bytes = bytes.len();
        if found_bytes > MAX_TABLE_BYTES {
            return Err(CertificateTableFault::TooLong { found_bytes });
        }
        let mut table = Self::default();
        if bytes.is_empty() {
            return Ok(table);
        }
        let entries = entries(bytes)?;
        // The list, its end included, and all entries before.
        let list_end = entries.len().saturating_add(1).saturating_mul(ENTRY_BYTES);
        let mut taken = Vec::from([Range {
            start: 0,
            end: list_end,
        }]);
        let mut seen: Vec<[u8; 16]> = Vec::new();
        for (index, (guid, range)) in entries.into_iter().enumerate() {
            let overlaps =
                |other: &Range<usize>| range.start < other.end && other.start < range.end;
            if range.is_empty() || taken.iter().any(overlaps) {
                return Err(CertificateTableFault::Place { index });
            }
            let data = bytes
                .get(range.clone())
                .ok_or(CertificateTableFault::Place { index })?;
            taken.push(range);
            if seen.contains(&guid) {
                return Err(CertificateTableFault::Repeated { index });
            }
            seen.push(guid);
            let slot = match guid {
                VCEK => &mut table.vcek,
                VLEK => &mut table.vlek,
                ASK => &mut table.ask,
                ARK => &mut table.ark,
                _ => continue,
            };
            let found_bytes = data.len();
            if found_bytes > MAX_CERTIFICATE_BYTES {
                return Err(CertificateTableFault::CertificateTooLong { index, found_bytes });
            }
            if der_sequence_bytes(data) != Some(found_bytes) {
                return Err(CertificateTableFault::NotDer { index });
            }
            *slot = Some(data.to_vec());
        }
        Ok(table)
    }
}

/// GUID and place of an entry.
type Listed = ([u8; 16], Range<usize>);

/// The entries before the one without GUID.
fn entries(bytes: &[u8]) -> Result<Vec<Listed>, CertificateTableFault> {
    let mut found = Vec::new();
    let mut rest = bytes;
    for index in 0..=MAX_ENTRIES {
        let (entry, after) = rest
            .split_first_chunk::<ENTRY_BYTES>()
            .ok_or(CertificateTableFault::NoEnd)?;
        rest = after;
        let (guid, place) = entry
            .split_first_chunk::<16>()
            .ok_or(CertificateTableFault::NoEnd)?;
        let (offset, length) = place
            .split_first_chunk::<4>()
            .and_then(|(offset, length)| Some((offset, length.first_chunk::<4>()?)))
            .ok_or(CertificateTableFault::NoEnd)?;
        let number = |bytes: &[u8; 4]| usize::try_from(u32::from_le_bytes(*bytes)).ok();
        let place = number(offset)
            .zip(number(length))
            .and_then(|(start, length)| Some(start..start.checked_add(length)?))
            .ok_or(CertificateTableFault::Place { index })?;
        if *guid == [0; 16] {
            return if place == (0..0) {
                Ok(found)
            } else {
                Err(CertificateTableFault::DirtyEnd)
            };
        }
        found.push((*guid, place));
    }
    Err(CertificateTableFault::NoEnd)
}

/// The length of the DER sequence at the start, tag and length included: at most 65,539 bytes, in the one length
/// form that DER has for it [X.690 §10.1].
fn der_sequence_bytes(data: &[u8]) -> Option<usize> {
    match data {
        [0x30, length @ 0..=0x7F, ..] => usize::from(*length).checked_add(2),
        [0x30, 0x81, length @ 0x80..=0xFF, ..] => usize::from(*length).checked_add(3),
        [0x30, 0x82, high @ 1..=0xFF, low, ..] => {
            usize::from(u16::from_be_bytes([*high, *low])).checked_add(4)
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
pub(crate) mod tests {
    use super::*;

    /// A table of certificates, as a host writes it.
    pub(crate) fn table(entries: &[([u8; 16], &[u8])]) -> Vec<u8> {
        let mut head = Vec::new();
        let mut data = Vec::new();
        let list_end = (entries.len() + 1) * ENTRY_BYTES;
        for (guid, certificate) in entries {
            head.extend_from_slice(guid);
            head.extend_from_slice(&u32::try_from(list_end + data.len()).unwrap().to_le_bytes());
            head.extend_from_slice(&u32::try_from(certificate.len()).unwrap().to_le_bytes());
            data.extend_from_slice(certificate);
        }
        head.resize(list_end, 0);
        head.extend(data);
        head
    }

    pub(crate) fn all_four(vcek: &[u8], ask: &[u8], ark: &[u8]) -> Vec<u8> {
        table(&[(VCEK, vcek), (ASK, ask), (ARK, ark)])
    }

    fn der(fill: u8, content_bytes: usize) -> Vec<u8> {
        let mut der = match content_bytes {
            0..=0x7F => vec![0x30, u8::try_from(content_bytes).unwrap()],
            0x80..=0xFF => vec![0x30, 0x81, u8::try_from(content_bytes).unwrap()],
            _ => {
                let length = u16::try_from(content_bytes).unwrap().to_be_bytes();
                vec![0x30, 0x82, length[0], length[1]]
            }
        };
        der.resize(der.len() + content_bytes, fill);
        der
    }

    const CRL: [u8; 16] = *b"\x92\xf8\x1b\xc3\x58\x11\x4d\x3d\x97\xff\xd1\x9f\x88\xdc\x67\xea";

    fn valid() -> Vec<u8> {
        table(&[
            (VCEK, &der(1, 5)),
            (VLEK, &der(2, 200)),
            (ASK, &der(3, 1000)),
            (ARK, &der(4, 1001)),
            (CRL, b"whatever"),
        ])
    }

    #[test]
    fn each_guid_has_its_place_and_others_are_passed_over() {
        let mut padded = valid();
        padded.resize(4 * 4096, 0);
        for bytes in [valid(), padded] {
            let expected = CertificateTable {
                vcek: Some(der(1, 5)),
                vlek: Some(der(2, 200)),
                ask: Some(der(3, 1000)),
                ark: Some(der(4, 1001)),
            };
            assert_eq!(CertificateTable::parse(&bytes), Ok(expected));
        }
        for empty in [vec![], vec![0; ENTRY_BYTES], vec![0; 4096]] {
            assert_eq!(
                CertificateTable::parse(&empty),
                Ok(CertificateTable::default())
            );
        }
    }

    #[test]
    fn a_table_that_a_host_made_up_is_refused() {
        use CertificateTableFault as Fault;
        let at = |index: usize, field: usize| index * ENTRY_BYTES + field;
        let put = |place: usize, number: u32| {
            let mut bytes = valid();
            bytes[place..place + 4].copy_from_slice(&number.to_le_bytes());
            bytes
        };
        let length = u32::try_from(valid().len()).unwrap();
        let many: Vec<_> = (1..=17).map(|n| ([n; 16], b"x".as_slice())).collect();
        let rows: Vec<(Vec<u8>, Fault)> = vec![
            (
                vec![0; MAX_TABLE_BYTES + 1],
                Fault::TooLong {
                    found_bytes: MAX_TABLE_BYTES + 1,
                },
            ),
            (valid()[..23].to_vec(), Fault::NoEnd),
            (valid()[..5 * ENTRY_BYTES].to_vec(), Fault::NoEnd),
            (table(&many), Fault::NoEnd),
            (put(at(5, 16), 1), Fault::DirtyEnd),
            (put(at(5, 20), 1), Fault::DirtyEnd),
            // Into the list, behind the end, around the end of the numbers, empty, onto another.
            (put(at(0, 16), 0), Fault::Place { index: 0 }),
            (put(at(0, 16), 6 * 24 - 1), Fault::Place { index: 0 }),
            (put(at(1, 16), length), Fault::Place { index: 1 }),
            (put(at(1, 16), u32::MAX), Fault::Place { index: 1 }),
            (put(at(1, 20), u32::MAX), Fault::Place { index: 1 }),
            (put(at(2, 20), 0), Fault::Place { index: 2 }),
            (put(at(2, 16), 6 * 24 + 6), Fault::Place { index: 2 }),
            (
                table(&[(VCEK, &der(1, 5)), (VCEK, &der(1, 5))]),
                Fault::Repeated { index: 1 },
            ),
            (
                table(&[(CRL, b"a"), (CRL, b"b")]),
                Fault::Repeated { index: 1 },
            ),
            (
                table(&[(ASK, &der(1, MAX_CERTIFICATE_BYTES - 3))]),
                Fault::CertificateTooLong {
                    index: 0,
                    found_bytes: MAX_CERTIFICATE_BYTES + 1,
                },
            ),
            (put(at(3, 20), 1004), Fault::NotDer { index: 3 }),
            (table(&[(ASK, b"-----BEGIN")]), Fault::NotDer { index: 0 }),
            (table(&[(ASK, b"\x30\x80\0\0")]), Fault::NotDer { index: 0 }),
            (
                table(&[(ASK, b"\x30\x81\x01\0")]),
                Fault::NotDer { index: 0 },
            ),
            (
                table(&[(ASK, b"\x30\x82\x00\x01\0")]),
                Fault::NotDer { index: 0 },
            ),
        ];
        for (row, (bytes, expected)) in rows.into_iter().enumerate() {
            assert_eq!(CertificateTable::parse(&bytes), Err(expected), "row {row}");
        }
    }

    #[test]
    fn no_mutation_panics() {
        let valid = valid();
        for place in 0..valid.len().min(200) {
            for value in [0, 1, 0x7F, 0x80, 0xFF] {
                let mut bytes = valid.clone();
                bytes[place] = value;
                drop(CertificateTable::parse(&bytes));
            }
            drop(CertificateTable::parse(&valid[..place]));
        }
    }
}
