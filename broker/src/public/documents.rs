//! The documents: issuer metadata [RFC 8414] and the signing keys [RFC 7517].

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use enclave::Enclave;
use enclave::keys::keyring::EarlierTokenKey;
use serde_json::json;

use super::{INTROSPECTION_PATH, REVOCATION_PATH};
use crate::shell::Shell;

/// Seconds that others may keep the keys: as long as a token lives.
const MAX_AGE: &str = "public, max-age=300";

/// The documents' routes.
pub(super) fn router(shell: &Arc<Shell>) -> Router {
    Router::new()
        .route(
            "/.well-known/oauth-authorization-server",
            get(|State(shell): State<Arc<Shell>>| async move {
                document("application/json", metadata(&shell.enclave))
            }),
        )
        .route(
            "/jwks.json",
            get(|State(shell): State<Arc<Shell>>| async move {
                document("application/jwk-set+json", jwks(&shell.enclave))
            }),
        )
        .with_state(Arc::clone(shell))
}

fn document(kind: &'static str, body: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, MAX_AGE)], body).into_response()
}

fn metadata(enclave: &Enclave) -> Vec<u8> {
    let config = enclave.config();
    let origin = &config.public_origin;
    // With a certificate at the aliases: by its key, or by its SPIFFE ID.
    let methods = [
        "private_key_jwt",
        "self_signed_tls_client_auth",
        "tls_client_auth",
    ];
    let gateway = &config.gateway_origin;
    let algs = ["ES256", "EdDSA"];
    // No authorization endpoint: clients are services, and ask by themselves.
    let metadata = json!({
        "issuer": config.issuer,
        "jwks_uri": format!("{origin}/jwks.json"),
        "token_endpoint": config.token_endpoint(),
        "token_endpoint_auth_methods_supported": methods,
        "token_endpoint_auth_signing_alg_values_supported": algs,
        "introspection_endpoint": format!("{origin}{INTROSPECTION_PATH}"),
        "introspection_endpoint_auth_methods_supported": methods,
        "introspection_endpoint_auth_signing_alg_values_supported": algs,
        "revocation_endpoint": format!("{origin}{REVOCATION_PATH}"),
        "revocation_endpoint_auth_methods_supported": methods,
        "revocation_endpoint_auth_signing_alg_values_supported": algs,
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "dpop_signing_alg_values_supported": algs,
        "tls_client_certificate_bound_access_tokens": true,
        "mtls_endpoint_aliases": {
            "token_endpoint": config.mtls_token_endpoint(),
            "introspection_endpoint": format!("{gateway}{INTROSPECTION_PATH}"),
            "revocation_endpoint": format!("{gateway}{REVOCATION_PATH}"),
        },
    });
    metadata.to_string().into_bytes()
}

/// The key that signs, and those before it whose tokens may still be good.
fn jwks(enclave: &Enclave) -> Vec<u8> {
    let keys = enclave.keys();
    let earlier = |key: &EarlierTokenKey| key.public_key().to_json_with_kid(key.kid());
    let current = keys.token().public_key();
    let current = current.to_json_with_kid(keys.token().kid());
    let all: Vec<String> = std::iter::once(current)
        .chain(keys.earlier_tokens().iter().map(earlier))
        .collect();
    format!("{{\"keys\":[{}]}}", all.join(",")).into_bytes()
}
