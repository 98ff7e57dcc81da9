//! Calls that a person of the tenant must agree to, from the agent's refusal to its one call.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a failed test may panic"
)]

use dev::names;
use http::Method;
use proto::v1;
use serde_json::{Value, json};
use testkit::provider::Event;
use tests::caller::{Caller, refused};
use tests::stack::{Blueprint, Stack};
use tests::targets;
use tonic::Code;

use crate::keys::admin;
use crate::policy::{issuance, newest};

fn operation(id: &str, method: &str, path: &str) -> v1::Operation {
    v1::Operation {
        id: id.to_owned(),
        method: method.to_owned(),
        path: path.to_owned(),
        query: vec!["page".to_owned()],
        ..v1::Operation::default()
    }
}

async fn run(stack: &Stack, arguments: &[&str]) -> Value {
    let arguments = [&["--json"], arguments].concat();
    admin(stack).run(&arguments).await.json()
}

fn api_calls(stack: &Stack) -> usize {
    let entries = stack.ledger().entries.into_iter();
    let calls = entries.filter(|entry| matches!(entry.event, Event::ApiCall { .. }));
    calls.count()
}

#[tokio::test]
async fn an_agents_call_waits_for_a_person_and_is_made_once() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    let target = v1::Target {
        operations: vec![
            operation("list", "GET", "/contacts"),
            operation("get", "GET", "/contacts/{id:integer}"),
        ],
        ..targets::whole(&format!("{}/api", stack.provider().base_url()))
    };
    targets::add(&stack, "listed", target, &[]).await;
    let view = run(
        &stack,
        &["client", "update", names::CLIENT, "--kind", "agent"],
    )
    .await;
    assert_eq!(view["kind"], "agent");
    let named = format!("{}/get", names::TARGET);
    let update = ["grant", "update", "listed", "--approve-operation", &named];
    let view = run(&stack, &update).await;
    assert_eq!(view["approval_operations"], json!([named]));

    let caller = Caller::of(&stack).await.at("listed");
    let token = caller.token().await;
    let log = issuance(&stack).await;
    let leaf = newest(&stack, &log, "token_issued").await;
    assert_eq!(leaf["agent"], true);
    let reply = caller.call(Method::GET, "/contacts", &token).await;
    assert_eq!(reply.status, 200, "other operations need nobody");
    let seen = api_calls(&stack);

    let required = (403, "APPROVAL_REQUIRED".to_owned());
    let reply = caller.call(Method::GET, "/contacts/1", &token).await;
    assert_eq!(reply.refusal(), required);
    assert_eq!(reply.header("retry-after"), "15");
    let id = reply.json()["approval"].as_str().unwrap().to_owned();
    let list = ["approval", "list", "--tenant", names::TENANT];
    let listed = run(&stack, &list).await;
    let waiting = &listed["approvals"][0];
    assert_eq!(
        (&waiting["id"], &waiting["state"], &waiting["path"]),
        (&json!(id), &json!("waiting"), &json!("/contacts/1"))
    );
    let leaf = newest(&stack, &log, "approval_asked").await;
    assert_eq!(leaf["approval"], id.as_str());

    let denied = run(&stack, &["approval", "deny", &id]).await;
    assert_eq!(
        (&denied["state"], &denied["by"]),
        (&json!("denied"), &json!("dev-admin"))
    );
    let reply = caller.call(Method::GET, "/contacts/1", &token).await;
    assert_eq!(reply.refusal(), (403, "APPROVAL_DENIED".to_owned()));
    let approve = ["approval", "approve", &id, "--reason", "agreed by phone"];
    assert_eq!(run(&stack, &approve).await["state"], "approved");
    let leaf = newest(&stack, "", "approval_approved").await;
    assert_eq!(
        (&leaf["approval"], &leaf["reason"]),
        (&json!(id), &json!("agreed by phone"))
    );
    // Another call is another question.
    for other in ["/contacts/2", "/contacts/1?page=1"] {
        let url = caller.url(other.split('?').next().unwrap());
        let nonce = caller.gateway_nonce().await;
        let proof = caller.proof("GET", &url, &nonce, Some(&token));
        let authorization = format!("DPoP {token}");
        let headers = [
            ("authorization", authorization.as_str()),
            ("dpop", proof.as_str()),
        ];
        let whole = caller.url(other);
        let reply = caller.https.send(Method::GET, &whole, &headers, "").await;
        assert_eq!(reply.refusal(), required, "{other}");
        assert_ne!(reply.json()["approval"], id.as_str());
    }
    assert_eq!(api_calls(&stack), seen, "the API has seen none of these");
    let reply = caller.call(Method::GET, "/contacts/1", &token).await;
    assert_eq!(reply.status, 200);
    let leaf = newest(&stack, &log, "gateway_call").await;
    assert_eq!(
        (&leaf["approval"], &leaf["agent"]),
        (&json!(id), &json!(true))
    );
    let reply = caller.call(Method::GET, "/contacts/1", &token).await;
    assert_eq!(reply.refusal(), required, "once");
    assert_eq!(api_calls(&stack), seen + 1);

    // Whoever calls can't approve, and a restart asks anew.
    let request = v1::DecideApprovalRequest {
        id: reply.json()["approval"].as_str().unwrap().to_owned(),
        decision: v1::ApprovalDecision::Approve.into(),
        reason: String::new(),
    };
    let mut grants = caller.channel.grants();
    let status = grants.decide_approval(request).await.unwrap_err();
    assert_eq!(
        refused(status),
        (Code::Unauthenticated, "INVALID_CLIENT".to_owned())
    );
    stack.stop().await;
    stack.restart().await;
    let listed = run(&stack, &list).await;
    assert_eq!(listed["approvals"], json!([]));
    let none = ["grant", "update", "listed", "--approve-operation", "none"];
    assert_eq!(run(&stack, &none).await["approval_operations"], json!([]));
    let caller = Caller::of(&stack).await.at("listed");
    let token = caller.token().await;
    let reply = caller.call(Method::GET, "/contacts/1", &token).await;
    assert_eq!(reply.status, 200);

    let shell = admin(&stack);
    for (wrong, words) in [
        (&["approval", "approve", "unknown"][..], "no such approval"),
        (
            &[
                "grant",
                "update",
                "listed",
                "--approve-operation",
                "api/unknown",
            ],
            "operations that the grant's targets have",
        ),
        (
            &[
                "grant",
                "update",
                "listed",
                "--approve-operation",
                "unknown",
            ],
            "approval_operations",
        ),
    ] {
        let ended = shell.run(wrong).await;
        assert_ne!(ended.code, 0, "{wrong:?}");
        assert!(ended.stderr.contains(words), "{wrong:?}: {}", ended.stderr);
    }
}
