//! The public door, for ordinary OAuth libraries: documents, and the endpoints
//! for tokens; and the page that owners come back to.
//!
//! The endpoints ask the same core as the gRPC services. They answer in the words
//! of the RFCs and say no more.

mod consent_page;
mod consents;
mod documents;
mod endpoints;
pub mod form;
mod logs;
mod problem;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, post};
use enclave::issue::TOKEN_ENDPOINT_PATH;
use hyper::body::Body as _;

use crate::metrics::Watch;
use crate::metrics::doors::{self, Door};
use crate::room::{Errand, Room, Seat, Shed};
use crate::seated::Seated;
use crate::shell::Shell;

/// Answers up to here leave the room before they are taken.
const SMALL_BYTES: u64 = 16 * 1024;

/// Where tokens are introspected, behind the public origin.
pub const INTROSPECTION_PATH: &str = "/introspect";

/// Where tokens are revoked, behind the public origin.
pub const REVOCATION_PATH: &str = "/revoke";

/// The longest form in bytes: an assertion, a token and the rest.
pub const MAX_FORM_BYTES: usize = 16 * 1024;

/// The routes. A request, its body included, may take `deadline` at most.
pub fn router(shell: &Arc<Shell>, room: Room, deadline: Duration) -> Router {
    let token = post(endpoints::token).fallback(problem::not_post);
    let all = documents::router(shell)
        .merge(logs::router(shell))
        .merge(consents::router(shell))
        .merge(endpoints(shell, token));
    in_time(all, shell, room, &doors::PUBLIC, deadline)
}

/// The endpoints for clients with certificates, where the listener asks for them
/// [RFC 8705 §5].
pub fn mtls_router(shell: &Arc<Shell>, room: Room, deadline: Duration) -> Router {
    let token = post(endpoints::mtls_token).fallback(problem::not_post);
    let endpoints = endpoints(shell, token);
    in_time(endpoints, shell, room, &doors::GATEWAY, deadline)
}

/// Whether a path is one of the endpoints'.
#[must_use]
pub fn is_endpoint(path: &str) -> bool {
    [TOKEN_ENDPOINT_PATH, INTROSPECTION_PATH, REVOCATION_PATH].contains(&path)
}

fn endpoints(shell: &Arc<Shell>, token: MethodRouter<Arc<Shell>>) -> Router {
    Router::new()
        .route(TOKEN_ENDPOINT_PATH, token)
        .route(
            INTROSPECTION_PATH,
            post(endpoints::introspect).fallback(problem::not_post),
        )
        .route(
            REVOCATION_PATH,
            post(endpoints::revoke).fallback(problem::not_post),
        )
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .with_state(Arc::clone(shell))
}

fn in_time(
    routes: Router,
    shell: &Arc<Shell>,
    room: Room,
    door: &'static Door,
    deadline: Duration,
) -> Router {
    let shell = Arc::clone(shell);
    let in_time = from_fn(move |mut request: Request, next: Next| {
        let (shell, room) = (Arc::clone(&shell), room.clone());
        async move {
            let watch = Watch::start();
            let answer = match seated(&shell, &room, &mut request) {
                Ok(seat) => match tokio::time::timeout(deadline, next.run(request)).await {
                    Ok(answer) => {
                        // A large one that nobody takes is memory: it keeps its place.
                        let bytes = answer.body().size_hint().exact();
                        if bytes.is_some_and(|bytes| bytes <= SMALL_BYTES) {
                            seat.is_answered();
                        }
                        answer.map(|body| Body::new(Seated::new(body, seat)))
                    }
                    Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
                },
                Err(shed) => problem::turned_away(shed),
            };
            door.answered(watch, answer.status());
            answer
        }
    });
    routes.layer(in_time)
}

/// Counts a request. The endpoints take its place when they have its form.
fn seated(shell: &Shell, room: &Room, request: &mut Request) -> Result<Arc<Seat>, Shed> {
    let path = request.uri().path();
    let errand = if path == REVOCATION_PATH {
        Errand::Stop
    } else {
        Errand::Other
    };
    let seat = Arc::new(room.seat(shell, request.extensions(), errand)?);
    if is_endpoint(path) {
        request.extensions_mut().insert(Arc::clone(&seat));
    } else {
        seat.enter()?;
    }
    Ok(seat)
}
