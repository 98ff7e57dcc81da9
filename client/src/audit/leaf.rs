//! The schema of leaves: what everybody may read of one.

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use tlog::{Hash, TreeHead};

use super::name::{Boot, LogName};

/// The version of leaves that is read.
const VERSION: u8 = 1;

/// Characters of a tenant's tag: an HMAC-SHA-256 in base64url.
const TAG_CHARS: usize = 43;

/// Least characters of a private part: salt and tag in base64url.
const MIN_PRIVATE_CHARS: usize = 64;

/// Why bytes are no leaf of a log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LeafError {
    /// Not the members that a leaf has.
    #[error("not a leaf: {why}")]
    Json {
        /// What the reader says.
        why: String,
    },
    /// Of a version that is not known.
    #[error("a leaf of version {found}, which this program does not know")]
    Version {
        /// The version.
        found: u8,
    },
    /// A kind that is not known.
    #[error("a leaf of a kind that this program does not know: {found:?}")]
    Kind {
        /// The kind.
        found: String,
    },
    /// A kind that belongs to the other log.
    #[error("a leaf of kind {found:?} does not belong in this log")]
    OtherLog {
        /// The kind.
        found: &'static str,
    },
    /// The boot is no identity, or not that of the log.
    #[error("the leaf's boot is not that of the log")]
    Boot,
    /// The tenant is named by no tag.
    #[error("the leaf's tenant is no tag")]
    Tenant,
    /// Sequence numbers begin at 1.
    #[error("the leaf has no sequence number")]
    Number,
    /// The private part is no sealed text.
    #[error("the leaf's private part is not sealed")]
    Private,
    /// The public part is not that of its kind.
    #[error("the leaf's public part is not that of its kind")]
    Public,
}

macro_rules! kinds {
    ($($log:ident: $($kind:ident = $word:literal),+ $(,)?;)+) => {
        /// What happened, in the one word that everybody may read.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "the words say it; docs/audit.md explains them")]
        pub enum Kind { $($($kind,)+)+ }

        impl Kind {
            /// All kinds.
            pub const ALL: &[Self] = &[$($(Self::$kind,)+)+];

            /// Its word.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $($(Self::$kind => $word,)+)+ }
            }

            fn parse(word: &str) -> Option<Self> {
                match word { $($($word => Some(Self::$kind),)+)+ _ => None }
            }

            /// Whether it belongs in the control log.
            #[must_use]
            pub const fn is_control(self) -> bool {
                match self { $($(Self::$kind => kinds!(@ $log),)+)+ }
            }
        }
    };
    (@ control) => { true };
    (@ issuance) => { false };
}

kinds! {
    issuance:
        TokenIssued = "token_issued",
        UpstreamTokenReleased = "upstream_token_released",
        GatewayCall = "gateway_call",
        GatewayCompleted = "gateway_completed",
        Refreshed = "refreshed",
        RefreshRefused = "refresh_refused",
        ApprovalAsked = "approval_asked",
        ApprovalUsed = "approval_used",
        PolicyDenied = "policy_denied";
    control:
        NeedsConsent = "needs_consent",
        Deposited = "deposited",
        Connected = "connected",
        GrantRevoked = "grant_revoked",
        GrantDeleted = "grant_deleted",
        ApprovalApproved = "approval_approved",
        ApprovalDenied = "approval_denied",
        GrantChanged = "grant_changed",
        GrantSlept = "grant_slept",
        GrantWoken = "grant_woken",
        GrantReviewDue = "grant_review_due",
        TenantLimitsSet = "tenant_limits_set",
        ProviderTold = "provider_told",
        TokenRevoked = "token_revoked",
        Frozen = "frozen",
        Thawed = "thawed",
        Alive = "alive",
        Unused = "unused",
        Registered = "registered",
        PolicySet = "policy_set",
        ClientChanged = "client_changed",
        KeyRotated = "key_rotated",
        KeyRetired = "key_retired",
        TenantKeyRotated = "tenant_key_rotated",
        TenantErased = "tenant_erased",
        TenantErasureDone = "tenant_erasure_done",
        DeniedBurst = "denied_burst",
        CollateralExpiring = "collateral_expiring",
        WebhookCreated = "webhook_created",
        WebhookDeleted = "webhook_deleted",
        WebhookDisabled = "webhook_disabled",
        Booted = "booted";
}

/// A head of an issuance log that the control log holds fast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Whose log.
    pub boot: Boot,
    /// Its size and root.
    pub head: TreeHead,
    /// Whether the log ended there.
    pub is_last: bool,
}

/// What everybody may read of a leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf<'a> {
    /// The boot that wrote it.
    pub boot: &'a str,
    /// When, Unix time in seconds.
    pub at_s: u64,
    /// What happened.
    pub kind: Kind,
    /// The tenant's tag; none for what is of no tenant.
    pub tenant: Option<&'a str>,
    /// The tenant's own number of it.
    pub seq: u64,
    /// The head of an issuance log that it holds fast, if it does.
    pub anchor: Option<Anchor>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members<'a> {
    v: u8,
    boot: &'a str,
    at_s: u64,
    kind: &'a str,
    #[serde(deserialize_with = "present")]
    tenant: Option<&'a str>,
    seq: u64,
    public: Option<Value>,
    private: &'a str,
}

