//! Freezing and thawing: durable before they are acknowledged.

use super::register::known_tenant;
use super::{AdminError, Administrator, forbid_unless};
use crate::Enclave;
use crate::audit::Event;
use crate::freeze::{Freeze, FreezeName, Subject, Touched};
use crate::ids::TenantId;
use crate::pending::Pending;
use crate::record::{Place, Table};
use crate::store::{Batch, Write};
use crate::time::Now;
use crate::view::{Effect, Held, View};

/// The longest reason in bytes.
pub(super) const MAX_REASON_BYTES: usize = 512;

/// A request to freeze.
#[derive(Clone, Debug)]
pub struct FreezeRequest {
    /// What to freeze.
    pub subject: Subject,
    /// Whose grants it covers; `None` for all tenants'.
    pub tenant: Option<TenantId>,
    /// Why.
    pub reason: String,
}

impl Enclave {
    /// Freezes a subject. Freezing again changes the reason.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn freeze(
        &self,
        by: &Administrator,
        request: FreezeRequest,
        now: &Now,
    ) -> Result<Pending<Freeze>, AdminError> {
        let view = self.view.read();
        may_freeze(&view, by, request.tenant.as_ref(), &request.subject)?;
        known_subject(&view, &request.subject)?;
        own_subject(&view, request.tenant.as_ref(), &request.subject)?;
        if request.reason.len() > MAX_REASON_BYTES {
            return Err(AdminError::Field {
                field: "reason",
                rule: "at most 512 bytes",
            });
        }
        let freeze = Freeze {
            subject: request.subject,
            tenant: request.tenant,
            reason: request.reason,
            since_s: now.lo_s,
            by: by.name.clone(),
        };
        let generation = generation(&view, &freeze.name());
        let place = freeze_place(&freeze.name());
        let write = self.seal_json(&self.system_key, &place, generation, &freeze)?;
        let event = Event::Frozen {
            subject: subject_text(&freeze.subject),
            by: &by.name,
            reason: &freeze.reason,
        };
        let leaf = self.leaf(&view, freeze.tenant.as_ref(), &event, now)?;
        let batch = Batch {
            writes: vec![write],
            leaves: vec![leaf],
        };
        let held = Held::new(generation.saturating_add(1), freeze.clone());
        let effects = vec![Effect::Freeze(held)];
        Ok(Pending::new(batch, effects, Touched::nothing(), freeze))
    }

    /// Ends a freeze.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] if there is none.
    pub fn thaw(
        &self,
        by: &Administrator,
        subject: Subject,
        tenant: Option<TenantId>,
        now: &Now,
    ) -> Result<Pending<()>, AdminError> {
        let view = self.view.read();
        may_freeze(&view, by, tenant.as_ref(), &subject)?;
        let name = (tenant, subject);
        let held = view
            .freezes
            .get(&name)
            .ok_or(AdminError::NotFound("freeze"))?;
        let place = freeze_place(&name);
        let event = Event::Thawed {
            subject: subject_text(&name.1),
            by: &by.name,
        };
        let leaf = self.leaf(&view, name.0.as_ref(), &event, now)?;
        let batch = Batch {
            writes: vec![Write {
                key: self.cabinet.key(&place),
                expected_generation: held.generation,
                sealed: None,
            }],
            leaves: vec![leaf],
        };
        let effects = vec![Effect::Thaw(name)];
        Ok(Pending::new(batch, effects, Touched::nothing(), ()))
    }

    /// The freezes in force that an administrator may see.
    ///
    /// # Errors
    /// [`AdminError::Forbidden`] if it may see none of them.
    pub fn list_freezes(
        &self,
        by: &Administrator,
        tenant: Option<&TenantId>,
    ) -> Result<Vec<Freeze>, AdminError> {
        match tenant {
            Some(tenant) => forbid_unless(by.sees_tenant(tenant))?,
            None => forbid_unless(by.is_operator())?,
        }
        let view = self.view.read();
        let mut freezes: Vec<Freeze> = view
            .freezes
            .values()
            .filter(|held| held.value.tenant.as_ref() == tenant)
            .map(|held| (*held.value).clone())
            .collect();
        freezes.sort_by(|a, b| a.subject.cmp(&b.subject));
        Ok(freezes)
    }

    /// The freeze epoch: rises with each freeze and thaw of this boot.
    #[must_use]
    pub fn freeze_epoch(&self) -> u64 {
        self.view.read().freeze_epoch
    }
}

