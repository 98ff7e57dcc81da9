//! The caller's span, as its `traceparent` names it [W3C Trace Context §3.2].

use http::{HeaderMap, HeaderName};
use thiserror::Error;

/// The header and the metadata.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Characters of version 00.
const CHARS: usize = 55;

/// A span of the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its trace.
    pub trace_id: [u8; 16],
    /// Itself.
    pub span_id: [u8; 8],
}

/// Why a value names no span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParentError {
    /// It has not the length of its version.
    #[error("not of the length of its version")]
    Length,
    /// Version `ff` is forbidden.
    #[error("version ff is forbidden")]
    Version,
    /// Its parts are not parted by `-`.
    #[error("its parts are not parted by hyphens")]
    Hyphen,
    /// A part is no lower-case hexadecimal.
    #[error("not lower-case hexadecimal")]
    Hex,
    /// An id is all zeros.
    #[error("an id of zeros")]
    Zero,
}

impl Parent {
    /// The span of the one header, if it names one.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next().filter(|_| values.next().is_none())?;
        Self::parse(value.as_bytes()).ok()
    }

    /// Reads a value. What later versions add is passed over.
    ///
    /// # Errors
    /// [`ParentError`].
    pub fn parse(value: &[u8]) -> Result<Self, ParentError> {
        let (head, rest) = value.split_at_checked(CHARS).ok_or(ParentError::Length)?;
        let mut parts = head.split(|byte| *byte == b'-');
        let mut part = || parts.next().ok_or(ParentError::Hyphen);
        let [version] = read_hex::<1>(part()?)?;
        let trace_id = read_hex::<16>(part()?)?;
        let span_id = read_hex::<8>(part()?)?;
        let [_flags] = read_hex::<1>(part()?)?;
        match (version, rest) {
            (0xff, _) => return Err(ParentError::Version),
            (0, []) | (1.., [] | [b'-', ..]) => {}
            (_, _) => return Err(ParentError::Length),
        }
        if trace_id == [0; 16] || span_id == [0; 8] {
            return Err(ParentError::Zero);
        }
        Ok(Self { trace_id, span_id })
    }
}

fn read_hex<const N: usize>(text: &[u8]) -> Result<[u8; N], ParentError> {
    let mut bytes = [0; N];
    if text.len() != N.saturating_mul(2) {
        return Err(ParentError::Hyphen);
    }
    if text.iter().any(u8::is_ascii_uppercase) {
        return Err(ParentError::Hex);
    }
    hex::decode_to_slice(text, &mut bytes).map_err(|_| ParentError::Hex)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        reason = "a test that overflows fails"
    )]

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_value_names_a_trace_and_a_span() {
        let parent = Parent::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(hex::encode(parent.trace_id), GOOD[3..35]);
        assert_eq!(hex::encode(parent.span_id), GOOD[36..52]);
        for later in ["", "-", "-what-came-later"] {
            let value = format!("cc{}{later}", &GOOD[2..]);
            assert_eq!(Parent::parse(value.as_bytes()), Ok(parent), "{value}");
        }
    }

    #[test]
    fn each_flaw_is_named() {
        use ParentError::{Hex, Hyphen, Length, Version, Zero};
        let with = |from: usize, text: &str| {
            let mut value = GOOD.to_owned();
            value.replace_range(from..from + text.len(), text);
            value
        };
        let rows = [
            (String::new(), Length),
            (GOOD[..54].to_owned(), Length),
            (format!("{GOOD}-"), Length),
            (format!("{GOOD}0"), Length),
            (format!("01{}x", &GOOD[2..]), Length),
            (with(0, "ff"), Version),
            (with(2, "0"), Hyphen),
            (with(35, "_"), Hyphen),
            (with(34, "-"), Hyphen),
            (with(52, "0"), Hyphen),
            (with(0, "0g"), Hex),
            (with(3, "A"), Hex),
            (with(20, "x"), Hex),
            (with(40, "B"), Hex),
            (with(53, "0X"), Hex),
            (with(53, "zz"), Hex),
            (with(3, &"0".repeat(32)), Zero),
            (with(36, &"0".repeat(16)), Zero),
        ];
        for (value, expected) in rows {
            assert_eq!(Parent::parse(value.as_bytes()), Err(expected), "{value}");
        }
    }

    #[test]
    fn two_headers_name_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(Parent::of(&headers), None);
        headers.append(TRACEPARENT, GOOD.parse().unwrap());
        assert!(Parent::of(&headers).is_some());
        headers.append(TRACEPARENT, GOOD.parse().unwrap());
        assert_eq!(Parent::of(&headers), None);
    }
}
