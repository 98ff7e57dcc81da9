//! Opening stored records: the part of a start that takes time, shared by as many threads as there are.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::RwLock;

use super::{BootError, SeenManifest};
use crate::admin::Erasure;
use crate::custody::{self, Custody};
use crate::ids::TenantId;
use crate::keys::keyring::StoredKey;
use crate::keys::ring::{KeyKind, RING, Ring};
use crate::keys::root::{RootKey, Unlocked};
use crate::life::Life;
use crate::record::{Cabinet, Place, Realm, RecordError, Table};
use crate::refresh::parse_orphan;
use crate::registry::Grant;
use crate::ruling::TenantPolicy;
use crate::seal::{SealError, SealingKey};
use crate::store::{Key, Record};
use crate::view::{Effect, Held, HeldSealed, TenantKey};
use crate::webhook::Webhook;

/// Opens the records of a store, in any order. What it finds is for a [`Boot`](super::Boot) to take in.
pub struct Opener {
    pub(super) cabinet: Arc<Cabinet>,
    pub(super) system_key: Arc<SealingKey>,
    pub(super) wrap_key: Arc<SealingKey>,
    /// Of the root that is being replaced.
    retiring: Option<Arc<SealingKey>>,
    known: RwLock<Known>,
}

/// What earlier records said of tenants.
#[derive(Default)]
struct Known {
    keys: HashMap<TenantId, Arc<SealingKey>>,
    erased: HashSet<TenantId>,
}

/// What a record was found to be.
#[derive(Debug)]
pub enum Reading {
    /// It is opened and can be [taken in](super::Boot::take_in).
    Opened(Opened),
    /// It belongs to a tenant whose key was not opened: that is the record
    /// under the first key of the store, or, if the tenant was erased, under the
    /// second. Open that one, then this one again.
    NeedsFirst(Key, Key),
}

/// A record that was authenticated and opened.
pub struct Opened(pub(super) Content);

pub(super) enum Content {
    Key(StoredKey),
    Ring(Held<Ring>),
    Manifest(Held<SeenManifest>),
    System(Effect),
    Erasure(Held<Erasure>),
    Tenants(Effect),
    Grant(Held<Grant>),
    /// What is left of a tenant that was erased: nobody can read it.
    Erased,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opened([redacted])")
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opener([redacted])")
    }
}

impl Opener {
    /// With the keys of the envelope, and the root that these replace, if wraps under it are still there.
    pub(super) fn new(keys: &Unlocked, retiring: Option<&RootKey>) -> Result<Self, SealError> {
        let retiring = retiring.map(RootKey::wrap_key).transpose()?;
        Ok(Self {
            cabinet: Arc::new(Cabinet::new(keys.state.expose())?),
            system_key: Arc::new(keys.state.system_key()?),
            wrap_key: Arc::new(keys.root.wrap_key()?),
            retiring: retiring.map(Arc::new),
            known: RwLock::default(),
        })
    }

    /// Opens one record of the store.
    ///
    /// # Errors
    /// [`BootError::Record`] if it is not what this enclave sealed there.
    pub fn open(&self, record: &Record) -> Result<Reading, BootError> {
        let place = self.cabinet.locate(record)?;
        let content = match &place.realm {
            Realm::System => self.open_system(&place, record)?,
            Realm::Tenant(tenant) => {
                let known = self.known.read();
                let erased = known.erased.contains(tenant);
                let key = known.keys.get(tenant).map(Arc::clone);
                drop(known);
                match key {
                    _ if erased => Content::Erased,
                    Some(key) => self.open_tenants(&key, tenant, &place, record)?,
                    None => {
                        let at = |table| self.cabinet.key(&Place::system(table, tenant.as_str()));
                        return Ok(Reading::NeedsFirst(
                            at(Table::TenantKeys),
                            at(Table::Erasures),
                        ));
                    }
                }
            }
        };
        // What opens a tenant's other records, or says that nothing does.
        if let Content::System(Effect::TenantKey(tenant, held)) = &content {
            let mut known = self.known.write();
            known.keys.insert(tenant.clone(), Arc::clone(&held.key));
        }
        if let Content::Erasure(held) = &content {
            let mut known = self.known.write();
            known.erased.insert(held.value.tenant.clone());
        }
        Ok(Reading::Opened(Opened(content)))
    }

