//! Headers that pass: lists of names, everything else stays behind.

use http::header::{self, HeaderName};
use http::{HeaderMap, StatusCode};

/// Request headers that are forwarded to an API. No credential, no header of the
/// connection, and nothing that names another address is among them.
const REQUEST: [HeaderName; 17] = [
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::RANGE,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("prefer"),
];

/// Answer headers that stay behind: those of the connection, those that set
/// state or ask for credentials in the API's name, and those that our own answer
/// sets.
const ANSWER_DROPPED: [HeaderName; 15] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::WWW_AUTHENTICATE,
    header::STRICT_TRANSPORT_SECURITY,
    header::ALT_SVC,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("authentication-info"),
    HeaderName::from_static("dpop-nonce"),
    HeaderName::from_static("clear-site-data"),
];

/// The headers of a request that are forwarded.
pub(super) fn request_headers(from: &HeaderMap) -> HeaderMap {
    let mut to = HeaderMap::new();
    for name in &REQUEST {
        for value in from.get_all(name) {
            to.append(name, value.clone());
        }
    }
    to
}

/// The headers of an API's answer that are passed on, for a status that is.
///
/// Names that `Connection` nominates are dropped too [RFC 9110 §7.6.1].
/// `Location` is dropped: redirects lead past the gateway.
#[must_use]
pub fn answer_headers(status: StatusCode, from: &HeaderMap) -> HeaderMap {
    let nominated: Vec<String> = from
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let mut to = HeaderMap::new();
    for (name, value) in from {
        let dropped = ANSWER_DROPPED.contains(name)
            || nominated.iter().any(|n| n == name.as_str())
            || (name == header::LOCATION && status.is_redirection());
        if !dropped {
            to.append(name, value.clone());
        }
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn no_credential_and_no_hop_by_hop_header_is_forwarded() {
        let from = map(&[
            ("accept", "application/json"),
            ("authorization", "DPoP x"),
            ("proxy-authorization", "Basic x"),
            ("dpop", "x"),
            ("cookie", "x"),
            ("x-api-key", "x"),
            ("x-forwarded-for", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("host", "evil.example"),
            ("connection", "accept"),
            ("upgrade", "websocket"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
            ("accept-encoding", "br"),
        ]);
        let to = request_headers(&from);
        assert_eq!(to, map(&[("accept", "application/json")]));
    }

    #[test]
    fn an_answer_sets_no_state_and_asks_for_nothing() {
        let from = map(&[
            ("content-type", "application/json"),
            ("etag", "1"),
            ("set-cookie", "a=b"),
            ("www-authenticate", "Bearer"),
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("location", "https://api.example/x"),
            ("dpop-nonce", "n"),
        ]);
        let kept = map(&[("content-type", "application/json"), ("etag", "1")]);
        assert_eq!(answer_headers(StatusCode::FOUND, &from), kept);
        let created = answer_headers(StatusCode::CREATED, &from);
        assert!(created.contains_key("location"));
    }
}
