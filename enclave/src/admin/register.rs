//! Registering tenants, vendors, clients and providers.

use std::collections::BTreeSet;
use std::sync::Arc;

use url::Url;
use zeroize::Zeroizing;

use super::{AdminError, Administrator, forbid_unless};
use crate::Enclave;
use crate::audit::Event;
use crate::freeze::Touched;
use crate::gateway::address;
use crate::http_url::HttpUrl;
use crate::ids::{ClientId, TenantId};
use crate::limits::{LimitOf, Limits};
use crate::operation::{self, Operation, OperationsError};
use crate::pending::Pending;
use crate::record::{Place, Table};
use crate::registry::{Api, Client, Consent, Provider, Target, Tenant, Vendor};
use crate::seal::SealingKey;
use crate::store::Batch;
use crate::time::Now;
use crate::view::{Effect, Held, TenantKey, View};

/// The longest display name in bytes.
pub(crate) const MAX_DISPLAY_NAME_BYTES: usize = 256;

/// The most keys for assertions of a client.
pub(crate) const MAX_CLIENT_KEYS: usize = 8;

/// The longest resource indicator at a provider in bytes.
const MAX_RESOURCE_BYTES: usize = 2_048;

/// The most parameters that are added to an authorization request.
const MAX_PARAMETERS: usize = 16;

/// The parameters of an authorization request that are the enclave's own.
const OWN_PARAMETERS: [&str; 13] = [
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "dpop_jkt",
    "resource",
    "request",
    "request_uri",
    "response_mode",
];

/// The most targets of a provider.
pub(crate) const MAX_TARGETS: usize = 64;

