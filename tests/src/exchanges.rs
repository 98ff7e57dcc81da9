//! The exchanges of a service without its listeners: the enclave, its store, what drives exchanges, and the way out,
//! all of the product, over a folder that a test chooses.
#![allow(
    clippy::expect_used,
    reason = "what cannot be made fails the test, and ends a worker"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use attestation::{DepositContext, DepositEnvelope};
use broker::clock::Clock;
use broker::refresher::Refresher;
use broker::shell::Shell;
use broker::store::{EmbeddedStore, FilePolicy, Folder, OnSyncFailure};
use broker::svid::TrustDomains;
use broker::upstream::{Egress, EgressLimits, Loopback};
use enclave::Enclave;
use enclave::admin::{AdminError, Administrator, DepositRequest, FreezeRequest, GrantView, NewApp};
use enclave::authenticate::Peer;
use enclave::boot::{Boot, Leaves};
use enclave::frame::FrameCipher;
use enclave::freeze::Subject;
use enclave::http_url::HttpUrl;
use enclave::ids::GrantId;
use enclave::keys::envelope::{self, Envelope, NewHolder, QuorumSecret, Recipients, Secrets};
use enclave::keys::root::Unlocked;
use enclave::limits::Limits;
use enclave::log::Image;
use enclave::pending::Pending;
use enclave::profile::Profile;
use enclave::refresh::{RefreshError, Wanted};
use enclave::registry::{
    Api, App, AuthMethod, Client, ClientKind, Grant, Provider, Rotation, Target, Tenant, Vendor,
};
use enclave::scope::Scopes;
use enclave::store::{Log, Record, Store as _, StoreError};
use ring::rand::SystemRandom;
use rustls::RootCertStore;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use zeroize::Zeroizing;

use crate::core::{ADMIN_SPKI, CLIENT, config, take_in};

/// The client at the provider, which needs no secret there.
pub const OAUTH_CLIENT_ID: &str = "exchanges";

/// What each grant is for.
pub const SCOPE: &str = "contacts.read";

/// The file of the keys, beside the store.
const ENVELOPE: &str = "envelope";

/// The state's id, and the share of its one keyholder, who protects nothing here.
const STATE: [u8; 16] = [7; 16];
const SHARE: [u8; 32] = [9; 32];

/// The provider as the service is told of it.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Its token endpoint.
    pub token_endpoint: String,
    /// How its refresh tokens behave.
    pub rotation: Rotation,
    /// How it is treated.
    pub profile: Profile,
}

impl Terms {
    /// With no rate and a short quiet time: what is still on its way comes to its end within it.
    #[must_use]
    pub fn brisk(token_endpoint: &str, rotation: Rotation) -> Self {
        let profile = Profile {
            quiet_ms: 200,
            requests_per_s: 10_000,
            requests_burst: 10_000,
            ..Profile::default()
        };
        Self {
            token_endpoint: token_endpoint.to_owned(),
            rotation,
            profile,
        }
    }
}

/// The exchanges, and what they stand on.
#[derive(Debug)]
pub struct Exchanges<F: Folder> {
    /// Enclave, store and clock.
    pub shell: Arc<Shell<F>>,
    /// What drives exchanges.
    pub refresher: Arc<Refresher<F>>,
}

/// The keys of a state in a directory: made at the first time, then read.
///
/// # Panics
/// They can't be.
#[must_use]
pub fn keys(dir: &Path) -> Unlocked {
    let path = dir.join(ENVELOPE);
    if let Ok(file) = fs::read(&path) {
        let envelope = Envelope::parse(&file).expect("an envelope");
        let released = [(0, Zeroizing::new(SHARE))];
        let quorum = envelope::gather(envelope.custody(), &STATE, &released);
        let quorum = quorum.expect("the quorum's secret");
        let secrets = Secrets {
            quorum: Some(&quorum),
            ..Secrets::default()
        };
        return envelope.open(&secrets).expect("the keys").keys;
    }
    let rng = SystemRandom::new();
    let keys = Unlocked::generate(&rng).expect("keys");
    let holder = NewHolder {
        name: "nobody".to_owned(),
        url: "http://127.0.0.1:1".to_owned(),
        key: [8; 32],
        share: [6; 16],
        secret: Zeroizing::new(SHARE),
    };
    let quorum = QuorumSecret::generate(&rng).expect("a secret");
    let custody = envelope::share_out(&quorum, &STATE, 1, &[holder], &rng);
    let custody = custody.expect("a custody");
    let recipients = Recipients {
        state: STATE,
        custody: &custody,
        quorum: &quorum,
        local: None,
        off_chip: true,
        recovery: None,
        retired: &[],
    };
    let sealed = envelope::seal(&keys, &recipients, &rng).expect("an envelope");
    // Never half of it.
    let next = path.with_extension("next");
    fs::write(&next, sealed).expect("the envelope, written");
    fs::rename(&next, &path).expect("the envelope, in its place");
    keys
}

