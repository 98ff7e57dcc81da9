//! A tenant's own policy from the command line to every door: set, obeyed, kept over a restart, written down, loosened by
//! its owner's signature alone.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::fs;
use std::path::{Path, PathBuf};

use dev::{lab, names};
use http::Method;
use proto::v1;
use serde_json::{Value, json};
use testkit::provider::Event;
use tests::caller::{Caller, refused};
use tests::cli::Shell;
use tests::stack::Stack;
use tests::targets;
use tests::web_client::WebClient;
use tokenkeep::rpc_error::answer;
use tonic::Code;

use crate::doors::deposit;
use crate::keys::admin;

/// Reads of the listed target, and tokens of one scope.
const POLICY: &str = r#"
@id("tokens-that-read")
permit(principal == Client::"crm-sync-worker", action == Action::"issue", resource)
when { context.scopes == ["contacts.read"] };

@id("lists")
permit(principal, action == Action::"call", resource in Provider::"listed")
when { context.operation == "list" };

@id("not-from-afar")
forbid(principal, action, resource)
unless { context has address && context.address.isLoopback() };
"#;

/// What forbids beside: nothing passes any more.
const STOP: &str = "\n@id(\"stop\")\nforbid(principal, action, resource);\n";

fn operation(id: &str, method: &str, path: &str) -> v1::Operation {
    v1::Operation {
        id: id.to_owned(),
        method: method.to_owned(),
        path: path.to_owned(),
        ..v1::Operation::default()
    }
}

