//! What the gateway refuses over real HTTPS: one valid call, one change a row.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use base64ct::{Base64UrlUnpadded, Encoding as _};
use bytes::Bytes;
use dev::names;
use http::Method;
use proto::v1;
use testkit::provider::{ApiOutcome, Event};
use tests::caller::{Caller, DPOP};
use tests::https::Reply;
use tests::stack::{Blueprint, Stack};
use tests::wait::wait_for;

/// How many calls reached the API.
fn api_calls(stack: &Stack) -> usize {
    let is_call = |event: &Event| matches!(event, Event::ApiCall { .. });
    let entries = stack.ledger().entries;
    entries.iter().filter(|entry| is_call(&entry.event)).count()
}

/// `GET url` with these headers and nothing else.
async fn get(caller: &Caller, url: &str, headers: &[(&str, &str)]) -> Reply {
    caller.https.send(Method::GET, url, headers, "").await
}

#[tokio::test]
async fn each_flaw_of_credentials_is_refused_before_the_api_sees_anything() {
    let stack = Stack::with_grant(Default::default()).await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    assert_eq!(
        caller.call(Method::GET, "/contacts", &token).await.status,
        200
    );
    let seen = api_calls(&stack);

    let url = caller.url("/contacts");
    let nonce = caller.gateway_nonce().await;
    let token_nonce = caller.nonce().await;
    let other_token = caller.token().await;
    let dpop = format!("DPoP {token}");
    let bearer = format!("Bearer {token}");
    let proof = |htm: &str, url: &str, nonce: &str, token: Option<&str>| {
        caller.proof(htm, url, nonce, token)
    };
    let right = || proof("GET", &url, &nonce, Some(&token));
    let used = right();
    let headers = [("authorization", dpop.as_str()), (DPOP, &used)];
    assert_eq!(get(&caller, &url, &headers).await.status, 200);
    let seen = seen + 1;
    let (head, rest) = token.split_once('.').unwrap();
    let claims = rest.split_once('.').unwrap().0;
    let other_signature = other_token.rsplit_once('.').unwrap().1;
    let forged = format!("DPoP {head}.{claims}.{other_signature}");
    let none = Base64UrlUnpadded::encode_string(br#"{"typ":"at+jwt","alg":"none"}"#);
    let unsigned = format!("DPoP {none}.{claims}.");
    let provider_like = "DPoP provider-at_0123456789".to_owned();

    let no_credentials = (401, "NO_CREDENTIALS");
    let token_refused = (401, "INVALID_TOKEN");
    let proof_refused = (401, "INVALID_DPOP_PROOF");
    let use_nonce = (401, "USE_DPOP_NONCE");
    let authorized = |proof: String| vec![("authorization", dpop.clone()), (DPOP, proof)];
    let with = |value: &str| vec![("authorization", value.to_owned()), (DPOP, right())];
    type Row = (
        &'static str,
        Vec<(&'static str, String)>,
        (u16, &'static str),
    );
    let rows: Vec<Row> = vec![
        ("nothing", vec![], no_credentials),
        ("a proof alone", vec![(DPOP, right())], no_credentials),
        ("the bearer scheme", with(&bearer), token_refused),
        ("the basic scheme", with("Basic eDp5"), no_credentials),
        ("no scheme", with(&token), no_credentials),
        (
            "two tokens",
            [with(&dpop), vec![("authorization", dpop.clone())]].concat(),
            no_credentials,
        ),
        ("no token", with("DPoP "), no_credentials),
        ("what is no JWT", with("DPoP token"), token_refused),
        ("a provider's token", with(&provider_like), token_refused),
        ("another token's signature", with(&forged), token_refused),
        ("no signature", with(&unsigned), token_refused),
        (
            "a signature cut short",
            with(&dpop[..dpop.len() - 2]),
            token_refused,
        ),
        (
            "no proof",
            vec![("authorization", dpop.clone())],
            proof_refused,
        ),
        (
            "two proofs",
            [with(&dpop), vec![(DPOP, right())]].concat(),
            proof_refused,
        ),
        (
            "the same proof again",
            authorized(used.clone()),
            proof_refused,
        ),
        (
            "no nonce",
            authorized(proof("GET", &url, "", Some(&token))),
            use_nonce,
        ),
        (
            "a nonce of the token service",
            authorized(proof("GET", &url, &token_nonce, Some(&token))),
            use_nonce,
        ),
        (
            "no ath",
            authorized(proof("GET", &url, &nonce, None)),
            proof_refused,
        ),
        (
            "another token's ath",
            authorized(proof("GET", &url, &nonce, Some(&other_token))),
            proof_refused,
        ),
        (
            "another method",
            authorized(proof("POST", &url, &nonce, Some(&token))),
            proof_refused,
        ),
        (
            "another path",
            authorized(proof("GET", &caller.url("/other"), &nonce, Some(&token))),
            proof_refused,
        ),
        (
            "another server",
            authorized(proof(
                "GET",
                &url.replace("127.0.0.1", "localhost"),
                &nonce,
                Some(&token),
            )),
            proof_refused,
        ),
    ];
    for (name, headers, (status, reason)) in rows {
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let reply = get(&caller, &url, &headers).await;
        assert_eq!(reply.refusal(), (status, reason.to_owned()), "{name}");
        assert_eq!(reply.header("tokenkeep-answered-by"), "gateway", "{name}");
        assert!(!reply.header("dpop-nonce").is_empty(), "{name}");
        assert!(
            reply.header("www-authenticate").starts_with("DPoP "),
            "{name}"
        );
    }
    assert_eq!(api_calls(&stack), seen, "the API has seen none of these");
}

#[tokio::test]
async fn a_token_for_another_resource_is_refused() {
    let stack = Stack::with_grant(Default::default()).await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    let nonce = caller.gateway_nonce().await;
    let authorization = format!("DPoP {token}");
    for other in ["other/api", "acme-crm/other"] {
        let url = format!("{}/g/{other}/contacts", stack.url("gateway_url"));
        let proof = caller.proof("GET", &url, &nonce, Some(&token));
        let headers = [("authorization", authorization.as_str()), (DPOP, &proof)];
        let reply = get(&caller, &url, &headers).await;
        assert_eq!(
            reply.refusal(),
            (401, "INVALID_TOKEN".to_owned()),
            "{other}"
        );
    }
    assert_eq!(api_calls(&stack), 0);
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    let stack = Stack::with_grant(Blueprint {
        manifest: "[token]\nmax_lifetime_s = 1\n",
        ..Default::default()
    })
    .await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    // It lives for a second; the gateway says when it is over.
    let reply = wait_for("the token has expired", async || {
        let reply = Box::pin(caller.call(Method::GET, "/contacts", &token)).await;
        (reply.status != 200).then_some(reply)
    })
    .await;
    assert_eq!(reply.refusal(), (401, "INVALID_TOKEN".to_owned()));
    let resource = stack.resource();
    let (origin, names) = resource.split_once("/g/").unwrap();
    let metadata = format!("{origin}/.well-known/oauth-protected-resource/g/{names}");
    assert_eq!(
        reply.header("www-authenticate"),
        format!(
            "DPoP error=\"invalid_token\", algs=\"ES256 EdDSA\", resource_metadata=\"{metadata}\""
        )
    );
    let told = caller.https.get(&metadata).await.json();
    assert_eq!(told["resource"], resource);
}

#[tokio::test]
async fn tricks_with_paths_and_methods_reach_nothing() {
    let stack = Stack::with_grant(Default::default()).await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    let origin = stack.url("gateway_url").to_owned();
    let prefix = format!("/g/{}/{}", names::GRANT, names::TARGET);
    let host = origin.strip_prefix("https://").unwrap();
    let send = async |method: &str, target: &str| {
        let nonce = caller.gateway_nonce().await;
        let proof = caller.proof(method, &format!("{origin}{target}"), &nonce, Some(&token));
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: DPoP {token}\r\nDPoP: {proof}\r\n\
             Connection: close\r\n\r\n"
        );
        caller.https.raw(&origin, request.as_bytes()).await
    };
    let ok = send("GET", &format!("{prefix}/contacts")).await;
    assert!(ok.starts_with("HTTP/1.1 200 "), "{ok}");
    let seen = api_calls(&stack);

    let tricks = [
        "/../admin",
        "/./contacts",
        "/contacts/..",
        "/%2e%2e/admin",
        "/%2E./admin",
        "/contacts%2f..%2fadmin",
        "/contacts%5c..%5cadmin",
        "/%252e%252e/admin",
        "//evil.example/contacts",
        "/contacts;/../../admin",
        "/..;/admin",
        "/contacts%00",
        "/contacts%0d%0aHost:%20evil",
        "/contacts%",
        "/contacts%zz",
    ];
    for trick in tricks {
        let answer = send("GET", &format!("{prefix}{trick}")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{trick}: {answer}");
        assert!(
            answer.contains("\"reason\":\"INVALID_PATH\""),
            "{trick}: {answer}"
        );
    }
    for target in [
        "/",
        "/g",
        "/g/",
        "/g/acme-crm",
        "/G/acme-crm/api/contacts",
        "/g/Acme-CRM/api/x",
    ] {
        let answer = send("GET", target).await;
        assert!(
            answer.contains("\"reason\":\"INVALID_PATH\""),
            "{target}: {answer}"
        );
    }
    // With a proof for it the head would be too large already.
    let long = format!(
        "GET {prefix}/{} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n",
        "a".repeat(8 * 1024)
    );
    let answer = caller.https.raw(&origin, long.as_bytes()).await;
    assert!(answer.contains("\"reason\":\"INVALID_PATH\""), "{answer}");
    for method in ["TRACE", "CONNECT", "OPTIONS", "PROPFIND", "get"] {
        let target = match method {
            "CONNECT" => "evil.example:443".to_owned(),
            _ => format!("{prefix}/contacts"),
        };
        let answer = send(method, &target).await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{method}: {answer}");
        assert!(
            answer.contains("\"reason\":\"METHOD_NOT_ALLOWED\""),
            "{method}: {answer}"
        );
    }
    // What HTTP itself forbids gets no further than the parser.
    for smuggled in [
        format!("GET {prefix}/con tacts HTTP/1.1\r\nHost: {host}\r\n\r\n"),
        format!(
            "POST {prefix}/contacts HTTP/1.1\r\nHost: {host}\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde"
        ),
        format!("GET {prefix}/contacts HTTP/1.1\r\nHost: {host}\r\n X-Folded: 1\r\n\r\n"),
        format!(
            "GET {prefix}/contacts HTTP/1.1\r\nHost: {host}\r\nA{}: 1\r\n\r\n",
            "a".repeat(40_000)
        ),
    ] {
        let answer = caller.https.raw(&origin, smuggled.as_bytes()).await;
        let refused = answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 431 ");
        assert!(refused, "{smuggled}: {answer}");
    }
    assert_eq!(api_calls(&stack), seen, "the API has seen none of these");
}

#[tokio::test]
async fn what_the_client_sends_beside_is_left_behind_and_the_bearer_goes_in_last() {
    let stack = Stack::with_grant(Default::default()).await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    let sent = [
        ("accept", "application/json"),
        ("idempotency-key", "one"),
        ("x-api-key", "stolen"),
        ("proxy-authorization", "Basic c3RvbGVu"),
        ("cookie", "session=stolen"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-http-method-override", "DELETE"),
        ("forwarded", "host=evil.example"),
        ("connection", "authorization"),
        ("te", "trailers"),
    ];
    let reply = caller
        .call_with(
            Method::POST,
            "/echo-headers?a=b",
            &token,
            Bytes::from("{}"),
            &sent,
        )
        .await;
    assert_eq!(reply.status, 200);
    let echoed = reply.json();
    assert_eq!(echoed["method"], "POST");
    assert_eq!(echoed["path"], "/api/echo-headers");
    assert_eq!(echoed["query"], "a=b");
    assert_eq!(echoed["body_bytes"], 2);
    let mut names: Vec<&str> = echoed["headers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| pair[0].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept",
            "accept-encoding",
            "authorization",
            "content-length",
            "host",
            "idempotency-key"
        ]
    );
    let find = |name: &str| {
        let pairs = echoed["headers"].as_array().unwrap();
        let pair = pairs.iter().find(|pair| pair[0] == name).unwrap();
        pair[1].as_str().unwrap().to_owned()
    };
    assert!(find("authorization").starts_with("Bearer sha256:"));

    let redirect = caller
        .call(Method::GET, "/redirect?to=https://evil.example/", &token)
        .await;
    assert_eq!(redirect.status, 302);
    assert_eq!(redirect.header("location"), "");
}

#[tokio::test]
async fn an_acknowledged_freeze_stops_tokens_that_are_out_already() {
    let stack = Stack::with_grant(Default::default()).await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    assert_eq!(
        caller.call(Method::GET, "/contacts", &token).await.status,
        200
    );
    let seen = api_calls(&stack);
    let client = v1::freeze_subject::Subject::Client(names::CLIENT.to_owned());
    stack.freeze(client.clone()).await;
    let reply = caller.call(Method::GET, "/contacts", &token).await;
    assert_eq!(reply.refusal(), (403, "FROZEN".to_owned()));
    assert_eq!(api_calls(&stack), seen);
    stack.thaw(client).await;
    assert_eq!(
        caller.call(Method::GET, "/contacts", &token).await.status,
        200
    );
    let accepted = stack.ledger().entries.into_iter().filter(|entry| {
        let Event::ApiCall { outcome, .. } = &entry.event else {
            return false;
        };
        *outcome == ApiOutcome::Accepted
    });
    assert_eq!(accepted.count(), seen + 1);
}
