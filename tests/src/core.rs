//! The enclave in this process, over a store in memory: for campaigns that ask it more often than a network can.
#![allow(
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    reason = "what cannot be made fails the test"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use attestation::{DepositContext, DepositEnvelope};
use enclave::Enclave;
use enclave::admin::{Administrator, DepositRequest, NewApp, Role};
use enclave::authenticate::{Credentials, Peer};
use enclave::boot::{Boot, Reading};
use enclave::config::Config;
use enclave::http_url::HttpUrl;
use enclave::ids::GrantId;
use enclave::issue::{Binding, Door, IssueError, IssueRequest, Issued};
use enclave::keys::authority::HostName;
use enclave::keys::root::Unlocked;
use enclave::limits::Limits;
use enclave::nonce::Role as NonceRole;
use enclave::pending::Pending;
use enclave::policy::Denied;
use enclave::profile::Profile;
use enclave::rate::Rate;
use enclave::refresh::{Action, Begin, Event, UpstreamAnswer, Wanted};
use enclave::registry::{
    Api, App, AuthMethod, Client, ClientKey, ClientKind, Grant, Provider, Rotation, Target, Tenant,
    Vendor,
};
use enclave::scope::Scopes;
use enclave::secret::RawResponse;
use enclave::store::{Batch, Committed, Key, Places, Record, Store, StoreError};
use enclave::time::Now;
use jose::dpop::{ProofParams, random_jti};
use jose::{Alg, SigningKey};
use parking_lot::Mutex;
use ring::rand::SystemRandom;

/// The gRPC origin.
pub const GRPC: &str = "https://127.0.0.1:7443";
/// The issuer.
pub const ISSUER: &str = "https://127.0.0.1:7444";
/// The client's id.
pub const CLIENT: &str = "worker";
/// The id of the client's key for assertions.
pub const KID: &str = "worker-1";
/// A resource of the grant.
pub const RESOURCE: &str = "https://127.0.0.1:7445/g/contacts/api";
/// When it all begins.
pub const BEGIN: Now = Now {
    lo_s: 1_800_000_000,
    hi_s: 1_800_000_005,
    mono_ms: 1_000_000_000,
};

pub(crate) const ADMIN_SPKI: [u8; 32] = [1; 32];
const CLIENT_SPKI: [u8; 32] = [2; 32];

/// Records in memory. Leaves are dropped.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<BTreeMap<Key, Record>>);

impl Store for MemoryStore {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        Ok(self.0.lock().get(key).cloned())
    }

    async fn scan(&self, after: Option<&Key>, limit: usize) -> Result<Vec<Record>, StoreError> {
        let records = self.0.lock();
        let follows = |record: &&Record| after.is_none_or(|after| record.key > *after);
        let found = records.values().filter(follows).take(limit);
        Ok(found.cloned().collect())
    }

    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        let mut records = self.0.lock();
        for write in batch.writes {
            match write.sealed {
                Some(sealed) => {
                    let record = Record {
                        key: write.key,
                        generation: write.expected_generation + 1,
                        sealed: sealed.into(),
                    };
                    records.insert(write.key, record);
                }
                None => {
                    records.remove(&write.key);
                }
            }
        }
        Ok(Committed::by_store(Places::default()))
    }
}

/// The enclave, its store, and a client with its keys.
#[derive(Debug)]
pub struct Core {
    /// The enclave.
    pub enclave: Enclave,
    /// What the client signs assertions with.
    pub assertion_key: SigningKey,
    store: MemoryStore,
    keys: Unlocked,
    roles: Vec<Role>,
}

/// A new key.
#[must_use]
pub fn key() -> SigningKey {
    let rng = SystemRandom::new();
    let pkcs8 = SigningKey::generate(Alg::Es256, &rng).expect("a key");
    SigningKey::from_pkcs8(&pkcs8, &rng).expect("the key")
}

fn id<T: TryFrom<String>>(text: &str) -> T {
    T::try_from(text.to_owned()).ok().expect("an id")
}

pub(crate) fn config() -> Config {
    config_of(vec![
        Role::Operator,
        Role::Tenant(id("acme")),
        Role::Vendor(id("crm-sync")),
    ])
}

