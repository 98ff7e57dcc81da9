//! A real authorization server behind the gateway: npm's oidc-provider, whose refresh tokens rotate and whose
//! grants die of a reuse.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use proto::v1::{ClientAuthMethod, GrantState};
use serde_json::json;
use testkit::node::{NodeEnv, OidcProvider};
use tests::caller::Caller;
use tests::oidc::{self, GRANT};
use tests::stack::{Blueprint, Stack};

#[tokio::test]
async fn a_grant_lives_on_through_rotations_and_restarts() {
    let node = NodeEnv::from_env().unwrap();
    let provider = OidcProvider::spawn(&node, &json!({})).await.unwrap();
    let mut stack = Stack::start(Blueprint::default()).await;
    oidc::register(&stack, oidc::described(&provider)).await;
    let client = OidcProvider::CLIENT_ID;
    oidc::app(&stack, client, ClientAuthMethod::ClientSecretBasic).await;
    oidc::deposit(&stack, &provider, client).await;
    for boot in 0..3 {
        let caller = Caller::of(&stack).await.at(GRANT);
        for scopes in [&[][..], &["contacts.read"]] {
            for _ in 0..3 {
                let reply = oidc::contacts(&caller, scopes).await;
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
    let ledger = provider.ledger().await.unwrap();
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
    provider.stop().await.unwrap();
}
