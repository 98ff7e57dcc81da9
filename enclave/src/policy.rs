//! Authorization: default deny. A grant names clients, targets and scopes, and
//! nothing outside passes; what passes here is the tenant's own policy asked about.

use thiserror::Error;

use crate::custody::Cause;
use crate::freeze::{Subject, Touched};
use crate::gateway::address;
use crate::ids::{ClientId, GrantId, TargetName};
use crate::registry::{Api, Client, Grant, Target};
use crate::scope::Scopes;
use crate::time::Now;
use crate::view::{Held, View};

/// Why a known caller does not get what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Denied {
    /// There is no such grant, or it does not name the client: the caller
    /// learns no difference.
    #[error("no such grant for this client")]
    NoSuchGrant,
    /// The grant does not name the resource.
    #[error("the grant does not allow this resource")]
    Resource,
    /// The grant does not have a scope that was asked for.
    #[error("the grant does not have a scope that was asked for")]
    Scope,
    /// A freeze covers something that the request touches.
    #[error("frozen")]
    Frozen {
        /// What is frozen.
        subject: Subject,
    },
    /// Too few witnesses have lately seen that this enclave goes on from the newest
    /// state.
    #[error("the witnesses' word is missing")]
    NotWitnessed,
    /// The grant's owner revoked it.
    #[error("the grant was revoked")]
    Revoked,
    /// The grant has come to the end that its owner set.
    #[error("the grant has expired")]
    Expired,
    /// The grant was not used for as long as its tenant set, and sleeps.
    #[error("the grant is asleep")]
    Asleep,
    /// The tenant wants a person's approval for this very call.
    #[error("the call needs approval {approval}")]
    ApprovalRequired {
        /// What to name it by.
        approval: String,
    },
    /// An administrator of the tenant denied this very call.
    #[error("the call was denied (approval {approval})")]
    ApprovalDenied {
        /// What to name it by.
        approval: String,
    },
    /// No more calls can wait for approval.
    #[error("too many calls wait for approval")]
    TooManyApprovals,
    /// The tenant's policy denies it.
    #[error("the tenant's policy does not allow this (decision {decision})")]
    Policy {
        /// What the leaf names the decision by.
        decision: String,
    },
    /// The tenant's policy can't be read by this build, so it denies all.
    #[error("the tenant's policy does not fit this version (decision {decision})")]
    PolicyUnusable {
        /// What the leaf names the decision by.
        decision: String,
    },
    /// The tenant's policy was changed while the request was under way, and does not
    /// permit it any more.
    #[error("the tenant's policy has just changed")]
    PolicyChanged,
    /// The grant's owner must consent again.
    #[error("the grant needs its owner's consent again")]
    NeedsConsent {
        /// Why.
        cause: Cause,
    },
}

/// What an authorized request may have.
#[derive(Clone, Debug)]
pub(crate) struct Allowed {
    /// The resource indicator, the token's sole audience.
    pub(crate) resource: String,
    /// The target that it names.
    pub(crate) target: TargetName,
    /// The scopes of the token.
    pub(crate) scopes: Scopes,
    /// What to check again before release.
    pub(crate) touched: Touched,
}

/// The resource indicator of a target for a grant [RFC 8707].
pub(crate) fn resource_of(gateway_origin: &str, grant: &GrantId, target: &Target) -> String {
    match &target.api {
        Api::Gateway { .. } => address::by_path(gateway_origin, grant, &target.name),
        Api::Direct { resource } => resource.clone(),
    }
}

/// The grant, if it names the client.
pub(crate) fn find_grant<'a>(
    view: &'a View,
    client: &ClientId,
    grant: &GrantId,
) -> Result<&'a Held<Grant>, Denied> {
    view.grants
        .get(grant)
        .filter(|held| held.value.clients.contains(client))
        .ok_or(Denied::NoSuchGrant)
}

