//! Requests of local programs: which are sent on, and as what.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Version};

use super::Door;
use crate::gateway::GatewayHead;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Headers of a connection [RFC 9110 §7.6.1], those that this side sets, and a program's own credentials, which are
/// void here.
const LEFT_BEHIND: [HeaderName; 13] = [
    header::AUTHORIZATION,
    HeaderName::from_static("dpop"),
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONNECTION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];

/// Why a request is not sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// `CONNECT`, or a URL of another server: this is no forward proxy.
    ForwardProxy,
    /// It means another host: a web page may have had a name of its own point here.
    Host,
    /// It was sent by a web page.
    WebPage,
}

/// The request as the gateway is to get it.
pub(super) fn head(
    resource: &str,
    scopes: &[String],
    door: Door,
    parts: &Parts,
) -> Result<GatewayHead, Refused> {
    if parts.method == Method::CONNECT || parts.uri.scheme().is_some() {
        return Err(Refused::ForwardProxy);
    }
    let path = parts.uri.path();
    if !path.starts_with('/') {
        return Err(Refused::ForwardProxy);
    }
    if let Door::Loopback(port) = door {
        meant_for_this(&parts.headers, parts.version, port)?;
    }
    from_a_program(&parts.headers)?;
    // The target itself is asked for without the slash that each request has.
    let path = if path == "/" { "" } else { path };
    let url = match parts.uri.query() {
        Some(query) => format!("{resource}{path}?{query}"),
        None => format!("{resource}{path}"),
    };
    Ok(GatewayHead {
        method: parts.method.clone(),
        url,
        headers: headers(&parts.headers),
        scopes: scopes.to_vec(),
    })
}

/// The one `Host` is a spelling of loopback with this port.
fn meant_for_this(headers: &HeaderMap, version: Version, port: u16) -> Result<(), Refused> {
    let mut values = headers.get_all(header::HOST).iter();
    let (host, more) = (values.next(), values.next());
    let host = match host {
        Some(host) => host.to_str().map_err(|_| Refused::Host)?,
        // HTTP/1.0 may have none, and no browser speaks it.
        None if version == Version::HTTP_10 => return Ok(()),
        None => return Err(Refused::Host),
    };
    let (name, at) = match host.rsplit_once(':') {
        Some((name, at)) if !at.ends_with(']') => (name, at.parse().ok()),
        Some(_) | None => (host, Some(80)),
    };
    let loopback = ["localhost", "[::1]"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
        || name
            .parse::<std::net::Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback());
    if more.is_none() && loopback && at == Some(port) {
        Ok(())
    } else {
        Err(Refused::Host)
    }
}

/// Browsers say where a request comes from; only what a user typed has no origin.
fn from_a_program(headers: &HeaderMap) -> Result<(), Refused> {
    let typed = |value: &HeaderValue| value.as_bytes() == b"none";
    let fetched = headers
        .get_all(SEC_FETCH_SITE)
        .iter()
        .any(|value| !typed(value));
    if fetched || headers.contains_key(header::ORIGIN) {
        return Err(Refused::WebPage);
    }
    Ok(())
}

/// What the program says to the API. The gateway has its own list of what passes.
fn headers(from: &HeaderMap) -> HeaderMap {
    let nominated: Vec<String> = from
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let mut to = HeaderMap::new();
    for (name, value) in from {
        if !LEFT_BEHIND.contains(name) && !nominated.iter().any(|n| n == name.as_str()) {
            to.append(name, value.clone());
        }
    }
    to
}
