//! What a collector of traces gets: spans of calls with their stages, in the caller's trace, and no name of anyone.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use dev::names;
use proto::v1::token_service_client::TokenServiceClient;
use serde_json::Value;
use tests::caller::{Caller, DPOP};
use tests::plain::Collector;
use tests::stack::{Blueprint, Stack};
use tests::wait::wait_for;
use tonic::Request;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

async fn traced(collector: &Collector) -> Stack {
    let endpoint = collector.url();
    Stack::with_grant(Blueprint {
        host_toml: format!("[traces]\nendpoint = \"{endpoint}\"\none_in = 1\n"),
        ..Blueprint::default()
    })
    .await
}

/// The spans right below one.
fn below(spans: &[Value], span: &Value) -> Vec<String> {
    let children = spans
        .iter()
        .filter(|other| other["parentSpanId"] == span["spanId"]);
    let names = children.map(|child| child["name"].as_str().unwrap().to_owned());
    names.collect()
}

#[tokio::test]
async fn a_call_is_a_span_of_its_callers_trace_with_its_stages_below() {
    let collector = Collector::start().await;
    let stack = traced(&collector).await;
    let caller = Caller::of(&stack).await;
    let mut request = Request::new(caller.request());
    let proof = caller.issue_proof(&caller.nonce().await);
    let metadata = request.metadata_mut();
    metadata.insert(DPOP, proof.parse().unwrap());
    let parent = format!("00-{TRACE}-{PARENT}-00");
    metadata.insert("traceparent", parent.parse().unwrap());
    let transport = caller.channel.transport().clone();
    let mut client = TokenServiceClient::with_origin(transport, caller.grpc().clone());
    let token = client
        .issue_token(request)
        .await
        .unwrap()
        .into_inner()
        .access_token;
    assert_eq!(
        caller
            .call(http::Method::GET, "/contacts", &token)
            .await
            .status,
        200
    );

    let (spans, own) = wait_for("the caller's trace", async || {
        let spans = collector.spans();
        let own = spans
            .iter()
            .find(|span| span["traceId"] == TRACE && span["kind"] == 2);
        own.cloned().map(|own| (spans, own))
    })
    .await;
    assert_eq!(own["parentSpanId"], PARENT);
    assert_eq!(own["name"], "tokenkeep.v1.TokenService/IssueToken");
    let stages = ["authenticate", "proof", "policy", "mint", "commit"];
    assert_eq!(below(&spans, &own), stages);
    let at = |span: &Value, name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
    for span in spans
        .iter()
        .filter(|span| span["parentSpanId"] == own["spanId"])
    {
        assert!(at(span, "startTimeUnixNano") >= at(&own, "startTimeUnixNano"));
        assert!(at(span, "endTimeUnixNano") <= at(&own, "endTimeUnixNano"));
    }

    // The call through the gateway, and the refusal that gave the nonce, have traces of their own.
    let spans = wait_for("the gateway's call", async || {
        let spans = collector.spans();
        let called = |span: &&Value| {
            span["name"] == "tokenkeep.gateway/Call" && below(&spans, span).len() >= 4
        };
        spans
            .iter()
            .any(|span| called(&span))
            .then(|| spans.clone())
    })
    .await;
    let call = spans
        .iter()
        .find(|span| below(&spans, span).contains(&"upstream".to_owned()));
    let stages = below(&spans, call.unwrap());
    assert_eq!(stages, ["admit", "commit", "access", "upstream"]);
    let reason = r#"{"key":"tokenkeep.reason","value":{"stringValue":"INVALID_DPOP_PROOF"}}"#;
    let all = collector.came().concat();
    assert!(all.contains(reason), "{all}");
    for name in [
        names::TENANT,
        names::VENDOR,
        names::CLIENT,
        names::GRANT,
        names::APP,
        names::PROVIDER,
        &token,
    ] {
        assert!(!all.contains(&format!("\"{name}\"")), "{name}");
    }
    let head = all.lines().next().unwrap();
    assert_eq!(head, "POST /v1/traces HTTP/1.1");
    assert!(all.contains("content-type: application/json"));
}

#[tokio::test]
async fn a_collector_that_is_away_holds_nobody_up() {
    // A port that nobody listens on.
    let endpoint = {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        gone.local_addr().unwrap()
    };
    let stack = Stack::with_grant(Blueprint {
        host_toml: format!(
            "[metrics]\nlisten = \"127.0.0.1:0\"\n[traces]\nendpoint = \"http://{endpoint}\"\none_in = 1\n"
        ),
        ..Blueprint::default()
    })
    .await;
    let caller = Caller::of(&stack).await;
    assert_eq!(caller.contacts().await.status, 200);
    wait_for("the loss is told", async || {
        let page = stack.metrics().await;
        let lost = page.contains("tokenkeep_traces_total{outcome=\"NOT_TAKEN\"}");
        (lost && stack.log().contains("traces_not_taken")).then_some(())
    })
    .await;
    assert_eq!(caller.contacts().await.status, 200);
}

#[tokio::test]
async fn the_last_traces_are_sent_when_the_service_stops() {
    let collector = Collector::start().await;
    let mut stack = traced(&collector).await;
    let caller = Caller::of(&stack).await;
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let mut request = Request::new(caller.request());
    let metadata = request.metadata_mut();
    metadata.insert("traceparent", parent.parse().unwrap());
    let transport = caller.channel.transport().clone();
    let mut client = TokenServiceClient::with_origin(transport, caller.grpc().clone());
    assert!(client.issue_token(request).await.is_err());
    drop((client, caller));
    assert_eq!(stack.stop().await.code(), Some(0));
    let spans = collector.spans();
    assert!(spans.iter().any(|span| span["traceId"] == TRACE));
}
