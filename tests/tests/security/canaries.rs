//! Planted secrets, and the search for them in all that processes leave behind: logs, outputs, answers, files.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use dev::{lab, names};
use http::Method;
use proto::v1;
use secrecy::ExposeSecret as _;
use testkit::canary::{Canary, Encoding, Finding};
use testkit::provider::{Answer, Event, Fault, TokenDigest};
use tests::bars::{self, Bar, Row};
use tests::caller::Caller;
use tests::cli::Shell;
use tests::https::Reply;
use tests::plain::Collector;
use tests::stack::{Blueprint, Stack};

/// Keeps an answer, head and body, among the logs.
fn keep(stack: &Stack, reply: &Reply) {
    let path = stack.logs().join("answers");
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    writeln!(file, "{} {:?}", reply.status, reply.headers).unwrap();
    file.write_all(&reply.body).unwrap();
}

/// Keeps what the listener for metrics tells among the logs.
async fn keep_metrics(stack: &Stack, name: &str) {
    let page = stack.metrics().await;
    assert!(page.contains("tokenkeep_rpc_total"));
    fs::write(stack.logs().join(name), page).unwrap();
}

/// Everywhere that a canary is found below the stack's folder, without the folder's own path.
fn found(stack: &Stack, canary: &Canary) -> Vec<(PathBuf, Encoding)> {
    let findings = canary.find_in(stack.logs()).unwrap();
    findings
        .into_iter()
        .map(|Finding { path, encoding, .. }| {
            let path = path.strip_prefix(stack.logs()).unwrap().to_owned();
            (path, encoding)
        })
        .collect()
}

/// Goes through deposits, tokens, calls, faults, refusals, kills and drains.
async fn everything(stack: &mut Stack, outside: &std::path::Path) {
    let (files, grpc_url) = (stack.files().clone(), stack.url("grpc_url").to_owned());
    let path = |name: &str| files.path(name).to_str().unwrap().to_owned();
    let shell = Shell::new(
        &stack.logs().join("transcript"),
        &[
            ("TOKENKEEP_SERVER", &grpc_url),
            ("TOKENKEEP_POLICY", &path(lab::POLICY)),
            ("TOKENKEEP_ALLOW_EMULATED", &path(lab::ROOT)),
        ],
    );
    let admin = shell.with(&[
        ("TOKENKEEP_CERT", &path(lab::ADMIN_CERT)),
        ("TOKENKEEP_KEY", &path(lab::ADMIN_KEY)),
    ]);
    let client = shell.with(&[
        ("TOKENKEEP_CERT", &path(lab::CLIENT_CERT)),
        ("TOKENKEEP_KEY", &path(lab::CLIENT_KEY)),
    ]);
    let deposit = [
        "grant",
        "deposit",
        "--tenant",
        names::TENANT,
        "--app",
        names::APP,
        "--grant",
        names::GRANT,
        "--client",
        names::CLIENT,
        "--target",
        names::TARGET,
        "--scope",
        "contacts.read",
        "--scope",
        "contacts.write",
    ];
    let token = stack.consent().refresh_token;
    let file = outside.join("refresh-token");
    fs::write(&file, token.expose_secret()).unwrap();
    let from_file = [&deposit[..], &["--token-file", file.to_str().unwrap()]].concat();
    assert_eq!(admin.run(&from_file).await.code, 0);
    let token = stack.consent().refresh_token;
    let made = admin
        .run_with(&deposit, token.expose_secret().as_bytes())
        .await;
    assert_eq!(made.code, 0);
    // Deposits that are refused.
    let elsewhere: Vec<&str> = from_file
        .iter()
        .map(|word| {
            if *word == names::APP {
                "no-such-app"
            } else {
                word
            }
        })
        .collect();
    assert_eq!(admin.run(&elsewhere).await.code, 1);
    assert_eq!(client.run(&from_file).await.code, 1);

    let (resource, key) = (stack.resource(), path(lab::DPOP_KEY));
    let contacts = format!("{resource}/contacts");
    let ask = [
        "token",
        "--grant",
        names::GRANT,
        "--resource",
        &resource,
        "--dpop-key",
        &key,
    ];
    assert_eq!(client.run(&ask).await.code, 0);
    let call = ["call", "GET", &contacts, "--dpop-key", &key, "--json"];
    assert_eq!(client.run(&call).await.code, 0);

    // Each way in which a provider can fail, with and without having acted.
    let caller = Caller::of(stack).await;
    let status = |status| Answer::Status { status };
    let faults = [
        Fault::invalid_grant(),
        Fault::server_error_before_commit(),
        Fault::server_error_after_commit(),
        Fault::at_token(true, Answer::Garbage),
        Fault::at_token(true, Answer::Truncated { at_byte: 200 }),
        Fault::at_token(true, Answer::Oversize { bytes: 70_000 }),
        Fault::at_token(true, Answer::Reset),
        Fault::at_api(true, status(500)),
        Fault::at_api(true, Answer::Reset),
    ];
    for (number, fault) in faults.into_iter().enumerate() {
        let id = format!("fault-{number}");
        stack.deposit_as(&id).await;
        let caller = caller.at(&id);
        let token = caller.token().await;
        stack.provider().fault(fault).unwrap();
        for _ in 0..2 {
            keep(stack, &caller.call(Method::GET, "/contacts", &token).await);
        }
    }
    let token = caller.token().await;
    for target in ["/contacts/../x", "/contacts/99", "/nowhere"] {
        keep(stack, &caller.call(Method::GET, target, &token).await);
    }
    keep(stack, &caller.https.get(&contacts).await);
    for url in [
        "/jwks.json",
        "/.well-known/oauth-authorization-server",
        "/none",
    ] {
        let url = format!("{}{url}", stack.url("public_url"));
        keep(stack, &caller.https.get(&url).await);
    }
    stack
        .freeze(v1::freeze_subject::Subject::Client(
            names::CLIENT.to_owned(),
        ))
        .await;
    assert_eq!(client.run(&ask).await.code, 1);
    assert_eq!(client.run(&call).await.code, 1);

    // A kill within an exchange, and a start from what it left.
    stack
        .thaw(v1::freeze_subject::Subject::Client(
            names::CLIENT.to_owned(),
        ))
        .await;
    stack.deposit_as("killed").await;
    let caller = caller.at("killed");
    let (token, nonce) = (caller.token().await, caller.gateway_nonce().await);
    let held = Fault::at_api(true, Answer::Honest).delayed_by_ms(600_000);
    stack.provider().fault(held).unwrap();
    {
        let calls = api_calls(stack);
        let call = caller.open("/contacts", &token, &nonce);
        let mut call = std::pin::pin!(call);
        let used = tests::wait::wait_for("the access token is used", async || {
            (api_calls(stack) > calls).then_some(())
        });
        tokio::select! {
            biased;
            () = used => {}
            answer = &mut call => panic!("the API holds it back: {answer:?}"),
        }
    }
    keep_metrics(stack, "metrics-before").await;
    stack.kill().await;
    stack.restart().await;
    keep(
        stack,
        &Caller::of(stack).await.at("killed").contacts().await,
    );
    keep_metrics(stack, "metrics-behind").await;
    assert_eq!(stack.stop().await.code(), Some(0));
}

