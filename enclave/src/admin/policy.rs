//! A tenant's own policy: set, removed and read by those who guard the tenant.
//!
//! Whoever guards the tenant may tighten. What may loosen needs, beside, a signature over this very change by a key
//! that the manifest names as the tenant's owner: an administrator's stolen session opens nothing.

use attestation::manifest::{ManifestSignature, SignatureFault};
use tenant_policy::{Comparison, Compiled, Faults, PolicyChange, compare};
use thiserror::Error;

use super::register::known_tenant;
use super::{AdminError, Administrator, Role, forbid_unless};
use crate::Enclave;
use crate::audit::Event;
use crate::freeze::Touched;
use crate::ids::TenantId;
use crate::pending::Pending;
use crate::record::{Place, Table};
use crate::ruling::{Rules, TenantPolicy};
use crate::store::Batch;
use crate::time::Now;
use crate::view::{Effect, Held};

/// The name of the one policy of a tenant within its table.
const NAME: &str = "policy";

/// A change of a tenant's policy.
#[derive(Clone, Debug)]
pub struct SetPolicy<'a> {
    /// Whose.
    pub tenant: TenantId,
    /// The policy's text; none to remove it.
    pub text: Option<&'a [u8]>,
    /// The number of the policy that is changed; 0 if there was none yet.
    pub sequence: u64,
    /// The owner's signature file; empty for none.
    pub signature: &'a [u8],
}

/// A tenant's policy as those see it who may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyView {
    /// Whose.
    pub tenant: TenantId,
    /// Its number; 0 if there was none yet.
    pub sequence: u64,
    /// Its text; none if all passes that the grants allow.
    pub text: Option<String>,
    /// SHA-256 of the text.
    pub sha256: Option<[u8; 32]>,
    /// When it was set, Unix time in seconds; 0 if never.
    pub set_at_s: u64,
    /// By whom; empty if never.
    pub by: String,
    /// SHA-256 of the SubjectPublicKeyInfo of the owner's key that signed it, if it was signed.
    pub signer: Option<[u8; 32]>,
    /// Why this build can't read it, if so: all is denied then.
    pub unusable: Option<String>,
}

/// Why a tenant's policy is not changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// The new one can't be used.
    #[error("policy: {0}")]
    Faults(Faults),
    /// Somebody else changed it before.
    #[error("the policy has the sequence number {current}: look at it, and set it again with that")]
    Sequence {
        /// Its number; 0 if there was none yet.
        current: u64,
    },
    /// The change loosens, and no owner of the tenant signed it.
    #[error("the change loosens the policy ({}): it needs the signature of the tenant's owner, as `tokenkeep policy sign` makes it", .reasons.join("; "))]
    Unsigned {
        /// Why it loosens.
        reasons: Vec<String>,
    },
    /// The signature does not vouch for this change.
    #[error("signature: {0}")]
    Signature(PolicySignatureFault),
}

/// Why a signature does not vouch for a change.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicySignatureFault {
    /// It is no signature file.
    #[error(transparent)]
    File(SignatureFault),
    /// The manifest does not name its key as the tenant's owner.
    #[error("the manifest does not name the signer as an owner of this tenant")]
    NotAnOwner,
    /// It is over something else.
    #[error(
        "it is not over this change: sign the change of this policy, with this sequence number, for this tenant and service"
    )]
    AnotherChange,
}

