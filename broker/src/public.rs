//! The public door, for ordinary OAuth libraries: documents, and the endpoints
//! for tokens.
//!
//! The endpoints ask the same core as the gRPC services. They answer in the words
//! of the RFCs and say no more.

mod documents;
mod endpoints;
mod form;
mod problem;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;

use crate::shell::Shell;

/// Where tokens are introspected, behind the public origin.
pub const INTROSPECTION_PATH: &str = "/introspect";

/// Where tokens are revoked, behind the public origin.
pub const REVOCATION_PATH: &str = "/revoke";

/// The longest form in bytes: an assertion, a token and the rest.
pub const MAX_FORM_BYTES: usize = 16 * 1024;

/// The routes.
pub fn router(shell: &Arc<Shell>) -> Router {
    let documents = documents::router(&shell.enclave);
    let endpoints = Router::new()
        .route(
            enclave::issue::TOKEN_ENDPOINT_PATH,
            post(endpoints::token).fallback(problem::not_post),
        )
        .route(
            INTROSPECTION_PATH,
            post(endpoints::introspect).fallback(problem::not_post),
        )
        .route(
            REVOCATION_PATH,
            post(endpoints::revoke).fallback(problem::not_post),
        )
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .with_state(Arc::clone(shell));
    documents.merge(endpoints)
}
