//! The logs as an auditor, a tenant and a client see them, over real gRPC and HTTPS.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a failed test may panic"
)]

use std::fs;
use std::path::{Path, PathBuf};

use dev::names;
use proto::v1;
use proto::v1::freeze_subject::Subject;
use serde_json::Value;
use tests::caller::refused;
use tests::cli::Shell;
use tests::stack::{Blueprint, Stack};
use tests::wait::wait_for;
use tests::witnesses::Witnesses;
use tokenkeep::audit::{LogKeys, LogName};
use tokenkeep::rpc_error::answer;
use tokenkeep::{AttestedChannel, TokenClient, TokenRequest};
use tonic::Code;

struct Audited {
    stack: Stack,
    shell: Shell,
}

impl Audited {
    async fn start() -> Self {
        let stack = Stack::with_grant(Blueprint::default()).await;
        let shell = Shell::new(&stack.logs().join("transcript"), &[]);
        let audited = Self { stack, shell };
        let ca = audited.stack.admin().await.bundle().enclave_ca_der.clone();
        let pem = pem(&ca);
        fs::write(audited.path("ca.pem"), pem).unwrap();
        audited
    }

    fn path(&self, name: &str) -> PathBuf {
        self.stack.logs().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    async fn keys(&self) -> LogKeys {
        LogKeys::from_bundle(self.stack.admin().await.bundle()).unwrap()
    }

    async fn log_key(&self) -> String {
        let keys = self.keys().await;
        keys.verifier_key(&LogName::Control).unwrap().to_string()
    }

    /// Runs `tokenkeep --json audit …` with key and place of the tiles.
    async fn audit(&self, command: &[&str], tiles: &str) -> (i32, Value) {
        let key = self.log_key().await;
        let ca = self.text("ca.pem");
        let mut arguments = vec!["--json", "audit"];
        arguments.extend(command);
        arguments.extend(["--tiles", tiles, "--log-key", &key, "--ca", &ca]);
        let ended = self.shell.run(&arguments).await;
        let value = serde_json::from_str(&ended.stdout);
        (ended.code, value.unwrap_or_else(|_| panic!("{ended:?}")))
    }

    /// A token, and its receipt.
    async fn token(&self) -> v1::Receipt {
        let channel = self.stack.client().await;
        let client = TokenClient::new(&channel, self.stack.dpop_key() as _);
        let request = TokenRequest::new(names::GRANT.to_owned(), self.stack.resource());
        let token = client.token(&request).await.unwrap();
        let receipt = token.receipt().unwrap();
        v1::Receipt {
            log: receipt.log.clone(),
            index: receipt.index,
            leaf_hash: receipt.leaf_hash.as_bytes().to_vec(),
        }
    }
}

fn pem(der: &[u8]) -> String {
    use base64ct::{Base64, Encoding as _};
    let text = Base64::encode_string(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let lines = lines.join("\n");
    format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
}

fn largest(folder: &Path) -> PathBuf {
    let mut largest = (0, PathBuf::new());
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let length = fs::metadata(&path).unwrap().len();
                largest = largest.max((length, path));
            }
        }
    }
    largest.1
}

