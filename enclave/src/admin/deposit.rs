//! Deposits: a refresh token comes in, sealed to the enclave's HPKE key, and
//! becomes a grant.

use attestation::DepositContext;
use zeroize::Zeroizing;

use super::keep::{Kept, Source};
use super::register::known_tenant;
use super::terms::check_terms;
use super::{AdminError, Administrator, GrantView, forbid_unless};
use crate::Enclave;
use crate::ids::OperationId;
use crate::keys::keyring::open_deposit;
use crate::pending::Pending;
use crate::registry::{Api, App, AuthMethod, Grant, Target};
use crate::secret::RefreshToken;
use crate::time::Now;
use crate::upstream_bound;
use crate::upstream_dpop::BoundKey;
use crate::view::View;

/// The most clients, and the most targets, of a grant.
pub(crate) const MAX_NAMED: usize = 64;

/// A deposit as it came in.
#[derive(Clone, Debug)]
pub struct DepositRequest<'a> {
    /// The grant; `created_at_s` is set by the enclave.
    pub grant: Grant,
    /// The refresh token, sealed.
    pub sealed_refresh_token: &'a [u8],
    /// Whether it is to be exchanged as soon as that can be: by the caller, or else with the grants that are used
    /// by themselves.
    pub rotate: bool,
    /// Whether a grant that is there already is left as it is.
    pub only_new: bool,
}

impl Enclave {
    /// Creates a grant from a sealed refresh token, or gives an existing grant a
    /// new one.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn deposit(
        &self,
        by: &Administrator,
        request: DepositRequest<'_>,
        now: &Now,
    ) -> Result<Pending<GrantView>, AdminError> {
        let DepositRequest {
            grant,
            sealed_refresh_token,
            rotate,
            only_new,
        } = request;
        forbid_unless(by.owns_tenant(&grant.tenant))?;
        let view = self.view.read();
        if only_new && view.grants.contains_key(&grant.id) {
            return Err(AdminError::Exists("grant"));
        }
        let dpop = self.check_grant(&view, &grant, now)?;
        if dpop && is_public(&view, &grant) {
            // [RFC 9449 §5]
            return Err(AdminError::Field {
                field: "grant.app",
                rule: "a public client's refresh token is bound to the key that it was got with, which is not here: connect it",
            });
        }
        let token = self.open_grant_deposit(&grant, sealed_refresh_token, now)?;
        let dpop_key = dpop.then(|| BoundKey::generate(&*self.rng)).transpose()?;
        drop(view);
        let kept = Kept {
            token: &token,
            dpop_key: dpop_key.as_ref(),
            subject_sha256: None,
        };
        self.keep_grant(by, grant, &kept, Source::Deposit { rotate }, now)
    }

    /// Whether the grant's upstream tokens are to be bound to a key.
    pub(crate) fn check_grant(
        &self,
        view: &View,
        grant: &Grant,
        now: &Now,
    ) -> Result<bool, AdminError> {
        known_tenant(view, &grant.tenant)?;
        if grant.expires_at_s.is_some_and(|end_s| now.hi_s >= end_s) {
            return Err(AdminError::Field {
                field: "grant.expires_at_s",
                rule: "must lie ahead",
            });
        }
        let app = view
            .apps
            .get(&grant.app)
            .ok_or(AdminError::NotFound("app"))?;
        let provider = view
            .providers
            .get(&app.value.provider)
            .ok_or(AdminError::NotFound("provider"))?;
        let bounded = |field, count: usize| {
            if (1..=MAX_NAMED).contains(&count) {
                Ok(())
            } else {
                Err(AdminError::Field {
                    field,
                    rule: "1 to 64, each once",
                })
            }
        };
        bounded("grant.clients", grant.clients.len())?;
        bounded("grant.targets", grant.targets.len())?;
        for client in &grant.clients {
            let known = view.clients.get(client);
            // A client of another vendor would use an app that is not its own.
            if known.is_none_or(|held| held.value.vendor != app.value.vendor) {
                return Err(AdminError::NotFound("client"));
            }
        }
        for target in &grant.targets {
            if provider.value.target(target).is_none() {
                return Err(AdminError::NotFound("target"));
            }
        }
        let twice = |n: usize, unique: std::collections::BTreeSet<&str>| unique.len() != n;
        let clients = grant.clients.iter().map(|id| id.as_str()).collect();
        let targets = grant.targets.iter().map(|id| id.as_str()).collect();
        if twice(grant.clients.len(), clients) {
            bounded("grant.clients", 0)?;
        }
        if twice(grant.targets.len(), targets) {
            bounded("grant.targets", 0)?;
        }
        for target in &grant.targets {
            let known = provider.value.target(target);
            check_target(grant, known.ok_or(AdminError::NotFound("target"))?)?;
        }
        let strays = grant
            .operations
            .iter()
            .map(|name| &name.target)
            .chain(grant.hosts.iter().map(|host| &host.target))
            .any(|target| !grant.targets.contains(target));
        if strays {
            return Err(AdminError::NotFound("target"));
        }
        if let Some(terms) = &grant.terms {
            check_terms(view, grant, terms)?;
        }
        if grant.allow_upstream_bound {
            let allowed = upstream_bound::may_be_allowed(grant, &app.value, &provider.value);
            allowed.map_err(|rule| AdminError::Field {
                field: "grant.allow_upstream_bound",
                rule,
            })?;
        }
        Ok(provider.value.profile.dpop)
    }

    fn open_grant_deposit(
        &self,
        grant: &Grant,
        sealed: &[u8],
        now: &Now,
    ) -> Result<RefreshToken, AdminError> {
        let (tenant, app, id) = (&grant.tenant, &grant.app, &grant.id);
        let context = [tenant.as_str(), app.as_str(), id.as_str(), "refresh-token"];
        let plain = self.open_deposit(context, sealed, now)?;
        // It goes into a form field: visible ASCII only [RFC 6749 A.17].
        if !plain.iter().all(|b| (0x20..0x7f).contains(b)) {
            return Err(AdminError::Field {
                field: "sealed_refresh_token",
                rule: "the token must be printable ASCII [RFC 6749 A.17]",
            });
        }
        Ok(RefreshToken::new(plain.to_vec()))
    }

    pub(super) fn open_app_deposit(
        &self,
        app: &App,
        sealed: &[u8],
        now: &Now,
    ) -> Result<Zeroizing<Vec<u8>>, AdminError> {
        // An app has no tenant and no grant: its vendor and provider stand there.
        let (vendor, id, provider) = (&app.vendor, &app.id, &app.provider);
        let context = [
            vendor.as_str(),
            id.as_str(),
            provider.as_str(),
            "client-secret",
        ];
        self.open_deposit(context, sealed, now)
    }

    /// Opens what was sealed under the bundle of now, or under one that was replaced a moment ago.
    fn open_deposit(
        &self,
        [tenant, app, grant, kind]: [&str; 4],
        sealed: &[u8],
        now: &Now,
    ) -> Result<Zeroizing<Vec<u8>>, AdminError> {
        let speaking = self.speaking();
        let opened = speaking.deposit_keys(now).find_map(|(bundle_digest, key)| {
            let context = DepositContext {
                tenant,
                app,
                grant,
                kind,
                bundle_digest,
            };
            open_deposit(key, &context, sealed)
        });
        opened.ok_or(AdminError::Deposit)
    }
}

