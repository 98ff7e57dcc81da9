//! What an OAuth library learns of a refusal [RFC 6749 §5.2; RFC 9449 §5].

use std::time::Duration;

use axum::Json;
use axum::http::header::{ALLOW, CACHE_CONTROL, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tonic::Code;

use super::form::FormError;
use crate::room::Shed;
use crate::status::Refusal;

/// A refusal in the words of the RFCs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OauthError {
    pub(super) status: StatusCode,
    pub(super) error: &'static str,
    description: String,
    retry_after_s: Option<u64>,
}

impl OauthError {
    pub(super) fn new(error: &'static str, description: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error,
            description: printable(description),
            retry_after_s: None,
        }
    }

    pub(super) fn request(description: &str) -> Self {
        Self::new("invalid_request", description)
    }
}

/// The characters that a description may have [RFC 6749 §5.2].
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '"' | '\\' => '\'',
            ' '..='~' => c,
            _ => '?',
        })
        .collect()
}

impl From<FormError> for OauthError {
    fn from(error: FormError) -> Self {
        let code = match error {
            // One audience a token.
            FormError::Repeated { resource: true } => "invalid_target",
            FormError::Repeated { resource: false }
            | FormError::ContentType
            | FormError::Body
            | FormError::Encoding
            | FormError::TooMany
            | FormError::Query
            | FormError::Missing(_) => "invalid_request",
        };
        Self::new(code, &error.to_string())
    }
}

impl From<&Refusal> for OauthError {
    fn from(refusal: &Refusal) -> Self {
        let (status, otherwise) = match refusal.code {
            Code::Unauthenticated if refusal.oauth_error == Some("invalid_client") => {
                (StatusCode::UNAUTHORIZED, "invalid_client")
            }
            Code::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "slow_down"),
            Code::Unavailable | Code::Aborted | Code::DeadlineExceeded => {
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
            }
            Code::Unauthenticated
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange => (StatusCode::BAD_REQUEST, "invalid_request"),
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        };
        let mut description = refusal.message.clone();
        if let Some(clocks) = refusal.clocks {
            let (claimed_s, server_s) = (clocks.claimed_s, clocks.server_s);
            description = format!("{description} (it says {claimed_s}, the server {server_s})");
        }
        Self {
            status,
            error: refusal.oauth_error.unwrap_or(otherwise),
            description: printable(&description),
            retry_after_s: refusal.retry_after.map(whole_s),
        }
    }
}

/// In whole seconds, upward.
fn whole_s(after: Duration) -> u64 {
    u64::try_from(after.as_millis().div_ceil(1_000)).map_or(u64::MAX, |s| s.max(1))
}

impl From<Refusal> for OauthError {
    fn from(refusal: Refusal) -> Self {
        Self::from(&refusal)
    }
}

impl IntoResponse for OauthError {
    fn into_response(self) -> Response {
        let Self {
            status,
            error,
            description,
            retry_after_s,
        } = self;
        let body = Json(json!({ "error": error, "error_description": description }));
        let mut response = (status, body).into_response();
        if let Some(after_s) = retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, after_s.into());
        }
        response
    }
}

/// The answer to a request that there is no room for.
pub(super) fn turned_away(shed: Shed) -> Response {
    let refusal = OauthError {
        status: StatusCode::SERVICE_UNAVAILABLE,
        ..OauthError::from(Refusal::from(shed))
    };
    let mut answer = refusal.into_response();
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// The answer to another method than POST.
pub(super) async fn not_post() -> Response {
    let allow = [(ALLOW, HeaderValue::from_static("POST"))];
    (StatusCode::METHOD_NOT_ALLOWED, allow).into_response()
}
