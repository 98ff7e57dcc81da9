//! The enclave's state, and what all its parts share.

use std::collections::HashMap;
use std::sync::Arc;

use attestation::{EXPORTER_BYTES, EvidenceStatement};
use parking_lot::{Mutex, RwLock};
use tenant_policy::Decisions;

use crate::approvals::Approvals;
use crate::audit::sequence::{Numbered, Sequences};
use crate::audit::{Event, Reader, Scribe};
use crate::authenticate::SpentAssertions;
use crate::boot::Randomness;
use crate::config::Config;
use crate::connect::Connects;
use crate::custody::{self, Custody, Head};
use crate::denials::Denials;
use crate::freeze::Touched;
use crate::freshness::Freshness;
use crate::gateway::VerifiedTokens;
use crate::ids::{ClientId, GrantId, TenantId};
use crate::keys::instance::{NoRandomness, SignStatementError, SignedStatement};
use crate::keys::keyring::Keyring;
use crate::keys::{Bundle, Speaking};
use crate::limits::Meters;
use crate::log::Logs;
use crate::nonce::{Nonces, Role};
use crate::pending::Durable;
use crate::policy::Denied;
use crate::rate::RateLimiter;
use crate::record::{Cabinet, Place, RecordError};
use crate::refresh::{ClientKeys, Pace, UpstreamAccess, Wanted};
use crate::replay::ReplayCache;
use crate::seal::{OneUseSalt, SealError, SealingKey};
use crate::secret::{DpopPrivateKey, RefreshToken};
use crate::store::{Batch, Leaf, Write};
use crate::time::Now;
use crate::upstream_dpop::ServerNonces;
use crate::view::{Effect, Held, View};

/// How many upstream access tokens are kept for one grant: one a set of scopes.
pub const MAX_UPSTREAM_TOKENS_PER_GRANT: usize = 8;

/// The trusted core.
pub struct Enclave {
    pub(crate) config: Config,
    pub(crate) rng: Randomness,
    pub(crate) speaking: RwLock<Speaking>,
    pub(crate) cabinet: Arc<Cabinet>,
    pub(crate) system_key: Arc<SealingKey>,
    /// What tenants' keys are wrapped under: it hangs from the root.
    pub(crate) wrap_key: RwLock<Arc<SealingKey>>,
    pub(crate) nonces: Nonces,
    pub(crate) replays: ReplayCache,
    /// Proofs that went on to providers.
    pub(crate) relayed: ReplayCache,
    pub(crate) spent: SpentAssertions,
    /// When this boot began, Unix time in seconds.
    pub(crate) began_s: u64,
    pub(crate) issue_rates: RateLimiter<ClientId>,
    pub(crate) call_rates: RateLimiter<ClientId>,
    pub(crate) upstream_rates: RateLimiter<GrantId>,
    pub(crate) meters: Meters,
    pub(crate) approvals: Approvals,
    pub(crate) scribe: Scribe,
    pub(crate) sequences: Arc<Sequences>,
    pub(crate) logs: Logs,
    pub(crate) freshness: Freshness,
    pub(crate) pace: Pace,
    pub(crate) server_nonces: ServerNonces,
    pub(crate) connects: Connects,
    pub(crate) denials: Denials,
    /// Tokens that were verified before.
    pub(crate) verified_tokens: VerifiedTokens,
    /// What policies decided before.
    pub(crate) decisions: Decisions,
    pub(crate) upstream: Mutex<HashMap<GrantId, HashMap<Wanted, Arc<UpstreamAccess>>>>,
    pub(crate) client_keys: ClientKeys,
    pub(crate) view: RwLock<View>,
}

impl std::fmt::Debug for Enclave {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Enclave([redacted])")
    }
}

impl Enclave {
    /// Gives up the grants without freeing their memory piece by piece: last before a process ends.
    pub fn abandon(&self) {
        self.view.write().abandon();
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The keys, for what the shell needs of them: certificates and JWKS.
    #[must_use]
    pub fn keys(&self) -> Arc<Keyring> {
        Arc::clone(&self.speaking.read().keys)
    }

    pub(crate) fn speaking(&self) -> Speaking {
        self.speaking.read().clone()
    }

    /// Proves that the connection with this exporter value ends here, to whoever verified this boot's key bundle with
    /// the digest `wanted`: one that was replaced since is as good. Any other digest is answered by the bundle of now.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn prove_connection(
        &self,
        wanted: Option<&[u8; 32]>,
        exporter: &[u8; EXPORTER_BYTES],
    ) -> Result<Vec<u8>, NoRandomness> {
        let speaking = self.speaking();
        let wanted = wanted.filter(|digest| speaking.is_own(digest));
        let digest = wanted.unwrap_or(&speaking.bundle.digest);
        speaking
            .keys
            .instance()
            .prove_connection(digest, exporter, &*self.rng)
    }

    /// Signs the statement of an evidence bundle, under a key bundle of this boot.
    ///
    /// # Errors
    /// [`SignStatementError`].
    pub fn sign_statement(
        &self,
        statement: &EvidenceStatement,
    ) -> Result<SignedStatement, SignStatementError> {
        let speaking = self.speaking();
        if !speaking.is_own(&statement.key_bundle_sha256) {
            return Err(SignStatementError::OtherBundle);
        }
        speaking
            .keys
            .instance()
            .sign_statement(statement, &*self.rng)
    }

    /// The source of random bytes.
    #[must_use]
    pub fn rng(&self) -> &Randomness {
        &self.rng
    }

    /// The key bundle of this boot.
    #[must_use]
    pub fn bundle(&self) -> Arc<Bundle> {
        Arc::clone(&self.speaking.read().bundle)
    }

