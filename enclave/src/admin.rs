//! Administration: who may change what, and the changes themselves.

mod approvals;
mod apps;
mod deposit;
mod erase;
mod events;
mod freezes;
mod grants;
mod inventory;
mod keep;
mod leaves;
mod list;
mod policy;
mod profile;
mod register;
mod rotate;
mod terms;
mod webhooks;

use thiserror::Error;

use crate::Enclave;
use crate::authenticate::{AuthenticationError, Peer};
use crate::connect::ConnectError;
use crate::http_url::HttpUrlError;
use crate::ids::{IdError, TenantId, VendorId};
use crate::operation::TemplateError;
use crate::record::RecordError;
use crate::scope::ScopeError;
use crate::seal::SealError;

pub use approvals::Decision;
pub use apps::NewApp;
pub use deposit::DepositRequest;
pub use erase::{Erasure, ErasurePhase};
pub use events::{EventError, EventKind, EventReader, TenantEvent};
pub use freezes::FreezeRequest;
pub use inventory::{Inventory, MAX_INVENTORY_GRANTS};
pub(crate) use keep::{Kept, Source};
pub use leaves::{LeafReader, ReadLeaf};
pub use list::{GrantView, Page, PageRequest};
pub use policy::{PolicyError, PolicySignatureFault, PolicyView, SetPolicy};
pub use profile::{
    BesideProfile, ProfileFile, ProfileFileError, ProfileOperationError, ProfileSource,
};
pub use webhooks::{GIVE_UP_AFTER_S, MAX_WEBHOOKS_OF_A_TENANT, NewWebhook};

/// What an administrator may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs the service: registers tenants, vendors and providers, and may
    /// freeze anything. Sees no tenant's grants.
    Operator,
    /// Owns a tenant: its grants, its freezes, its keys.
    Tenant(TenantId),
    /// Guards a tenant: sees what its owner sees, freezes and thaws, revokes grants, replaces its key. Gives nothing
    /// to anybody.
    TenantSecurity(TenantId),
    /// Sees of a tenant what its owner sees, and changes nothing.
    TenantAuditor(TenantId),
    /// Acts for a vendor: its clients and apps.
    Vendor(VendorId),
}

/// A person or program that administers, by the key of its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Administrator {
    /// Its name, for the log.
    pub name: String,
    /// SHA-256 of its certificate's SubjectPublicKeyInfo.
    pub spki_sha256: [u8; 32],
    /// What it may do.
    pub roles: Vec<Role>,
}

impl Administrator {
    fn has(&self, role: &Role) -> bool {
        self.roles.contains(role)
    }

    pub(crate) fn is_operator(&self) -> bool {
        self.has(&Role::Operator)
    }

    pub(crate) fn owns_tenant(&self, tenant: &TenantId) -> bool {
        self.has(&Role::Tenant(tenant.clone()))
    }

    /// Whether it may stop what touches the tenant's data.
    pub(crate) fn guards_tenant(&self, tenant: &TenantId) -> bool {
        self.owns_tenant(tenant) || self.has(&Role::TenantSecurity(tenant.clone()))
    }

    /// Whether it may see the tenant's data.
    #[must_use]
    pub fn sees_tenant(&self, tenant: &TenantId) -> bool {
        self.tenants().any(|seen| seen == tenant)
    }

    /// The tenants whose data it may see.
    pub(crate) fn tenants(&self) -> impl Iterator<Item = &TenantId> {
        self.roles.iter().filter_map(|role| match role {
            Role::Tenant(id) | Role::TenantSecurity(id) | Role::TenantAuditor(id) => Some(id),
            Role::Operator | Role::Vendor(_) => None,
        })
    }

    /// Whether it may know a vendor's clients and apps: a vendor knows its own only, whoever consents or runs the
    /// service knows all.
    pub(crate) fn knows_vendor(&self, vendor: &VendorId) -> bool {
        self.is_operator() || self.tenants().next().is_some() || self.acts_for_vendor(vendor)
    }

    pub(crate) fn acts_for_vendor(&self, vendor: &VendorId) -> bool {
        self.has(&Role::Vendor(vendor.clone()))
    }
}

/// Why an administrator's request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AdminError {
    /// The caller is no administrator.
    #[error(transparent)]
    Caller(#[from] AuthenticationError),
    /// The caller's roles do not reach this.
    #[error("the administrator's roles do not allow this")]
    Forbidden,
    /// It does not exist, or is not the caller's to know.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// Something else has that id.
    #[error("there is already a {0} with this id")]
    Exists(&'static str),
    /// A field is no id.
    #[error("{field}: {error}")]
    Id {
        /// The field.
        field: &'static str,
        /// What is wrong.
        error: IdError,
    },
    /// A field is no URL.
    #[error("{field}: {error}")]
    Url {
        /// The field.
        field: &'static str,
        /// What is wrong.
        error: HttpUrlError,
    },
    /// A field is no path template.
    #[error("{field}: {error}")]
    Template {
        /// The field.
        field: &'static str,
        /// What is wrong.
        error: TemplateError,
    },
    /// The scopes are ill-formed.
    #[error("scopes: {0}")]
    Scopes(ScopeError),
    /// A field breaks a rule.
    #[error("{field}: {rule}")]
    Field {
        /// The field.
        field: &'static str,
        /// The rule.
        rule: &'static str,
    },
    /// The profile of a provider cannot be used.
    #[error("profile: {0}")]
    Profile(ProfileFileError),
    /// The tenant's policy is not changed so.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The sealed deposit does not open: made for another enclave, another
    /// place, or damaged.
    #[error("the deposit does not open: seal it anew to the key of fresh evidence")]
    Deposit,
    /// The grant was revoked.
    #[error("the grant is revoked: delete it before its id is used again")]
    Revoked,
    /// The grant's token is being exchanged at this moment.
    #[error("the grant is in use: try again")]
    Busy,
    /// The tenant has more grants than one inventory lists.
    #[error("the tenant has more than {MAX_INVENTORY_GRANTS} grants: list them page by page")]
    InventoryTooLarge,
    /// Nothing came of a consent.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The enclave could not seal or open: its own fault.
    #[error(transparent)]
    Internal(#[from] RecordError),
}

impl From<SealError> for AdminError {
    fn from(error: SealError) -> Self {
        Self::Internal(error.into())
    }
}

impl Enclave {
    /// The administrator that a peer is.
    ///
    /// # Errors
    /// [`AuthenticationError`] if the manifest does not name its key.
    pub fn administrator(&self, peer: &Peer) -> Result<&Administrator, AuthenticationError> {
        let spki = peer.spki_sha256.ok_or(AuthenticationError::NoCertificate)?;
        self.config
            .administrators
            .iter()
            .find(|administrator| administrator.spki_sha256 == spki)
            .ok_or(AuthenticationError::UnknownCertificate)
    }
}

fn forbid_unless(allowed: bool) -> Result<(), AdminError> {
    if allowed {
        Ok(())
    } else {
        Err(AdminError::Forbidden)
    }
}

#[cfg(test)]
mod tests;
