//! What the listener for metrics tells: what happened, in the format that Prometheus reads, in few words however much is
//! thrown at the service.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::collections::BTreeMap;
use std::process::Stdio;

use dev::names;
use http::Method;
use proto::v1;
use serde_json::Value;
use testkit::python::PythonEnv;
use tests::caller::Caller;
use tests::plain::{plain_get, plain_send};
use tests::stack::{Blueprint, Stack};
use tests::wait::wait_for;
use tokio::io::AsyncWriteExt as _;

const METRICS: &str = "[metrics]\nlisten = \"127.0.0.1:0\"\n";

async fn measured() -> Stack {
    Stack::with_grant(Blueprint {
        host_toml: METRICS.to_owned(),
        ..Blueprint::default()
    })
    .await
}

/// Each sample and its value.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            (sample.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// The sum of all samples of a family whose labels hold all of these.
fn sum(page: &str, family: &str, labels: &[&str]) -> f64 {
    let samples = samples(page);
    let found = samples.iter().filter(|(sample, _)| {
        let name = sample.split('{').next().unwrap();
        name == family && labels.iter().all(|label| sample.contains(label))
    });
    found.map(|(_, value)| value).sum()
}

#[tokio::test]
async fn what_happens_is_counted() {
    let stack = measured().await;
    let caller = Caller::of(&stack).await;
    let before = stack.metrics().await;
    assert_eq!(caller.contacts().await.status, 200);
    let token = caller.token().await;
    let reply = caller.call(Method::GET, "/nowhere/at/all", &token).await;
    assert!(reply.status.is_client_error(), "{}", reply.status);
    let grown = |page: &str, family: &str, labels: &[&str]| {
        sum(page, family, labels) - sum(&before, family, labels)
    };
    let issue = [
        r#"service="tokenkeep.v1.TokenService""#,
        r#"method="IssueToken""#,
    ];
    let page = stack.metrics().await;
    let with = |more: &'static str| [issue[0], issue[1], more];
    assert!(grown(&page, "tokenkeep_rpc_total", &with(r#"code="OK""#)) >= 2.0);
    assert!(
        grown(
            &page,
            "tokenkeep_rpc_total",
            &with(r#"code="UNAUTHENTICATED""#)
        ) >= 2.0
    );
    assert!(grown(&page, "tokenkeep_rpc_seconds_count", &issue) >= 4.0);
    for stage in [
        "authenticate",
        "proof",
        "policy",
        "mint",
        "commit",
        "admit",
        "access",
        "upstream",
    ] {
        let label = format!("stage=\"{stage}\"");
        let count = grown(&page, "tokenkeep_stage_seconds_count", &[&label]);
        assert!(count >= 1.0, "{stage}: {page}");
    }
    for (family, labels) in [
        (
            "tokenkeep_refusals_total",
            vec![r#"what="token""#, r#"reason="INVALID_DPOP_PROOF""#],
        ),
        (
            "tokenkeep_http_answers_total",
            vec![r#"listener="gateway""#, r#"class="2xx""#],
        ),
        (
            "tokenkeep_http_answers_total",
            vec![r#"listener="gateway""#, r#"class="4xx""#],
        ),
        ("tokenkeep_http_requests_total", vec![r#"listener="grpc""#]),
        (
            "tokenkeep_connections_total",
            vec![r#"listener="gateway""#, r#"outcome="accepted""#],
        ),
        (
            "tokenkeep_handshake_seconds_count",
            vec![r#"listener="gateway""#],
        ),
        ("tokenkeep_store_group_batches_count", vec![]),
        ("tokenkeep_store_sync_seconds_count", vec![]),
        ("tokenkeep_exchanges_total", vec![r#"outcome="REFRESHED""#]),
        (
            "tokenkeep_provider_request_seconds_count",
            vec![r#"outcome="answered""#],
        ),
        ("tokenkeep_log_leaves", vec![r#"log="issuance""#]),
        ("tokenkeep_cache_entries", vec![r#"cache="proofs""#]),
        (
            "tokenkeep_cache_entries",
            vec![r#"cache="upstream_tokens""#],
        ),
    ] {
        let count = sum(&page, family, &labels);
        assert!(count >= 1.0, "{family} {labels:?}: {page}");
    }
    assert_eq!(sum(&page, "tokenkeep_grants", &[]), 1.0);
    assert_eq!(sum(&page, "tokenkeep_store_queue_capacity", &[]), 1_024.0);
    assert_eq!(
        sum(&page, "tokenkeep_build_info", &[r#"tier="emulated""#]),
        1.0
    );
    assert!(sum(&page, "tokenkeep_connections_open", &[r#"listener="grpc""#]) >= 1.0);
    assert!(sum(&page, "process_resident_memory_bytes", &[]) > 1e6);
    // The caller's own call is over.
    let idle = wait_for("no call is under way", async || {
        let page = stack.metrics().await;
        (sum(&page, "tokenkeep_rpc_in_flight", &[]) == 0.0).then_some(())
    });
    idle.await;
}

#[tokio::test]
async fn prometheus_own_parser_reads_the_page() {
    let python = PythonEnv::from_env().unwrap();
    let stack = measured().await;
    assert_eq!(Caller::of(&stack).await.contacts().await.status, 200);
    let page = stack.metrics().await;
    let mut judge = python.command("metrics.py");
    judge
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut judge = judge.spawn().unwrap();
    judge
        .stdin
        .take()
        .unwrap()
        .write_all(page.as_bytes())
        .await
        .unwrap();
    let told = judge.wait_with_output().await.unwrap();
    let errors = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "{errors}");
    let families: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(families["tokenkeep_rpc"]["kind"], "counter", "{families}");
    assert_eq!(families["tokenkeep_stage_seconds"]["kind"], "histogram");
    assert_eq!(families["tokenkeep_connections_open"]["kind"], "gauge");
}

#[tokio::test]
async fn whatever_is_thrown_at_it_the_labels_stay_few_and_hold_none_of_it() {
    let stack = measured().await;
    let caller = Caller::of(&stack).await;
    let channel = stack.client().await;
    let throw = async |number: usize| {
        let thrown = format!("thrown-{number:04}");
        let request = v1::IssueTokenRequest {
            grant: thrown.clone(),
            resource: format!("https://{thrown}.example/"),
            scopes: vec![thrown.clone()],
            ..Default::default()
        };
        let nonce = caller.nonce().await;
        let proof = caller.issue_proof(&nonce);
        assert!(caller.issue(request, &[&proof]).await.is_err());
        let id = v1::GetGrantRequest { id: thrown.clone() };
        assert!(channel.grants().get_grant(id).await.is_err());
        for path in [
            format!("/g/{thrown}/{}/x", names::TARGET),
            format!("/{thrown}?{thrown}"),
        ] {
            let url = format!("{}{path}", stack.url("gateway_url"));
            caller.https.get(&url).await;
            let url = format!("{}{path}", stack.url("public_url"));
            caller.https.get(&url).await;
        }
    };
    let series = |page: &str| samples(page).into_keys().collect::<Vec<_>>();
    throw(0).await;
    let before = stack.metrics().await;
    for number in 1..40 {
        throw(number).await;
    }
    let after = stack.metrics().await;
    assert_eq!(series(&before), series(&after));
    assert!(!after.contains("thrown"), "{after}");
    for id in [
        names::TENANT,
        names::CLIENT,
        names::GRANT,
        names::VENDOR,
        names::APP,
    ] {
        assert!(!after.contains(&format!("\"{id}\"")), "{id}");
    }
    assert!(series(&after).len() < 2_000, "{}", series(&after).len());
}

#[tokio::test]
async fn the_listener_for_metrics_tells_nothing_else() {
    let stack = measured().await;
    let addr = stack.metrics_addr();
    for path in ["/", "/metrics/", "/debug", "/jwks.json"] {
        let (status, _) = plain_get(&addr, path).await;
        assert_eq!(status, 404, "{path}");
    }
    let posted =
        b"POST /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let answer = String::from_utf8(plain_send(&addr, posted).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    let long = format!(
        "GET /metrics HTTP/1.1\r\nhost: {}\r\n\r\n",
        "a".repeat(16 * 1024)
    );
    let answer = String::from_utf8(plain_send(&addr, long.as_bytes()).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert!(stack.metrics().await.contains("tokenkeep_build_info"));
}

#[tokio::test]
async fn without_a_word_of_the_host_there_is_no_listener_for_metrics() {
    let stack = Stack::with_grant(Blueprint::default()).await;
    assert!(!stack.log().contains("metrics_started"));
}
