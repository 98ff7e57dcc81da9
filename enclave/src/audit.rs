//! Leaves of the logs: what is written down before an answer leaves.
//!
//! A leaf shows its kind, its time, the boot and the tenant's own sequence
//! number, so that a tenant can prove completeness without reading others'
//! leaves. The tenant is named by a keyed hash; all else is sealed to it.

mod kinds;
pub(crate) mod sequence;

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::hmac;
use serde::Serialize;

pub(crate) use kinds::LeafKind;

use crate::gateway::CallEnd;
use crate::ids::{ClientId, GrantId, TenantId, WebhookId};
use crate::json;
use crate::keys::KeyChange;
use crate::limits::Limits;
use crate::log::{Anchor, Booted};
use crate::mint::Confirmation;
use crate::ruling::Mark;
use crate::seal::{OneUseSalt, SealError, SealingKey, length_prefixed};
use crate::store::{Leaf, Log};
use crate::terms::GrantTerms;
use crate::time::Now;

pub(crate) const SEAL_LABEL: &[u8] = b"tokenkeep/leaf/private/v1";
const TAG_LABEL: &[u8] = b"tokenkeep/leaf/tenant/v1";
pub(crate) const VERSION: u8 = 1;

/// What happened, towards the tenant alone.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    TokenIssued {
        grant: &'a GrantId,
        client: &'a ClientId,
        resource: &'a str,
        scope: &'a str,
        #[serde(flatten)]
        cnf: &'a Confirmation,
        jti: &'a str,
        expires_at_s: u64,
        /// On whose behalf, the one who acts now first.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        actors: Vec<&'a str>,
        /// The client is an agent.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        agent: bool,
        /// Which policy of the tenant's permitted it; none if it has set none.
        #[serde(skip_serializing_if = "Option::is_none")]
        policy: Option<Mark>,
    },
    /// The provider's own access token leaves, bound to the client's key.
    UpstreamTokenReleased {
        grant: &'a GrantId,
        client: &'a ClientId,
        resource: &'a str,
        scope: String,
        #[serde(flatten)]
        cnf: Confirmation,
        token_sha256: String,
        expires_at_s: u64,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        actors: Vec<&'a str>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        agent: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        policy: Option<Mark>,
    },
    GatewayCall {
        grant: &'a GrantId,
        client: &'a ClientId,
        target: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        operation: Option<&'a str>,
        method: &'a str,
        path_sha256: String,
        jti: &'a str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        actors: Vec<&'a str>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        agent: bool,
        /// By which approval of a person.
        #[serde(skip_serializing_if = "Option::is_none")]
        approval: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        policy: Option<Mark>,
    },
    /// The grant allows it, and its tenant's policy does not.
    PolicyDenied {
        /// What the caller was told to name it by.
        decision: &'a str,
        action: &'a str,
        grant: &'a GrantId,
        client: &'a ClientId,
        target: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        operation: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        method: Option<&'a str>,
        scope: String,
        #[serde(flatten)]
        cnf: Confirmation,
        /// This build can't read the policy.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        unusable: bool,
        policy: &'a Mark,
    },
    /// A call needs a person's approval.
    ApprovalAsked(CallInQuestion<'a>),
    /// A call was made that a person had approved.
    ApprovalUsed(CallInQuestion<'a>),
    /// An administrator approved a call.
    ApprovalApproved(DecidedCall<'a>),
    /// An administrator denied a call.
    ApprovalDenied(DecidedCall<'a>),
    GatewayCompleted {
        grant: &'a GrantId,
        jti: &'a str,
        status: Option<u16>,
        request_bytes: u64,
        answer_bytes: u64,
        end: CallEnd,
    },
    Refreshed {
        grant: &'a GrantId,
        refresh_generation: u64,
        rotated: bool,
        /// What of the provider's answer was of no use, if anything.
        #[serde(skip_serializing_if = "Option::is_none")]
        refused: Option<&'a str>,
        /// Whether a copy of a deposited token, which was elsewhere before, may still be of use.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        exposed_before_deposit: bool,
    },
    /// The provider refused an exchange for a reason that does not concern the refresh token: it stays as it was.
    RefreshRefused {
        grant: &'a GrantId,
        error: &'a str,
    },
    NeedsConsent {
        grant: &'a GrantId,
        cause: &'a str,
    },
    Deposited {
        grant: &'a GrantId,
        by: &'a str,
        first: bool,
        exposed_before_deposit: bool,
    },
    /// The owner consented at the provider, and the code was exchanged in here.
    Connected {
        grant: &'a GrantId,
        by: &'a str,
        first: bool,
    },
    GrantRevoked {
        grant: &'a GrantId,
        by: &'a str,
        reason: &'a str,
    },
    GrantDeleted {
        grant: &'a GrantId,
        by: &'a str,
    },
    /// A grant's tenant set its terms anew.
    GrantChanged {
        grant: &'a GrantId,
        by: &'a str,
        /// Whether they let anything pass that those before did not.
        widened: bool,
        terms: &'a GrantTerms,
    },
    /// A grant was not used for as long as its tenant set.
    GrantSlept {
        grant: &'a GrantId,
        /// As far as it is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        last_used_s: Option<u64>,
    },
    GrantWoken {
        grant: &'a GrantId,
        by: &'a str,
    },
    /// The date has come at which a grant's tenant wants to look at it again: told once a date.
    GrantReviewDue {
        grant: &'a GrantId,
        review_at_s: u64,
        owner: &'a str,
        purpose: &'a str,
    },
    /// A tenant set what may be done with all of its grants.
    TenantLimitsSet {
        by: &'a str,
        widened: bool,
        limits: &'a Limits,
    },
    ProviderTold {
        grant: &'a GrantId,
        outcome: &'a str,
    },
    TokenRevoked {
        grant: &'a GrantId,
        client: &'a ClientId,
        jti: &'a str,
    },
    Frozen {
        subject: String,
        by: &'a str,
        reason: &'a str,
    },
    Thawed {
        subject: String,
        by: &'a str,
    },
    /// The enclave asks witnesses for their word, and has them see where this
    /// boot's issuance log stands.
    Alive {
        #[serde(skip_serializing_if = "Option::is_none")]
        issuance: Option<&'a Anchor>,
    },
    /// A number that was taken for a leaf which never became durable, because the
    /// service ended before: nothing happened under it.
    Unused,
    /// A tenant's policy was set, or removed if it has no digest.
    PolicySet {
        sequence: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        before_sha256: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
        loosens: bool,
        by: &'a str,
        /// SHA-256 of the SubjectPublicKeyInfo of the owner's key that signed the change.
        #[serde(skip_serializing_if = "Option::is_none")]
        signer_sha256: Option<String>,
    },
    Registered {
        what: &'a str,
        id: &'a str,
        by: &'a str,
    },
    ClientChanged {
        id: &'a ClientId,
        by: &'a str,
    },
    KeyRotated {
        #[serde(flatten)]
        change: &'a KeyChange,
        by: &'a str,
    },
    KeyRetired {
        #[serde(flatten)]
        change: &'a KeyChange,
    },
    TenantKeyRotated {
        number: u32,
        by: &'a str,
    },
    TenantErased {
        tenant: &'a TenantId,
        by: &'a str,
    },
    TenantErasureDone {
        tenant: &'a TenantId,
    },
    /// A client was refused at a grant again and again.
    DeniedBurst {
        grant: &'a GrantId,
        client: &'a ClientId,
        refusals: u64,
        since_s: u64,
    },
    /// A tenant's events are posted to a URL from now on.
    WebhookCreated {
        webhook: &'a WebhookId,
        /// Scheme, host and port: what is behind them may let whoever knows it post there.
        origin: String,
        /// Over the whole URL.
        url_sha256: String,
        kinds: Vec<&'static str>,
        by: &'a str,
    },
    WebhookDeleted {
        webhook: &'a WebhookId,
        by: &'a str,
    },
    /// Nothing was taken for too long.
    WebhookDisabled {
        webhook: &'a WebhookId,
        failing_since_s: u64,
        /// The position of the first leaf that was not delivered.
        next: u64,
    },
    /// What vouches for the service's evidence ends soon.
    CollateralExpiring {
        expires_at_s: u64,
    },
    Booted(&'a Booted),
}

/// A call that needs a person's approval.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CallInQuestion<'a> {
    pub(crate) approval: &'a str,
    pub(crate) grant: &'a GrantId,
    pub(crate) client: &'a ClientId,
    pub(crate) operation: String,
    pub(crate) method: &'a str,
    /// Over the path and query below the target.
    pub(crate) path_sha256: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) actors: Vec<&'a str>,
}

/// What an administrator decided of such a call.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DecidedCall<'a> {
    pub(crate) approval: &'a str,
    pub(crate) grant: &'a GrantId,
    pub(crate) client: &'a ClientId,
    pub(crate) operation: String,
    pub(crate) by: &'a str,
    pub(crate) reason: &'a str,
}

impl Event<'_> {
    fn kind(&self) -> LeafKind {
        match self {
            Self::TokenIssued { .. } => LeafKind::TokenIssued,
            Self::UpstreamTokenReleased { .. } => LeafKind::UpstreamTokenReleased,
            Self::GatewayCall { .. } => LeafKind::GatewayCall,
            Self::GatewayCompleted { .. } => LeafKind::GatewayCompleted,
            Self::ApprovalAsked(_) => LeafKind::ApprovalAsked,
            Self::ApprovalUsed(_) => LeafKind::ApprovalUsed,
            Self::ApprovalApproved(_) => LeafKind::ApprovalApproved,
            Self::ApprovalDenied(_) => LeafKind::ApprovalDenied,
            Self::PolicyDenied { .. } => LeafKind::PolicyDenied,
            Self::PolicySet { .. } => LeafKind::PolicySet,
            Self::Refreshed { .. } => LeafKind::Refreshed,
            Self::RefreshRefused { .. } => LeafKind::RefreshRefused,
            Self::NeedsConsent { .. } => LeafKind::NeedsConsent,
            Self::Deposited { .. } => LeafKind::Deposited,
            Self::Connected { .. } => LeafKind::Connected,
            Self::GrantRevoked { .. } => LeafKind::GrantRevoked,
            Self::GrantDeleted { .. } => LeafKind::GrantDeleted,
            Self::GrantChanged { .. } => LeafKind::GrantChanged,
            Self::GrantSlept { .. } => LeafKind::GrantSlept,
            Self::GrantWoken { .. } => LeafKind::GrantWoken,
            Self::GrantReviewDue { .. } => LeafKind::GrantReviewDue,
            Self::TenantLimitsSet { .. } => LeafKind::TenantLimitsSet,
            Self::ProviderTold { .. } => LeafKind::ProviderTold,
            Self::TokenRevoked { .. } => LeafKind::TokenRevoked,
            Self::Frozen { .. } => LeafKind::Frozen,
            Self::Thawed { .. } => LeafKind::Thawed,
            Self::Alive { .. } => LeafKind::Alive,
            Self::Unused => LeafKind::Unused,
            Self::Registered { .. } => LeafKind::Registered,
            Self::ClientChanged { .. } => LeafKind::ClientChanged,
            Self::KeyRotated { .. } => LeafKind::KeyRotated,
            Self::KeyRetired { .. } => LeafKind::KeyRetired,
            Self::TenantKeyRotated { .. } => LeafKind::TenantKeyRotated,
            Self::TenantErased { .. } => LeafKind::TenantErased,
            Self::TenantErasureDone { .. } => LeafKind::TenantErasureDone,
            Self::DeniedBurst { .. } => LeafKind::DeniedBurst,
            Self::WebhookCreated { .. } => LeafKind::WebhookCreated,
            Self::WebhookDeleted { .. } => LeafKind::WebhookDeleted,
            Self::WebhookDisabled { .. } => LeafKind::WebhookDisabled,
            Self::CollateralExpiring { .. } => LeafKind::CollateralExpiring,
            Self::Booted(_) => LeafKind::Booted,
        }
    }

    fn log(&self) -> Log {
        match self {
            Self::TokenIssued { .. }
            | Self::UpstreamTokenReleased { .. }
            | Self::GatewayCall { .. }
            | Self::GatewayCompleted { .. }
            | Self::ApprovalAsked(_)
            | Self::ApprovalUsed(_)
            | Self::PolicyDenied { .. }
            | Self::Refreshed { .. }
            | Self::RefreshRefused { .. } => Log::Issuance,
            Self::PolicySet { .. }
            | Self::ApprovalApproved(_)
            | Self::ApprovalDenied(_)
            | Self::NeedsConsent { .. }
            | Self::Deposited { .. }
            | Self::Connected { .. }
            | Self::GrantRevoked { .. }
            | Self::GrantDeleted { .. }
            | Self::GrantChanged { .. }
            | Self::GrantSlept { .. }
            | Self::GrantWoken { .. }
            | Self::GrantReviewDue { .. }
            | Self::TenantLimitsSet { .. }
            | Self::ProviderTold { .. }
            | Self::TokenRevoked { .. }
            | Self::Frozen { .. }
            | Self::Thawed { .. }
            | Self::Alive { .. }
            | Self::Unused
            | Self::Registered { .. }
            | Self::ClientChanged { .. }
            | Self::KeyRotated { .. }
            | Self::KeyRetired { .. }
            | Self::TenantKeyRotated { .. }
            | Self::TenantErased { .. }
            | Self::TenantErasureDone { .. }
            | Self::DeniedBurst { .. }
            | Self::WebhookCreated { .. }
            | Self::WebhookDeleted { .. }
            | Self::WebhookDisabled { .. }
            | Self::CollateralExpiring { .. }
            | Self::Booted(_) => Log::Control,
        }
    }

    /// What everybody may read of it.
    fn public(&self) -> Option<Shown<'_>> {
        match self {
            Self::Booted(booted) => Some(Shown::Booted(booted)),
            Self::Alive { issuance } => issuance.map(|issuance| Shown::Alive { issuance }),
            Self::CollateralExpiring { expires_at_s } => Some(Shown::Expiring {
                expires_at_s: *expires_at_s,
            }),
            Self::KeyRotated { change, by: _ } | Self::KeyRetired { change } => {
                Some(Shown::Key(change))
            }
            Self::TokenIssued { .. }
            | Self::UpstreamTokenReleased { .. }
            | Self::GatewayCall { .. }
            | Self::GatewayCompleted { .. }
            | Self::ApprovalAsked(_)
            | Self::ApprovalUsed(_)
            | Self::ApprovalApproved(_)
            | Self::ApprovalDenied(_)
            | Self::PolicyDenied { .. }
            | Self::PolicySet { .. }
            | Self::Refreshed { .. }
            | Self::RefreshRefused { .. }
            | Self::NeedsConsent { .. }
            | Self::Deposited { .. }
            | Self::Connected { .. }
            | Self::ProviderTold { .. }
            | Self::TokenRevoked { .. }
            | Self::Frozen { .. }
            | Self::Thawed { .. }
            | Self::GrantRevoked { .. }
            | Self::GrantDeleted { .. }
            | Self::GrantChanged { .. }
            | Self::GrantSlept { .. }
            | Self::GrantWoken { .. }
            | Self::GrantReviewDue { .. }
            | Self::TenantLimitsSet { .. }
            | Self::Unused
            | Self::Registered { .. }
            | Self::TenantKeyRotated { .. }
            | Self::TenantErased { .. }
            | Self::TenantErasureDone { .. }
            | Self::DeniedBurst { .. }
            | Self::WebhookCreated { .. }
            | Self::WebhookDeleted { .. }
            | Self::WebhookDisabled { .. }
            | Self::ClientChanged { .. } => None,
        }
    }
}

