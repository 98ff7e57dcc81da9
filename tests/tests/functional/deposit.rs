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