/// A member that may be null, but not left out.
fn present<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<&'de str>, D::Error> {
    Option::deserialize(value)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnchorMembers {
    boot: String,
    size: u64,
    root: String,
}

impl AnchorMembers {
    fn read(self, is_last: bool) -> Option<Anchor> {
        let Self { boot, size, root } = self;
        let root = Hash::from_base64(&root).ok()?;
        let head = TreeHead { size, root };
        (size > 0).then_some(())?;
        Some(Anchor {
            boot: boot.parse().ok()?,
            head,
            is_last,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BootedMembers {
    #[expect(dead_code, reason = "read so that it must be there")]
    platform: String,
    measurement: String,
    manifest_sha256: String,
    #[expect(dead_code, reason = "read so that it must be there")]
    manifest_sequence: u64,
    key_bundle_sha256: String,
    previous: Option<AnchorMembers>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AliveMembers {
    issuance: AnchorMembers,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyMembers {
    key: String,
    number: u32,
    id: String,
    #[expect(dead_code, reason = "read so that it can be nothing else")]
    overlap_until_s: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpiringMembers {
    expires_at_s: u64,
}

impl KeyMembers {
    fn holds(&self) -> bool {
        let Self {
            key,
            number,
            id,
            overlap_until_s: _,
        } = self;
        let kinds = ["signing", "ca", "deposit", "log"];
        kinds.contains(&key.as_str()) && *number > 0 && !id.is_empty()
    }
}

/// Reads a leaf of a log.
///
/// # Errors
/// [`LeafError`], the first rule broken.
pub fn parse<'a>(log: &LogName, entry: &'a [u8]) -> Result<Leaf<'a>, LeafError> {
    let members: Members<'a> = serde_json::from_slice(entry).map_err(|error| LeafError::Json {
        why: error.to_string(),
    })?;
    let Members {
        v,
        boot,
        at_s,
        kind: word,
        tenant,
        seq,
        public,
        private,
    } = members;
    if v != VERSION {
        return Err(LeafError::Version { found: v });
    }
    let kind = Kind::parse(word).ok_or_else(|| LeafError::Kind {
        found: word.to_owned(),
    })?;
    if kind.is_control() != (*log == LogName::Control) {
        return Err(LeafError::OtherLog { found: kind.word() });
    }
    let in_log = match log {
        LogName::Control => boot.parse::<Boot>().is_ok(),
        LogName::Issuance(own) => own.as_str() == boot,
    };
    if !in_log {
        return Err(LeafError::Boot);
    }
    if tenant.is_some_and(|tag| tag.len() != TAG_CHARS || !is_base64url(tag)) {
        return Err(LeafError::Tenant);
    }
    if seq == 0 {
        return Err(LeafError::Number);
    }
    if private.len() < MIN_PRIVATE_CHARS || !is_base64url(private) {
        return Err(LeafError::Private);
    }
    Ok(Leaf {
        boot,
        at_s,
        kind,
        tenant,
        seq,
        anchor: anchor(kind, public)?,
    })
}

fn anchor(kind: Kind, public: Option<Value>) -> Result<Option<Anchor>, LeafError> {
    let wrong = LeafError::Public;
    match (kind, public) {
        (Kind::Booted, Some(public)) => {
            let booted: BootedMembers =
                serde_json::from_value(public).map_err(|_| wrong.clone())?;
            let digests = [&booted.manifest_sha256, &booted.key_bundle_sha256];
            let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
            if digests.iter().any(|text| text.parse::<Boot>().is_err()) || !hex(&booted.measurement)
            {
                return Err(wrong);
            }
            let anchor = booted
                .previous
                .map(|previous| previous.read(true).ok_or(wrong));
            anchor.transpose()
        }
        (Kind::Alive, Some(public)) => {
            let alive: AliveMembers = serde_json::from_value(public).map_err(|_| wrong.clone())?;
            alive.issuance.read(false).ok_or(wrong).map(Some)
        }
        (Kind::KeyRotated | Kind::KeyRetired, Some(public)) => {
            let change = serde_json::from_value::<KeyMembers>(public);
            change
                .is_ok_and(|change| change.holds())
                .then_some(None)
                .ok_or(wrong)
        }
        (Kind::CollateralExpiring, Some(public)) => {
            let end = serde_json::from_value::<ExpiringMembers>(public);
            end.is_ok_and(|end| end.expires_at_s > 0)
                .then_some(None)
                .ok_or(wrong)
        }
        (Kind::Booted | Kind::KeyRotated | Kind::KeyRetired | Kind::CollateralExpiring, None)
        | (_, Some(_)) => Err(wrong),
        (_, None) => Ok(None),
    }
}

fn is_base64url(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn leaf(kind: &str) -> Value {
        json!({
            "v": 1, "boot": "a7".repeat(32), "at_s": 7, "kind": kind, "tenant": "T".repeat(43), "seq": 3,
            "private": "P".repeat(64),
        })
    }

    fn booted() -> Value {
        let mut leaf = leaf("booted");
        leaf["tenant"] = Value::Null;
        leaf["public"] = json!({
            "platform": "snp", "measurement": "ab".repeat(48), "manifest_sha256": "0a".repeat(32),
            "manifest_sequence": 1, "key_bundle_sha256": "0b".repeat(32),
            "previous": {"boot": "a7".repeat(32), "size": 2, "root": tlog::leaf_hash(b"").to_string()},
        });
        leaf
    }

    fn changed(kind: &str) -> Value {
        let mut leaf = leaf(kind);
        leaf["tenant"] = Value::Null;
        leaf["public"] = json!({"key": "log", "number": 2, "id": "ab", "overlap_until_s": 9});
        leaf
    }

    #[test]
    fn each_kind_is_read_in_its_own_log_alone() {
        let issuance = LogName::Issuance("a7".repeat(32).parse().unwrap());
        for kind in Kind::ALL {
            let text = if *kind == Kind::Booted {
                booted().to_string()
            } else if [Kind::KeyRotated, Kind::KeyRetired].contains(kind) {
                changed(kind.word()).to_string()
            } else if *kind == Kind::CollateralExpiring {
                let mut leaf = leaf(kind.word());
                leaf["public"] = json!({"expires_at_s": 9});
                leaf.to_string()
            } else {
                leaf(kind.word()).to_string()
            };
            let (own, other) = if kind.is_control() {
                (&LogName::Control, &issuance)
            } else {
                (&issuance, &LogName::Control)
            };
            let read = parse(own, text.as_bytes()).unwrap();
            assert_eq!((read.kind, read.seq, read.at_s), (*kind, 3, 7));
            assert_eq!(read.anchor.is_some(), *kind == Kind::Booted);
            let found = kind.word();
            assert_eq!(
                parse(other, text.as_bytes()),
                Err(LeafError::OtherLog { found })
            );
        }
        let mut alive = leaf("alive");
        alive["public"] = json!({"issuance": booted()["public"]["previous"]});
        let text = alive.to_string();
        let anchor = parse(&LogName::Control, text.as_bytes())
            .unwrap()
            .anchor
            .unwrap();
        assert_eq!((anchor.head.size, anchor.is_last), (2, false));
    }

    #[test]
    fn what_breaks_the_schema_is_refused() {
        let good = leaf("token_issued");
        let log = LogName::Issuance("a7".repeat(32).parse().unwrap());
        let with = |name: &str, value: Value| {
            let mut leaf = good.clone();
            leaf[name] = value;
            leaf.to_string()
        };
        let json = |text: &str| {
            let error = serde_json::from_str::<Members<'_>>(text).err().unwrap();
            LeafError::Json {
                why: error.to_string(),
            }
        };
        for text in [
            "{".to_owned(),
            with("extra", 1.into()),
            with("seq", (-1).into()),
            with("boot", "\u{1}".into()),
            good.to_string().replacen("\"tenant\"", "\"Tenant\"", 1),
            format!("{good} x"),
        ] {
            assert_eq!(parse(&log, text.as_bytes()), Err(json(&text)), "{text}");
        }
        let kind = LeafError::Kind { found: "x".into() };
        let rows = [
            (with("v", 2.into()), LeafError::Version { found: 2 }),
            (with("kind", "x".into()), kind),
            (with("boot", "00".repeat(32).into()), LeafError::Boot),
            (with("tenant", "T".into()), LeafError::Tenant),
            (with("tenant", "=".repeat(43).into()), LeafError::Tenant),
            (with("seq", 0.into()), LeafError::Number),
            (with("private", "P".into()), LeafError::Private),
            (with("private", "+".repeat(64).into()), LeafError::Private),
            (with("public", json!({})), LeafError::Public),
        ];
        for (text, error) in rows {
            assert_eq!(parse(&log, text.as_bytes()), Err(error), "{text}");
        }
        let refused = Err(LeafError::Public);
        let change = |change: fn(&mut Value)| {
            let mut leaf = booted();
            change(&mut leaf["public"]);
            leaf.to_string()
        };
        let key = |member: &str, value: Value| {
            let mut leaf = changed("key_rotated");
            leaf["public"][member] = value;
            leaf.to_string()
        };
        for text in [
            leaf("key_rotated").to_string(),
            leaf("key_retired").to_string(),
            key("key", "tenant".into()),
            key("number", 0.into()),
            key("id", "".into()),
            key("overlap_until_s", "x".into()),
            key("more", 1.into()),
            leaf("booted").to_string(),
            change(|public| public["platform"] = 1.into()),
            change(|public| public["measurement"] = "x".into()),
            change(|public| public["manifest_sha256"] = "00".into()),
            change(|public| public["more"] = 1.into()),
            change(|public| public["previous"]["size"] = 0.into()),
            change(|public| public["previous"]["root"] = "".into()),
            change(|public| public["previous"]["boot"] = "".into()),
        ] {
            assert_eq!(parse(&LogName::Control, text.as_bytes()), refused, "{text}");
        }
    }
}
