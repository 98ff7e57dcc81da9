//! Programs that know nothing of tokens, through `tokenkeep proxy` to an API that takes a bearer alone.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::fs;
use std::path::Path;

use dev::{lab, names};
use serde_json::{Value, json};
use testkit::node::NodeEnv;
use testkit::provider::{ApiOutcome, Event};
use tests::binary::binary;
use tests::process::Process;
use tests::stack::Stack;
use tokio::process::Command;

/// A proxy of the stack's client on `place`, and what it said.
async fn proxy(stack: &Stack, place: &str) -> (Process, Value) {
    let file = |name: &str| stack.files().path(name).to_str().unwrap().to_owned();
    let arguments = [
        "--json",
        "--server",
        stack.url("grpc_url"),
        "--policy",
        &file(lab::POLICY),
        "--allow-emulated",
        &file(lab::ROOT),
        "--cert",
        &file(lab::CLIENT_CERT),
        "--key",
        &file(lab::CLIENT_KEY),
        "proxy",
        "--grant",
        names::GRANT,
        "--target",
        names::TARGET,
        "--dpop-key",
        &file(lab::DPOP_KEY),
        "--listen",
        place,
    ];
    let mut process = Process::start(&binary("tokenkeep"), &arguments, stack.logs(), "proxy");
    let ready = process.ready().await.unwrap();
    (process, ready)
}

/// What curl printed: the body, then the status on a line of its own.
async fn curl(arguments: &[&str]) -> (String, String) {
    let told = [
        "--silent",
        "--show-error",
        "--max-time",
        "60",
        "--write-out",
        "\n%{http_code}",
    ];
    let output = Command::new("curl")
        .args(told)
        .args(arguments)
        .output()
        .await
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "curl {arguments:?}: {text} {said}");
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

fn calls(stack: &Stack) -> Vec<ApiOutcome> {
    let entries = stack.ledger().entries.into_iter();
    let calls = entries.filter_map(|entry| {
        if let Event::ApiCall { outcome, .. } = entry.event {
            Some(outcome)
        } else {
            None
        }
    });
    calls.collect()
}

#[tokio::test]
async fn curl_calls_a_bearer_api_without_a_token() {
    let stack = Stack::with_grant(Default::default()).await;
    let (mut process, ready) = proxy(&stack, "127.0.0.1:0").await;
    assert_eq!(ready["resource"], stack.resource());
    let base = ready["listening"].as_str().unwrap();
    let contacts = format!("{base}/contacts");

    let (status, body) = curl(&[contacts.as_str()]).await;
    assert_eq!(status, "200", "{body}");
    assert!(body.contains("Ada Lovelace"), "{body}");
    // What the program has for credentials is left behind.
    let (status, _) = curl(&["-H", "Authorization: Bearer mine", contacts.as_str()]).await;
    assert_eq!(status, "200");

    let (status, body) = curl(&[
        "--location",
        "--json",
        r#"{"name":"Grace","email":"grace@example.com"}"#,
        &contacts,
    ])
    .await;
    assert_eq!(status, "201", "{body}");

    // Longer than what is held in memory: it streams.
    let big = stack.logs().join("big");
    fs::write(&big, vec![b'x'; 1 << 20]).unwrap();
    let data = format!("@{}", big.display());
    let echo = format!("{base}/echo-headers");
    for how in [
        ["-H", "Expect: 100-continue"],
        ["-H", "Transfer-Encoding: chunked"],
    ] {
        let (status, body) = curl(&[
            how[0],
            how[1],
            "--data-binary",
            data.as_str(),
            echo.as_str(),
        ])
        .await;
        assert_eq!(status, "200", "{body}");
        let told: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(told["body_bytes"], 1 << 20, "{how:?}");
    }
    let before = calls(&stack).len();
    assert!(
        calls(&stack)
            .iter()
            .all(|outcome| *outcome == ApiOutcome::Accepted)
    );

    let outside = format!("{base}/../admin");
    // Refused without a word to the API.
    for (arguments, expected) in [
        (vec!["-H", "Host: evil.example", contacts.as_str()], "421"),
        (
            vec!["-H", "Origin: https://evil.example", contacts.as_str()],
            "403",
        ),
        (vec!["--proxy", base, "http://crm.example/contacts"], "400"),
        (vec!["--path-as-is", outside.as_str()], "400"),
    ] {
        let (status, body) = curl(&arguments).await;
        assert_eq!(status, expected, "{arguments:?}: {body}");
    }
    assert_eq!(calls(&stack).len(), before);
    // It ends when it is told to.
    assert!(process.stop().await.success());
}

#[tokio::test]
async fn a_unix_socket_serves_its_owner_and_follows_references() {
    let stack = Stack::with_grant(Default::default()).await;
    let socket = stack.logs().join("proxy.sock");
    let place = format!("unix:{}", socket.display());
    let (mut process, ready) = proxy(&stack, &place).await;
    assert_eq!(ready["listening"], json!(place));
    let socket_text = socket.to_str().unwrap();
    let follow = "http://localhost/redirect?to=/api/contacts";
    let (status, body) = curl(&["--unix-socket", socket_text, "--location", follow]).await;
    assert_eq!(status, "200", "{body}");
    assert!(body.contains("Ada Lovelace"), "{body}");
    assert!(process.stop().await.success());
    assert!(
        !Path::new(socket_text).exists(),
        "the socket's file is gone"
    );
}

#[tokio::test]
async fn an_unmodified_node_program_calls_a_bearer_api() {
    let stack = Stack::with_grant(Default::default()).await;
    let (mut process, ready) = proxy(&stack, "127.0.0.1:0").await;
    let node = NodeEnv::from_env().unwrap();
    let output = Command::new(&node.node)
        .arg(node.dir.join("bearer-program.mjs"))
        .arg(ready["listening"].as_str().unwrap())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        told,
        json!({
            "listed": ["Ada Lovelace", "Alan Turing"],
            "created": 201,
            "found": "Grace",
            "missing": 404,
            "streamed_bytes": 200_000,
        })
    );
    assert!(process.stop().await.success());
}
