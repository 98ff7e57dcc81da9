//! Upstream access tokens that are bound to a key which only the enclave has [RFC 9449], and for one resource [RFC 8707]:
//! npm's oidc-provider checks the proofs at its token endpoint, and an API behind it those of the gateway.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use http::Method;
use proto::v1;
use proto::v1::{ClientAuthMethod, GrantState};
use serde_json::{Value, json};
use testkit::node::{NodeEnv, OidcProvider};
use tests::caller::Caller;
use tests::oidc::{self, GRANT};
use tests::stack::{Blueprint, Stack};

const CLIENT: &str = "tokenkeep-with-a-key";
const RESOURCE: &str = "https://api.example/contacts";

/// A stack with a provider that it asks for bound tokens, if `dpop`, and for a resource, if there is one; the app
/// authenticates by `private_key_jwt`.
async fn world(config: Value, dpop: bool, resource: Option<&str>) -> (Stack, OidcProvider) {
    let node = NodeEnv::from_env().unwrap();
    let provider = OidcProvider::spawn(&node, &config).await.unwrap();
    let stack = Stack::start(Blueprint::default()).await;
    let mut described = oidc::described(&provider);
    described.profile = Some(v1::ProviderProfile {
        dpop,
        ..v1::ProviderProfile::default()
    });
    described.targets[0].upstream_resource = resource.unwrap_or_default().to_owned();
    oidc::register(&stack, described).await;
    let method = ClientAuthMethod::PrivateKeyJwt;
    oidc::app_with_key(&stack, &provider, CLIENT, method).await;
    (stack, provider)
}

#[tokio::test]
async fn tokens_are_bound_to_a_key_of_the_enclave_and_every_nonce_is_followed() {
    let (mut stack, provider) = world(json!({ "dpop_nonces": true }), true, None).await;
    oidc::deposit(&stack, &provider, CLIENT).await;
    for boot in 0..2 {
        let caller = Caller::of(&stack).await.at(GRANT);
        for scopes in [&[][..], &["contacts.read"]] {
            for _ in 0..4 {
                let reply = oidc::contacts(&caller, scopes).await;
                let log = stack.log();
                assert_eq!(reply.status, 200, "boot {boot}: {:?} {log}", reply.body);
                assert_eq!(reply.json()["bound"], json!(true));
                // What is between the API and the gateway stays there.
                assert_ne!(reply.header("dpop-nonce"), "");
            }
        }
        assert_eq!(stack.stop().await.code(), Some(0));
        stack.restart().await;
    }
    let ledger = provider.ledger().await.unwrap();
    // A boot knows no nonce at first; the token is not spent by the challenge.
    assert_eq!((ledger.nonce_challenges, ledger.refresh_refused), (2, 0));
    assert_eq!((ledger.refresh_ok, ledger.refresh_tokens_consumed), (4, 4));
    assert_eq!(ledger.grants_revoked, 0);
    assert!(ledger.presentations.values().all(|times| *times == 1));
    assert_eq!((ledger.api_bound_calls_ok, ledger.api_calls_ok), (16, 16));
    assert!(ledger.api_nonce_challenges >= 2, "{ledger:?}");
    let grant = stack.grant(GRANT).await;
    assert_eq!(
        (grant.state(), grant.refresh_generation),
        (GrantState::Active, 5)
    );
    provider.stop().await.unwrap();
}