/// The part of an event that is not sealed.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    Booted(&'a Booted),
    Alive { issuance: &'a Anchor },
    Expiring { expires_at_s: u64 },
    Key(&'a KeyChange),
}

#[derive(Serialize)]
struct Public<'a> {
    v: u8,
    boot: &'a str,
    at_s: u64,
    kind: &'a str,
    /// HMAC of the tenant's id under its own key; absent for the system's.
    tenant: Option<&'a str>,
    /// The tenant's own sequence number, from 1, across boots and logs.
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    public: Option<Shown<'a>>,
    /// The event, sealed to the tenant (or the system). It comes last, and is put in when all else is written: most of
    /// a leaf consists of it.
    private: &'a str,
}

/// Puts bytes into the empty text that ends a JSON object, as base64url, in which nothing needs an escape.
fn put_last(json: &mut Vec<u8>, bytes: &[u8]) -> Result<(), SealError> {
    const END: &[u8] = b"\"}";
    let front = json.strip_suffix(END).ok_or(SealError::Failed)?.len();
    let end = front.saturating_add(Base64UrlUnpadded::encoded_len(bytes));
    json.resize(end, 0);
    let text = json.get_mut(front..).unwrap_or_default();
    Base64UrlUnpadded::encode(bytes, text).map_err(|_| SealError::Failed)?;
    json.extend_from_slice(END);
    Ok(())
}

