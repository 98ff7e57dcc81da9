//! From the signed manifest to the enclave's configuration.

use attestation::manifest::{Manifest, Origin, Role as ManifestRole, TokenAlg, Witnesses};
use enclave::admin::{Administrator, Role};
use enclave::config::Config;
use enclave::freshness::{MAX_LEASE_MS, WitnessPolicy};
use enclave::ids::{IdError, TenantId, VendorId};
use enclave::keys::authority::HostName;
use enclave::mint::MAX_LIFETIME_S;
use enclave::rate::Rate;
use enclave::spiffe::TrustDomain;
use jose::Alg;
use thiserror::Error;

use crate::witness::ask::Known;

/// What the enclave is told, from a checked manifest.
///
/// # Errors
/// [`ConfigureError::Id`] if a role names a tenant or vendor by what is no id; a checked
/// manifest has none; [`ConfigureError::Witness`] for a witness whose key or URL
/// is none.
pub fn configure(
    manifest: &Manifest,
    emulated: bool,
    endorsed_until_s: Option<u64>,
    replay_capacity: usize,
) -> Result<Config, ConfigureError> {
    let origins = manifest.origins();
    let mut hosts: Vec<HostName> = [&origins.grpc, &origins.public, &origins.gateway]
        .into_iter()
        .map(host_name)
        .collect();
    hosts.sort();
    hosts.dedup();
    let administrators = manifest
        .administrators()
        .iter()
        .map(|administrator| {
            let roles = administrator.roles.iter().map(role);
            Ok(Administrator {
                name: administrator.name.clone(),
                spki_sha256: administrator.spki_sha256,
                roles: roles.collect::<Result<_, IdError>>()?,
            })
        })
        .collect::<Result<_, IdError>>()?;
    let rates = manifest.rates();
    Ok(Config {
        issuer: manifest.issuer().as_str().to_owned(),
        grpc_origin: origins.grpc.as_str().to_owned(),
        public_origin: origins.public.as_str().to_owned(),
        gateway_origin: origins.gateway.as_str().to_owned(),
        hosts,
        administrators,
        trust_domains: manifest
            .trust_domains()
            .iter()
            .map(|domain| {
                Ok(TrustDomain {
                    name: domain.name.clone(),
                    vendor: VendorId::parse(&domain.vendor)?,
                })
            })
            .collect::<Result<_, IdError>>()?,
        profile_signers: manifest.profile_signers().to_vec(),
        token_lifetime_s: manifest.token().max_lifetime_s.min(MAX_LIFETIME_S),
        token_alg: match manifest.token().alg {
            TokenAlg::Es256 => Alg::Es256,
            TokenAlg::EdDsa => Alg::EdDsa,
        },
        signing_key_days: manifest.token().rotate_after_days,
        endorsed_until_s,
        emulated,
        tier: if emulated { "emulated" } else { "hardware" }.to_owned(),
        allow_loopback: manifest.upstream().allow_loopback,
        manifest_digest: *manifest.digest(),
        manifest_sequence: manifest.sequence(),
        manifest_signer: *manifest.signer(),
        client_rate: Rate {
            per_s: rates.client_per_s,
            burst: rates.client_burst,
        },
        grant_upstream_rate: Rate {
            per_s: rates.grant_upstream_per_s,
            burst: rates.grant_upstream_per_s,
        },
        witnesses: manifest.witnesses().map(witness_policy).transpose()?,
        replay_capacity,
    })
}

/// What no checked manifest holds, or what only this crate can check.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigureError {
    /// A tenant or vendor is named by what is no id.
    #[error("the manifest names a tenant or vendor by what is no id")]
    Id(#[from] IdError),
    /// A witness's key or URL is none.
    #[error("the manifest's witness {name}: {what}")]
    Witness {
        /// Its name.
        name: String,
        /// What is wrong.
        what: String,
    },
}

fn witness_policy(witnesses: &Witnesses) -> Result<WitnessPolicy, ConfigureError> {
    let known = known_witnesses(witnesses)?;
    Ok(WitnessPolicy {
        quorum: witnesses.quorum,
        keys: known.into_iter().map(|witness| witness.key).collect(),
        lease_ms: witnesses.lease_s.saturating_mul(1_000).min(MAX_LEASE_MS),
    })
}

/// The witnesses of a manifest, to be asked.
///
/// # Errors
/// [`ConfigureError::Witness`].
pub fn known_witnesses(witnesses: &Witnesses) -> Result<Vec<Known>, ConfigureError> {
    let known = witnesses.witnesses.iter().map(|witness| {
        let wrong = |what: String| ConfigureError::Witness {
            name: witness.name.clone(),
            what,
        };
        let url = witness
            .url
            .parse()
            .map_err(|error| wrong(format!("url: {error}")))?;
        let key = witness
            .key
            .parse()
            .map_err(|error| wrong(format!("key: {error}")))?;
        Ok(Known::new(witness.name.clone(), url, key))
    });
    known.collect()
}

fn role(role: &ManifestRole) -> Result<Role, IdError> {
    Ok(match role {
        ManifestRole::Operator => Role::Operator,
        ManifestRole::Tenant(id) => Role::Tenant(TenantId::parse(id)?),
        ManifestRole::TenantSecurity(id) => Role::TenantSecurity(TenantId::parse(id)?),
        ManifestRole::TenantAuditor(id) => Role::TenantAuditor(TenantId::parse(id)?),
        ManifestRole::Vendor(id) => Role::Vendor(VendorId::parse(id)?),
    })
}

fn host_name(origin: &Origin) -> HostName {
    let host = origin.host();
    match host.trim_matches(['[', ']']).parse() {
        Ok(address) => HostName::Address(address),
        Err(_) => HostName::Dns(host.to_owned()),
    }
}