fn api_calls(stack: &Stack) -> usize {
    let entries = stack.ledger().entries;
    let calls = entries
        .iter()
        .filter(|entry| matches!(entry.event, Event::ApiCall { .. }));
    calls.count()
}

#[tokio::test]
async fn state_bar_no_secret_is_left_anywhere() {
    let marker = Canary::new(b"tokens of the provider");
    let collector = Collector::start().await;
    let mut stack = Stack::start(Blueprint {
        token_marker: marker.expose().to_owned(),
        host_toml: format!(
            "[metrics]\nlisten = \"127.0.0.1:0\"\n[traces]\nendpoint = \"{}\"\none_in = 1\n",
            collector.url()
        ),
        log_level: "debug",
        ..Blueprint::default()
    })
    .await;
    let outside = tempfile::tempdir().unwrap();
    everything(&mut stack, outside.path()).await;
    // What a collector got is looked through as well.
    let traces = collector.came().concat();
    assert!(traces.contains("tokenkeep.gateway/Call") && traces.contains("IssueToken"));
    fs::write(stack.logs().join("traces"), traces).unwrap();

    // The provider did give out tokens that show the canary, and they were used.
    let token = stack.consent().refresh_token;
    let token = token.expose_secret();
    assert_eq!(marker.find(token.as_bytes()), Some(Encoding::Plain));
    let used = stack.ledger().entries.into_iter().filter(|entry| {
        matches!(
            entry.event,
            Event::Presented {
                successor: Some(_),
                ..
            }
        )
    });
    assert!(used.count() > 8);
    // The processes did write: the search has something to look at.
    let log = stack.log();
    for event in [
        "grant_deposited",
        "refreshed",
        "refresh_failed",
        "call_refused",
        "provider_failed",
    ] {
        assert!(log.contains(event), "{event}");
    }

    let watched = watched(&stack, marker);
    let leaks = left(&stack, &watched);
    assert_eq!(leaks, Vec::<PathBuf>::new());
    assert!(bars::record("state", row(leaks.len())).unwrap());

    // The search does find what is there, in each form.
    for (name, bytes) in [
        ("plain", format!("before {token} after").into_bytes()),
        (
            "base64",
            base64(format!("{{\"t\":\"{token}\"}}").as_bytes()).into_bytes(),
        ),
        ("hex", hex(token.as_bytes()).into_bytes()),
        ("form", form(token).into_bytes()),
    ] {
        let path = stack.state().join(name);
        fs::write(&path, bytes).unwrap();
        let planted = left(&stack, &watched[..1]);
        assert_eq!(planted, [PathBuf::from("lab/state").join(name)]);
        assert!(!row(planted.len()).met());
        fs::remove_file(path).unwrap();
    }
    // Each of them is seen, in its own file too.
    for Watched { canary, own } in &watched {
        assert!(canary.find(canary.expose().as_bytes()).is_some());
        if let Some(own) = own {
            let found = canary.find_in(&stack.logs().join(own)).unwrap();
            assert!(!found.is_empty(), "{}", own.display());
        }
    }
}