#[tokio::test]
async fn the_logs_are_verified_by_their_tiles_alone_and_over_restarts() {
    let mut audited = Audited::start().await;
    for _ in 0..3 {
        audited.token().await;
    }
    audited
        .stack
        .freeze(Subject::Client(names::CLIENT.to_owned()))
        .await;
    audited
        .stack
        .thaw(Subject::Client(names::CLIENT.to_owned()))
        .await;
    let public = audited.stack.url("public_url").to_owned();
    let kept = audited.text("kept.json");
    let (code, report) = audited.audit(&["verify", "--kept", &kept], &public).await;
    assert_eq!((code, &report["verdict"]), (0, &"holds".into()), "{report}");
    assert_eq!(report["logs"].as_array().unwrap().len(), 2);
    assert_eq!(report["logs"][1]["size"], 3);
    let before = report["leaves"].as_u64().unwrap();

    // Killed and started again, the logs go on, and so do the numbers of the tenant.
    audited.stack.kill().await;
    audited.stack.restart().await;
    audited.token().await;
    let (code, report) = audited.audit(&["verify", "--kept", &kept], &public).await;
    assert_eq!((code, &report["verdict"]), (0, &"holds".into()), "{report}");
    assert_eq!(report["logs"].as_array().unwrap().len(), 3);
    assert!(report["leaves"].as_u64().unwrap() > before);
    let control = &report["logs"][0];
    assert!(control["kept_size"].as_u64().unwrap() < control["size"].as_u64().unwrap());

    // A copy holds too; taken up again, it takes what is new.
    let copy = audited.text("copy");
    let (code, copied) = audited.audit(&["export", &copy], &public).await;
    assert_eq!((code, &copied["logs"]), (0, &3.into()), "{copied}");
    assert_eq!(copied["leaves"], report["leaves"]);
    audited.token().await;
    let (code, _) = audited.audit(&["export", &copy], &public).await;
    assert_eq!(code, 0);
    let (code, report) = audited.audit(&["verify", "--kept", &kept], &copy).await;
    assert_eq!(code, 0, "{report}");
    let stale = audited.text("stale");
    assert!(
        std::process::Command::new("cp")
            .args(["-r", &copy, &stale])
            .status()
            .unwrap()
            .success()
    );

    // One byte of it changed.
    let victim = largest(&audited.path("copy"));
    let mut bytes = fs::read(&victim).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&victim, bytes).unwrap();
    let (code, report) = audited.audit(&["verify"], &copy).await;
    assert_eq!(
        (code, &report["verdict"]),
        (1, &"refused".into()),
        "{report}"
    );

    // What was is not shown again to one who has seen more: both checkpoints prove it.
    let (_, report) = audited.audit(&["verify"], &stale).await;
    let old = report["leaves"].as_u64().unwrap();
    audited.token().await;
    // A checkpoint is shown for a moment after the log went on.
    wait_for("the logs show what is new", async || {
        let (code, report) = audited.audit(&["verify", "--kept", &kept], &public).await;
        assert_eq!(code, 0, "{report}");
        (report["leaves"].as_u64().unwrap() > old).then_some(())
    })
    .await;
    let (code, report) = audited.audit(&["verify", "--kept", &kept], &stale).await;
    assert_eq!(code, 1, "{report}");
    let proofs = report["findings"].as_array().unwrap();
    let proof = proofs
        .iter()
        .find_map(|finding| finding["proof"].as_array())
        .unwrap();
    assert_eq!(proof.len(), 2);
    let (code, _) = audited.audit(&["verify"], &stale).await;
    assert_eq!(code, 0);
}

#[tokio::test]
async fn a_receipt_is_proved_by_the_service_by_tiles_and_offline() {
    let audited = Audited::start().await;
    let receipt = audited.token().await;
    audited.token().await;
    let receipt = tokenkeep::audit::Receipt::try_from(receipt).unwrap();
    fs::write(audited.path("receipt.json"), receipt.to_json().to_string()).unwrap();
    let (file, proof) = (
        audited.text("receipt.json"),
        audited.text("receipt.tlog-proof"),
    );
    let public = audited.stack.url("public_url").to_owned();
    let (code, proved) = audited
        .audit(&["prove", &file, "--out", &proof], &public)
        .await;
    assert_eq!((code, &proved["proved"]), (0, &true.into()), "{proved}");
    assert_eq!(proved["index"], 0);

    // Offline, with the key alone.
    let key = audited.log_key().await;
    let offline = [
        "--json",
        "audit",
        "prove",
        &file,
        "--proof",
        &proof,
        "--log-key",
        &key,
    ];
    assert_eq!(audited.shell.run(&offline).await.json()["index"], 0);
    let other = receipt
        .to_json()
        .to_string()
        .replacen("\"index\":0", "\"index\":1", 1);
    fs::write(audited.path("receipt.json"), other).unwrap();
    let (code, _) = audited.shell.run(&offline).await.refusal();
    assert_eq!(code, 1);

    // Of the service, without a certificate.
    let keys = audited.keys().await;
    let client = audited.stack.client().await;
    let request = v1::ProveInclusionRequest {
        log: receipt.log.clone(),
        index: receipt.index,
    };
    let found = answer(client.audit().prove_inclusion(request))
        .await
        .unwrap();
    receipt.proved(&keys, found.into_inner()).unwrap();
    let request = v1::ProveConsistencyRequest {
        log: receipt.log.clone(),
        old_size: 1,
        new_size: 0,
    };
    let found = answer(client.audit().prove_consistency(request))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(found.hashes.len(), 1);
    assert!(found.checkpoint.starts_with(&receipt.log));
}

