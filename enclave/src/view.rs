//! What the enclave knows: its view of the stored records, in memory.
//!
//! The view follows the store: an effect is applied only when its batch is
//! durable, so the two differ by what is being written at most. Refresh tokens
//! stay sealed in it and are opened for the one use.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::mem;
use std::sync::Arc;

use tenant_policy::Compiled;

use crate::admin::Erasure;
use crate::approvals::ApprovalEffect;
use crate::audit::tag;
use crate::custody::{Cause, Custody, Phase};
use crate::freeze::{Freeze, FreezeName, Subject, Touched};
use crate::ids::{AppId, ClientId, GrantId, ProviderId, TenantId, VendorId, WebhookId};
use crate::life::{LastUses, Life};
use crate::policy::Denied;
use crate::record::RecordError;
use crate::registry::{App, Client, Grant, Provider, Tenant, Vendor};
use crate::revoke::RevokedToken;
use crate::ruling::{self, Rules, TenantPolicy};
use crate::seal::SealingKey;
use crate::shared::{Share, Shared};
use crate::spiffe::SpiffeId;
use crate::terms::GrantTerms;
use crate::webhook::Webhook;

/// A record in the view, with its generation in the store.
#[derive(Clone, Debug)]
pub(crate) struct Held<T> {
    pub(crate) generation: u64,
    pub(crate) value: Arc<T>,
}

impl<T> Held<T> {
    pub(crate) fn new(generation: u64, value: T) -> Self {
        Self {
            generation,
            value: Arc::new(value),
        }
    }
}

/// A sealed secret in the view: opened where it is used.
#[derive(Clone, Debug)]
pub(crate) struct HeldSealed {
    pub(crate) generation: u64,
    pub(crate) sealed: Arc<[u8]>,
}

/// A tenant's key, and where its wrap stands.
#[derive(Clone, Debug)]
pub(crate) struct TenantKey {
    /// Of the wrap in the store.
    pub(crate) generation: u64,
    pub(crate) key: Arc<SealingKey>,
    /// How leaves name the tenant.
    pub(crate) tag: Arc<str>,
    /// What it is wrapped under: as long as something refers to the key of an
    /// earlier root, that root is still needed.
    pub(crate) under: Arc<SealingKey>,
}

impl TenantKey {
    pub(crate) fn new(
        tenant: &TenantId,
        generation: u64,
        key: Arc<SealingKey>,
        under: Arc<SealingKey>,
    ) -> Self {
        let tag = tag(tenant, &key).into();
        Self {
            generation,
            key,
            tag,
            under,
        }
    }
}

/// A change to the view, applied when its batch is durable.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Other keys that the enclave speaks with: the enclave's own, not the view's.
    Speaking(Box<crate::keys::Speaking>),
    /// A call waits for approval, or that is decided: the enclave's own, too.
    Approval(ApprovalEffect),
    TenantKey(TenantId, TenantKey),
    Tenant(Held<Tenant>),
    Vendor(Held<Vendor>),
    Client(Held<Client>),
    Provider(Held<Provider>),
    App(Held<App>),
    AppSecret(AppId, HeldSealed),
    Grant(Held<Grant>),
    Custody(GrantId, Held<Custody>),
    Journal(GrantId, HeldSealed),
    JournalGone(GrantId),
    /// The successor of a generation of a grant's refresh token.
    Orphan(GrantId, u64, HeldSealed),
    OrphanGone(GrantId, u64),
    Revocation(GrantId, HeldSealed),
    ToldProvider(GrantId),
    GrantGone(GrantId),
    Freeze(Held<Freeze>),
    Thaw(FreezeName),
    Revoked(Held<RevokedToken>),
    RevocationGone(String),
    /// A tenant's policy, set or removed.
    Policy(Held<TenantPolicy>),
    /// A grant was used, fell asleep, was woken, or its tenant told of its review.
    Life(GrantId, Held<Life>),
    /// A tenant's webhook, made or served further.
    Webhook(Held<Webhook>),
    WebhookGone((TenantId, WebhookId)),
    /// A tenant is erased, or its erasure is further.
    Erasure(Held<Erasure>),
}

