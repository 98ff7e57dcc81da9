//! Where a request goes: scheme, host and port.

use std::fmt;
use thiserror::Error;
use url::{Host, Url};

/// Why a URL names no origin that we connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OriginError {
    /// Neither `https` nor `http`.
    #[error("the URL's scheme is neither https nor http")]
    Scheme,
    /// The URL has a user name or password.
    #[error("the URL has a user name or password")]
    Userinfo,
    /// The URL has no host or port.
    #[error("the URL has no host")]
    Host,
}

/// The origin of a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    secure: bool,
    host: Host<String>,
    port: u16,
}

impl Origin {
    /// The origin of a URL.
    ///
    /// # Errors
    /// Any [`OriginError`].
    pub fn of(url: &Url) -> Result<Self, OriginError> {
        let secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(OriginError::Scheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(OriginError::Userinfo);
        }
        Ok(Self {
            secure,
            host: url.host().ok_or(OriginError::Host)?.to_owned(),
            port: url.port_or_known_default().ok_or(OriginError::Host)?,
        })
    }

    /// Whether it is `https`. Without it only loopback is connected to.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    pub(super) fn host(&self) -> &Host<String> {
        &self.host
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The value of the `Host` header: without the port if it is the scheme's.
    pub(super) fn authority(&self) -> String {
        match (self.secure, self.port) {
            (true, 443) | (false, 80) => self.host.to_string(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_its_origin() {
        for (url, origin, authority) in [
            (
                "https://login.example/a?b",
                "https://login.example",
                "login.example",
            ),
            (
                "https://login.example:8443/",
                "https://login.example:8443",
                "login.example:8443",
            ),
            ("http://127.0.0.1:80/", "http://127.0.0.1", "127.0.0.1"),
            ("https://[::1]:9/", "https://[::1]:9", "[::1]:9"),
        ] {
            let parsed = Origin::of(&Url::parse(url).unwrap()).unwrap();
            assert_eq!(parsed.to_string(), origin);
            assert_eq!(parsed.authority(), authority);
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for (url, expected) in [
            ("ftp://example/", OriginError::Scheme),
            ("data:text/plain,x", OriginError::Scheme),
            ("https://user@example/", OriginError::Userinfo),
            ("https://:pass@example/", OriginError::Userinfo),
        ] {
            assert_eq!(
                Origin::of(&Url::parse(url).unwrap()),
                Err(expected),
                "{url}"
            );
        }
    }
}
