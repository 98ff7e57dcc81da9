//! Reading what is registered, page by page.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::{AdminError, Administrator, forbid_unless};
use crate::Enclave;
use crate::custody::{Cause, Exposure};
use crate::ids::{AppId, ClientId, GrantId, ProviderId, TenantId, VendorId};
use crate::limits::Limits;
use crate::policy::resource_of;
use crate::refresh::Told;
use crate::registry::{App, Client, Grant, Provider, Tenant, Vendor};
use crate::view::{Held, View};

/// Entries a page if the caller does not say.
pub(crate) const DEFAULT_PAGE: usize = 100;

/// The most entries a page.
pub(crate) const MAX_PAGE: usize = 1_000;

/// Which page is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct PageRequest<'a> {
    /// At most this many entries; 0 for the default.
    pub size: usize,
    /// The last id of the page before; empty for the first page.
    pub after: &'a str,
}

impl PageRequest<'_> {
    /// How many entries there may be.
    ///
    /// # Errors
    /// [`AdminError::Field`] if more are asked for than there may be.
    pub fn limit(&self) -> Result<usize, AdminError> {
        match self.size {
            0 => Ok(DEFAULT_PAGE),
            size if size <= MAX_PAGE => Ok(size),
            _ => Err(AdminError::Field {
                field: "page_size",
                rule: "at most 1000",
            }),
        }
    }
}

/// One page of entries, in order of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// What to ask the next page with; empty on the last.
    pub next: String,
}

/// A grant as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantView {
    /// The grant.
    pub grant: Grant,
    /// Why its owner is needed, if so.
    pub needs_consent: Option<Cause>,
    /// Whether its owner revoked it.
    pub revoked: bool,
    /// Whether it was revoked and its provider was not told yet.
    pub revocation_pending: bool,
    /// What the provider made of its revocation, once it was told.
    pub told: Option<Told>,
    /// Whether a freeze covers it.
    pub frozen: bool,
    /// The resource indicators of its targets, in their order.
    pub resources: Vec<String>,
    /// How many refresh tokens it has had.
    pub refresh_generation: u64,
    /// Whether its refresh token was elsewhere before.
    pub exposure: Exposure,
    /// Since when it is asleep, Unix time in seconds, if it is.
    pub asleep_since_s: Option<u64>,
    /// When it was used last, Unix time in seconds, if it can fall asleep: to the hour after a start.
    pub last_used_s: Option<u64>,
}

impl Enclave {
    pub(crate) fn view_of(&self, view: &View, grant: &Grant) -> GrantView {
        let provider = view
            .apps
            .get(&grant.app)
            .and_then(|app| view.providers.get(&app.value.provider));
        let resources = provider.map_or_else(Vec::new, |provider| {
            grant
                .targets
                .iter()
                .filter_map(|name| provider.value.target(name))
                .map(|target| resource_of(&self.config.gateway_origin, &grant.id, target))
                .collect()
        });
        let custody = view.custody.get(&grant.id);
        GrantView {
            grant: grant.clone(),
            needs_consent: view.needs_consent(&grant.id),
            revoked: view.is_revoked(&grant.id),
            revocation_pending: view.revocations.contains_key(&grant.id),
            told: custody.and_then(|held| held.value.told),
            frozen: view.frozen(&view.touched(grant, None, None)).is_some(),
            resources,
            refresh_generation: custody.map_or(0, |held| held.value.refresh_generation),
            exposure: custody.map_or(Exposure::None, |held| held.value.exposure),
            asleep_since_s: view.asleep_since_s(&grant.id),
            last_used_s: view.last_used_s(&grant.id),
        }
    }

    /// One grant, for its tenant.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] if there is none, or it is another tenant's.
    pub fn grant(&self, by: &Administrator, id: &GrantId) -> Result<GrantView, AdminError> {
        let view = self.view.read();
        view.grants
            .get(id)
            .filter(|held| by.sees_tenant(&held.value.tenant))
            .map(|held| self.view_of(&view, &held.value))
            .ok_or(AdminError::NotFound("grant"))
    }

