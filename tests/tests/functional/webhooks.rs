//! Webhooks over real TLS: signed, in their order, again until they are taken, over a restart; and who may have one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a failed test may panic"
)]

use std::fs;

use dev::names;
use proto::v1;
use proto::v1::freeze_subject::Subject;
use serde_json::Value;
use tests::caller::refused;
use tests::cli::Shell;
use tests::receiver::{Posting, Receiver};
use tests::stack::{Blueprint, Stack};
use tests::wait::wait_for;
use tonic::Code;

use crate::keys::admin;

struct Hooked {
    stack: Stack,
    receiver: Receiver,
    shell: Shell,
}

impl Hooked {
    /// A stack that trusts the receiver's certificate.
    async fn start() -> Self {
        let receiver = Receiver::start().await;
        let manifest = format!(
            "[tls]\nroots_pem = [\"\"\"\n{}\"\"\"]\n",
            receiver.certificate
        );
        let stack = Stack::with_grant(Blueprint {
            manifest: manifest.leak(),
            ..Blueprint::default()
        })
        .await;
        let shell = admin(&stack);
        Self {
            stack,
            receiver,
            shell,
        }
    }

    async fn webhook(&self, arguments: &[&str]) -> Value {
        let webhook = ["--json", "webhook"];
        let tenant = ["--tenant", names::TENANT];
        let arguments = [&webhook[..], arguments, &tenant].concat();
        self.shell.run(&arguments).await.json()
    }

    async fn create(&self, more: &[&str]) -> Value {
        let url = self.receiver.url.clone();
        let arguments = [&["create", "siem", "--url", &url][..], more].concat();
        self.webhook(&arguments).await
    }

    async fn posted(&self, count: usize) -> Vec<Posting> {
        wait_for("events are posted", async || {
            let postings = self.receiver.postings();
            (postings.len() >= count).then_some(postings)
        })
        .await
    }

