//! A token without a leaf does not exist: each that leaves is looked for in what is durable at that moment, then in the
//! log as the service serves it anew and `tokenkeep audit verify` accepts it.
//!
//! Tokens are issued by the enclave in this process, on a lab's own state and the store that ships; the log is then
//! served by the service as its own process.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use broker::store::EmbeddedStore;
use dev::fill::{Amount, Opened};
use dev::lab::{Lab, LabFiles};
use dev::names;
use enclave::admin::{Administrator, LeafReader, Role};
use enclave::authenticate::{Credentials, Peer};
use enclave::ids::TenantId;
use enclave::issue::{Binding, Door, IssueRequest, PATH};
use enclave::nonce::Role as NonceRole;
use enclave::store::{Batch, Committed, Key, Log, Places, Record, Store, StoreError};
use jose::SigningKey;
use jose::dpop::{ProofParams, random_jti};
use parking_lot::Mutex;
use proto::v1;
use ring::rand::SystemRandom;
use serde_json::Value;
use tempfile::TempDir;
use tests::binary::binary;
use tests::cli::Shell;
use tests::core;
use tests::process::Process;
use tokenkeep::AttestedChannel;
use tokenkeep::audit::{LogKeys, LogName};
use tokenkeep::rpc_error::answer;
use tokio::task::JoinSet;

use super::{judge_none, runs};

/// Grants, of two tenants.
const GRANTS: u32 = 8;

/// Requests that are under way at once.
const UNDER_WAY: usize = 32;

/// The store that ships; or one that says that everything is written, and forgets each tenth batch.
struct Written {
    store: Arc<EmbeddedStore>,
    forgets: bool,
    batches: AtomicU64,
}

impl Store for Written {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        self.store.get(key).await
    }

    async fn scan(&self, after: Option<&Key>, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.store.scan(after, limit).await
    }

    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        let number = self.batches.fetch_add(1, Ordering::Relaxed);
        if self.forgets && number % 10 == 9 {
            return Ok(Committed::by_store(Places::default()));
        }
        self.store.commit(batch).await
    }
}

/// The issuance log as far as it was read, and the tokens that it names.
struct Seen {
    next: u64,
    named: BTreeSet<String>,
}

/// A lab's enclave in this process.
struct Issuer {
    opened: Opened,
    written: Written,
    reader: LeafReader,
    seen: Mutex<Seen>,
    spki_sha256: [u8; 32],
    key: SigningKey,
}

fn jti_of_event(event: &str) -> Option<String> {
    let event: Value = serde_json::from_str(event).unwrap();
    let issued = event["event"] == "token_issued";
    issued.then(|| event["jti"].as_str().unwrap().to_owned())
}

impl Issuer {
    async fn open(dir: &Path, forgets: bool) -> Self {
        let opened = Box::pin(dev::fill::open(dir)).await.unwrap();
        let tenants = [names::TENANT, "tenant-1"];
        let roles = tenants.map(|tenant| Role::Tenant(TenantId::parse(tenant).unwrap()));
        let owner = Administrator {
            name: "owner".to_owned(),
            spki_sha256: [0; 32],
            roles: roles.to_vec(),
        };
        let enclave = &opened.shell.enclave;
        let reader = enclave.leaf_reader(&owner, None).unwrap();
        let begin = opened.shell.store.leaf_count(Log::Issuance).unwrap();
        Self {
            spki_sha256: opened.files.client_spki_sha256().unwrap(),
            key: core::key(),
            seen: Mutex::new(Seen {
                next: begin,
                named: BTreeSet::new(),
            }),
            written: Written {
                store: Arc::clone(&opened.shell.store),
                forgets,
                batches: AtomicU64::new(0),
            },
            reader,
            opened,
        }
    }

    /// Issues a token, and gives its id.
    async fn issue(&self, number: u32) -> String {
        let shell = &self.opened.shell;
        let enclave = &shell.enclave;
        let (rng, now) = (SystemRandom::new(), shell.clock.now());
        let config = enclave.config();
        let params = ProofParams {
            htm: "POST",
            htu: &format!("{}{PATH}", config.grpc_origin),
            iat_s: now.lo_s,
            jti: &random_jti(&rng).unwrap(),
            nonce: Some(&enclave.dpop_nonce(NonceRole::Token, &now)),
            access_token: None,
        };
        let proof = params.sign(&self.key, &rng).unwrap();
        let grant = format!("grant-{:07}", number % GRANTS);
        let resource = format!("{}/g/{grant}/{}", config.gateway_origin, names::TARGET);
        let request = IssueRequest {
            door: Door::Grpc,
            credentials: Credentials {
                peer: Peer {
                    spki_sha256: Some(self.spki_sha256),
                    ..Peer::default()
                },
                ..Credentials::default()
            },
            binding: Binding::Proof(vec![proof.as_bytes()]),
            grant: Some(&grant),
            resource: &resource,
            scopes: &[],
            actors: &[],
        };
        let pending = enclave.issue(&request, &now).unwrap();
        let durable = pending.commit(&self.written).await.unwrap();
        let issued = enclave.release(durable, &shell.clock.now()).unwrap();
        let payload = issued.access_token.split('.').nth(1).unwrap();
        let claims = Base64UrlUnpadded::decode_vec(payload).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        claims["jti"].as_str().unwrap().to_owned()
    }