impl Enclave {
    /// Registers a tenant and makes its key.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn create_tenant(
        &self,
        by: &Administrator,
        tenant: Tenant,
        now: &Now,
    ) -> Result<Pending<Tenant>, AdminError> {
        forbid_unless(by.is_operator())?;
        check_display_name(&tenant.display_name)?;
        if tenant.limits != Limits::default() {
            return Err(AdminError::Field {
                field: "tenant.limits",
                rule: "are the tenant's own to set",
            });
        }
        let view = self.view.read();
        if view.tenants.contains_key(&tenant.id) {
            return Err(AdminError::Exists("tenant"));
        }
        if view.erasures.contains_key(&tenant.id) {
            return Err(AdminError::Field {
                field: "tenant.id",
                rule: "a tenant of this id was erased: choose another",
            });
        }
        let key = self.new_tenant_key()?;
        let key_place = Place::system(Table::TenantKeys, tenant.id.as_str());
        let under = self.wrap_key();
        let key_write = self
            .cabinet
            .seal(&*self.rng, &under, &key_place, 0, &key.expose_all())?;
        let held = TenantKey::new(&tenant.id, 1, Arc::new(key), under);
        let mut change = self.record(Table::Tenants, tenant.id.as_str(), &tenant)?;
        change.writes.push(key_write);
        let event = registered("tenant", tenant.id.as_str(), by);
        change.leaves.push(self.leaf(&view, None, &event, now)?);
        let effects = vec![
            Effect::TenantKey(tenant.id.clone(), held),
            Effect::Tenant(Held::new(1, tenant.clone())),
        ];
        Ok(Pending::new(change, effects, Touched::nothing(), tenant))
    }

    /// Registers a vendor.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn create_vendor(
        &self,
        by: &Administrator,
        vendor: Vendor,
        now: &Now,
    ) -> Result<Pending<Vendor>, AdminError> {
        forbid_unless(by.is_operator())?;
        check_display_name(&vendor.display_name)?;
        let view = self.view.read();
        if view.vendors.contains_key(&vendor.id) {
            return Err(AdminError::Exists("vendor"));
        }
        let mut change = self.record(Table::Vendors, vendor.id.as_str(), &vendor)?;
        let event = registered("vendor", vendor.id.as_str(), by);
        change.leaves.push(self.leaf(&view, None, &event, now)?);
        let effects = vec![Effect::Vendor(Held::new(1, vendor.clone()))];
        Ok(Pending::new(change, effects, Touched::nothing(), vendor))
    }

    /// Registers a client of a vendor.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn create_client(
        &self,
        by: &Administrator,
        client: Client,
        now: &Now,
    ) -> Result<Pending<Client>, AdminError> {
        forbid_unless(by.acts_for_vendor(&client.vendor))?;
        let view = self.view.read();
        if !view.vendors.contains_key(&client.vendor) {
            return Err(AdminError::NotFound("vendor"));
        }
        if view.clients.contains_key(&client.id) {
            return Err(AdminError::Exists("client"));
        }
        self.check_credentials(&view, &client)?;
        let mut change = self.record(Table::Clients, client.id.as_str(), &client)?;
        let event = registered("client", client.id.as_str(), by);
        change.leaves.push(self.leaf(&view, None, &event, now)?);
        let effects = vec![Effect::Client(Held::new(1, client.clone()))];
        Ok(Pending::new(change, effects, Touched::nothing(), client))
    }

    /// Replaces what a client is recognised by. From the moment that it is durable
    /// on, the old keys are nobody's; tokens that were issued before live to their
    /// end.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn update_client(
        &self,
        by: &Administrator,
        client: Client,
        now: &Now,
    ) -> Result<Pending<Client>, AdminError> {
        let view = self.view.read();
        let held = view.clients.get(&client.id);
        let held = held.ok_or(AdminError::NotFound("client"))?;
        // Whose client it is says the registry, not the request.
        forbid_unless(by.acts_for_vendor(&held.value.vendor))?;
        if client.vendor != held.value.vendor {
            return Err(AdminError::Field {
                field: "client.vendor",
                rule: "a client stays with its vendor",
            });
        }
        self.check_credentials(&view, &client)?;
        let place = Place::system(Table::Clients, client.id.as_str());
        let write = self.seal_json(&self.system_key, &place, held.generation, &client)?;
        let event = Event::ClientChanged {
            id: &client.id,
            by: &by.name,
        };
        let change = Batch {
            writes: vec![write],
            leaves: vec![self.leaf(&view, None, &event, now)?],
        };
        let next = held.generation.saturating_add(1);
        let effects = vec![Effect::Client(Held::new(next, client.clone()))];
        Ok(Pending::new(change, effects, Touched::nothing(), client))
    }

    /// Registers a provider.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn create_provider(
        &self,
        by: &Administrator,
        provider: Provider,
        now: &Now,
    ) -> Result<Pending<Provider>, AdminError> {
        forbid_unless(by.is_operator())?;
        self.check_provider(&provider)?;
        let view = self.view.read();
        if view.providers.contains_key(&provider.id) {
            return Err(AdminError::Exists("provider"));
        }
        let mut change = self.record(Table::Providers, provider.id.as_str(), &provider)?;
        let event = registered("provider", provider.id.as_str(), by);
        change.leaves.push(self.leaf(&view, None, &event, now)?);
        let effects = vec![Effect::Provider(Held::new(1, provider.clone()))];
        Ok(Pending::new(change, effects, Touched::nothing(), provider))
    }

    /// The batch that writes a new record of the system's realm.
    pub(super) fn record<T: serde::Serialize>(
        &self,
        table: Table,
        name: &str,
        value: &T,
    ) -> Result<Batch, AdminError> {
        let place = Place::system(table, name);
        let write = self.seal_json(&self.system_key, &place, 0, value)?;
        Ok(Batch {
            writes: vec![write],
            leaves: Vec::new(),
        })
    }

    /// A client has a way to authenticate, each of its keys one name, and nothing
    /// that names another client or an administrator.
    fn check_credentials(&self, view: &View, client: &Client) -> Result<(), AdminError> {
        check_client_keys(client)?;
        let others = |found: Option<&ClientId>| found.is_some_and(|id| *id != client.id);
        let taken = client.tls_spki_sha256.is_some_and(|spki| {
            let administrates = |a: &Administrator| a.spki_sha256 == spki;
            others(view.clients_by_spki.get(&spki))
                || self.config.administrators.iter().any(administrates)
        });
        if taken {
            return Err(AdminError::Field {
                field: "client.tls_spki_sha256",
                rule: "the key belongs to another client or administrator: use a new one",
            });
        }
        let Some(spiffe_id) = &client.spiffe_id else {
            return Ok(());
        };
        let refused = |rule| {
            Err(AdminError::Field {
                field: "client.spiffe_id",
                rule,
            })
        };
        let domains = &self.config.trust_domains;
        if !domains
            .iter()
            .any(|domain| domain.name == spiffe_id.trust_domain() && domain.vendor == client.vendor)
        {
            return refused("its trust domain must be one that the manifest gives to the vendor");
        }
        if others(view.clients_by_spiffe_id.get(spiffe_id)) {
            return refused("the SPIFFE ID belongs to another client");
        }
        Ok(())
    }

    pub(super) fn new_tenant_key(&self) -> Result<SealingKey, AdminError> {
        let mut key = Zeroizing::new([0; 32]);
        self.rng
            .fill(key.as_mut())
            .map_err(|_| crate::seal::SealError::Failed)?;
        Ok(SealingKey::new(key))
    }

    fn check_provider(&self, provider: &Provider) -> Result<(), AdminError> {
        let loopback_refused = |field| AdminError::Field {
            field,
            rule: "loopback is for an emulated enclave whose manifest allows it",
        };
        if provider.token_endpoint.is_loopback() && !self.config.allow_loopback {
            return Err(loopback_refused("provider.token_endpoint"));
        }
        if let Some(issuer) = &provider.issuer
            && check_issuer(issuer)?.is_loopback()
            && !self.config.allow_loopback
        {
            return Err(loopback_refused("provider.issuer"));
        }
        let revocation = provider.revocation_endpoint.as_ref();
        if revocation.is_some_and(HttpUrl::is_loopback) && !self.config.allow_loopback {
            return Err(loopback_refused("provider.revocation_endpoint"));
        }
        if let Some(consent) = &provider.consent {
            check_consent(consent)?;
            if consent.authorization_endpoint.is_loopback() && !self.config.allow_loopback {
                return Err(loopback_refused("provider.consent.authorization_endpoint"));
            }
            let device = consent.device_authorization_endpoint.as_ref();
            if device.is_some_and(HttpUrl::is_loopback) && !self.config.allow_loopback {
                return Err(loopback_refused(
                    "provider.consent.device_authorization_endpoint",
                ));
            }
        }
        provider
            .profile
            .check()
            .map_err(|error| AdminError::Field {
                field: error.field,
                rule: error.rule,
            })?;
        if provider.targets.len() > MAX_TARGETS {
            return Err(AdminError::Field {
                field: "provider.targets",
                rule: "at most 64",
            });
        }
        let mut names = BTreeSet::new();
        for Target { name, api } in &provider.targets {
            if !names.insert(name) {
                return Err(AdminError::Field {
                    field: "provider.targets.name",
                    rule: "each name once",
                });
            }
            match api {
                Api::Gateway {
                    base_url,
                    tenant_hosts,
                    operations,
                    upstream_resource,
                } => {
                    check_operations(operations)?;
                    if let Some(resource) = upstream_resource {
                        check_upstream_resource(resource)?;
                    }
                    if *tenant_hosts && !base_url.has_domain() {
                        return Err(AdminError::Field {
                            field: "provider.targets.tenant_hosts",
                            rule: "the base URL's host must be a name of two labels or more",
                        });
                    }
                    if base_url.is_loopback() && !self.config.allow_loopback {
                        return Err(loopback_refused("provider.targets.gateway_base_url"));
                    }
                }
                Api::Direct { resource } => self.check_direct_resource(resource)?,
            }
        }
        Ok(())
    }

    /// A resource indicator is an absolute URI without a fragment [RFC 8707 §2],
    /// and must not be one of the gateway's own.
    fn check_direct_resource(&self, resource: &str) -> Result<(), AdminError> {
        HttpUrl::parse(resource).map_err(|error| AdminError::Url {
            field: "provider.targets.resource",
            error,
        })?;
        let gateway = &self.config.gateway_origin;
        if resource.starts_with(gateway)
            || address::of_host(gateway, resource.trim_end_matches('/')).is_some()
        {
            return Err(AdminError::Field {
                field: "provider.targets.resource",
                rule: "must not be a resource of the gateway",
            });
        }
        Ok(())
    }
}

