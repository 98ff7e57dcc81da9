//! A small world for the enclave's own tests: a store in memory, one of each in
//! the registry, a grant, and a client with its DPoP key.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use attestation::{DepositContext, DepositEnvelope};
use futures_util::FutureExt;
use jose::dpop::{ProofParams, random_jti};
use jose::jws::{self, HeaderMember};
use jose::{Alg, SigningKey};
use parking_lot::Mutex;
use ring::rand::SystemRandom;

use crate::Enclave;
use crate::admin::{AdminError, Administrator, DepositRequest, FreezeRequest, NewApp, Role};
use crate::authenticate::{Credentials, Peer};
use crate::boot::{Boot, BootError, Leaves, Reading};
use crate::config::Config;
use crate::freeze::Subject;
use crate::http_url::HttpUrl;
use crate::ids::{AppId, ClientId, GrantId, ProviderId, TargetName, TenantId, VendorId};
use crate::issue::{Binding, Door, IssueError, IssueRequest, Issued, PATH};
use crate::keys::authority::HostName;
use crate::keys::root::Unlocked;
use crate::limits::Limits;
use crate::nonce::Role as NonceRole;
use crate::operation::{Operation, OperationName, PathTemplate};
use crate::pending::Pending;
use crate::profile::Profile;
use crate::rate::Rate;
use crate::registry::{
    Api, App, AuthMethod, Client, ClientKey, ClientKind, Grant, Provider, Rotation, Target,
    TargetHost, Tenant, Vendor,
};
use crate::rewrap::OldRoot;
use crate::scope::Scopes;
use crate::spiffe::{SpiffeId, TrustDomain};
use crate::store::{Batch, Committed, Key, Leaf, Log, Places, Record, Store, StoreError};
use crate::time::Now;

pub(crate) const GRPC: &str = "https://127.0.0.1:7443";
pub(crate) const GATEWAY: &str = "https://127.0.0.1:7445";
pub(crate) const RESOURCE: &str = "https://127.0.0.1:7445/g/contacts/api";
pub(crate) const DIRECT: &str = "https://direct.example/api";
pub(crate) const REFRESH_TOKEN: &str = "refresh-1-canary";
pub(crate) const ADMIN_SPKI: [u8; 32] = [1; 32];
pub(crate) const CLIENT_SPKI: [u8; 32] = [2; 32];
pub(crate) const OTHER_SPKI: [u8; 32] = [3; 32];

/// The id of the client's key for assertions.
pub(crate) const KID: &str = "worker-1";

/// A store in memory, with the semantics of the port, that can be told to fail.
#[derive(Default)]
pub(crate) struct MemoryStore {
    pub(crate) records: Mutex<BTreeMap<Key, Record>>,
    pub(crate) leaves: Mutex<Vec<Leaf>>,
    pub(crate) full: AtomicBool,
}

impl Store for MemoryStore {
    async fn get(&self, key: &Key) -> Result<Option<Record>, StoreError> {
        Ok(self.records.lock().get(key).cloned())
    }

    async fn scan(&self, after: Option<&Key>, limit: usize) -> Result<Vec<Record>, StoreError> {
        let records = self.records.lock();
        let follows = |record: &&Record| after.is_none_or(|after| record.key > *after);
        Ok(records
            .values()
            .filter(follows)
            .take(limit)
            .cloned()
            .collect())
    }

    async fn commit(&self, batch: Batch) -> Result<Committed, StoreError> {
        if self.full.load(Ordering::Relaxed) {
            return Err(StoreError::Full);
        }
        let mut records = self.records.lock();
        for write in &batch.writes {
            let generation = records
                .get(&write.key)
                .map_or(0, |record| record.generation);
            if generation != write.expected_generation {
                return Err(StoreError::Conflict { key: write.key });
            }
        }
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
        let mut leaves = self.leaves.lock();
        let places = Places {
            control: count(&leaves, Log::Control),
            issuance: count(&leaves, Log::Issuance),
        };
        leaves.extend(batch.leaves);
        Ok(Committed::by_store(places))
    }
}

