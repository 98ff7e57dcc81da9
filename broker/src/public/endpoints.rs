//! The endpoints: token [RFC 6749 §4.4, RFC 8707, RFC 9449 §5], introspection
//! [RFC 7662] and revocation [RFC 7009].

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use enclave::authenticate::assertion::ASSERTION_TYPE;
use enclave::authenticate::{Credentials, Peer};
use enclave::issue::{Binding, Door, IssueRequest};
use enclave::mint::Claims;
use enclave::nonce::Role;
use serde_json::json;

use super::form::{Form, FormError};
use super::problem::{OauthError, turned_away};
use crate::listener::Connection;
use crate::room::{BODY, Seat};
use crate::shell::Shell;

const DPOP: HeaderName = HeaderName::from_static("dpop");
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
const FORM: &str = "application/x-www-form-urlencoded";

type Body = Result<Bytes, BytesRejection>;

/// A request as the handlers take it.
pub(super) struct Asked {
    query: Option<String>,
    headers: HeaderMap,
    /// What the connection proved; nothing where the listener asks for no
    /// certificates.
    peer: Peer,
    connection: Option<Connection>,
    body: Body,
}

impl FromRequest<Arc<Shell>> for Asked {
    type Rejection = Response;

    async fn from_request(request: Request, shell: &Arc<Shell>) -> Result<Self, Response> {
        let query = request.uri().query().map(str::to_owned);
        let headers = request.headers().clone();
        let peer = shell.peer(request.extensions());
        let connection = request.extensions().get().cloned();
        let seat = request.extensions().get::<Arc<Seat>>().cloned();
        let body = tokio::time::timeout(BODY, Bytes::from_request(request, shell)).await;
        let body = body.map_err(|_late| StatusCode::REQUEST_TIMEOUT.into_response())?;
        // Who sends slowly has no place meanwhile.
        if let Some(seat) = seat {
            seat.enter().map_err(turned_away)?;
        }
        Ok(Self {
            query,
            headers,
            peer,
            connection,
            body,
        })
    }
}

/// Issues a token.
pub(super) async fn token(State(shell): State<Arc<Shell>>, asked: Asked) -> Response {
    answered(&shell, Door::TokenEndpoint, asked).await
}

/// Issues a token where the client may have a certificate.
pub(super) async fn mtls_token(State(shell): State<Arc<Shell>>, asked: Asked) -> Response {
    answered(&shell, Door::MtlsTokenEndpoint, asked).await
}

async fn answered(shell: &Arc<Shell>, door: Door, asked: Asked) -> Response {
    let answer = match issue(shell, door, asked).await {
        Ok(issued) => Json(issued).into_response(),
        Err(error) => error.into_response(),
    };
    let mut answer = uncached(answer);
    let nonce = shell
        .enclave
        .dpop_nonce(Role::TokenEndpoint, &shell.clock.now());
    if let Ok(nonce) = HeaderValue::try_from(nonce) {
        answer.headers_mut().insert(DPOP_NONCE, nonce);
    }
    answer
}

async fn issue(
    shell: &Arc<Shell>,
    door: Door,
    asked: Asked,
) -> Result<serde_json::Value, OauthError> {
    let connection = asked.connection.clone();
    let (form, headers, peer) = form(asked)?;
    let has_certificate = peer.certificate_sha256.is_some();
    let credentials = credentials(&form, &headers, peer)?;
    if form.required("grant_type")? != "client_credentials" {
        let rule = "only client_credentials";
        return Err(OauthError::new("unsupported_grant_type", rule));
    }
    let target = |rule| OauthError::new("invalid_target", rule);
    let resource = form
        .value("resource")
        .ok_or_else(|| target("the parameter resource is missing"))?;
    if form
        .value("audience")
        .is_some_and(|named| named != resource)
    {
        return Err(target("audience and resource must be the same"));
    }
    let scopes: Vec<String> = form
        .value("scope")
        .map(|scope| scope.split(' ').map(str::to_owned).collect())
        .unwrap_or_default();
    // A client that shows a certificate and no proof asks for a token that is bound
    // to the certificate [RFC 8705 §3]; nobody gets one that is bound to nothing.
    let binding = if has_certificate && !headers.contains_key(DPOP) {
        Binding::Certificate
    } else {
        let proofs = headers.get_all(DPOP).iter().map(HeaderValue::as_bytes);
        Binding::Proof(proofs.collect())
    };
    let request = IssueRequest {
        door,
        credentials,
        binding,
        grant: None,
        resource,
        scopes: &scopes,
        actors: &[],
    };
    let (issued, _receipt) = shell.issue(&request).await?;
    if let Some(connection) = connection {
        connection.visitor().vouch(&issued.client);
    }
    Ok(json!({
        "access_token": issued.access_token,
        "token_type": issued.token_type,
        "expires_in": issued.expires_in_s,
        "scope": issued.scopes.to_string(),
    }))
}

