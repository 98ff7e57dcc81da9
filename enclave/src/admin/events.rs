//! Events: the leaves of the control log that a tenant must hear of, opened for it. They are no record of their own, so
//! whoever goes on from a leaf's place misses nothing.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::freezes::subject_text;
use super::{AdminError, Administrator, forbid_unless};
use crate::Enclave;
use crate::audit::{LeafKind, SEAL_LABEL, VERSION, private_place};
use crate::custody::Cause;
use crate::freeze::Subject;
use crate::ids::{GrantId, TenantId};
use crate::seal::SealingKey;
use crate::view::View;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal,)+) => {
        /// What a tenant hears of.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum EventKind { $($(#[$doc])* $kind,)+ }

        impl EventKind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// Its stable word.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$kind => $word,)+ }
            }

            /// The kind of a word.
            #[must_use]
            pub fn of_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$kind),)+ _ => None }
            }
        }
    };
}

kinds! {
    /// Something of the tenant's was frozen.
    Freeze = "freeze",
    /// A freeze ended.
    Thaw = "thaw",
    /// A refresh token was lost between the provider and here.
    Loss = "loss",
    /// A refresh token was refused for another reason.
    NeedsConsent = "needs_consent",
    /// The tenant's policy was set or removed.
    PolicyChange = "policy_change",
    /// A client was refused at a grant again and again.
    DeniedBurst = "denied_burst",
    /// What vouches for the service's evidence ends soon.
    CollateralExpiry = "collateral_expiry",
    /// A grant's review date has come.
    GrantReviewDue = "grant_review_due",
    /// A grant was made, or given another refresh token.
    GrantConnected = "grant_connected",
    /// A grant was revoked or deleted.
    GrantEnded = "grant_ended",
    /// What the provider made of a revocation.
    ProviderTold = "provider_told",
    /// A webhook was made, deleted or given up.
    Webhook = "webhook",
    /// A grant's terms were set anew.
    GrantChange = "grant_change",
    /// A grant fell asleep for want of use.
    GrantSlept = "grant_slept",
    /// A grant that slept was woken.
    GrantWoken = "grant_woken",
    /// What may be done with all of the tenant's grants was set.
    LimitsChange = "limits_change",
    /// The tenant was given another key.
    KeyChange = "key_change",
}

/// A word that is of no kind of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no kind of event")]
pub struct UnknownKind;

impl TryFrom<String> for EventKind {
    type Error = UnknownKind;

    fn try_from(word: String) -> Result<Self, UnknownKind> {
        Self::of_word(&word).ok_or(UnknownKind)
    }
}

impl From<EventKind> for String {
    fn from(kind: EventKind) -> Self {
        kind.word().to_owned()
    }
}

/// Whose events are read, and which. The tenant's key is looked up for each reading: it may be replaced meanwhile, or
/// destroyed.
#[derive(Clone, Debug)]
pub struct EventReader {
    tenant: TenantId,
    tag: String,
    /// Empty for all.
    kinds: BTreeSet<EventKind>,
}

/// Why leaves were not read as events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The tenant has no key any more.
    #[error("the tenant was erased")]
    Erased,
    /// A leaf does not open that must: to pass over it would be to keep an event from the tenant.
    #[error("a leaf does not open")]
    Closed,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantEvent {
    /// What it is.
    pub kind: EventKind,
    /// When: the earliest that it can be.
    pub at_s: u64,
    /// The leaf's number among the tenant's own; 0 for a leaf of the service.
    pub number: u64,
    /// What happened, JSON.
    pub detail: String,
}

/// What is read of a leaf.
#[derive(Deserialize)]
struct Seen<'a> {
    v: u8,
    boot: &'a str,
    at_s: u64,
    kind: &'a str,
    tenant: Option<&'a str>,
    seq: u64,
    private: &'a str,
}

/// What is read of an event.
#[derive(Deserialize)]
struct Said<'a> {
    #[serde(default, borrow)]
    cause: Option<&'a str>,
    #[serde(default, borrow)]
    subject: Option<&'a str>,
}

impl Enclave {
    /// Reads the events of a tenant, for those who see the tenant. Without kinds, all.
    ///
    /// # Errors
    /// [`AdminError::Forbidden`], [`AdminError::NotFound`] if the tenant has no key.
    pub fn event_reader(
        &self,
        by: &Administrator,
        tenant: &TenantId,
        kinds: BTreeSet<EventKind>,
    ) -> Result<EventReader, AdminError> {
        forbid_unless(by.sees_tenant(tenant))?;
        let reader = self.reader_of(tenant, kinds);
        reader.ok_or(AdminError::NotFound("tenant"))
    }