async fn kinds(channel: &AttestedChannel, log: &str, tenant: &str) -> Vec<(String, String)> {
    let request = v1::ListLeavesRequest {
        log: log.to_owned(),
        from: 0,
        page_size: 0,
        tenant: tenant.to_owned(),
    };
    let page = answer(channel.audit().list_leaves(request))
        .await
        .unwrap()
        .into_inner();
    assert!(page.at_end);
    let kind = |leaf: &v1::Leaf| {
        let entry: Value = serde_json::from_str(&leaf.entry).unwrap();
        let event: Value = serde_json::from_str(&leaf.event).unwrap_or(Value::Null);
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (word(&entry["kind"]), word(&event["event"]))
    };
    page.leaves.iter().map(kind).collect()
}

#[tokio::test]
async fn leaves_are_opened_for_those_who_act_for_the_tenant() {
    let audited = Audited::start().await;
    let receipt = audited.token().await;
    let admin = audited.stack.admin().await;
    let both = |kind: &str| (kind.to_owned(), kind.to_owned());
    let issued = kinds(&admin, &receipt.log, names::TENANT).await;
    assert_eq!(issued, [both("token_issued")]);
    let control = kinds(&admin, "", names::TENANT).await;
    assert_eq!(control, [both("deposited")]);
    // All of it is read by one who administers all.
    let all = kinds(&admin, "", "").await;
    assert!(
        all.contains(&both("booted")) && all.contains(&both("registered")),
        "{all:?}"
    );
    assert!(all.iter().all(|(kind, event)| kind == event), "{all:?}");

    // A client administers nothing.
    let client = audited.stack.client().await;
    let request = v1::ListLeavesRequest::default();
    let refusal = client
        .audit()
        .list_leaves(request.clone())
        .await
        .map(|_| ());
    assert_eq!(
        refusal.map_err(refused),
        Err((Code::Unauthenticated, "INVALID_CLIENT".into()))
    );
    let rows = [
        (
            v1::ListLeavesRequest {
                tenant: "other".into(),
                ..request.clone()
            },
            Code::PermissionDenied,
            "FORBIDDEN",
        ),
        (
            v1::ListLeavesRequest {
                tenant: "-".into(),
                ..request.clone()
            },
            Code::InvalidArgument,
            "INVALID_REQUEST",
        ),
        (
            v1::ListLeavesRequest {
                log: "x".into(),
                ..request.clone()
            },
            Code::NotFound,
            "LOG_NOT_FOUND",
        ),
        (
            v1::ListLeavesRequest {
                page_size: 1_001,
                ..request.clone()
            },
            Code::InvalidArgument,
            "INVALID_REQUEST",
        ),
        (
            v1::ListLeavesRequest {
                from: u64::MAX,
                ..request
            },
            Code::InvalidArgument,
            "BEYOND_THE_LOG",
        ),
    ];
    for (request, code, reason) in rows {
        let refusal = admin.audit().list_leaves(request).await.map(|_| ());
        assert_eq!(refusal.map_err(refused), Err((code, reason.to_owned())));
    }
}