/// Nothing that is added takes the place of what the enclave says itself.
fn check_consent(consent: &Consent) -> Result<(), AdminError> {
    let visible =
        |text: &str| (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    let own = |name: &str| OWN_PARAMETERS.contains(&name);
    let parameters = &consent.parameters;
    let fits = parameters.len() <= MAX_PARAMETERS
        && parameters
            .iter()
            .all(|(name, value)| visible(name) && visible(value) && !own(name));
    if !fits {
        return Err(AdminError::Field {
            field: "provider.consent.parameters",
            rule: "at most 16 of visible ASCII, none that the enclave sets itself",
        });
    }
    let scopes = &consent.offline_scopes;
    if scopes.len() > MAX_PARAMETERS || !scopes.iter().all(|scope| visible(scope)) {
        return Err(AdminError::Field {
            field: "provider.consent.offline_scopes",
            rule: "at most 16 of visible ASCII",
        });
    }
    Ok(())
}

/// An absolute URI without a fragment [RFC 8707 §2], as it goes into a form.
fn check_upstream_resource(resource: &str) -> Result<(), AdminError> {
    let fits = resource.len() <= MAX_RESOURCE_BYTES
        && resource.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
        && Url::parse(resource).is_ok();
    if fits {
        Ok(())
    } else {
        Err(AdminError::Field {
            field: "provider.targets.upstream_resource",
            rule: "an absolute URI of at most 2048 characters, without a fragment [RFC 8707]",
        })
    }
}

/// An issuer identifier: an https URL without query and fragment [RFC 8414 §2]. It is compared as it is written.
fn check_issuer(issuer: &str) -> Result<HttpUrl, AdminError> {
    HttpUrl::parse(issuer).map_err(|error| AdminError::Url {
        field: "provider.issuer",
        error,
    })
}

fn check_operations(operations: &[Operation]) -> Result<(), AdminError> {
    operation::check(operations).map_err(|error| {
        let (field, rule) = match error {
            OperationsError::TooMany => ("provider.targets.operations", "at most 512"),
            OperationsError::SameId => ("provider.targets.operations.id", "each id once"),
            OperationsError::SamePath => (
                "provider.targets.operations.path",
                "each method and path once, whatever the parameters are called",
            ),
            OperationsError::Method => (
                "provider.targets.operations.method",
                "must be GET, POST, PUT, PATCH or DELETE",
            ),
            OperationsError::Query => (
                "provider.targets.operations.query",
                "at most 64 of 1 to 128 printable ASCII characters, or * alone",
            ),
            OperationsError::ContentType => (
                "provider.targets.operations.content_types",
                "at most 64 of type/subtype in lower case, or */* alone",
            ),
            OperationsError::Bound => (
                "provider.targets.operations.max_body_bytes",
                "only where content types are listed",
            ),
        };
        AdminError::Field { field, rule }
    })
}

fn check_client_keys(client: &Client) -> Result<(), AdminError> {
    let Client {
        id: _,
        vendor: _,
        tls_spki_sha256,
        jwks,
        spiffe_id,
        limits,
        kind: _,
    } = client;
    if let Some(rule) = limits.broken(LimitOf::Client) {
        return Err(AdminError::Field {
            field: "client.limits",
            rule,
        });
    }
    if tls_spki_sha256.is_none() && jwks.is_empty() && spiffe_id.is_none() {
        return Err(AdminError::Field {
            field: "client",
            rule: "must have tls_spki_sha256, spiffe_id or jwks",
        });
    }
    if jwks.len() > MAX_CLIENT_KEYS {
        return Err(AdminError::Field {
            field: "client.jwks",
            rule: "at most 8",
        });
    }
    let mut kids = BTreeSet::new();
    let mut keys = BTreeSet::new();
    for key in jwks {
        if !kids.insert(key.kid()) || !keys.insert(key.key().as_bytes()) {
            return Err(AdminError::Field {
                field: "client.jwks",
                rule: "each key and each kid once",
            });
        }
    }
    Ok(())
}

pub(super) fn registered<'a>(what: &'a str, id: &'a str, by: &'a Administrator) -> Event<'a> {
    Event::Registered {
        what,
        id,
        by: &by.name,
    }
}

fn check_display_name(name: &str) -> Result<(), AdminError> {
    let fits = name.len() <= MAX_DISPLAY_NAME_BYTES && !name.chars().any(char::is_control);
    if fits {
        Ok(())
    } else {
        Err(AdminError::Field {
            field: "display_name",
            rule: "at most 256 bytes, no control characters",
        })
    }
}

/// The tenant that an administrator names, if it exists.
pub(super) fn known_tenant(view: &View, tenant: &TenantId) -> Result<(), AdminError> {
    if view.tenants.contains_key(tenant) {
        Ok(())
    } else {
        Err(AdminError::NotFound("tenant"))
    }
}
