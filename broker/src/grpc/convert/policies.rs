//! Tenants' policies.

use enclave::admin::{AdminError, PolicyView, SetPolicy};
use proto::v1;

use super::tenant_id;

/// Reads a message as a change of a tenant's policy.
///
/// # Errors
/// [`AdminError`].
pub fn set_policy(message: &v1::SetPolicyRequest) -> Result<SetPolicy<'_>, AdminError> {
    let v1::SetPolicyRequest {
        tenant,
        text,
        remove,
        sequence,
        signature,
    } = message;
    if *remove && !text.is_empty() {
        return Err(AdminError::Field {
            field: "text",
            rule: "must be empty with remove",
        });
    }
    Ok(SetPolicy {
        tenant: tenant_id("tenant", tenant)?,
        text: (!remove).then_some(text.as_bytes()),
        sequence: *sequence,
        signature,
    })
}

/// The message for a tenant's policy.
#[must_use]
pub fn policy_message(policy: PolicyView) -> v1::Policy {
    let PolicyView {
        tenant,
        sequence,
        text,
        sha256,
        set_at_s,
        by,
        signer,
        unusable,
    } = policy;
    let bytes = |sha256: Option<[u8; 32]>| sha256.map(Vec::from).unwrap_or_default();
    v1::Policy {
        tenant: tenant.into(),
        sequence,
        text: text.unwrap_or_default(),
        sha256: bytes(sha256),
        set_at_s,
        by,
        signer_sha256: bytes(signer),
        unusable: unusable.unwrap_or_default(),
    }
}