#[tokio::test]
async fn leaves_are_followed_and_a_break_is_taken_up() {
    let audited = Audited::start().await;
    let log = audited.token().await.log;
    let admin = audited.stack.admin().await;
    let follow = async |from| {
        let request = v1::TailLeavesRequest {
            log: log.clone(),
            from,
            tenant: names::TENANT.to_owned(),
        };
        answer(admin.audit().tail_leaves(request))
            .await
            .unwrap()
            .into_inner()
    };
    let mut stream = follow(0).await;
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!((first.leaves.len(), first.next), (1, 1));
    audited.token().await;
    let second = stream.message().await.unwrap().unwrap();
    assert_eq!((second.leaves[0].index, second.next), (1, 2));
    assert!(second.leaves[0].event.contains("token_issued"));
    drop(stream);
    audited.token().await;
    let mut stream = follow(second.next).await;
    let third = stream.message().await.unwrap().unwrap();
    assert_eq!((third.leaves[0].index, third.next), (2, 3));
    // The command line lists the same.
    let logs = answer(admin.audit().list_logs(v1::ListLogsRequest::default())).await;
    let logs = logs.unwrap().into_inner().logs;
    assert_eq!(logs.len(), 2);
    assert_eq!(
        (logs[1].origin.as_str(), logs[1].size, logs[1].is_open),
        (log.as_str(), 3, true)
    );
    // A stop ends the stream.
    let mut stack = audited.stack;
    assert!(stack.stop().await.success());
    let ended = wait_for("the stream ends", async || match stream.message().await {
        Ok(Some(_)) => None,
        Ok(None) | Err(_) => Some(()),
    });
    ended.await;
}

/// What an auditor who asks the verified service says.
async fn by_server(audited: &Audited, kept: &str) -> (i32, Value) {
    let shell = crate::keys::admin(&audited.stack);
    let ended = shell
        .run(&["--json", "audit", "verify", "--kept", kept])
        .await;
    let value = serde_json::from_str(&ended.stdout);
    (ended.code, value.unwrap_or_else(|_| panic!("{ended:?}")))
}

#[tokio::test]
async fn an_auditor_goes_on_where_it_was_when_the_log_key_was_replaced() {
    let audited = Audited::start().await;
    audited.token().await;
    let kept = audited.text("kept.json");
    let (code, report) = by_server(&audited, &kept).await;
    assert_eq!(code, 0, "{report}");
    let old_key = audited.log_key().await;
    let copy = audited.text("copy");
    let public = audited.stack.url("public_url").to_owned();
    let (code, _) = audited.audit(&["export", &copy], &public).await;
    assert_eq!(code, 0);

    // It leaked: there is no overlap in which the old key would sign, too.
    let shell = crate::keys::admin(&audited.stack);
    let rotate = ["key", "rotate", "log", "--overlap-s", "0"];
    assert_eq!(shell.run(&rotate).await.code, 0);
    // Each other key too: an auditor knows the leaves of all of it.
    let tenant = ["tenant", "--tenant", names::TENANT];
    for kind in [&["signing"][..], &["ca"], &["deposit"], &tenant] {
        let rotate = [&["key", "rotate"], kind].concat();
        assert_eq!(shell.run(&rotate).await.code, 0, "{kind:?}");
    }
    audited.token().await;
    assert_ne!(audited.log_key().await, old_key);
    let text = fs::read_to_string(audited.path("kept.json")).unwrap();
    assert!(text.contains(&old_key), "{text}");
    // What was kept by the old key is held against the logs of the new one.
    let report = wait_for("the logs show what is new", async || {
        let (code, report) = by_server(&audited, &kept).await;
        assert_eq!(code, 0, "{report}");
        let text = fs::read_to_string(audited.path("kept.json")).unwrap();
        (!text.contains(&old_key)).then_some(report)
    })
    .await;
    let control = &report["logs"][0];
    assert!(control["kept_size"].as_u64().unwrap() <= control["size"].as_u64().unwrap());

    // The older copy, by the old key: it holds by itself, and is a log that shrank for who has seen more.
    let older = |kept: &[&'static str]| {
        let ca = audited.text("ca.pem");
        let mut arguments = vec!["--json".to_owned(), "audit".to_owned(), "verify".to_owned()];
        let more = ["--tiles", &copy, "--log-key", &old_key, "--ca", &ca];
        arguments.extend(more.map(str::to_owned));
        if !kept.is_empty() {
            arguments.extend(["--kept".to_owned(), audited.text("kept.json")]);
        }
        arguments
    };
    let run = async |arguments: Vec<String>| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        audited.shell.run(&arguments).await
    };
    assert_eq!(run(older(&[])).await.code, 0);
    let refused = run(older(&["kept"])).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    let report: Value = serde_json::from_str(&refused.stdout).unwrap();
    let proofs = report["findings"].as_array().unwrap();
    assert!(
        proofs.iter().any(|finding| finding["proof"].is_array()),
        "{report}"
    );
}

