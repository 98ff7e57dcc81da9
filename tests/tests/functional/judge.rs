//! Tokens and proofs before independent resource servers, which know nothing of our code.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde_json::{Value, json};
use testkit::node::{Judge, NodeEnv};
use testkit::python::PythonEnv;
use tests::caller::{Caller, proof};
use tests::stack::{Blueprint, Stack};
use tokenkeep::{Clock as _, DpopKey, Signer as _, SystemClock};

#[tokio::test]
async fn independent_resource_servers_accept_our_tokens_and_nothing_near_them() {
    judged(Blueprint::default(), "ES256").await;
}

#[tokio::test]
async fn independent_resource_servers_accept_tokens_that_are_signed_with_eddsa() {
    let blueprint = Blueprint {
        manifest: "[token]\nalg = \"EdDSA\"\n",
        ..Blueprint::default()
    };
    judged(blueprint, "EdDSA").await;
}

async fn judged(blueprint: Blueprint, alg: &str) {
    let node = NodeEnv::from_env().unwrap();
    let stack = Stack::with_grant(blueprint).await;
    let caller = Caller::of(&stack).await;
    let public = stack.url("public_url");
    let fetch = async |path: &str| caller.https.get(&format!("{public}{path}")).await.json();
    let metadata = fetch("/.well-known/oauth-authorization-server").await;
    let jwks_path = metadata["jwks_uri"]
        .as_str()
        .unwrap()
        .strip_prefix(public)
        .unwrap();
    let jwks = fetch(jwks_path).await;

    let token = caller.token().await;
    let header = Base64UrlUnpadded::decode_vec(token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(header["alg"], alg);
    assert_eq!(jwks["keys"][0]["alg"], alg);
    let other_token = caller.token().await;
    let url = caller.url("/contacts");
    let right = json!({
        "issuer": stack.url("issuer"),
        "metadata": metadata,
        "jwks": jwks,
        "audience": stack.resource(),
        "method": "GET",
        "url": url,
        "access_token": token,
        "dpop_proof": caller.proof("GET", &url, "", Some(&token)),
        "now_s": SystemClock.unix_time_s(),
    });
    let mut judge = Judge::spawn(&node).unwrap();
    let mut second = PythonEnv::from_env().unwrap().judge().unwrap();
    let verdict = judge.judge(&right).await.unwrap();
    assert!(verdict.ok, "{verdict:?}");
    let claims = verdict.claims.unwrap();
    let same = second.judge(&right).await.unwrap();
    assert!(same.ok, "{same:?}");
    assert_eq!(same.claims.as_ref(), Some(&claims));
    assert_eq!(claims["iss"], stack.url("issuer"));
    assert_eq!(claims["aud"], stack.resource());
    assert_eq!(claims["client_id"], dev::names::CLIENT);
    assert_eq!(claims["scope"], "contacts.read contacts.write");
    assert_eq!(claims["cnf"]["jkt"], caller.key.jkt().to_string());
    let life = claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap();
    assert_eq!(life, 300);

    let (signed, signature) = token.rsplit_once('.').unwrap();
    let swapped = other_token.rsplit_once('.').unwrap().1;
    let (head, claims) = signed.split_once('.').unwrap();
    let mut changed = claims.to_owned();
    let middle = changed.len() / 2;
    let byte = if &changed[middle..=middle] == "A" {
        "B"
    } else {
        "A"
    };
    changed.replace_range(middle..=middle, byte);
    let thief = DpopKey::generate().unwrap();
    let at = |name: &str, value: Value| {
        let mut case = right.clone();
        case[name] = value;
        case
    };
    let proof_for = |method: &str, url: &str, token: Option<&str>| {
        at("dpop_proof", json!(caller.proof(method, url, "", token)))
    };
    let rows = [
        (
            "changed claims",
            at(
                "access_token",
                json!(format!("{head}.{changed}.{signature}")),
            ),
        ),
        (
            "another token's signature",
            at("access_token", json!(format!("{signed}.{swapped}"))),
        ),
        (
            "no signature",
            at("access_token", json!(format!("{signed}."))),
        ),
        (
            "another token than the proof's",
            at("access_token", json!(other_token)),
        ),
        (
            "another key's proof",
            at(
                "dpop_proof",
                json!(proof(&thief, "GET", &url, "", Some(&token))),
            ),
        ),
        (
            "a proof for another method",
            proof_for("POST", &url, Some(&token)),
        ),
        (
            "a proof for another URL",
            proof_for("GET", &caller.url("/other"), Some(&token)),
        ),
        ("a proof without the token", proof_for("GET", &url, None)),
        (
            "another audience",
            at("audience", json!("https://api.example")),
        ),
        ("no keys", at("jwks", json!({"keys": []}))),
        ("after its end", at("now_s", json!(claims_end(&right, 1)))),
    ];
    for (name, case) in rows {
        let verdict = judge.judge(&case).await.unwrap();
        assert!(!verdict.ok, "{name}: {verdict:?}");
        assert!(verdict.error.is_some(), "{name}");
        let verdict = second.judge(&case).await.unwrap();
        assert!(!verdict.ok, "{name}: {verdict:?}");
        assert!(verdict.by.is_some(), "{name}");
    }
    assert!(judge.judge(&right).await.unwrap().ok);
}

/// A moment after the token's end, by the judge's clock.
fn claims_end(case: &Value, after_s: u64) -> u64 {
    use base64ct::{Base64UrlUnpadded, Encoding as _};
    let token = case["access_token"].as_str().unwrap();
    let claims = token.split('.').nth(1).unwrap();
    let claims = Base64UrlUnpadded::decode_vec(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    // Both libraries allow half a minute.
    claims["exp"].as_u64().unwrap() + 60 + after_s
}
