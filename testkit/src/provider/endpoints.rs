//! The OAuth endpoints: token [RFC 6749], revocation [RFC 7009], introspection [RFC 7662] and
//! metadata [RFC 8414].

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::State as Shared,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, StatusCode, header};
use secrecy::ExposeSecret;
use serde_json::json;

use super::{
    client_auth::authenticate,
    form::Form,
    misbehave::{NotProcessed, takes_effect},
    oauth_error::{OAuthError, forbid_caching},
    refresh::{Issued, Presentation},
    server::Provider,
};

pub(super) fn routes() -> Router<Provider> {
    Router::new()
        .route("/token", post(token))
        .route("/revoke", post(revoke))
        .route("/introspect", post(introspect))
        .route("/.well-known/oauth-authorization-server", get(metadata))
}

async fn token(
    Shared(provider): Shared<Provider>,
    not_processed: Option<Extension<NotProcessed>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match refresh(&provider, takes_effect(not_processed), &headers, &body) {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

fn refresh(
    provider: &Provider,
    commit: bool,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, OAuthError> {
    let form = form_of(headers, body)?;
    let client = authenticate(&provider.config().clients, headers, &form)?;
    match form.value("grant_type") {
        None => return Err(OAuthError::InvalidRequest("grant_type is missing")),
        Some("refresh_token") => {}
        Some(_) => return Err(OAuthError::UnsupportedGrantType),
    }
    let refresh_token = form
        .value("refresh_token")
        .ok_or(OAuthError::InvalidRequest("refresh_token is missing"))?;
    let grant = provider.look(|state| state.grant_of(refresh_token).map(str::to_owned));
    let open = provider.open(grant.as_deref());
    let presentation = Presentation {
        client_id: &client.id,
        refresh_token,
        scope: form.value("scope"),
        concurrent: open.concurrent(),
        now_ms: provider.now_ms(),
    };
    let answer = provider
        .change(|state, log| {
            state.refresh(
                provider.config(),
                provider.random(),
                presentation,
                commit,
                log,
            )
        })
        .unwrap_or(Err(OAuthError::Server));
    let mut response = match answer {
        Ok(issued) => issued_response(&issued),
        Err(error) => error.into_response(),
    };
    response.extensions_mut().insert(open);
    Ok(response)
}

fn issued_response(issued: &Issued) -> Response {
    let Issued {
        access_token,
        refresh_token,
        expires_in_s,
        scope,
    } = issued;
    let mut body = json!({
        "access_token": access_token.expose_secret(),
        "token_type": "Bearer",
        "expires_in": expires_in_s,
    });
    if let Some(members) = body.as_object_mut() {
        // Not at the end: an answer that is cut may hold the whole of it.
        if let Some(token) = refresh_token {
            members.insert("refresh_token".to_owned(), json!(token.expose_secret()));
        }
        members.insert("scope".to_owned(), json!(scope));
    }
    let mut response = Json(body).into_response();
    forbid_caching(&mut response);
    response
}

async fn revoke(
    Shared(provider): Shared<Provider>,
    not_processed: Option<Extension<NotProcessed>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let revoked = form_of(&headers, &body).and_then(|form| {
        let client = authenticate(&provider.config().clients, &headers, &form)?;
        let token = form
            .value("token")
            .ok_or(OAuthError::InvalidRequest("token is missing"))?;
        if !takes_effect(not_processed) {
            return Err(OAuthError::Server);
        }
        provider
            .change(|state, log| state.revoke_token(&client.id, token, log))
            .map_err(|_| OAuthError::Server)
    });
    match revoked {
        Ok(()) => StatusCode::OK.into_response(),
        Err(error) => error.into_response(),
    }
}

async fn introspect(
    Shared(provider): Shared<Provider>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let found = form_of(&headers, &body).and_then(|form| {
        let client = authenticate(&provider.config().clients, &headers, &form)?;
        let token = form
            .value("token")
            .ok_or(OAuthError::InvalidRequest("token is missing"))?;
        let now_ms = provider.now_ms();
        Ok(provider.look(|state| {
            if let Some(bearer) = state.bearer(token, now_ms)
                && bearer.client_id == client.id
            {
                return json!({
                    "active": true,
                    "client_id": bearer.client_id,
                    "sub": bearer.user,
                    "scope": bearer.scope.into_iter().collect::<Vec<_>>().join(" "),
                    "token_type": "Bearer",
                    "exp": bearer.expires_at_ms.div_euclid(1_000),
                });
            }
            match state.live_refresh(provider.config(), &client.id, token, now_ms) {
                Some(grant) => json!({
                    "active": true,
                    "client_id": grant.client_id,
                    "sub": grant.user,
                    "token_type": "refresh_token",
                }),
                None => json!({ "active": false }),
            }
        }))
    });
    match found {
        Ok(body) => Json(body).into_response(),
        Err(error) => error.into_response(),
    }
}

async fn metadata(Shared(provider): Shared<Provider>) -> Response {
    let base = provider.base_url();
    let methods = ["client_secret_basic", "client_secret_post", "none"];
    Json(json!({
        "issuer": base,
        "token_endpoint": format!("{base}/token"),
        "token_endpoint_auth_methods_supported": methods,
        "revocation_endpoint": format!("{base}/revoke"),
        "revocation_endpoint_auth_methods_supported": methods,
        "introspection_endpoint": format!("{base}/introspect"),
        "introspection_endpoint_auth_methods_supported": methods,
        "grant_types_supported": ["refresh_token"],
        "response_types_supported": [],
        "scopes_supported": provider.config().scopes,
    }))
    .into_response()
}

fn form_of(headers: &HeaderMap, body: &[u8]) -> Result<Form, OAuthError> {
    let form_encoded = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| {
            value
                .trim()
                .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
    if !form_encoded {
        return Err(OAuthError::InvalidRequest("the body is not form-encoded"));
    }
    Form::parse(body)
}
