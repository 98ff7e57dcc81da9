//! Each key of the enclave is replaced while the service runs, by the command line, and nothing that was good breaks.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use base64ct::{Base64UrlUnpadded, Encoding as _};
use dev::{lab, names};
use http::Method;
use proto::v1::freeze_subject::Subject;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use tests::caller::Caller;
use tests::cli::Shell;
use tests::https::Https;
use tests::stack::{Blueprint, Stack};
use tests::wait::wait_for;
use tests::witnesses::Witnesses;

/// The shell of the stack's administrator.
pub(crate) fn admin(stack: &Stack) -> Shell {
    let path = |name: &str| stack.files().path(name).to_str().unwrap().to_owned();
    Shell::new(
        &stack.logs().join("shell.txt"),
        &[
            ("TOKENKEEP_SERVER", stack.url("grpc_url")),
            ("TOKENKEEP_POLICY", &path(lab::POLICY)),
            ("TOKENKEEP_ALLOW_EMULATED", &path(lab::ROOT)),
            ("TOKENKEEP_CERT", &path(lab::ADMIN_CERT)),
            ("TOKENKEEP_KEY", &path(lab::ADMIN_KEY)),
        ],
    )
}

async fn rotate(shell: &Shell, arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["--json", "key", "rotate"], arguments].concat();
    let mut done = shell.run(&arguments).await.json();
    let Value::Array(keys) = done["keys"].take() else {
        panic!("{done}");
    };
    keys
}

fn kid(token: &str) -> String {
    let header = token.split('.').next().unwrap();
    let header: Value =
        serde_json::from_slice(&Base64UrlUnpadded::decode_vec(header).unwrap()).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

async fn jwks(stack: &Stack, https: &Https) -> Vec<String> {
    let answer = https
        .get(&format!("{}/jwks.json", stack.url("issuer")))
        .await;
    let keys = answer.json()["keys"].take();
    let kids = keys.as_array().unwrap().iter();
    kids.map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

async fn works(caller: &Caller, token: &str) -> bool {
    caller.call(Method::GET, "/contacts", token).await.status == 200
}

#[tokio::test]
async fn each_key_is_replaced_while_the_service_runs() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    let shell = admin(&stack);
    let caller = Caller::of(&stack).await;
    let old = caller.token().await;
    let https = &caller.https;

    // Signing: new tokens by the new key at once, old ones to their end.
    rotate(&shell, &["signing"]).await;
    let new = caller.token().await;
    assert_ne!(kid(&new), kid(&old));
    assert_eq!(jwks(&stack, https).await, [kid(&new), kid(&old)]);
    assert!(works(&caller, &old).await);
    assert!(works(&caller, &new).await);
    rotate(&shell, &["signing", "--overlap-s", "0"]).await;
    let third = caller.token().await;
    assert!(!works(&caller, &new).await);
    assert!(works(&caller, &old).await);
    assert!(works(&caller, &third).await);

    // CA: announced in evidence first, then it takes over.
    let next = rotate(&shell, &["ca"]).await;
    let named = |state: &str| {
        next.iter()
            .find(|key| key["kind"] == "ca" && key["state"] == state)
    };
    assert!(named("current").is_some());
    let announced = named("next").unwrap()["id"].as_str().unwrap().to_owned();
    let pem = shell.run(&["trust"]).await.ok();
    let both: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(Result::unwrap)
        .collect();
    assert_eq!(both.len(), 2);
    let verified = shell.run(&["--json", "verify"]).await.json();
    let of_bundle = &verified["key_bundle"]["next_ca_sha256"][0];
    assert_eq!(of_bundle.as_str(), Some(announced.as_str()), "{verified}");
    assert_eq!(jwks(&stack, https).await.len(), 2);
    rotate(&shell, &["ca", "--overlap-s", "0"]).await;
    let url = format!("{}/jwks.json", stack.url("issuer"));
    let under_next = Https::trusting(&both[1]);
    wait_for("the new CA issues", async || {
        under_next.connect(&url).await.ok()
    })
    .await;
    assert!(https.connect(&url).await.is_err());

    // Deposit, log and tenant; the client's connection outlives them all.
    rotate(&shell, &["deposit"]).await;
    stack.deposit().await;
    rotate(&shell, &["log"]).await;
    let checkpoint = format!("{}/log/control/checkpoint", stack.url("issuer"));
    let checkpoint = under_next.get(&checkpoint).await;
    let text = String::from_utf8(checkpoint.body.to_vec()).unwrap();
    let signatures = text.lines().filter(|line| line.starts_with('\u{2014}'));
    assert_eq!(signatures.count(), 2, "{text}");
    let keys = rotate(&shell, &["tenant", "--tenant", names::TENANT]).await;
    assert_eq!(keys.len(), 2);
    drop(caller.token().await);

    // All of it is durable.
    stack.kill().await;
    stack.restart().await;
    let caller = Caller::of(&stack).await;
    assert!(works(&caller, &third).await);
    assert!(!works(&caller, &new).await);
    assert_eq!(caller.contacts().await.status, 200);
    let listed = shell.run(&["--json", "key", "list"]).await.json();
    let numbers: Vec<(&str, u64, &str)> = listed["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| {
            (
                key["kind"].as_str().unwrap(),
                key["number"].as_u64().unwrap(),
                key["state"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("signing", 3, "current"),
        ("signing", 1, "earlier"),
        ("ca", 2, "current"),
        ("deposit", 2, "current"),
        ("log", 2, "current"),
        ("log", 1, "earlier"),
    ];
    assert_eq!(numbers, expected);

    // What is refused says why.
    let refused = |arguments: &'static [&'static str]| {
        let shell = shell.clone();
        async move { shell.run(arguments).await.refusal() }
    };
    let long = &["--json", "key", "rotate", "signing", "--overlap-s", "90000"];
    let (code, reason) = refused(long).await;
    assert_ne!(code, 0);
    assert_eq!(reason, "INVALID_REQUEST");
    let whose = &["--json", "key", "rotate", "tenant", "--tenant", "nobody"];
    assert_eq!(refused(whose).await.1, "NOT_FOUND");
}

#[tokio::test]
async fn a_new_log_key_is_cosigned_by_witnesses_that_know_the_old_one_alone() {
    let witnesses = Witnesses::start(1).await;
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    stack.watch(&witnesses, 6).await;
    let old = stack.control_log().await;
    let shell = admin(&stack);
    rotate(&shell, &["log"]).await;
    let new = stack.control_log().await;
    assert_ne!(new, old);
    // Acknowledged when it is cosigned: it would be refused with NOT_COSIGNED.
    let client = Subject::Client(names::CLIENT.to_owned());
    stack.freeze(client.clone()).await;
    // Witnesses learn the new key in the overlap; then the old one may go.
    witnesses.know(&new);
    stack.thaw(client).await;
    stack.kill().await;
    stack.restart().await;
    assert_eq!(Caller::of(&stack).await.contacts().await.status, 200);
}