    fn open_system(&self, place: &Place, record: &Record) -> Result<Content, RecordError> {
        let generation = record.generation;
        if place.table == Table::TenantKeys {
            return Ok(Content::System(self.open_tenant_key(place, record)?));
        }
        let body = self
            .cabinet
            .open(&self.system_key, place, generation, &record.sealed)?;
        let effect = match place.table {
            Table::Manifests => {
                return Ok(Content::Manifest(Held::new(generation, json(&body)?)));
            }
            Table::Keys => {
                if place.name == RING {
                    return Ok(Content::Ring(Held::new(generation, json(&body)?)));
                }
                if !KeyKind::is_record(&place.name) {
                    return Err(RecordError::Schema);
                }
                return Ok(Content::Key((place.name.clone(), body)));
            }
            Table::Tenants => Effect::Tenant(Held::new(generation, json(&body)?)),
            Table::Vendors => Effect::Vendor(Held::new(generation, json(&body)?)),
            Table::Clients => Effect::Client(Held::new(generation, json(&body)?)),
            Table::Providers => Effect::Provider(Held::new(generation, json(&body)?)),
            Table::Apps => Effect::App(Held::new(generation, json(&body)?)),
            Table::AppSecrets => {
                let sealed = HeldSealed {
                    generation,
                    sealed: Arc::clone(&record.sealed),
                };
                Effect::AppSecret(name(&place.name)?, sealed)
            }
            Table::Freezes => Effect::Freeze(Held::new(generation, json(&body)?)),
            Table::RevokedTokens => Effect::Revoked(Held::new(generation, json(&body)?)),
            Table::Erasures => {
                return Ok(Content::Erasure(Held::new(generation, json(&body)?)));
            }
            Table::TenantKeys
            | Table::Grants
            | Table::Custody
            | Table::Journal
            | Table::Orphans
            | Table::Policies
            | Table::Lives
            | Table::Webhooks
            | Table::Revocations => {
                return Err(RecordError::Schema);
            }
        };
        Ok(Content::System(effect))
    }

    /// A wrap under this root, or under the one that is being replaced.
    fn open_tenant_key(&self, place: &Place, record: &Record) -> Result<Effect, RecordError> {
        let generation = record.generation;
        let open = |under: &SealingKey| self.cabinet.open(under, place, generation, &record.sealed);
        let (body, under) = match (open(&self.wrap_key), &self.retiring) {
            (Ok(body), _) => (body, &self.wrap_key),
            (Err(_), Some(retiring)) => (open(retiring)?, retiring),
            (Err(error), None) => return Err(error),
        };
        let key = SealingKey::of_all(&body).ok_or(RecordError::Schema)?;
        let tenant = name(&place.name)?;
        let held = TenantKey::new(&tenant, generation, Arc::new(key), Arc::clone(under));
        Ok(Effect::TenantKey(tenant, held))
    }

    fn open_tenants(
        &self,
        key: &SealingKey,
        tenant: &TenantId,
        place: &Place,
        record: &Record,
    ) -> Result<Content, RecordError> {
        let generation = record.generation;
        let body = self.cabinet.open(key, place, generation, &record.sealed)?;
        let effect = match place.table {
            Table::Grants => return Ok(Content::Grant(Held::new(generation, json(&body)?))),
            Table::Custody => {
                let head = custody::head(&body)?;
                let custody = Custody {
                    tenant: tenant.clone(),
                    refresh_generation: head.refresh_generation,
                    refreshed_at_s: head.refreshed_at_s,
                    phase: head.phase,
                    told: head.told,
                    exposure: head.exposure,
                    sealed: Arc::clone(&record.sealed),
                };
                Effect::Custody(name(&place.name)?, Held::new(generation, custody))
            }
            Table::Lives => {
                let life = Life::from_record(tenant.clone(), &body)?;
                Effect::Life(name(&place.name)?, Held::new(generation, life))
            }
            Table::Policies => {
                let policy = TenantPolicy::from_record(tenant.clone(), &body)?;
                Effect::Policy(Held::new(generation, policy))
            }
            Table::Webhooks => {
                let webhook: Webhook = json(&body)?;
                if webhook.tenant != *tenant || webhook.id.as_str() != place.name {
                    return Err(RecordError::Schema);
                }
                Effect::Webhook(Held::new(generation, webhook))
            }
            Table::Journal => {
                let sealed = HeldSealed {
                    generation,
                    sealed: Arc::clone(&record.sealed),
                };
                Effect::Journal(name(&place.name)?, sealed)
            }
            Table::Orphans => {
                let (grant, replaces) = parse_orphan(&place.name).ok_or(RecordError::Schema)?;
                let sealed = HeldSealed {
                    generation,
                    sealed: Arc::clone(&record.sealed),
                };
                Effect::Orphan(grant, replaces, sealed)
            }
            Table::Revocations => {
                let sealed = HeldSealed {
                    generation,
                    sealed: Arc::clone(&record.sealed),
                };
                Effect::Revocation(name(&place.name)?, sealed)
            }
            Table::Keys
            | Table::Manifests
            | Table::TenantKeys
            | Table::Tenants
            | Table::Vendors
            | Table::Clients
            | Table::Providers
            | Table::Apps
            | Table::AppSecrets
            | Table::Freezes
            | Table::Erasures
            | Table::RevokedTokens => return Err(RecordError::Schema),
        };
        Ok(Content::Tenants(effect))
    }
}

fn json<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, RecordError> {
    serde_json::from_slice(body).map_err(|_| RecordError::Schema)
}

fn name<T: TryFrom<String>>(name: &str) -> Result<T, RecordError> {
    name.to_owned().try_into().map_err(|_| RecordError::Schema)
}