#[tokio::test]
async fn a_call_with_a_body_comes_again_when_the_api_has_another_nonce() {
    let (stack, provider) = world(json!({}), true, None).await;
    oidc::deposit(&stack, &provider, CLIENT).await;
    let caller = Caller::of(&stack).await.at(GRANT);
    let token = caller.token().await;
    let create = async || {
        let headers = [("content-type", "application/json")];
        let body = r#"{"name":"Grace"}"#;
        caller
            .call_with(Method::POST, "/contacts", &token, body, &headers)
            .await
    };
    let first = create().await;
    assert_eq!(first.refusal(), (503, "API_NONCE_CHANGED".to_owned()));
    assert_eq!(first.header("retry-after"), "0");
    let second = create().await;
    assert_eq!(second.status, 200, "{:?}", second.body);
    assert_eq!(second.json()["created"], json!({ "name": "Grace" }));
    let ledger = provider.ledger().await.unwrap();
    assert_eq!((ledger.api_nonce_challenges, ledger.api_calls_ok), (1, 1));
    provider.stop().await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_not_bound_is_not_used_where_a_bound_one_was_asked_for() {
    let (stack, provider) = world(json!({ "dpop": false }), true, None).await;
    oidc::deposit(&stack, &provider, CLIENT).await;
    let caller = Caller::of(&stack).await.at(GRANT);
    let refused = oidc::contacts(&caller, &[]).await;
    assert_eq!(
        refused.refusal(),
        (502, "PROVIDER_TOKEN_REFUSED".to_owned())
    );
    let events = oidc::issuance(&stack).await;
    let refreshed = events.iter().find(|event| event["event"] == "refreshed");
    assert_eq!(refreshed.unwrap()["refused"], json!("its type is not DPoP"));
    // The new refresh token is kept all the same.
    let grant = stack.grant(GRANT).await;
    assert_eq!(
        (grant.state(), grant.refresh_generation),
        (GrantState::Active, 2)
    );
    assert_eq!(provider.ledger().await.unwrap().api_calls_ok, 0);
    provider.stop().await.unwrap();
}

fn for_one_resource() -> Value {
    json!({
        "dpop_nonces": true,
        "resources": { RESOURCE: { "scope": "contacts.read contacts.write", "jwt": true } },
        "api_resource": RESOURCE,
    })
}

#[tokio::test]
async fn a_token_for_one_resource_satisfies_an_independent_resource_server() {
    let (mut stack, provider) = world(for_one_resource(), true, Some(RESOURCE)).await;
    oidc::deposit_for(&stack, &provider, CLIENT, RESOURCE).await;
    for boot in 0..2 {
        let caller = Caller::of(&stack).await.at(GRANT);
        for scopes in [&[][..], &["contacts.read"]] {
            let reply = oidc::contacts(&caller, scopes).await;
            let log = stack.log();
            assert_eq!(reply.status, 200, "boot {boot}: {:?} {log}", reply.body);
            assert_eq!(reply.json()["bound"], json!(true));
        }
        assert_eq!(stack.stop().await.code(), Some(0));
        stack.restart().await;
    }
    let ledger = provider.ledger().await.unwrap();
    assert_eq!((ledger.refresh_ok, ledger.refresh_tokens_consumed), (4, 4));
    assert_eq!((ledger.api_bound_calls_ok, ledger.grants_revoked), (4, 0));
    provider.stop().await.unwrap();
}

#[tokio::test]
async fn a_resource_that_the_provider_does_not_know_costs_no_grant() {
    let other = Some("https://another.example/");
    let (stack, provider) = world(for_one_resource(), true, other).await;
    oidc::deposit_for(&stack, &provider, CLIENT, RESOURCE).await;
    let caller = Caller::of(&stack).await.at(GRANT);
    let refused = oidc::contacts(&caller, &[]).await;
    assert_eq!(refused.refusal(), (502, "PROVIDER_REFUSED".to_owned()));
    let events = oidc::issuance(&stack).await;
    let refused = events
        .iter()
        .find(|event| event["event"] == "refresh_refused");
    assert_eq!(refused.unwrap()["error"], json!("invalid_target"));
    let grant = stack.grant(GRANT).await;
    assert_eq!(
        (grant.state(), grant.refresh_generation),
        (GrantState::Active, 1)
    );
    assert_eq!(provider.ledger().await.unwrap().grants_revoked, 0);
    provider.stop().await.unwrap();
}
