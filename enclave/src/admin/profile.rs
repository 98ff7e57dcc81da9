//! Registering a provider by its profile: data that is part of the image, and so
//! measured, or signed by whom the manifest names.

mod operations;

use std::collections::BTreeMap;

use attestation::manifest::{ManifestSignature, SignatureFault};
use profiles::Document;
use profiles::document::{
    AssertionAudience, Authentication, ParameterError, Reuse, Rotation as Known, Support,
};
use profiles::template::fill;
use thiserror::Error;

use super::AdminError;
use crate::Enclave;
use crate::http_url::HttpUrl;
use crate::ids::{IdError, ProviderId, TargetName};
use crate::profile::Profile;
use crate::registry::{Api, AuthMethod, Consent, ProfileOrigin, Provider, Rotation, Target};

pub use operations::ProfileOperationError;

/// A profile that a provider is to be registered by.
#[derive(Clone, Debug)]
pub struct ProfileFile<'a> {
    /// Where it comes from.
    pub source: ProfileSource<'a>,
    /// What is put in the places of its parameters.
    pub parameters: BTreeMap<String, String>,
    /// Whether its targets are held to the operations that it lists.
    pub operations: bool,
}

/// Where a profile comes from.
#[derive(Clone, Copy, Debug)]
pub enum ProfileSource<'a> {
    /// The image: its id there.
    Image(&'a str),
    /// The caller: the file and its detached signature.
    Signed {
        /// The file.
        toml: &'a [u8],
        /// The signature's file.
        signature: &'a [u8],
    },
}

/// What an administrator says beside a profile.
#[derive(Clone, Debug, Default)]
pub struct BesideProfile {
    /// How refresh tokens behave, where the profile leaves it to settings.
    pub rotation: Option<Rotation>,
    /// Targets that trust this issuer themselves.
    pub direct: Vec<Target>,
    /// What the provider knows its targets by [RFC 8707].
    pub resources: BTreeMap<TargetName, String>,
    /// How its token endpoint is treated; what the profile knows is put in.
    pub treatment: Profile,
}

