//! npm's oidc-provider as a provider of a stack: registered, with an app there, a consent, and what became of it.
#![allow(
    clippy::expect_used,
    reason = "a registration that cannot be made fails the test"
)]

use dev::names;
use http::Method;
use proto::v1;
use proto::v1::ClientAuthMethod;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use testkit::node::OidcProvider;
use tokenkeep::rpc_error::answer;

use crate::caller::{Caller, Refused, refused};
use crate::https::Reply;
use crate::stack::Stack;

/// The provider's id.
pub const PROVIDER: &str = "oidc";
/// The app's id.
pub const APP: &str = "crm-sync-at-oidc";
/// The grant's id.
pub const GRANT: &str = "acme-oidc";

/// The provider as it is to be registered: strict, its API behind the gateway.
#[must_use]
pub fn described(oidc: &OidcProvider) -> v1::Provider {
    let endpoints = oidc.endpoints();
    let api = endpoints.api_url.strip_suffix("/contacts");
    v1::Provider {
        id: PROVIDER.to_owned(),
        issuer: endpoints.issuer.clone(),
        token_endpoint: endpoints.token_endpoint.clone(),
        revocation_endpoint: endpoints.revocation_endpoint.clone(),
        rotation: v1::RotationProfile::Strict.into(),
        targets: vec![v1::Target {
            name: names::TARGET.to_owned(),
            api: Some(v1::target::Api::GatewayBaseUrl(
                api.expect("an API's URL").to_owned(),
            )),
            ..v1::Target::default()
        }],
        ..v1::Provider::default()
    }
}

/// Registers a provider.
pub async fn register(stack: &Stack, provider: v1::Provider) {
    let request = v1::CreateProviderRequest {
        provider: Some(provider),
        profile_file: None,
    };
    let admin = stack.admin().await;
    let made = answer(admin.registry().create_provider(request)).await;
    made.expect("a provider");
}

/// Registers an app of the provider's client, with its secret for a method that takes one.
///
/// # Errors
/// The refusal.
pub async fn try_app(
    stack: &Stack,
    oauth_client_id: &str,
    method: ClientAuthMethod,
) -> Result<v1::App, Refused> {
    let admin = stack.admin().await;
    let recipient = admin.deposit_recipient().await.expect("a recipient");
    let secret = OidcProvider::CLIENT_SECRET.as_bytes();
    let sealed = recipient.seal_client_secret(names::VENDOR, APP, PROVIDER, secret);
    let takes_secret = matches!(
        method,
        ClientAuthMethod::ClientSecretBasic | ClientAuthMethod::ClientSecretPost
    );
    let request = v1::CreateAppRequest {
        app: Some(v1::App {
            id: APP.to_owned(),
            vendor: names::VENDOR.to_owned(),
            provider: PROVIDER.to_owned(),
            oauth_client_id: oauth_client_id.to_owned(),
            auth_method: method.into(),
            ..v1::App::default()
        }),
        sealed_client_secret: if takes_secret {
            sealed.expect("a sealed secret")
        } else {
            Vec::new()
        },
    };
    let made = admin.registry().create_app(request).await;
    let made = made.map_err(refused)?.into_inner();
    Ok(made.app.expect("an app"))
}

/// Registers an app.
pub async fn app(stack: &Stack, oauth_client_id: &str, method: ClientAuthMethod) -> v1::App {
    let made = try_app(stack, oauth_client_id, method).await;
    made.expect("an app")
}

/// An app that authenticates by a key of its own, and its registration at the provider by what the service tells of it.
pub async fn app_with_key(
    stack: &Stack,
    oidc: &OidcProvider,
    oauth_client_id: &str,
    method: ClientAuthMethod,
) -> v1::App {
    let app = app(stack, oauth_client_id, method).await;
    let jwks: Value = serde_json::from_str(&app.jwks).expect("a JWK set");
    let word = if method == ClientAuthMethod::TlsClientAuth {
        "self_signed_tls_client_auth"
    } else {
        "private_key_jwt"
    };
    let client = json!({
        "client_id": oauth_client_id, "token_endpoint_auth_method": word, "jwks": jwks,
    });
    oidc.register(&client).await.expect("a registration");
    app
}

