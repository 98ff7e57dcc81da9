//! The provider as a process of its own, with its ledger on the disk: the judge of what was presented and lost.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a provider that can't be driven fails the test"
)]

use std::fs;
use std::path::{Path, PathBuf};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::fetch::{fetch, post_json};
use testkit::provider::{Entry, Fault};

use crate::exchanges::{OAUTH_CLIENT_ID, SCOPE};
use crate::process::Process;

/// The provider's process.
#[derive(Debug)]
pub struct Oracle {
    process: Process,
    folder: TempDir,
    url: String,
    read_bytes: usize,
}

/// A user's consent at it.
#[derive(Clone, Debug)]
pub struct Consented {
    /// The grant's name in the ledger.
    pub grant: String,
    /// The first refresh token.
    pub refresh_token: String,
}

impl Oracle {
    /// Starts `program`, a `tokenkeep-dev`, as a provider; `rotation` and whatever follows are its options. Every call
    /// needs an access token of its own, unless they say how long one lives.
    pub async fn start(program: &Path, rotation: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let ledger = folder.path().join("ledger.jsonl");
        let ledger = ledger.to_str().expect("a path of text");
        let mut arguments = vec!["provider", "--client-id", OAUTH_CLIENT_ID];
        arguments.extend(["--rotation", rotation]);
        if !more.contains(&"--expires-in-s") {
            arguments.extend(["--expires-in-s", "0"]);
        }
        arguments.extend(["--ledger-file", ledger]);
        arguments.extend(more);
        let mut process = Process::start(program, &arguments, folder.path(), "provider");
        let ready = process.ready().await;
        let ready = ready.unwrap_or_else(|(status, said)| panic!("{status}: {said}"));
        let url = ready.get("provider_url").and_then(Value::as_str);
        Self {
            url: url.expect("a URL").to_owned(),
            process,
            folder,
            read_bytes: 0,
        }
    }

    /// Where refresh tokens go.
    #[must_use]
    pub fn token_endpoint(&self) -> String {
        format!("{}/token", self.url)
    }

    /// Host and port.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// A user consents.
    pub async fn consent(&self) -> Consented {
        let url = format!("{}/_testkit/consent", self.url);
        let asked = json!({"client_id": OAUTH_CLIENT_ID, "scope": SCOPE, "user": "someone"});
        let answer = post_json(&url, &asked).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::OK);
        let told: Value = answer.json().expect("JSON");
        let text = |name: &str| {
            let value = told.get(name).and_then(Value::as_str);
            value.expect("text").to_owned()
        };
        Consented {
            grant: text("grant"),
            refresh_token: text("refresh_token"),
        }
    }

    /// Arranges a fault.
    pub async fn fault(&self, fault: &Fault) {
        let url = format!("{}/_testkit/fault", self.url);
        let fault = serde_json::to_value(fault).expect("JSON");
        let answer = post_json(&url, &fault).await.expect("an answer");
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
    }

    /// Forgets the faults that wait.
    pub async fn well(&self) {
        let url = format!("{}/_testkit/fault", self.url);
        let answer = fetch(Method::DELETE, &url, &[], "")
            .await
            .expect("an answer");
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
    }

    /// What stands in the ledger's file since this was asked last.
    pub fn news(&mut self) -> Vec<Entry> {
        let text = fs::read(self.ledger()).expect("the ledger");
        let new = text.get(self.read_bytes..).unwrap_or_default();
        let whole = new.iter().rposition(|byte| *byte == b'\n');
        let whole = new.get(..whole.map_or(0, |at| at.saturating_add(1)));
        let whole = whole.unwrap_or_default();
        self.read_bytes = self.read_bytes.saturating_add(whole.len());
        whole
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("a line of the ledger"))
            .collect()
    }

    fn ledger(&self) -> PathBuf {
        self.folder.path().join("ledger.jsonl")
    }

    /// Ends it.
    pub async fn stop(mut self) {
        self.process.kill().await;
    }
}