/// A secret, and the one file that it may stand in.
struct Watched {
    canary: Canary,
    own: Option<PathBuf>,
}

/// What nobody may find: the provider's tokens, and all that the lab's users and its platform keep secret.
fn watched(stack: &Stack, marker: Canary) -> Vec<Watched> {
    let files = stack.files();
    let of = |name: &str, value: &str| Watched {
        canary: Canary::of(value),
        own: Some(PathBuf::from("lab").join(name)),
    };
    let mut all = vec![Watched {
        canary: marker,
        own: None,
    }];
    let secret = fs::read_to_string(files.path(lab::APP_SECRET)).unwrap();
    all.push(of(lab::APP_SECRET, &secret));
    // The line of a private key's PEM that holds its secret scalar: the second of PKCS#8 for P-256.
    for name in [lab::DPOP_KEY, lab::CLIENT_KEY, lab::ADMIN_KEY, lab::SIGNER] {
        let pem = fs::read_to_string(files.path(name)).unwrap();
        let line = pem.lines().find(|line| !line.starts_with("-----")).unwrap();
        all.push(of(name, line));
    }
    let seed = files.path(lab::KEYHOLDER).join("seed");
    for path in [files.path(lab::CHIP), seed, stack.own_share()] {
        let canary = Canary::of_bytes(&fs::read(&path).unwrap());
        let name = path.strip_prefix(files.dir()).unwrap();
        let own = Some(PathBuf::from("lab").join(name));
        all.push(Watched { canary, own });
    }
    all
}

/// The files that show a secret which is not theirs.
fn left(stack: &Stack, watched: &[Watched]) -> Vec<PathBuf> {
    let mut left = Vec::new();
    for Watched { canary, own } in watched {
        let found = found(stack, canary).into_iter().map(|(path, _)| path);
        left.extend(found.filter(|path| Some(path) != own.as_ref()));
    }
    left
}

fn row(left: usize) -> Row {
    Row {
        name: "canary_on_disk_or_log",
        value: u32::try_from(left).unwrap().into(),
        unit: "count",
        bar: Bar::AtMost(0.0),
        runs: 1,
        seed: 0,
    }
}

#[tokio::test]
async fn the_providers_bearer_reaches_the_api_and_nobody_else() {
    let marker = Canary::new(b"a bearer");
    let stack = Stack::with_grant(Blueprint {
        token_marker: marker.expose().to_owned(),
        ..Blueprint::default()
    })
    .await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    let reply = caller.call(Method::GET, "/echo-headers", &token).await;
    assert_eq!(reply.status, 200);
    // The API shows the digest of what it was sent: the very token that the provider minted.
    let digest = stack
        .ledger()
        .entries
        .into_iter()
        .find_map(|entry| match entry.event {
            Event::Presented { access_token, .. } => access_token,
            Event::Consented { .. }
            | Event::Revoked { .. }
            | Event::Faulted { .. }
            | Event::ApiCall { .. } => None,
        })
        .unwrap();
    let shown = String::from_utf8(reply.body.to_vec()).unwrap();
    assert!(
        shown.contains(&format!("Bearer sha256:{digest}")),
        "{shown}"
    );
    assert_ne!(
        digest,
        TokenDigest::of(&token),
        "it is not the client's token"
    );
    for bytes in [
        &reply.body[..],
        token.as_bytes(),
        format!("{:?}", reply.headers).as_bytes(),
    ] {
        assert_eq!(marker.find(bytes), None);
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64ct::{Base64, Encoding as _};
    Base64::encode_string(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every byte percent-encoded, as a form may have it.
fn form(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
