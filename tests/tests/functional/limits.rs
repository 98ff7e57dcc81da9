//! Limits that a vendor sets on its client and a tenant on its grants, from the command line to every door.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a failed test may panic"
)]

use dev::names;
use http::Method;
use http_body_util::BodyExt as _;
use proto::v1;
use serde_json::{Value, json};
use tests::caller::{Caller, refused};
use tests::stack::{Blueprint, Stack};
use tests::web_client::WebClient;
use tokenkeep::RpcError;
use tonic::Code;

use crate::keys::admin;
use crate::policy::{issuance, newest};

/// Eight times what passes at once.
const STREAM: &str = "/stream?chunks=8&chunk_bytes=65536&interval_ms=0";

async fn update(stack: &Stack, arguments: &[&str]) -> Value {
    let base = ["--json", "grant", "update", names::GRANT];
    admin(stack)
        .run(&[&base[..], arguments].concat())
        .await
        .json()
}

/// The refusal of a token, and after how many seconds to come back.
async fn refusal(caller: &Caller) -> (Code, String, u64) {
    let proof = caller.issue_proof(&caller.nonce().await);
    let status = Box::pin(caller.issue(caller.request(), &[&proof])).await;
    let status = status.unwrap_err();
    let after = RpcError::from(status.clone()).retry_after();
    let (code, reason) = refused(status);
    (code, reason, after.unwrap().as_secs())
}

#[tokio::test]
async fn limits_hold_at_each_door_and_say_when_to_come_back() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    let web = WebClient::register(&stack).await;
    crate::doors::deposit(&stack, "both").await;
    let day = |after_s: u64| (86_000..=86_400).contains(&after_s);

    // Of calls at the gateway, over a restart: the limit stays, what was counted does not.
    let view = update(&stack, &["--limit", "calls=1/d"]).await;
    assert_eq!(view["limits"], json!(["calls=1/d"]));
    for restarted in [false, true] {
        if restarted {
            stack.stop().await;
            stack.restart().await;
        }
        let caller = Caller::of(&stack).await;
        let token = caller.token().await;
        assert_eq!(
            caller.call(Method::GET, "/contacts", &token).await.status,
            200
        );
        let reply = caller.call(Method::GET, "/contacts", &token).await;
        assert_eq!(reply.refusal(), (429, "GRANT_LIMIT_REACHED".to_owned()));
        assert_eq!(reply.header("content-type"), "application/problem+json");
        assert!(day(reply.header("retry-after").parse().unwrap()));
        let other = caller.at("both");
        let token = other.token().await;
        let reply = other.call(Method::GET, "/contacts", &token).await;
        assert_eq!(reply.status, 200, "another grant is another account");
    }
    let shell = admin(&stack);
    let caller = Caller::of(&stack).await;

    // Of tokens, over gRPC and HTTP.
    update(&stack, &["--limit", "calls=none", "--limit", "tokens=1/d"]).await;
    caller.token().await;
    let (code, reason, after_s) = refusal(&caller).await;
    assert_eq!(
        (code, reason.as_str()),
        (Code::ResourceExhausted, "GRANT_LIMIT_REACHED")
    );
    assert!(day(after_s), "{after_s}");
    let view = update(&stack, &["--limit", "tokens=none"]).await;
    assert_eq!(view["limits"], json!([]));
    let limited = [
        "--json",
        "tenant",
        "limit",
        names::TENANT,
        "--limit",
        "tokens=1/d",
    ];
    let view = shell.run(&limited).await.json();
    assert_eq!(view["limits"], json!(["tokens=1/d"]));
    let resource = caller.at("both").url("");
    assert_eq!(web.token(&resource).await.status, 200);
    let reply = web.token(&resource).await;
    assert_eq!(reply.json()["error"], "slow_down", "{}", reply.json());
    assert!(day(reply.header("retry-after").parse().unwrap()));
    // The other grant is the same tenant's.
    assert_eq!(refusal(&caller).await.1, "TENANT_LIMIT_REACHED");
    let leaf = newest(&stack, "", "tenant_limits_set").await;
    assert_eq!(leaf["limits"]["tokens"]["amount"], 1);
    let unlimited = [&limited[..5], &["tokens=none"]].concat();
    assert_eq!(shell.run(&unlimited).await.json()["limits"], json!([]));

    // Of a client, by its vendor.
    let of_client = [
        "--json",
        "client",
        "update",
        names::CLIENT,
        "--limit",
        "tokens=1/d",
    ];
    let view = shell.run(&of_client).await.json();
    assert_eq!(view["limits"], json!(["tokens=1/d"]));
    caller.token().await;
    assert_eq!(refusal(&caller).await.1, "CLIENT_LIMIT_REACHED");
    assert_eq!(web.token(&resource).await.status, 200);
}

