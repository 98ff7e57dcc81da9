//! Boot: from the root key and the stored records to a working enclave.

mod opener;

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use ring::rand::SecureRandom;
use tenant_policy::Decisions;
use thiserror::Error;

use crate::Enclave;
use crate::admin::Erasure;
use crate::approvals::Approvals;
use crate::audit::Scribe;
use crate::audit::sequence::{SeenNumbers, Sequences};
use crate::authenticate::SpentAssertions;
use crate::config::Config;
use crate::connect::Connects;
use crate::denials::Denials;
use crate::freshness::Freshness;
use crate::gateway::VerifiedTokens;
use crate::keys::Speaking;
use crate::keys::keyring::{Keyring, KeyringError, StoredKey};
use crate::keys::ring::{RING, Ring};
use crate::keys::root::{RootKey, Unlocked};
use crate::limits::Meters;
use crate::log::{BootId, LogError, Logs, Recovery};
use crate::nonce::Nonces;
use crate::rate::RateLimiter;
use crate::record::{Place, RecordError, Table};
use crate::refresh::{ClientKeys, Pace};
use crate::registry::Grant;
use crate::replay::ReplayCache;
use crate::seal::SealError;
use crate::store::{Batch, Log, Record};
use crate::time::Now;
use crate::upstream_dpop::ServerNonces;
use crate::view::{Held, View};

use opener::Content;
pub use opener::{Opened, Opener, Reading};

/// A source of random bytes that may be shared between threads.
pub type Randomness = Arc<dyn SecureRandom + Send + Sync>;

/// Why the enclave did not boot.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BootError {
    /// A record of the store does not open. The store was changed, or belongs to
    /// another enclave.
    #[error("a stored record does not open: {0}")]
    Record(#[from] RecordError),
    /// The keys could not be made or opened.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// Deriving or sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A leaf of a log can't be read, or the logs can't be named or signed.
    #[error("the logs can't be brought up: {0}")]
    Log(#[from] LogError),
    /// The state was opened under a newer manifest.
    #[error(
        "the manifest has the sequence number {found}, and this state was opened under {seen}: a manifest's number only rises"
    )]
    ManifestLower {
        /// That of the manifest.
        found: u64,
        /// That of the newest one that this state has seen.
        seen: u64,
    },
    /// The state was opened under another manifest of the same number.
    #[error(
        "the manifest is not the one with the sequence number {sequence} that this state was opened under: raise the number when it changes"
    )]
    ManifestChanged {
        /// The number of both.
        sequence: u64,
    },
    /// The key bundle could not be written.
    #[error("the key bundle can't be written: {0}")]
    Bundle(String),
}

/// The newest manifest that a state was opened under.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct SeenManifest {
    sequence: u64,
    digest: [u8; 32],
}

/// Reads the records of a store, in any order, before the enclave is made.
///
/// To open a record takes time, so an [`Opener`] opens many at once; taking them
/// in is quick.
pub struct Boot {
    config: Config,
    rng: Randomness,
    opener: Arc<Opener>,
    manifest: Option<Held<SeenManifest>>,
    view: View,
    /// For the view, when everything else is in.
    grants: Vec<Held<Grant>>,
    erasures: Vec<Held<Erasure>>,
    stored_keys: Vec<StoredKey>,
    ring: Option<Held<Ring>>,
    began_s: u64,
    began_ms: u64,
    /// A record of a tenant was taken in.
    of_tenants: bool,
    recovery: Recovery,
}

/// What the leaves of earlier boots say: the logs' trees, and the sequence numbers.
#[derive(Debug, Default)]
pub struct Leaves(Recovery);

impl Leaves {
    /// Reads the next leaf of a log, in the store's order.
    ///
    /// # Errors
    /// [`BootError::Log`] if it is no leaf of this enclave.
    pub fn load(&mut self, log: Log, leaf: &[u8]) -> Result<(), BootError> {
        Ok(self.0.take_in(log, leaf)?)
    }
}

impl std::fmt::Debug for Boot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Boot([redacted])")
    }
}