fn id<T: TryFrom<String>>(text: &str) -> T {
    T::try_from(text.to_owned()).ok().expect("an id")
}

async fn boot<F: Folder>(keys: &Unlocked, store: &EmbeddedStore<F>, clock: &Clock) -> Enclave {
    let now = clock.now();
    let mut boot = Boot::new(config(), keys, None, Arc::new(SystemRandom::new())).expect("a boot");
    let mut records = BTreeMap::<_, Record>::new();
    loop {
        let after = records.last_key_value().map(|(key, _)| *key);
        let found = store.scan(after.as_ref(), 1_000).await.expect("records");
        if found.is_empty() {
            break;
        }
        records.extend(found.into_iter().map(|record| (record.key, record)));
    }
    for record in records.values() {
        take_in(&mut boot, &records, record);
    }
    let mut loaded = Leaves::default();
    for log in [Log::Control, Log::Issuance] {
        for leaf in leaves(store, log) {
            loaded.load(log, &leaf).expect("a leaf of ours");
        }
    }
    boot.take_in_leaves(loaded);
    for batch in [
        boot.admit_manifest().expect("the manifest"),
        boot.create_keys(&now).expect("keys"),
    ]
    .into_iter()
    .flatten()
    {
        let _receipt = store.commit(batch).await.expect("a commit");
    }
    let enclave = boot.finish().expect("an enclave");
    let image = Image {
        platform: "snp".to_owned(),
        measurement: "00".repeat(48),
    };
    let booted = enclave.booted(&image, &now).expect("a leaf");
    let durable = booted.commit(store).await.expect("a commit");
    enclave.release(durable, &now).expect("no freeze");
    enclave
}

fn leaves<F: Folder>(store: &EmbeddedStore<F>, log: Log) -> Vec<Vec<u8>> {
    let count = store.leaf_count(log).expect("a count");
    let mut all = Vec::new();
    while (all.len() as u64) < count {
        let more = store.leaves(log, all.len() as u64, 10_000);
        all.extend(more.expect("leaves"));
    }
    all
}

/// A way out that trusts these roots, to this machine as well.
///
/// # Panics
/// TLS can't be set up.
#[must_use]
pub fn egress(roots: RootCertStore) -> Egress {
    Egress::new(roots, Loopback::Allowed, EgressLimits::default()).expect("a way out")
}

impl<F: Folder> Exchanges<F> {
    /// Comes up from the state in a folder, or begins one, as the service does. What a crash cut off is taken up.
    ///
    /// # Panics
    /// It does not come up.
    pub async fn open(folder: F, keys: &Unlocked, policy: FilePolicy, end: OnSyncFailure) -> Self {
        Self::open_towards(folder, keys, policy, end, egress(RootCertStore::empty())).await
    }

    /// As [`Self::open`], with a way out of its own.
    ///
    /// # Panics
    /// It does not come up.
    pub async fn open_towards(
        folder: F,
        keys: &Unlocked,
        policy: FilePolicy,
        end: OnSyncFailure,
        egress: Egress,
    ) -> Self {
        let cipher = FrameCipher::new(keys.state.frame_key().expect("a key"));
        let opened = EmbeddedStore::open_in(folder, cipher, SystemRandom::new(), policy, end);
        let (store, _report) = opened.expect("a store");
        let clock = Clock::new(0);
        let enclave = boot(keys, &store, &clock).await;
        let shell = Arc::new(Shell {
            enclave,
            store: Arc::new(store),
            clock,
            trust_domains: TrustDomains::default(),
            changes: watch::Sender::new(0),
            root: None,
            witnessing: None,
            afterwards: TaskTracker::new(),
            consents: Default::default(),
        });
        let refresher = Refresher::new(Arc::clone(&shell), egress);
        refresher.resume().await;
        Self { shell, refresher }
    }

