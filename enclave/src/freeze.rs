//! Freezes: what stops at once, by whom it was stopped, and what a request
//! touches that could be frozen.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{AppId, ClientId, GrantId, ProviderId, TenantId, VendorId};
use crate::ruling::Ruled;

/// What a freeze covers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// All grants of a tenant.
    Tenant(TenantId),
    /// All clients and apps of a vendor.
    Vendor(VendorId),
    /// One client.
    Client(ClientId),
    /// All grants at a provider.
    Provider(ProviderId),
    /// All grants of an app.
    App(AppId),
    /// One grant.
    Grant(GrantId),
    /// One DPoP key, by its RFC 7638 thumbprint in base64url.
    Key(String),
}

/// A freeze in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// What it covers.
    pub subject: Subject,
    /// Whose grants it covers; `None` for all tenants'.
    pub tenant: Option<TenantId>,
    /// The administrator's reason.
    pub reason: String,
    /// Since when, Unix time in seconds.
    pub since_s: u64,
    /// The administrator's name.
    pub by: String,
}

/// The scope and subject that name a freeze; there is one freeze a name.
pub(crate) type FreezeName = (Option<TenantId>, Subject);

impl Freeze {
    pub(crate) fn name(&self) -> FreezeName {
        (self.tenant.clone(), self.subject.clone())
    }
}

/// All that an answer touches: frozen if any of it is. Checked when the request
/// is decided and again before its answer is released.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub(crate) tenant: Option<TenantId>,
    pub(crate) subjects: Vec<Subject>,
    /// By which policy of the tenant's it was decided, and what that was asked.
    pub(crate) ruled: Option<Arc<Ruled>>,
}

impl Touched {
    /// Whether nothing is touched that could be frozen.
    pub(crate) fn is_nothing(&self) -> bool {
        let Self {
            tenant,
            subjects,
            ruled,
        } = self;
        tenant.is_none() && subjects.is_empty() && ruled.is_none()
    }

    /// Nothing that could be frozen: for answers about the registry itself.
    pub(crate) fn nothing() -> Self {
        Self::default()
    }
}
