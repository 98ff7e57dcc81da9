//! Logs as a service leaves them, made by hand: so that a test can leave something out, or sign what is not so.
#![allow(
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "logs that can't be made fail the test"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use ring::digest::{SHA256, digest};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use tlog::tile::{BundleId, EntryBundle, HashTile, Resource};
use tlog::{Checkpoint, MemoryTree, NoteSigner, TreeHead, leaf_hash};
use tokenkeep::audit::steps::Steps;
use tokenkeep::audit::{LogKeys, LogName, Source};

/// The service's name.
pub const HOST: &str = "keep.test:8444";

/// Files by their paths, as a listener serves them and an export writes them.
pub type Files = BTreeMap<String, Vec<u8>>;

/// How many leaves there are to be.
#[derive(Debug, Clone, Copy)]
pub struct Amount {
    /// In the control log, beside those of the boots.
    pub control: u64,
    /// In the issuance log of each boot.
    pub issued: &'static [u64],
    /// Tenants.
    pub tenants: u64,
    /// Characters of the private part of a leaf.
    pub private_chars: usize,
}

/// The leaves of a service's logs, before they are signed.
#[derive(Debug, Clone)]
pub struct Written {
    /// By log, in order.
    pub leaves: BTreeMap<LogName, Vec<Vec<u8>>>,
    /// The seed of the log key.
    pub seed: u8,
}

/// The identity of a boot.
#[must_use]
pub fn boot(number: usize) -> String {
    hex::encode(digest(&SHA256, format!("boot {number}").as_bytes()))
}

fn issuance(number: usize) -> LogName {
    LogName::Issuance(boot(number).parse().expect("a boot"))
}

fn tag(tenant: u64) -> String {
    let tag = digest(&SHA256, format!("tenant {tenant}").as_bytes());
    Base64UrlUnpadded::encode_string(tag.as_ref())
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("a seed")
}

/// The keys of logs that were signed with a seed.
#[must_use]
pub fn keys(seed: u8) -> LogKeys {
    let pair = pair(seed);
    let public: [u8; 32] = pair.public_key().as_ref().try_into().expect("32 bytes");
    LogKeys::new(HOST, public).expect("keys")
}

struct Scribe {
    next: BTreeMap<Option<u64>, u64>,
    at_s: u64,
    private: String,
}

impl Scribe {
    fn leaf(
        &mut self,
        boot: &str,
        kind: &str,
        tenant: Option<u64>,
        public: Option<Value>,
    ) -> Vec<u8> {
        let next = self.next.entry(tenant).or_default();
        *next += 1;
        self.at_s += 10;
        let mut leaf = json!({
            "v": 1, "boot": boot, "at_s": self.at_s, "kind": kind, "tenant": tenant.map(tag), "seq": *next,
            "private": self.private,
        });
        if let Some(public) = public {
            leaf["public"] = public;
        }
        leaf.to_string().into_bytes()
    }
}

fn head(leaves: &[Vec<u8>]) -> TreeHead {
    let mut tree = MemoryTree::new();
    tree.extend(leaves.iter().map(|leaf| leaf_hash(leaf)));
    tree.head()
}

impl Written {
    /// Writes leaves: for each boot its own leaf, its share of the control log, its issuances.
    #[must_use]
    pub fn new(amount: Amount) -> Self {
        let mut scribe = Scribe {
            next: BTreeMap::new(),
            at_s: 1_800_000_000,
            private: "A".repeat(amount.private_chars),
        };
        let mut leaves: BTreeMap<LogName, Vec<Vec<u8>>> = BTreeMap::new();
        let boots = u64::try_from(amount.issued.len()).expect("few");
        for (number, issued) in amount.issued.iter().enumerate() {
            let id = boot(number);
            // A boot that issued nothing leaves no log.
            let before = (0..number)
                .rev()
                .find(|before| leaves.contains_key(&issuance(*before)));
            let previous = before.map(|before| {
                let head = head(&leaves[&issuance(before)]);
                json!({"boot": boot(before), "size": head.size, "root": head.root.to_string()})
            });
            let booted = json!({
                "platform": "snp", "measurement": "ab".repeat(48), "manifest_sha256": "0a".repeat(32),
                "manifest_sequence": 1, "key_bundle_sha256": "0b".repeat(32), "previous": previous,
            });
            let booted = scribe.leaf(&id, "booted", None, Some(booted));
            let control = leaves.entry(LogName::Control).or_default();
            control.push(booted);
            for change in 0..amount.control / boots {
                control.push(scribe.leaf(&id, "deposited", Some(change % amount.tenants), None));
            }
            let own: Vec<_> = (0..*issued)
                .map(|call| scribe.leaf(&id, "token_issued", Some(call % amount.tenants), None))
                .collect();
            if !own.is_empty() {
                leaves.insert(issuance(number), own);
            }
        }
        Self { leaves, seed: 7 }
    }

    /// The verifier key of the control log.
    #[must_use]
    pub fn log_key(&self) -> String {
        let key = keys(self.seed).verifier_key(&LogName::Control);
        key.expect("a key").to_string()
    }

    /// The signed head of a log.
    #[must_use]
    pub fn checkpoint(&self, name: &LogName) -> String {
        let keys = keys(self.seed);
        let origin = keys.origin(name).expect("an origin");
        let named = keys.verifier_key(name).expect("a key").name().clone();
        let signer = NoteSigner::new(named, pair(self.seed)).expect("a signer");
        let checkpoint = Checkpoint::new(origin, head(&self.leaves[name])).expect("a checkpoint");
        checkpoint.sign(&signer).expect("signed").to_string()
    }

    /// All files, signed.
    #[must_use]
    pub fn files(&self) -> Files {
        let mut files = Files::new();
        for (name, leaves) in &self.leaves {
            let mut tree = MemoryTree::new();
            tree.extend(leaves.iter().map(|leaf| leaf_hash(leaf)));
            let size = tree.size();
            for resource in Steps::new(0, size) {
                let bytes = match resource {
                    Resource::Entries(id) => entries(id, leaves),
                    Resource::Tile(id) => {
                        HashTile::from_reader(&tree, id).expect("a tile").encode()
                    }
                    Resource::Checkpoint => continue,
                };
                files.insert(format!("{name}/{}", resource.path()), bytes);
            }
            files.insert(
                format!("{name}/checkpoint"),
                self.checkpoint(name).into_bytes(),
            );
        }
        files
    }
}

fn entries(id: BundleId, leaves: &[Vec<u8>]) -> Vec<u8> {
    let first = usize::try_from(id.first_entry()).expect("few");
    let entries = leaves[first..first + usize::from(id.width())].to_vec();
    EntryBundle::new(id, entries).expect("a bundle").encode()
}

/// Files as an auditor reads them.
#[must_use]
pub fn source(files: Files) -> Source {
    Source::Memory(Arc::new(files))
}

/// Writes files to a folder.
pub fn write(files: &Files, folder: &Path) {
    for (path, bytes) in files {
        let at = folder.join(path);
        fs::create_dir_all(at.parent().expect("a folder")).expect("a folder");
        fs::write(at, bytes).expect("a file");
    }
}
