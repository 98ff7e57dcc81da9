//! Paths of the gateway: `/g/{grant}/{target}/{path}`, in one spelling only.

use thiserror::Error;

use crate::ids::{GrantId, TargetName};

/// The longest path and query together in bytes.
pub(crate) const MAX_PATH_BYTES: usize = 8 * 1024;

/// Why a path was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathError {
    /// It does not have the form `/g/{grant}/{target}`.
    #[error("the path must be /g/{{grant}}/{{target}}/…")]
    Form,
    /// It is longer than [`MAX_PATH_BYTES`].
    #[error("the path is too long")]
    TooLong,
    /// It has an empty, `.` or `..` segment, or one that becomes such or holds a
    /// separator or control character when it is decoded once more.
    #[error("the path is not in normal form")]
    NotNormal,
    /// It has a character that must be percent-encoded.
    #[error("the path or query has a character that must be percent-encoded")]
    Character,
}

/// A path of the gateway, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GatewayPath<'a> {
    pub(crate) grant: &'a str,
    pub(crate) target: &'a str,
    /// What is behind the target: empty, or `/` and more.
    pub(crate) rest: &'a str,
}

impl<'a> GatewayPath<'a> {
    pub(crate) fn parse(path: &'a str, query: Option<&str>) -> Result<Self, PathError> {
        let query = query.unwrap_or_default();
        if path.len().saturating_add(query.len()) > MAX_PATH_BYTES {
            return Err(PathError::TooLong);
        }
        let rest = path.strip_prefix("/g/").ok_or(PathError::Form)?;
        let (grant, rest) = rest.split_once('/').ok_or(PathError::Form)?;
        let (target, rest) = match rest.find('/') {
            Some(at) => rest.split_at_checked(at).ok_or(PathError::Form)?,
            None => (rest, ""),
        };
        GrantId::parse(grant).map_err(|_| PathError::Form)?;
        TargetName::parse(target).map_err(|_| PathError::Form)?;
        check_path(rest)?;
        if !query
            .bytes()
            .all(|b| is_pchar(b) || matches!(b, b'/' | b'?' | b'%'))
        {
            return Err(PathError::Character);
        }
        check_percent(query)?;
        Ok(Self {
            grant,
            target,
            rest,
        })
    }
}

/// `pchar` of RFC 3986 §3.3, `%` aside.
fn is_pchar(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&b)
}

pub(super) fn check_path(rest: &str) -> Result<(), PathError> {
    let Some(segments) = rest.strip_prefix('/') else {
        return Ok(());
    };
    if segments.is_empty() {
        return Ok(());
    }
    check_percent(segments)?;
    let mut segments = segments.split('/').peekable();
    while let Some(segment) = segments.next() {
        if !segment.bytes().all(|b| is_pchar(b) || b == b'%') {
            return Err(PathError::Character);
        }
        let decoded = decode(segment);
        let last = segments.peek().is_none();
        // Only a trailing slash leaves an empty segment.
        let empty = decoded.is_empty() && !last;
        // Servers that decode twice must not find a separator either.
        let nested = decoded.contains(&b'%');
        // `;` starts path parameters: some servers cut the segment there.
        let bare = decoded.split(|b| *b == b';').next().unwrap_or_default();
        let dots = matches!(bare, b"." | b"..");
        let foreign = decoded
            .iter()
            .any(|b| matches!(b, b'/' | b'\\') || b.is_ascii_control());
        if empty || nested || dots || foreign {
            return Err(PathError::NotNormal);
        }
    }
    Ok(())
}

fn hex(b: u8) -> Option<u8> {
    char::from(b)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// Each `%` must be followed by two hexadecimal digits.
fn check_percent(text: &str) -> Result<(), PathError> {
    let mut pieces = text.split('%');
    pieces.next();
    for piece in pieces {
        let mut digits = piece.bytes();
        let pair = digits.next().and_then(hex).zip(digits.next().and_then(hex));
        let (high, low) = pair.ok_or(PathError::Character)?;
        let byte = (high << 4) | low;
        // One spelling: what stands for itself is not escaped [RFC 3986 §6.2.2.2].
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            return Err(PathError::NotNormal);
        }
    }
    Ok(())
}

