//! Messages of a provider that is registered by its profile.

use std::collections::BTreeMap;

use enclave::admin::{AdminError, BesideProfile, ProfileFile, ProfileSource};
use enclave::ids::ProviderId;
use enclave::registry::{Api, Target};
use proto::v1;

use super::{profile, provider_id, rotation, target, target_name};

/// Reads what stands beside a profile: the provider's id and what the profile leaves
/// open.
///
/// # Errors
/// [`AdminError`].
pub fn beside_profile(message: v1::Provider) -> Result<(ProviderId, BesideProfile), AdminError> {
    let refuse = |field| AdminError::Field {
        field,
        rule: "is in the profile: leave it out",
    };
    let by_profile = [
        ("provider.token_endpoint", &message.token_endpoint),
        ("provider.revocation_endpoint", &message.revocation_endpoint),
        ("provider.issuer", &message.issuer),
    ];
    if let Some((field, _)) = by_profile.iter().find(|(_, text)| !text.is_empty()) {
        return Err(refuse(field));
    }
    if message.consent.is_some() {
        return Err(refuse("provider.consent"));
    }
    let beside = message.profile.as_ref();
    if beside.is_some_and(|profile| !profile.auth_methods.is_empty()) {
        return Err(refuse("provider.profile.auth_methods"));
    }
    let rotation = rotation(message.rotation)?;
    let (named, direct): (Vec<_>, Vec<_>) = message
        .targets
        .into_iter()
        .partition(|target| target.api.is_none() && !target.upstream_resource.is_empty());
    let mut resources = BTreeMap::new();
    for v1::Target {
        name,
        upstream_resource,
        ..
    } in named
    {
        let name = target_name("provider.targets.name", &name)?;
        resources.insert(name, upstream_resource);
    }
    let targets = direct.into_iter().map(target);
    let direct: Vec<Target> = targets.collect::<Result<_, _>>()?;
    if direct
        .iter()
        .any(|target| matches!(target.api, Api::Gateway { .. }))
    {
        return Err(refuse("provider.targets.gateway_base_url"));
    }
    let beside = BesideProfile {
        rotation,
        direct,
        resources,
        treatment: message
            .profile
            .map(profile)
            .transpose()?
            .unwrap_or_default(),
    };
    Ok((provider_id("provider.id", &message.id)?, beside))
}

/// Reads which profile a provider is registered by.
///
/// # Errors
/// [`AdminError`] if it names none.
pub fn profile_file(message: &v1::ProfileFile) -> Result<ProfileFile<'_>, AdminError> {
    let source = match &message.source {
        Some(v1::profile_file::Source::Image(id)) => ProfileSource::Image(id),
        Some(v1::profile_file::Source::Signed(signed)) => ProfileSource::Signed {
            toml: &signed.toml,
            signature: &signed.signature,
        },
        None => {
            return Err(AdminError::Field {
                field: "profile_file.source",
                rule: "must be there",
            });
        }
    };
    let parameters = message.parameters.iter();
    Ok(ProfileFile {
        source,
        operations: message.operations,
        parameters: parameters.map(|(k, v)| (k.clone(), v.clone())).collect(),
    })
}