impl Boot {
    /// Begins with the keys of the envelope and the root that these replace, if wraps under it are still there.
    ///
    /// # Errors
    /// [`BootError::Seal`], which does not happen for keys of this length.
    pub fn new(
        config: Config,
        keys: &Unlocked,
        retiring: Option<&RootKey>,
        rng: Randomness,
    ) -> Result<Self, BootError> {
        Ok(Self {
            config,
            rng,
            opener: Arc::new(Opener::new(keys, retiring)?),
            manifest: None,
            view: View::default(),
            grants: Vec::new(),
            erasures: Vec::new(),
            stored_keys: Vec::new(),
            ring: None,
            // Until it is known, no assertion is new enough.
            began_s: u64::MAX,
            began_ms: 0,
            of_tenants: false,
            recovery: Recovery::default(),
        })
    }

    /// What opens the records.
    #[must_use]
    pub fn opener(&self) -> Arc<Opener> {
        Arc::clone(&self.opener)
    }

    /// Opens one record of the store.
    ///
    /// # Errors
    /// [`BootError::Record`] if it is not what this enclave sealed there.
    pub fn open(&self, record: &Record) -> Result<Reading, BootError> {
        self.opener.open(record)
    }

    /// Takes in a record that was opened. A tenant's key twice counts once.
    pub fn take_in(&mut self, opened: Opened) {
        match opened.0 {
            Content::Key(key) => self.stored_keys.push(key),
            Content::Ring(ring) => self.ring = Some(ring),
            Content::Manifest(seen) => self.manifest = Some(seen),
            Content::Erased => self.of_tenants = true,
            Content::Erasure(held) => self.erasures.push(held),
            Content::System(effect) => self.view.apply(effect),
            Content::Tenants(effect) => {
                self.of_tenants = true;
                self.view.apply(effect);
            }
            Content::Grant(mut held) => {
                self.of_tenants = true;
                // At once, so that the next ones take the room of the copies.
                self.view.share(Arc::make_mut(&mut held.value));
                self.grants.push(held);
            }
        }
    }

    /// Takes in what the leaves of earlier boots say.
    pub fn take_in_leaves(&mut self, leaves: Leaves) {
        self.recovery = leaves.0;
    }

    /// Holds the manifest against the newest one that this state has seen. Gives the batch
    /// that must be durable before the enclave is used, if this one is newer.
    ///
    /// # Errors
    /// [`BootError::ManifestLower`], [`BootError::ManifestChanged`].
    pub fn admit_manifest(&mut self) -> Result<Option<Batch>, BootError> {
        let found = SeenManifest {
            sequence: self.config.manifest_sequence,
            digest: self.config.manifest_digest,
        };
        let generation = match &self.manifest {
            Some(held) if held.value.sequence > found.sequence => {
                return Err(BootError::ManifestLower {
                    found: found.sequence,
                    seen: held.value.sequence,
                });
            }
            Some(held) if held.value.sequence == found.sequence => {
                let same = held.value.digest == found.digest;
                let sequence = found.sequence;
                return same
                    .then_some(None)
                    .ok_or(BootError::ManifestChanged { sequence });
            }
            Some(held) => held.generation,
            None => 0,
        };
        let body = serde_json::to_vec(&found).map_err(|_| RecordError::Schema)?;
        let place = Place::system(Table::Manifests, "newest");
        let write = self.opener.cabinet.seal(
            &*self.rng,
            &self.opener.system_key,
            &place,
            generation,
            &body,
        )?;
        self.manifest = Some(Held::new(generation.saturating_add(1), found));
        Ok(Some(Batch {
            writes: vec![write],
            leaves: Vec::new(),
        }))
    }

