//! What a tenant has here, as one JSON object: its grants, the freezes that it set and the digest of its policy. For
//! evidence bundles: no token is in it, only how many there were.

use serde::Serialize;

use super::{AdminError, Administrator, GrantView, PageRequest, PolicyView};
use crate::Enclave;
use crate::freeze::Freeze;
use crate::ids::TenantId;
use crate::record::RecordError;

/// The name and version of the form.
const FORMAT: &str = "tokenkeep/inventory/v1";

/// The most grants that one inventory lists.
pub const MAX_INVENTORY_GRANTS: usize = 50_000;

/// Grants that are read at a time, so that whoever changes something need not wait for all of them.
const PAGE: usize = 1_000;

/// A tenant's inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// The JSON.
    pub json: String,
    /// The policy's text, whose digest is in the JSON; none if the tenant has set none.
    pub policy: Option<String>,
}

#[derive(Serialize)]
struct Json {
    format: &'static str,
    tenant: String,
    /// None if it was never set.
    policy: Option<PolicyJson>,
    freezes: Vec<FreezeJson>,
    grants: Vec<GrantJson>,
}

#[derive(Serialize)]
struct PolicyJson {
    sequence: u64,
    /// None if it was removed.
    sha256: Option<String>,
    set_at_s: u64,
    by: String,
    signer_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unusable: Option<String>,
}

#[derive(Serialize)]
struct FreezeJson {
    subject: String,
    since_s: u64,
    by: String,
    reason: String,
}

#[derive(Serialize)]
struct GrantJson {
    id: String,
    app: String,
    clients: Vec<String>,
    targets: Vec<String>,
    operations: Vec<String>,
    scopes: Vec<String>,
    resources: Vec<String>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    frozen: bool,
    created_at_s: u64,
    expires_at_s: Option<u64>,
    refresh_generation: u64,
    exposed_before_deposit: bool,
    revocation_pending: bool,
    provider_told: Option<&'static str>,
}

impl From<&PolicyView> for PolicyJson {
    fn from(policy: &PolicyView) -> Self {
        Self {
            sequence: policy.sequence,
            sha256: policy.sha256.map(hex::encode),
            set_at_s: policy.set_at_s,
            by: policy.by.clone(),
            signer_sha256: policy.signer.map(hex::encode),
            unusable: policy.unusable.clone(),
        }
    }
}

impl From<&Freeze> for FreezeJson {
    fn from(freeze: &Freeze) -> Self {
        Self {
            subject: super::freezes::subject_text(&freeze.subject),
            since_s: freeze.since_s,
            by: freeze.by.clone(),
            reason: freeze.reason.clone(),
        }
    }
}

impl From<&GrantView> for GrantJson {
    fn from(view: &GrantView) -> Self {
        let grant = &view.grant;
        let state = match view.needs_consent {
            _ if view.revoked => "revoked",
            Some(_) => "needs_consent",
            None => "active",
        };
        Self {
            id: grant.id.to_string(),
            app: grant.app.to_string(),
            clients: texts(&grant.clients),
            targets: texts(&grant.targets),
            operations: texts(&grant.operations),
            scopes: texts(grant.scopes.iter()),
            resources: view.resources.clone(),
            state,
            cause: view.needs_consent.map(|cause| cause.word()),
            frozen: view.frozen,
            created_at_s: grant.created_at_s,
            expires_at_s: grant.expires_at_s,
            refresh_generation: view.refresh_generation,
            exposed_before_deposit: view.exposure.is_exposed(),
            revocation_pending: view.revocation_pending,
            provider_told: view.told.map(|told| told.word()),
        }
    }
}

fn texts<T: ToString>(all: impl IntoIterator<Item = T>) -> Vec<String> {
    all.into_iter().map(|one| one.to_string()).collect()
}

