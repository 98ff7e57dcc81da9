//! Events: the leaves of the control log that a tenant must hear of, opened for it. They are no record of their own, so
//! whoever goes on from a leaf's place misses nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Serialize};

use super::{AdminError, Administrator, forbid_unless};
use crate::Enclave;
use crate::audit::{SEAL_LABEL, VERSION, private_place, tag};
use crate::custody::Cause;
use crate::ids::TenantId;
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

/// Whose events are read, and which.
#[derive(Clone, Debug)]
pub struct EventReader {
    tenant: TenantId,
    tag: String,
    key: Arc<SealingKey>,
    /// Empty for all.
    kinds: BTreeSet<EventKind>,
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
        let key = self.view.read().realm_key(tenant).ok()?;
        Some(EventReader {
            tenant: tenant.clone(),
            tag: tag(tenant, &key),
            key,
            kinds,
        })
    }

    /// The event that a leaf of the control log is to a reader; none if it is none, or not the reader's to hear.
    #[must_use]
    pub fn read_event(&self, reader: &EventReader, entry: &[u8]) -> Option<TenantEvent> {
        let seen = serde_json::from_slice::<Seen<'_>>(entry).ok()?;
        if seen.v != VERSION || !may_be(seen.kind, &reader.kinds) {
            return None;
        }
        let own = match seen.tenant {
            Some(tag) if tag == reader.tag => true,
            Some(_) => return None,
            None => false,
        };
        let key = if own { &reader.key } else { &self.system_key };
        let place = private_place(seen.boot, seen.kind, seen.seq);
        let sealed = Base64UrlUnpadded::decode_vec(seen.private).ok()?;
        let opened = key.open(SEAL_LABEL, &place, &sealed).ok()?;
        let detail = String::from_utf8(opened.to_vec()).ok()?;
        let said = serde_json::from_str::<Said<'_>>(&detail).ok();
        let kind = kind_of(seen.kind, said.as_ref().and_then(|said| said.cause))?;
        if !reader.kinds.is_empty() && !reader.kinds.contains(&kind) {
            return None;
        }
        if !own {
            let subject = said.as_ref().and_then(|said| said.subject);
            if !self.concerns(&reader.tenant, kind, subject) {
                return None;
            }
        }
        Some(TenantEvent {
            kind,
            at_s: seen.at_s,
            number: if own { seen.seq } else { 0 },
            detail,
        })
    }

    /// Whether a leaf of the service is a tenant's to hear: a freeze for all tenants, of something that its grants
    /// hang on, or what concerns everybody.
    fn concerns(&self, tenant: &TenantId, kind: EventKind, subject: Option<&str>) -> bool {
        match kind {
            EventKind::CollateralExpiry => true,
            EventKind::Freeze | EventKind::Thaw => {
                subject.is_some_and(|subject| touches(&self.view.read(), tenant, subject))
            }
            EventKind::Loss
            | EventKind::NeedsConsent
            | EventKind::PolicyChange
            | EventKind::DeniedBurst
            | EventKind::GrantReviewDue
            | EventKind::GrantConnected
            | EventKind::GrantEnded
            | EventKind::Webhook
            | EventKind::ProviderTold => false,
        }
    }
}

/// Whether a leaf of this kind may be an event that is asked for, before it is opened.
fn may_be(leaf: &str, kinds: &BTreeSet<EventKind>) -> bool {
    let either = leaf == "needs_consent";
    let wanted = |kind: EventKind| kinds.is_empty() || kinds.contains(&kind);
    match kind_of(leaf, None) {
        Some(kind) => wanted(kind) || (either && wanted(EventKind::Loss)),
        None => false,
    }
}

/// The kind of event that a kind of leaf is.
fn kind_of(leaf: &str, cause: Option<&str>) -> Option<EventKind> {
    Some(match leaf {
        "frozen" => EventKind::Freeze,
        "thawed" => EventKind::Thaw,
        "needs_consent" if cause == Some(Cause::LostInExchange.word()) => EventKind::Loss,
        "needs_consent" => EventKind::NeedsConsent,
        "policy_set" => EventKind::PolicyChange,
        "denied_burst" => EventKind::DeniedBurst,
        "collateral_expiring" => EventKind::CollateralExpiry,
        "grant_review_due" => EventKind::GrantReviewDue,
        "deposited" | "connected" => EventKind::GrantConnected,
        "grant_revoked" | "grant_deleted" => EventKind::GrantEnded,
        "provider_told" => EventKind::ProviderTold,
        "webhook_created" | "webhook_deleted" | "webhook_disabled" => EventKind::Webhook,
        _ => return None,
    })
}