/// The view.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) tenant_keys: HashMap<TenantId, TenantKey>,
    pub(crate) tenants: BTreeMap<TenantId, Held<Tenant>>,
    pub(crate) vendors: BTreeMap<VendorId, Held<Vendor>>,
    pub(crate) clients: BTreeMap<ClientId, Held<Client>>,
    pub(crate) clients_by_spki: HashMap<[u8; 32], ClientId>,
    pub(crate) clients_by_spiffe_id: HashMap<SpiffeId, ClientId>,
    pub(crate) providers: BTreeMap<ProviderId, Held<Provider>>,
    pub(crate) apps: BTreeMap<AppId, Held<App>>,
    pub(crate) app_secrets: HashMap<AppId, HeldSealed>,
    pub(crate) grants: BTreeMap<GrantId, Held<Grant>>,
    pub(crate) grants_by_client: HashMap<ClientId, BTreeSet<GrantId>>,
    pub(crate) custody: HashMap<GrantId, Held<Custody>>,
    pub(crate) journal: HashMap<GrantId, HeldSealed>,
    /// Refresh tokens that a former owner left, by the generation they replace.
    pub(crate) orphans: BTreeMap<(GrantId, u64), HeldSealed>,
    /// The refresh tokens that providers are to be told to revoke.
    pub(crate) revocations: HashMap<GrantId, HeldSealed>,
    pub(crate) freezes: HashMap<FreezeName, Held<Freeze>>,
    /// The tokens that were revoked, by their ids.
    pub(crate) revoked: HashMap<String, Held<RevokedToken>>,
    pub(crate) revoked_by_expiry: BTreeSet<(u64, String)>,
    pub(crate) erasures: BTreeMap<TenantId, Held<Erasure>>,
    pub(crate) policies: HashMap<TenantId, Held<TenantPolicy>>,
    pub(crate) lives: HashMap<GrantId, Held<Life>>,
    /// Grants that can fall asleep or are to be reviewed.
    pub(crate) tended: BTreeSet<GrantId>,
    pub(crate) last_uses: LastUses,
    pub(crate) webhooks: BTreeMap<(TenantId, WebhookId), Held<Webhook>>,
    /// Rises with each freeze and thaw of this boot.
    pub(crate) freeze_epoch: u64,
    /// What many grants have in common.
    names: Shared<str>,
    scopes: Shared<[Box<str>]>,
    /// What tenants with the same policy have in common.
    compiled: Shared<Compiled>,
}

/// The first bytes of an id, in the ids' order: most comparisons need no more, and no look at the id itself.
type IdFront = u128;

fn front(id: &GrantId) -> IdFront {
    let mut front = [0; 16];
    for (to, from) in front.iter_mut().zip(id.as_str().bytes()) {
        *to = from;
    }
    u128::from_be_bytes(front)
}

impl View {
    /// Gives up what there is most of without freeing it piece by piece, which takes long: for a process that ends,
    /// whose memory goes back as a whole. Tokens in it are sealed; keys are not among it.
    pub(crate) fn abandon(&mut self) {
        mem::forget(mem::take(&mut self.grants));
        mem::forget(mem::take(&mut self.custody));
        mem::forget(mem::take(&mut self.grants_by_client));
    }

