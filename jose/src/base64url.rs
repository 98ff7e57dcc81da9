//! Canonical base64url without padding [RFC 7515 §2]: one text for each byte string.

use std::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};

/// The text is not canonical base64url without padding: a foreign character, padding, an impossible
/// length, or unused trailing bits that are not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not canonical base64url without padding")]
pub struct NotBase64Url;

/// Encodes `bytes` without padding.
pub fn encode(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

/// How long so many bytes are when they are encoded, or a little more.
pub(crate) fn encoded_len(bytes: usize) -> usize {
    (bytes / 3).saturating_mul(4).saturating_add(3)
}

/// Writes `bytes` without padding, without allocating.
///
/// # Errors
/// The writer's.
pub(crate) fn write(to: &mut impl fmt::Write, bytes: &[u8]) -> fmt::Result {
    /// A multiple of three, so that nothing is left over but at the end.
    const AT_A_TIME: usize = 384;
    let mut encoded = [0; AT_A_TIME / 3 * 4];
    for part in bytes.chunks(AT_A_TIME) {
        to.write_str(Base64UrlUnpadded::encode(part, &mut encoded).map_err(|_| fmt::Error)?)?;
    }
    Ok(())
}

/// Encodes 32 bytes without padding and without allocating: a hash, a coordinate.
pub(crate) fn encode_32(bytes: &[u8; 32]) -> [u8; 43] {
    let mut text = [0; 43];
    // 43 characters hold 32 bytes, so that it does not fail.
    let written = Base64UrlUnpadded::encode(bytes, &mut text).map(str::len);
    debug_assert_eq!(written, Ok(43));
    text
}

/// Decodes `text`. The caller bounds its length first.
///
/// # Errors
/// [`NotBase64Url`] when `text` is not what [`encode`] gives for any bytes.
pub fn decode(text: &str) -> Result<Vec<u8>, NotBase64Url> {
    Base64UrlUnpadded::decode_vec(text).map_err(|_| NotBase64Url)
}

/// Decodes `text` to exactly `N` bytes, without allocating.
///
/// # Errors
/// [`NotBase64Url`] when `text` is not canonical or holds another number of bytes.
pub fn decode_array<const N: usize>(text: &str) -> Result<[u8; N], NotBase64Url> {
    let mut out = [0_u8; N];
    let written = Base64UrlUnpadded::decode(text, &mut out)
        .map_err(|_| NotBase64Url)?
        .len();
    if written == N {
        Ok(out)
    } else {
        Err(NotBase64Url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_encode_gives_is_what_decode_takes() {
        for len in 0..70_u8 {
            let bytes: Vec<u8> = (0..len)
                .map(|i| i.wrapping_mul(37).wrapping_add(len))
                .collect();
            assert_eq!(decode(&encode(&bytes)), Ok(bytes));
        }
        for len in [0, 1, 2, 3, 383, 384, 385, 768, 1_000] {
            let bytes = vec![0xa5; len];
            let mut text = "in front".to_owned();
            write(&mut text, &bytes).unwrap();
            assert_eq!(text, format!("in front{}", encode(&bytes)), "{len}");
            assert!(encoded_len(len) >= encode(&bytes).len(), "{len}");
        }
        assert_eq!(encode(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn every_other_text_is_refused() {
        for text in [
            "-_9",
            "-_8=",
            "+/8",
            "-_8 ",
            " -_8",
            "-_8\n",
            "-",
            "-_-_-",
            "-_8\u{e9}",
            "-\t_8",
        ] {
            assert_eq!(decode(text), Err(NotBase64Url), "{text:?}");
        }
        assert_eq!(decode_array::<2>("-_8"), Ok([0xfb, 0xff]));
        assert_eq!(decode_array::<3>("-_8"), Err(NotBase64Url));
        assert_eq!(decode_array::<1>("-_8"), Err(NotBase64Url));
    }
}
