//! The tester's door, under `/_testkit/`: consent without a browser, faults, the ledger, the clock.

use axum::{
    Json, Router,
    extract::{Query, State as Shared},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::StatusCode;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::json;

use super::{
    fault::Fault,
    server::{FaultRefused, Provider},
    state::{Consent, ConsentError},
};

/// Ledger entries in one answer at most.
const MAX_PAGE: usize = 10_000;

pub(super) fn routes() -> Router<Provider> {
    Router::new()
        .route("/_testkit/consent", post(consent))
        .route("/_testkit/revoke", post(revoke))
        .route("/_testkit/grants", get(grants))
        .route("/_testkit/ledger", get(ledger))
        .route(
            "/_testkit/fault",
            get(faults).post(fault).delete(clear_faults),
        )
        .route("/_testkit/advance", post(advance))
}

async fn consent(Shared(provider): Shared<Provider>, Json(consent): Json<Consent>) -> Response {
    match provider.consent(&consent) {
        Ok(granted) => Json(json!({
            "grant": granted.grant,
            "refresh_token": granted.refresh_token.expose_secret(),
        }))
        .into_response(),
        Err(error) => {
            let status = match error {
                ConsentError::UnknownClient | ConsentError::UnknownScope => StatusCode::BAD_REQUEST,
                ConsentError::Full => StatusCode::INSUFFICIENT_STORAGE,
                ConsentError::Failed => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, error.to_string()).into_response()
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantName {
    grant: String,
}

async fn revoke(
    Shared(provider): Shared<Provider>,
    Json(GrantName { grant }): Json<GrantName>,
) -> StatusCode {
    match provider.revoke_grant(&grant) {
        Ok(true) => StatusCode::NO_CONTENT,
        Ok(false) => StatusCode::NOT_FOUND,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

async fn grants(Shared(provider): Shared<Provider>) -> Response {
    Json(provider.grants()).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Since {
    #[serde(default)]
    since: u64,
    #[serde(default = "full_page")]
    limit: usize,
}

fn full_page() -> usize {
    MAX_PAGE
}

async fn ledger(
    Shared(provider): Shared<Provider>,
    Query(Since { since, limit }): Query<Since>,
) -> Response {
    Json(provider.ledger_since(since, limit.min(MAX_PAGE))).into_response()
}

async fn fault(Shared(provider): Shared<Provider>, Json(fault): Json<Fault>) -> Response {
    match provider.fault(fault) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(FaultRefused(rule)) => (StatusCode::BAD_REQUEST, rule).into_response(),
    }
}

async fn faults(Shared(provider): Shared<Provider>) -> Response {
    Json(provider.faults()).into_response()
}

async fn clear_faults(Shared(provider): Shared<Provider>) -> StatusCode {
    provider.clear_faults();
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    ms: u64,
}

async fn advance(
    Shared(provider): Shared<Provider>,
    Json(Advance { ms }): Json<Advance>,
) -> StatusCode {
    provider.clock().advance(ms);
    StatusCode::NO_CONTENT
}