fn count(leaves: &[Leaf], log: Log) -> u64 {
    u64::try_from(leaves.iter().filter(|leaf| leaf.log == log).count()).unwrap()
}

/// The world.
pub(crate) struct World {
    pub(crate) enclave: Enclave,
    pub(crate) store: MemoryStore,
    pub(crate) now: Now,
    pub(crate) dpop: SigningKey,
    /// What the client `worker` signs assertions with.
    pub(crate) assertion_key: SigningKey,
    keys: Unlocked,
    old_keys: Option<Unlocked>,
    rotation: Rotation,
    profile: Profile,
}

pub(crate) fn id<T: TryFrom<String>>(text: &str) -> T {
    let Ok(id) = T::try_from(text.to_owned()) else {
        panic!("{text} is no id");
    };
    id
}

pub(crate) fn key() -> SigningKey {
    let rng = SystemRandom::new();
    let pkcs8 = SigningKey::generate(Alg::Es256, &rng).unwrap();
    SigningKey::from_pkcs8(&pkcs8, &rng).unwrap()
}

pub(crate) fn config() -> Config {
    let tenant: TenantId = id("acme");
    let vendor: VendorId = id("crm-sync");
    Config {
        issuer: "https://127.0.0.1:7444".into(),
        grpc_origin: GRPC.into(),
        public_origin: "https://127.0.0.1:7444".into(),
        gateway_origin: GATEWAY.into(),
        hosts: vec![HostName::Address("127.0.0.1".parse().unwrap())],
        administrators: vec![Administrator {
            name: "root".into(),
            spki_sha256: ADMIN_SPKI,
            roles: vec![Role::Operator, Role::Tenant(tenant), Role::Vendor(vendor)],
        }],
        trust_domains: vec![TrustDomain {
            name: "workloads.test".into(),
            vendor: id("crm-sync"),
        }],
        profile_signers: Vec::new(),
        token_lifetime_s: 300,
        token_alg: Alg::Es256,
        signing_key_days: None,
        endorsed_until_s: None,
        emulated: true,
        tier: "emulated".into(),
        allow_loopback: true,
        manifest_digest: [8; 32],
        manifest_sequence: 1,
        manifest_signer: [9; 32],
        witnesses: None,
        client_rate: Rate {
            per_s: 50,
            burst: 100,
        },
        grant_upstream_rate: Rate {
            per_s: 1_000,
            burst: 1_000,
        },
        replay_capacity: 1_000,
    }
}

fn boot(
    keys: &Unlocked,
    old: Option<&Unlocked>,
    store: &MemoryStore,
    now: &Now,
) -> Result<Enclave, BootError> {
    let retiring = old.map(|old| &old.root);
    let mut boot = Boot::new(config(), keys, retiring, Arc::new(SystemRandom::new())).unwrap();
    let records = store.records.lock().clone();
    for record in records.values() {
        take_in(&mut boot, &records, record)?;
    }
    let mut leaves = Leaves::default();
    for leaf in store.leaves.lock().iter() {
        leaves.load(leaf.log, &leaf.bytes).unwrap();
    }
    boot.take_in_leaves(leaves);
    if let Some(batch) = boot.create_keys(now).unwrap() {
        let _receipt = store.commit(batch).now_or_never().unwrap().unwrap();
    }
    boot.finish()
}

fn take_in(
    boot: &mut Boot,
    records: &BTreeMap<Key, Record>,
    record: &Record,
) -> Result<(), BootError> {
    match boot.open(record)? {
        Reading::Opened(opened) => {
            boot.take_in(opened);
            Ok(())
        }
        Reading::NeedsFirst(key, erasure) => {
            let first = records.get(&key).unwrap_or_else(|| &records[&erasure]);
            take_in(boot, records, first)?;
            take_in(boot, records, record)
        }
    }
}

