//! The API behind the provider: contacts, a stream, and bad habits for gateways to survive.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::DefaultBodyLimit,
    extract::{FromRequestParts, Path, Query},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use base64ct::{Base64, Encoding as _};
use futures_util::stream;
use http::{HeaderMap, Method, StatusCode, Uri, header, request::Parts};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    digest::TokenDigest,
    ledger::{ApiOutcome, Event},
    misbehave::NotProcessed,
    server::Provider,
    state::Bearer,
};

/// The largest body of a request that is shown as it arrived.
const MAX_ECHOED_BYTES: usize = 4 << 20;
/// Contacts kept for all users together.
const MAX_CONTACTS: usize = 10_000;
/// Longest name or address, in bytes.
const MAX_FIELD_BYTES: usize = 256;
/// Most chunks of one stream.
const MAX_CHUNKS: u64 = 1_000_000;
/// Largest chunk of a stream, in bytes.
const MAX_CHUNK_BYTES: usize = 1 << 20;
/// Longest pause between chunks, in milliseconds.
const MAX_INTERVAL_MS: u64 = 60_000;

pub(super) fn routes() -> Router<Provider> {
    Router::new()
        .route("/api/contacts", get(list).post(create))
        .route("/api/contacts/{id}", get(show))
        .route("/api/stream", get(chunks))
        .route(
            "/api/echo-headers",
            any(echo_headers).layer(DefaultBodyLimit::max(MAX_ECHOED_BYTES)),
        )
        .route("/api/careless", get(careless))
        .route("/api/compressed", get(compressed))
        .route("/api/links", get(links))
        .route("/api/redirect", get(redirect))
}

/// A person in a user's address book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Contact {
    id: u64,
    name: String,
    email: String,
}

/// All users' address books. Each begins with the same two people.
#[derive(Debug, Default)]
pub(super) struct Contacts(Mutex<BTreeMap<String, Vec<Contact>>>);

impl Contacts {
    fn of<T>(&self, user: &str, act: impl FnOnce(&mut Vec<Contact>, usize) -> T) -> T {
        let mut books = self.0.lock();
        let kept = books.values().map(Vec::len).sum();
        let book = books.entry(user.to_owned()).or_insert_with(|| {
            [("Ada Lovelace", "ada"), ("Alan Turing", "alan")]
                .into_iter()
                .zip(1..)
                .map(|((name, mailbox), id)| Contact {
                    id,
                    name: name.to_owned(),
                    email: format!("{mailbox}@example.com"),
                })
                .collect()
        });
        act(book, kept)
    }
}

/// A call to the API, before its bearer token is checked.
struct Call {
    provider: Provider,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    takes_effect: bool,
}

impl FromRequestParts<Provider> for Call {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        provider: &Provider,
    ) -> Result<Self, Self::Rejection> {
        Ok(Self {
            provider: provider.clone(),
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            headers: parts.headers.clone(),
            takes_effect: parts.extensions.get::<NotProcessed>().is_none(),
        })
    }
}

impl Call {
    /// Admits the call if its one bearer token is good and has the scope [RFC 6750 §2.1, §3.1].
    fn admit(&self, scope: &'static str) -> Result<Bearer, Refusal> {
        let token = bearer_token(&self.headers);
        let now_ms = self.provider.now_ms();
        let outcome = self.provider.change(|state, log| {
            let bearer = token.and_then(|token| state.bearer(token, now_ms));
            let outcome = match (&bearer, token) {
                _ if !self.takes_effect => ApiOutcome::NotProcessed,
                (_, None) => ApiOutcome::Missing,
                (None, Some(_)) => ApiOutcome::InvalidToken,
                (Some(bearer), Some(_)) if !bearer.scope.contains(scope) => {
                    ApiOutcome::InsufficientScope
                }
                (Some(_), Some(_)) => ApiOutcome::Accepted,
            };
            log.push(Event::ApiCall {
                method: self.method.to_string(),
                path: self.uri.path().to_owned(),
                token: token.map(TokenDigest::of),
                grant: bearer.as_ref().map(|bearer| bearer.grant.clone()),
                outcome,
            });
            (outcome, bearer)
        });
        match outcome {
            Ok((ApiOutcome::Accepted, Some(bearer))) => Ok(bearer),
            Ok((ApiOutcome::Missing, _)) => Err(Refusal::Missing),
            Ok((ApiOutcome::InvalidToken | ApiOutcome::Accepted, _)) => Err(Refusal::InvalidToken),
            Ok((ApiOutcome::InsufficientScope, _)) => Err(Refusal::InsufficientScope(scope)),
            Ok((ApiOutcome::NotProcessed, _)) | Err(_) => Err(Refusal::NotProcessed),
        }
    }
}

