//! Error answers of the OAuth endpoints [RFC 6749 §5.2].

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

/// Why a request at an OAuth endpoint is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OAuthError {
    /// A parameter is missing, repeated or ill-formed.
    #[error("invalid_request")]
    InvalidRequest(&'static str),
    /// Unknown client, or its authentication failed; `basic` if it used the `Authorization` header.
    #[error("invalid_client")]
    InvalidClient {
        /// Whether the answer must challenge for `Basic`.
        basic: bool,
    },
    /// The refresh token is unknown, used, expired, revoked or another client's.
    #[error("invalid_grant")]
    InvalidGrant(&'static str),
    /// More scope than was granted.
    #[error("invalid_scope")]
    InvalidScope,
    /// Not `refresh_token`.
    #[error("unsupported_grant_type")]
    UnsupportedGrantType,
    /// The provider itself failed.
    #[error("server_error")]
    Server,
}

impl OAuthError {
    fn status(self) -> StatusCode {
        match self {
            Self::InvalidClient { .. } => StatusCode::UNAUTHORIZED,
            Self::Server => StatusCode::INTERNAL_SERVER_ERROR,
            Self::InvalidRequest(_)
            | Self::InvalidGrant(_)
            | Self::InvalidScope
            | Self::UnsupportedGrantType => StatusCode::BAD_REQUEST,
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::InvalidRequest(why) | Self::InvalidGrant(why) => why,
            Self::InvalidClient { .. } => "client authentication failed",
            Self::InvalidScope => "the scope exceeds what was granted",
            Self::UnsupportedGrantType => "only refresh_token is supported",
            Self::Server => "the provider failed",
        }
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let body = json!({
            "error": self.to_string(),
            "error_description": self.description(),
        });
        let mut response = (self.status(), Json(body)).into_response();
        forbid_caching(&mut response);
        if self == (Self::InvalidClient { basic: true }) {
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"testkit\""),
            );
        }
        response
    }
}

/// Marks an answer that carries, or might carry, a token [RFC 6749 §5.1].
pub(crate) fn forbid_caching(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
}