    /// The grants of a tenant; with a moment, those that are to be reviewed before it.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn grants(
        &self,
        by: &Administrator,
        tenant: &TenantId,
        review_before_s: Option<u64>,
        page: PageRequest<'_>,
    ) -> Result<Page<GrantView>, AdminError> {
        forbid_unless(by.sees_tenant(tenant))?;
        let view = self.view.read();
        let reviewed = |grant: &Grant| grant.terms.as_deref().and_then(|terms| terms.review_at_s);
        let wanted = |grant: &Grant| match review_before_s {
            None => true,
            Some(before_s) => reviewed(grant).is_some_and(|at_s| at_s < before_s),
        };
        let page = paged(&view.grants, page, |grant: &Grant| {
            grant.tenant == *tenant && wanted(grant)
        })?;
        Ok(Page {
            entries: page
                .entries
                .iter()
                .map(|grant| self.view_of(&view, grant))
                .collect(),
            next: page.next,
        })
    }

    /// The tenants.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn tenants(
        &self,
        by: &Administrator,
        page: PageRequest<'_>,
    ) -> Result<Page<Tenant>, AdminError> {
        let view = self.view.read();
        let mut page = paged(&view.tenants, page, |tenant| {
            by.is_operator() || by.sees_tenant(&tenant.id)
        })?;
        for tenant in &mut page.entries {
            hide_limits(by, tenant);
        }
        Ok(page)
    }

    /// The vendors that an administrator may know: a vendor knows itself only.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn vendors(
        &self,
        by: &Administrator,
        page: PageRequest<'_>,
    ) -> Result<Page<Vendor>, AdminError> {
        let known = |vendor: &Vendor| by.knows_vendor(&vendor.id);
        paged(&self.view.read().vendors, page, known)
    }

    /// One client.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] if there is none, or it is another vendor's.
    pub fn client(&self, by: &Administrator, id: &ClientId) -> Result<Client, AdminError> {
        one(&self.view.read().clients, id, "client")
            .and_then(|client| known(client, "client", |client| by.knows_vendor(&client.vendor)))
    }

    /// The clients of a vendor.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn clients(
        &self,
        by: &Administrator,
        vendor: &VendorId,
        page: PageRequest<'_>,
    ) -> Result<Page<Client>, AdminError> {
        forbid_unless(by.knows_vendor(vendor))?;
        paged(&self.view.read().clients, page, |c| c.vendor == *vendor)
    }

    /// One provider.
    ///
    /// # Errors
    /// [`AdminError::NotFound`].
    pub fn provider(&self, id: &ProviderId) -> Result<Provider, AdminError> {
        one(&self.view.read().providers, id, "provider")
    }

    /// The providers.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn providers(&self, page: PageRequest<'_>) -> Result<Page<Provider>, AdminError> {
        paged(&self.view.read().providers, page, |_| true)
    }

    /// One app, without its secret.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] if there is none, or it is another vendor's.
    pub fn app(&self, by: &Administrator, id: &AppId) -> Result<App, AdminError> {
        one(&self.view.read().apps, id, "app")
            .and_then(|app| known(app, "app", |app| by.knows_vendor(&app.vendor)))
    }

    /// The apps of a vendor, without their secrets.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn apps(
        &self,
        by: &Administrator,
        vendor: &VendorId,
        page: PageRequest<'_>,
    ) -> Result<Page<App>, AdminError> {
        forbid_unless(by.knows_vendor(vendor))?;
        paged(&self.view.read().apps, page, |app| app.vendor == *vendor)
    }
}

/// What a tenant set for itself is not told to whoever runs the service.
pub(super) fn hide_limits(by: &Administrator, tenant: &mut Tenant) {
    if !by.sees_tenant(&tenant.id) {
        tenant.limits = Limits::default();
    }
}

fn one<K: Ord, T: Clone>(
    map: &BTreeMap<K, Held<T>>,
    id: &K,
    what: &'static str,
) -> Result<T, AdminError> {
    map.get(id)
        .map(|held| (*held.value).clone())
        .ok_or(AdminError::NotFound(what))
}

/// What is not the caller's to know is as if it weren't there.
fn known<T>(found: T, what: &'static str, may_know: impl Fn(&T) -> bool) -> Result<T, AdminError> {
    Some(found)
        .filter(may_know)
        .ok_or(AdminError::NotFound(what))
}

fn paged<K, T>(
    map: &BTreeMap<K, Held<T>>,
    page: PageRequest<'_>,
    wanted: impl Fn(&T) -> bool,
) -> Result<Page<T>, AdminError>
where
    K: Ord + std::borrow::Borrow<str>,
    T: Clone,
{
    let size = page.limit()?;
    let from = if page.after.is_empty() {
        Bound::Unbounded
    } else {
        Bound::Excluded(page.after)
    };
    let mut found = map
        .range::<str, _>((from, Bound::Unbounded))
        .filter(|(_, held)| wanted(&held.value));
    let mut entries = Vec::new();
    let mut last = String::new();
    for (id, held) in found.by_ref().take(size) {
        entries.push((*held.value).clone());
        last = id.borrow().to_owned();
    }
    let next = if found.next().is_some() {
        last
    } else {
        String::new()
    };
    Ok(Page { entries, next })
}
