//! Length-prefixed bytes: the one way in which this crate concatenates before it hashes, signs or sends.
//!
//! Each part is preceded by its length as 8 bytes, big endian, so that two different lists of parts can never have
//! the same encoding.

use ring::digest;

/// Writes parts.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A writer whose first part is `domain`, the name of what is written.
    pub(crate) fn new(domain: &str) -> Self {
        let mut writer = Self::default();
        writer.part(domain.as_bytes());
        writer
    }

    /// Appends one part.
    pub(crate) fn part(&mut self, part: &[u8]) -> &mut Self {
        // A length that does not fit 64 bits cannot exist in memory.
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(part);
        self
    }

    /// Appends a number as a part of 8 bytes, big endian.
    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        self.part(&number.to_be_bytes())
    }

    /// What was written.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads parts, each within a bound that the caller names.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

/// Why a canonical encoding could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// The bytes end inside a part.
    #[error("the encoding ends inside a part")]
    Truncated,
    /// A part is longer than this field may be.
    #[error("a part of {found_bytes} bytes where at most {max_bytes} are allowed")]
    TooLong {
        /// The length that the prefix states.
        found_bytes: u64,
        /// The most this field may have.
        max_bytes: usize,
    },
    /// A part of fixed length has another one.
    #[error("a part of {found_bytes} bytes where {expected_bytes} are needed")]
    WrongLength {
        /// The length of the part.
        found_bytes: usize,
        /// The length it must have.
        expected_bytes: usize,
    },
    /// The first part is not the name of this encoding and version.
    #[error("the encoding is of another kind or version")]
    WrongDomain,
    /// Bytes follow the last part.
    #[error("{count_bytes} bytes follow the last part")]
    Trailing {
        /// How many.
        count_bytes: usize,
    },
}

impl<'a> Reader<'a> {
    /// Starts to read `bytes`, whose first part must be `domain`.
    pub(crate) fn new(bytes: &'a [u8], domain: &str) -> Result<Self, CanonicalError> {
        let mut reader = Self { rest: bytes };
        match reader.part(domain.len()) {
            Ok(found) if found == domain.as_bytes() => Ok(reader),
            Ok(_) | Err(CanonicalError::TooLong { .. }) => Err(CanonicalError::WrongDomain),
            Err(error) => Err(error),
        }
    }

    /// The next part, of at most `max_bytes`.
    pub(crate) fn part(&mut self, max_bytes: usize) -> Result<&'a [u8], CanonicalError> {
        let (prefix, rest) = self
            .rest
            .split_first_chunk::<8>()
            .ok_or(CanonicalError::Truncated)?;
        let found_bytes = u64::from_be_bytes(*prefix);
        let too_long = CanonicalError::TooLong {
            found_bytes,
            max_bytes,
        };
        let length = usize::try_from(found_bytes).map_err(|_| too_long)?;
        if length > max_bytes {
            return Err(too_long);
        }
        let (part, rest) = rest
            .split_at_checked(length)
            .ok_or(CanonicalError::Truncated)?;
        self.rest = rest;
        Ok(part)
    }

    /// The next part, of exactly `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], CanonicalError> {
        let part = self.part(N)?;
        part.try_into().map_err(|_| CanonicalError::WrongLength {
            found_bytes: part.len(),
            expected_bytes: N,
        })
    }

    /// The next part as a number of 8 bytes, big endian.
    pub(crate) fn number(&mut self) -> Result<u64, CanonicalError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Ends the reading: nothing may follow.
    pub(crate) fn finish(self) -> Result<(), CanonicalError> {
        match self.rest.len() {
            0 => Ok(()),
            count_bytes => Err(CanonicalError::Trailing { count_bytes }),
        }
    }
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    // SHA-256 yields 32 bytes: the two slices have the same length.
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// SHA-512.
pub(crate) fn sha512(bytes: &[u8]) -> [u8; 64] {
    let mut out = [0; 64];
    // SHA-512 yields 64 bytes: the two slices have the same length.
    out.copy_from_slice(digest::digest(&digest::SHA512, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_parts() -> Vec<u8> {
        let mut writer = Writer::new("a/v1");
        writer.part(b"one").number(7);
        writer.finish()
    }

    #[test]
    fn parts_come_back_as_written() {
        let bytes = two_parts();
        let mut reader = Reader::new(&bytes, "a/v1").unwrap();
        assert_eq!(reader.part(3), Ok(b"one".as_slice()));
        assert_eq!(reader.number(), Ok(7));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn moving_a_byte_between_parts_changes_the_encoding() {
        let mut left = Writer::new("a/v1");
        left.part(b"ab").part(b"c");
        let mut right = Writer::new("a/v1");
        right.part(b"a").part(b"bc");
        assert_ne!(left.finish(), right.finish());
    }

    #[test]
    fn every_truncation_and_any_suffix_is_refused() {
        let bytes = two_parts();
        let read = |bytes: &[u8]| -> Result<(), CanonicalError> {
            let mut reader = Reader::new(bytes, "a/v1")?;
            reader.part(3)?;
            reader.number()?;
            reader.finish()
        };
        for length in 0..bytes.len() {
            assert_eq!(
                read(&bytes[..length]),
                Err(CanonicalError::Truncated),
                "{length}"
            );
        }
        let longer = [bytes.as_slice(), b"x"].concat();
        assert_eq!(
            read(&longer),
            Err(CanonicalError::Trailing { count_bytes: 1 })
        );
    }

    #[test]
    fn a_length_beyond_the_bound_is_refused_before_it_is_read() {
        let mut bytes = Writer::new("a/v1").finish();
        bytes.extend_from_slice(&u64::MAX.to_be_bytes());
        let mut reader = Reader::new(&bytes, "a/v1").unwrap();
        assert_eq!(
            reader.part(16),
            Err(CanonicalError::TooLong {
                found_bytes: u64::MAX,
                max_bytes: 16
            })
        );
    }

    #[test]
    fn another_domain_is_refused() {
        let bytes = two_parts();
        assert_eq!(
            Reader::new(&bytes, "a/v2").err(),
            Some(CanonicalError::WrongDomain)
        );
        assert_eq!(
            Reader::new(&bytes, "a").err(),
            Some(CanonicalError::WrongDomain)
        );
    }
}
