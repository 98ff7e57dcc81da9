//! What a tenant has here, as one JSON object: its grants, the freezes that it set and the digest of its policy. For
//! evidence bundles: no token is in it, only how many there were.

use serde::Serialize;

use super::{AdminError, Administrator, GrantView, PageRequest, PolicyView};
use crate::Enclave;
use crate::freeze::Freeze;
use crate::ids::{AppId, ClientId, GrantId, TargetName, TenantId};
use crate::record::RecordError;
use crate::registry::{Grant, TargetHost};
use crate::terms::GrantTerms;
use crate::time::Now;

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
struct Json<'a> {
    format: &'static str,
    tenant: String,
    /// None if it was never set.
    policy: Option<PolicyJson>,
    freezes: Vec<FreezeJson>,
    grants: Vec<GrantJson<'a>>,
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
struct GrantJson<'a> {
    id: &'a GrantId,
    app: &'a AppId,
    clients: &'a [ClientId],
    targets: &'a [TargetName],
    /// The hosts of its targets that have one for each tenant.
    hosts: &'a [TargetHost],
    /// Empty for all that the targets have.
    operations: Vec<String>,
    scopes: Vec<&'a str>,
    resources: &'a [String],
    /// Whether clients may have the provider's own access tokens, bound to their keys.
    allow_upstream_bound: bool,
    /// What its tenant set beside: owner, purpose, review, sleep, actors, approvals, limits.
    terms: Option<&'a GrantTerms>,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    frozen: bool,
    created_at_s: u64,
    expires_at_s: Option<u64>,
    asleep_since_s: Option<u64>,
    last_used_s: Option<u64>,
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

impl<'a> GrantJson<'a> {
    /// Destructured, so that what a grant has beside is decided on.
    fn new(view: &'a GrantView, now: &Now) -> Self {
        let GrantView {
            grant,
            needs_consent,
            revoked,
            revocation_pending,
            told,
            frozen,
            resources,
            refresh_generation,
            exposure,
            asleep_since_s,
            last_used_s,
        } = view;
        let Grant {
            id,
            tenant: _,
            app,
            clients,
            targets,
            scopes,
            created_at_s,
            expires_at_s,
            operations,
            hosts,
            terms,
            allow_upstream_bound,
        } = grant;
        let state = match needs_consent {
            _ if *revoked => "revoked",
            _ if expires_at_s.is_some_and(|end_s| now.hi_s >= end_s) => "expired",
            Some(_) => "needs_consent",
            None if asleep_since_s.is_some() => "asleep",
            None => "active",
        };
        Self {
            id,
            app,
            clients,
            targets,
            hosts,
            operations: operations.iter().map(ToString::to_string).collect(),
            scopes: scopes.iter().collect(),
            resources,
            allow_upstream_bound: *allow_upstream_bound,
            terms: terms.as_deref(),
            state,
            cause: needs_consent.map(|cause| cause.word()),
            frozen: *frozen,
            created_at_s: *created_at_s,
            expires_at_s: *expires_at_s,
            asleep_since_s: *asleep_since_s,
            last_used_s: *last_used_s,
            refresh_generation: *refresh_generation,
            exposed_before_deposit: exposure.is_exposed(),
            revocation_pending: *revocation_pending,
            provider_told: told.map(|told| told.word()),
        }
    }
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
        now: &Now,
    ) -> Result<Inventory, AdminError> {
        // Who may not see the tenant learns nothing of it: each of these asks.
        let policy = self.policy(by, tenant)?;
        let freezes = self.list_freezes(by, Some(tenant))?;
        let mut grants: Vec<GrantView> = Vec::new();
        let mut after = String::new();
        loop {
            let page = PageRequest {
                size: PAGE,
                after: &after,
            };
            let page = self.grants(by, tenant, None, page)?;
            grants.extend(page.entries);
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
            grants: grants
                .iter()
                .map(|view| GrantJson::new(view, now))
                .collect(),
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
    use crate::custody::Cause;
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
        let found = world
            .enclave
            .inventory(&auditor, &acme, &world.now)
            .unwrap();
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
                "allow_upstream_bound",
                "app",
                "asleep_since_s",
                "clients",
                "created_at_s",
                "expires_at_s",
                "exposed_before_deposit",
                "frozen",
                "hosts",
                "id",
                "last_used_s",
                "operations",
                "provider_told",
                "refresh_generation",
                "resources",
                "revocation_pending",
                "scopes",
                "state",
                "targets",
                "terms",
            ];
            let mut names: Vec<&str> = names.into_iter().map(String::as_str).collect();
            names.sort_unstable();
            assert_eq!(names, expected);
        }
    }

    #[test]
    fn a_grant_has_the_first_state_that_keeps_it_from_use() {
        let world = World::new(Rotation::Strict);
        let acme: TenantId = id("acme");
        let auditor = administrator(vec![Role::TenantAuditor(acme.clone())]);
        let listed = world
            .enclave
            .grants(&auditor, &acme, None, PageRequest::default());
        let view = listed.unwrap().entries.remove(0);
        let past_s = Some(world.now.hi_s);
        let with = |change: &dyn Fn(&mut GrantView)| {
            let mut view = view.clone();
            change(&mut view);
            let json = GrantJson::new(&view, &world.now);
            (json.state, json.cause)
        };
        let cause = Cause::RefusedByProvider;
        assert_eq!(with(&|_| {}), ("active", None));
        let asleep = with(&|view| view.asleep_since_s = Some(1));
        assert_eq!(asleep, ("asleep", None));
        let consent = with(&|view| {
            view.asleep_since_s = Some(1);
            view.needs_consent = Some(cause);
        });
        assert_eq!(consent, ("needs_consent", Some(cause.word())));
        let expired = with(&|view| {
            view.needs_consent = Some(cause);
            view.grant.expires_at_s = past_s;
        });
        assert_eq!(expired, ("expired", Some(cause.word())));
        let revoked = with(&|view| {
            view.grant.expires_at_s = past_s;
            view.revoked = true;
        });
        assert_eq!(revoked, ("revoked", None));
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
            let refused = world.enclave.inventory(&by, &acme, &world.now);
            assert_eq!(refused, Err(AdminError::Forbidden));
        }
    }
}