/// The grant that a resource of the gateway contains, whoever's it is.
pub(crate) fn grant_in_resource(gateway_origin: &str, resource: &str) -> Option<GrantId> {
    match behind_gateway(gateway_origin, resource) {
        Some(path) => GrantId::parse(path.split_once('/')?.0).ok(),
        None => address::of_host(gateway_origin, resource).map(|(grant, _target)| grant),
    }
}

fn behind_gateway<'r>(gateway_origin: &str, resource: &'r str) -> Option<&'r str> {
    let path = resource.strip_prefix(gateway_origin)?;
    path.strip_prefix("/g/")
}

/// The one grant that names the client and the resource. A resource of the
/// gateway contains its grant.
pub(crate) fn grant_of_resource<'a>(
    view: &'a View,
    gateway_origin: &str,
    client: &ClientId,
    resource: &str,
) -> Result<&'a Held<Grant>, Denied> {
    if let Some(grant) = grant_in_resource(gateway_origin, resource) {
        return find_grant(view, client, &grant).map_err(|_| Denied::Resource);
    }
    if behind_gateway(gateway_origin, resource).is_some() {
        return Err(Denied::Resource);
    }
    let mut naming = view
        .grants_by_client
        .get(client)
        .into_iter()
        .flatten()
        .filter_map(|id| view.grants.get(id))
        .filter(|held| target_of(view, gateway_origin, &held.value, resource).is_some());
    match (naming.next(), naming.next()) {
        (Some(held), None) => Ok(held),
        (None | Some(_), _) => Err(Denied::Resource),
    }
}

/// Which of a grant's targets the resource is, compared character by
/// character [RFC 8707 §2].
fn target_of<'a>(
    view: &'a View,
    gateway_origin: &str,
    grant: &Grant,
    resource: &str,
) -> Option<&'a TargetName> {
    let app = view.apps.get(&grant.app)?;
    let provider = view.providers.get(&app.value.provider)?;
    let mut targets = grant
        .targets
        .iter()
        .filter_map(|name| provider.value.target(name));
    let path = behind_gateway(gateway_origin, resource);
    let target = targets.find(|target| match (&target.api, path) {
        (Api::Direct { resource: own }, _) => own == resource,
        (Api::Gateway { .. }, Some(path)) => {
            path.split_once('/') == Some((grant.id.as_str(), target.name.as_str()))
        }
        (Api::Gateway { .. }, None) => {
            let by_host = address::by_host(gateway_origin, &grant.id, &target.name);
            by_host.as_deref() == Some(resource)
        }
    })?;
    Some(&target.name)
}

/// What a client asks of a grant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) client: &'a Client,
    pub(crate) grant: &'a Grant,
    pub(crate) resource: &'a str,
    pub(crate) scopes: &'a Scopes,
    /// The thumbprint of the key or certificate that the token is bound to.
    pub(crate) bound_to: &'a str,
}

/// Decides whether a client may have a token, and which.
pub(crate) fn authorize(
    view: &View,
    gateway_origin: &str,
    ask: &Ask<'_>,
    now: &Now,
) -> Result<Allowed, Denied> {
    let Ask {
        client,
        grant,
        resource,
        scopes,
        bound_to,
    } = *ask;
    let touched = view.touched(grant, Some(client), Some(bound_to.to_owned()));
    if let Some(denied) = view.stopped(&touched) {
        return Err(denied);
    }
    let target = target_of(view, gateway_origin, grant, resource).ok_or(Denied::Resource)?;
    if !scopes.within(&grant.scopes) {
        return Err(Denied::Scope);
    }
    if grant.expires_at_s.is_some_and(|end_s| now.hi_s >= end_s) {
        return Err(Denied::Expired);
    }
    if view.is_asleep(grant, now) {
        return Err(Denied::Asleep);
    }
    if let Some(cause) = view.needs_consent(&grant.id) {
        return Err(Denied::NeedsConsent { cause });
    }
    let scopes = if scopes.is_empty() {
        &grant.scopes
    } else {
        scopes
    };
    Ok(Allowed {
        resource: resource.to_owned(),
        target: target.clone(),
        scopes: scopes.clone(),
        touched,
    })
}
