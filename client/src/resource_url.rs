//! URLs of the gateway: which grant, target and resource indicator one belongs to.

use url::Url;

use crate::origin::Origin;

/// The longest URL that is sent, bytes.
pub const MAX_URL_BYTES: usize = 8 * 1024;

/// The longest id of a grant or target, bytes.
const MAX_ID_BYTES: usize = 63;

/// `{gateway}/g/{grant}/{target}` and what follows, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceUrl {
    grant: String,
    target: String,
    resource: String,
    path_and_query: String,
    htu: String,
}

/// Why a URL cannot be called through the gateway.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceUrlError {
    /// Longer than [`MAX_URL_BYTES`].
    #[error("the URL has more than {MAX_URL_BYTES} characters")]
    TooLong,
    /// A parser would read it differently from how it is written: dot segments, spaces, control characters, a
    /// fragment, user information. What is signed must be what is sent.
    #[error("the URL is not an absolute https URL in normal form")]
    NotNormal,
    /// It is at another place than the attested gateway.
    #[error("the URL is at {found}; the enclave's gateway is {gateway}")]
    OtherOrigin {
        /// Where it is.
        found: Origin,
        /// Where the gateway is.
        gateway: Origin,
    },
    /// Its path does not begin with grant and target.
    #[error("the URL's path must begin with /g/GRANT/TARGET")]
    Form,
    /// The attested gateway origin itself cannot be used.
    #[error("the enclave names {found:?} as its gateway, which is no https origin")]
    Gateway {
        /// What it names.
        found: String,
    },
}

impl ResourceUrl {
    /// Takes a URL apart. `gateway_origin` is that of the key bundle, and the resource indicator begins with it
    /// character by character.
    ///
    /// # Errors
    /// [`ResourceUrlError`].
    pub fn parse(text: &str, gateway_origin: &str) -> Result<Self, ResourceUrlError> {
        if text.len() > MAX_URL_BYTES {
            return Err(ResourceUrlError::TooLong);
        }
        let gateway_origin = gateway_origin.trim_end_matches('/');
        let gateway = Origin::parse(gateway_origin).map_err(|_| ResourceUrlError::Gateway {
            found: gateway_origin.to_owned(),
        })?;
        let url = Url::parse(text).map_err(|_| ResourceUrlError::NotNormal)?;
        let found = Origin::of(&url).map_err(|_| ResourceUrlError::NotNormal)?;
        let path_and_query = text
            .split_once("://")
            .and_then(|(_scheme, rest)| rest.find('/').and_then(|at| rest.get(at..)))
            .ok_or(ResourceUrlError::Form)?;
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        if url.path() != path || url.query() != query || url.fragment().is_some() {
            return Err(ResourceUrlError::NotNormal);
        }
        if found != gateway {
            return Err(ResourceUrlError::OtherOrigin { found, gateway });
        }
        let mut segments = path
            .strip_prefix("/g/")
            .ok_or(ResourceUrlError::Form)?
            .split('/');
        let grant = segments.next().filter(|id| is_id(id));
        let target = segments.next().filter(|id| is_id(id));
        let (Some(grant), Some(target)) = (grant, target) else {
            return Err(ResourceUrlError::Form);
        };
        Ok(Self {
            resource: format!("{gateway_origin}/g/{grant}/{target}"),
            htu: format!("{gateway_origin}{path}"),
            grant: grant.to_owned(),
            target: target.to_owned(),
            path_and_query: path_and_query.to_owned(),
        })
    }

    /// The grant.
    #[must_use]
    pub fn grant(&self) -> &str {
        &self.grant
    }

    /// The target.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The resource indicator [RFC 8707], which is the token's `aud`.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// What is sent as path and query.
    #[must_use]
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// What a proof names: the URL without its query [RFC 9449 §4.2].
    #[must_use]
    pub fn htu(&self) -> &str {
        &self.htu
    }
}

