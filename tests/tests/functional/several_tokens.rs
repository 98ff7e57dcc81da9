//! Several tokens for one proof, over real gRPC and from the command line.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use dev::{lab, names};
use http::Method;
use serde_json::{Value, json};
use tests::caller::Caller;
use tests::cli::Shell;
use tests::stack::{Blueprint, Stack};
use tokenkeep::TokenRequest;
use tokenkeep::token_client::TokenError;

use crate::policy::{issuance, newest};

#[tokio::test]
async fn a_proof_is_good_for_a_token_at_each_of_several_grants() {
    let stack = Stack::with_grant(Blueprint::default()).await;
    stack.deposit_as("both").await;
    let (caller, other) = (
        Caller::of(&stack).await,
        Caller::of(&stack).await.at("both"),
    );
    let wanted = [
        caller.sdk_request(),
        TokenRequest::new("nobodys", stack.resource()),
        other.sdk_request(),
    ];
    let answers = caller.sdk().tokens(&wanted).await.unwrap();
    let [first, refused, second] = answers.try_into().unwrap();
    match refused {
        Err(TokenError::Rpc(error)) => assert_eq!(error.reason(), Some("GRANT_NOT_FOUND")),
        other => panic!("{other:?}"),
    }
    let log = issuance(&stack).await;
    for (caller, token) in [(&caller, first.unwrap()), (&other, second.unwrap())] {
        // Each has its receipt and is good where it is meant to be, and nowhere else.
        assert!(token.receipt().is_some());
        let token = token.expose_secret();
        assert_eq!(
            caller.call(Method::GET, "/contacts", token).await.status,
            200
        );
    }
    let leaf = newest(&stack, &log, "gateway_call").await;
    assert_eq!(leaf["grant"], "both");
}

#[tokio::test]
async fn the_command_line_tells_each_token_and_each_refusal() {
    let stack = Stack::with_grant(Blueprint::default()).await;
    let file = |name: &str| stack.files().path(name).to_str().unwrap().to_owned();
    let shell = Shell::new(
        &stack.logs().join("shell.txt"),
        &[
            ("TOKENKEEP_SERVER", stack.url("grpc_url")),
            ("TOKENKEEP_POLICY", &file(lab::POLICY)),
            ("TOKENKEEP_ALLOW_EMULATED", &file(lab::ROOT)),
            ("TOKENKEEP_CERT", &file(lab::CLIENT_CERT)),
            ("TOKENKEEP_KEY", &file(lab::CLIENT_KEY)),
        ],
    );
    let (resource, key) = (stack.resource(), file(lab::DPOP_KEY));
    let elsewhere = "https://elsewhere.example/api";
    let ask = |json: bool, resources: [&str; 2]| {
        let mut arguments = vec!["token", "--grant", names::GRANT, "--dpop-key", &key];
        if json {
            arguments.insert(0, "--json");
        }
        for resource in resources {
            arguments.extend(["--resource", resource]);
        }
        arguments.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = async |json, resources| {
        let arguments = ask(json, resources);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        shell.run(&arguments).await
    };

    let told = run(true, [&resource, elsewhere]).await;
    assert_eq!(told.code, 1, "{}", told.stderr);
    let answers: Value = serde_json::from_str(&told.stdout).unwrap();
    let answers = answers["tokens"].as_array().unwrap();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0]["resource"], json!(resource));
    assert!(
        answers[0]["access_token"]
            .as_str()
            .unwrap()
            .starts_with("ey")
    );
    assert_eq!(answers[1]["resource"], json!(elsewhere));
    assert_eq!(answers[1]["error"]["reason"], json!("INVALID_TARGET"));

    let told = run(false, [&resource, &resource]).await;
    assert_eq!(told.code, 0, "{}", told.stderr);
    let lines: Vec<_> = told.stdout.lines().collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines
            .iter()
            .all(|line| line.starts_with(&format!("{resource} ey")))
    );
}
