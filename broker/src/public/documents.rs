//! The documents: issuer metadata [RFC 8414] and the signing keys [RFC 7517].

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use enclave::Enclave;
use serde_json::json;

use super::{INTROSPECTION_PATH, REVOCATION_PATH};

/// Seconds that others may keep the keys: as long as a token lives.
const MAX_AGE: &str = "public, max-age=300";

/// The documents, made once a boot.
#[derive(Debug)]
struct Documents {
    metadata: Vec<u8>,
    jwks: Vec<u8>,
}

/// The documents' routes.
pub(super) fn router(enclave: &Enclave) -> Router {
    let documents = Arc::new(Documents {
        metadata: metadata(enclave),
        jwks: jwks(enclave),
    });
    Router::new()
        .route(
            "/.well-known/oauth-authorization-server",
            get(|State(documents): State<Arc<Documents>>| async move {
                document("application/json", documents.metadata.clone())
            }),
        )
        .route(
            "/jwks.json",
            get(|State(documents): State<Arc<Documents>>| async move {
                document("application/jwk-set+json", documents.jwks.clone())
            }),
        )
        .with_state(documents)
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

fn jwks(enclave: &Enclave) -> Vec<u8> {
    let key = enclave.keys().token();
    let jwk = key.public_key().to_json_with_kid(key.kid());
    format!("{{\"keys\":[{jwk}]}}").into_bytes()
}
