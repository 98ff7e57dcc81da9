//! Headers that pass: lists of names, everything else stays behind.

use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};
use thiserror::Error;

use super::echo::{EchoFilter, Echoed};
use super::references::References;

/// Request headers that are forwarded to an API. No credential, no header of the
/// connection or its framing, and nothing that names another address is among them.
const REQUEST: [HeaderName; 16] = [
    header::ACCEPT,
    header::ACCEPT_LANGUAGE,
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
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
const ANSWER_DROPPED: [HeaderName; 16] = [
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
    header::REFRESH,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("authentication-info"),
    HeaderName::from_static("dpop-nonce"),
    HeaderName::from_static("clear-site-data"),
];

/// The headers of a request that are forwarded. What `Connection` nominates is for
/// us alone [RFC 9110 §7.6.1].
pub(super) fn request_headers(from: &HeaderMap) -> HeaderMap {
    let nominated = nominated(from);
    let mut to = HeaderMap::new();
    for name in &REQUEST {
        if nominated.iter().any(|n| n == name.as_str()) {
            continue;
        }
        for value in from.get_all(name) {
            to.append(name, value.clone());
        }
    }
    to
}

/// Why an API's answer can't be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AnswerError {
    /// A header repeats the bearer.
    #[error(transparent)]
    Echoed(#[from] Echoed),
    /// It is encoded, though only `identity` was asked for: nobody could see an
    /// echo in it.
    #[error("the API's answer has a content encoding that was not asked for")]
    Encoded,
}

/// The headers of an API's answer that are passed on.
///
/// Names that `Connection` nominates are dropped too [RFC 9110 §7.6.1].
pub(super) fn answer_headers(
    references: &References,
    echo: &EchoFilter,
    from: &HeaderMap,
) -> Result<HeaderMap, AnswerError> {
    let encoded = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"identity");
    if from.get_all(header::CONTENT_ENCODING).iter().any(encoded) {
        return Err(AnswerError::Encoded);
    }
    let nominated = nominated(from);
    let mut to = HeaderMap::new();
    for (name, value) in from {
        if echo.found_in(value.as_bytes()) {
            return Err(Echoed.into());
        }
        if ANSWER_DROPPED.contains(name) || nominated.iter().any(|n| n == name.as_str()) {
            continue;
        }
        if let Some(value) = passed_on(references, name, value) {
            to.append(name, value);
        }
    }
    Ok(to)
}

/// The names that `Connection` lists, in lower case.
fn nominated(headers: &HeaderMap) -> Vec<String> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect()
}

/// A header's value, with references rewritten.
fn passed_on(
    references: &References,
    name: &HeaderName,
    value: &HeaderValue,
) -> Option<HeaderValue> {
    let rewritten = if *name == header::LINK {
        references.rewrite_links(value.to_str().ok()?)?
    } else if *name == header::LOCATION || *name == header::CONTENT_LOCATION {
        references.rewrite(value.to_str().ok()?)?
    } else {
        return Some(value.clone());
    };
    HeaderValue::try_from(rewritten).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::echo::Needles;
    use super::*;
    use crate::http_url::HttpUrl;

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
            ("accept-language", "en"),
            ("connection", "accept-language, close"),
            ("upgrade", "websocket"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
            ("accept-encoding", "br"),
        ]);
        let to = request_headers(&from);
        assert_eq!(to, map(&[("accept", "application/json")]));
    }

    fn answer(from: &[(&'static str, &'static str)]) -> Result<HeaderMap, AnswerError> {
        let base = HttpUrl::parse("https://api.example/v1").unwrap();
        let references = References::new(&base, "/v1/x", "https://gw.example/g/a/b").unwrap();
        let needles = Needles::new(b"bearer-canary-1").map(Arc::new);
        answer_headers(&references, &EchoFilter::new(needles), &map(from))
    }

    #[test]
    fn an_answer_sets_no_state_and_asks_for_nothing() {
        let found = answer(&[
            ("content-type", "application/json"),
            ("etag", "1"),
            ("content-encoding", "identity"),
            ("set-cookie", "a=b"),
            ("www-authenticate", "Bearer"),
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("refresh", "0; url=https://evil.example"),
            ("dpop-nonce", "n"),
        ]);
        let kept = map(&[
            ("content-type", "application/json"),
            ("etag", "1"),
            ("content-encoding", "identity"),
        ]);
        assert_eq!(found, Ok(kept));
    }

    #[test]
    fn references_lead_through_the_gateway_or_nowhere() {
        let found = answer(&[
            ("location", "/v1/y"),
            ("content-location", "https://elsewhere.example/"),
            (
                "link",
                "<z>; rel=next, <https://elsewhere.example/>; rel=help",
            ),
        ]);
        let kept = map(&[
            ("location", "https://gw.example/g/a/b/y"),
            ("link", "<https://gw.example/g/a/b/z>; rel=next"),
        ]);
        assert_eq!(found, Ok(kept));
    }

    #[test]
    fn an_answer_that_repeats_the_bearer_or_hides_it_is_refused() {
        let echoed = AnswerError::Echoed(Echoed);
        for (header, error) in [
            (("x-debug", "authorization=bearer-canary-1"), echoed),
            (("location", "/v1/y?token=bearer%2dcanary-1"), echoed),
            // Dropped or not.
            (("set-cookie", "t=YmVhcmVyLWNhbmFyeS0x"), echoed),
            (("content-encoding", "gzip"), AnswerError::Encoded),
            (("content-encoding", "identity, br"), AnswerError::Encoded),
        ] {
            assert_eq!(answer(&[header]), Err(error), "{header:?}");
        }
    }
}