    /// The logs.
    #[must_use]
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// The DPoP nonce to hand out now.
    #[must_use]
    pub fn dpop_nonce(&self, role: Role, now: &Now) -> String {
        self.nonces.current(role, now)
    }

    /// Gives out an answer whose batch is durable: its effects are applied, and
    /// the freezes are looked at once more.
    ///
    /// # Errors
    /// [`Denied`] if something that the answer touches was frozen, its grant
    /// revoked or deleted, or its tenant's policy changed to one that denies it since;
    /// or if it is a refusal that waited for its leaf.
    pub fn release<T>(&self, durable: Durable<T>, now: &Now) -> Result<T, Denied> {
        let Durable {
            effects,
            touched,
            value,
            leaves: _,
        } = durable;
        if effects.is_empty() {
            return match self.stopped(&touched, now) {
                Some(denied) => Err(denied),
                None => value,
            };
        }
        let mut view = self.view.write();
        for effect in effects {
            if let Effect::Speaking(next) = effect {
                self.logs.set_keys(next.keys.log_keys());
                *self.speaking.write() = *next;
                continue;
            }
            if let Effect::Approval(effect) = effect {
                self.approvals.apply(effect);
                continue;
            }
            if let Effect::Erasure(held) = &effect {
                let tenant = &held.value.tenant;
                // They hold names of its.
                self.decisions.clear();
                self.verified_tokens.clear();
                let grants = view.grants.values();
                for grant in grants.filter(|held| held.value.tenant == *tenant) {
                    self.upstream.lock().remove(&grant.value.id);
                    self.pace.forget(&grant.value.id);
                }
            }
            if let Effect::Life(grant, held) = &effect
                && held.value.asleep_since_s.is_some()
            {
                self.upstream.lock().remove(grant);
            }
            if let Effect::Custody(grant, _) = &effect {
                // Another refresh token means another consent, or none.
                self.upstream.lock().remove(grant);
                self.pace.forget(grant);
            }
            view.apply(effect);
        }
        drop(view);
        match self.stopped(&touched, now) {
            Some(denied) => Err(denied),
            None => value,
        }
    }

    /// Why an answer that is on its way must not go on, if so. To be asked again
    /// after each change of an administrator. An administrator's own change, which
    /// touches nothing that could be frozen, is never held back.
    #[must_use]
    pub fn stopped(&self, touched: &Touched, now: &Now) -> Option<Denied> {
        if touched.is_nothing() {
            return None;
        }
        let fresh = self.freshness.check(now);
        self.view.read().stopped(touched).or(fresh.err())
    }

    /// Applies the effects of an exchange's own batch.
    pub(crate) fn apply(&self, durable: Durable<()>) {
        let mut view = self.view.write();
        for effect in durable.effects {
            view.apply(effect);
        }
    }

    /// A leaf for an event, under the tenant's key or the system's.
    pub(crate) fn leaf(
        &self,
        view: &View,
        tenant: Option<&TenantId>,
        event: &Event<'_>,
        now: &Now,
    ) -> Result<Leaf, SealError> {
        self.leaf_with(OneUseSalt::draw(&*self.rng)?, view, tenant, event, now)
    }

    /// The same, with a salt that was drawn for it.
    pub(crate) fn leaf_with(
        &self,
        salt: OneUseSalt,
        view: &View,
        tenant: Option<&TenantId>,
        event: &Event<'_>,
        now: &Now,
    ) -> Result<Leaf, SealError> {
        let held = tenant.map(|tenant| view.tenant_key(tenant));
        let held = held.transpose().map_err(|_| SealError::Failed)?;
        let seat = self.sequences.take(tenant);
        let reader = Reader {
            tag: held.map(|held| &*held.tag),
            key: held.map_or(&self.system_key, |held| &held.key),
            seq: seat.number(),
        };
        let mut leaf = self.scribe.leaf(salt, now, &reader, event)?;
        leaf.numbered = Numbered::new(seat);
        Ok(leaf)
    }

    /// Seals a value as JSON to its place.
    pub(crate) fn seal_json<T: serde::Serialize>(
        &self,
        key: &SealingKey,
        place: &Place,
        expected_generation: u64,
        value: &T,
    ) -> Result<Write, RecordError> {
        let body = serde_json::to_vec(value).map_err(|_| RecordError::Schema)?;
        self.cabinet
            .seal(&*self.rng, key, place, expected_generation, &body)
    }

    /// The batch and effect that write a grant's custody.
    pub(crate) fn custody_write(
        &self,
        view: &View,
        place: &Place,
        grant: &GrantId,
        expected_generation: u64,
        (head, token, dpop_key): (Head, &RefreshToken, Option<&DpopPrivateKey>),
    ) -> Result<(Batch, Effect), RecordError> {
        let tenant = match &place.realm {
            crate::record::Realm::Tenant(tenant) => tenant,
            crate::record::Realm::System => return Err(RecordError::Schema),
        };
        let key = view.realm_key(tenant)?;
        let body = custody::encode(head, token, dpop_key)?;
        let write = self
            .cabinet
            .seal(&*self.rng, &key, place, expected_generation, &body)?;
        let custody = Custody {
            tenant: tenant.clone(),
            refresh_generation: head.refresh_generation,
            refreshed_at_s: head.refreshed_at_s,
            phase: head.phase,
            told: head.told,
            exposure: head.exposure,
            sealed: write.sealed.as_deref().unwrap_or_default().into(),
        };
        let held = Held::new(expected_generation.saturating_add(1), custody);
        let batch = Batch {
            writes: vec![write],
            leaves: Vec::new(),
        };
        Ok((batch, Effect::Custody(grant.clone(), held)))
    }
}
