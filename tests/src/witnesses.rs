//! Witnesses of a stack's control log, in this process: real ones, over HTTP, with their memory on the disk.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a witness that does not come up fails the test"
)]

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use ::tlog::{KeyName, VerifierKey};
use tempfile::TempDir;
use tokenkeep::SystemClock;
use tokenkeep::witness::state::Directory;
use tokenkeep::witness::{Witness, serve};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::stack::{Stack, sign};

#[derive(Debug)]
struct One {
    folder: TempDir,
    witness: Arc<Witness>,
    url: String,
    task: JoinHandle<()>,
}

/// Witnesses that answer.
#[derive(Debug)]
pub struct Witnesses(Vec<One>);

impl Witnesses {
    /// As many, with keys of their own and no logs.
    pub async fn start(count: usize) -> Self {
        let mut all = Vec::new();
        for number in 1..=count {
            let folder = tempfile::tempdir().expect("a directory");
            let name = format!("witness.test/{number}").parse().expect("a name");
            let witness = Witness::init(&folder.path().join("w"), &name).expect("a witness");
            let witness = Arc::new(witness);
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
            let listener = listener.expect("a port");
            let url = format!("http://{}", listener.local_addr().expect("its number"));
            let clock = Arc::new(SystemClock);
            let task = tokio::spawn(serve::serve(Arc::clone(&witness), clock, listener, None));
            all.push(One {
                folder,
                witness,
                url,
                task,
            });
        }
        Self(all)
    }

    /// They take no more connections.
    pub fn stop(&self) {
        for one in &self.0 {
            one.task.abort();
        }
    }

    /// Lets them know a log.
    pub fn know(&self, log: &VerifierKey) {
        for one in &self.0 {
            Directory::add_log(&one.folder.path().join("w"), log).expect("a list of logs");
        }
    }

    /// Their keys, as auditors name them.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|one| one.witness.key().to_string())
            .collect()
    }

    fn quorum(&self) -> usize {
        self.0.len().saturating_sub(1).max(1)
    }

    /// As many leaves of a log a quorum has cosigned.
    #[must_use]
    pub fn seen_by_quorum(&self, log: &VerifierKey) -> u64 {
        let mut sizes: Vec<u64> = self
            .0
            .iter()
            .map(|one| {
                let logs = one.witness.logs();
                let mut logs = logs.iter();
                let seen = logs.find(|(origin, _)| origin.as_str() == log.name().as_str());
                let latest = seen.and_then(|(_, seen)| seen.latest.as_ref());
                latest.map_or(0, |latest| latest.head().size)
            })
            .collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        let last = self.quorum().saturating_sub(1);
        sizes.get(last).copied().unwrap_or_default()
    }

    /// What a manifest says of them: all but one must agree, or the only one.
    #[must_use]
    pub fn manifest(&self, lease_s: u64) -> String {
        let quorum = self.quorum();
        let mut text = format!("\n[witnesses]\nquorum = {quorum}\nlease_s = {lease_s}\n");
        for (number, one) in self.0.iter().enumerate() {
            let (url, key) = (&one.url, one.witness.key());
            write!(
                text,
                "[[witnesses.witness]]\nname = \"w{number}\"\nurl = \"{url}\"\nkey = \"{key}\"\n"
            )
            .expect("text grows");
        }
        text
    }
}

impl Drop for Witnesses {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Stack {
    /// The verifier key of the control log, by the attested key bundle.
    pub async fn control_log(&self) -> VerifierKey {
        let admin = self.admin().await;
        let spki = admin.bundle().log_key_spki.clone();
        let key = spki.last_chunk::<32>().expect("an Ed25519 key");
        let host = self.url("issuer").trim_start_matches("https://").to_owned();
        let name: KeyName = format!("{host}/log/control").parse().expect("a name");
        VerifierKey::new(name, *key)
    }

    /// From now on witnesses watch over the state: the manifest names them, and they know the log.
    pub async fn watch(&mut self, witnesses: &Witnesses, lease_s: u64) {
        witnesses.know(&self.control_log().await);
        self.kill().await;
        let more = witnesses.manifest(lease_s);
        sign(self.files(), |manifest| {
            format!(
                "{}{more}",
                manifest.replacen("sequence = 1\n", "sequence = 2\n", 1)
            )
        });
        self.restart().await;
    }
}

/// Copies a directory of files, as a host does that keeps snapshots.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("its type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// Puts a copy back in the place of what is there.
pub fn put_back(copied: &Path, place: &Path) {
    fs::remove_dir_all(place).expect("what was there");
    copy(copied, place);
}
