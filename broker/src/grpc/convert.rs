//! Between the contract's messages and the enclave's types.

mod approvals;
mod apps;
mod by_profile;
mod clients;
mod consents;
mod policies;
mod terms;

use enclave::admin::{AdminError, Erasure, ErasurePhase, GrantView, PageRequest};
use enclave::freeze::{Freeze, Subject};
use enclave::http_url::HttpUrl;
use enclave::ids::{
    AppId, ClientId, GrantId, OperationId, ProviderId, TargetName, TenantId, VendorId,
};
use enclave::keys::envelope::Retired;
use enclave::operation::{Operation, OperationName, PathTemplate};
use enclave::profile::Profile;
use enclave::registry::{Api, Grant, Provider, Rotation, Target, TargetHost, Tenant, Vendor};
use enclave::scope::Scopes;
use proto::v1;

use crate::root::erase::waits_for;

pub use approvals::{approval_message, decision};
pub use apps::{app, app_message};
use apps::{auth_method, auth_method_message};
pub use by_profile::{beside_profile, profile_file};
pub use clients::{client, client_message};
pub use consents::{Completion, completion};
use consents::{consent, consent_message};
pub use policies::{policy_message, set_policy};
pub use terms::{limits, limits_message, terms, terms_message};

macro_rules! id {
    ($name:ident, $type:ident) => {
        /// Reads an id of a field.
        ///
        /// # Errors
        /// [`AdminError::Id`].
        pub fn $name(field: &'static str, text: &str) -> Result<$type, AdminError> {
            $type::parse(text).map_err(|error| AdminError::Id { field, error })
        }
    };
}

id!(tenant_id, TenantId);
id!(vendor_id, VendorId);
id!(client_id, ClientId);
id!(provider_id, ProviderId);
id!(app_id, AppId);
id!(grant_id, GrantId);
id!(target_name, TargetName);

fn url(field: &'static str, text: &str) -> Result<HttpUrl, AdminError> {
    HttpUrl::parse(text).map_err(|error| AdminError::Url { field, error })
}

/// A message that must be there.
///
/// # Errors
/// [`AdminError::Field`].
pub fn present<T>(field: &'static str, message: Option<T>) -> Result<T, AdminError> {
    message.ok_or(AdminError::Field {
        field,
        rule: "must be given",
    })
}

/// A tenant that is to be none, if it is not named.
///
/// # Errors
/// [`AdminError::Id`].
pub fn optional_tenant(field: &'static str, text: &str) -> Result<Option<TenantId>, AdminError> {
    if text.is_empty() {
        Ok(None)
    } else {
        tenant_id(field, text).map(Some)
    }
}

/// Which page is wanted.
#[must_use]
pub fn page(size: u32, after: &str) -> PageRequest<'_> {
    PageRequest {
        size: usize::try_from(size).unwrap_or(usize::MAX),
        after,
    }
}

/// Reads a message as a tenant.
///
/// # Errors
/// [`AdminError`].
pub fn tenant(message: v1::Tenant) -> Result<Tenant, AdminError> {
    Ok(Tenant {
        id: tenant_id("tenant.id", &message.id)?,
        display_name: message.display_name,
        limits: limits(message.limits),
    })
}

/// The message for a tenant.
#[must_use]
pub fn tenant_message(tenant: Tenant) -> v1::Tenant {
    v1::Tenant {
        id: tenant.id.into(),
        display_name: tenant.display_name,
        limits: limits_message(tenant.limits),
    }
}

/// The message for an erasure, with what of its wait is still pending.
#[must_use]
pub fn erasure_message(erasure: Erasure, pending: &[Retired]) -> v1::Erasure {
    let waits_for = waits_for(&erasure, pending);
    let done_at_s = match erasure.phase {
        ErasurePhase::Done { at_s } => Some(at_s),
        ErasurePhase::Begun {} | ErasurePhase::Waiting { .. } => None,
    };
    v1::Erasure {
        tenant: erasure.tenant.into(),
        state: if done_at_s.is_some() {
            "done"
        } else {
            "pending"
        }
        .to_owned(),
        waits_for,
        begun_at_s: erasure.begun_at_s,
        done_at_s: done_at_s.unwrap_or_default(),
        by: erasure.by,
    }
}

/// Reads a message as a vendor.
///
/// # Errors
/// [`AdminError`].
pub fn vendor(message: v1::Vendor) -> Result<Vendor, AdminError> {
    Ok(Vendor {
        id: vendor_id("vendor.id", &message.id)?,
        display_name: message.display_name,
    })
}

