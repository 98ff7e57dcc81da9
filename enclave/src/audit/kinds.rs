//! The kinds of leaves, as everybody may read them.

macro_rules! kinds {
    ($($kind:ident = $word:literal,)+) => {
        /// What happened, in the one word that is not sealed. What each is stands at [`Event`](super::Event).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum LeafKind { $($kind,)+ }

        impl LeafKind {
            /// All kinds.
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$kind,)+];

            /// Its word.
            pub(crate) const fn word(self) -> &'static str {
                match self { $(Self::$kind => $word,)+ }
            }

            /// The kind of a word.
            pub(crate) fn of_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$kind),)+ _ => None }
            }
        }
    };
}

kinds! {
    TokenIssued = "token_issued",
    UpstreamTokenReleased = "upstream_token_released",
    GatewayCall = "gateway_call",
    GatewayCompleted = "gateway_completed",
    ApprovalAsked = "approval_asked",
    ApprovalUsed = "approval_used",
    ApprovalApproved = "approval_approved",
    ApprovalDenied = "approval_denied",
    PolicyDenied = "policy_denied",
    PolicySet = "policy_set",
    Refreshed = "refreshed",
    RefreshRefused = "refresh_refused",
    NeedsConsent = "needs_consent",
    Deposited = "deposited",
    Connected = "connected",
    GrantRevoked = "grant_revoked",
    GrantDeleted = "grant_deleted",
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
    ClientChanged = "client_changed",
    KeyRotated = "key_rotated",
    KeyRetired = "key_retired",
    TenantKeyRotated = "tenant_key_rotated",
    TenantErased = "tenant_erased",
    TenantErasureDone = "tenant_erasure_done",
    DeniedBurst = "denied_burst",
    WebhookCreated = "webhook_created",
    WebhookDeleted = "webhook_deleted",
    WebhookDisabled = "webhook_disabled",
    CollateralExpiring = "collateral_expiring",
    Booted = "booted",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_is_of_one_kind() {
        for kind in LeafKind::ALL {
            assert_eq!(LeafKind::of_word(kind.word()), Some(*kind));
        }
        assert_eq!(LeafKind::of_word("froze"), None);
    }
}