    /// Whether the store holds the leaf of a token, now.
    fn is_durable(&self, jti: &str) -> bool {
        let shell = &self.opened.shell;
        let mut seen = self.seen.lock();
        if seen.named.contains(jti) {
            return true;
        }
        let leaves = shell
            .store
            .leaves(Log::Issuance, seen.next, 10_000)
            .unwrap();
        for leaf in leaves {
            seen.next += 1;
            let read = shell.enclave.read_leaf(&self.reader, &leaf);
            let event = read.and_then(|read| read.event);
            seen.named.extend(event.as_deref().and_then(jti_of_event));
        }
        seen.named.contains(jti)
    }
}

/// A lab with grants, and nobody who serves it.
struct Filled {
    folder: TempDir,
    files: LabFiles,
}

impl Filled {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("lab");
        let files = Lab::open(&dir).unwrap().into_parts().files;
        let amount = Amount {
            grants: GRANTS,
            tenants: 2,
            token_bytes: 100,
            policies: false,
        };
        Box::pin(dev::fill::fill(&dir, amount)).await.unwrap();
        tests::stack::sign(&files, |manifest| {
            // So that one person may read the leaves of both tenants.
            manifest
                .replace("\"tenant:acme\"", "\"tenant:acme\", \"tenant:tenant-1\"")
                .replace("sequence = 1", "sequence = 2")
        });
        Self { folder, files }
    }

    /// Issues tokens: their ids, and those that left before their leaf was durable.
    async fn issue(&self, tokens: u32, forgets: bool) -> (Vec<String>, Vec<String>) {
        let issuer = Arc::new(Issuer::open(self.files.dir(), forgets).await);
        let (mut issued, mut early) = (Vec::new(), Vec::new());
        let mut under_way = JoinSet::new();
        for number in 0..tokens {
            let issuer = Arc::clone(&issuer);
            under_way.spawn(async move {
                let jti = issuer.issue(number).await;
                let durable = issuer.is_durable(&jti);
                (jti, durable)
            });
            while under_way.len() >= UNDER_WAY || (number + 1 == tokens && !under_way.is_empty()) {
                let (jti, durable) = under_way.join_next().await.unwrap().unwrap();
                early.extend((!durable).then(|| jti.clone()));
                issued.push(jti);
            }
        }
        issuer.opened.shell.store.close();
        (issued, early)
    }

    /// The tokens that the log names, as it is served by the service and verified by the command line.
    async fn served(&self) -> BTreeSet<String> {
        let lab = self.files.dir().to_str().unwrap();
        let arguments = ["serve", "--state", lab];
        let service = binary("tokenkeep-dev");
        let mut service = Process::start(&service, &arguments, self.folder.path(), "service");
        let ready = service.ready().await;
        let ready = ready.unwrap_or_else(|(status, said)| panic!("{status}: {said}"));
        let url = |name: &str| ready[name].as_str().unwrap().to_owned();
        let admin = self.files.admin_config(&url("grpc_url")).unwrap();
        let admin = Box::pin(AttestedChannel::connect(&admin)).await.unwrap();
        self.verify(&admin, &url("public_url")).await;
        let logs = answer(admin.audit().list_logs(v1::ListLogsRequest::default())).await;
        let mut named = BTreeSet::new();
        for log in logs.unwrap().into_inner().logs {
            let mut from = 0;
            while log.origin.contains("/issuance/") && from < log.size {
                let request = v1::ListLeavesRequest {
                    log: log.origin.clone(),
                    from,
                    page_size: 500,
                    tenant: String::new(),
                };
                let page = answer(admin.audit().list_leaves(request)).await.unwrap();
                let page = page.into_inner();
                let events = page.leaves.iter().filter(|leaf| !leaf.event.is_empty());
                named.extend(events.filter_map(|leaf| jti_of_event(&leaf.event)));
                from = page.next;
            }
        }
        assert!(service.stop().await.success());
        named
    }

    async fn verify(&self, admin: &AttestedChannel, public_url: &str) {
        let keys = LogKeys::from_bundle(admin.bundle()).unwrap();
        let key = keys.verifier_key(&LogName::Control).unwrap().to_string();
        let ca = self.folder.path().join("ca.pem");
        let der = Base64::encode_string(&admin.bundle().enclave_ca_der);
        let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
        for line in der.as_bytes().chunks(64) {
            writeln!(pem, "{}", std::str::from_utf8(line).unwrap()).unwrap();
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        std::fs::write(&ca, pem).unwrap();
        let shell = Shell::new(&self.folder.path().join("transcript"), &[]);
        let ca = ca.to_str().unwrap();
        let arguments = ["--json", "audit", "verify", "--tiles", public_url];
        let ended = shell
            .run(&[&arguments[..], &["--log-key", &key, "--ca", ca]].concat())
            .await;
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(
            (ended.code, &report["verdict"]),
            (0, &"holds".into()),
            "{report}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_bar_no_token_is_without_a_leaf() {
    let filled = Box::pin(Filled::new()).await;
    let tokens = u32::try_from(runs(100_000, 400)).unwrap();
    let (issued, mut without) = Box::pin(filled.issue(tokens, false)).await;
    let different: BTreeSet<&String> = issued.iter().collect();
    assert_eq!(
        different.len(),
        issued.len(),
        "each token has an id of its own"
    );
    let served = Box::pin(filled.served()).await;
    without.extend(issued.iter().filter(|jti| !served.contains(*jti)).cloned());
    judge_none("tokens_without_leaf", &without, issued.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_bar_canary_a_store_that_forgets_leaves_is_seen() {
    let filled = Box::pin(Filled::new()).await;
    let (issued, without) = Box::pin(filled.issue(200, true)).await;
    assert_eq!((issued.len(), without.len()), (200, 20));
}
