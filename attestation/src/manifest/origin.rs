//! A web origin in its one normal form: scheme, host, port, and nothing else.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// How an origin is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Without TLS: local origins only.
    Http,
    /// With TLS.
    Https,
}

/// An origin [RFC 6454 §4] in normal form: lower case, no default port, no path, no trailing slash. Two origins are
/// the same if their texts are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    text: String,
    scheme: Scheme,
    host: String,
    port: u16,
}

/// Text that is no origin in normal form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Neither `https://` nor `http://`.
    #[error("must begin with https:// or http://")]
    Scheme,
    /// The host is empty or has characters that no normal host has.
    #[error("must have a host in lower case, without user, path, query or fragment")]
    Host,
    /// The port is no number from 1 to 65535 or is the default one.
    #[error("must have a port from 1 to 65535, and none if it is the default")]
    Port,
    /// Without TLS and not local.
    #[error("must be https unless the host is on loopback or under .test or .localhost")]
    NotSecure,
}

impl OriginError {
    /// The rule that is broken.
    pub(crate) const fn rule(self) -> &'static str {
        match self {
            Self::Scheme => "must begin with https:// or http://",
            Self::Host => "must have a host in lower case, without user, path, query or fragment",
            Self::Port => "must have a port from 1 to 65535, and none if it is the default",
            Self::NotSecure => {
                "must be https unless the host is on loopback or under .test or .localhost"
            }
        }
    }
}

impl Origin {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The scheme.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host, an IPv6 address without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, also when it is the default one.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether only this machine can mean it: loopback, or a name that no public DNS has [RFC 6761 §6.2, §6.3].
    #[must_use]
    pub fn is_local(&self) -> bool {
        let under = |top: &str| {
            self.host == top
                || self
                    .host
                    .strip_suffix(top)
                    .is_some_and(|name| name.ends_with('.'))
        };
        under("localhost")
            || under("test")
            || self
                .host
                .parse::<Ipv4Addr>()
                .is_ok_and(|address| address.is_loopback())
            || self
                .host
                .parse::<Ipv6Addr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let (scheme, authority, default_port) =
            match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
                (Some(authority), _) => (Scheme::Https, authority, 443),
                (None, Some(authority)) => (Scheme::Http, authority, 80),
                (None, None) => return Err(OriginError::Scheme),
            };
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']').ok_or(OriginError::Host)?;
                let normal = address
                    .parse::<Ipv6Addr>()
                    .map_err(|_| OriginError::Host)?
                    .to_string();
                if normal != address {
                    return Err(OriginError::Host);
                }
                match port.strip_prefix(':') {
                    Some(port) => (address, Some(port)),
                    None if port.is_empty() => (address, None),
                    None => return Err(OriginError::Host),
                }
            }
            None => {
                let (host, port) = authority
                    .split_once(':')
                    .map_or((authority, None), |(host, port)| (host, Some(port)));
                if !is_host(host) {
                    return Err(OriginError::Host);
                }
                (host, port)
            }
        };
        let port = match port {
            None => default_port,
            Some(port) => explicit_port(port, default_port)?,
        };
        let origin = Self {
            text: text.to_owned(),
            scheme,
            host: host.to_owned(),
            port,
        };
        match scheme {
            Scheme::Http if !origin.is_local() => Err(OriginError::NotSecure),
            Scheme::Http | Scheme::Https => Ok(origin),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn explicit_port(text: &str, default_port: u16) -> Result<u16, OriginError> {
    let digits = text.bytes().all(|c| c.is_ascii_digit()) && !text.starts_with('0');
    match text.parse::<u16>() {
        Ok(port) if digits && port != default_port => Ok(port),
        Ok(_) | Err(_) => Err(OriginError::Port),
    }
}

/// A name of labels, or an IPv4 address in its normal form.
fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // What looks like a number in the last label must be an address as it is commonly written: `127.1` and
    // `2130706433` are other spellings of 127.0.0.1 to some resolvers.
    let numeric = host
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|c| c.is_ascii_digit()) || last.starts_with("0x"));
    host.len() <= 253
        && host.split('.').all(is_label)
        && (!numeric
            || host
                .parse::<Ipv4Addr>()
                .is_ok_and(|address| address.to_string() == host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_in_normal_form_are_read() {
        let rows = [
            (
                "https://tokens.example",
                Scheme::Https,
                "tokens.example",
                443,
                false,
            ),
            (
                "https://tokens.example:8443",
                Scheme::Https,
                "tokens.example",
                8443,
                false,
            ),
            (
                "http://127.0.0.1:8080",
                Scheme::Http,
                "127.0.0.1",
                8080,
                true,
            ),
            ("https://[::1]:8443", Scheme::Https, "::1", 8443, true),
            ("http://localhost", Scheme::Http, "localhost", 80, true),
            ("http://a.localhost:1", Scheme::Http, "a.localhost", 1, true),
            (
                "https://issuer.test",
                Scheme::Https,
                "issuer.test",
                443,
                true,
            ),
            (
                "https://notlocalhost",
                Scheme::Https,
                "notlocalhost",
                443,
                false,
            ),
            ("https://attest", Scheme::Https, "attest", 443, false),
            (
                "https://localhost.example",
                Scheme::Https,
                "localhost.example",
                443,
                false,
            ),
            ("https://128.0.0.1", Scheme::Https, "128.0.0.1", 443, false),
        ];
        for (text, scheme, host, port, local) in rows {
            let origin: Origin = text.parse().unwrap();
            assert_eq!(
                (
                    origin.scheme(),
                    origin.host(),
                    origin.port(),
                    origin.is_local()
                ),
                (scheme, host, port, local),
                "{text}"
            );
            assert_eq!(origin.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_origin_in_normal_form_is_refused() {
        let rows = [
            ("", OriginError::Scheme),
            ("tokens.example", OriginError::Scheme),
            ("HTTPS://tokens.example", OriginError::Scheme),
            ("ftp://tokens.example", OriginError::Scheme),
            ("https://", OriginError::Host),
            ("https://Tokens.example", OriginError::Host),
            ("https://tokens.example/", OriginError::Host),
            ("https://tokens.example/path", OriginError::Host),
            ("https://user@tokens.example", OriginError::Host),
            ("https://tokens..example", OriginError::Host),
            ("https://-tokens.example", OriginError::Host),
            ("https://127.1", OriginError::Host),
            ("https://2130706433", OriginError::Host),
            ("https://0x7f000001", OriginError::Host),
            ("https://127.0.0.01", OriginError::Host),
            ("https://[::1", OriginError::Host),
            ("https://[::0001]", OriginError::Host),
            ("https://[::1]x", OriginError::Host),
            ("https://tokens.example:", OriginError::Port),
            ("https://tokens.example:443", OriginError::Port),
            ("https://tokens.example:0", OriginError::Port),
            ("https://tokens.example:+1", OriginError::Port),
            ("https://tokens.example:08443", OriginError::Port),
            ("https://tokens.example:65536", OriginError::Port),
            ("https://tokens.example:1/", OriginError::Port),
            ("http://tokens.example", OriginError::NotSecure),
            ("http://10.0.0.1", OriginError::NotSecure),
        ];
        for (text, error) in rows {
            assert_eq!(text.parse::<Origin>(), Err(error), "{text}");
        }
    }
}