/// Tells whether a token of the caller's own holds.
pub(super) async fn introspect(State(shell): State<Arc<Shell>>, asked: Asked) -> Response {
    let told = form(asked).and_then(|(form, headers, peer)| {
        let credentials = credentials(&form, &headers, peer)?;
        let token = form.required("token")?;
        Ok(shell.introspect(&credentials, token)?)
    });
    uncached(match told {
        Ok(None) => Json(json!({ "active": false })).into_response(),
        Ok(Some(claims)) => Json(introspection(claims)).into_response(),
        Err(error) => error.into_response(),
    })
}

fn introspection(claims: Claims) -> serde_json::Value {
    let Claims {
        iss,
        sub,
        aud,
        exp,
        iat,
        jti,
        client_id,
        scope,
        cnf,
        grant,
        tier,
        act,
    } = claims;
    let mut told = json!({
        "active": true,
        "token_type": cnf.token_type(),
        "iss": iss,
        "sub": sub,
        "aud": aud,
        "exp": exp,
        "iat": iat,
        "jti": jti,
        "client_id": client_id,
        "scope": scope,
        "cnf": cnf,
        "grant": grant,
        "tier": tier,
    });
    if let (Some(act), Some(members)) = (act, told.as_object_mut()) {
        members.insert("act".to_owned(), json!(act));
    }
    told
}

/// Ends a token of the caller's own.
pub(super) async fn revoke(State(shell): State<Arc<Shell>>, asked: Asked) -> Response {
    let answer = match form(asked) {
        Err(error) => Err(error),
        Ok((form, headers, peer)) => end(&shell, &form, &headers, peer).await,
    };
    uncached(match answer {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => error.into_response(),
    })
}

async fn end(
    shell: &Arc<Shell>,
    form: &Form,
    headers: &HeaderMap,
    peer: Peer,
) -> Result<(), OauthError> {
    let credentials = credentials(form, headers, peer)?;
    // `token_type_hint` is only a hint [RFC 7009 §2.1]: there is one type here.
    let token = form.required("token")?;
    Ok(shell.revoke(&credentials, token).await?)
}

fn form(asked: Asked) -> Result<(Form, HeaderMap, Peer), OauthError> {
    let Asked {
        query,
        headers,
        peer,
        connection: _,
        body,
    } = asked;
    if query.is_some() {
        return Err(FormError::Query.into());
    }
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let kind = kinds
        .next()
        .filter(|_| kinds.next().is_none())
        .and_then(|kind| kind.to_str().ok())
        .and_then(|kind| kind.split(';').next())
        .map(str::trim);
    if !kind.is_some_and(|kind| kind.eq_ignore_ascii_case(FORM)) {
        return Err(FormError::ContentType.into());
    }
    let body = body.map_err(|_| FormError::Body)?;
    Ok((Form::parse(&body)?, headers, peer))
}

/// What the request shows of its client: an assertion or a certificate, and nothing
/// beside it [RFC 6749 §2.3].
fn credentials<'a>(
    form: &'a Form,
    headers: &HeaderMap,
    peer: Peer,
) -> Result<Credentials<'a>, OauthError> {
    if headers.contains_key(AUTHORIZATION) || form.value("client_secret").is_some() {
        return Err(OauthError::request(
            "clients authenticate by private_key_jwt or a certificate and by nothing else",
        ));
    }
    let assertion = form.value("client_assertion");
    let kind = form.value("client_assertion_type");
    if assertion.is_some() != kind.is_some() || kind.is_some_and(|kind| kind != ASSERTION_TYPE) {
        return Err(OauthError::request(
            "client_assertion goes with client_assertion_type jwt-bearer",
        ));
    }
    Ok(Credentials {
        peer,
        assertions: assertion.map(str::as_bytes).into_iter().collect(),
        client_id: form.value("client_id"),
    })
}

fn uncached(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
