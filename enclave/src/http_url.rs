//! Absolute `http` and `https` URLs of providers, read strictly.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use url::{Host, Url};

/// The longest URL in bytes.
pub const MAX_URL_BYTES: usize = 2_048;

/// Why a text is no URL of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HttpUrlError {
    /// It has more than [`MAX_URL_BYTES`] bytes.
    #[error("must have at most 2048 characters")]
    TooLong,
    /// It is not an absolute URL in normal form: what a parser would repair is
    /// refused instead.
    #[error("must be an absolute URL in normal form")]
    NotNormal,
    /// Its scheme is neither `https` nor `http`.
    #[error("must be https")]
    Scheme,
    /// It is `http` to a host that is not loopback.
    #[error("http is for loopback addresses only: use https")]
    Cleartext,
    /// It has user information, a query or a fragment.
    #[error("must have no user information, query or fragment")]
    Extra,
}

/// An absolute URL in normal form, without user information, query and fragment:
/// `https`, or `http` to a loopback address.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HttpUrl(Url);

impl HttpUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`HttpUrlError`] says which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, HttpUrlError> {
        if text.len() > MAX_URL_BYTES {
            return Err(HttpUrlError::TooLong);
        }
        let url = Url::parse(text).map_err(|_| HttpUrlError::NotNormal)?;
        // A URL without a path is normal too: the parser adds the slash.
        if url.as_str() != text && url.as_str().strip_suffix('/') != Some(text) {
            return Err(HttpUrlError::NotNormal);
        }
        if !matches!(url.scheme(), "https" | "http") {
            return Err(HttpUrlError::Scheme);
        }
        let extra = !url.username().is_empty()
            || url.password().is_some()
            || url.query().is_some()
            || url.fragment().is_some();
        if extra {
            return Err(HttpUrlError::Extra);
        }
        let url = Self(url);
        if !url.is_https() && !url.is_loopback() {
            return Err(HttpUrlError::Cleartext);
        }
        Ok(url)
    }

    /// The whole URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether the connection is to be TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    /// Whether the host is a loopback address or `localhost`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            None => false,
        }
    }

    /// The host: a name, or an address (an IPv6 one without brackets).
    #[must_use]
    pub fn host(&self) -> String {
        match self.0.host() {
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(Host::Domain(name)) => name.to_owned(),
            None => String::new(),
        }
    }

    /// The same URL at a host below this one's: `a.b.example` below `b.example`. None if
    /// this one's is an address or the other is not below it, in lower case and without
    /// a dot at its end.
    #[must_use]
    pub fn at_host_below(&self, host: &str) -> Option<Self> {
        let Some(Host::Domain(parent)) = self.0.host() else {
            return None;
        };
        let labels = host.strip_suffix(parent)?.strip_suffix('.')?;
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if host.len() > 253 || !labels.split('.').all(is_label) {
            return None;
        }
        let mut url = self.0.clone();
        url.set_host(Some(host)).ok()?;
        // A parser that reads another host into it (IDNA) is not followed.
        (url.host_str() == Some(host)).then_some(Self(url))
    }

    /// Whether the host is a name of two labels or more.
    #[must_use]
    pub fn has_domain(&self) -> bool {
        matches!(self.0.host(), Some(Host::Domain(name)) if name.contains('.'))
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(443)
    }

    /// Host and port as the header `Host` writes them.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.0.authority()
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", self.0.scheme(), self.0.authority())
    }

    /// The same scheme, host and port, without the path.
    #[must_use]
    pub fn without_path(&self) -> Self {
        let mut url = self.0.clone();
        url.set_path("/");
        Self(url)
    }

    /// The path, `/` at least.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.path()
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for HttpUrl {
    type Error = HttpUrlError;

    fn try_from(text: String) -> Result<Self, HttpUrlError> {
        Self::parse(&text)
    }
}

impl From<HttpUrl> for String {
    fn from(url: HttpUrl) -> Self {
        url.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_refuses() {
        let long = format!("https://a.example/{}", "x".repeat(2_048));
        let rows = [
            (
                "https://login.example/token",
                Ok("https://login.example/token"),
            ),
            ("https://login.example", Ok("https://login.example/")),
            (
                "https://login.example:8443/a/b",
                Ok("https://login.example:8443/a/b"),
            ),
            (
                "http://127.0.0.1:8080/token",
                Ok("http://127.0.0.1:8080/token"),
            ),
            ("http://[::1]:8080/token", Ok("http://[::1]:8080/token")),
            (long.as_str(), Err(HttpUrlError::TooLong)),
            ("/token", Err(HttpUrlError::NotNormal)),
            ("https://a.example/x/../y", Err(HttpUrlError::NotNormal)),
            ("https:\\\\a.example/", Err(HttpUrlError::NotNormal)),
            ("https://A.example/", Err(HttpUrlError::NotNormal)),
            ("https://a.example:443/", Err(HttpUrlError::NotNormal)),
            ("http://127.1/", Err(HttpUrlError::NotNormal)),
            (" https://a.example/", Err(HttpUrlError::NotNormal)),
            ("ftp://a.example/", Err(HttpUrlError::Scheme)),
            ("http://a.example/", Err(HttpUrlError::Cleartext)),
            ("http://10.0.0.1/", Err(HttpUrlError::Cleartext)),
            ("https://u@a.example/", Err(HttpUrlError::Extra)),
            ("https://a.example/?q=1", Err(HttpUrlError::Extra)),
            ("https://a.example/#f", Err(HttpUrlError::Extra)),
        ];
        for (text, expected) in rows {
            let found = HttpUrl::parse(text);
            assert_eq!(
                found.as_ref().map(HttpUrl::as_str),
                expected.as_ref().copied(),
                "{text}"
            );
        }
    }
}