/// Why a profile is not used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProfileFileError {
    /// The image has no profile of this id.
    #[error("no profile of this id is part of the image: see `tokenkeep provider profiles`")]
    NoSuchProfile,
    /// The signature does not vouch for it.
    #[error(transparent)]
    Signature(#[from] SignatureFault),
    /// It breaks rules.
    #[error("it has {} fault(s); the first: {}", .0.len(), .0.first().map(ToString::to_string).unwrap_or_default())]
    Faults(Vec<profiles::Fault>),
    /// An operation can't be one of a target.
    #[error("operations: {0}")]
    Operation(#[from] ProfileOperationError),
    /// A target's name is none.
    #[error("targets.name: {0}")]
    Target(IdError),
    /// The parameters do not fit.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    /// With the parameters, something is no URL.
    #[error("{field} comes to no URL with these parameters: {error}")]
    Url {
        /// Which.
        field: &'static str,
        /// Why.
        error: crate::http_url::HttpUrlError,
    },
    /// The profile says that there is no DPoP.
    #[error("the provider has no DPoP: leave dpop out")]
    NoDpop,
    /// A resource is given, and the profile says that it is not taken.
    #[error("the provider takes no resource indicators: leave upstream_resource out")]
    NoResource,
    /// No resource is given, and the profile says that it must be.
    #[error("the provider demands resource indicators: name one for each target")]
    ResourceIsMissing,
    /// A resource is for a target that the profile does not have.
    #[error("a resource indicator is for a target that the profile does not have")]
    NoSuchTarget,
    /// The profile says how refresh tokens behave.
    #[error("the profile says how refresh tokens behave: give no rotation")]
    RotationIsKnown,
}

impl Enclave {
    /// A provider as its profile describes it, to be registered.
    ///
    /// # Errors
    /// [`AdminError::Profile`].
    pub fn provider_by_profile(
        &self,
        id: ProviderId,
        file: &ProfileFile<'_>,
        beside: BesideProfile,
    ) -> Result<Provider, AdminError> {
        let made = self
            .read_profile(file.source)
            .and_then(|(document, origin)| provider(id, &document, origin, file, beside));
        made.map_err(AdminError::Profile)
    }

    fn read_profile(
        &self,
        source: ProfileSource<'_>,
    ) -> Result<(Document, ProfileOrigin), ProfileFileError> {
        let (bytes, signer) = match source {
            ProfileSource::Image(id) => {
                let shipped = profiles::shipped::find(id).ok_or(ProfileFileError::NoSuchProfile)?;
                (shipped.toml.as_bytes(), None)
            }
            ProfileSource::Signed { toml, signature } => {
                let signature = ManifestSignature::from_json(signature)?;
                signature.verify_profile(toml, &self.config.profile_signers)?;
                (toml, Some(signature.signer()))
            }
        };
        let document = profiles::read(bytes).map_err(ProfileFileError::Faults)?;
        let origin = ProfileOrigin {
            id: document.id.clone(),
            sha256: profiles::digest_of(bytes),
            signer,
            parameters: BTreeMap::new(),
        };
        Ok((document, origin))
    }
}

fn provider(
    id: ProviderId,
    document: &Document,
    mut origin: ProfileOrigin,
    file: &ProfileFile<'_>,
    beside: BesideProfile,
) -> Result<Provider, ProfileFileError> {
    let values = document.with_parameters(&file.parameters)?;
    let url = |field, template: &str| {
        HttpUrl::parse(&fill(template, &values))
            .map_err(|error| ProfileFileError::Url { field, error })
    };
    let client = &document.client;
    if beside.treatment.dpop && client.dpop == Support::No {
        return Err(ProfileFileError::NoDpop);
    }
    if !beside.resources.is_empty() && client.resource == Support::No {
        return Err(ProfileFileError::NoResource);
    }
    let mut resources = beside.resources;
    let behind = document.targets.iter().map(|target| {
        let name = TargetName::parse(&target.name).map_err(ProfileFileError::Target)?;
        let upstream_resource = resources.remove(&name);
        if upstream_resource.is_none() && client.resource == Support::Required {
            return Err(ProfileFileError::ResourceIsMissing);
        }
        Ok(Target {
            name,
            api: Api::Gateway {
                base_url: url("targets.base_url", &target.base_url)?,
                tenant_hosts: false,
                operations: if file.operations {
                    operations::of_target(document, &target.name)?
                } else {
                    Vec::new()
                },
                upstream_resource,
            },
        })
    });
    let mut targets = behind.collect::<Result<Vec<_>, ProfileFileError>>()?;
    if !resources.is_empty() {
        return Err(ProfileFileError::NoSuchTarget);
    }
    targets.extend(beside.direct);
    let treatment = treatment(document, &values, beside.treatment);
    let revocation = document.endpoints.revocation.as_deref();
    origin.parameters.clone_from(&values);
    let issuer = document.endpoints.issuer.as_deref();
    let authorization = document.endpoints.authorization.as_deref();
    let device = document.endpoints.device_authorization.as_deref();
    let consent = authorization.map(|template| {
        Ok::<_, ProfileFileError>(Consent {
            authorization_endpoint: url("endpoints.authorization", template)?,
            parameters: client.authorization_parameters.clone(),
            offline_scopes: client.offline_scopes.clone(),
            iss: client.iss != Support::No,
            device_authorization_endpoint: device
                .map(|template| url("endpoints.device_authorization", template))
                .transpose()?,
        })
    });
    Ok(Provider {
        id,
        issuer: issuer.map(|template| fill(template, &values)),
        consent: consent.transpose()?,
        token_endpoint: url("endpoints.token", &document.endpoints.token)?,
        revocation_endpoint: revocation
            .map(|template| url("endpoints.revocation", template))
            .transpose()?,
        rotation: rotation(document, beside.rotation, &treatment)?,
        targets,
        profile: treatment,
        made_from: Some(origin),
    })
}

/// What the profile says, or the strictest where it leaves it to settings that
/// nobody named.
fn rotation(
    document: &Document,
    given: Option<Rotation>,
    treatment: &Profile,
) -> Result<Rotation, ProfileFileError> {
    // A grace serves if it lasts beyond the quiet time, and an exchange behind it.
    let needed_ms = treatment.quiet_ms.saturating_add(treatment.deadline_ms);
    let graceful = document
        .refresh
        .grace_s
        .is_some_and(|s| s.saturating_mul(1_000) > needed_ms);
    let known = match (document.refresh.rotation, document.refresh.reuse) {
        (Known::Sometimes, _) => return Ok(given.unwrap_or(Rotation::Strict)),
        (Known::Never, _) => Rotation::Never,
        (Known::Always, Reuse::Accepted) => Rotation::Grace,
        (Known::Always, _) if graceful => Rotation::Grace,
        (Known::Always, Reuse::FamilyRevoked | Reuse::Refused | Reuse::Unknown) => Rotation::Strict,
    };
    match given {
        Some(given) if given != known => Err(ProfileFileError::RotationIsKnown),
        _ => Ok(known),
    }
}

fn treatment(document: &Document, values: &BTreeMap<String, String>, given: Profile) -> Profile {
    let mut codes = document.errors.dead_codes.clone();
    codes.extend(given.dead_codes);
    codes.dedup();
    let client = &document.client;
    let algorithms = &client.assertion_algorithms;
    // Our assertions are signed by ES256.
    let assertions = algorithms.is_empty() || algorithms.iter().any(|name| name == "ES256");
    let methods = client.authentication.iter().map(|known| method(*known));
    let methods = methods.filter(|method| assertions || *method != AuthMethod::PrivateKeyJwt);
    let audience = match client.assertion_audience {
        AssertionAudience::Issuer => None,
        AssertionAudience::TokenEndpoint => Some(fill(&document.endpoints.token, values)),
    };
    Profile {
        idle_lifetime_s: given.idle_lifetime_s.or(document.refresh.idle_lifetime_s),
        dead_codes: codes,
        auth_methods: methods.collect(),
        assertion_audience: given.assertion_audience.or(audience),
        dpop: given.dpop || client.dpop == Support::Required,
        superseded_still_work: given.superseded_still_work
            || document.refresh.reuse == Reuse::Accepted,
        ..given
    }
}

fn method(known: Authentication) -> AuthMethod {
    match known {
        Authentication::PrivateKeyJwt => AuthMethod::PrivateKeyJwt,
        Authentication::TlsClientAuth => AuthMethod::TlsClientAuth,
        Authentication::ClientSecretBasic => AuthMethod::ClientSecretBasic,
        Authentication::ClientSecretPost => AuthMethod::ClientSecretPost,
        Authentication::None => AuthMethod::None,
    }
}

#[cfg(test)]
mod tests {
    use attestation::manifest::sign_profile;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

    use super::*;
    use crate::testing::World;

    fn with(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
        pairs.iter().map(owned).collect()
    }

    fn image<'a>(id: &'a str, pairs: &[(&str, &str)]) -> ProfileFile<'a> {
        ProfileFile {
            source: ProfileSource::Image(id),
            parameters: with(pairs),
            operations: false,
        }
    }

    fn by(file: &ProfileFile<'_>, beside: BesideProfile) -> Result<Provider, AdminError> {
        let id = ProviderId::parse("p").unwrap();
        World::new(Rotation::Strict)
            .enclave
            .provider_by_profile(id, file, beside)
    }

    #[test]
    fn each_shipped_profile_makes_a_provider_with_its_examples() {
        for shipped in profiles::shipped::ALL {
            let document = shipped.document().unwrap();
            let examples = document.parameters.iter();
            let parameters = examples.map(|(name, p)| (name.clone(), p.example.clone()));
            let file = ProfileFile {
                source: ProfileSource::Image(shipped.id),
                parameters: parameters.collect(),
                operations: false,
            };
            let made = by(&file, BesideProfile::default()).unwrap();
            assert_eq!(made.targets.len(), document.targets.len(), "{}", shipped.id);
            assert_eq!(made.profile.check(), Ok(()), "{}", shipped.id);
            let origin = made.made_from.unwrap();
            assert_eq!((origin.id.as_str(), origin.signer), (shipped.id, None));
        }
    }

    #[test]
    fn what_the_profile_knows_is_what_the_provider_does() {
        let rows = [
            ("google", Rotation::Never),
            ("slack", Rotation::Strict),
            ("github-app", Rotation::Strict),
            // Its ten minutes are longer than any wait of ours.
            ("atlassian-grace", Rotation::Grace),
        ];
        for (id, expected) in rows {
            let cloud = [("cloud", "11223344")];
            let (id, parameters): (&str, &[_]) = match id {
                "atlassian-grace" => ("atlassian", &cloud),
                id => (id, &[]),
            };
            let made = by(&image(id, parameters), BesideProfile::default()).unwrap();
            assert_eq!(made.rotation, expected, "{id}");
        }
        let domain = [("domain", "acme.my.salesforce.com")];
        let made = by(&image("salesforce", &domain), BesideProfile::default()).unwrap();
        assert_eq!(
            made.token_endpoint.as_str(),
            "https://acme.my.salesforce.com/services/oauth2/token"
        );
        assert_eq!(made.profile.idle_lifetime_s, Some(2_592_000));
        assert_eq!(
            made.issuer.as_deref(),
            Some("https://acme.my.salesforce.com")
        );
        // It takes assertions by RS256 only, and ours are by ES256.
        assert_eq!(
            made.profile.auth_methods,
            [AuthMethod::ClientSecretPost, AuthMethod::ClientSecretBasic]
        );
        let origin = [("origin", "https://op.example")];
        let made = by(&image("oidc-provider", &origin), BesideProfile::default()).unwrap();
        assert!(
            made.profile
                .auth_methods
                .contains(&AuthMethod::PrivateKeyJwt)
        );
        assert_eq!(made.profile.assertion_audience, None);
        let tenant = [("tenant", "11223344")];
        let made = by(&image("entra", &tenant), BesideProfile::default()).unwrap();
        assert_eq!(
            made.profile.assertion_audience.as_deref(),
            Some(made.token_endpoint.as_str())
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let none = BesideProfile::default;
        let never = || BesideProfile {
            rotation: Some(Rotation::Never),
            ..none()
        };
        let unsigned = ProfileFile {
            source: ProfileSource::Signed {
                toml: b"",
                signature: b"{}",
            },
            parameters: BTreeMap::new(),
            operations: false,
        };
        let rows = [
            (
                by(&image("other", &[]), none()),
                ProfileFileError::NoSuchProfile,
            ),
            (
                by(&image("slack", &[]), never()),
                ProfileFileError::RotationIsKnown,
            ),
            (
                by(&unsigned, none()),
                ProfileFileError::Signature(SignatureFault::Form),
            ),
            (
                by(&image("slack", &[("x", "y")]), none()),
                ProfileFileError::Parameter(ParameterError::Unknown { name: "x".into() }),
            ),
        ];
        for (found, expected) in rows {
            assert_eq!(found.unwrap_err(), AdminError::Profile(expected));
        }
        for bad in [
            "evil.example/@acme",
            "u@evil.example",
            "a.example#",
            "127.0.0.1",
            "",
        ] {
            let found = by(&image("salesforce", &[("domain", bad)]), none());
            let Err(AdminError::Profile(ProfileFileError::Parameter(ParameterError::Value {
                name,
                ..
            }))) = found
            else {
                panic!("{bad}: {found:?}");
            };
            assert_eq!(name, "domain");
        }
    }

    #[test]
    fn a_foreign_profile_needs_a_signer_that_the_manifest_names() {
        let rng = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
        let toml = profiles::shipped::find("google").unwrap().toml.as_bytes();
        let signature = sign_profile(toml, key.as_ref(), &rng).unwrap();
        let manifest = attestation::manifest::sign_manifest(toml, key.as_ref(), &rng).unwrap();
        let signer = ManifestSignature::from_json(signature.as_bytes())
            .unwrap()
            .signer();
        let mut world = World::new(Rotation::Strict);
        let id = || ProviderId::parse("p").unwrap();
        let mut ask = |toml: &[u8], signature: &str, known: bool| {
            world.enclave.config.profile_signers = if known { vec![signer] } else { vec![] };
            let file = ProfileFile {
                source: ProfileSource::Signed {
                    toml,
                    signature: signature.as_bytes(),
                },
                parameters: BTreeMap::new(),
                operations: false,
            };
            let made = world
                .enclave
                .provider_by_profile(id(), &file, BesideProfile::default());
            made.map(|provider| provider.made_from.unwrap().signer)
        };
        assert_eq!(ask(toml, &signature, true), Ok(Some(signer)));
        let refused = |fault| Err(AdminError::Profile(ProfileFileError::Signature(fault)));
        assert_eq!(
            ask(toml, &signature, false),
            refused(SignatureFault::Signer {
                found: hex::encode(signer)
            })
        );
        let changed = [toml, b"\n"].concat();
        assert_eq!(
            ask(&changed, &signature, true),
            refused(SignatureFault::Invalid)
        );
        // A signature over the same bytes as a manifest is none over a profile.
        assert_eq!(ask(toml, &manifest, true), refused(SignatureFault::Invalid));
    }
}
