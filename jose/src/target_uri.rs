//! The URI that a proof names [RFC 9449 §4.3 #9], in a closed grammar that needs no repair.
//!
//! `http` or `https`, a host, an optional port, a path. Scheme and host are compared without case, the
//! default port is the same as none, an empty path the same as `/` [RFC 3986 §6.2.2.1, §6.2.3]; all
//! else byte by byte. What another reader might rewrite (escapes of characters that stand for themselves
//! or of separators, backslashes, dot segments, doubled slashes, user information, anything outside
//! printable ASCII) is refused, not normalised.

/// Longest URI that is read.
pub const MAX_TARGET_URI_BYTES: usize = 2048;

/// The text is not an absolute `http` or `https` URI of the closed grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a plain absolute http or https URI")]
pub struct NotTargetUri;

/// A target URI without query and fragment. Equality is that of the module's description.
#[derive(Debug, Clone, Copy)]
pub struct TargetUri<'a> {
    https: bool,
    host: &'a str,
    port: u16,
    path: &'a str,
    /// What it was read from, up to the query; empty if it was not read as a whole.
    text: &'a str,
}

impl<'a> TargetUri<'a> {
    /// Reads `uri`; its query and fragment are left out.
    ///
    /// # Errors
    /// [`NotTargetUri`].
    pub fn parse(uri: &'a str) -> Result<Self, NotTargetUri> {
        if uri.len() > MAX_TARGET_URI_BYTES || !uri.bytes().all(|byte| matches!(byte, 0x21..=0x7e))
        {
            return Err(NotTargetUri);
        }
        let end = uri.find(['?', '#']).unwrap_or(uri.len());
        let uri = uri.get(..end).unwrap_or_default();
        let (https, rest) = scheme(uri).ok_or(NotTargetUri)?;
        let path_start = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(path_start).ok_or(NotTargetUri)?;
        let (host, port) = host_and_port(authority, https).ok_or(NotTargetUri)?;
        Self {
            https,
            host,
            port,
            path: "/",
            text: "",
        }
        .with_path(if path.is_empty() { "/" } else { path })
        .map(|read| Self { text: uri, ..read })
    }

    /// Whether `uri` names the same target. The very text that this was read from does, and is not read again.
    ///
    /// # Errors
    /// [`NotTargetUri`] as by [`parse`](Self::parse).
    pub fn is_named_by(&self, uri: &str) -> Result<bool, NotTargetUri> {
        if !self.text.is_empty() && uri == self.text {
            return Ok(true);
        }
        TargetUri::parse(uri).map(|other| other == *self)
    }

    /// The same scheme, host and port with another path, which begins with `/`.
    ///
    /// # Errors
    /// [`NotTargetUri`] when `path` is outside the grammar or holds a query or fragment.
    pub fn with_path<'b>(self, path: &'b str) -> Result<TargetUri<'b>, NotTargetUri>
    where
        'a: 'b,
    {
        if path.len() > MAX_TARGET_URI_BYTES || !is_plain_path(path) {
            return Err(NotTargetUri);
        }
        Ok(TargetUri {
            https: self.https,
            host: self.host,
            port: self.port,
            path,
            text: "",
        })
    }
}

impl PartialEq for TargetUri<'_> {
    fn eq(&self, other: &Self) -> bool {
        let Self {
            https,
            host,
            port,
            path,
            text: _,
        } = *self;
        https == other.https
            && host.eq_ignore_ascii_case(other.host)
            && port == other.port
            && path == other.path
    }
}

impl Eq for TargetUri<'_> {}

fn scheme(uri: &str) -> Option<(bool, &str)> {
    let (scheme, rest) = uri.split_once("://")?;
    if scheme.eq_ignore_ascii_case("https") {
        Some((true, rest))
    } else if scheme.eq_ignore_ascii_case("http") {
        Some((false, rest))
    } else {
        None
    }
}