/// The message for a vendor.
#[must_use]
pub fn vendor_message(vendor: Vendor) -> v1::Vendor {
    v1::Vendor {
        id: vendor.id.into(),
        display_name: vendor.display_name,
    }
}

/// Reads a message as a provider.
///
/// # Errors
/// [`AdminError`].
pub fn provider(message: v1::Provider) -> Result<Provider, AdminError> {
    let rotation = rotation(message.rotation)?.unwrap_or(Rotation::Strict);
    let targets = message.targets.into_iter().map(target);
    Ok(Provider {
        id: provider_id("provider.id", &message.id)?,
        issuer: (!message.issuer.is_empty()).then_some(message.issuer),
        consent: message.consent.map(consent).transpose()?,
        token_endpoint: url("provider.token_endpoint", &message.token_endpoint)?,
        revocation_endpoint: match message.revocation_endpoint.as_str() {
            "" => None,
            text => Some(url("provider.revocation_endpoint", text)?),
        },
        rotation,
        targets: targets.collect::<Result<_, _>>()?,
        profile: message
            .profile
            .map(profile)
            .transpose()?
            .unwrap_or_default(),
        made_from: None,
    })
}

/// How refresh tokens behave; `None` if it is not said.
fn rotation(number: i32) -> Result<Option<Rotation>, AdminError> {
    match v1::RotationProfile::try_from(number) {
        Ok(v1::RotationProfile::Unspecified) => Ok(None),
        Ok(v1::RotationProfile::Strict) => Ok(Some(Rotation::Strict)),
        Ok(v1::RotationProfile::Grace) => Ok(Some(Rotation::Grace)),
        Ok(v1::RotationProfile::Never) => Ok(Some(Rotation::Never)),
        Err(_) => Err(AdminError::Field {
            field: "provider.rotation",
            rule: "unknown value",
        }),
    }
}

/// What is not given is as it is by default; the bounds are the enclave's to check.
fn profile(message: v1::ProviderProfile) -> Result<Profile, AdminError> {
    let v1::ProviderProfile {
        quiet_ms,
        deadline_ms,
        idle_lifetime_s,
        requests_per_s,
        requests_burst,
        dead_codes,
        max_in_flight,
        auth_methods,
        assertion_audience,
        dpop,
        superseded_still_work,
    } = message;
    let default = Profile::default();
    let methods = auth_methods.into_iter();
    Ok(Profile {
        quiet_ms: quiet_ms.unwrap_or(default.quiet_ms),
        deadline_ms: deadline_ms.unwrap_or(default.deadline_ms),
        idle_lifetime_s: idle_lifetime_s.or(default.idle_lifetime_s),
        requests_per_s: requests_per_s.unwrap_or(default.requests_per_s),
        requests_burst: requests_burst.unwrap_or(default.requests_burst),
        dead_codes,
        max_in_flight,
        auth_methods: methods
            .map(|number| auth_method("provider.profile.auth_methods", number))
            .collect::<Result<_, _>>()?,
        assertion_audience: (!assertion_audience.is_empty()).then_some(assertion_audience),
        dpop,
        superseded_still_work,
    })
}

fn profile_message(profile: Profile) -> v1::ProviderProfile {
    let Profile {
        quiet_ms,
        deadline_ms,
        idle_lifetime_s,
        requests_per_s,
        requests_burst,
        dead_codes,
        max_in_flight,
        auth_methods,
        assertion_audience,
        dpop,
        superseded_still_work,
    } = profile;
    let methods = auth_methods.into_iter();
    v1::ProviderProfile {
        quiet_ms: Some(quiet_ms),
        deadline_ms: Some(deadline_ms),
        idle_lifetime_s,
        requests_per_s: Some(requests_per_s),
        requests_burst: Some(requests_burst),
        dead_codes,
        max_in_flight,
        auth_methods: methods
            .map(|method| auth_method_message(method).into())
            .collect(),
        assertion_audience: assertion_audience.unwrap_or_default(),
        dpop,
        superseded_still_work,
    }
}