    /// Notes the time. On a first boot, when the store is empty: makes the long-lived keys. Gives
    /// the batch that must be durable before the enclave is used.
    ///
    /// # Errors
    /// [`BootError`].
    pub fn create_keys(&mut self, now: &Now) -> Result<Option<Batch>, BootError> {
        self.began_s = now.lo_s;
        self.began_ms = now.mono_ms;
        if !self.stored_keys.is_empty() || self.of_tenants {
            return Ok(None);
        }
        let opener = &self.opener;
        let keys = Keyring::create(&self.config.hosts, self.config.token_alg, now, &*self.rng)?;
        let mut batch = Batch::default();
        for (name, bytes) in &keys {
            let place = Place::system(Table::Keys, name);
            let write = opener
                .cabinet
                .seal(&*self.rng, &opener.system_key, &place, 0, bytes)?;
            batch.writes.push(write);
        }
        let ring = Ring::first(now.lo_s);
        let body = serde_json::to_vec(&ring).map_err(|_| RecordError::Schema)?;
        let place = Place::system(Table::Keys, RING);
        let write = opener
            .cabinet
            .seal(&*self.rng, &opener.system_key, &place, 0, &body)?;
        batch.writes.push(write);
        self.ring = Some(Held::new(1, ring));
        self.stored_keys = keys;
        Ok(Some(batch))
    }

    /// The enclave, when all records are in and the batch of
    /// [`create_keys`](Self::create_keys) is durable.
    ///
    /// # Errors
    /// [`BootError`].
    pub fn finish(mut self) -> Result<Enclave, BootError> {
        // A state from before keys could be replaced has the first of each kind.
        let ring = self.ring.take();
        let ring = ring.unwrap_or_else(|| Held::new(0, Ring::first(0)));
        let keys = Keyring::open(&self.stored_keys, ring, self.config.emulated, &*self.rng)?;
        let mut boot_identity = [0; 32];
        self.rng
            .fill(&mut boot_identity)
            .map_err(|_| SealError::Failed)?;
        let speaking = Speaking::new(&self.config, keys, boot_identity)?;
        let boot = boot_identity
            .iter()
            .fold(String::new(), |text, b| text + &format!("{b:02x}"));
        self.view.fill(self.grants, self.erasures);
        let sequences = sequences(&self.view, &mut self.recovery)?;
        let boot_id = BootId::from_bytes(boot_identity);
        let logs = Logs::new(&self.config.issuer, &speaking.keys, boot_id, self.recovery)?;
        Ok(Enclave {
            nonces: Nonces::new(&*self.rng)?,
            replays: ReplayCache::new(self.config.replay_capacity),
            relayed: ReplayCache::new(self.config.replay_capacity),
            spent: SpentAssertions::new(self.config.replay_capacity),
            began_s: self.began_s,
            issue_rates: RateLimiter::new(self.config.client_rate),
            call_rates: RateLimiter::new(self.config.client_rate),
            upstream_rates: RateLimiter::new(self.config.grant_upstream_rate),
            meters: Meters::new(),
            approvals: Approvals::default(),
            freshness: Freshness::new(self.config.witnesses.clone()),
            config: self.config,
            rng: self.rng,
            speaking: RwLock::new(speaking),
            cabinet: Arc::clone(&self.opener.cabinet),
            system_key: Arc::clone(&self.opener.system_key),
            wrap_key: RwLock::new(Arc::clone(&self.opener.wrap_key)),
            scribe: Scribe { boot },
            sequences: Arc::new(sequences),
            logs,
            pace: Pace::new(self.began_ms),
            server_nonces: ServerNonces::default(),
            connects: Connects::default(),
            denials: Denials::default(),
            verified_tokens: VerifiedTokens::default(),
            decisions: Decisions::default(),
            upstream: Mutex::new(HashMap::new()),
            client_keys: ClientKeys::default(),
            view: RwLock::new(self.view),
        })
    }
}

/// Whose numbers were recovered: leaves name tenants by their tags.
fn sequences(view: &View, recovery: &mut Recovery) -> Result<Sequences, LogError> {
    let numbers_of = |seen: SeenNumbers| seen.into_numbers().map_err(|_| LogError::Missing);
    let mut numbers = HashMap::new();
    if let Some(own) = recovery.numbers.remove(&None) {
        numbers.insert(None, numbers_of(own)?);
    }
    for (tenant, held) in &view.tenant_keys {
        let tag = Some(held.tag.to_string());
        if let Some(own) = recovery.numbers.remove(&tag) {
            numbers.insert(Some(tenant.clone()), numbers_of(own)?);
        }
    }
    Ok(Sequences::new(numbers))
}
