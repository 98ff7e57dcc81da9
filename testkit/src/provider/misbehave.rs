//! Faults on the wire: answers that are wrong, late, cut short or never come.

use std::{convert::Infallible, time::Duration};

use axum::{
    Extension,
    body::Body,
    extract::{Request, State as Shared},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use serde_json::json;

use super::{
    fault::{Answer, Endpoint, Fault},
    ledger::Event,
    oauth_error::OAuthError,
    server::Provider,
};

/// A fault cuts the connection.
#[derive(Debug, thiserror::Error)]
#[error("a fault cut the connection")]
pub(super) struct Cut;

/// Marks a response that must not be sent: the connection is reset instead.
#[derive(Debug, Clone, Copy)]
pub(super) struct ResetConnection;

/// Marks a request that must be written down but not take effect.
#[derive(Debug, Clone, Copy)]
pub(super) struct NotProcessed;

/// Whether a request may take effect.
pub(super) fn takes_effect(marker: Option<Extension<NotProcessed>>) -> bool {
    marker.is_none()
}

/// Lets a waiting fault strike this request.
pub(super) async fn inject(
    Shared(provider): Shared<Provider>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(endpoint) = Endpoint::of(request.uri().path()) else {
        return next.run(request).await;
    };
    let Some(fault) = provider.strike(endpoint) else {
        return next.run(request).await;
    };
    let Fault {
        endpoint,
        commit,
        delay_ms,
        answer,
        times: _,
    } = fault;
    let written = provider.change(|_, log| {
        log.push(Event::Faulted {
            endpoint: endpoint.name().to_owned(),
            answer: answer.name().to_owned(),
            commit,
        });
    });
    if written.is_err() {
        return OAuthError::Server.into_response();
    }
    let delay = Duration::from_millis(delay_ms);
    if !commit && answer == Answer::Honest {
        tokio::time::sleep(delay).await;
        return next.run(request).await;
    }
    if !commit {
        request.extensions_mut().insert(NotProcessed);
    }
    // Kept through the delay: the presentation is open until its answer leaves.
    let honest = next.run(request).await;
    tokio::time::sleep(delay).await;
    wrong(honest, &answer).await
}

async fn wrong(honest: Response, answer: &Answer) -> Response {
    match answer {
        Answer::Honest => honest,
        Answer::OAuthError { status, error } => (
            StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            axum::Json(json!({ "error": error })),
        )
            .into_response(),
        Answer::Status { status } => (
            StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            [(header::CONTENT_TYPE, "text/html")],
            "<html><body>The server met an unexpected condition.</body></html>",
        )
            .into_response(),
        Answer::RateLimited { retry_after_s } => (
            StatusCode::TOO_MANY_REQUESTS,
            [(header::RETRY_AFTER, retry_after_s.to_string())],
        )
            .into_response(),
        Answer::Garbage => (
            [(header::CONTENT_TYPE, "application/json")],
            &b"\x89\xff{\"access_token\": this is no JSON"[..],
        )
            .into_response(),
        Answer::Empty => {
            ([(header::CONTENT_TYPE, "application/json")], Body::empty()).into_response()
        }
        Answer::Truncated { at_byte } => truncated(honest, *at_byte),
        Answer::Oversize { bytes } => oversize(honest, *bytes).await,
        Answer::Reset => {
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(ResetConnection);
            response
        }
    }
}

/// The real answer, whose connection closes once `at_byte` bytes of the body have left.
fn truncated(honest: Response, at_byte: u64) -> Response {
    let (mut parts, body) = honest.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts
            .headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let cut = stream::unfold(
        (body.into_data_stream(), at_byte),
        |(mut data, left)| async move {
            if left == 0 {
                // Lets hyper flush what it has before the error closes the connection.
                tokio::task::yield_now().await;
                return Some((Err(Cut), (data, left)));
            }
            let mut chunk = data.next().await?.ok()?;
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            let sent = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            Some((Ok::<Bytes, Cut>(chunk), (data, left.saturating_sub(sent))))
        },
    );
    Response::from_parts(parts, Body::from_stream(cut))
}

/// The real answer behind enough white space to reach `bytes`.
async fn oversize(honest: Response, bytes: u64) -> Response {
    const BLANK: &[u8] = &[b' '; 16 * 1024];
    let (mut parts, body) = honest.into_parts();
    let Ok(real) = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
    else {
        return OAuthError::Server.into_response();
    };
    let length = u64::try_from(real.len()).unwrap_or(u64::MAX);
    let padding = bytes.saturating_sub(length);
    parts.headers.insert(
        header::CONTENT_LENGTH,
        HeaderValue::from(length.saturating_add(padding)),
    );
    let blanks = stream::unfold(padding, |left| async move {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(BLANK.len());
        let chunk = BLANK.get(..now).filter(|chunk| !chunk.is_empty())?;
        let left = left.saturating_sub(u64::try_from(now).unwrap_or(u64::MAX));
        Some((Ok::<Bytes, Infallible>(Bytes::from_static(chunk)), left))
    });
    let whole = blanks.chain(stream::once(async move { Ok(real) }));
    Response::from_parts(parts, Body::from_stream(whole))
}