/// Why a call is not admitted.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    Missing,
    InvalidToken,
    InsufficientScope(&'static str),
    NotProcessed,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let realm = "Bearer realm=\"testkit\"";
        let (status, challenge) = match self {
            Self::Missing => (StatusCode::UNAUTHORIZED, realm.to_owned()),
            Self::InvalidToken => (
                StatusCode::UNAUTHORIZED,
                format!("{realm}, error=\"invalid_token\""),
            ),
            Self::InsufficientScope(scope) => (
                StatusCode::FORBIDDEN,
                format!("{realm}, error=\"insufficient_scope\", scope=\"{scope}\""),
            ),
            Self::NotProcessed => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        };
        (status, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
    }
}

/// The one bearer token of a request; two `Authorization` headers are none.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

async fn list(call: Call) -> Result<Response, Refusal> {
    let bearer = call.admit("contacts.read")?;
    let contacts = call
        .provider
        .contacts()
        .of(&bearer.user, |book, _| book.clone());
    Ok(Json(json!({ "owner": bearer.user, "contacts": contacts })).into_response())
}

async fn show(call: Call, Path(id): Path<u64>) -> Result<Response, Refusal> {
    let bearer = call.admit("contacts.read")?;
    let found = call.provider.contacts().of(&bearer.user, |book, _| {
        book.iter().find(|contact| contact.id == id).cloned()
    });
    Ok(match found {
        Some(contact) => Json(contact).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewContact {
    name: String,
    email: String,
}

async fn create(call: Call, body: Bytes) -> Result<Response, Refusal> {
    let bearer = call.admit("contacts.write")?;
    let Ok(NewContact { name, email }) = serde_json::from_slice(&body) else {
        return Ok(StatusCode::BAD_REQUEST.into_response());
    };
    if name.len() > MAX_FIELD_BYTES || email.len() > MAX_FIELD_BYTES {
        return Ok(StatusCode::BAD_REQUEST.into_response());
    }
    let created = call.provider.contacts().of(&bearer.user, |book, kept| {
        if kept >= MAX_CONTACTS {
            return None;
        }
        let id = book.last().map_or(1, |last| last.id.saturating_add(1));
        let contact = Contact { id, name, email };
        book.push(contact.clone());
        Some(contact)
    });
    Ok(match created {
        Some(contact) => (
            StatusCode::CREATED,
            [(header::LOCATION, format!("/api/contacts/{}", contact.id))],
            Json(contact),
        )
            .into_response(),
        None => StatusCode::INSUFFICIENT_STORAGE.into_response(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    #[serde(default = "ten")]
    chunks: u64,
    #[serde(default = "one_kib")]
    chunk_bytes: usize,
    #[serde(default)]
    interval_ms: u64,
}

fn ten() -> u64 {
    10
}

fn one_kib() -> usize {
    1_024
}

/// Streams `chunks` of `chunk_bytes` each, `interval_ms` apart; each begins with its number.
async fn chunks(call: Call, Query(shape): Query<Shape>) -> Result<Response, Refusal> {
    call.admit("contacts.read")?;
    let Shape {
        chunks,
        chunk_bytes,
        interval_ms,
    } = shape;
    if chunks > MAX_CHUNKS || chunk_bytes > MAX_CHUNK_BYTES || interval_ms > MAX_INTERVAL_MS {
        return Ok(StatusCode::BAD_REQUEST.into_response());
    }
    let body = stream::unfold(0_u64, move |number| async move {
        if number >= chunks {
            return None;
        }
        if number > 0 && interval_ms > 0 {
            tokio::time::sleep(Duration::from_millis(interval_ms)).await;
        }
        let mut chunk = format!("{number} ").into_bytes();
        chunk.resize(chunk_bytes, b'.');
        if let Some(last) = chunk.last_mut() {
            *last = b'\n';
        }
        Some((
            Ok::<_, Infallible>(Bytes::from(chunk)),
            number.saturating_add(1),
        ))
    });
    Ok((
        [(header::CONTENT_TYPE, "text/plain")],
        Body::from_stream(body),
    )
        .into_response())
}

/// Shows the request as it arrived; of the bearer token only the digest.
async fn echo_headers(call: Call, body: Bytes) -> Result<Response, Refusal> {
    call.admit("contacts.read")?;
    let shown: Vec<[String; 2]> = call
        .headers
        .iter()
        .map(|(name, value)| {
            let value = match bearer_token(&call.headers) {
                Some(token) if name == header::AUTHORIZATION => {
                    format!("Bearer sha256:{}", TokenDigest::of(token))
                }
                _ => String::from_utf8_lossy(value.as_bytes()).into_owned(),
            };
            [name.to_string(), value]
        })
        .collect();
    Ok(Json(json!({
        "method": call.method.as_str(),
        "path": call.uri.path(),
        "query": call.uri.query(),
        "headers": shown,
        "body_bytes": body.len(),
    }))
    .into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Habit {
    #[serde(default)]
    pad_bytes: usize,
    #[serde(default)]
    spelling: Spelling,
    /// Whether a header holds it, too.
    #[serde(default = "yes")]
    header: bool,
}

fn yes() -> bool {
    true
}

/// How a careless API writes the token.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Spelling {
    #[default]
    Plain,
    /// As in an `Authorization: Basic` of a user.
    Base64,
    Percent,
    Json,
    Hex,
}

impl Spelling {
    fn write(self, token: &str) -> String {
        match self {
            Self::Plain => token.to_owned(),
            Self::Base64 => Base64::encode_string(format!("user:{token}").as_bytes()),
            Self::Percent => token.bytes().map(|byte| format!("%{byte:02X}")).collect(),
            Self::Json => token.bytes().map(|byte| format!("\\u{byte:04x}")).collect(),
            Self::Hex => hex::encode(token),
        }
    }
}

/// An API that answers with the bearer token itself, `pad_bytes` into the body and in a header.
async fn careless(call: Call, Query(habit): Query<Habit>) -> Result<Response, Refusal> {
    call.admit("contacts.read")?;
    let Habit {
        pad_bytes,
        spelling,
        header,
    } = habit;
    if pad_bytes > MAX_CHUNK_BYTES {
        return Ok(StatusCode::BAD_REQUEST.into_response());
    }
    let token = bearer_token(&call.headers).unwrap_or_default();
    let written = spelling.write(token);
    let body = format!("{}you sent {written}\n", ".".repeat(pad_bytes));
    if header {
        return Ok(([("x-your-token", written)], body).into_response());
    }
    Ok(body.into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Links {
    link: String,
}

/// An API that says where the next page is.
async fn links(call: Call, Query(Links { link }): Query<Links>) -> Result<Response, Refusal> {
    call.admit("contacts.read")?;
    Ok(([(header::LINK, link)], "page").into_response())
}

/// An API that compresses whatever was asked for.
async fn compressed(call: Call) -> Result<Response, Refusal> {
    call.admit("contacts.read")?;
    Ok(([(header::CONTENT_ENCODING, "gzip")], "not really").into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct To {
    to: String,
}

/// An API that sends its caller elsewhere.
async fn redirect(call: Call, Query(To { to }): Query<To>) -> Result<Response, Refusal> {
    call.admit("contacts.read")?;
    Ok((StatusCode::FOUND, [(header::LOCATION, to)]).into_response())
}