/// A stack whose grant `listed` is for a target with two operations.
async fn stack() -> Stack {
    let stack = Stack::with_grant(Default::default()).await;
    let target = v1::Target {
        operations: vec![
            operation("list", "GET", "/contacts"),
            operation("get", "GET", "/contacts/{id:integer}"),
        ],
        ..targets::whole(&format!("{}/api", stack.provider().base_url()))
    };
    targets::add(&stack, "listed", target, &[]).await;
    stack
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path: PathBuf = folder.join(name);
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Asks for a token with these scopes.
async fn issue(caller: &Caller, scopes: &[&str]) -> Result<String, tonic::Status> {
    let request = v1::IssueTokenRequest {
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        ..caller.request()
    };
    let proof = caller.issue_proof(&caller.nonce().await);
    let issued = Box::pin(caller.issue(request, &[&proof])).await?;
    Ok(issued.access_token)
}

fn api_calls(stack: &Stack) -> usize {
    let entries = stack.ledger().entries.into_iter();
    let calls = entries.filter(|entry| matches!(entry.event, Event::ApiCall { .. }));
    calls.count()
}

/// The newest event of a kind in a log, as the tenant reads it; the control log has no name.
pub(crate) async fn newest(stack: &Stack, log: &str, kind: &str) -> Value {
    let admin = stack.admin().await;
    let request = v1::ListLeavesRequest {
        log: log.to_owned(),
        tenant: names::TENANT.to_owned(),
        ..v1::ListLeavesRequest::default()
    };
    let found = answer(admin.audit().list_leaves(request)).await.unwrap();
    let leaves = found.into_inner().leaves.into_iter();
    let mut events = leaves.map(|leaf| serde_json::from_str::<Value>(&leaf.event).unwrap());
    let newest = events.rfind(|event| event["event"] == kind);
    newest.unwrap_or_else(|| panic!("no {kind} in {log}"))
}

/// The log of this boot.
pub(crate) async fn issuance(stack: &Stack) -> String {
    let admin = stack.admin().await;
    let request = v1::ListLogsRequest::default();
    let found = answer(admin.audit().list_logs(request)).await.unwrap();
    let logs = found.into_inner().logs.into_iter();
    logs.map(|log| log.origin)
        .rfind(|origin| origin.contains("/issuance/"))
        .unwrap()
}

async fn set(shell: &Shell, arguments: &[&str]) -> Value {
    let tenant = ["--json", "policy", "set", "--tenant", names::TENANT];
    shell.run(&[&tenant[..], arguments].concat()).await.json()
}

#[tokio::test]
async fn a_policy_is_obeyed_at_every_door_and_over_a_restart() {
    let mut stack = stack().await;
    let web = WebClient::register(&stack).await;
    let shell = admin(&stack);
    let folder = tempfile::tempdir().unwrap();
    let policy = file(folder.path(), "acme.cedar", POLICY);
    let policy = policy.as_str();
    let caller = Caller::of(&stack).await.at("listed");
    // Without a policy, all passes that the grant allows.
    let before = issue(&caller, &[]).await.unwrap();
    let reply = caller.call(Method::GET, "/contacts/1", &before).await;
    assert_eq!(reply.header("tokenkeep-answered-by"), "api");

    deposit(&stack, "both").await;
    let web_resource = caller.at("both").url("");
    assert_eq!(web.token(&web_resource).await.status, 200);

    let view = set(&shell, &[policy]).await;
    assert_eq!(
        (&view["sequence"], &view["by"]),
        (&json!(1), &json!("dev-admin"))
    );
    let sha256 = view["sha256"].as_str().unwrap().to_owned();
    let shown = shell
        .run(&["policy", "show", "--tenant", names::TENANT])
        .await;
    assert_eq!(shown.ok(), POLICY);

    for restarted in [false, true] {
        if restarted {
            stack.stop().await;
            stack.restart().await;
        }
        let caller = Caller::of(&stack).await.at("listed");
        let seen = api_calls(&stack);
        let token = issue(&caller, &["contacts.read"]).await.unwrap();
        let log = issuance(&stack).await;
        let leaf = newest(&stack, &log, "token_issued").await;
        let mark = |by: &[&str]| json!({"sequence": 1, "sha256": sha256, "by": by});
        assert_eq!(leaf["policy"], mark(&["tokens-that-read"]));

        // At the door for tokens; whoever is denied learns what to ask its owner about, and no more.
        let status = issue(&caller, &["contacts.read", "contacts.write"])
            .await
            .unwrap_err();
        let leaf = newest(&stack, &log, "policy_denied").await;
        assert_eq!(leaf["policy"], mark(&[]));
        let decision = leaf["decision"].as_str().unwrap();
        let told = format!(
            "the tenant's policy does not allow this: ask the owner of the grant about decision {decision}"
        );
        assert_eq!(status.message(), told);
        assert_eq!(
            refused(status),
            (Code::PermissionDenied, "POLICY_DENIED".to_owned())
        );

        // At the door for web clients: another client, which no policy permits.
        let reply = web.token(&web_resource).await;
        assert_eq!(reply.json()["error"], "access_denied", "{}", reply.json());

        // At the gateway, by operation, whatever the token allows.
        let reply = caller.call(Method::GET, "/contacts", &token).await;
        assert_eq!(reply.status, 200);
        let leaf = newest(&stack, &log, "gateway_call").await;
        assert_eq!(leaf["policy"], mark(&["lists"]));
        let reply = caller.call(Method::GET, "/contacts/1", &token).await;
        assert_eq!(reply.refusal(), (403, "POLICY_DENIED".to_owned()));
        let leaf = newest(&stack, &log, "policy_denied").await;
        assert_eq!(
            (&leaf["operation"], &leaf["action"]),
            (&json!("get"), &json!("call"))
        );
        // A token from before the policy is no way round it.
        if !restarted {
            let reply = caller.call(Method::GET, "/contacts/1", &before).await;
            assert_eq!(reply.refusal(), (403, "POLICY_DENIED".to_owned()));
        }
        assert_eq!(
            api_calls(&stack),
            seen + 1,
            "the API has seen none of these"
        );
    }

    // More that forbids needs no signature, and holds at once.
    let caller = caller_of(&stack).await;
    let token = issue(&caller, &["contacts.read"]).await.unwrap();
    let stop = file(folder.path(), "stop.cedar", &format!("{POLICY}{STOP}"));
    let stop = stop.as_str();
    assert_eq!(set(&admin(&stack), &[stop]).await["sequence"], 2);
    let reply = caller.call(Method::GET, "/contacts", &token).await;
    assert_eq!(reply.refusal(), (403, "POLICY_DENIED".to_owned()));
    let status = issue(&caller, &["contacts.read"]).await.unwrap_err();
    assert_eq!(refused(status).1, "POLICY_DENIED");
}

async fn caller_of(stack: &Stack) -> Caller {
    Caller::of(stack).await.at("listed")
}

#[tokio::test]
async fn what_loosens_needs_the_owners_signature() {
    let stack = stack().await;
    let shell = admin(&stack);
    let folder = tempfile::tempdir().unwrap();
    let policy = file(folder.path(), "acme.cedar", POLICY);
    let policy = policy.as_str();
    let stop = file(folder.path(), "stop.cedar", &format!("{POLICY}{STOP}"));
    let stop = stop.as_str();
    let owner = stack.files().path(lab::ADMIN_KEY);
    let owner = owner.to_str().unwrap();
    set(&shell, &[stop]).await;

    let tenant = ["--json", "policy", "set", "--tenant", names::TENANT];
    let refused = shell.run(&[&tenant[..], &[policy]].concat()).await;
    assert_eq!(
        refused.refusal(),
        (1, "POLICY_SIGNATURE_REQUIRED".to_owned())
    );
    assert!(
        refused.stderr.contains("stop forbids and is gone"),
        "{}",
        refused.stderr
    );

    // Made elsewhere, over this very change.
    let sign = async |arguments: &[&str], key: &str| {
        let issuer = stack.url("issuer");
        let common = [
            "policy",
            "sign",
            "--tenant",
            names::TENANT,
            "--issuer",
            issuer,
            "--owner-key",
            key,
        ];
        let file = shell.run(&[&common[..], arguments].concat()).await.ok();
        self::file(folder.path(), "change.sig", &file)
    };
    let stranger = folder.path().join("stranger.key");
    let stranger = stranger.to_str().unwrap();
    drop(shell.run(&["key", "new", stranger]).await.ok());
    let rows: [(&[&str], &str, &str); 3] = [
        (
            &[policy, "--sequence", "1", "--before", stop],
            stranger,
            "an owner of this tenant",
        ),
        (&[policy, "--sequence", "0"], owner, "not over this change"),
        (
            &["--remove", "--sequence", "1", "--before", stop],
            owner,
            "not over this change",
        ),
    ];
    for (change, key, word) in rows {
        let signature = sign(change, key).await;
        let arguments = [&tenant[..], &[policy, "--signature", signature.as_str()]].concat();
        let refused = shell.run(&arguments).await;
        assert_eq!(
            refused.refusal(),
            (1, "INVALID_REQUEST".to_owned()),
            "{change:?}"
        );
        assert!(
            refused.stderr.contains(word),
            "{change:?}: {}",
            refused.stderr
        );
    }
    let signature = sign(&[policy, "--sequence", "1", "--before", stop], owner).await;
    let late = shell
        .run(
            &[
                &tenant[..],
                &[policy, "--sequence", "0", "--signature", &signature],
            ]
            .concat(),
        )
        .await;
    assert_eq!(late.refusal(), (1, "POLICY_SEQUENCE".to_owned()));
    let view = set(&shell, &[policy, "--signature", signature.as_str()]).await;
    assert_eq!(view["sequence"], 2);
    let leaf = newest(&stack, "", "policy_set").await;
    assert_eq!(
        (&leaf["loosens"], &leaf["signer_sha256"]),
        (&json!(true), &view["signer_sha256"])
    );

    // Signed on the way, and removed for good.
    set(&shell, &[stop]).await;
    let view = set(&shell, &["--remove", "--owner-key", owner]).await;
    assert_eq!(
        (&view["sequence"], &view["sha256"]),
        (&json!(4), &json!(""))
    );
    let caller = caller_of(&stack).await;
    assert!(issue(&caller, &[]).await.is_ok());
}

#[tokio::test]
async fn policies_are_checked_tested_and_compared_without_a_service() {
    let folder = tempfile::tempdir().unwrap();
    let shell = Shell::new(&folder.path().join("shell.txt"), &[]);
    let template = shell.run(&["policy", "template", "read-only"]).await.ok();
    let listed = shell.run(&["policy", "template", "--json"]).await.json();
    assert_eq!(listed["templates"][0]["name"], "start");
    let schema = shell.run(&["policy", "schema"]).await.ok();
    assert!(schema.contains("action issue appliesTo"), "{schema}");
    let good = file(folder.path(), "good.cedar", &template);
    let bad = file(
        folder.path(),
        "bad.cedar",
        "\n@id(\"a\") permit(principal, action, resource) when { context.colour == 1 };",
    );
    let checked = shell
        .run(&["policy", "check", "--json", &good])
        .await
        .json();
    assert_eq!(
        checked["files"][0]["policies"],
        json!(["tokens-for-the-gateway", "reads"])
    );
    let checked = shell.run(&["policy", "check", &good, &bad]).await;
    assert_eq!(checked.code, 1);
    assert!(
        checked.stdout.contains("bad.cedar: line 2: policy a: "),
        "{}",
        checked.stdout
    );
    assert!(
        checked
            .stdout
            .contains("good.cedar: good, 2 policies, SHA-256 "),
        "{}",
        checked.stdout
    );

    let cases = |expect: &str| {
        format!(
            "[defaults]\nclient = \"w\"\nvendor = \"v\"\ngrant = \"g\"\napp = \"a\"\nprovider = \"p\"\n\
             target = \"api\"\naction = \"call\"\n\n[[case]]\nname = \"reads\"\nexpect = \"permit\"\nby = [\"reads\"]\n\n\
             [[case]]\nname = \"writes\"\nmethod = \"POST\"\nexpect = \"{expect}\"\n"
        )
    };
    let right = file(folder.path(), "right.toml", &cases("deny"));
    let wrong = file(folder.path(), "wrong.toml", &cases("permit"));
    let tested = shell.run(&["policy", "test", &good, &right]).await.ok();
    assert_eq!(
        tested,
        "ok    reads: permit (by reads)\nok    writes: deny (nothing permits it)\n2 of 2 as expected\n"
    );
    let tested = shell.run(&["policy", "test", &good, &wrong]).await;
    assert_eq!(tested.code, 1);
    assert!(
        tested
            .stdout
            .contains("FAIL  writes: deny (nothing permits it), expected permit\n"),
        "{}",
        tested.stdout
    );
    let tested = shell
        .run(&["--json", "policy", "test", &good, &wrong])
        .await;
    let told: Value = serde_json::from_str(&tested.stdout).unwrap();
    assert_eq!(
        (&told["ok"], &told["cases"][0]["ok"]),
        (&json!(false), &json!(true))
    );
    let explained = shell
        .run(&["policy", "explain", &good, &right, "--case", "writes"])
        .await;
    assert_eq!(
        explained.ok(),
        "writes: deny (nothing permits it)\n  line 4: permit tokens-for-the-gateway: does not apply\n  line 8: permit \
         reads: does not apply\n"
    );
    let none = shell
        .run(&["policy", "explain", &good, &right, "--case", "other"])
        .await;
    assert_eq!(none.code, 2);

    let more = "\n@id(\"no\") forbid(principal, action, resource) when { context.tier != \"hardware\" };\n";
    let next = file(folder.path(), "next.cedar", &format!("{template}{more}"));
    let same = shell.run(&["policy", "diff", &good, &next]).await.ok();
    assert_eq!(same, "added    no\ndoes not loosen\n");
    let loosened = shell.run(&["--json", "policy", "diff", &next, &good]).await;
    assert_eq!(loosened.code, 1);
    let told: Value = serde_json::from_str(&loosened.stdout).unwrap();
    assert_eq!(
        (&told["loosens"], &told["removed"]),
        (&json!(true), &json!(["no"]))
    );
    let absent = shell.run(&["--json", "policy", "check", "/none"]).await;
    assert_eq!(absent.refusal(), (2, String::new()));
    let other = shell.run(&["--json", "policy", "template", "none"]).await;
    assert_eq!(other.refusal(), (2, String::new()));
}