    /// Reads the events of a tenant; none if it has no key.
    pub(super) fn reader_of(
        &self,
        tenant: &TenantId,
        kinds: BTreeSet<EventKind>,
    ) -> Option<EventReader> {
        let tag = self.view.read().tenant_key(tenant).ok()?.tag.to_string();
        Some(EventReader {
            tenant: tenant.clone(),
            tag,
            kinds,
        })
    }

    /// The events that leaves of the control log are to a reader, in their order; none for each that is none, or not
    /// the reader's to hear.
    ///
    /// # Errors
    /// [`EventError`].
    pub fn read_events<L: AsRef<[u8]>>(
        &self,
        reader: &EventReader,
        leaves: &[L],
    ) -> Result<Vec<Option<TenantEvent>>, EventError> {
        let key = self.view.read().realm_key(&reader.tenant);
        let key = key.map_err(|_| EventError::Erased)?;
        let concerned = Concerned {
            enclave: self,
            tenant: &reader.tenant,
            hangs_on: OnceCell::new(),
        };
        let leaves = leaves.iter();
        leaves
            .map(|leaf| self.read_event(reader, &key, &concerned, leaf.as_ref()))
            .collect()
    }

    fn read_event(
        &self,
        reader: &EventReader,
        key: &SealingKey,
        concerned: &Concerned<'_>,
        leaf: &[u8],
    ) -> Result<Option<TenantEvent>, EventError> {
        let Ok(seen) = serde_json::from_slice::<Seen<'_>>(leaf) else {
            return Ok(None);
        };
        let Some(of) = LeafKind::of_word(seen.kind).filter(|_| seen.v == VERSION) else {
            return Ok(None);
        };
        if !may_be(of, &reader.kinds) {
            return Ok(None);
        }
        let own = match seen.tenant {
            Some(tag) if tag == reader.tag => true,
            Some(_) => return Ok(None),
            None => false,
        };
        let key = if own { key } else { &self.system_key };
        let place = private_place(seen.boot, seen.kind, seen.seq);
        let sealed = Base64UrlUnpadded::decode_vec(seen.private);
        let sealed = sealed.map_err(|_| EventError::Closed)?;
        let opened = key.open(SEAL_LABEL, &place, &sealed);
        let opened = opened.map_err(|_| EventError::Closed)?;
        let detail = String::from_utf8(opened.to_vec()).map_err(|_| EventError::Closed)?;
        let said: Said<'_> = serde_json::from_str(&detail).map_err(|_| EventError::Closed)?;
        let wanted = |kind: &EventKind| reader.kinds.is_empty() || reader.kinds.contains(kind);
        let Some(kind) = kind_of(of, said.cause).filter(wanted) else {
            return Ok(None);
        };
        if own {
            let (at_s, number) = (seen.at_s, seen.seq);
            return Ok(Some(TenantEvent {
                kind,
                at_s,
                number,
                detail,
            }));
        }
        let detail = match (kind, said.subject) {
            (EventKind::CollateralExpiry, _) => detail,
            // Who froze for all tenants, and why, is not told to each of them.
            (EventKind::Freeze | EventKind::Thaw, Some(subject)) if concerned.by(subject) => {
                json!({"event": of.word(), "subject": subject}).to_string()
            }
            (_, _) => return Ok(None),
        };
        Ok(Some(TenantEvent {
            kind,
            at_s: seen.at_s,
            number: 0,
            detail,
        }))
    }
}

/// Whether a leaf of this kind may be an event that is asked for, before it is opened.
fn may_be(leaf: LeafKind, kinds: &BTreeSet<EventKind>) -> bool {
    let either = leaf == LeafKind::NeedsConsent;
    let wanted = |kind: EventKind| kinds.is_empty() || kinds.contains(&kind);
    match kind_of(leaf, None) {
        Some(kind) => wanted(kind) || (either && wanted(EventKind::Loss)),
        None => false,
    }
}