/// Writes leaves.
#[derive(Debug)]
pub(crate) struct Scribe {
    /// The boot identity, in hex.
    pub(crate) boot: String,
}

/// Whom a leaf is written for.
pub(crate) struct Reader<'a> {
    /// How leaves name the tenant; none for the system's own leaves.
    pub(crate) tag: Option<&'a str>,
    pub(crate) key: &'a SealingKey,
    pub(crate) seq: u64,
}

impl Scribe {
    /// The leaf for an event.
    pub(crate) fn leaf(
        &self,
        salt: OneUseSalt,
        now: &Now,
        reader: &Reader<'_>,
        event: &Event<'_>,
    ) -> Result<Leaf, SealError> {
        let kind = event.kind().word();
        let place = private_place(&self.boot, kind, reader.seq);
        let event_json = json::to_vec(event).map_err(|_| SealError::Failed)?;
        let sealed = reader
            .key
            .seal_with(salt, SEAL_LABEL, &place, &event_json)?;
        let public = Public {
            v: VERSION,
            boot: &self.boot,
            at_s: now.lo_s,
            kind,
            tenant: reader.tag,
            seq: reader.seq,
            public: event.public(),
            private: "",
        };
        let mut bytes = json::to_vec(&public).map_err(|_| SealError::Failed)?;
        put_last(&mut bytes, &sealed)?;
        Ok(Leaf::new(event.log(), bytes))
    }
}