fn host_and_port(authority: &str, https: bool) -> Option<(&str, u16)> {
    // The brackets of an IPv6 address are part of the host, its colons do not begin a port.
    let host_end = match authority.strip_prefix('[') {
        Some(_) => authority.find(']')?.checked_add(1)?,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at_checked(host_end)?;
    let is_host = match host
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'))
    {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
        }
    };
    if !is_host {
        return None;
    }
    let port = match rest.strip_prefix(':') {
        // A leading zero or sign would be a second text for one port.
        Some(digits)
            if digits
                .bytes()
                .next()
                .is_some_and(|first| matches!(first, b'1'..=b'9')) =>
        {
            digits.parse().ok()?
        }
        Some(_) => return None,
        None if rest.is_empty() => {
            if https {
                443
            } else {
                80
            }
        }
        None => return None,
    };
    Some((host, port))
}

/// `/`-separated segments of characters that RFC 3986 §3.3 allows bare, none empty but the last, none
/// `.` or `..`.
fn is_plain_path(path: &str) -> bool {
    let is_plain = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'.'
                    | b'_'
                    | b'~'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b','
                    | b';'
                    | b'='
                    | b':'
                    | b'@'
            )
    };
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    if rest.is_empty() {
        return true;
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    rest.split('/').all(|segment| {
        !segment.is_empty() && segment != "." && segment != ".." && {
            let mut pieces = segment.split('%');
            let first = pieces.next().unwrap_or_default();
            first.bytes().all(is_plain)
                && pieces.all(|piece| match piece.split_at_checked(2) {
                    Some((octet, rest)) => is_needed_escape(octet) && rest.bytes().all(is_plain),
                    None => false,
                })
        }
    })
}