/// The user consents, and the tenant's administrator deposits the refresh token.
pub async fn deposit(stack: &Stack, oidc: &OidcProvider, oauth_client_id: &str) {
    let scope = format!("offline_access {}", names::SCOPES.join(" "));
    let granted = oidc.consent(oauth_client_id, &scope, "alice").await;
    let granted = granted.expect("a consent");
    let mut scopes: Vec<String> = names::SCOPES.map(str::to_owned).to_vec();
    scopes.push("offline_access".to_owned());
    deposit_token(stack, granted.refresh_token.expose_secret(), scopes).await;
}

/// The same, for one resource.
pub async fn deposit_for(stack: &Stack, oidc: &OidcProvider, client: &str, resource: &str) {
    let scope = names::SCOPES.join(" ");
    let granted = oidc.consent_for(client, &scope, "alice", resource).await;
    let token = granted.expect("a consent").refresh_token;
    let scopes = names::SCOPES.map(str::to_owned).to_vec();
    deposit_token(stack, token.expose_secret(), scopes).await;
}

/// The tenant's administrator deposits a refresh token.
pub async fn deposit_token(stack: &Stack, refresh_token: &str, scopes: Vec<String>) {
    let made = deposit_grant(stack, refresh_token, grant(scopes)).await;
    made.expect("a deposit");
}

/// The grant of all of the provider's tests, with these scopes.
#[must_use]
pub fn grant(scopes: Vec<String>) -> v1::Grant {
    v1::Grant {
        id: GRANT.to_owned(),
        tenant: names::TENANT.to_owned(),
        app: APP.to_owned(),
        clients: vec![names::CLIENT.to_owned()],
        targets: vec![names::TARGET.to_owned()],
        scopes,
        ..v1::Grant::default()
    }
}

/// The tenant's administrator deposits a refresh token as a grant of its own making.
///
/// # Errors
/// The refusal.
pub async fn deposit_grant(
    stack: &Stack,
    refresh_token: &str,
    grant: v1::Grant,
) -> Result<(), Refused> {
    let admin = stack.admin().await;
    let recipient = admin.deposit_recipient().await.expect("a recipient");
    let token = refresh_token.as_bytes();
    let sealed = recipient.seal_refresh_token(&grant.tenant, &grant.app, &grant.id, token);
    let request = v1::DepositGrantRequest {
        grant: Some(grant),
        sealed_refresh_token: sealed.expect("a sealed token"),
        leave_unrotated: true,
        only_new: false,
    };
    let made = admin.grants().deposit_grant(request).await;
    made.map(drop).map_err(refused)
}

/// Reads the contacts with a token of these scopes: each set has an upstream token, and so an exchange, of its own.
pub async fn contacts(caller: &Caller, scopes: &[&str]) -> Reply {
    let proof = caller.issue_proof(&caller.nonce().await);
    let request = v1::IssueTokenRequest {
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        ..caller.request()
    };
    let issued = Box::pin(caller.issue(request, &[&proof])).await;
    let token = issued.expect("a token").access_token;
    caller.call(Method::GET, "/contacts", &token).await
}

/// What happened to the tenant in this boot's issuance log, as its administrator reads it.
pub async fn issuance(stack: &Stack) -> Vec<Value> {
    let admin = stack.admin().await;
    let logs = answer(admin.audit().list_logs(v1::ListLogsRequest::default())).await;
    let logs = logs.expect("the logs").into_inner().logs;
    let newest = logs.last().expect("a log of this boot");
    let request = v1::ListLeavesRequest {
        log: newest.origin.clone(),
        from: 0,
        page_size: 1_000,
        tenant: names::TENANT.to_owned(),
    };
    let page = answer(admin.audit().list_leaves(request)).await;
    let leaves = page.expect("leaves").into_inner().leaves;
    let event = |leaf: &v1::Leaf| serde_json::from_str(&leaf.event).expect("an event");
    leaves.iter().map(event).collect()
}