/// With one administrator of these roles.
fn config_of(roles: Vec<Role>) -> Config {
    let rate = Rate {
        per_s: 1_000_000,
        burst: 1_000_000,
    };
    Config {
        issuer: ISSUER.to_owned(),
        grpc_origin: GRPC.to_owned(),
        public_origin: ISSUER.to_owned(),
        gateway_origin: "https://127.0.0.1:7445".to_owned(),
        hosts: vec![HostName::Dns("localhost".to_owned())],
        administrators: vec![Administrator {
            name: "root".to_owned(),
            spki_sha256: ADMIN_SPKI,
            roles,
        }],
        trust_domains: Vec::new(),
        profile_signers: Vec::new(),
        token_lifetime_s: 300,
        token_alg: Alg::Es256,
        signing_key_days: None,
        endorsed_until_s: None,
        emulated: true,
        tier: "emulated".to_owned(),
        allow_loopback: true,
        manifest_digest: [8; 32],
        manifest_sequence: 1,
        manifest_signer: [9; 32],
        witnesses: None,
        client_rate: rate,
        grant_upstream_rate: rate,
        replay_capacity: 4_000_000,
    }
}

pub(crate) fn take_in(boot: &mut Boot, records: &BTreeMap<Key, Record>, record: &Record) {
    match boot.open(record).expect("a record of ours") {
        Reading::Opened(opened) => boot.take_in(opened),
        Reading::NeedsFirst(key, erasure) => {
            let first = records.get(&key).or_else(|| records.get(&erasure));
            take_in(boot, records, first.expect("the tenant's key"));
            take_in(boot, records, record);
        }
    }
}

async fn boot(roles: &[Role], keys: &Unlocked, store: &MemoryStore, now: &Now) -> Enclave {
    let rng = Arc::new(SystemRandom::new());
    let mut boot = Boot::new(config_of(roles.to_vec()), keys, None, rng).expect("a boot");
    let records = store.0.lock().clone();
    for record in records.values() {
        take_in(&mut boot, &records, record);
    }
    if let Some(batch) = boot.create_keys(now).expect("keys") {
        let _receipt = store.commit(batch).await.expect("a commit");
    }
    boot.finish().expect("an enclave")
}

impl Core {
    /// With a grant that the client may use.
    pub async fn new() -> Self {
        let core = Self::bare(config().administrators.remove(0).roles).await;
        core.register().await;
        core
    }

    /// With nothing registered, and one administrator of these roles.
    pub async fn bare(roles: Vec<Role>) -> Self {
        let keys = Unlocked::generate(&SystemRandom::new()).expect("keys");
        let store = MemoryStore::default();
        let enclave = boot(&roles, &keys, &store, &BEGIN).await;
        Self {
            enclave,
            assertion_key: key(),
            store,
            keys,
            roles,
        }
    }

    /// The administrator.
    #[must_use]
    pub fn administrator(&self) -> &Administrator {
        let peer = Peer {
            spki_sha256: Some(ADMIN_SPKI),
            ..Peer::default()
        };
        self.enclave
            .administrator(&peer)
            .expect("the administrator")
    }

    /// The process dies and comes back: memory is lost, the store is not.
    pub async fn restart(&mut self, now: &Now) {
        self.enclave = boot(&self.roles, &self.keys, &self.store, now).await;
    }

    /// A second process on the same state, as a replica would be.
    pub async fn replica(&self, now: &Now) -> Enclave {
        boot(&self.roles, &self.keys, &self.store, now).await
    }

    /// One ask for an upstream access token of a grant, at a provider that always answers the same; how often it was
    /// called.
    pub async fn exchange(&self, grant: &GrantId, answer: (u16, &str), now: &Now) -> u64 {
        let wanted = Wanted::with(Scopes::parse(["contacts.read"]).expect("a scope"));
        let Ok(Begin::Exchange(mut exchange, mut action)) =
            self.enclave.begin_refresh(grant, &wanted, now)
        else {
            return 0;
        };
        let mut calls = 0;
        loop {
            let event = match action {
                Action::Commit(pending) => match pending.commit(&self.store).await {
                    Ok(durable) => Event::Committed(durable),
                    Err(error) => Event::CommitFailed(error),
                },
                Action::Send(_) => {
                    calls += 1;
                    Event::Answered(UpstreamAnswer::Response {
                        status: answer.0,
                        retry_after_s: None,
                        dpop_nonce: None,
                        body: RawResponse::new(answer.1.as_bytes().to_vec()),
                    })
                }
                Action::Pause(_) => Event::Resumed,
                Action::Finish(_) => return calls,
            };
            action = self.enclave.step_refresh(&mut exchange, event, now);
        }
    }

    /// Makes what an administrator changes durable, and gives its answer out.
    pub async fn settle<T>(&self, pending: Pending<T>) -> T {
        let released = self.conclude(pending, &BEGIN).await;
        released.expect("no freeze")
    }

    /// Makes it durable, and gives out what may be given out then.
    ///
    /// # Errors
    /// What forbids it.
    pub async fn conclude<T>(&self, pending: Pending<T>, now: &Now) -> Result<T, Denied> {
        let durable = pending.commit(&self.store).await.expect("a commit");
        self.enclave.release(durable, now)
    }

