//! A real authorization server behind the gateway: npm's oidc-provider, whose refresh tokens rotate and whose
//! grants die of a reuse.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use dev::names;
use http::Method;
use proto::v1;
use proto::v1::GrantState;
use secrecy::ExposeSecret as _;
use serde_json::json;
use testkit::node::{NodeEnv, OidcProvider};
use tests::caller::Caller;
use tests::https::Reply;
use tests::stack::{Blueprint, Stack};
use tokenkeep::rpc_error::answer;

const PROVIDER: &str = "oidc";
const APP: &str = "crm-sync-at-oidc";
const GRANT: &str = "acme-oidc";

/// Registers the provider and the app there, and deposits a consent.
async fn register(stack: &Stack, oidc: &OidcProvider) {
    let admin = stack.admin().await;
    let endpoints = oidc.endpoints();
    let api = endpoints.api_url.strip_suffix("/contacts").unwrap();
    let provider = v1::Provider {
        id: PROVIDER.to_owned(),
        token_endpoint: endpoints.token_endpoint.clone(),
        rotation: v1::RotationProfile::Strict.into(),
        targets: vec![v1::Target {
            name: names::TARGET.to_owned(),
            api: Some(v1::target::Api::GatewayBaseUrl(api.to_owned())),
            ..v1::Target::default()
        }],
        profile: None,
        revocation_endpoint: String::new(),
        made_from: None,
    };
    let request = v1::CreateProviderRequest {
        provider: Some(provider),
        profile_file: None,
    };
    answer(admin.registry().create_provider(request))
        .await
        .unwrap();
    let recipient = admin.deposit_recipient().await.unwrap();
    let secret = OidcProvider::CLIENT_SECRET.as_bytes();
    let request = v1::CreateAppRequest {
        app: Some(v1::App {
            id: APP.to_owned(),
            vendor: names::VENDOR.to_owned(),
            provider: PROVIDER.to_owned(),
            oauth_client_id: OidcProvider::CLIENT_ID.to_owned(),
            auth_method: v1::ClientAuthMethod::ClientSecretBasic.into(),
        }),
        sealed_client_secret: recipient
            .seal_client_secret(names::VENDOR, APP, PROVIDER, secret)
            .unwrap(),
    };
    answer(admin.registry().create_app(request)).await.unwrap();

    let scope = format!("offline_access {}", names::SCOPES.join(" "));
    let granted = oidc
        .consent(OidcProvider::CLIENT_ID, &scope, "alice")
        .await
        .unwrap();
    let token = granted.refresh_token.expose_secret().as_bytes();
    let mut scopes: Vec<String> = names::SCOPES.map(str::to_owned).to_vec();
    scopes.push("offline_access".to_owned());
    let request = v1::DepositGrantRequest {
        grant: Some(v1::Grant {
            id: GRANT.to_owned(),
            tenant: names::TENANT.to_owned(),
            app: APP.to_owned(),
            clients: vec![names::CLIENT.to_owned()],
            targets: vec![names::TARGET.to_owned()],
            scopes,
            ..Default::default()
        }),
        sealed_refresh_token: recipient
            .seal_refresh_token(names::TENANT, APP, GRANT, token)
            .unwrap(),
    };
    answer(admin.grants().deposit_grant(request)).await.unwrap();
}

/// Reads the contacts with a token of these scopes: each set has an upstream token, and so an exchange, of its own.
async fn contacts(caller: &Caller, scopes: &[&str]) -> Reply {
    let proof = caller.issue_proof(&caller.nonce().await);
    let request = v1::IssueTokenRequest {
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        ..caller.request()
    };
    let token = caller.issue(request, &[&proof]).await.unwrap().access_token;
    caller.call(Method::GET, "/contacts", &token).await
}

#[tokio::test]
async fn a_grant_lives_on_through_rotations_and_restarts() {
    let node = NodeEnv::from_env().unwrap();
    let oidc = OidcProvider::spawn(&node, &json!({})).await.unwrap();
    let mut stack = Stack::start(Blueprint::default()).await;
    register(&stack, &oidc).await;
    for boot in 0..3 {
        let caller = Caller::of(&stack).await.at(GRANT);
        for scopes in [&[][..], &["contacts.read"]] {
            for _ in 0..3 {
                let reply = contacts(&caller, scopes).await;
                assert_eq!(reply.status, 200, "boot {boot}: {:?}", reply.body);
                assert_eq!(reply.header("tokenkeep-answered-by"), "api");
            }
        }
        if boot == 1 {
            stack.kill().await;
        } else {
            assert_eq!(stack.stop().await.code(), Some(0));
        }
        stack.restart().await;
    }
    let ledger = oidc.ledger().await.unwrap();
    assert_eq!(ledger.refresh_ok, 6, "{ledger:?}");
    assert_eq!(ledger.refresh_tokens_consumed, 6, "{ledger:?}");
    assert_eq!(
        (ledger.refresh_refused, ledger.grants_revoked),
        (0, 0),
        "{ledger:?}"
    );
    assert_eq!(ledger.api_calls_ok, 18, "{ledger:?}");
    assert!(
        ledger.presentations.values().all(|times| *times == 1),
        "{ledger:?}"
    );
    assert_eq!(ledger.presentations.len(), 6);
    let grant = stack.grant(GRANT).await;
    assert_eq!(
        (grant.state(), grant.refresh_generation),
        (GrantState::Active, 7)
    );
    oidc.stop().await.unwrap();
}
