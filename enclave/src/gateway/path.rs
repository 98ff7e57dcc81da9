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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GatewayPath<'a> {
    pub(crate) grant: GrantId,
    pub(crate) target: TargetName,
    /// What is behind the target: empty, or `/` and more.
    pub(crate) rest: &'a str,
}

impl<'a> GatewayPath<'a> {
    /// A path below a host that names grant and target: all of it is the API's.
    pub(crate) fn below_host(
        (grant, target): (GrantId, TargetName),
        path: &'a str,
        query: Option<&str>,
    ) -> Result<Self, PathError> {
        check_length(path, query)?;
        if !path.starts_with('/') {
            return Err(PathError::Form);
        }
        check_path(path)?;
        check_query(query)?;
        Ok(Self {
            grant,
            target,
            rest: path,
        })
    }

    /// A path that names grant and target itself.
    pub(crate) fn parse(path: &'a str, query: Option<&str>) -> Result<Self, PathError> {
        check_length(path, query)?;
        let rest = path.strip_prefix("/g/").ok_or(PathError::Form)?;
        let (grant, rest) = rest.split_once('/').ok_or(PathError::Form)?;
        let (target, rest) = match rest.find('/') {
            Some(at) => rest.split_at_checked(at).ok_or(PathError::Form)?,
            None => (rest, ""),
        };
        let grant = GrantId::parse(grant).map_err(|_| PathError::Form)?;
        let target = TargetName::parse(target).map_err(|_| PathError::Form)?;
        check_path(rest)?;
        check_query(query)?;
        Ok(Self {
            grant,
            target,
            rest,
        })
    }
}

fn check_length(path: &str, query: Option<&str>) -> Result<(), PathError> {
    let query = query.unwrap_or_default();
    if path.len().saturating_add(query.len()) > MAX_PATH_BYTES {
        return Err(PathError::TooLong);
    }
    Ok(())
}

fn check_query(query: Option<&str>) -> Result<(), PathError> {
    let query = query.unwrap_or_default();
    if !query
        .bytes()
        .all(|b| is_pchar(b) || matches!(b, b'/' | b'?' | b'%'))
    {
        return Err(PathError::Character);
    }
    check_percent(query)
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
        // Over-long UTF-8 is dots and slashes to some servers.
        let decoded = String::from_utf8(decoded).map_err(|_| PathError::NotNormal)?;
        let plain: String = decoded.chars().map(best_fit).collect();
        // Servers that decode twice must not find a separator either.
        let nested = plain.contains('%');
        // `;` starts path parameters: some servers cut the segment there.
        let bare = plain.split(';').next().unwrap_or_default();
        let dots = matches!(bare.trim(), "." | "..");
        let foreign = plain
            .chars()
            .any(|c| matches!(c, '/' | '\\') || c.is_control());
        if empty || nested || dots || foreign {
            return Err(PathError::NotNormal);
        }
    }
    Ok(())
}

/// The character that a server which maps Unicode to ASCII reads for this one.
fn best_fit(c: char) -> char {
    match c {
        '\u{ff0e}' | '\u{fe52}' | '\u{2024}' => '.',
        '\u{ff0f}' | '\u{2044}' | '\u{2215}' => '/',
        '\u{ff3c}' | '\u{fe68}' | '\u{2216}' => '\\',
        '\u{ff05}' | '\u{fe6a}' => '%',
        '\u{ff1b}' | '\u{fe54}' => ';',
        other => other,
    }
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
        let named = || {
            let grant = GrantId::parse("crm").unwrap();
            (grant, TargetName::parse("api").unwrap())
        };
        for rest in ["", "/", "/a/b.c", "/a%20b/", "/...;v=1"] {
            let path = format!("/g/crm/api{rest}");
            let (grant, target) = named();
            let expected = GatewayPath {
                grant,
                target,
                rest,
            };
            assert_eq!(GatewayPath::parse(&path, None), Ok(expected.clone()));
            if !rest.is_empty() {
                let below = GatewayPath::below_host(named(), rest, None);
                assert_eq!(below, Ok(expected));
            }
        }
        for (path, error) in [
            ("", PathError::Form),
            ("a", PathError::Form),
            ("http://x/a", PathError::Form),
            ("/../a", PathError::NotNormal),
            ("/a//b", PathError::NotNormal),
            ("/a b", PathError::Character),
        ] {
            let found = GatewayPath::below_host(named(), path, None);
            assert_eq!(found, Err(error), "{path}");
        }
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
            ("/g/crm/api/%c0%ae%c0%ae/x", None, PathError::NotNormal),
            ("/g/crm/api/a%c0%afb", None, PathError::NotNormal),
            (
                "/g/crm/api/%EF%BC%8E%EF%BC%8E/x",
                None,
                PathError::NotNormal,
            ),
            ("/g/crm/api/a%EF%BC%8Fb", None, PathError::NotNormal),
            ("/g/crm/api/a%EF%BC%85b", None, PathError::NotNormal),
            ("/g/crm/api/..%20/x", None, PathError::NotNormal),
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
