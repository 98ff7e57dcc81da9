//! Deposits over what is there: the newest consent is the one that is used.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use dev::names;
use http::Method;
use secrecy::ExposeSecret as _;
use testkit::provider::Consent;
use tests::caller::Caller;
use tests::stack::{Blueprint, Stack};

#[tokio::test]
async fn a_new_deposit_is_used_from_the_next_call_on() {
    let stack = Stack::with_grant(Blueprint::default()).await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    let owner = async || {
        let reply = caller.call(Method::GET, "/contacts", &token).await;
        assert_eq!(reply.status, 200);
        reply.json()["owner"].as_str().unwrap().to_owned()
    };
    assert_eq!(owner().await, names::USER);
    // The first user's upstream access token would be good for minutes.
    let consent = Consent::of(names::OAUTH_CLIENT_ID, &names::SCOPES.join(" "), "bob");
    let granted = stack.provider().consent(&consent).unwrap();
    stack
        .deposit_token(names::GRANT, granted.refresh_token.expose_secret())
        .await;
    assert_eq!(owner().await, "bob");
}

#[tokio::test]
async fn a_grant_narrower_than_its_consent_gives_no_more_than_it_names() {
    let stack = Stack::start(Blueprint::default()).await;
    let granted = stack.consent();
    let token = granted.refresh_token.expose_secret();
    stack
        .deposit_token_for("acme-read", token, &["contacts.read"])
        .await;
    let caller = Caller::of(&stack).await.at("acme-read");
    let token = caller.token().await;
    let read = caller.call(Method::GET, "/contacts", &token).await;
    assert_eq!(read.status, 200);
    // The provider itself refuses: the token that it gave the enclave is no wider.
    let body = r#"{"name":"Eve","email":"eve@example.com"}"#;
    let json = [("content-type", "application/json")];
    let written = caller
        .call_with(Method::POST, "/contacts", &token, body, &json)
        .await;
    assert_eq!(written.status, 403);
    assert_eq!(written.header("tokenkeep-answered-by"), "api");
}
