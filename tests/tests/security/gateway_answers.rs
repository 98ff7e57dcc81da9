//! What comes back through the gateway: no bearer, no way past it, and what the API said.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a failed test may panic"
)]

use http::Method;
use http_body_util::BodyExt as _;
use testkit::provider::{Event, Outcome};
use tests::caller::Caller;
use tests::effort;
use tests::stack::Stack;
use tests::wait::wait_for;

use crate::gateway_bars::{judge, none};

/// What the careless API writes before the bearer.
const BEFORE: &str = "you sent ";

const SPELLINGS: [&str; 5] = ["plain", "base64", "percent", "json", "hex"];

/// Placements a day; all of them in a soak.
fn placements() -> usize {
    if effort::is_full() { 5_000 } else { 60 }
}

#[tokio::test]
async fn gateway_bar_an_echoed_bearer_does_not_reach_the_client() {
    let stack = Stack::with_grant(Default::default()).await;
    let caller = Caller::of(&stack).await;
    let (mut leaked, mut whole) = (0_usize, 0_usize);
    let runs = placements();
    let (mut token, mut nonce) = (String::new(), String::new());
    // The upstream token is thrown away after each echo, and exchanges are limited.
    for run in 0..runs {
        // All placements take longer than a token lives.
        if run % 100 == 0 {
            token = caller.token().await;
            nonce = caller.gateway_nonce().await;
        }
        let spelling = SPELLINGS[run % SPELLINGS.len()];
        // Around the borders of TLS records and of our own chunks.
        let pad_bytes = (run / SPELLINGS.len()) * 1_031 % 70_000;
        let path = format!("/careless?pad_bytes={pad_bytes}&spelling={spelling}&header=false");
        let body = wait_for("an answer of the API", async || {
            let mut body = Vec::new();
            // Cut with its head, when all came at once.
            let Ok(mut answer) = caller.open(&path, &token, &nonce).await else {
                return Some((body, false));
            };
            match answer.response.status().as_u16() {
                200 => {}
                // The echo came along with the head.
                502 => return Some((body, false)),
                // Exchanges are limited.
                other => {
                    assert_eq!(other, 503);
                    return None;
                }
            }
            let ended = loop {
                match answer.response.body_mut().frame().await {
                    Some(Ok(frame)) => body.extend_from_slice(frame.data_ref().unwrap()),
                    Some(Err(_cut)) => break false,
                    None => break true,
                }
            };
            Some((body, ended))
        });
        let (body, ended) = body.await;
        whole += usize::from(ended);
        let expected = format!("{}{BEFORE}", ".".repeat(pad_bytes));
        leaked += echoed_bytes(&body, spelling, &expected);
    }
    assert_eq!(whole, 0, "an answer that repeats the bearer must be cut");
    assert!(stack.log().contains("credential_echoed"));
    judge(
        none("echoed_bearer_bytes_to_client", leaked, "bytes", runs),
        &leaked,
    );
}

/// How many bytes of the bearer an answer holds: what is more than what stands before it. Of base64 the user's part stands
/// there as well, and the character that the user's last byte shares with the bearer's first two bits: it may have left
/// when a chunk ended with it, and only what the bearer alone decides is looked for.
fn echoed_bytes(body: &[u8], spelling: &str, before: &str) -> usize {
    let (user, shared) = match spelling {
        "base64" => ("dXNlcj", 1),
        _ => ("", 0),
    };
    let expected = format!("{before}{user}");
    if expected.as_bytes().starts_with(body) {
        return 0;
    }
    match body.strip_prefix(expected.as_bytes()) {
        Some(more) => more.len().saturating_sub(shared),
        // Something else altogether.
        None => body.len().max(1),
    }
}

#[test]
fn gateway_bar_canary_an_answer_that_is_passed_on_unsearched_is_found_out() {
    let bearer = "provider-at_0123456789abcdef";
    for (spelling, echo) in [("plain", bearer), ("base64", "dXNlcjpwcm92aWRlci1hdF8w")] {
        let body = format!("...{BEFORE}{echo}");
        assert!(
            echoed_bytes(body.as_bytes(), spelling, &format!("...{BEFORE}")) > 0,
            "{spelling}"
        );
    }
    let before = format!("...{BEFORE}");
    for (body, spelling, found) in [
        ("...you".to_owned(), "plain", 0),
        (format!("{before}p"), "plain", 1),
        (format!("{before}dXNlcjp"), "base64", 0),
        (format!("{before}dXNlcjpw"), "base64", 1),
        ("...me".to_owned(), "base64", 5),
    ] {
        let counted = echoed_bytes(body.as_bytes(), spelling, &before);
        assert_eq!(counted, found, "{body}");
    }
}

