//! No path leads out of the target's base URL.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a failed test may panic"
)]

use std::collections::BTreeSet;

use tests::caller::Caller;
use tests::stack::Stack;
use tests::targets;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::back_ends::Recorder;
use super::judge_none;

const BASE: &str = "/api/v1";

/// What may stand for a dot, and for a slash, to one server or another.
const DOTS: &[&str] = &[
    ".",
    "%2e",
    "%2E",
    "%252e",
    "%25252e",
    "%c0%ae",
    "%e0%80%ae",
    "%u002e",
    "%EF%BC%8E",
    ".%00",
    ".;",
    ".;a=b",
    "%2e%20",
    "%2e%09",
];
const SLASHES: &[&str] = &[
    "/",
    "//",
    "/./",
    "\\",
    "%2f",
    "%2F",
    "%5c",
    "%5C",
    "%252f",
    "%255c",
    "%c0%af",
    "%c1%9c",
    "%e0%80%af",
    "%EF%BC%8F",
    "/;/",
    "/%20/",
];

/// Paths below the target's prefix that mean its parent to some server.
fn tricks() -> Vec<String> {
    let mut all = BTreeSet::new();
    for dot in DOTS {
        for slash in SLASHES {
            all.insert(format!(
                "/a/{dot}{dot}{slash}{dot}{dot}{slash}{dot}{dot}{slash}admin"
            ));
        }
        all.insert(format!("/{dot}{dot}"));
        all.insert(format!("/{dot}{dot}/admin"));
        all.insert(format!("/{dot}{dot};/admin"));
        all.insert(format!("/{dot}/{dot}{dot}/{dot}{dot}/admin"));
        all.insert(format!("{dot}{dot}/admin"));
    }
    for odd in [
        "//admin",
        "///admin",
        "/\\admin",
        "/a//../../admin",
        "/a\r\n/../admin",
        "/%0d%0a/admin",
        "/a?/../../admin",
        "/a#/../../admin",
        "/a%23/../../admin",
        "/a%3f/../../admin",
        "@evil.example/",
        ":80/admin",
        "/a%",
        "/a%2",
        "/a%zz/..",
        "/*",
        "/a;/../../admin",
        "/a/..%00/admin",
        "/a/.../admin",
        "/a/. ./admin",
    ] {
        all.insert(odd.to_owned());
    }
    all.into_iter().collect()
}

/// Decodes as often as there is something to decode, reads every foreign dot and slash as one, and says whether the
/// path, followed as directories, leaves the base.
fn escapes(target: &str) -> bool {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let mut bytes = path.as_bytes().to_vec();
    loop {
        let before = bytes.clone();
        bytes = decoded(&bytes);
        if bytes == before {
            break;
        }
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let text = text
        .replace(['\\', '\u{ff0f}'], "/")
        .replace('\u{ff0e}', ".");
    let mut kept: Vec<&str> = Vec::new();
    for segment in text.split('/') {
        let bare = segment.split(';').next().unwrap_or_default();
        match bare.trim_matches(|c: char| c.is_whitespace() || c.is_control()) {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    !kept.starts_with(&["api", "v1"])
}

fn decoded(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    // What over-long UTF-8 and `%u` stand for.
    let text = ["%c0%ae", "%e0%80%ae", "%u002e"]
        .iter()
        .fold(text, |text, dot| text.replace(dot, "."));
    let text = ["%c0%af", "%c1%9c", "%e0%80%af"]
        .iter()
        .fold(text, |text, slash| text.replace(slash, "/"));
    let hex = |b: &u8| {
        char::from(*b)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut rest = text.as_bytes();
    let mut out = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        match (after.first().and_then(hex), after.get(1).and_then(hex)) {
            (Some(high), Some(low)) if *first == b'%' => {
                out.push((high << 4) | low);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

#[tokio::test]
async fn gateway_bar_no_path_leaves_the_base_url() {
    let stack = Stack::start(Default::default()).await;
    let recorder = Recorder::start().await;
    let base_url = format!("{}{BASE}", recorder.url);
    targets::add(&stack, "recorded", targets::whole(&base_url), &[]).await;
    let caller = Caller::of(&stack).await.at("recorded");
    let token = caller.token().await;
    let origin = stack.url("gateway_url").to_owned();
    let host = origin.strip_prefix("https://").unwrap();
    let nonce = caller.gateway_nonce().await;
    let call = async |rest: &str| {
        let url = caller.url(rest);
        let proof = caller.proof("GET", url.split('?').next().unwrap(), &nonce, Some(&token));
        let target = url.strip_prefix(&origin).unwrap();
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: DPoP {token}\r\nDPoP: {proof}\r\n\
             Connection: close\r\n\r\n"
        );
        Box::pin(caller.https.raw(&origin, request.as_bytes())).await
    };
    // The way is open for what is well-formed.
    let answer = call("/people/7?page=2").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(recorder.targets(), [format!("{BASE}/people/7?page=2")]);
    let tricks = tricks();
    for trick in &tricks {
        let answer = call(trick).await;
        assert!(!answer.starts_with("HTTP/1.1 5"), "{trick}: {answer}");
    }
    let escaped: Vec<String> = recorder
        .targets()
        .into_iter()
        .filter(|target| escapes(target))
        .collect();
    judge_none("path_escape_forwarded", "count", &escaped, tricks.len());
    assert!(tricks.len() >= 200, "{} paths", tricks.len());
}

#[tokio::test]
async fn gateway_bar_canary_paths_that_are_forwarded_as_they_are_are_found_out() {
    let recorder = Recorder::start().await;
    let address = recorder.url.strip_prefix("http://").unwrap();
    let tricks = tricks();
    for trick in &tricks {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {BASE}{trick} HTTP/1.1\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        drop(stream.read_to_end(&mut Vec::new()).await);
    }
    let escaped = recorder
        .targets()
        .iter()
        .filter(|target| escapes(target))
        .count();
    assert!(
        escaped >= 100,
        "{escaped} of {} were found out",
        tricks.len()
    );
    assert!(!escapes("/api/v1/people/7?to=/../../x"));
    assert!(!escapes("/api/v1/a/../b"));
}