impl World {
    /// With one of each registered and a grant deposited.
    pub(crate) fn new(rotation: Rotation) -> Self {
        let profile = Profile {
            quiet_ms: 0,
            requests_per_s: 1_000,
            requests_burst: 1_000,
            ..Profile::default()
        };
        Self::with_profile(rotation, profile)
    }

    /// As [`new`](Self::new), at a provider of this profile.
    pub(crate) fn with_profile(rotation: Rotation, profile: Profile) -> Self {
        let now = Now {
            lo_s: 1_800_000_000,
            hi_s: 1_800_000_005,
            mono_ms: 5_000,
        };
        let keys = Unlocked::generate(&SystemRandom::new()).unwrap();
        let store = MemoryStore::default();
        let enclave = boot(&keys, None, &store, &now).unwrap();
        let mut world = Self {
            enclave,
            store,
            now,
            dpop: key(),
            assertion_key: key(),
            keys,
            old_keys: None,
            rotation,
            profile,
        };
        world.register();
        world.deposit(REFRESH_TOKEN).unwrap();
        world
    }

    /// The process dies and comes back: memory is lost, the store is not.
    pub(crate) fn restart(&mut self) {
        self.enclave = boot(&self.keys, None, &self.store, &self.now).unwrap();
    }

    /// A new root begins; its envelope would be written now.
    pub(crate) fn new_root(&mut self) -> OldRoot {
        let next = self.keys.under_new_root(&SystemRandom::new()).unwrap();
        let old = self.enclave.begin_root(&next.root).unwrap();
        self.old_keys = Some(std::mem::replace(&mut self.keys, next));
        old
    }

    /// As [`restart`](Self::restart), with both envelopes.
    pub(crate) fn restart_with_old_root(&mut self) {
        let old = self.old_keys.as_ref();
        self.enclave = boot(&self.keys, old, &self.store, &self.now).unwrap();
    }

    /// A boot with the old envelope alone.
    pub(crate) fn try_boot_under_old_root(&self) -> Result<Enclave, BootError> {
        let old = self.old_keys.as_ref().unwrap();
        boot(old, None, &self.store, &self.now)
    }

    pub(crate) fn admin(&self) -> &Administrator {
        let peer = Peer {
            spki_sha256: Some(ADMIN_SPKI),
            ..Peer::default()
        };
        self.enclave.administrator(&peer).unwrap()
    }

    pub(crate) fn settle<T>(&self, pending: Pending<T>) -> T {
        let durable = pending.commit(&self.store).now_or_never().unwrap().unwrap();
        self.enclave.release(durable, &self.now).unwrap()
    }

    pub(crate) fn provider(&self) -> Provider {
        let target = |name: &str, api| Target {
            name: id::<TargetName>(name),
            api,
        };
        Provider {
            issuer: None,
            consent: None,
            id: id::<ProviderId>("crm"),
            token_endpoint: HttpUrl::parse("http://127.0.0.1:1/token").unwrap(),
            revocation_endpoint: HttpUrl::parse("http://127.0.0.1:1/revoke").ok(),
            rotation: self.rotation,
            profile: self.profile.clone(),
            made_from: None,
            targets: vec![
                target(
                    "api",
                    Api::behind_gateway(HttpUrl::parse("http://127.0.0.1:1/api").unwrap()),
                ),
                target(
                    "listed",
                    Api::Gateway {
                        base_url: HttpUrl::parse("https://my.crm.example/v1").unwrap(),
                        tenant_hosts: true,
                        upstream_resource: None,
                        operations: vec![
                            operation("people-list", "GET", "/people", None),
                            operation("people-get", "GET", "/people/{id:integer}", None),
                            operation("people-add", "POST", "/people", Some(64)),
                        ],
                    },
                ),
                target(
                    "direct",
                    Api::Direct {
                        resource: DIRECT.into(),
                    },
                ),
                target(
                    "unnamed",
                    Api::Direct {
                        resource: "https://unnamed.example/".into(),
                    },
                ),
            ],
        }
    }