#[tokio::test]
async fn a_bearer_in_a_header_and_an_encoded_answer_are_refused() {
    let stack = Stack::with_grant(Default::default()).await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    for (path, reason) in [
        ("/careless", "API_ECHOED_CREDENTIAL"),
        ("/careless?spelling=base64", "API_ECHOED_CREDENTIAL"),
        ("/compressed", "API_ANSWER_ENCODED"),
    ] {
        let reply = caller.call(Method::GET, path, &token).await;
        assert_eq!(reply.refusal(), (502, reason.to_owned()), "{path}");
        assert_eq!(reply.header("tokenkeep-answered-by"), "gateway");
    }
    // A bearer that was repeated is not used again; another one is.
    assert_eq!(exchanges(&stack), 3);
    let reply = caller.call(Method::GET, "/contacts", &token).await;
    assert_eq!((reply.status.as_u16(), exchanges(&stack)), (200, 3));
}

#[tokio::test]
async fn references_lead_through_the_gateway_or_nowhere() {
    let stack = Stack::with_grant(Default::default()).await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    let prefix = stack.resource();
    let created = caller
        .call_with(
            Method::POST,
            "/contacts",
            &token,
            r#"{"name":"Grace","email":"grace@example.com"}"#,
            &[("content-type", "application/json")],
        )
        .await;
    assert_eq!(created.status, 201);
    let location = created.header("location").to_owned();
    assert_eq!(location, format!("{prefix}/contacts/3"));
    // It can be followed as it stands.
    let path = location.strip_prefix(&prefix).unwrap();
    let shown = caller.call(Method::GET, path, &token).await;
    assert_eq!(shown.json()["name"], "Grace");

    for (to, location) in [
        ("/api/contacts", format!("{prefix}/contacts")),
        ("contacts?a=b", format!("{prefix}/contacts?a=b")),
        ("https://evil.example/", String::new()),
        ("//evil.example/api", String::new()),
        ("/elsewhere", String::new()),
    ] {
        let path = format!("/redirect?to={}", query(to));
        let reply = caller.call(Method::GET, &path, &token).await;
        assert_eq!(reply.status, 302);
        assert_eq!(reply.header("location"), location, "{to}");
    }
    let link = "<?page=2>; rel=next, <https://evil.example/>; rel=help";
    let path = format!("/links?link={}", query(link));
    let reply = caller.call(Method::GET, &path, &token).await;
    let expected = format!("<{prefix}/links?page=2>; rel=next");
    assert_eq!(reply.header("link"), expected);
}

#[tokio::test]
async fn a_token_that_the_api_withdrew_is_replaced_once() {
    let stack = Stack::with_grant(Default::default()).await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    let reply = caller.call(Method::GET, "/contacts", &token).await;
    assert_eq!((reply.status.as_u16(), exchanges(&stack)), (200, 1));
    // For the provider the token has expired; the enclave believes in it still.
    stack.provider().clock().advance(24 * 3_600_000);
    // A new one is not doubted: what the API says is passed on.
    let reply = caller.call(Method::GET, "/contacts", &token).await;
    assert_eq!((reply.status.as_u16(), exchanges(&stack)), (401, 1));
    assert_eq!(reply.header("tokenkeep-answered-by"), "api");
    wait_for("the token to be doubted", async || {
        let reply = caller.call(Method::GET, "/contacts", &token).await;
        (reply.status == 200).then_some(())
    })
    .await;
    assert_eq!(exchanges(&stack), 2);
}

fn exchanges(stack: &Stack) -> usize {
    let entries = stack.ledger().entries.into_iter();
    let rotated = entries.filter(|entry| {
        let Event::Presented { outcome, .. } = &entry.event else {
            return false;
        };
        *outcome == Outcome::Rotated
    });
    rotated.count()
}

/// A value of a query, each byte escaped that is no letter or digit.
fn query(value: &str) -> String {
    let one = |byte: u8| match byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    value.bytes().map(one).collect()
}