/// Whether a tenant has a grant that hangs on what was frozen, by its text in leaves. A key is nobody's in particular:
/// whose tokens are bound to it is not kept.
fn touches(view: &View, tenant: &TenantId, subject: &str) -> bool {
    let Some((what, id)) = subject.split_once('/') else {
        return false;
    };
    let mut grants = view
        .grants
        .values()
        .map(|held| &held.value)
        .filter(|grant| grant.tenant == *tenant);
    match what {
        "key" => true,
        "tenant" => tenant.as_str() == id,
        "grant" => grants.any(|grant| grant.id.as_str() == id),
        "app" => grants.any(|grant| grant.app.as_str() == id),
        "client" => grants.any(|grant| grant.clients.iter().any(|client| client.as_str() == id)),
        "provider" => grants.any(|grant| {
            let app = view.apps.get(&grant.app);
            app.is_some_and(|app| app.value.provider.as_str() == id)
        }),
        "vendor" => grants.any(|grant| {
            let app = view.apps.get(&grant.app);
            let of_app = app.is_some_and(|app| app.value.vendor.as_str() == id);
            let of_client = |client| {
                let client = view.clients.get(client);
                client.is_some_and(|client| client.value.vendor.as_str() == id)
            };
            of_app || grant.clients.iter().any(of_client)
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FreezeRequest, Role};
    use super::*;
    use crate::freeze::Subject;
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

    /// The events of the control log, by their words and subjects.
    fn heard(world: &World, reader: &EventReader) -> Vec<(&'static str, String)> {
        let leaves = world.store.leaves.lock();
        let control = leaves.iter().filter(|leaf| leaf.log == Log::Control);
        let events = control.filter_map(|leaf| world.enclave.read_event(reader, &leaf.bytes));
        events
            .map(|event| {
                let detail: serde_json::Value = serde_json::from_str(&event.detail).unwrap();
                let subject = detail["subject"].as_str().unwrap_or_default().to_owned();
                (event.kind.word(), subject)
            })
            .collect()
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
    fn what_is_no_leaf_of_ours_is_no_event() {
        let world = World::new(Rotation::Strict);
        let reader = reader(&world, &[]);
        let leaves = world.store.leaves.lock();
        let good = leaves
            .iter()
            .find(|leaf| world.enclave.read_event(&reader, &leaf.bytes).is_some())
            .unwrap();
        let good: serde_json::Value = serde_json::from_slice(&good.bytes).unwrap();
        let with = |name: &str, value: serde_json::Value| {
            let mut leaf = good.clone();
            leaf[name] = value;
            leaf.to_string().into_bytes()
        };
        for leaf in [
            b"{".to_vec(),
            with("v", 2.into()),
            with("tenant", "other".into()),
            with("tenant", ().into()),
            with("boot", "00".into()),
            with("kind", "frozen".into()),
            with("kind", "refreshed".into()),
            with("seq", 9.into()),
            with("private", "A".into()),
        ] {
            let text = String::from_utf8_lossy(&leaf);
            assert_eq!(world.enclave.read_event(&reader, &leaf), None, "{text}");
        }
    }

    #[test]
    fn each_word_is_of_one_kind_and_a_loss_is_told_from_a_refusal() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::of_word(kind.word()), Some(*kind));
        }
        assert_eq!(EventKind::of_word("freezes"), None);
        let lost = Some(Cause::LostInExchange.word());
        assert_eq!(kind_of("needs_consent", lost), Some(EventKind::Loss));
        let refused = Some(Cause::RefusedByProvider.word());
        assert_eq!(
            kind_of("needs_consent", refused),
            Some(EventKind::NeedsConsent)
        );
        let only = |kind| BTreeSet::from([kind]);
        assert!(may_be("needs_consent", &only(EventKind::Loss)));
        assert!(may_be("needs_consent", &only(EventKind::NeedsConsent)));
        assert!(!may_be("needs_consent", &only(EventKind::Freeze)));
        assert!(!may_be("token_issued", &BTreeSet::new()));
    }
}