/// 1 to 63 of `a-z`, `0-9` and single `-` inside.
fn is_id(text: &str) -> bool {
    (1..=MAX_ID_BYTES).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: &str = "https://gw.example:8445";

    #[test]
    fn the_prefix_is_found() {
        for (url, resource, rest) in [
            ("/g/acme-crm/api", "/g/acme-crm/api", "/g/acme-crm/api"),
            ("/g/a/b/", "/g/a/b", "/g/a/b/"),
            ("/g/a/b?x=1", "/g/a/b", "/g/a/b?x=1"),
            ("/g/a/b/v1/c?x=/g/z/y", "/g/a/b", "/g/a/b/v1/c?x=/g/z/y"),
            ("/g/a/b/c%20d", "/g/a/b", "/g/a/b/c%20d"),
            ("/g/a/b/c?", "/g/a/b", "/g/a/b/c?"),
        ] {
            let found = ResourceUrl::parse(&format!("{GATEWAY}{url}"), GATEWAY).unwrap();
            assert_eq!(found.resource(), format!("{GATEWAY}{resource}"), "{url}");
            assert_eq!(found.path_and_query(), rest, "{url}");
            let path = rest.split('?').next().unwrap();
            assert_eq!(found.htu(), format!("{GATEWAY}{path}"), "{url}");
        }
    }

    #[test]
    fn the_resource_is_spelled_as_the_enclave_spells_it() {
        let found = ResourceUrl::parse("https://GW.example:443/g/a/b/c", "https://gw.example");
        assert_eq!(found.unwrap().resource(), "https://gw.example/g/a/b");
        let found = ResourceUrl::parse("https://gw.example/g/a/b/c", "https://gw.example/");
        assert_eq!(found.unwrap().htu(), "https://gw.example/g/a/b/c");
    }

    #[test]
    fn each_url_that_is_not_the_gateways_is_refused() {
        let long = format!("{GATEWAY}/g/a/b/{}", "x".repeat(MAX_URL_BYTES));
        let long_id = format!("{GATEWAY}/g/{}/b", "x".repeat(64));
        for (url, error) in [
            (long.as_str(), ResourceUrlError::TooLong),
            (long_id.as_str(), ResourceUrlError::Form),
            ("", ResourceUrlError::NotNormal),
            ("/g/a/b", ResourceUrlError::NotNormal),
            ("http://gw.example:8445/g/a/b", ResourceUrlError::NotNormal),
            (
                "https://u@gw.example:8445/g/a/b",
                ResourceUrlError::NotNormal,
            ),
            (
                "https://gw.example:8445/g/a/b#f",
                ResourceUrlError::NotNormal,
            ),
            (
                "https://gw.example:8445/g/a/b/../c",
                ResourceUrlError::NotNormal,
            ),
            (
                "https://gw.example:8445/g/a/b/%2e%2e/c",
                ResourceUrlError::NotNormal,
            ),
            (
                "https://gw.example:8445/g/a/b/c d",
                ResourceUrlError::NotNormal,
            ),
            (
                "https://gw.example:8445/g/a/b/c?d e",
                ResourceUrlError::NotNormal,
            ),
            (
                "https://gw.example:8445/g/a/b\\c",
                ResourceUrlError::NotNormal,
            ),
            (
                "https://gw.example:8445\\g/a/b",
                ResourceUrlError::NotNormal,
            ),
            (
                "https://gw.example:8445/g/a/b\n",
                ResourceUrlError::NotNormal,
            ),
            ("https://gw.example:8445", ResourceUrlError::Form),
            ("https://gw.example:8445/", ResourceUrlError::Form),
            ("https://gw.example:8445/g/a", ResourceUrlError::Form),
            ("https://gw.example:8445/g/a/", ResourceUrlError::Form),
            ("https://gw.example:8445/g//b", ResourceUrlError::Form),
            ("https://gw.example:8445/x/a/b", ResourceUrlError::Form),
            ("https://gw.example:8445/g/A/b", ResourceUrlError::Form),
            ("https://gw.example:8445/g/a/-b", ResourceUrlError::Form),
            ("https://gw.example:8445/g/a/b--c", ResourceUrlError::Form),
            ("https://gw.example:8445/g/a%2Fb/c", ResourceUrlError::Form),
        ] {
            assert_eq!(ResourceUrl::parse(url, GATEWAY), Err(error), "{url:.60}");
        }
        let evil = "https://gw.example.evil:8445/g/a/b";
        assert_eq!(
            ResourceUrl::parse(evil, GATEWAY),
            Err(ResourceUrlError::OtherOrigin {
                found: Origin::parse("https://gw.example.evil:8445").unwrap(),
                gateway: Origin::parse(GATEWAY).unwrap(),
            })
        );
        assert_eq!(
            ResourceUrl::parse("https://gw.example/g/a/b", "http://gw.example"),
            Err(ResourceUrlError::Gateway {
                found: "http://gw.example".to_owned()
            })
        );
    }
}