    fn register(&mut self) {
        let (e, by, now) = (&self.enclave, self.admin(), &self.now);
        let tenant = Tenant {
            id: id("acme"),
            display_name: "Acme".into(),
            limits: Limits::default(),
        };
        self.settle(e.create_tenant(by, tenant, now).unwrap());
        let vendor = Vendor {
            id: id("crm-sync"),
            display_name: "CRM Sync".into(),
        };
        self.settle(e.create_vendor(by, vendor, now).unwrap());
        let signing = ClientKey::from_json(&self.assertion_key.public_key().to_json_with_kid(KID));
        let jwks = [vec![signing.unwrap()], Vec::new()];
        let names = [("worker", CLIENT_SPKI), ("stranger", OTHER_SPKI)];
        for ((name, spki), jwks) in names.into_iter().zip(jwks) {
            let client = Client {
                id: id::<ClientId>(name),
                vendor: id("crm-sync"),
                tls_spki_sha256: Some(spki),
                jwks,
                spiffe_id: None,
                limits: Limits::default(),
                kind: ClientKind::default(),
            };
            self.settle(e.create_client(by, client, now).unwrap());
        }
        self.settle(e.create_provider(by, self.provider(), now).unwrap());
        let app = App {
            id: id::<AppId>("crm-app"),
            vendor: id("crm-sync"),
            provider: id("crm"),
            oauth_client_id: "oauth-client".into(),
            auth_method: AuthMethod::ClientSecretBasic,
            key: None,
        };
        let sealed_client_secret = self.seal("crm-sync", "crm-app", "crm", "client-secret", "s3");
        let new = NewApp {
            app,
            sealed_client_secret: &sealed_client_secret,
        };
        self.settle(e.create_app(by, new, now).unwrap());
    }

    /// Seals a secret to the enclave, as the SDK does.
    pub(crate) fn seal(
        &self,
        tenant: &str,
        app: &str,
        grant: &str,
        kind: &str,
        secret: &str,
    ) -> Vec<u8> {
        let context = DepositContext {
            tenant,
            app,
            grant,
            kind,
            bundle_digest: &self.enclave.bundle().digest,
        };
        let public = *self.enclave.keys().hpke_public();
        let envelope =
            DepositEnvelope::seal(&public, &context, secret.as_bytes(), &SystemRandom::new())
                .unwrap();
        [envelope.encapsulated_key(), envelope.ciphertext()].concat()
    }

    pub(crate) fn grant(&self) -> Grant {
        Grant {
            id: id::<GrantId>("contacts"),
            tenant: id("acme"),
            app: id("crm-app"),
            clients: vec![id("worker")],
            targets: vec![id("api"), id("direct")],
            scopes: Scopes::parse(["contacts.read", "contacts.write"]).unwrap(),
            created_at_s: 0,
            expires_at_s: None,
            operations: Vec::new(),
            hosts: Vec::new(),
            terms: None,
            allow_upstream_bound: false,
        }
    }

    /// A grant that has a target with operations and hosts of tenants.
    pub(crate) fn listed_grant(&self) -> Grant {
        Grant {
            id: id::<GrantId>("listed"),
            targets: vec![id("listed")],
            operations: ["people-list", "people-add"]
                .map(|name| OperationName::parse(&format!("listed/{name}")).unwrap())
                .to_vec(),
            hosts: vec![TargetHost {
                target: id("listed"),
                host: "acme.my.crm.example".into(),
            }],
            ..self.grant()
        }
    }