/// What the private part of a leaf is bound to.
pub(crate) fn private_place(boot: &str, kind: &str, seq: u64) -> Vec<u8> {
    length_prefixed(&[boot.as_bytes(), kind.as_bytes(), &seq.to_be_bytes()])
}

/// How leaves name a tenant: an HMAC of its id under its own first key, so that its name stays when the key is
/// replaced.
pub(crate) fn tag(tenant: &TenantId, key: &SealingKey) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose_first());
    let data = length_prefixed(&[TAG_LABEL, tenant.as_str().as_bytes()]);
    Base64UrlUnpadded::encode_string(hmac::sign(&key, &data).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use zeroize::Zeroizing;

    #[test]
    fn a_leaf_names_no_one_in_clear() {
        let key = SealingKey::new(Zeroizing::new([3; 32]));
        let tenant = TenantId::parse("acme-holding").unwrap();
        let scribe = Scribe {
            boot: "00ff".to_owned(),
        };
        let now = Now {
            lo_s: 5,
            hi_s: 6,
            mono_ms: 7,
        };
        let name = tag(&tenant, &key);
        let reader = Reader {
            tag: Some(&name),
            key: &key,
            seq: 1,
        };
        let event = Event::TokenIssued {
            grant: &GrantId::parse("salesforce-main").unwrap(),
            client: &ClientId::parse("sync-worker").unwrap(),
            resource: "https://gateway.example/g/x/y",
            scope: "contacts.read",
            cnf: &Confirmation::Jkt("thumbprint".to_owned()),
            jti: "token-id",
            expires_at_s: 9,
            actors: vec!["jane"],
            agent: true,
            policy: None,
        };
        let salt = OneUseSalt::draw(&SystemRandom::new()).unwrap();
        let leaf = scribe.leaf(salt, &now, &reader, &event).unwrap();
        assert_eq!(leaf.log, Log::Issuance);
        let text = String::from_utf8(leaf.bytes).unwrap();
        assert!(text.contains("\"kind\":\"token_issued\""), "{text}");
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        let sealed = Base64UrlUnpadded::decode_vec(read["private"].as_str().unwrap()).unwrap();
        let place = private_place("00ff", "token_issued", 1);
        let opened = key.open(SEAL_LABEL, &place, &sealed).unwrap();
        let event: serde_json::Value = serde_json::from_slice(&opened).unwrap();
        assert_eq!(event["jti"], "token-id");
        for private in [
            "acme",
            "salesforce",
            "sync",
            "gateway.example",
            "contacts",
            "thumb",
            "token-id",
            "jane",
        ] {
            assert!(!text.contains(private), "{private} in {text}");
        }
    }
}