    /// The one who may do everything here.
    ///
    /// # Panics
    /// The configuration names another.
    #[must_use]
    pub fn admin(&self) -> &Administrator {
        let peer = Peer {
            spki_sha256: Some(ADMIN_SPKI),
            ..Peer::default()
        };
        let admin = self.shell.enclave.administrator(&peer);
        admin.expect("the administrator")
    }

    /// Commits what an administrator changes, and gives its answer out.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Panics
    /// A freeze forbids it.
    pub async fn settle<T>(&self, pending: Pending<T>) -> Result<T, StoreError> {
        let durable = pending.commit(&*self.shell.store).await?;
        let now = self.shell.clock.now();
        let released = self.shell.enclave.release(durable, &now);
        Ok(released.expect("no freeze covers an administrator"))
    }

    async fn put<T>(&self, asked: Result<Pending<T>, AdminError>) {
        match asked {
            Ok(pending) => {
                self.settle(pending).await.expect("a commit");
            }
            Err(AdminError::Exists(_)) => {}
            Err(error) => panic_for(&error),
        }
    }

    /// Registers all that a grant needs, unless it is there.
    ///
    /// # Panics
    /// It can't be registered.
    pub async fn furnish(&self, terms: &Terms) {
        let (e, by, now) = (&self.shell.enclave, self.admin(), self.shell.clock.now());
        let tenant = Tenant {
            id: id("acme"),
            display_name: String::new(),
            limits: Limits::default(),
        };
        self.put(e.create_tenant(by, tenant, &now)).await;
        let vendor = Vendor {
            id: id("crm-sync"),
            display_name: String::new(),
        };
        self.put(e.create_vendor(by, vendor, &now)).await;
        let client = Client {
            id: id(CLIENT),
            vendor: id("crm-sync"),
            tls_spki_sha256: Some([2; 32]),
            jwks: Vec::new(),
            spiffe_id: None,
            limits: Limits::default(),
            kind: ClientKind::default(),
        };
        self.put(e.create_client(by, client, &now)).await;
        let url = |text: &str| HttpUrl::parse(text).expect("a URL");
        let provider = Provider {
            id: id("crm"),
            issuer: None,
            consent: None,
            token_endpoint: url(&terms.token_endpoint),
            revocation_endpoint: None,
            rotation: terms.rotation,
            profile: terms.profile.clone(),
            made_from: None,
            targets: vec![Target {
                name: id("api"),
                api: Api::behind_gateway(url("http://127.0.0.1:1/api")),
            }],
        };
        self.put(e.create_provider(by, provider, &now)).await;
        let new = NewApp {
            app: App {
                id: id("crm-app"),
                vendor: id("crm-sync"),
                provider: id("crm"),
                oauth_client_id: OAUTH_CLIENT_ID.to_owned(),
                auth_method: AuthMethod::None,
                key: None,
            },
            sealed_client_secret: &[],
        };
        self.put(e.create_app(by, new, &now)).await;
    }