    /// Deposits a grant as it is.
    pub(crate) fn deposit_grant(&self, grant: Grant) -> Result<(), AdminError> {
        let sealed = self.seal(
            grant.tenant.as_str(),
            grant.app.as_str(),
            grant.id.as_str(),
            "refresh-token",
            "t",
        );
        let request = DepositRequest {
            grant,
            sealed_refresh_token: &sealed,
            rotate: false,
            only_new: false,
        };
        let pending = self.enclave.deposit(self.admin(), request, &self.now)?;
        self.settle(pending);
        Ok(())
    }

    pub(crate) fn deposit(&self, token: &str) -> Result<(), AdminError> {
        self.deposit_as(token, false, false)
    }

    pub(crate) fn deposit_as(
        &self,
        token: &str,
        rotate: bool,
        only_new: bool,
    ) -> Result<(), AdminError> {
        let sealed = self.seal("acme", "crm-app", "contacts", "refresh-token", token);
        let request = DepositRequest {
            grant: self.grant(),
            sealed_refresh_token: &sealed,
            rotate,
            only_new,
        };
        let pending = self.enclave.deposit(self.admin(), request, &self.now)?;
        self.settle(pending);
        Ok(())
    }

    /// The grant anew, with an end.
    pub(crate) fn grant_until(&self, expires_at_s: u64) {
        let id = self.grant().id;
        let delete = self.enclave.delete_grant(self.admin(), &id, &self.now);
        self.settle(delete.unwrap());
        let sealed = self.seal("acme", "crm-app", "contacts", "refresh-token", "r");
        let request = DepositRequest {
            grant: Grant {
                expires_at_s: Some(expires_at_s),
                ..self.grant()
            },
            sealed_refresh_token: &sealed,
            rotate: false,
            only_new: false,
        };
        let deposit = self.enclave.deposit(self.admin(), request, &self.now);
        self.settle(deposit.unwrap());
    }

    pub(crate) fn freeze(&self, subject: Subject) {
        let request = FreezeRequest {
            subject,
            tenant: None,
            reason: "test".into(),
        };
        let pending = self
            .enclave
            .freeze(self.admin(), request, &self.now)
            .unwrap();
        self.settle(pending);
    }

    /// A good proof for the token service.
    pub(crate) fn proof(&self) -> String {
        let nonce = self.enclave.dpop_nonce(NonceRole::Token, &self.now);
        self.proof_by(&self.dpop, &format!("{GRPC}{PATH}"), Some(&nonce))
    }

    pub(crate) fn proof_by(&self, key: &SigningKey, htu: &str, nonce: Option<&str>) -> String {
        let rng = SystemRandom::new();
        let params = ProofParams {
            htm: "POST",
            htu,
            iat_s: self.now.lo_s,
            jti: &random_jti(&rng).unwrap(),
            nonce,
            access_token: None,
        };
        params.sign(key, &rng).unwrap()
    }

    /// A good assertion of the client `worker`, with its own id, and a change.
    pub(crate) fn assertion(&self, change: impl FnOnce(&mut Assertion)) -> Vec<u8> {
        let mut assertion = Assertion {
            typ: Some("client-authentication+jwt".into()),
            kid: Some(KID.into()),
            claims: serde_json::json!({
                "iss": "worker",
                "sub": "worker",
                "aud": self.enclave.config().issuer,
                "exp": self.now.lo_s + 60,
                "iat": self.now.lo_s,
                "jti": random_jti(&SystemRandom::new()).unwrap(),
            })
            .to_string(),
            key: None,
        };
        change(&mut assertion);
        let members: Vec<HeaderMember<'_>> = assertion
            .typ
            .as_deref()
            .map(HeaderMember::Typ)
            .into_iter()
            .chain(assertion.kid.as_deref().map(HeaderMember::Kid))
            .collect();
        let key = assertion.key.as_ref().unwrap_or(&self.assertion_key);
        let payload = assertion.claims.as_bytes();
        jws::sign(&members, payload, key, &SystemRandom::new())
            .unwrap()
            .into_bytes()
    }