/// The kind of event that a kind of leaf is. Each kind of leaf stands here, so that a new one is decided on.
fn kind_of(leaf: LeafKind, cause: Option<&str>) -> Option<EventKind> {
    Some(match leaf {
        LeafKind::Frozen => EventKind::Freeze,
        LeafKind::Thawed => EventKind::Thaw,
        LeafKind::NeedsConsent if cause == Some(Cause::LostInExchange.word()) => EventKind::Loss,
        LeafKind::NeedsConsent => EventKind::NeedsConsent,
        LeafKind::PolicySet => EventKind::PolicyChange,
        LeafKind::DeniedBurst => EventKind::DeniedBurst,
        LeafKind::CollateralExpiring => EventKind::CollateralExpiry,
        LeafKind::GrantReviewDue => EventKind::GrantReviewDue,
        LeafKind::Deposited | LeafKind::Connected => EventKind::GrantConnected,
        LeafKind::GrantRevoked | LeafKind::GrantDeleted => EventKind::GrantEnded,
        LeafKind::GrantChanged => EventKind::GrantChange,
        LeafKind::GrantSlept => EventKind::GrantSlept,
        LeafKind::GrantWoken => EventKind::GrantWoken,
        LeafKind::TenantLimitsSet => EventKind::LimitsChange,
        LeafKind::TenantKeyRotated => EventKind::KeyChange,
        LeafKind::ProviderTold => EventKind::ProviderTold,
        LeafKind::WebhookCreated | LeafKind::WebhookDeleted | LeafKind::WebhookDisabled => {
            EventKind::Webhook
        }
        // What is used, call by call: for audits.
        LeafKind::TokenIssued
        | LeafKind::UpstreamTokenReleased
        | LeafKind::GatewayCall
        | LeafKind::GatewayCompleted
        | LeafKind::ApprovalAsked
        | LeafKind::ApprovalUsed
        | LeafKind::ApprovalApproved
        | LeafKind::ApprovalDenied
        | LeafKind::PolicyDenied
        | LeafKind::Refreshed
        | LeafKind::RefreshRefused
        | LeafKind::TokenRevoked
        // The service's own, and what has no reader any more.
        | LeafKind::Alive
        | LeafKind::Unused
        | LeafKind::Registered
        | LeafKind::ClientChanged
        | LeafKind::KeyRotated
        | LeafKind::KeyRetired
        | LeafKind::TenantErased
        | LeafKind::TenantErasureDone
        | LeafKind::Booted => return None,
    })
}

/// What a tenant's grants hang on, now; collected when the first freeze for all tenants is read.
struct Concerned<'a> {
    enclave: &'a Enclave,
    tenant: &'a TenantId,
    hangs_on: OnceCell<BTreeSet<String>>,
}

impl Concerned<'_> {
    /// Whether the tenant has a grant that hangs on what was frozen, by its text in leaves. A key is nobody's in
    /// particular: whose tokens are bound to it is not kept.
    fn by(&self, subject: &str) -> bool {
        let Some((what, id)) = subject.split_once('/') else {
            return false;
        };
        match what {
            "key" => true,
            "tenant" => self.tenant.as_str() == id,
            "grant" => GrantId::parse(id).is_ok_and(|id| {
                let view = self.enclave.view.read();
                let held = view.grants.get(&id);
                held.is_some_and(|held| held.value.tenant == *self.tenant)
            }),
            _ => {
                let collect = || hangs_on(&self.enclave.view.read(), self.tenant);
                self.hangs_on.get_or_init(collect).contains(subject)
            }
        }
    }
}