#[tokio::test]
async fn an_auditor_asks_for_the_cosignatures_of_a_quorum_of_witnesses() {
    let witnesses = Witnesses::start(3).await;
    let mut audited = Audited::start().await;
    audited.stack.watch(&witnesses, 6).await;
    let ca = audited.stack.admin().await.bundle().enclave_ca_der.clone();
    fs::write(audited.path("ca.pem"), pem(&ca)).unwrap();
    audited.token().await;
    let public = audited.stack.url("public_url").to_owned();
    let keys = witnesses.keys();
    let stranger = Witnesses::start(1).await.keys().remove(0);
    let audit = async |named: &[&str], quorum: &[&str]| {
        let mut command = vec!["verify"];
        for key in named {
            command.extend(["--witness", key]);
        }
        command.extend(quorum);
        audited.audit(&command, &public).await
    };
    let [one, two, three] = [0, 1, 2].map(|at: usize| keys[at].as_str());
    // Two of three must cosign before anything is acknowledged: two are there.
    let (code, report) = audit(&[one, two, three], &["--quorum", "2"]).await;
    assert_eq!((code, &report["verdict"]), (0, &"holds".into()), "{report}");
    let cosigned = report["logs"][0]["cosigned_by"].as_array().unwrap();
    assert!(cosigned.len() >= 2, "{report}");
    // Issuance logs have none of their own: the control log holds them fast.
    assert_eq!(report["logs"][1]["cosigned_by"], serde_json::json!([]));

    // One whom nobody asked has not cosigned: all is the default, and a quorum without it is met.
    let (code, report) = audit(&[one, two, three, &stranger], &["--quorum", "4"]).await;
    assert_eq!(
        (code, &report["verdict"]),
        (1, &"refused".into()),
        "{report}"
    );
    assert!(
        report["findings"][0].to_string().contains("cosign"),
        "{report}"
    );
    let (code, report) = audit(&[&stranger], &[]).await;
    assert_eq!(
        (code, &report["verdict"]),
        (1, &"refused".into()),
        "{report}"
    );
    let (code, _) = audit(&[one, two, three, &stranger], &["--quorum", "2"]).await;
    assert_eq!(code, 0);

    // What can't be is usage.
    let key = audited.log_key().await;
    for quorum in ["0", "2"] {
        let arguments = [
            "audit",
            "verify",
            "--tiles",
            &public,
            "--log-key",
            &key,
            "--witness",
            one,
            "--quorum",
            quorum,
        ];
        let ended = audited.shell.run(&arguments).await;
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(
            ended.stderr.contains(&format!("--quorum: {quorum} of 1")),
            "{ended:?}"
        );
    }
}
