//! Standard padded base64, refused unless it is the one canonical encoding [RFC 4648 §4].

use base64ct::{Base64, Encoding};

/// Encodes with padding.
pub(crate) fn encode(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

/// Decodes; `None` for a foreign character, missing padding or non-zero trailing bits.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    Base64::decode_vec(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_encoding_is_read() {
        assert_eq!(decode("AQ=="), Some(vec![1]));
        for refused in ["AQ", "AQ=", "AR==", "AQ==\n", " AQ==", "A-==", "AQ===", "A"] {
            assert_eq!(decode(refused), None, "{refused:?}");
        }
        assert_eq!(encode(&[1]), "AQ==");
    }
}
