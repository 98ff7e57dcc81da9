//! Grants that come in from elsewhere: `tokenkeep grant import` and `grant deposit`, and what becomes of the copies.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a failed test may panic"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dev::{lab, names};
use http::Method;
use proto::v1;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use testkit::canary::Canary;
use testkit::provider::{Event, Outcome, Rotation, Standing, TokenDigest};
use tests::binary::binary;
use tests::caller::Caller;
use tests::cli::{Ended, Shell};
use tests::process::Process;
use tests::stack::{Blueprint, Stack};
use tests::wait::wait_for;
use tokenkeep::rpc_error::answer;

const MARKER: &str = "canary-of-the-import-";

/// A line of a file.
fn line(grant: &str, token: &str) -> Value {
    json!({
        "grant": grant, "tenant": names::TENANT, "app": names::APP, "clients": [names::CLIENT],
        "targets": [names::TARGET], "scopes": names::SCOPES, "refresh_token": token,
    })
}

fn connection(stack: &Stack) -> Vec<(&'static str, String)> {
    let file = |name: &str| stack.files().path(name).to_str().unwrap().to_owned();
    vec![
        ("TOKENKEEP_SERVER", stack.url("grpc_url").to_owned()),
        ("TOKENKEEP_POLICY", file(lab::POLICY)),
        ("TOKENKEEP_ALLOW_EMULATED", file(lab::ROOT)),
        ("TOKENKEEP_CERT", file(lab::ADMIN_CERT)),
        ("TOKENKEEP_KEY", file(lab::ADMIN_KEY)),
    ]
}

/// The shell of the tenant's administrator.
fn admin(stack: &Stack) -> Shell {
    let pairs = connection(stack);
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(a, b)| (*a, b.as_str())).collect();
    Shell::new(&stack.logs().join("transcript"), &pairs)
}

/// An import that can be killed; its reports go to `{name}.out`.
fn begin(stack: &Stack, file: &Path, name: &str) -> Process {
    let flags = [
        "--server",
        "--policy",
        "--allow-emulated",
        "--cert",
        "--key",
    ];
    let connection = connection(stack);
    let mut words = vec!["--json", "grant", "import", file.to_str().unwrap()];
    for (flag, (_, value)) in flags.iter().zip(&connection) {
        words.extend([*flag, value.as_str()]);
    }
    Process::start(&binary("tokenkeep"), &words, stack.logs(), name)
}