    async fn register(&self) {
        let (e, now) = (&self.enclave, &BEGIN);
        let by = self.administrator();
        let display_name = String::new;
        let tenant = Tenant {
            id: id("acme"),
            display_name: display_name(),
            limits: Limits::default(),
        };
        self.settle(e.create_tenant(by, tenant, now).expect("a tenant"))
            .await;
        let vendor = Vendor {
            id: id("crm-sync"),
            display_name: display_name(),
        };
        self.settle(e.create_vendor(by, vendor, now).expect("a vendor"))
            .await;
        let jwk = self.assertion_key.public_key().to_json_with_kid(KID);
        let client = Client {
            id: id(CLIENT),
            vendor: id("crm-sync"),
            tls_spki_sha256: Some(CLIENT_SPKI),
            jwks: vec![ClientKey::from_json(&jwk).expect("a JWK")],
            spiffe_id: None,
            limits: Limits::default(),
            kind: ClientKind::default(),
        };
        self.settle(e.create_client(by, client, now).expect("a client"))
            .await;
        let url = |text: &str| HttpUrl::parse(text).expect("a URL");
        let provider = Provider {
            issuer: None,
            consent: None,
            id: id("crm"),
            token_endpoint: url("http://127.0.0.1:1/token"),
            revocation_endpoint: None,
            rotation: Rotation::Strict,
            profile: Profile::default(),
            made_from: None,
            targets: vec![Target {
                name: id("api"),
                api: Api::behind_gateway(url("http://127.0.0.1:1/api")),
            }],
        };
        self.settle(e.create_provider(by, provider, now).expect("a provider"))
            .await;
        let new = NewApp {
            app: App {
                id: id("crm-app"),
                vendor: id("crm-sync"),
                provider: id("crm"),
                oauth_client_id: "oauth-client".to_owned(),
                auth_method: AuthMethod::None,
                key: None,
            },
            sealed_client_secret: &[],
        };
        self.settle(e.create_app(by, new, now).expect("an app"))
            .await;
        let context = DepositContext {
            tenant: "acme",
            app: "crm-app",
            grant: "contacts",
            kind: "refresh-token",
            bundle_digest: &e.bundle().digest,
        };
        let public = *e.keys().hpke_public();
        let sealed = DepositEnvelope::seal(&public, &context, b"refresh", &SystemRandom::new());
        let sealed = sealed.expect("a deposit");
        let sealed = [sealed.encapsulated_key(), sealed.ciphertext()].concat();
        let request = DepositRequest {
            grant: Grant {
                id: id("contacts"),
                tenant: id("acme"),
                app: id("crm-app"),
                clients: vec![id(CLIENT)],
                targets: vec![id("api")],
                scopes: Scopes::parse(["contacts.read"]).expect("a scope"),
                created_at_s: 0,
                expires_at_s: None,
                operations: Vec::new(),
                hosts: Vec::new(),
                terms: None,
                allow_upstream_bound: false,
            },
            sealed_refresh_token: &sealed,
            rotate: false,
            only_new: false,
        };
        self.settle(e.deposit(by, request, now).expect("a grant"))
            .await;
    }
}

/// A proof for `IssueToken` by the nonce of an enclave.
#[must_use]
pub fn proof(enclave: &Enclave, by: &SigningKey, now: &Now) -> String {
    let rng = SystemRandom::new();
    let nonce = enclave.dpop_nonce(NonceRole::Token, now);
    let params = ProofParams {
        htm: "POST",
        htu: &format!("{GRPC}/tokenkeep.v1.TokenService/IssueToken"),
        iat_s: now.lo_s,
        jti: &random_jti(&rng).expect("randomness"),
        nonce: Some(&nonce),
        access_token: None,
    };
    params.sign(by, &rng).expect("a proof")
}

/// Asks an enclave for a token with a proof, as the client with its certificate.
///
/// # Errors
/// The refusal.
pub fn issue(enclave: &Enclave, proof: &str, now: &Now) -> Result<Pending<Issued>, IssueError> {
    let request = IssueRequest {
        door: Door::Grpc,
        credentials: Credentials {
            peer: Peer {
                spki_sha256: Some(CLIENT_SPKI),
                ..Peer::default()
            },
            ..Credentials::default()
        },
        binding: Binding::Proof(vec![proof.as_bytes()]),
        grant: Some("contacts"),
        resource: RESOURCE,
        scopes: &[],
        actors: &[],
    };
    enclave.issue(&request, now)
}