fn target(message: v1::Target) -> Result<Target, AdminError> {
    let api = match present("provider.targets.api", message.api)? {
        v1::target::Api::GatewayBaseUrl(text) => Api::Gateway {
            base_url: url("provider.targets.gateway_base_url", &text)?,
            tenant_hosts: message.tenant_hosts,
            operations: message
                .operations
                .into_iter()
                .map(operation)
                .collect::<Result<_, _>>()?,
            upstream_resource: (!message.upstream_resource.is_empty())
                .then_some(message.upstream_resource),
        },
        v1::target::Api::Resource(_)
            if message.tenant_hosts
                || !message.operations.is_empty()
                || !message.upstream_resource.is_empty() =>
        {
            return Err(AdminError::Field {
                field: "provider.targets",
                rule: "operations, tenant hosts and upstream resources are for targets behind the gateway",
            });
        }
        v1::target::Api::Resource(resource) => Api::Direct { resource },
    };
    Ok(Target {
        name: target_name("provider.targets.name", &message.name)?,
        api,
    })
}

fn operation(message: v1::Operation) -> Result<Operation, AdminError> {
    let v1::Operation {
        id,
        method,
        path,
        query,
        content_types,
        max_body_bytes,
    } = message;
    let id = OperationId::parse(&id).map_err(|error| AdminError::Id {
        field: "provider.targets.operations.id",
        error,
    })?;
    let path = PathTemplate::parse(&path).map_err(|error| AdminError::Template {
        field: "provider.targets.operations.path",
        error,
    })?;
    Ok(Operation {
        id,
        method,
        path,
        query,
        content_types,
        max_body_bytes,
    })
}

fn operation_message(operation: Operation) -> v1::Operation {
    let Operation {
        id,
        method,
        path,
        query,
        content_types,
        max_body_bytes,
    } = operation;
    v1::Operation {
        id: id.into(),
        method,
        path: path.into(),
        query,
        content_types,
        max_body_bytes,
    }
}

fn target_message(target: Target) -> v1::Target {
    let name = target.name.into();
    match target.api {
        Api::Gateway {
            base_url,
            tenant_hosts,
            operations,
            upstream_resource,
        } => v1::Target {
            name,
            api: Some(v1::target::Api::GatewayBaseUrl(base_url.into())),
            operations: operations.into_iter().map(operation_message).collect(),
            tenant_hosts,
            upstream_resource: upstream_resource.unwrap_or_default(),
        },
        Api::Direct { resource } => v1::Target {
            name,
            api: Some(v1::target::Api::Resource(resource)),
            operations: Vec::new(),
            tenant_hosts: false,
            upstream_resource: String::new(),
        },
    }
}

/// The message for a provider.
#[must_use]
pub fn provider_message(provider: Provider) -> v1::Provider {
    let rotation = match provider.rotation {
        Rotation::Strict => v1::RotationProfile::Strict,
        Rotation::Grace => v1::RotationProfile::Grace,
        Rotation::Never => v1::RotationProfile::Never,
    };
    let targets = provider.targets.into_iter().map(target_message);
    v1::Provider {
        id: provider.id.into(),
        issuer: provider.issuer.unwrap_or_default(),
        consent: provider.consent.map(consent_message),
        token_endpoint: provider.token_endpoint.as_str().to_owned(),
        rotation: rotation.into(),
        targets: targets.collect(),
        profile: Some(profile_message(provider.profile)),
        revocation_endpoint: provider
            .revocation_endpoint
            .map(|url| url.as_str().to_owned())
            .unwrap_or_default(),
        made_from: provider.made_from.map(|origin| v1::ProfileOrigin {
            id: origin.id,
            sha256: origin.sha256.to_vec(),
            signer_sha256: origin.signer.map(Vec::from).unwrap_or_default(),
            parameters: origin.parameters.into_iter().collect(),
        }),
    }
}

/// A grant to deposit; what the enclave sets itself is not read.
///
/// # Errors
/// [`AdminError`].
pub fn grant(message: v1::Grant) -> Result<Grant, AdminError> {
    let clients = message.clients.iter();
    let targets = message.targets.iter();
    Ok(Grant {
        id: grant_id("grant.id", &message.id)?,
        tenant: tenant_id("grant.tenant", &message.tenant)?,
        app: app_id("grant.app", &message.app)?,
        clients: clients
            .map(|id| client_id("grant.clients", id))
            .collect::<Result<_, _>>()?,
        targets: targets
            .map(|name| target_name("grant.targets", name))
            .collect::<Result<_, _>>()?,
        scopes: Scopes::parse(&message.scopes).map_err(AdminError::Scopes)?,
        created_at_s: 0,
        expires_at_s: Some(message.expires_at_s).filter(|end_s| *end_s != 0),
        operations: message
            .operations
            .iter()
            .map(|name| operation_name("grant.operations", name))
            .collect::<Result<_, _>>()?,
        hosts: message
            .hosts
            .into_iter()
            .map(target_host)
            .collect::<Result<_, _>>()?,
        terms: terms(message.terms)?.or_none(),
        allow_upstream_bound: message.allow_upstream_bound,
    })
}