fn decode(segment: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(b);
            continue;
        }
        let pair = bytes.next().and_then(hex).zip(bytes.next().and_then(hex));
        if let Some((high, low)) = pair {
            out.push((high << 4) | low);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_prefix_is_taken_off() {
        let parse = |path| GatewayPath::parse(path, None).map(|p| (p.grant, p.target, p.rest));
        assert_eq!(parse("/g/crm/api"), Ok(("crm", "api", "")));
        assert_eq!(parse("/g/crm/api/"), Ok(("crm", "api", "/")));
        assert_eq!(parse("/g/crm/api/a/b.c"), Ok(("crm", "api", "/a/b.c")));
        assert_eq!(parse("/g/crm/api/a%20b/"), Ok(("crm", "api", "/a%20b/")));
        assert_eq!(parse("/g/crm/api/...;v=1"), Ok(("crm", "api", "/...;v=1")));
    }

    #[test]
    fn each_odd_path_is_refused() {
        let long = format!("/g/crm/api/{}", "x".repeat(MAX_PATH_BYTES));
        let rows = [
            ("", None, PathError::Form),
            ("/", None, PathError::Form),
            ("/g/crm", None, PathError::Form),
            ("/g//api/x", None, PathError::Form),
            ("/g/crm//x", None, PathError::Form),
            ("/G/crm/api", None, PathError::Form),
            ("/g/../crm/api", None, PathError::Form),
            ("/g/crm%2fx/api", None, PathError::Form),
            ("http://evil.example/g/crm/api", None, PathError::Form),
            (long.as_str(), None, PathError::TooLong),
            ("/g/crm/api/../x", None, PathError::NotNormal),
            ("/g/crm/api/a/./x", None, PathError::NotNormal),
            ("/g/crm/api//x", None, PathError::NotNormal),
            ("/g/crm/api/%2e%2e/x", None, PathError::NotNormal),
            ("/g/crm/api/.%2E/x", None, PathError::NotNormal),
            ("/g/crm/api/..;/x", None, PathError::NotNormal),
            ("/g/crm/api/%2e.;a=b/x", None, PathError::NotNormal),
            ("/g/crm/api/a%2fb", None, PathError::NotNormal),
            ("/g/crm/api/a%5Cb", None, PathError::NotNormal),
            ("/g/crm/api/a%00b", None, PathError::NotNormal),
            ("/g/crm/api/a%0d%0ab", None, PathError::NotNormal),
            ("/g/crm/api/%252e%252e/x", None, PathError::NotNormal),
            ("/g/crm/api/a\\b", None, PathError::Character),
            ("/g/crm/api/a b", None, PathError::Character),
            ("/g/crm/api/%41", None, PathError::NotNormal),
            ("/g/crm/api/x", Some("a=%41"), PathError::NotNormal),
            ("/g/crm/api/%zz", None, PathError::Character),
            ("/g/crm/api/%2", None, PathError::Character),
            ("/g/crm/api/é", None, PathError::Character),
            ("/g/crm/api/x", Some("a=\u{e9}"), PathError::Character),
            ("/g/crm/api/x", Some("a=%g0"), PathError::Character),
            ("/g/crm/api/x", Some("a b"), PathError::Character),
        ];
        for (path, query, expected) in rows {
            let found = GatewayPath::parse(path, query);
            assert_eq!(found, Err(expected), "{path:.60} {query:?}");
        }
    }

    proptest! {
        #[test]
        fn no_path_panics(path: String, query: String) {
            // What is accepted is a part of what came in.
            let long = format!("/g/a/b/{path}");
            for path in [path.as_str(), long.as_str()] {
                if let Ok(found) = GatewayPath::parse(path, Some(&query)) {
                    prop_assert!(path.ends_with(found.rest));
                }
            }
        }
    }
}