#[tokio::test]
async fn bytes_are_counted_both_ways_and_cut_where_the_limit_is() {
    let stack = Stack::with_grant(Blueprint::default()).await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;

    // A fast limit holds bytes back a little, and all of them come.
    update(&stack, &["--limit", "bytes=4M/s:65536"]).await;
    let reply = caller.call(Method::GET, STREAM, &token).await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 8 * 65_536));

    // A slow one lets a burst pass and cuts what is more.
    let target = format!("{}:bytes=100/d:131072", names::TARGET);
    let view = update(
        &stack,
        &["--limit", "bytes=none", "--target-limit", &target],
    )
    .await;
    assert_eq!(view["target_limits"], json!([target]));
    let nonce = caller.gateway_nonce().await;
    let mut open = caller.open(STREAM, &token, &nonce).await.unwrap();
    let mut passed = 0;
    let broken = loop {
        match open.response.body_mut().frame().await {
            Some(Ok(frame)) => passed += frame.into_data().unwrap().len(),
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    assert!(broken, "the answer must not look whole");
    // Whole pieces pass, of 16 KiB at most.
    assert!((114_688..=131_072).contains(&passed), "{passed}");
    let narrower = format!("{}:bytes=100/d:65536", names::TARGET);
    update(&stack, &["--target-limit", &narrower]).await;
    let reply = caller.call(Method::GET, "/contacts", &token).await;
    assert_eq!(reply.refusal(), (429, "TARGET_LIMIT_REACHED".to_owned()));
    assert!(reply.header("retry-after").parse::<u64>().unwrap() > 0);
    let log = issuance(&stack).await;
    let leaf = tests::wait::wait_for("the call's last leaf", async || {
        let leaf = newest(&stack, &log, "gateway_completed").await;
        (leaf["end"] == "limited").then_some(leaf)
    })
    .await;
    // What was handed on counts; of that, HTTP drops what it has not sent when the answer is cut.
    let handed = leaf["answer_bytes"].as_u64().unwrap();
    assert!((passed..=131_072).contains(&(handed as usize)), "{handed}");

    // What is sent counts as well: of an upload, the API does not get the end.
    stack.deposit_as("other").await;
    let other = caller.at("other");
    let token = other.token().await;
    let limit = [
        "--json",
        "grant",
        "update",
        "other",
        "--limit",
        "bytes=100/d:131072",
    ];
    drop(admin(&stack).run(&limit).await.ok());
    let upload = |bytes: usize| {
        let (other, token) = (&other, &token);
        async move {
            let body = vec![b'x'; bytes];
            other
                .call_with(Method::POST, "/echo-headers", token, body, &[])
                .await
        }
    };
    let reply = upload(100_000).await;
    assert_eq!(reply.json()["body_bytes"], 100_000);
    let reply = upload(100_000).await;
    assert_eq!(reply.refusal(), (429, "GRANT_LIMIT_REACHED".to_owned()));
}

#[tokio::test]
async fn whoever_is_not_the_tenants_sets_none_of_its_limits() {
    let stack = Stack::with_grant(Blueprint::default()).await;
    let channel = stack.client().await;
    let update = v1::UpdateGrantRequest {
        id: names::GRANT.to_owned(),
        terms: None,
    };
    let found = channel.grants().update_grant(update).await.map(|_| ());
    let client = (Code::Unauthenticated, "INVALID_CLIENT".to_owned());
    assert_eq!(refused(found.unwrap_err()), client);
    let set = v1::SetTenantLimitsRequest {
        id: names::TENANT.to_owned(),
        limits: None,
    };
    let found = channel.registry().set_tenant_limits(set).await.map(|_| ());
    assert_eq!(refused(found.unwrap_err()), client);

    let shell = admin(&stack);
    for (wrong, words) in [
        (
            &["grant", "update", names::GRANT][..],
            "nothing is to be changed",
        ),
        (
            &["grant", "update", names::GRANT, "--limit", "calls=0/s"],
            "calls=10/s:20",
        ),
        (
            &["grant", "update", names::GRANT, "--limit", "bytes=1/s"],
            "65536 bytes",
        ),
        (
            &["grant", "update", "nobody", "--limit", "calls=1/s"],
            "no such grant",
        ),
        (
            &[
                "grant",
                "update",
                names::GRANT,
                "--target-limit",
                "elsewhere:calls=1/s",
            ],
            "targets of the grant",
        ),
        (
            &["tenant", "limit", "nobody", "--limit", "calls=1/s"],
            "no such tenant",
        ),
        (
            &[
                "client",
                "update",
                names::CLIENT,
                "--limit",
                "exchanges=1/s",
            ],
            "grants and tenants",
        ),
    ] {
        let ended = shell.run(wrong).await;
        assert_ne!(ended.code, 0, "{wrong:?}");
        assert!(ended.stderr.contains(words), "{wrong:?}: {}", ended.stderr);
    }
}