pub(crate) fn operation_name(field: &'static str, text: &str) -> Result<OperationName, AdminError> {
    OperationName::parse(text).map_err(|error| AdminError::Id { field, error })
}

fn target_host(message: v1::TargetHost) -> Result<TargetHost, AdminError> {
    let v1::TargetHost { target, host } = message;
    Ok(TargetHost {
        target: target_name("grant.hosts.target", &target)?,
        host,
    })
}

fn target_host_message(host: TargetHost) -> v1::TargetHost {
    let TargetHost { target, host } = host;
    v1::TargetHost {
        target: target.into(),
        host,
    }
}

/// The message for a grant as its owner sees it.
#[must_use]
pub fn grant_message(view: GrantView) -> v1::Grant {
    let state = match view.needs_consent {
        _ if view.revoked => v1::GrantState::Revoked,
        None if view.asleep_since_s.is_some() => v1::GrantState::Asleep,
        None => v1::GrantState::Active,
        Some(_) => v1::GrantState::NeedsConsent,
    };
    let cause = view.needs_consent.map(|cause| cause.word().to_owned());
    let grant = view.grant;
    v1::Grant {
        id: grant.id.into(),
        tenant: grant.tenant.into(),
        app: grant.app.into(),
        clients: grant.clients.into_iter().map(Into::into).collect(),
        targets: grant.targets.into_iter().map(Into::into).collect(),
        scopes: grant.scopes.into(),
        state: state.into(),
        cause: cause.unwrap_or_default(),
        frozen: view.frozen,
        resources: view.resources,
        created_at_s: grant.created_at_s,
        refresh_generation: view.refresh_generation,
        revocation_pending: view.revocation_pending,
        expires_at_s: grant.expires_at_s.unwrap_or_default(),
        provider_told: view
            .told
            .map(|told| told.word().to_owned())
            .unwrap_or_default(),
        operations: grant.operations.into_iter().map(Into::into).collect(),
        hosts: grant.hosts.into_iter().map(target_host_message).collect(),
        exposed_before_deposit: view.exposure.is_exposed(),
        terms: grant.terms.map(|terms| terms_message(*terms)),
        asleep_since_s: view.asleep_since_s.unwrap_or_default(),
        last_used_at_s: view.last_used_s.unwrap_or_default(),
        allow_upstream_bound: grant.allow_upstream_bound,
    }
}

/// Reads what a freeze covers.
///
/// # Errors
/// [`AdminError`].
pub fn subject(message: Option<v1::FreezeSubject>) -> Result<Subject, AdminError> {
    use v1::freeze_subject::Subject as Message;
    let message = present("subject", message.and_then(|message| message.subject))?;
    Ok(match message {
        Message::Tenant(id) => Subject::Tenant(tenant_id("subject.tenant", &id)?),
        Message::Vendor(id) => Subject::Vendor(vendor_id("subject.vendor", &id)?),
        Message::Client(id) => Subject::Client(client_id("subject.client", &id)?),
        Message::Provider(id) => Subject::Provider(provider_id("subject.provider", &id)?),
        Message::App(id) => Subject::App(app_id("subject.app", &id)?),
        Message::Grant(id) => Subject::Grant(grant_id("subject.grant", &id)?),
        Message::Jkt(jkt) => Subject::Key(jkt),
    })
}

/// The message for a freeze.
#[must_use]
pub fn freeze_message(freeze: Freeze) -> v1::Freeze {
    use v1::freeze_subject::Subject as Message;
    let subject = match freeze.subject {
        Subject::Tenant(id) => Message::Tenant(id.into()),
        Subject::Vendor(id) => Message::Vendor(id.into()),
        Subject::Client(id) => Message::Client(id.into()),
        Subject::Provider(id) => Message::Provider(id.into()),
        Subject::App(id) => Message::App(id.into()),
        Subject::Grant(id) => Message::Grant(id.into()),
        Subject::Key(jkt) => Message::Jkt(jkt),
    };
    v1::Freeze {
        subject: Some(v1::FreezeSubject {
            subject: Some(subject),
        }),
        reason: freeze.reason,
        since_s: freeze.since_s,
        by: freeze.by,
        tenant: freeze.tenant.map(Into::into).unwrap_or_default(),
    }
}
