//! Keyholders of a stack, in this process: real ones, over HTTP, with their shares on the disk.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a keyholder that does not come up fails the test"
)]

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use attestation::Roots;
use dev::lab::{self, LabFiles};
use tempfile::TempDir;
use tokenkeep::SystemClock;
use tokenkeep::keyholder::{Keyholder, serve};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::wait::wait_for;

#[derive(Debug)]
struct One {
    folder: TempDir,
    keyholder: Arc<Keyholder>,
    address: SocketAddr,
    task: Option<JoinHandle<()>>,
}

/// Keyholders that verify a lab's enclave.
#[derive(Debug)]
pub struct Keyholders {
    issuer: String,
    all: Vec<One>,
}

impl Keyholders {
    /// As many, each with a key of its own, the lab's root, and the lab's policy for this issuer.
    pub async fn start(count: usize, files: &LabFiles, issuer: &str) -> Self {
        let mut all = Vec::new();
        for _ in 0..count {
            let folder = tempfile::tempdir().expect("a directory");
            let root = fs::read_to_string(files.path(lab::ROOT)).expect("the lab's root");
            let roots = move || Roots::with_emulated(&root).ok();
            let path = folder.path().join("k");
            let keyholder = Keyholder::init(&path, Box::new(roots)).expect("a keyholder");
            let mut one = One {
                folder,
                keyholder: Arc::new(keyholder),
                address: (Ipv4Addr::LOCALHOST, 0).into(),
                task: None,
            };
            one.serve().await;
            all.push(one);
        }
        let keyholders = Self {
            issuer: issuer.to_owned(),
            all,
        };
        keyholders.allow(&fs::read_to_string(files.path(lab::POLICY)).expect("the lab's policy"));
        keyholders
    }

    /// The reference values of all of them from now on.
    pub fn allow(&self, policy: &str) {
        for one in &self.all {
            let directory = one.keyholder.directory();
            let added = directory.add(&self.issuer, policy.as_bytes());
            added.expect("a deployment");
        }
    }

    /// What a manifest says of them.
    #[must_use]
    pub fn manifest(&self, quorum: usize) -> String {
        let mut text = format!("\n[keyholders]\nquorum = {quorum}\n");
        for (number, one) in self.all.iter().enumerate() {
            let key = hex::encode(one.keyholder.public_key());
            let address = one.address;
            write!(
                text,
                "[[keyholders.keyholder]]\nname = \"k{number}\"\nurl = \"http://{address}\"\nkey = \"{key}\"\nrun_by = \"tenant\"\n"
            )
            .expect("text grows");
        }
        text
    }

    /// One of them takes no more connections.
    pub async fn stop(&mut self, number: usize) {
        let one = self.all.get_mut(number).expect("a keyholder");
        if let Some(task) = one.task.take() {
            task.abort();
            drop(task.await);
        }
    }

    /// It is there again, where it was.
    pub async fn start_again(&mut self, number: usize) {
        self.all.get_mut(number).expect("a keyholder").serve().await;
    }

    /// The directory of one of them.
    #[must_use]
    pub fn directory(&self, number: usize) -> PathBuf {
        let one = self.all.get(number).expect("a keyholder");
        one.folder.path().join("k")
    }

    /// How many shares one of them holds, and how many it destroyed.
    #[must_use]
    pub fn shares(&self, number: usize) -> (usize, usize) {
        let one = self.all.get(number).expect("a keyholder");
        let deployment = one.keyholder.directory().deployment(&self.issuer);
        let deployment = deployment.expect("the deployment");
        (
            deployment.shares().expect("its shares").len(),
            deployment.destroyed().expect("those destroyed"),
        )
    }
}

/// A manifest without its keyholders, such as the lab's own.
#[must_use]
pub fn without_keyholders(manifest: &str) -> String {
    let mut within = false;
    let mut kept = String::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            within = line.trim_start_matches('[').starts_with("keyholders");
        }
        if !within {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

impl One {
    async fn serve(&mut self) {
        let address = self.address;
        let listener = wait_for("the keyholder's port is free", async || {
            TcpListener::bind(address).await.ok()
        })
        .await;
        self.address = listener.local_addr().expect("its number");
        let clock = Arc::new(SystemClock);
        let keyholder = Arc::clone(&self.keyholder);
        self.task = Some(tokio::spawn(serve::serve(keyholder, clock, listener, None)));
    }
}

impl Drop for Keyholders {
    fn drop(&mut self) {
        for one in &self.all {
            if let Some(task) = &one.task {
                task.abort();
            }
        }
    }
}
