//! How full the core's memories are and how providers do: numbers for whoever watches over the service.
//!
//! Numbers and ids of providers alone: nothing of a tenant, a client or a grant.

use std::collections::BTreeMap;

use crate::Enclave;
use crate::ids::{GrantId, ProviderId};
use crate::time::Now;

/// How much is held in memory, and how much may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Grants.
    pub grants: usize,
    /// Proofs that are remembered.
    pub proofs: usize,
    /// As many may be; then proofs are refused.
    pub proofs_capacity: usize,
    /// Proofs for providers that were relayed and are remembered.
    pub relayed_proofs: usize,
    /// As many may be; then such proofs are refused.
    pub relayed_proofs_capacity: usize,
    /// Client assertions that are remembered.
    pub assertions: usize,
    /// As many may be; then assertions are refused.
    pub assertions_capacity: usize,
    /// Grants for which an upstream access token is kept.
    pub upstream_tokens: usize,
    /// Servers of providers whose DPoP nonce is kept.
    pub server_nonces: usize,
    /// Tokens that were revoked and have not expired.
    pub revoked_tokens: usize,
}

/// For how many tenants a provider is left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldBack {
    /// Their circuit is open: the provider failed again and again.
    pub circuits_open: usize,
    /// The provider asked for patience by `Retry-After`.
    pub patient: usize,
}

impl Enclave {
    /// How full the memories are.
    #[must_use]
    pub fn fill(&self) -> Fill {
        let (grants, revoked_tokens) = {
            let view = self.view.read();
            (view.grants.len(), view.revoked.len())
        };
        Fill {
            grants,
            proofs: self.replays.len(),
            proofs_capacity: self.replays.capacity(),
            relayed_proofs: self.relayed.len(),
            relayed_proofs_capacity: self.relayed.capacity(),
            assertions: self.spent.len(),
            assertions_capacity: self.spent.capacity(),
            upstream_tokens: self.upstream.lock().len(),
            server_nonces: self.server_nonces.len(),
            revoked_tokens,
        }
    }

    /// The providers that are left alone, whoever asks.
    #[must_use]
    pub fn held_back(&self, now: &Now) -> BTreeMap<ProviderId, HeldBack> {
        self.pace.held_back(now)
    }

    /// The provider of a grant.
    #[must_use]
    pub fn provider_of(&self, grant: &GrantId) -> Option<ProviderId> {
        let view = self.view.read();
        let grant = view.grants.get(grant)?;
        let app = view.apps.get(&grant.value.app)?;
        Some(app.value.provider.clone())
    }
}
