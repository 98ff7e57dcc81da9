//! Chains of actors over real gRPC: refused unless the grant allows them, in the token, in the log, at the gateway.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use base64ct::{Base64UrlUnpadded, Encoding as _};
use dev::names;
use http::Method;
use proto::v1;
use serde_json::{Value, json};
use tests::caller::{Caller, refused};
use tests::stack::{Blueprint, Stack};
use tonic::Code;

use crate::keys::admin;
use crate::policy::{issuance, newest};

async fn ask(caller: &Caller, actors: &[&str]) -> Result<String, tonic::Status> {
    let request = v1::IssueTokenRequest {
        actors: actors.iter().map(|actor| (*actor).to_owned()).collect(),
        ..caller.request()
    };
    let proof = caller.issue_proof(&caller.nonce().await);
    let issued = Box::pin(caller.issue(request, &[&proof])).await?;
    Ok(issued.access_token)
}

#[tokio::test]
async fn a_chain_of_actors_is_in_token_and_log_as_deep_as_the_grant_allows() {
    let stack = Stack::with_grant(Blueprint::default()).await;
    let caller = Caller::of(&stack).await;
    let not_allowed = (Code::PermissionDenied, "ACTOR_CHAIN_NOT_ALLOWED".to_owned());
    let status = ask(&caller, &["jane"]).await.unwrap_err();
    assert_eq!(refused(status), not_allowed);

    let allow = async |depth: &str| {
        let update = [
            "--json",
            "grant",
            "update",
            names::GRANT,
            "--max-actor-depth",
            depth,
        ];
        admin(&stack).run(&update).await.json()
    };
    assert_eq!(allow("2").await["max_actor_depth"], 2);
    let token = ask(&caller, &["assistant", "jane"]).await.unwrap();
    let claims = token.split('.').nth(1).unwrap();
    let claims = Base64UrlUnpadded::decode_vec(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let act = json!({"sub": "assistant", "act": {"sub": "jane"}});
    assert_eq!(claims["act"], act);
    assert_eq!(claims["sub"], names::CLIENT);
    let log = issuance(&stack).await;
    let leaf = newest(&stack, &log, "token_issued").await;
    assert_eq!(leaf["actors"], json!(["assistant", "jane"]));
    let reply = caller.call(Method::GET, "/contacts", &token).await;
    assert_eq!(reply.status, 200);
    let leaf = newest(&stack, &log, "gateway_call").await;
    assert_eq!(leaf["actors"], json!(["assistant", "jane"]));

    for (actors, expected) in [
        (&["a", "b", "c"][..], not_allowed.clone()),
        (&[""], (Code::InvalidArgument, "INVALID_REQUEST".to_owned())),
        (
            &["1", "2", "3", "4", "5", "6", "7", "8", "9"],
            (Code::InvalidArgument, "INVALID_REQUEST".to_owned()),
        ),
    ] {
        let status = ask(&caller, actors).await.unwrap_err();
        assert_eq!(refused(status), expected, "{actors:?}");
    }

    // A token of before is held to what the grant allows now.
    allow("1").await;
    let reply = caller.call(Method::GET, "/contacts", &token).await;
    assert_eq!(reply.refusal(), (403, "ACTOR_CHAIN_NOT_ALLOWED".to_owned()));
    let plain = caller.token().await;
    let reply = caller.call(Method::GET, "/contacts", &plain).await;
    assert_eq!(reply.status, 200);
}
