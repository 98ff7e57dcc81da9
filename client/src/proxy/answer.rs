//! Answers to local programs: the API's or the gateway's as they stream, and this side's own.

use std::error::Error as StdError;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use serde_json::json;

use super::request::Refused;
use crate::gateway::{CallError, GatewayResponse};

/// A body to a local program.
pub(super) type LocalBody = UnsyncBoxBody<Bytes, Box<dyn StdError + Send + Sync>>;

/// Says who answered: `api`, `gateway` or, here, `proxy`.
const ANSWERED_BY: HeaderName = HeaderName::from_static("tokenkeep-answered-by");

/// Headers of the connection to the gateway, and what is between it and this side.
const LEFT_BEHIND: [HeaderName; 7] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TRAILER,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("dpop-nonce"),
];

/// What the gateway answered, with its references made relative: a program goes on through the proxy.
pub(super) fn passed_on(resource: &str, response: GatewayResponse) -> Response<LocalBody> {
    let (status, from, body) = response.into_parts();
    let mut answer = Response::new(body.map_err(Into::into).boxed_unsync());
    *answer.status_mut() = status;
    *answer.headers_mut() = headers(resource, &from);
    answer
}

/// The answer to a request that is not sent on.
pub(super) fn refused(refused: Refused) -> Response<LocalBody> {
    let (status, reason, detail) = match refused {
        Refused::ForwardProxy => (
            StatusCode::BAD_REQUEST,
            "NOT_A_FORWARD_PROXY",
            "make this address the base URL of the API, not the HTTP proxy of the program",
        ),
        Refused::Host => (
            StatusCode::MISDIRECTED_REQUEST,
            "WRONG_HOST",
            "the header Host must name loopback and this port",
        ),
        Refused::WebPage => (
            StatusCode::FORBIDDEN,
            "WEB_PAGE",
            "a web page may not use the proxy: call it from a program",
        ),
    };
    problem(status, reason, detail)
}

/// The answer when the gateway gave none.
pub(super) fn failed(error: &CallError) -> Response<LocalBody> {
    let (status, reason) = match error {
        CallError::Url(_) | CallError::Header { .. } | CallError::Request(_) => {
            (StatusCode::BAD_REQUEST, "INVALID_REQUEST")
        }
        CallError::RequestBody(_) => (StatusCode::BAD_REQUEST, "REQUEST_BROKE_OFF"),
        CallError::Token(_) => (StatusCode::BAD_GATEWAY, "NO_TOKEN"),
        CallError::Signer(_) => (StatusCode::INTERNAL_SERVER_ERROR, "NO_PROOF"),
        CallError::Transport(_) | CallError::Body(_) => {
            (StatusCode::BAD_GATEWAY, "GATEWAY_UNREACHABLE")
        }
        CallError::Idle => (StatusCode::GATEWAY_TIMEOUT, "GATEWAY_SILENT"),
    };
    let mut detail = error.to_string();
    let mut cause = error.source();
    while let Some(why) = cause {
        let why_text = why.to_string();
        // A transparent error repeats its source.
        if !detail.ends_with(&why_text) {
            detail.push_str(": ");
            detail.push_str(&why_text);
        }
        cause = why.source();
    }
    problem(status, reason, &detail)
}

/// Problem details [RFC 9457], in the gateway's own form.
fn problem(status: StatusCode, reason: &str, detail: &str) -> Response<LocalBody> {
    let body = json!({
        "title": status.canonical_reason().unwrap_or("Error"),
        "status": status.as_u16(),
        "detail": detail,
        "reason": reason,
    });
    let body = Full::new(Bytes::from(body.to_string()));
    let mut answer = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    let kind = HeaderValue::from_static("application/problem+json");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(ANSWERED_BY, HeaderValue::from_static("proxy"));
    answer
}

fn headers(resource: &str, from: &HeaderMap) -> HeaderMap {
    // The challenge is for token and proof, which the program does not have: an API's own never comes this far.
    let challenged = from
        .get(ANSWERED_BY)
        .is_none_or(|who| who.as_bytes() != b"api");
    let mut to = HeaderMap::new();
    for (name, value) in from {
        if LEFT_BEHIND.contains(name) || (challenged && *name == header::WWW_AUTHENTICATE) {
            continue;
        }
        to.append(name, relative(resource, name, value));
    }
    to
}

/// A value with URLs of the resource made paths of the proxy.
fn relative(resource: &str, name: &HeaderName, value: &HeaderValue) -> HeaderValue {
    let Ok(text) = value.to_str() else {
        return value.clone();
    };
    let text = if *name == header::LOCATION || *name == header::CONTENT_LOCATION {
        match text.strip_prefix(resource) {
            Some(rest) => path(rest),
            None => return value.clone(),
        }
    } else if *name == header::LINK {
        text.split(&format!("<{resource}"))
            .enumerate()
            .map(|(at, piece)| match at {
                0 => piece.to_owned(),
                _ => format!("<{}", path(piece)),
            })
            .collect()
    } else {
        return value.clone();
    };
    HeaderValue::try_from(text).unwrap_or_else(|_| value.clone())
}

/// What follows the resource, as a reference from the proxy's root.
fn path(rest: &str) -> String {
    if rest.starts_with('/') {
        rest.to_owned()
    } else {
        format!("/{rest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_lead_through_the_proxy() {
        let resource = "https://g.test/g/acme/api";
        let rows = [
            ("location", "https://g.test/g/acme/api/a?b#c", "/a?b#c"),
            ("location", "https://g.test/g/acme/api", "/"),
            ("location", "https://g.test/g/acme/api?b", "/?b"),
            ("content-location", "https://g.test/g/acme/api/a", "/a"),
            ("location", "https://other.test/a", "https://other.test/a"),
            (
                "link",
                "<https://g.test/g/acme/api/a?p=2>; rel=next, <https://g.test/g/acme/api?p=9>; rel=last",
                "</a?p=2>; rel=next, </?p=9>; rel=last",
            ),
            (
                "etag",
                "https://g.test/g/acme/api/a",
                "https://g.test/g/acme/api/a",
            ),
        ];
        for (name, value, expected) in rows {
            let name = HeaderName::from_static(name);
            let value = HeaderValue::from_static(value);
            assert_eq!(
                relative(resource, &name, &value),
                expected,
                "{name}: {value:?}"
            );
        }
    }

    #[test]
    fn a_challenge_stays_between_gateway_and_proxy() {
        let mut from = HeaderMap::new();
        from.insert("www-authenticate", HeaderValue::from_static("DPoP"));
        from.insert("dpop-nonce", HeaderValue::from_static("n"));
        from.insert("etag", HeaderValue::from_static("e"));
        let to = headers("https://g.test/g/a/b", &from);
        let names: Vec<&str> = to.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["etag"]);
    }
}
