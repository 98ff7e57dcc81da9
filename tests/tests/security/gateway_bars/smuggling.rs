//! No shape of a request is two to what is behind the gateway, and none of the client's credentials get there.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a failed test may panic"
)]

use std::time::Duration;

use http::Method;
use tests::caller::Caller;
use tests::effort;
use tests::stack::Stack;
use tests::targets;
use tests::wait::wait_for;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::back_ends::{BackEnd, Seen};
use super::judge_none;
use super::shapes::{self, CANARY, Shape};

/// How long a server may think before the other half of the connection is closed.
const SILENCE: Duration = Duration::from_millis(300);

/// What a campaign against one back end came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    smuggled: Vec<String>,
    desync: Vec<String>,
    credentials: Vec<String>,
}

/// One in so many shapes on a day like any other.
fn every() -> usize {
    if effort::is_full() { 1 } else { 12 }
}

/// Reads what was seen: second requests, what was no request at all, and credentials of the client.
fn judge(seen: &[Seen], token: &str) -> Verdict {
    let mut verdict = Verdict::default();
    for one in seen {
        let line = format!("{} {} {}", one.status, one.target, one.head);
        if one.target.contains("/smuggled/") || one.head.contains("/smuggled/") {
            verdict.smuggled.push(line.clone());
        }
        // What is none of the requests that were meant. One that broke off is logged with its own target.
        let meant = ["/api/in/", "/api/probe/"];
        if !meant.iter().any(|prefix| one.target.starts_with(prefix)) {
            verdict.desync.push(line.clone());
        }
        let dpop = one.head.contains("DPoP ") || one.head.contains("dpop+jwt");
        if one.head.contains(CANARY) || one.head.contains(token) || dpop {
            verdict.credentials.push(line);
        }
    }
    verdict
}

/// Writes, waits for an answer, closes its half, and reads to the end.
async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) -> String {
    let mut read = Vec::new();
    // A server may refuse before it has read all.
    drop(stream.write_all(bytes).await);
    drop(stream.flush().await);
    while let Ok(Ok(more)) = timeout(SILENCE, stream.read_buf(&mut read)).await {
        if more == 0 {
            return String::from_utf8_lossy(&read).into_owned();
        }
    }
    drop(stream.shutdown().await);
    while let Ok(Ok(more)) = timeout(SILENCE, stream.read_buf(&mut read)).await {
        if more == 0 {
            break;
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}

fn request(shape: &Shape, target: &str, host: &str, credentials: &str) -> Vec<u8> {
    let Shape {
        name: _,
        method,
        version,
        lines,
        body,
    } = shape;
    format!("{method} {target} {version}\r\nHost: {host}\r\n{credentials}{lines}\r\n{body}")
        .into_bytes()
}

/// Sends the shapes through the gateway to one back end.
async fn through_gateway(stack: &Stack, back_end: &BackEnd) -> (Verdict, usize) {
    let base_url = format!("{}/api", back_end.url);
    targets::add(stack, back_end.name, targets::whole(&base_url), &[]).await;
    let caller = Caller::of(stack).await.at(back_end.name);
    let origin = stack.url("gateway_url").to_owned();
    let host = origin.strip_prefix("https://").unwrap().to_owned();
    let mut token = caller.token().await;
    let mut tried = 0;
    let mut swapped = Vec::new();
    for (number, shape) in shapes::all().iter().enumerate().step_by(every()) {
        if number % 100 < every() {
            token = caller.token().await;
        }
        let path = format!("/in/{number}");
        let url = caller.url(&path);
        let nonce = caller.gateway_nonce().await;
        let proof = caller.proof(shape.method, &url, &nonce, Some(&token));
        let credentials = format!("Authorization: DPoP {token}\r\nDPoP: {proof}\r\n");
        let target = url.strip_prefix(&origin).unwrap();
        let bytes = request(shape, target, &host, &credentials);
        let mut stream = caller.https.connect(&origin).await.unwrap();
        let answer = exchange(&mut stream, &bytes).await;
        // Whatever came back as the API's is one answer: what followed was the gateway's to refuse.
        let from_api = answer.matches("tokenkeep-answered-by: api").count();
        if from_api > 1 {
            swapped.push(format!("{}: {answer}", shape.name));
        }
        // The next one, on a connection of its own, gets its own answer.
        if number % 10 == 0 {
            let probe = format!("/probe/{number}");
            let nonce = caller.gateway_nonce().await;
            let reply = caller.try_call(Method::GET, &probe, &token, &nonce).await;
            let reply = reply.unwrap();
            assert_eq!(reply.status, 200, "{}: {:?}", shape.name, reply.refusal());
            wait_for("the probe was seen", async || {
                let seen = back_end.seen();
                seen.iter()
                    .any(|one| one.target == format!("/api{probe}"))
                    .then_some(())
            })
            .await;
        }
        tried += 1;
    }
    let seen = back_end.seen();
    let mut verdict = judge(&seen, &token);
    verdict.desync.extend(swapped);
    let numbers = seen
        .iter()
        .filter_map(|one| one.target.strip_prefix("/api/in/"));
    let mut numbers: Vec<&str> = numbers.collect();
    let all = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    // A request that arrives twice is one that was smuggled too.
    if numbers.len() != all {
        verdict
            .smuggled
            .push(format!("{} came twice", all - numbers.len()));
    }
    assert!(
        numbers.len() > 5,
        "{} was hardly reached: {numbers:?}",
        back_end.name
    );
    (verdict, tried)
}

#[tokio::test]
async fn gateway_bar_no_request_is_two_to_a_back_end() {
    let stack = Stack::start(Default::default()).await;
    let mut all = Verdict::default();
    let mut runs = 0;
    for back_end in [BackEnd::nginx().await, BackEnd::node().await] {
        let (verdict, tried) = Box::pin(through_gateway(&stack, &back_end)).await;
        all.smuggled.extend(verdict.smuggled);
        all.desync.extend(verdict.desync);
        all.credentials.extend(verdict.credentials);
        runs += tried;
    }
    let rows = [
        ("smuggled_second_requests", &all.smuggled),
        ("desync", &all.desync),
        ("client_credentials_forwarded", &all.credentials),
    ];
    for (name, found) in rows {
        judge_none(name, "count", found, runs);
    }
    if effort::is_full() {
        assert!(runs >= 800, "{runs} runs");
    }
}

/// A proxy that passes on what it gets as it is, credentials and all.
async fn passed_on_as_it_is(back_end: &BackEnd) -> Verdict {
    let address = back_end.url.strip_prefix("http://").unwrap();
    for (number, shape) in shapes::all().iter().enumerate().step_by(12) {
        let target = format!("/api/in/{number}");
        let credentials = "Authorization: DPoP the-clients-token\r\n";
        let bytes = request(shape, &target, "api.example", credentials);
        let mut stream = TcpStream::connect(address).await.unwrap();
        exchange(&mut stream, &bytes).await;
    }
    wait_for("second requests were seen", async || {
        let verdict = judge(&back_end.seen(), "the-clients-token");
        (!verdict.smuggled.is_empty()).then_some(verdict)
    })
    .await
}

#[tokio::test]
async fn gateway_bar_canary_a_proxy_that_rebuilds_nothing_is_found_out() {
    for back_end in [BackEnd::nginx().await, BackEnd::node().await] {
        let verdict = passed_on_as_it_is(&back_end).await;
        assert!(!verdict.smuggled.is_empty(), "{}", back_end.name);
        assert!(!verdict.desync.is_empty(), "{}", back_end.name);
        assert!(!verdict.credentials.is_empty(), "{}", back_end.name);
    }
}
