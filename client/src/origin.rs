//! Where a service is: an `https` origin.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use rustls_pki_types::ServerName;
use url::{Host, Url};

/// The longest origin that is read, bytes.
pub const MAX_ORIGIN_BYTES: usize = 512;

/// The default port of `https` [RFC 9110 §4.2.2].
const HTTPS_PORT: u16 = 443;

/// Scheme `https`, a host and a port. Equality does not see case of the host or a spelled-out default port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    host: Host<String>,
    port: u16,
}

/// Why a text is no origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Longer than [`MAX_ORIGIN_BYTES`].
    #[error("the URL has more than {MAX_ORIGIN_BYTES} characters")]
    TooLong,
    /// No absolute URL.
    #[error("not an absolute URL")]
    NotUrl,
    /// Another scheme than `https`: there is no way to speak to the service in clear.
    #[error("the URL must begin with https://")]
    Scheme,
    /// There is a path, a query, a fragment or user information.
    #[error("the URL must name host and port only")]
    Extra,
}

impl Origin {
    /// Reads an origin such as `https://tokenkeep.example:8443`; a `/` at its end is allowed.
    ///
    /// # Errors
    /// [`OriginError`].
    pub fn parse(text: &str) -> Result<Self, OriginError> {
        if text.len() > MAX_ORIGIN_BYTES {
            return Err(OriginError::TooLong);
        }
        let url = Url::parse(text).map_err(|_| OriginError::NotUrl)?;
        if !matches!(url.path(), "/" | "") || url.query().is_some() || url.fragment().is_some() {
            return Err(OriginError::Extra);
        }
        Self::of(&url)
    }

    /// The origin of a URL.
    ///
    /// # Errors
    /// [`OriginError::Scheme`], and [`OriginError::Extra`] for user information.
    pub fn of(url: &Url) -> Result<Self, OriginError> {
        if url.scheme() != "https" {
            return Err(OriginError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(OriginError::Extra);
        }
        let host = url.host().ok_or(OriginError::NotUrl)?.to_owned();
        Ok(Self {
            host,
            port: url.port().unwrap_or(HTTPS_PORT),
        })
    }

    /// The name that the server's certificate must have.
    #[must_use]
    pub fn server_name(&self) -> Option<ServerName<'static>> {
        match &self.host {
            Host::Domain(name) => ServerName::try_from(name.clone()).ok(),
            Host::Ipv4(address) => Some(ServerName::from(std::net::IpAddr::from(*address))),
            Host::Ipv6(address) => Some(ServerName::from(std::net::IpAddr::from(*address))),
        }
    }

    /// Scheme and authority of requests.
    #[must_use]
    pub fn uri(&self) -> http::Uri {
        // An origin is always a URI; this one no peer would answer to.
        self.to_string()
            .parse()
            .unwrap_or_else(|_| http::Uri::from_static("https://invalid"))
    }

    /// What a connection goes to.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint<'_> {
        match &self.host {
            Host::Ipv4(address) => Endpoint::Addresses(vec![(*address, self.port).into()]),
            Host::Ipv6(address) => Endpoint::Addresses(vec![(*address, self.port).into()]),
            Host::Domain(name) if is_localhost(name) => Endpoint::Addresses(vec![
                (Ipv4Addr::LOCALHOST, self.port).into(),
                (Ipv6Addr::LOCALHOST, self.port).into(),
            ]),
            Host::Domain(name) => Endpoint::Name(name, self.port),
        }
    }
}

/// Addresses, or a name to be looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint<'a> {
    /// To be tried in this order.
    Addresses(Vec<SocketAddr>),
    /// A domain name and a port.
    Name(&'a str, u16),
}

/// `localhost` and names under it are loopback and never looked up [RFC 6761 §6.3].
fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if *port == HTTPS_PORT {
            write!(f, "https://{host}")
        } else {
            write!(f, "https://{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_origin_has_several_spellings_and_one_form() {
        for text in [
            "https://Keep.example",
            "https://keep.example/",
            "https://keep.example:443",
            "HTTPS://KEEP.EXAMPLE:443/",
        ] {
            assert_eq!(
                Origin::parse(text).unwrap().to_string(),
                "https://keep.example"
            );
        }
        assert_eq!(
            Origin::parse("https://[::1]:9/").unwrap().to_string(),
            "https://[::1]:9"
        );
        assert_ne!(
            Origin::parse("https://keep.example"),
            Origin::parse("https://keep.example:8443")
        );
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        let long = format!("https://{}", "a".repeat(MAX_ORIGIN_BYTES));
        for (text, error) in [
            ("", OriginError::NotUrl),
            ("keep.example:443", OriginError::Extra),
            ("https://", OriginError::NotUrl),
            ("http://keep.example", OriginError::Scheme),
            ("https://keep.example/x", OriginError::Extra),
            ("https://keep.example/?q", OriginError::Extra),
            ("https://keep.example/#f", OriginError::Extra),
            ("https://user@keep.example", OriginError::Extra),
            ("https://:pass@keep.example", OriginError::Extra),
            (long.as_str(), OriginError::TooLong),
        ] {
            assert_eq!(Origin::parse(text), Err(error), "{text:.40}");
        }
    }

    #[test]
    fn localhost_names_are_never_looked_up() {
        let loopback = |port| {
            Endpoint::Addresses(vec![
                (Ipv4Addr::LOCALHOST, port).into(),
                (Ipv6Addr::LOCALHOST, port).into(),
            ])
        };
        for (text, expected) in [
            ("https://localhost:5", loopback(5)),
            ("https://grpc.keep.localhost", loopback(443)),
            (
                "https://127.0.0.1:7",
                Endpoint::Addresses(vec![(Ipv4Addr::LOCALHOST, 7).into()]),
            ),
            ("https://notlocalhost", Endpoint::Name("notlocalhost", 443)),
        ] {
            assert_eq!(Origin::parse(text).unwrap().endpoint(), expected, "{text}");
        }
    }

    #[test]
    fn names_and_addresses_are_server_names() {
        for text in [
            "https://keep.example",
            "https://127.0.0.1",
            "https://[::1]:1",
        ] {
            assert!(
                Origin::parse(text).unwrap().server_name().is_some(),
                "{text}"
            );
        }
    }
}