/// Whether a grant's app is a public client.
fn is_public(view: &View, grant: &Grant) -> bool {
    let app = view.apps.get(&grant.app);
    app.is_some_and(|app| app.value.auth_method == AuthMethod::None)
}

/// Checks what a grant says of one of its targets: operations that it has, and a host of the tenant's own exactly if
/// it has one for each tenant.
fn check_target(grant: &Grant, target: &Target) -> Result<(), AdminError> {
    let mut named: Vec<&OperationId> = grant
        .operations
        .iter()
        .filter(|name| name.target == target.name)
        .map(|name| &name.operation)
        .collect();
    let hosts = grant.hosts.iter().filter(|host| host.target == target.name);
    let hosts: Vec<&str> = hosts.map(|host| host.host.as_str()).collect();
    let (known, hosts_fit) = match &target.api {
        Api::Direct { .. } => (&[][..], hosts.is_empty()),
        Api::Gateway {
            base_url,
            tenant_hosts,
            operations,
            upstream_resource: _,
        } => {
            let below = |host: &&str| base_url.at_host_below(host).is_some();
            let fit = match hosts.as_slice() {
                [] => !tenant_hosts,
                [host] => *tenant_hosts && below(host),
                _ => false,
            };
            (operations.as_slice(), fit)
        }
    };
    if !hosts_fit {
        return Err(AdminError::Field {
            field: "grant.hosts",
            rule: "one host below the base URL's for each target with tenant hosts, none for others",
        });
    }
    // A grant that lists operations lists them for each target behind the gateway.
    let lists = !grant.operations.is_empty();
    let behind_gateway = matches!(target.api, Api::Gateway { .. });
    let count = named.len();
    named.sort();
    named.dedup();
    let all_known = named
        .iter()
        .all(|id| known.iter().any(|operation| operation.id == **id));
    if (lists && behind_gateway && count == 0) || count != named.len() || !all_known {
        return Err(AdminError::Field {
            field: "grant.operations",
            rule: "operations that the targets have, each once, and at least one for each target behind the gateway",
        });
    }
    Ok(())
}