    pub(crate) fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Speaking(_) | Effect::Approval(_) => {}
            Effect::Erasure(held) => {
                self.forget(&held.value.tenant);
                self.erasures.insert(held.value.tenant.clone(), held);
            }
            // What was on its way when its tenant was erased.
            Effect::TenantKey(id, _) if self.erasures.contains_key(&id) => {}
            Effect::Tenant(held) if self.erasures.contains_key(&held.value.id) => {}
            Effect::Grant(held) if self.erasures.contains_key(&held.value.tenant) => {}
            Effect::Custody(_, held) if self.erasures.contains_key(&held.value.tenant) => {}
            Effect::Life(_, held) if self.erasures.contains_key(&held.value.tenant) => {}
            Effect::Webhook(held) if self.erasures.contains_key(&held.value.tenant) => {}
            Effect::Webhook(held) => {
                let name = (held.value.tenant.clone(), held.value.id.clone());
                self.webhooks.insert(name, held);
            }
            Effect::WebhookGone(name) => {
                self.webhooks.remove(&name);
            }
            Effect::Policy(held) if self.erasures.contains_key(&held.value.tenant) => {}
            Effect::Policy(mut held) => {
                if let Rules::Compiled(compiled) = &mut Arc::make_mut(&mut held.value).rules {
                    self.compiled.keep(compiled);
                }
                self.policies.insert(held.value.tenant.clone(), held);
            }
            Effect::Life(id, held) => {
                self.lives.insert(id, held);
            }
            Effect::TenantKey(id, key) => {
                self.tenant_keys.insert(id, key);
            }
            Effect::Tenant(held) => {
                self.tenants.insert(held.value.id.clone(), held);
            }
            Effect::Vendor(held) => {
                self.vendors.insert(held.value.id.clone(), held);
            }
            Effect::Client(held) => {
                let id = held.value.id.clone();
                if let Some(before) = self.clients.get(&id) {
                    if let Some(spki) = &before.value.tls_spki_sha256 {
                        self.clients_by_spki.remove(spki);
                    }
                    if let Some(spiffe_id) = &before.value.spiffe_id {
                        self.clients_by_spiffe_id.remove(spiffe_id);
                    }
                }
                if let Some(spki) = held.value.tls_spki_sha256 {
                    self.clients_by_spki.insert(spki, id.clone());
                }
                if let Some(spiffe_id) = held.value.spiffe_id.clone() {
                    self.clients_by_spiffe_id.insert(spiffe_id, id.clone());
                }
                self.clients.insert(id, held);
            }
            Effect::Provider(held) => {
                self.providers.insert(held.value.id.clone(), held);
            }
            Effect::App(held) => {
                self.apps.insert(held.value.id.clone(), held);
            }
            Effect::AppSecret(id, held) => {
                self.app_secrets.insert(id, held);
            }
            Effect::Grant(mut held) => {
                let grant = Arc::make_mut(&mut held.value);
                self.share_id(&mut grant.id);
                self.share(grant);
                self.tend(&held.value);
                let id = &held.value.id;
                if let Some(before) = self.grants.get(id) {
                    for client in &before.value.clients {
                        if let Some(grants) = self.grants_by_client.get_mut(client) {
                            grants.remove(id);
                        }
                    }
                }
                for client in &held.value.clients {
                    let grants = self.grants_by_client.entry(client.clone()).or_default();
                    grants.insert(id.clone());
                }
                self.grants.insert(id.clone(), held);
            }
            Effect::Custody(mut id, mut held) => {
                if let Some((known, _)) = self.grants.get_key_value(&id) {
                    id = known.clone();
                }
                let custody = Arc::make_mut(&mut held.value);
                custody.tenant.share(&mut self.names);
                self.custody.insert(id, held);
            }
            Effect::Journal(id, held) => {
                self.journal.insert(id, held);
            }
            Effect::JournalGone(id) => {
                self.journal.remove(&id);
            }
            Effect::Orphan(id, replaces, held) => {
                self.orphans.insert((id, replaces), held);
            }
            Effect::OrphanGone(id, replaces) => {
                self.orphans.remove(&(id, replaces));
            }
            Effect::ToldProvider(id) => {
                self.revocations.remove(&id);
            }
            Effect::Revocation(id, held) => {
                self.revocations.insert(id, held);
            }
            Effect::GrantGone(id) => {
                if let Some(held) = self.grants.remove(&id) {
                    for client in &held.value.clients {
                        if let Some(grants) = self.grants_by_client.get_mut(client) {
                            grants.remove(&id);
                        }
                    }
                }
                self.journal.remove(&id);
                self.revocations.remove(&id);
                self.lives.remove(&id);
                self.tended.remove(&id);
                self.last_uses.forget(&id);
            }
            Effect::Freeze(held) => {
                self.freezes.insert(held.value.name(), held);
                self.freeze_epoch = self.freeze_epoch.saturating_add(1);
            }
            Effect::Revoked(held) => {
                let RevokedToken { jti, expires_at_s } = &*held.value;
                self.revoked_by_expiry.insert((*expires_at_s, jti.clone()));
                self.revoked.insert(jti.clone(), held);
            }
            Effect::RevocationGone(jti) => {
                if let Some(held) = self.revoked.remove(&jti) {
                    self.revoked_by_expiry
                        .remove(&(held.value.expires_at_s, jti));
                }
            }
            Effect::Thaw(name) => {
                self.freezes.remove(&name);
                self.freeze_epoch = self.freeze_epoch.saturating_add(1);
            }
        }
    }

    /// Takes in all the grants and erasures that a start found, after everything else. At once it takes a fraction of
    /// the time that it takes one by one.
    pub(crate) fn fill(&mut self, grants: Vec<Held<Grant>>, erasures: Vec<Held<Erasure>>) {
        for held in erasures {
            self.tenant_keys.remove(&held.value.tenant);
            self.tenants.remove(&held.value.tenant);
            self.erasures.insert(held.value.tenant.clone(), held);
        }
        let (gone, grants): (Vec<_>, Vec<_>) = grants
            .into_iter()
            .partition(|held| self.erasures.contains_key(&held.value.tenant));
        if !self.erasures.is_empty() {
            let erasures = &self.erasures;
            self.custody
                .retain(|_, held| !erasures.contains_key(&held.value.tenant));
            let gone: HashSet<&GrantId> = gone.iter().map(|held| &held.value.id).collect();
            self.orphans.retain(|(grant, _), _| !gone.contains(grant));
            self.journal.retain(|grant, _| !gone.contains(grant));
            self.revocations.retain(|grant, _| !gone.contains(grant));
            self.lives.retain(|grant, _| !gone.contains(grant));
        }
        for held in &grants {
            self.tend(&held.value);
        }
        let mut grants: Vec<(IdFront, Held<Grant>)> = grants
            .into_iter()
            .map(|held| (front(&held.value.id), held))
            .collect();
        grants.sort_unstable_by(|(a_front, a), (b_front, b)| {
            let by_front = a_front.cmp(b_front);
            by_front.then_with(|| a.value.id.cmp(&b.value.id))
        });
        let mut by_client: HashMap<ClientId, Vec<GrantId>> = HashMap::new();
        for (_, held) in &grants {
            for client in &held.value.clients {
                let ids = match by_client.get_mut(client) {
                    Some(ids) => ids,
                    None => by_client.entry(client.clone()).or_default(),
                };
                ids.push(held.value.id.clone());
            }
        }
        let by_client = by_client.into_iter();
        self.grants_by_client = by_client
            .map(|(client, ids)| (client, ids.into_iter().collect()))
            .collect();
        let grants = grants.into_iter();
        self.grants = grants
            .map(|(_, held)| (held.value.id.clone(), held))
            .collect();
    }

    /// Notes whether there will be something to do in a grant's life.
    fn tend(&mut self, grant: &Grant) {
        let tended = grant.terms.as_deref().is_some_and(GrantTerms::tended);
        if tended {
            self.tended.insert(grant.id.clone());
        } else {
            self.tended.remove(&grant.id);
        }
    }

    /// Drops all that is a tenant's.
    fn forget(&mut self, tenant: &TenantId) {
        self.tenant_keys.remove(tenant);
        self.tenants.remove(tenant);
        self.policies.remove(tenant);
        self.webhooks.retain(|(of, _), _| of != tenant);
        let grants = self.grants.values();
        let grants = grants.filter(|held| held.value.tenant == *tenant);
        let grants: BTreeSet<GrantId> = grants.map(|held| held.value.id.clone()).collect();
        for id in &grants {
            self.apply(Effect::GrantGone(id.clone()));
        }
        self.custody.retain(|_, held| held.value.tenant != *tenant);
        self.orphans.retain(|(grant, _), _| !grants.contains(grant));
    }

    /// Lets a grant have its id from its custody.
    fn share_id(&self, id: &mut GrantId) {
        if let Some((known, _)) = self.custody.get_key_value(id) {
            *id = known.clone();
        }
    }

    /// Lets a grant hold what others hold too.
    pub(crate) fn share(&mut self, grant: &mut Grant) {
        let Grant {
            id: _,
            tenant,
            app,
            clients,
            targets,
            scopes,
            created_at_s: _,
            expires_at_s: _,
            operations,
            hosts,
            terms: _,
            allow_upstream_bound: _,
        } = grant;
        tenant.share(&mut self.names);
        app.share(&mut self.names);
        clients.shrink_to_fit();
        for client in clients {
            client.share(&mut self.names);
        }
        targets.shrink_to_fit();
        for target in targets {
            target.share(&mut self.names);
        }
        scopes.share(&mut self.scopes);
        operations.shrink_to_fit();
        for name in operations {
            name.target.share(&mut self.names);
            name.operation.share(&mut self.names);
        }
        hosts.shrink_to_fit();
        for host in hosts {
            host.target.share(&mut self.names);
        }
    }

    /// The first subject of what is touched that a freeze covers.
    pub(crate) fn frozen(&self, touched: &Touched) -> Option<Subject> {
        if self.freezes.is_empty() {
            return None;
        }
        let covered = |subject: &Subject| {
            let everywhere = (None, subject.clone());
            if self.freezes.contains_key(&everywhere) {
                return true;
            }
            let Some(tenant) = &touched.tenant else {
                return false;
            };
            let for_tenant = (Some(tenant.clone()), subject.clone());
            self.freezes.contains_key(&for_tenant)
        };
        touched.subjects.iter().find(|s| covered(s)).cloned()
    }

    /// Why nothing that touches this may go on, if so: a freeze, a grant that
    /// was revoked or deleted, or a policy that was changed and denies it.
    pub(crate) fn stopped(&self, touched: &Touched) -> Option<Denied> {
        if let Some(subject) = self.frozen(touched) {
            return Some(Denied::Frozen { subject });
        }
        let ended = touched.subjects.iter().find_map(|subject| {
            if let Subject::Grant(grant) = subject {
                self.ended(grant)
            } else {
                None
            }
        });
        let overtaken = || ruling::overtaken(self, touched.ruled.as_deref()?);
        ended.or_else(overtaken)
    }

    /// Whether a grant has come to its end.
    fn ended(&self, grant: &GrantId) -> Option<Denied> {
        if !self.grants.contains_key(grant) {
            return Some(Denied::NoSuchGrant);
        }
        self.is_revoked(grant).then_some(Denied::Revoked)
    }

    /// Whether a grant's owner revoked it.
    pub(crate) fn is_revoked(&self, grant: &GrantId) -> bool {
        let custody = self.custody.get(grant);
        custody.is_some_and(|held| held.value.phase == Phase::Revoked)
    }

    /// All that a request for a grant touches.
    pub(crate) fn touched(
        &self,
        grant: &Grant,
        client: Option<&Client>,
        jkt: Option<String>,
    ) -> Touched {
        // As many as there can be.
        let mut subjects = Vec::with_capacity(8);
        subjects.extend([
            Subject::Grant(grant.id.clone()),
            Subject::Tenant(grant.tenant.clone()),
            Subject::App(grant.app.clone()),
        ]);
        if let Some(app) = self.apps.get(&grant.app) {
            subjects.push(Subject::Provider(app.value.provider.clone()));
            subjects.push(Subject::Vendor(app.value.vendor.clone()));
        }
        if let Some(client) = client {
            subjects.push(Subject::Client(client.id.clone()));
            let vendor = Subject::Vendor(client.vendor.clone());
            if !subjects.contains(&vendor) {
                subjects.push(vendor);
            }
        }
        subjects.extend(jkt.map(Subject::Key));
        Touched {
            tenant: Some(grant.tenant.clone()),
            subjects,
            ruled: None,
        }
    }

    /// The key of a tenant's realm.
    pub(crate) fn realm_key(&self, tenant: &TenantId) -> Result<Arc<SealingKey>, RecordError> {
        self.tenant_key(tenant).map(|held| Arc::clone(&held.key))
    }

    /// The same, with how leaves name the tenant.
    pub(crate) fn tenant_key(&self, tenant: &TenantId) -> Result<&TenantKey, RecordError> {
        self.tenant_keys.get(tenant).ok_or(RecordError::NoRealmKey)
    }

    /// Why a grant needs its owner, if it does.
    pub(crate) fn needs_consent(&self, grant: &GrantId) -> Option<Cause> {
        match self.custody.get(grant)?.value.phase {
            Phase::NeedsConsent { cause } => Some(cause),
            Phase::Idle | Phase::Intent { .. } | Phase::Uncertain { .. } | Phase::Revoked => None,
        }
    }
}

#[cfg(test)]
mod tests;