fn reports(text: &str) -> Vec<Value> {
    // The last line of what was killed may be cut off.
    let lines = text.lines();
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Grants whose token may still be of use outside.
async fn exposed(stack: &Stack) -> Vec<String> {
    let request = v1::ListGrantsRequest {
        tenant: names::TENANT.to_owned(),
        page_size: 1_000,
        ..Default::default()
    };
    let admin = stack.admin().await;
    let page = answer(admin.grants().list_grants(request)).await.unwrap();
    let grants = page.into_inner().grants.into_iter();
    let exposed = grants.filter(|grant| grant.exposed_before_deposit);
    exposed.map(|grant| grant.id).collect()
}

#[tokio::test]
async fn an_import_that_was_killed_goes_on_and_presents_each_token_once() {
    const LINES: usize = 200;
    let stack = Stack::start(Blueprint {
        token_marker: MARKER.to_owned(),
        ..Blueprint::default()
    })
    .await;
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("grants.jsonl");
    let mut text = String::new();
    let mut tokens = BTreeMap::new();
    for number in 0..LINES {
        let (id, granted) = (format!("grant-{number}"), stack.consent());
        let token = granted.refresh_token.expose_secret();
        text.push_str(&format!("{}\n", line(&id, token)));
        tokens.insert(TokenDigest::of(token), id);
    }
    fs::write(&file, text).unwrap();

    let mut killed = begin(&stack, &file, "killed");
    let out = stack.logs().join("killed.out");
    wait_for("a quarter is reported", async || {
        let text = fs::read_to_string(&out).ok()?;
        (reports(&text).len() >= LINES / 4).then_some(())
    })
    .await;
    killed.kill().await;
    let before = reports(&fs::read_to_string(&out).unwrap());
    assert!(before.len() < LINES, "it was over before it was killed");

    let file = file.to_str().unwrap();
    let ended = admin(&stack)
        .run(&["--json", "grant", "import", file])
        .await;
    let after = reports(&ended.clone().ok());
    let numbers: Vec<u64> = after
        .iter()
        .map(|one| one["line"].as_u64().unwrap())
        .collect();
    let all: Vec<u64> = (1..=LINES as u64).collect();
    assert_eq!(numbers, all);
    let of = |word: &str| after.iter().filter(|one| one["outcome"] == word).count();
    assert!(of("present") >= before.len(), "{}", of("present"));
    assert_eq!(of("present") + of("imported"), LINES);
    assert!(ended.stderr.contains(r#""lines":200"#), "{}", ended.stderr);
    // What the killed one had under way comes to its end as well.
    wait_for("no token of the file is of use", async || {
        exposed(&stack).await.is_empty().then_some(())
    })
    .await;

    let mut presented: BTreeMap<TokenDigest, usize> = BTreeMap::new();
    for entry in stack.ledger().entries {
        match entry.event {
            Event::Presented {
                token,
                standing,
                outcome,
                successor,
                ..
            } => {
                assert_eq!((standing, outcome), (Standing::Current, Outcome::Rotated));
                assert!(successor.is_some());
                *presented.entry(token).or_default() += 1;
            }
            Event::Revoked { grant, by } => panic!("{grant} was revoked: {by:?}"),
            Event::Consented { .. } | Event::Faulted { .. } | Event::ApiCall { .. } => {}
        }
    }
    let once: BTreeMap<TokenDigest, usize> = tokens.keys().map(|token| (*token, 1)).collect();
    assert_eq!(presented, once);

    // They can be used, with what the provider gave in place of what was in the file.
    let caller = Caller::of(&stack).await.at("grant-199");
    let reply = caller
        .call(Method::GET, "/contacts", &caller.token().await)
        .await;
    assert_eq!(reply.status, 200);
    // A third run changes nothing.
    let ended = admin(&stack)
        .run(&["--json", "grant", "import", file])
        .await;
    let words: Vec<Value> = reports(&ended.ok());
    assert!(words.iter().all(|one| one["outcome"] == "present"));
    let canary = Canary::of(MARKER);
    assert_eq!(canary.find_in(stack.logs()).unwrap(), []);
}

#[tokio::test]
async fn a_line_that_fails_is_told_and_stops_no_other() {
    let stack = Stack::start(Blueprint {
        token_marker: MARKER.to_owned(),
        ..Blueprint::default()
    })
    .await;
    let token = || stack.consent().refresh_token.expose_secret().to_owned();
    let mut unknown = line("unknown-client", &token());
    unknown["clients"] = json!(["nobody"]);
    let mut typo = line("typo", &token());
    typo["target"] = json!(token());
    let twice = token();
    let file = [
        line("first", &twice).to_string(),
        format!("{{\"grant\": {}", token()),
        String::new(),
        unknown.to_string(),
        typo.to_string(),
        line("second", &twice).to_string(),
        line("first", &token()).to_string(),
        line("dead", "never-given-out").to_string(),
        format!("{}{}", " ".repeat(70_000), line("long", &token())),
        line("last", &token()).to_string(),
    ]
    .join("\n");
    let import = async |file: &str, words: &[&str]| -> Ended {
        let words = [words, &["grant", "import", "-"]].concat();
        admin(&stack).run_with(&words, file.as_bytes()).await
    };
    let ended = import(&file, &["--json"]).await;
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let told: Vec<(u64, Value, Value, Value)> = reports(&ended.stdout)
        .into_iter()
        .map(|one| {
            let error = one["error"]["message"].clone();
            let number = one["line"].as_u64().unwrap();
            (number, one["grant"].clone(), one["outcome"].clone(), error)
        })
        .collect();
    let said =
        |number, grant: Value, outcome: &str, error: Value| (number, grant, json!(outcome), error);
    let unknown = "no such client (NOT_FOUND)";
    let dead = "the provider does not take the token: the grant is there and needs its owner";
    let expected = [
        said(1, json!("first"), "imported", json!(null)),
        said(
            2,
            json!(null),
            "ill_formed",
            json!("the line is no JSON object, at byte 11"),
        ),
        said(4, json!("unknown-client"), "refused", json!(unknown)),
        said(5, json!(null), "ill_formed", told[3].3.clone()),
        said(
            6,
            json!("second"),
            "ill_formed",
            json!("line 1 has the same refresh token"),
        ),
        said(
            7,
            json!("first"),
            "ill_formed",
            json!("line 1 has the same grant"),
        ),
        said(8, json!("dead"), "needs_consent", json!(dead)),
        said(
            9,
            json!(null),
            "ill_formed",
            json!("the line has more than 65536 bytes"),
        ),
        said(10, json!("last"), "imported", json!(null)),
    ];
    assert_eq!(told, expected);
    let field = told[3].3.as_str().unwrap();
    assert!(field.starts_with("a field is not known"), "{field}");

    // Corrected, the rest comes in; what is there stays, also if the line says something else of it.
    let mut other = line("first", &token());
    other["scopes"] = json!(["contacts.read"]);
    let file = format!("{other}\n{}\n", line("unknown-client", &token()));
    let ended = import(&file, &[]).await;
    assert_eq!(ended.code, 1);
    for wanted in [
        "line 1  first  refused",
        "there is a grant of this id with another `scopes`",
        "line 2  unknown-client  imported  rotated",
        "2 lines: 1 imported, 0 there before, 1 not",
    ] {
        let text = format!("{}{}", ended.stdout, ended.stderr);
        assert!(text.contains(wanted), "{wanted}: {text}");
    }
    assert_eq!(Canary::of(MARKER).find_in(stack.logs()).unwrap(), []);
}

async fn deposit(stack: &Stack, id: &str, more: &[&str]) -> Ended {
    let mut words = vec!["--json", "grant", "deposit", "--tenant", names::TENANT];
    words.extend([
        "--app",
        names::APP,
        "--grant",
        id,
        "--client",
        names::CLIENT,
    ]);
    words.extend(["--target", names::TARGET]);
    for scope in names::SCOPES {
        words.extend(["--scope", scope]);
    }
    words.extend(more);
    let token = stack.consent().refresh_token;
    let token = token.expose_secret().as_bytes();
    admin(stack).run_with(&words, token).await
}

/// What happened to the tenant of one kind, by both logs, as its administrator reads it.
async fn events(stack: &Stack, kind: &str) -> Vec<Value> {
    let admin = stack.admin().await;
    let request = v1::ListLeavesRequest {
        log: String::new(),
        from: 0,
        page_size: 1_000,
        tenant: names::TENANT.to_owned(),
    };
    let page = answer(admin.audit().list_leaves(request)).await.unwrap();
    let control = page.into_inner().leaves.into_iter();
    let control = control.map(|leaf| serde_json::from_str(&leaf.event).unwrap());
    let all = control.chain(tests::oidc::issuance(stack).await);
    all.filter(|event: &Value| event["event"] == kind).collect()
}

#[tokio::test]
async fn a_deposit_ends_the_copies_of_its_token_unless_it_is_to_be_left() {
    let mut stack = Stack::start(Blueprint::default()).await;
    let rotated = deposit(&stack, "rotated", &[]).await.json();
    assert_eq!(rotated["exposed_before_deposit"], false);
    assert_eq!(rotated["refresh_generation"], 2);
    let left = deposit(&stack, "left", &["--leave-unrotated"]).await.json();
    assert_eq!(left["exposed_before_deposit"], true);
    assert_eq!(left["refresh_generation"], 1);
    assert_eq!(exposed(&stack).await, ["left"]);
    // The first use ends it.
    let caller = Caller::of(&stack).await.at("left");
    let reply = caller
        .call(Method::GET, "/contacts", &caller.token().await)
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(exposed(&stack).await, Vec::<String>::new());

    // A provider that can't be asked costs nothing but time.
    stack.provider_down().await;
    let pending = deposit(&stack, "pending", &[]).await;
    assert!(pending.stderr.is_empty(), "{}", pending.stderr);
    assert_eq!(pending.json()["exposed_before_deposit"], true);
    stack.provider_up().await;
    let caller = Caller::of(&stack).await.at("pending");
    let reply = caller
        .call(Method::GET, "/contacts", &caller.token().await)
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(exposed(&stack).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_provider_that_replaces_nothing_leaves_its_grants_marked() {
    let stack = Stack::start(Blueprint {
        rotation: Rotation::Never,
        ..Blueprint::default()
    })
    .await;
    let made = deposit(&stack, "marked", &[]).await.json();
    assert_eq!(
        (&made["state"], &made["exposed_before_deposit"]),
        (&json!("active"), &json!(true))
    );
    let list = admin(&stack)
        .run(&["--json", "grant", "list", "--tenant", names::TENANT])
        .await
        .json();
    assert_eq!(list["grants"][0]["exposed_before_deposit"], true);
    // It was asked for once: the token is good, and there is no other.
    let entries = stack.ledger().entries;
    let kept = entries.iter().filter(|entry| {
        matches!(
            entry.event,
            Event::Presented {
                outcome: Outcome::Kept,
                ..
            }
        )
    });
    assert_eq!(kept.count(), 1);
    for kind in ["deposited", "refreshed"] {
        let events = events(&stack, kind).await;
        assert_eq!(events.len(), 1, "{kind}");
        assert_eq!(events[0]["exposed_before_deposit"], true, "{kind}");
    }
}