/// The apps, clients, providers and vendors that a tenant's grants hang on, by their texts in leaves.
fn hangs_on(view: &View, tenant: &TenantId) -> BTreeSet<String> {
    let grants = view.grants.values().map(|held| &held.value);
    let (mut apps, mut clients) = (BTreeSet::new(), BTreeSet::new());
    for grant in grants.filter(|grant| grant.tenant == *tenant) {
        apps.insert(&grant.app);
        clients.extend(&grant.clients);
    }
    let mut all = BTreeSet::new();
    for app in apps {
        all.insert(Subject::App(app.clone()));
        if let Some(held) = view.apps.get(app) {
            all.insert(Subject::Provider(held.value.provider.clone()));
            all.insert(Subject::Vendor(held.value.vendor.clone()));
        }
    }
    for client in clients {
        all.insert(Subject::Client(client.clone()));
        if let Some(held) = view.clients.get(client) {
            all.insert(Subject::Vendor(held.value.vendor.clone()));
        }
    }
    all.iter().map(subject_text).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{FreezeRequest, Role};
    use super::*;
    use crate::registry::Rotation;
    use crate::store::Log;
    use crate::testing::{World, id};

    fn administrator(roles: Vec<Role>) -> Administrator {
        Administrator {
            name: "who".into(),
            spki_sha256: [7; 32],
            roles,
        }
    }

    fn owner() -> Administrator {
        administrator(vec![Role::Tenant(id("acme"))])
    }

    fn reader(world: &World, kinds: &[EventKind]) -> EventReader {
        let kinds = kinds.iter().copied().collect();
        let reader = world.enclave.event_reader(&owner(), &id("acme"), kinds);
        reader.unwrap()
    }

    /// The events of the control log.
    fn events(world: &World, reader: &EventReader) -> Result<Vec<TenantEvent>, EventError> {
        let leaves = world.store.leaves.lock();
        let control = leaves.iter().filter(|leaf| leaf.log == Log::Control);
        let control: Vec<&[u8]> = control.map(|leaf| leaf.bytes.as_slice()).collect();
        let events = world.enclave.read_events(reader, &control)?;
        Ok(events.into_iter().flatten().collect())
    }

    fn detail(event: &TenantEvent) -> serde_json::Value {
        serde_json::from_str(&event.detail).unwrap()
    }

    /// The events of the control log, by their words and subjects.
    fn heard(world: &World, reader: &EventReader) -> Vec<(&'static str, String)> {
        let events = events(world, reader).unwrap();
        let named = events.iter().map(|event| {
            let subject = detail(event)["subject"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            (event.kind.word(), subject)
        });
        named.collect()
    }

    fn freeze(world: &World, by: &Administrator, tenant: Option<&str>, subject: Subject) {
        let request = FreezeRequest {
            subject,
            tenant: tenant.map(id),
            reason: "why".into(),
        };
        let pending = world.enclave.freeze(by, request, &world.now).unwrap();
        world.settle(pending);
    }

    #[test]
    fn a_tenant_hears_of_its_own_and_of_what_its_grants_hang_on() {
        let world = World::new(Rotation::Strict);
        let operator = administrator(vec![Role::Operator]);
        let view = world
            .enclave
            .grants(&owner(), &id("acme"), None, Default::default());
        let grant = view.unwrap().entries.remove(0).grant;
        let client = grant.clients[0].clone();
        let own = format!("client/{client}");
        freeze(
            &world,
            &owner(),
            Some("acme"),
            Subject::Client(client.clone()),
        );
        let vendor = world.enclave.client(&operator, &client).unwrap().vendor;
        freeze(&world, &operator, None, Subject::Vendor(vendor.clone()));
        freeze(&world, &operator, None, Subject::App(grant.app.clone()));
        // What it has no grant of is not its to hear, and neither is what somebody else froze for itself.
        let other = crate::registry::Vendor {
            id: id("elsewhere"),
            display_name: "elsewhere".into(),
        };
        let pending = world
            .enclave
            .create_vendor(world.admin(), other, &world.now);
        world.settle(pending.unwrap());
        freeze(&world, &operator, None, Subject::Vendor(id("elsewhere")));
        let all = reader(&world, &[]);
        let expected = [
            ("grant_connected", String::new()),
            ("freeze", own.clone()),
            ("freeze", format!("vendor/{vendor}")),
            ("freeze", format!("app/{}", grant.app)),
        ];
        assert_eq!(heard(&world, &all), expected);
        // Its own it hears whole; of what was frozen for all, not by whom and why.
        let told = events(&world, &all).unwrap();
        assert_eq!(detail(&told[1])["reason"], "why");
        assert_eq!(
            detail(&told[2]),
            json!({"event": "frozen", "subject": format!("vendor/{vendor}")})
        );
        assert_eq!((told[1].number > 0, told[2].number), (true, 0));
        let thawed = world.enclave.thaw(
            &owner(),
            Subject::Client(client),
            Some(id("acme")),
            &world.now,
        );
        world.settle(thawed.unwrap());
        let some = reader(&world, &[EventKind::Thaw]);
        assert_eq!(heard(&world, &some), [("thaw", own)]);
        let none = reader(&world, &[EventKind::Loss]);
        assert_eq!(heard(&world, &none), []);
    }

    #[test]
    fn nobody_else_hears_anything() {
        let world = World::new(Rotation::Strict);
        let acme: TenantId = id("acme");
        for role in [
            Role::Operator,
            Role::Vendor(id("crm-sync")),
            Role::Tenant(id("other")),
        ] {
            let by = administrator(vec![role]);
            let refused = world.enclave.event_reader(&by, &acme, BTreeSet::new());
            assert_eq!(refused.unwrap_err(), AdminError::Forbidden);
        }
        let by = administrator(vec![Role::TenantAuditor(id("nobody"))]);
        let refused = world
            .enclave
            .event_reader(&by, &id("nobody"), BTreeSet::new());
        assert_eq!(refused.unwrap_err(), AdminError::NotFound("tenant"));
    }

    #[test]
    fn what_is_no_leaf_of_ours_is_no_event_and_what_is_must_open() {
        let world = World::new(Rotation::Strict);
        let reader = reader(&world, &[]);
        let read = |leaf: &[u8]| {
            let read = world.enclave.read_events(&reader, &[leaf]);
            read.map(|mut events| events.remove(0))
        };
        let leaves = world.store.leaves.lock();
        let good = leaves
            .iter()
            .find(|leaf| matches!(read(&leaf.bytes), Ok(Some(_))))
            .unwrap();
        let good: serde_json::Value = serde_json::from_slice(&good.bytes).unwrap();
        let with = |name: &str, value: serde_json::Value| {
            let mut leaf = good.clone();
            leaf[name] = value;
            leaf.to_string().into_bytes()
        };
        for (leaf, expected) in [
            (b"{".to_vec(), Ok(None)),
            (with("v", 2.into()), Ok(None)),
            (with("tenant", "other".into()), Ok(None)),
            (with("kind", "refreshed".into()), Ok(None)),
            (with("kind", "unheard_of".into()), Ok(None)),
            (with("tenant", ().into()), Err(EventError::Closed)),
            (with("boot", "00".into()), Err(EventError::Closed)),
            (with("kind", "frozen".into()), Err(EventError::Closed)),
            (with("seq", 9.into()), Err(EventError::Closed)),
            (with("private", "A".into()), Err(EventError::Closed)),
        ] {
            let text = String::from_utf8_lossy(&leaf);
            assert_eq!(read(&leaf), expected, "{text}");
        }
    }

    #[test]
    fn a_reader_follows_its_tenants_key_and_ends_with_it() {
        let world = World::new(Rotation::Strict);
        let all = reader(&world, &[]);
        let acme: TenantId = id("acme");
        let subject = || Subject::Tenant(id("acme"));
        freeze(&world, &owner(), Some("acme"), subject());
        let rotated = world.enclave.rotate_tenant_key(&owner(), &acme, &world.now);
        world.settle(rotated.unwrap());
        let thawed = world
            .enclave
            .thaw(&owner(), subject(), Some(acme.clone()), &world.now);
        world.settle(thawed.unwrap());
        let words: Vec<&str> = heard(&world, &all).iter().map(|(word, _)| *word).collect();
        assert_eq!(words, ["grant_connected", "freeze", "key_change", "thaw"]);

        let erased = world.enclave.erase_tenant(&owner(), &acme, &world.now);
        world.settle(erased.unwrap());
        assert_eq!(events(&world, &all), Err(EventError::Erased));
    }

    #[test]
    fn each_word_is_of_one_kind_and_a_loss_is_told_from_a_refusal() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::of_word(kind.word()), Some(*kind));
        }
        assert_eq!(EventKind::of_word("freezes"), None);
        let lost = Some(Cause::LostInExchange.word());
        assert_eq!(kind_of(LeafKind::NeedsConsent, lost), Some(EventKind::Loss));
        let refused = Some(Cause::RefusedByProvider.word());
        assert_eq!(
            kind_of(LeafKind::NeedsConsent, refused),
            Some(EventKind::NeedsConsent)
        );
        let only = |kind| BTreeSet::from([kind]);
        assert!(may_be(LeafKind::NeedsConsent, &only(EventKind::Loss)));
        assert!(may_be(
            LeafKind::NeedsConsent,
            &only(EventKind::NeedsConsent)
        ));
        assert!(!may_be(LeafKind::NeedsConsent, &only(EventKind::Freeze)));
        assert!(!may_be(LeafKind::TokenIssued, &BTreeSet::new()));
    }
}