impl Enclave {
    /// A tenant's inventory, for those who see the tenant.
    ///
    /// # Errors
    /// [`AdminError`]; [`AdminError::InventoryTooLarge`] above [`MAX_INVENTORY_GRANTS`].
    pub fn inventory(
        &self,
        by: &Administrator,
        tenant: &TenantId,
    ) -> Result<Inventory, AdminError> {
        // Who may not see the tenant learns nothing of it: each of these asks.
        let policy = self.policy(by, tenant)?;
        let freezes = self.list_freezes(by, Some(tenant))?;
        let mut grants: Vec<GrantJson> = Vec::new();
        let mut after = String::new();
        loop {
            let page = PageRequest {
                size: PAGE,
                after: &after,
            };
            let page = self.grants(by, tenant, None, page)?;
            grants.extend(page.entries.iter().map(GrantJson::from));
            if grants.len() > MAX_INVENTORY_GRANTS {
                return Err(AdminError::InventoryTooLarge);
            }
            after = page.next;
            if after.is_empty() {
                break;
            }
        }
        let json = Json {
            format: FORMAT,
            tenant: tenant.to_string(),
            policy: (policy.sequence > 0).then(|| PolicyJson::from(&policy)),
            freezes: freezes.iter().map(FreezeJson::from).collect(),
            grants,
        };
        let json = serde_json::to_string(&json).map_err(|_| RecordError::Schema)?;
        Ok(Inventory {
            json,
            policy: policy.text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Role;
    use super::*;
    use crate::registry::Rotation;
    use crate::testing::{World, id};
    use serde_json::Value;

    fn administrator(roles: Vec<Role>) -> Administrator {
        Administrator {
            name: "who".into(),
            spki_sha256: [7; 32],
            roles,
        }
    }

    #[test]
    fn an_inventory_lists_what_the_tenant_has_and_no_token() {
        let world = World::new(Rotation::Strict);
        world.ask(|_| {}).unwrap();
        let acme: TenantId = id("acme");
        let auditor = administrator(vec![Role::TenantAuditor(acme.clone())]);
        let found = world.enclave.inventory(&auditor, &acme).unwrap();
        let json: Value = serde_json::from_str(&found.json).unwrap();
        assert_eq!(json["format"], FORMAT);
        assert_eq!(json["tenant"], "acme");
        assert_eq!(json["policy"], Value::Null);
        assert_eq!(found.policy, None);
        let listed = world
            .enclave
            .grants(&auditor, &acme, None, PageRequest::default());
        let listed = listed.unwrap().entries;
        let grants = json["grants"].as_array().unwrap();
        assert_eq!(grants.len(), listed.len());
        assert!(!grants.is_empty());
        for (found, expected) in grants.iter().zip(&listed) {
            assert_eq!(found["id"], expected.grant.id.as_str());
            assert_eq!(found["state"], "active");
            assert_eq!(found["refresh_generation"], expected.refresh_generation);
            // These keys and no other: whatever is added is looked at here first.
            let names: Vec<&String> = found.as_object().unwrap().keys().collect();
            let expected = [
                "app",
                "clients",
                "created_at_s",
                "expires_at_s",
                "exposed_before_deposit",
                "frozen",
                "id",
                "operations",
                "provider_told",
                "refresh_generation",
                "resources",
                "revocation_pending",
                "scopes",
                "state",
                "targets",
            ];
            let mut names: Vec<&str> = names.into_iter().map(String::as_str).collect();
            names.sort_unstable();
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn nobody_else_has_an_inventory() {
        let world = World::new(Rotation::Strict);
        let acme: TenantId = id("acme");
        for role in [
            Role::Operator,
            Role::Vendor(id("crm-sync")),
            Role::Tenant(id("other")),
            Role::TenantAuditor(id("other")),
        ] {
            let by = administrator(vec![role]);
            let refused = world.enclave.inventory(&by, &acme);
            assert_eq!(refused, Err(AdminError::Forbidden));
        }
    }
}