    /// What a receiver finds of a posting, by the command line.
    async fn verify(&self, posting: &Posting, more: &[&str]) -> (i32, Value) {
        let file = |name: &str, bytes: &[u8]| {
            let path = self.stack.logs().join(name);
            fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let jwks = self.shell.run(&["jwks", "export", "--verified"]).await.ok();
        let (jwks, body) = (
            file("jwks.json", jwks.as_bytes()),
            file("body", &posting.body),
        );
        let offline = Shell::new(&self.stack.logs().join("transcript"), &[]);
        let arguments = [
            &[
                "--json",
                "webhook",
                "verify",
                "--jwks",
                &jwks,
                "--body",
                &body,
                "--id",
                posting.header("webhook-id"),
                "--timestamp",
                posting.header("webhook-timestamp"),
                "--signature",
                posting.header("tokenkeep-signature"),
            ][..],
            more,
        ]
        .concat();
        let ended = offline.run(&arguments).await;
        let json = serde_json::from_str(&ended.stdout).unwrap_or(Value::Null);
        (ended.code, json)
    }
}

fn kinds(postings: &[Posting]) -> Vec<String> {
    let kind = |posting: &Posting| posting.event()["kind"].as_str().unwrap().to_owned();
    postings.iter().map(kind).collect()
}

fn client() -> Subject {
    Subject::Client(names::CLIENT.to_owned())
}

#[tokio::test]
async fn events_are_posted_signed_and_in_order_until_they_are_taken() {
    let mut hooked = Hooked::start().await;
    let made = hooked.create(&["--kind", "freeze", "--kind", "thaw"]).await;
    assert_eq!(
        (&made["state"], &made["by"]),
        (&"served".into(), &"dev-admin".into())
    );
    hooked.stack.freeze(client()).await;
    let postings = hooked.posted(1).await;
    assert_eq!(kinds(&postings), ["freeze"]);
    assert_eq!(postings[0].line, "POST /hook HTTP/1.1");
    assert_eq!(postings[0].header("content-type"), "application/json");
    let (code, event) = hooked
        .verify(
            &postings[0],
            &["--tenant", names::TENANT, "--webhook", "siem"],
        )
        .await;
    assert_eq!((code, &event["kind"]), (0, &"freeze".into()), "{event}");
    assert_eq!(
        event["detail"]["subject"],
        format!("client/{}", names::CLIENT)
    );
    let id = format!("{}.siem.{}", names::TENANT, event["position"]);
    assert_eq!(postings[0].header("webhook-id"), id);
    // One byte more, or somebody else's tenant or webhook, is not believed.
    let mut changed = postings[0].clone();
    changed.body.push(b' ');
    assert_eq!(hooked.verify(&changed, &[]).await.0, 1);
    assert_eq!(
        hooked.verify(&postings[0], &["--tenant", "other"]).await.0,
        1
    );

    let other = ["--webhook", "other"];
    assert_eq!(hooked.verify(&postings[0], &other).await.0, 1);

    // What is not taken is posted again, and nothing overtakes it. A redirect is no taking.
    hooked.receiver.answer(307);
    hooked.stack.thaw(client()).await;
    hooked.posted(2).await;
    hooked.stack.freeze(client()).await;
    let failing = wait_for("it is known that nothing is taken", async || {
        let shown = hooked.webhook(&["show", "siem"]).await;
        (shown["state"] == "failing").then_some(shown)
    })
    .await;
    assert!(failing["failing_since_s"].as_u64().unwrap() > 0);
    // The service dies in between; the place is in the store.
    hooked.stack.kill().await;
    hooked.receiver.answer(204);
    let before = hooked.receiver.postings();
    assert!(
        before[1..]
            .iter()
            .all(|posting| posting.event()["kind"] == "thaw")
    );
    hooked.stack.restart().await;
    let all = hooked.posted(before.len() + 2).await;
    let rest = &all[before.len()..];
    assert_eq!(kinds(rest), ["thaw", "freeze"]);
    assert_eq!(rest[0].header("webhook-id"), before[1].header("webhook-id"));
    wait_for("it is served again", async || {
        let shown = hooked.webhook(&["show", "siem"]).await;
        (shown["state"] == "served").then_some(())
    })
    .await;

    // A test is posted at once, and says what was answered.
    let tested = hooked.webhook(&["test", "siem"]).await;
    assert_eq!(tested["status"], 204);
    let postings = hooked.posted(all.len() + 1).await;
    let last = postings.last().unwrap();
    assert_eq!(last.event()["kind"], "test");
    assert_eq!(hooked.verify(last, &[]).await.0, 0);
    hooked.receiver.answer(500);
    let test = [
        "--json",
        "webhook",
        "test",
        "siem",
        "--tenant",
        names::TENANT,
    ];
    let (code, reason) = hooked.shell.run(&test).await.refusal();
    assert_eq!((code, reason.as_str()), (1, "WEBHOOK_NOT_TAKEN"));

    // Deleted with a backlog that is not taken, it gets nothing more; one of the same name begins where it says.
    hooked.stack.thaw(client()).await;
    hooked.stack.freeze(client()).await;
    let count = hooked.receiver.postings().len();
    hooked.posted(count + 1).await;
    hooked.webhook(&["delete", "siem"]).await;
    let listed = hooked.webhook(&["list"]).await;
    assert_eq!(listed["webhooks"], Value::Array(Vec::new()));
    let arguments = ["--kind", "grant_connected", "--since", "0"];
    let made = hooked.create(&arguments).await;
    assert_eq!(
        (&made["state"], &made["failing_since_s"]),
        (&"served".into(), &0.into())
    );
    let first = wait_for("the past, of the new one", async || {
        let postings = hooked.receiver.postings();
        let mut all = postings.into_iter().enumerate();
        all.find(|(_, posting)| posting.event()["kind"] == "grant_connected")
    })
    .await;
    hooked.receiver.answer(204);
    let first = first.0;
    wait_for("it is taken", async || {
        let shown = hooked.webhook(&["show", "siem"]).await;
        let next = shown["next"].as_u64().unwrap();
        let position = hooked.receiver.postings()[first].event()["position"]
            .as_u64()
            .unwrap();
        (next > position).then_some(())
    })
    .await;
    let behind = kinds(&hooked.receiver.postings()[first..]);
    assert!(
        behind.iter().all(|kind| kind == "grant_connected"),
        "{behind:?}"
    );
}

#[tokio::test]
async fn a_webhook_leads_to_no_private_network_and_is_the_owners() {
    let hooked = Hooked::start().await;
    let owner = hooked.stack.admin().await;
    let caller = hooked.stack.client().await;
    let request = |url: &str| v1::CreateWebhookRequest {
        tenant: names::TENANT.to_owned(),
        id: "siem".to_owned(),
        url: url.to_owned(),
        kinds: Vec::new(),
        from: None,
    };
    let good = request(&hooked.receiver.url);
    let invalid = (Code::InvalidArgument, "INVALID_REQUEST");
    let rows = [
        (
            &caller,
            good.clone(),
            (Code::Unauthenticated, "INVALID_CLIENT"),
        ),
        (
            &owner,
            v1::CreateWebhookRequest {
                tenant: "other".into(),
                ..good.clone()
            },
            (Code::PermissionDenied, "FORBIDDEN"),
        ),
        (&owner, request("http://siem.example/"), invalid),
        (&owner, request("https://user:pw@siem.example/"), invalid),
        (&owner, request("https://siem.example/?token=1"), invalid),
        (&owner, request("siem.example"), invalid),
        (
            &owner,
            v1::CreateWebhookRequest {
                id: "-".into(),
                ..good.clone()
            },
            invalid,
        ),
        (
            &owner,
            v1::CreateWebhookRequest {
                kinds: vec![99],
                ..good.clone()
            },
            invalid,
        ),
        (
            &owner,
            v1::CreateWebhookRequest {
                from: Some(u64::MAX),
                ..good.clone()
            },
            invalid,
        ),
    ];
    for (channel, request, (code, reason)) in rows {
        let found = channel.events().create_webhook(request.clone()).await;
        let found = found.map(|_| ()).map_err(refused);
        assert_eq!(found, Err((code, reason.into())), "{request:?}");
    }
    // Addresses are classified when they are connected to: nothing is posted there.
    for (id, url) in [
        ("metadata", "https://169.254.169.254/"),
        ("private", "https://10.0.0.1/"),
    ] {
        let arguments = ["create", id, "--url", url];
        hooked.webhook(&arguments).await;
        let test = ["--json", "webhook", "test", id, "--tenant", names::TENANT];
        let ended = hooked.shell.run(&test).await;
        assert_eq!(ended.refusal(), (1, "WEBHOOK_NOT_TAKEN".to_owned()));
        assert!(ended.stderr.contains("address is"), "{}", ended.stderr);
    }
    let created = owner.events().create_webhook(good.clone()).await;
    created.unwrap();
    let again = owner.events().create_webhook(good).await;
    let again = again.map(|_| ()).map_err(refused);
    assert_eq!(again, Err((Code::AlreadyExists, "ALREADY_EXISTS".into())));
    let gone = v1::GetWebhookRequest {
        tenant: names::TENANT.to_owned(),
        id: "other".to_owned(),
    };
    let gone = owner.events().get_webhook(gone).await;
    let gone = gone.map(|_| ()).map_err(refused);
    assert_eq!(gone, Err((Code::NotFound, "NOT_FOUND".into())));
}