/// A tenant stops what it likes for its own grants; for all tenants it takes the
/// operator, and a vendor may stop its own clients and apps.
fn may_freeze(
    view: &View,
    by: &Administrator,
    tenant: Option<&TenantId>,
    subject: &Subject,
) -> Result<(), AdminError> {
    if let Some(tenant) = tenant {
        forbid_unless(by.guards_tenant(tenant))?;
        return known_tenant(view, tenant);
    }
    let vendor = match subject {
        Subject::Client(id) => view.clients.get(id).map(|held| &held.value.vendor),
        Subject::App(id) => view.apps.get(id).map(|held| &held.value.vendor),
        Subject::Vendor(id) => Some(id),
        Subject::Tenant(_) | Subject::Provider(_) | Subject::Grant(_) | Subject::Key(_) => None,
    };
    let own = vendor.is_some_and(|vendor| by.acts_for_vendor(vendor));
    forbid_unless(by.is_operator() || own)
}

/// A typing error must not pass for a freeze.
fn known_subject(view: &View, subject: &Subject) -> Result<(), AdminError> {
    let (known, what) = match subject {
        Subject::Tenant(id) => (view.tenants.contains_key(id), "tenant"),
        Subject::Vendor(id) => (view.vendors.contains_key(id), "vendor"),
        Subject::Client(id) => (view.clients.contains_key(id), "client"),
        Subject::Provider(id) => (view.providers.contains_key(id), "provider"),
        Subject::App(id) => (view.apps.contains_key(id), "app"),
        Subject::Grant(id) => (view.grants.contains_key(id), "grant"),
        // Keys are not registered: any thumbprint may be stopped.
        Subject::Key(jkt) => {
            if jkt.parse::<jose::Thumbprint>().is_err() {
                return Err(AdminError::Field {
                    field: "subject.jkt",
                    rule: "an RFC 7638 SHA-256 thumbprint in base64url, 43 characters",
                });
            }
            (true, "key")
        }
    };
    if known {
        Ok(())
    } else {
        Err(AdminError::NotFound(what))
    }
}

/// A tenant's freeze names no other tenant and no other tenant's grant: whether
/// those exist is not its to know.
fn own_subject(
    view: &View,
    tenant: Option<&TenantId>,
    subject: &Subject,
) -> Result<(), AdminError> {
    let Some(tenant) = tenant else {
        return Ok(());
    };
    let (own, what) = match subject {
        Subject::Tenant(id) => (id == tenant, "tenant"),
        Subject::Grant(id) => {
            let held = view.grants.get(id);
            let own = held.is_some_and(|held| held.value.tenant == *tenant);
            (own, "grant")
        }
        Subject::Vendor(_)
        | Subject::Client(_)
        | Subject::Provider(_)
        | Subject::App(_)
        | Subject::Key(_) => return Ok(()),
    };
    if own {
        Ok(())
    } else {
        Err(AdminError::NotFound(what))
    }
}

fn generation(view: &View, name: &FreezeName) -> u64 {
    view.freezes.get(name).map_or(0, |held| held.generation)
}

pub(super) fn subject_text(subject: &Subject) -> String {
    let (kind, id) = match subject {
        Subject::Tenant(id) => ("tenant", id.as_str()),
        Subject::Vendor(id) => ("vendor", id.as_str()),
        Subject::Client(id) => ("client", id.as_str()),
        Subject::Provider(id) => ("provider", id.as_str()),
        Subject::App(id) => ("app", id.as_str()),
        Subject::Grant(id) => ("grant", id.as_str()),
        Subject::Key(jkt) => ("key", jkt.as_str()),
    };
    format!("{kind}/{id}")
}

fn freeze_place(name: &FreezeName) -> Place {
    let tenant = name.0.as_ref().map_or("", TenantId::as_str);
    let name = format!("{tenant}|{}", subject_text(&name.1));
    Place::system(Table::Freezes, &name)
}