    /// Deposits a refresh token, anew if the grant is there.
    ///
    /// # Panics
    /// It is refused.
    pub async fn deposit(&self, grant: &str, token: &str) {
        let (e, now) = (&self.shell.enclave, self.shell.clock.now());
        let context = DepositContext {
            tenant: "acme",
            app: "crm-app",
            grant,
            kind: "refresh-token",
            bundle_digest: &e.bundle().digest,
        };
        let public = *e.keys().hpke_public();
        let rng = SystemRandom::new();
        let sealed = DepositEnvelope::seal(&public, &context, token.as_bytes(), &rng);
        let sealed = sealed.expect("a deposit");
        let sealed = [sealed.encapsulated_key(), sealed.ciphertext()].concat();
        let request = DepositRequest {
            grant: Grant {
                id: id(grant),
                tenant: id("acme"),
                app: id("crm-app"),
                clients: vec![id(CLIENT)],
                targets: vec![id("api")],
                scopes: scopes(),
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
        let pending = e.deposit(self.admin(), request, &now).expect("a deposit");
        self.settle(pending).await.expect("a commit");
    }

    /// Asks for an upstream access token, as the gateway does.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub async fn ask(&self, grant: &str) -> Result<(), RefreshError> {
        let grant: GrantId = id(grant);
        self.refresher.access(&grant, &wanted()).await.map(|_| ())
    }

    /// Asks until the answer is one that lasts.
    ///
    /// # Errors
    /// [`RefreshError`]: asking again would not help.
    pub async fn ask_until_settled(&self, grant: &str) -> Result<(), RefreshError> {
        loop {
            match self.ask(grant).await {
                Err(
                    RefreshError::Quiet { .. }
                    | RefreshError::ProviderUnclear
                    | RefreshError::ProviderUnreachable
                    | RefreshError::ProviderPaused { .. }
                    | RefreshError::ProviderRefused { .. }
                    | RefreshError::Limit(_)
                    | RefreshError::RateLimited { .. },
                ) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                settled @ (Ok(())
                | Err(
                    RefreshError::NoSuchGrant
                    | RefreshError::Frozen { .. }
                    | RefreshError::NotWitnessed
                    | RefreshError::Revoked
                    | RefreshError::NeedsConsent { .. }
                    | RefreshError::RefusedWithProof
                    | RefreshError::ProofNonce { .. }
                    | RefreshError::TooManyKeys { .. }
                    | RefreshError::UnusableToken(_)
                    | RefreshError::Store(_)
                    | RefreshError::Record(_),
                )) => return settled,
            }
        }
    }

    /// A grant as its administrator sees it.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn grant(&self, grant: &str) -> GrantView {
        let view = self.shell.enclave.grant(self.admin(), &id(grant));
        view.expect("the grant")
    }

    /// Stops a grant; whether that was acknowledged. Another may be stopping it at the same time.
    ///
    /// # Panics
    /// It is refused.
    pub async fn freeze(&self, grant: &str) -> bool {
        let request = FreezeRequest {
            subject: Subject::Grant(id(grant)),
            tenant: None,
            reason: String::new(),
        };
        let now = self.shell.clock.now();
        let frozen = self.shell.enclave.freeze(self.admin(), request, &now);
        self.settle(frozen.expect("a freeze")).await.is_ok()
    }

    /// Ends the freeze, if there is one; whether that was acknowledged.
    pub async fn thaw(&self, grant: &str) -> bool {
        let subject = Subject::Grant(id(grant));
        let now = self.shell.clock.now();
        let thawed = self.shell.enclave.thaw(self.admin(), subject, None, &now);
        match thawed {
            Ok(thawed) => self.settle(thawed).await.is_ok(),
            Err(_) => false,
        }
    }

    /// The grants that the control log says need their owners, with the causes, in its order.
    ///
    /// # Panics
    /// The log can't be read.
    #[must_use]
    pub fn losses_logged(&self) -> Vec<(String, String)> {
        let tenant = id("acme");
        let enclave = &self.shell.enclave;
        let reader = enclave.leaf_reader(self.admin(), Some(&tenant));
        let reader = reader.expect("the tenant's leaves");
        let text = |event: &serde_json::Value, name: &str| {
            event
                .get(name)
                .and_then(|value| value.as_str().map(str::to_owned))
        };
        leaves(&self.shell.store, Log::Control)
            .iter()
            .filter_map(|leaf| enclave.read_leaf(&reader, leaf)?.event)
            .filter_map(|event| {
                let event: serde_json::Value = serde_json::from_str(&event).ok()?;
                (text(&event, "event")? == "needs_consent").then_some(())?;
                Some((text(&event, "grant")?, text(&event, "cause")?))
            })
            .collect()
    }

    /// Ends as the service does: what is under way comes to its end, and the store is closed.
    pub async fn close(self) {
        self.refresher.drained().await;
        self.shell.store.close();
    }
}

/// What each grant is asked for.
///
/// # Panics
/// Never.
#[must_use]
pub fn wanted() -> Wanted {
    Wanted::with(scopes())
}

fn scopes() -> Scopes {
    Scopes::parse([SCOPE]).expect("a scope")
}

#[expect(clippy::panic, reason = "a refusal fails the test")]
fn panic_for(error: &AdminError) -> ! {
    panic!("refused: {error}")
}