    /// Asks for a token with one change from what is good.
    pub(crate) fn ask(&self, change: impl FnOnce(&mut Asking)) -> Result<Issued, IssueError> {
        Ok(self.settle(self.pending(change)?))
    }

    /// A token that waits for its leaf.
    pub(crate) fn pending(
        &self,
        change: impl FnOnce(&mut Asking),
    ) -> Result<Pending<Issued>, IssueError> {
        self.asked(change, |request| self.enclave.issue(request, &self.now))
    }

    /// A request with one change from what is good.
    pub(crate) fn asked<T>(
        &self,
        change: impl FnOnce(&mut Asking),
        then: impl FnOnce(&IssueRequest<'_>) -> T,
    ) -> T {
        let mut asking = Asking {
            door: Door::Grpc,
            peer: Some(CLIENT_SPKI),
            certificate: None,
            spiffe_id: None,
            assertions: Vec::new(),
            client_id: None,
            proofs: vec![self.proof()],
            bind_certificate: false,
            grant: Some("contacts".into()),
            resource: RESOURCE.into(),
            scopes: vec!["contacts.read".into()],
            actors: Vec::new(),
        };
        change(&mut asking);
        let request = IssueRequest {
            door: asking.door,
            credentials: Credentials {
                peer: Peer {
                    spki_sha256: asking.peer,
                    certificate_sha256: asking.certificate,
                    spiffe_id: asking.spiffe_id,
                    address: None,
                },
                assertions: asking.assertions.iter().map(Vec::as_slice).collect(),
                client_id: asking.client_id.as_deref(),
            },
            binding: if asking.bind_certificate {
                Binding::Certificate
            } else {
                Binding::Proof(asking.proofs.iter().map(String::as_bytes).collect())
            },
            grant: asking.grant.as_deref(),
            resource: &asking.resource,
            scopes: &asking.scopes,
            actors: &asking.actors,
        };
        then(&request)
    }
}

/// An assertion, to be changed by a test.
pub(crate) struct Assertion {
    pub(crate) typ: Option<String>,
    pub(crate) kid: Option<String>,
    /// The payload, JSON.
    pub(crate) claims: String,
    /// Who signs, if not the client.
    pub(crate) key: Option<SigningKey>,
}

impl Assertion {
    /// Sets a claim; null takes it out.
    pub(crate) fn claim(&mut self, name: &str, value: serde_json::Value) {
        let mut claims: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&self.claims).unwrap();
        if value.is_null() {
            claims.remove(name);
        } else {
            claims.insert(name.to_owned(), value);
        }
        self.claims = serde_json::Value::Object(claims).to_string();
    }
}

/// A request for a token, to be changed by a test.
pub(crate) struct Asking {
    pub(crate) door: Door,
    /// The SHA-256 of the certificate's key.
    pub(crate) peer: Option<[u8; 32]>,
    /// The SHA-256 of the certificate.
    pub(crate) certificate: Option<[u8; 32]>,
    pub(crate) spiffe_id: Option<SpiffeId>,
    pub(crate) assertions: Vec<Vec<u8>>,
    pub(crate) client_id: Option<String>,
    pub(crate) proofs: Vec<String>,
    /// Instead of to a proof's key.
    pub(crate) bind_certificate: bool,
    pub(crate) grant: Option<String>,
    pub(crate) resource: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) actors: Vec<String>,
}

/// An operation with one query name; with a bound it takes JSON.
fn operation(name: &str, method: &str, path: &str, max_body_bytes: Option<u64>) -> Operation {
    Operation {
        id: id(name),
        method: method.into(),
        path: PathTemplate::parse(path).unwrap(),
        query: vec!["page".into()],
        content_types: max_body_bytes
            .map(|_| "application/json".into())
            .into_iter()
            .collect(),
        max_body_bytes,
    }
}
