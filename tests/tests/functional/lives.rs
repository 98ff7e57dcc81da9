//! Grants with a life: who answers for them, when they fall asleep and are woken, when they are to be reviewed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use dev::names;
use http::Method;
use proto::v1;
use serde_json::{Value, json};
use tests::caller::{Caller, refused};
use tests::stack::{Blueprint, Stack};
use tests::wait::wait_for;
use tokenkeep::rpc_error::answer;
use tonic::Code;

use crate::keys::admin;
use crate::policy::newest;

async fn grant(stack: &Stack, arguments: &[&str]) -> Value {
    let arguments = [&["--json", "grant"], arguments].concat();
    admin(stack).run(&arguments).await.json()
}

#[tokio::test]
async fn a_grant_falls_asleep_and_is_woken() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    assert_eq!(
        caller.call(Method::GET, "/contacts", &token).await.status,
        200
    );
    let view = grant(&stack, &["update", names::GRANT, "--sleep-after", "2s"]).await;
    assert_eq!(view["sleep_after_idle_s"], 2);
    wait_for("the grant sleeps", async || {
        let state = stack.grant(names::GRANT).await.state();
        (state == v1::GrantState::Asleep).then_some(())
    })
    .await;
    assert_eq!(
        newest(&stack, "", "grant_slept").await["grant"],
        names::GRANT
    );
    for restarted in [false, true] {
        if restarted {
            stack.stop().await;
            stack.restart().await;
        }
        let caller = Caller::of(&stack).await;
        let proof = caller.issue_proof(&caller.nonce().await);
        let status = Box::pin(caller.issue(caller.request(), &[&proof])).await;
        let asleep = (Code::FailedPrecondition, "GRANT_ASLEEP".to_owned());
        assert_eq!(refused(status.unwrap_err()), asleep);
        let reply = caller.call(Method::GET, "/contacts", &token).await;
        assert_eq!(reply.refusal(), (403, "GRANT_ASLEEP".to_owned()));
    }
    // So that it does not fall asleep again in the middle of this.
    grant(&stack, &["update", names::GRANT, "--sleep-after", "30d"]).await;
    let shown = grant(&stack, &["show", names::GRANT]).await;
    assert_eq!(shown["state"], "asleep");
    let view = grant(&stack, &["wake", names::GRANT]).await;
    assert_eq!(
        (&view["state"], &view["asleep_since_s"]),
        (&json!("active"), &json!(0))
    );
    let woken = newest(&stack, "", "grant_woken").await;
    assert_eq!(woken["by"], "dev-admin");
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    assert_eq!(
        caller.call(Method::GET, "/contacts", &token).await.status,
        200
    );
}

#[tokio::test]
async fn a_grant_has_an_owner_a_purpose_and_a_review_that_is_told() {
    let stack = Stack::with_grant(Blueprint::default()).await;
    let view = grant(
        &stack,
        &[
            "update",
            names::GRANT,
            "--owner",
            "crm-team@acme.test",
            "--purpose",
            "nightly sync",
            "--review",
            "2020-02-29",
        ],
    )
    .await;
    let shown = grant(&stack, &["show", names::GRANT]).await;
    for view in [view, shown] {
        assert_eq!(view["owner"], "crm-team@acme.test");
        assert_eq!(view["purpose"], "nightly sync");
        assert_eq!(view["review"], "2020-02-29");
    }
    // A date that has passed is told at once.
    let due = wait_for("the review is told", async || {
        let request = v1::ListLeavesRequest {
            tenant: names::TENANT.to_owned(),
            ..v1::ListLeavesRequest::default()
        };
        let admin = stack.admin().await;
        let found = answer(admin.audit().list_leaves(request)).await.unwrap();
        let leaves = found.into_inner().leaves.into_iter();
        let mut events = leaves.map(|leaf| serde_json::from_str::<Value>(&leaf.event).unwrap());
        events.rfind(|event| event["event"] == "grant_review_due")
    })
    .await;
    assert_eq!(
        (&due["owner"], &due["review_at_s"]),
        (&json!("crm-team@acme.test"), &json!(1_582_934_400))
    );
    stack.deposit_as("other").await;
    let listed = async |before: &str| {
        let arguments = ["list", "--tenant", names::TENANT, "--review-before", before];
        let listed = grant(&stack, &arguments).await;
        let grants = listed["grants"].as_array().unwrap().clone();
        let ids = grants.iter().map(|grant| grant["id"].as_str().unwrap());
        ids.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(listed("2020-03-01").await, [names::GRANT]);
    assert_eq!(listed("2020-02-29").await, [""; 0]);

    let shell = admin(&stack);
    for (wrong, words) in [
        (["--review", "2020-02-30"], "YYYY-MM-DD"),
        (["--sleep-after", "0d"], "30d, 12h"),
        (["--owner", "a\u{7}b"], "no control characters"),
    ] {
        let arguments = [&["grant", "update", names::GRANT], &wrong[..]].concat();
        let ended = shell.run(&arguments).await;
        assert_ne!(ended.code, 0, "{wrong:?}");
        assert!(ended.stderr.contains(words), "{wrong:?}: {}", ended.stderr);
    }
}
