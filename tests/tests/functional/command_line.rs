//! The main job as its three kinds of users type it, against `tokenkeep-dev up`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::fetch;
use tests::binary::binary;
use tests::cli::Shell;
use tests::process::Process;
use tests::wait::wait_for;

/// `tokenkeep-dev up --json`, and shells for those who use it.
struct Up {
    folder: TempDir,
    process: Process,
    ready: Value,
    /// Nobody in particular: server, root and policy are known.
    anyone: Shell,
    client: Shell,
    admin: Shell,
}

impl Up {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let mut process = Process::start(
            &binary("tokenkeep-dev"),
            &["up", "--json", "--state", state.to_str().unwrap()],
            folder.path(),
            "up",
        );
        let ready = process.ready().await.unwrap();
        let told = |name: &str| ready[name].as_str().unwrap().to_owned();
        let transcript = folder.path().join("transcript");
        let anyone = Shell::new(
            &transcript,
            &[
                ("TOKENKEEP_SERVER", &told("grpc_url")),
                ("TOKENKEEP_POLICY", &told("policy_file")),
                ("TOKENKEEP_ALLOW_EMULATED", &told("root_file")),
            ],
        );
        let client = anyone.with(&[
            ("TOKENKEEP_CERT", &told("client_cert")),
            ("TOKENKEEP_KEY", &told("client_key")),
        ]);
        let admin = anyone.with(&[
            ("TOKENKEEP_CERT", &told("admin_cert")),
            ("TOKENKEEP_KEY", &told("admin_key")),
        ]);
        Self {
            folder,
            process,
            ready,
            anyone,
            client,
            admin,
        }
    }

    fn told(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A refresh token, as a user's consent at the provider gives it.
    async fn consent(&self) -> String {
        let url = format!("{}/_testkit/consent", self.told("provider_url"));
        let consent = json!({
            "client_id": dev::names::OAUTH_CLIENT_ID,
            "scope": dev::names::SCOPES.join(" "),
            "user": "bob@acme.example",
        });
        let granted: Value = fetch::post_json(&url, &consent)
            .await
            .unwrap()
            .json()
            .unwrap();
        granted["refresh_token"].as_str().unwrap().to_owned()
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn verify_says_accept_authentic_or_reject_by_its_exit_code() {
    let up = Up::start().await;
    let bare = Shell::new(&up.path("transcript"), &[]);
    let server = up.told("grpc_url");
    let (root, policy) = (up.told("root_file"), up.told("policy_file"));
    let other_policy = text(&up.path("other-policy.toml"));
    let measured = up.anyone.run(&["verify", "--json"]).await.json();
    let measurement = measured["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["name"] == "measurement")
        .unwrap()["found"]
        .as_str()
        .unwrap()
        .to_owned();
    let keyholders = &measured["manifest"]["keyholders"];
    assert_eq!(keyholders["confidential_against_operator"], false);
    assert_eq!(keyholders["keyholders"][0]["run_by"], "operator");
    assert_eq!(measured["manifest"]["witnesses"], Value::Null);
    let pinned = fs::read_to_string(policy).unwrap();
    assert!(pinned.contains(&measurement));
    fs::write(&other_policy, pinned.replace(&measurement, &"0".repeat(96))).unwrap();
    let broken = text(&up.path("broken.toml"));
    fs::write(&broken, "measurement = ").unwrap();
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("https://{}", listener.local_addr().unwrap())
    };
    let rows: Vec<(&str, Vec<&str>, i32, &str)> = vec![
        ("everything", vec![server, root, policy], 0, "ACCEPT  "),
        ("no reference values", vec![server, root], 3, "AUTHENTIC  "),
        (
            "an emulated enclave, not allowed",
            vec![server],
            1,
            "REJECT  ",
        ),
        (
            "the same with a policy",
            vec![server, "", policy],
            1,
            "REJECT  ",
        ),
        (
            "another measurement",
            vec![server, root, &other_policy],
            1,
            "REJECT  ",
        ),
        (
            "a policy that is not there",
            vec![server, root, "/none"],
            2,
            "",
        ),
        (
            "a policy that cannot be read",
            vec![server, root, &broken],
            2,
            "",
        ),
        ("a root that is none", vec![server, policy, policy], 2, ""),
        ("nobody there", vec![&closed, root, policy], 4, ""),
    ];
    for (name, values, code, begins) in rows {
        let mut arguments = vec!["verify"];
        for (flag, value) in ["--server", "--allow-emulated", "--policy"]
            .into_iter()
            .zip(values)
        {
            if !value.is_empty() {
                arguments.extend([flag, value]);
            }
        }
        let ended = bare.run(&arguments).await;
        assert_eq!(ended.code, code, "{name}: {}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.stdout.is_empty(), begins.is_empty(), "{name}");
        assert!(ended.stdout.starts_with(begins), "{name}: {}", ended.stdout);
        arguments.push("--json");
        let ended = bare.run(&arguments).await;
        assert_eq!(ended.code, code, "{name}");
        let told = if begins.is_empty() {
            &ended.stderr
        } else {
            &ended.stdout
        };
        let told: Value = serde_json::from_str(told).unwrap();
        if begins.is_empty() {
            assert_eq!(told["error"]["exit_code"], code, "{name}");
        } else {
            let verdict = told["verdict"].as_str().unwrap().to_uppercase();
            assert_eq!(verdict, begins.trim_end(), "{name}");
        }
    }
    // What a security engineer looks for is there.
    let shown = up.anyone.run(&["verify"]).await.ok();
    for wanted in [
        "platform         AMD SEV-SNP on Genoa",
        "tier             emulated",
        "by the manifest that the evidence binds (sequence 1)",
        "keyholders       1 of 1, on its own chip only",
        "keyholder        tokenkeep-dev, run by the operator, http://127.0.0.1:",
        "nothing here is confidential against the operator",
        "witnesses        none: a disk that is put back is not found out",
        "reported TCB     bootloader ",
        "guest policy     0x3001f",
        "measurement      ",
        "enclave CA       SHA-256 ",
        "token key        ES256, kid emulated-",
        "deposit key      HPKE X25519 ",
    ] {
        assert!(shown.contains(wanted), "{wanted}: {shown}");
    }
}

#[tokio::test]
async fn the_main_job_works_as_typed() {
    let mut up = Up::start().await;
    let (grant, tenant, app) = ("bob-crm", up.told("tenant"), up.told("app"));
    let (client, target) = (up.told("client"), dev::names::TARGET);
    let gateway = up.told("gateway_url");
    let resource = format!("{gateway}/g/{grant}/{target}");

    // The integration makes its key.
    let key = text(&up.path("dpop.key"));
    let made = up.anyone.run(&["key", "new", &key, "--json"]).await.json();
    assert_eq!(made["jkt"].as_str().unwrap().len(), 43);
    let again = up.anyone.run(&["key", "new", &key, "--json"]).await;
    assert_eq!(again.refusal(), (2, String::new()));

    // The tenant's administrator deposits: from a file, then anew from standard input.
    let token_file = text(&up.path("refresh-token"));
    fs::write(&token_file, up.consent().await).unwrap();
    let deposit = [
        "grant",
        "deposit",
        "--tenant",
        tenant,
        "--app",
        app,
        "--grant",
        grant,
        "--client",
        client,
        "--target",
        target,
        "--scope",
        "contacts.read",
        "--scope",
        "contacts.write",
        "--json",
    ];
    let from_file = [&deposit[..], &["--token-file", &token_file]].concat();
    let deposited = up.admin.run(&from_file).await.json();
    assert_eq!(deposited["state"], "active");
    assert_eq!(deposited["resources"], json!([resource]));
    let second = format!("{}\n", up.consent().await);
    let deposited = up.admin.run_with(&deposit, second.as_bytes()).await.json();
    assert_eq!(deposited["state"], "active");
    let empty = up.admin.run_with(&deposit, b"\n").await;
    assert_eq!(empty.refusal(), (2, String::new()));
    let stranger = up.client.run(&from_file).await;
    assert_eq!(stranger.refusal(), (1, "INVALID_CLIENT".to_owned()));

    let list = up
        .admin
        .run(&["grant", "list", "--tenant", tenant, "--json"])
        .await
        .json();
    let ids: Vec<&str> = list["grants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|grant| grant["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, [up.told("grant"), grant]);
    let shown = up.admin.run(&["grant", "show", grant]).await.ok();
    assert!(
        shown.contains(&resource) && shown.contains("active"),
        "{shown}"
    );
    let absent = up.admin.run(&["grant", "show", "nobody", "--json"]).await;
    assert_eq!(absent.refusal(), (1, "NOT_FOUND".to_owned()));

    // The integration asks, and calls.
    let ask = [
        "token",
        "--grant",
        grant,
        "--resource",
        &resource,
        "--dpop-key",
        &key,
    ];
    let token = up.client.run(&ask).await.ok();
    assert_eq!(token.trim_end().split('.').count(), 3);
    let token = up
        .client
        .run(&[&ask[..], &["--json"]].concat())
        .await
        .json();
    assert_eq!(token["token_type"], "DPoP");
    assert_eq!(token["resource"], resource);
    assert_eq!(token["scopes"], json!(["contacts.read", "contacts.write"]));
    let narrow = [&ask[..], &["--scope", "contacts.read", "--json"]].concat();
    assert_eq!(
        up.client.run(&narrow).await.json()["scopes"],
        json!(["contacts.read"])
    );
    let wide = [&ask[..], &["--scope", "admin", "--json"]].concat();
    assert_eq!(
        up.client.run(&wide).await.refusal(),
        (1, "INVALID_SCOPE".to_owned())
    );

    let contacts = format!("{resource}/contacts");
    let read = ["call", "GET", &contacts, "--dpop-key", &key];
    let called = up.client.run(&read).await;
    assert_eq!(called.stderr, "200 OK\n");
    let book: Value = serde_json::from_str(&called.ok()).unwrap();
    assert_eq!(book["owner"], "bob@acme.example");
    let body = text(&up.path("contact.json"));
    fs::write(
        &body,
        r#"{"name":"Grace Hopper","email":"grace@example.com"}"#,
    )
    .unwrap();
    let data = format!("@{body}");
    let write = [
        "call",
        "POST",
        &contacts,
        "--dpop-key",
        &key,
        "--data",
        &data,
        "-H",
        "Content-Type: application/json",
    ];
    let written = up.client.run(&write).await;
    assert_eq!(written.stderr, "201 Created\n");
    assert!(up.client.run(&read).await.ok().contains("Grace Hopper"));
    let missing = format!("{resource}/contacts/99");
    let missing = up
        .client
        .run(&["call", "GET", &missing, "--dpop-key", &key])
        .await;
    assert_eq!(
        (missing.code, missing.stderr.as_str()),
        (1, "404 Not Found\n")
    );

    // Everyone else trusts the verified CA.
    let ca = up.anyone.run(&["trust"]).await.ok();
    assert_eq!(ca, fs::read_to_string(up.told("ca_file")).unwrap());
    let keys = up
        .anyone
        .run(&["jwks", "export", "--verified"])
        .await
        .json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1);

    // The administrator stops the client: at once, tokens and calls are refused.
    let freeze = [
        "freeze", "client", client, "--tenant", tenant, "--reason", "leaked", "--json",
    ];
    let frozen = up.admin.run(&freeze).await.json();
    assert_eq!(
        (&frozen["kind"], &frozen["id"]),
        (&json!("client"), &json!(client))
    );
    let refused = up.client.run(&[&ask[..], &["--json"]].concat()).await;
    assert_eq!(refused.refusal(), (1, "FROZEN".to_owned()));
    let refused = up.client.run(&[&read[..], &["--json"]].concat()).await;
    assert_eq!(refused.refusal(), (1, "FROZEN".to_owned()));
    let list = up
        .admin
        .run(&["freezes", "--tenant", tenant, "--json"])
        .await
        .json();
    assert_eq!(list["freezes"][0]["reason"], "leaked");
    let thawed = up
        .admin
        .run(&["thaw", "client", client, "--tenant", tenant])
        .await;
    assert_eq!(thawed.code, 0);
    assert_eq!(up.client.run(&read).await.code, 0);

    // Without a verdict nothing is asked and nothing is deposited.
    let blind = Shell::new(
        &up.path("transcript"),
        &[("TOKENKEEP_SERVER", up.told("grpc_url"))],
    );
    for command in [&ask[..], &read[..], &["trust"][..]] {
        let ended = blind.run(&[command, &["--json"]].concat()).await;
        assert_eq!(ended.refusal(), (1, String::new()), "{command:?}");
    }
    let authentic = blind.with(&[("TOKENKEEP_ALLOW_EMULATED", up.told("root_file"))]);
    assert_eq!(authentic.run(&ask).await.code, 3);
    assert_eq!(authentic.run_with(&deposit, b"token").await.code, 3);

    assert_eq!(up.process.stop().await.code(), Some(0));
    let gone = up.client.run(&[&ask[..], &["--json"]].concat()).await;
    assert_eq!(gone.refusal(), (4, String::new()));
}

#[tokio::test]
async fn a_grant_is_revoked_and_deleted_from_the_command_line() {
    let up = Up::start().await;
    let grant = dev::names::GRANT;
    let revoked = up
        .admin
        .run(&["--json", "grant", "revoke", grant, "--reason", "ended"])
        .await
        .json();
    assert_eq!(revoked["state"], "revoked");
    wait_for("the provider was told", async || {
        let shown = up.admin.run(&["--json", "grant", "show", grant]).await;
        (shown.json()["provider_told"] == "proved").then_some(())
    })
    .await;
    let shown = up.admin.run(&["--json", "grant", "show", grant]).await;
    assert_eq!(shown.json()["state"], "revoked");
    // It is the tenant's to end.
    let stranger = up.client.run(&["--json", "grant", "delete", grant]).await;
    assert_eq!(stranger.refusal().0, 1);
    let deleted = up.admin.run(&["--json", "grant", "delete", grant]).await;
    assert_eq!(deleted.json(), json!({"id": grant, "deleted": true}));
    let gone = up.admin.run(&["--json", "grant", "revoke", grant]).await;
    assert_eq!(gone.refusal(), (1, "NOT_FOUND".to_owned()));
}