impl Enclave {
    /// Sets a tenant's policy, or removes it. From the moment that this is durable on, nothing that it denies is issued
    /// or forwarded; what is under way is asked again.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn set_policy(
        &self,
        by: &Administrator,
        change: &SetPolicy<'_>,
        now: &Now,
    ) -> Result<Pending<PolicyView>, AdminError> {
        let SetPolicy {
            tenant,
            text,
            sequence,
            signature,
        } = change;
        forbid_unless(by.guards_tenant(tenant))?;
        let compiled = text.map(Compiled::new).transpose();
        let compiled = compiled.map_err(PolicyError::Faults)?;

        let view = self.view.read();
        known_tenant(&view, tenant)?;
        let held = view.policies.get(tenant);
        let current = held.map_or(0, |held| held.value.sequence);
        if current != *sequence {
            return Err(PolicyError::Sequence { current }.into());
        }
        let before = held.map(|held| &*held.value);
        let loosens = loosening(before, compiled.as_ref());
        let next = current.saturating_add(1);
        let signed = PolicyChange {
            issuer: &self.config.issuer,
            tenant: tenant.as_str(),
            sequence: next,
            before: before.and_then(TenantPolicy::sha256),
            after: compiled.as_ref().map(|compiled| *compiled.sha256()),
        };
        let signer = match (signature.is_empty(), loosens.is_empty()) {
            (true, true) => None,
            (true, false) => return Err(PolicyError::Unsigned { reasons: loosens }.into()),
            (false, _) => Some(self.check_signature(tenant, &signed, signature)?),
        };

        let event = Event::PolicySet {
            sequence: next,
            before_sha256: signed.before.map(hex::encode),
            sha256: signed.after.map(hex::encode),
            loosens: !loosens.is_empty(),
            by: &by.name,
            signer_sha256: signer.map(hex::encode),
        };
        let leaf = self.leaf(&view, Some(tenant), &event, now)?;
        let policy = TenantPolicy {
            tenant: tenant.clone(),
            sequence: next,
            set_at_s: now.lo_s,
            by: by.name.clone(),
            signer,
            rules: compiled.map_or(Rules::Removed, |compiled| Rules::Compiled(compiled.into())),
        };
        let key = view.realm_key(tenant)?;
        let place = Place::tenant(tenant, Table::Policies, NAME);
        let generation = held.map_or(0, |held| held.generation);
        let body = policy.to_record()?;
        let write = self
            .cabinet
            .seal(&*self.rng, &key, &place, generation, &body)?;
        let batch = Batch {
            writes: vec![write],
            leaves: vec![leaf],
        };
        let answer = policy_view(&policy);
        let effects = vec![Effect::Policy(Held::new(
            generation.saturating_add(1),
            policy,
        ))];
        Ok(Pending::new(batch, effects, Touched::nothing(), answer))
    }

    /// A tenant's policy, for those who see the tenant.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn policy(&self, by: &Administrator, tenant: &TenantId) -> Result<PolicyView, AdminError> {
        forbid_unless(by.sees_tenant(tenant))?;
        let view = self.view.read();
        known_tenant(&view, tenant)?;
        Ok(match view.policies.get(tenant) {
            Some(held) => policy_view(&held.value),
            None => PolicyView {
                tenant: tenant.clone(),
                sequence: 0,
                text: None,
                sha256: None,
                set_at_s: 0,
                by: String::new(),
                signer: None,
                unusable: None,
            },
        })
    }

    fn check_signature(
        &self,
        tenant: &TenantId,
        change: &PolicyChange<'_>,
        file: &[u8],
    ) -> Result<[u8; 32], PolicyError> {
        let role = Role::Tenant(tenant.clone());
        let administrators = self.config.administrators.iter();
        let owners = administrators.filter(|administrator| administrator.roles.contains(&role));
        let owners: Vec<[u8; 32]> = owners.map(|owner| owner.spki_sha256).collect();
        let refused = |fault| {
            PolicyError::Signature(match fault {
                SignatureFault::Signer { .. } => PolicySignatureFault::NotAnOwner,
                SignatureFault::Invalid => PolicySignatureFault::AnotherChange,
                fault @ (SignatureFault::TooLarge
                | SignatureFault::Form
                | SignatureFault::Algorithm { .. }
                | SignatureFault::PublicKey
                | SignatureFault::Encoding) => PolicySignatureFault::File(fault),
            })
        };
        let signature = ManifestSignature::from_json(file).map_err(refused)?;
        signature
            .verify_policy_change(&change.to_text(), &owners)
            .map_err(refused)?;
        Ok(signature.signer())
    }
}

/// Why a change loosens; empty if it does not.
fn loosening(before: Option<&TenantPolicy>, after: Option<&Compiled>) -> Vec<String> {
    let Comparison { loosens, .. } = match before.map(|policy| &policy.rules) {
        None | Some(Rules::Removed) => compare(None, after),
        Some(Rules::Compiled(before)) => compare(Some(before), after),
        // It denies all.
        Some(Rules::Unusable { .. }) => {
            return vec!["the policy in force can't be read and denies everything".to_owned()];
        }
    };
    loosens
}

fn policy_view(policy: &TenantPolicy) -> PolicyView {
    let (text, unusable) = match &policy.rules {
        Rules::Removed => (None, None),
        Rules::Compiled(compiled) => (Some(compiled.text().to_owned()), None),
        Rules::Unusable { text, why, .. } => (Some(text.as_ref().to_owned()), Some(why.clone())),
    };
    PolicyView {
        tenant: policy.tenant.clone(),
        sequence: policy.sequence,
        text,
        sha256: policy.sha256(),
        set_at_s: policy.set_at_s,
        by: policy.by.clone(),
        signer: policy.signer,
        unusable,
    }
}

#[cfg(test)]
mod tests;