/// Whether an octet, as two hexadecimal digits, is one that only an escape can carry: no character that
/// stands for itself, no separator, no `%` for a second decoding, no control character.
fn is_needed_escape(octet: &str) -> bool {
    let mut digits = octet.chars().map(|digit| digit.to_digit(16));
    let (Some(Some(high)), Some(Some(low))) = (digits.next(), digits.next()) else {
        return false;
    };
    let Ok(byte) = u8::try_from((high << 4) | low) else {
        return false;
    };
    let stands_for_itself =
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    !stands_for_itself && !byte.is_ascii_control() && !matches!(byte, b'/' | b'\\' | b'%')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_by_the_rules_of_rfc_3986() {
        let target = TargetUri::parse("https://api.example/a/B").unwrap();
        for same in [
            "https://api.example/a/B",
            "HTTPS://API.Example/a/B",
            "https://api.example:443/a/B",
            "https://api.example/a/B?q=%zz..//",
            "https://api.example/a/B#f",
            "https://api.example/a/B?q#f",
        ] {
            assert_eq!(TargetUri::parse(same), Ok(target), "{same}");
            assert_eq!(target.is_named_by(same), Ok(true), "{same}");
        }
        assert_eq!(
            TargetUri::parse("http://h"),
            TargetUri::parse("http://h:80/")
        );
        assert_eq!(
            TargetUri::parse("https://h?q"),
            TargetUri::parse("https://h/")
        );
        assert_eq!(
            TargetUri::parse("https://[::1]:8443/x"),
            TargetUri::parse("https://[::1]:8443/x?y")
        );
        assert_eq!(
            TargetUri::parse("https://api.example")
                .unwrap()
                .with_path("/a/B"),
            Ok(target)
        );
    }

    #[test]
    fn the_size_bounds_hold_exactly() {
        let uri = |bytes: usize| format!("https://h/{}", "a".repeat(bytes - 10));
        assert!(TargetUri::parse(&uri(MAX_TARGET_URI_BYTES)).is_ok());
        assert!(TargetUri::parse(&uri(MAX_TARGET_URI_BYTES + 1)).is_err());
        let base = TargetUri::parse("https://h").unwrap();
        let path = |bytes: usize| format!("/{}", "a".repeat(bytes - 1));
        assert!(base.with_path(&path(MAX_TARGET_URI_BYTES)).is_ok());
        assert!(base.with_path(&path(MAX_TARGET_URI_BYTES + 1)).is_err());
    }

    /// [RFC 3986 §2.1, §6.2.2.2]
    #[test]
    fn an_escape_is_taken_where_nothing_else_can_carry_the_octet() {
        let parse = |path: &str| TargetUri::parse(&format!("https://h{path}")).map(drop);
        for path in ["/a%20b", "/%E2%82%AC", "/a%22", "/x/%c3%a9y/z", "/%20/"] {
            assert_eq!(parse(path), Ok(()), "{path}");
        }
        // A letter, separators, a second decoding, control characters, no octet, and a character that needs an escape.
        for path in [
            "/%41", "/%2d", "/%2F", "/%5c", "/%25", "/%00", "/%7f", "/%", "/%2", "/%zz", "/%2z",
            "/a%20\"", "/a%20b|c",
        ] {
            assert_eq!(parse(path), Err(NotTargetUri), "{path}");
        }
    }

    #[test]
    fn each_part_counts() {
        let target = TargetUri::parse("https://api.example/a/B").unwrap();
        for other in [
            "http://api.example/a/B",
            "http://api.example:443/a/B",
            "https://api.example:8443/a/B",
            "https://api.example.:443/a/B",
            "https://api.example.evil/a/B",
            "https://api.example/a/b",
            "https://api.example/a/B/",
            "https://api.example/a",
            "https://api.example/",
        ] {
            assert_ne!(TargetUri::parse(other).unwrap(), target, "{other}");
            assert_eq!(target.is_named_by(other), Ok(false), "{other}");
        }
    }

    #[test]
    fn what_a_reader_might_repair_is_refused() {
        let long = format!("https://h/{}", "a".repeat(MAX_TARGET_URI_BYTES));
        for bad in [
            "",
            "/a/B",
            "//h/a",
            "https:h/a",
            "https:/h/a",
            "https:///a",
            "ftp://h/a",
            "httpss://h/a",
            "https://u@h/a",
            "https://u:p@h/a",
            "https://h:/a",
            "https://h:0443/a",
            "https://h:+443/a",
            "https://h:65536/a",
            "https://h:0/a",
            "https://h:a/a",
            "https://h\\a",
            "https://h/a\\b",
            "https://h/a%2fb",
            "https://h/%41",
            "https://h/a%00",
            "https://h/a%zz",
            "https://%68/a",
            "https://h/a/../b",
            "https://h/./a",
            "https://h/..",
            "https://h//a",
            "https://h/a//",
            "https://h/a//b",
            "https://h/a\tb",
            " https://h/a",
            "https://h/a ",
            "https://h/a?b c",
            "https://h/\u{e9}",
            "https://\u{ff48}/a",
            "https://h\u{ad}/a",
            "https://[::1/a",
            "https://[::1]x/a",
            "https://[zz]/a",
            "https://[]/a",
            "https://h/a|b",
            "https://h/a\"",
            "https://h_/a",
            "?https://h/",
            &long,
        ] {
            assert_eq!(TargetUri::parse(bad), Err(NotTargetUri), "{bad:?}");
            let target = TargetUri::parse("https://h/").unwrap();
            assert_eq!(target.is_named_by(bad), Err(NotTargetUri), "{bad:?}");
        }
        let origin = TargetUri::parse("https://h").unwrap();
        // One that was put together is read from no text.
        let put_together = origin.with_path("/a").unwrap();
        assert_eq!(put_together.is_named_by(""), Err(NotTargetUri));
        assert_eq!(put_together.is_named_by("https://h/a"), Ok(true));
        for bad in [
            "", "a", "/a?q", "/a#f", "/a//b", "/..", "/a%2F", "/%", "/%2", "/a%2e", "/%25", "/%zz",
            "/%é",
        ] {
            assert_eq!(origin.with_path(bad), Err(NotTargetUri), "{bad:?}");
        }
    }
}
