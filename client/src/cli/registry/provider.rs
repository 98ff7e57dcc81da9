//! `provider`: upstream authorization servers and their APIs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use proto::v1;
use proto::v1::target::Api;
use serde_json::json;
use tokenkeep::AttestedChannel;
use tokenkeep::rpc_error::answer;

use super::app::{Auth, auth_name};
use super::{missing, operations, profile};
use crate::cli::Global;
use crate::cli::exit::manual;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::pages::all_pages;
use crate::cli::record::Record;

/// Providers: upstream authorization servers and their APIs
#[derive(Debug, Subcommand)]
pub(crate) enum ProviderCommand {
    /// Register a provider with its API hosts
    #[command(after_long_help = manual!("  tokenkeep provider create crm-inc --token-endpoint https://login.crm.example/token \\\n      --gateway-target api=https://api.crm.example/v1\n  tokenkeep provider create acme-crm --profile salesforce --set domain=acme.my.salesforce.com \\\n      --profile-operations\n  tokenkeep provider create own --token-endpoint https://login.own.example/token \\\n      --rotation never --direct-target api=https://api.own.example\n\n  operations.json: [{\"id\": \"contacts-get\", \"method\": \"GET\", \"path\": \"/contacts/{id:integer}\"},\n    {\"id\": \"contacts-list\", \"method\": \"GET\", \"path\": \"/contacts\", \"query\": [\"page\"]}]\n  tokenkeep provider create crm-inc --token-endpoint https://login.crm.example/token \\\n      --gateway-target api=https://my.crm.example/v1 --tenant-hosts api \\\n      --operations api=operations.json"))]
    Create {
        /// The id: 1 to 63 of a-z, 0-9 and single - inside
        id: String,
        #[command(flatten)]
        by: Box<ByProfile>,
        /// Where refresh tokens are redeemed
        #[arg(long, value_name = "URL", required_unless_present_any = ["profile", "profile_file"], default_value = "", hide_default_value = true)]
        token_endpoint: String,
        /// Its issuer identifier, as its metadata has it [RFC 8414]
        #[arg(
            long,
            value_name = "URL",
            default_value = "",
            hide_default_value = true
        )]
        issuer: String,
        #[command(flatten)]
        consent: Box<ConsentArgs>,
        /// Where it is told that a token is revoked [RFC 7009]
        #[arg(
            long,
            value_name = "URL",
            default_value = "",
            hide_default_value = true
        )]
        revocation_endpoint: String,
        /// How its refresh tokens behave: strict unless a profile says so [default: strict]
        #[arg(long, value_enum)]
        rotation: Option<Rotation>,
        /// A bearer API behind the gateway; repeat for more
        #[arg(long = "gateway-target", value_name = "NAME=BASE_URL", value_parser = name_and_url)]
        gateway_targets: Vec<(String, String)>,
        /// What may be called at a gateway target: a file with a JSON array of operations, each with id, method, path
        /// and, if need be, query, content_types and max_body_bytes; repeat for more targets
        #[arg(long = "operations", value_name = "NAME=FILE", value_parser = name_and_url)]
        operations: Vec<(String, String)>,
        /// A gateway target at which each tenant has a host of its own below that of the base URL; repeat for more
        #[arg(long = "tenant-hosts", value_name = "NAME")]
        tenant_hosts: Vec<String>,
        /// What the provider knows a target behind the gateway by: its access tokens are asked for with this resource
        /// [RFC 8707]; repeat for more
        #[arg(long = "upstream-resource", value_name = "NAME=URI", value_parser = name_and_url)]
        upstream_resources: Vec<(String, String)>,
        /// An API that trusts this issuer itself; repeat for more
        #[arg(long = "direct-target", value_name = "NAME=RESOURCE", value_parser = name_and_url)]
        direct_targets: Vec<(String, String)>,
        #[command(flatten)]
        treatment: Box<ProfileArgs>,
    },
    /// List the profiles of providers that are part of the product
    #[command(after_long_help = manual!("  tokenkeep provider profiles"))]
    Profiles,
    /// Print a profile that is part of the product
    #[command(after_long_help = manual!("  tokenkeep provider profile salesforce > mine.toml"))]
    Profile {
        /// Its id
        id: String,
    },
    /// Check profiles of your own, and say all that is wrong with them
    #[command(after_long_help = manual!("  tokenkeep provider check mine.toml"))]
    Check {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Print the signature of a profile that breaks no rule
    ///
    /// The key is an ES256 key in PKCS#8 (PEM, mode 0600), such as `tokenkeep key new` makes; it is read from a file only.
    /// A service believes it if the manifest names the key's SHA-256 under [profiles], which --json prints as `signer`.
    #[command(after_long_help = manual!("  tokenkeep provider sign mine.toml --key profiles.key > mine.sig"))]
    Sign {
        /// The profile
        file: PathBuf,
        /// The signer's ES256 key (PEM, mode 0600)
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// List the providers
    #[command(after_long_help = manual!("  tokenkeep provider list"))]
    List,
    /// Show a provider
    #[command(after_long_help = manual!("  tokenkeep provider show crm-inc"))]
    Show {
        /// The id
        id: String,
    },
}

/// How a provider's refresh tokens behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rotation {
    /// Single-use; a reuse revokes the family
    Strict,
    /// Single-use, but the last one may be presented again for a while
    Grace,
    /// The refresh token stays the same
    Never,
}

impl ProviderCommand {
    pub(crate) async fn run(self, global: &Global, output: Output) -> Result<(), Failure> {
        match self {
            Self::Profiles => profile::list(output),
            Self::Profile { id } => profile::print(&id, output),
            Self::Check { files } => profile::check(&files, output),
            Self::Sign { file, key } => profile::sign(&file, &key, output),
            online @ (Self::Create { .. } | Self::List | Self::Show { .. }) => {
                online.ask(&global.channel().await?, output).await
            }
        }
    }

    async fn ask(self, channel: &AttestedChannel, output: Output) -> Result<(), Failure> {
        let mut registry = channel.registry();
        match self {
            Self::Profiles | Self::Profile { .. } | Self::Check { .. } | Self::Sign { .. } => {
                Ok(())
            }
            Self::Create {
                id,
                by,
                token_endpoint,
                issuer,
                consent,
                revocation_endpoint,
                rotation,
                gateway_targets,
                operations,
                tenant_hosts,
                upstream_resources,
                direct_targets,
                treatment,
            } => {
                let mut resources: BTreeMap<_, _> = upstream_resources.into_iter().collect();
                let mut listed = operations::read(&operations)?;
                let gateway = gateway_targets.into_iter();
                let gateway = gateway.map(|(name, url)| (name, Api::GatewayBaseUrl(url)));
                let direct = direct_targets.into_iter();
                let direct = direct.map(|(name, resource)| (name, Api::Resource(resource)));
                let mut targets: Vec<v1::Target> = gateway
                    .chain(direct)
                    .map(|(name, api)| v1::Target {
                        operations: listed.remove(&name).unwrap_or_default(),
                        tenant_hosts: tenant_hosts.contains(&name),
                        upstream_resource: resources.remove(&name).unwrap_or_default(),
                        name,
                        api: Some(api),
                    })
                    .collect();
                operations::no_strays(&targets, listed.keys().chain(&tenant_hosts))?;
                let profile_file = by.wire()?;
                // What is left is for the targets of a profile.
                operations::no_strays(
                    &targets,
                    resources.keys().filter(|_| profile_file.is_none()),
                )?;
                targets.extend(
                    resources
                        .into_iter()
                        .map(|(name, upstream_resource)| v1::Target {
                            name,
                            upstream_resource,
                            ..v1::Target::default()
                        }),
                );
                let request = v1::CreateProviderRequest {
                    provider: Some(v1::Provider {
                        id,
                        token_endpoint,
                        issuer,
                        consent: consent.wire(),
                        rotation: rotation
                            .map_or(v1::RotationProfile::Unspecified, Rotation::wire)
                            .into(),
                        targets,
                        profile: Some(treatment.wire()),
                        revocation_endpoint,
                        made_from: None,
                    }),
                    profile_file,
                };
                let made = answer(registry.create_provider(request))
                    .await?
                    .into_inner();
                output.record(&record(made.provider.ok_or_else(|| missing("provider"))?))
            }
            Self::List => {
                let all = all_pages(async |page_token| {
                    let request = v1::ListProvidersRequest {
                        page_size: 0,
                        page_token,
                    };
                    let page = answer(registry.list_providers(request)).await?.into_inner();
                    Ok((page.providers, page.next_page_token))
                })
                .await?;
                let records: Vec<Record> = all.into_iter().map(record).collect();
                output.records("providers", &records)
            }
            Self::Show { id } => {
                let request = v1::GetProviderRequest { id };
                let found = answer(registry.get_provider(request)).await?.into_inner();
                output.record(&record(found.provider.ok_or_else(|| missing("provider"))?))
            }
        }
    }
}

/// Which profile a provider is registered by.
#[derive(Debug, Args)]
pub(crate) struct ByProfile {
    /// A profile that is part of the service's image: see `tokenkeep provider profiles`
    #[arg(long, value_name = "ID", conflicts_with_all = ["token_endpoint", "issuer", "authorization_endpoint", "device_authorization_endpoint", "revocation_endpoint", "gateway_targets", "profile_file", "auth_methods"])]
    profile: Option<String>,
    /// A profile of your own, signed by whom the manifest names
    #[arg(long, value_name = "FILE", requires = "profile_signature", conflicts_with_all = ["token_endpoint", "issuer", "authorization_endpoint", "revocation_endpoint", "gateway_targets", "auth_methods"])]
    profile_file: Option<PathBuf>,
    /// The signature of that profile
    #[arg(long, value_name = "FILE", requires = "profile_file")]
    profile_signature: Option<PathBuf>,
    /// A parameter of the profile; repeat for more
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = name_and_url)]
    parameters: Vec<(String, String)>,
    /// Hold the targets to the operations that the profile lists: what is none of them is refused
    #[arg(long)]
    profile_operations: bool,
}

impl ByProfile {
    fn wire(self) -> Result<Option<v1::ProfileFile>, Failure> {
        use v1::profile_file::Source;
        let source = match (self.profile, self.profile_file, self.profile_signature) {
            (Some(id), _, _) => Source::Image(id),
            (None, Some(toml), Some(signature)) => Source::Signed(v1::SignedProfile {
                toml: profile::bytes(&toml)?,
                signature: profile::bytes(&signature)?,
            }),
            (None, _, _) if self.parameters.is_empty() && !self.profile_operations => {
                return Ok(None);
            }
            (None, _, _) => {
                return Err(Failure::usage(
                    "--set and --profile-operations are for a profile",
                    "name one with --profile",
                ));
            }
        };
        Ok(Some(v1::ProfileFile {
            parameters: self.parameters.into_iter().collect(),
            source: Some(source),
            operations: self.profile_operations,
        }))
    }
}

/// How an owner consents at a provider.
#[derive(Debug, Args)]
pub(crate) struct ConsentArgs {
    /// Where an owner consents [RFC 6749 §3.1]
    #[arg(long, value_name = "URL")]
    authorization_endpoint: Option<String>,
    /// What is added there so that a refresh token comes back, such as access_type=offline; repeat for more
    #[arg(long = "authorization-parameter", value_name = "NAME=VALUE", value_parser = name_and_url, requires = "authorization_endpoint")]
    authorization_parameters: Vec<(String, String)>,
    /// A scope without which no refresh token comes back, such as offline_access; repeat for more
    #[arg(
        long = "offline-scope",
        value_name = "SCOPE",
        requires = "authorization_endpoint"
    )]
    offline_scopes: Vec<String>,
    /// The provider always names itself in its answer [RFC 9207]: one without iss is refused
    #[arg(long = "names-itself", requires = "authorization_endpoint")]
    iss: bool,
    /// Where a device asks for a code [RFC 8628], for `grant connect --device`
    #[arg(long, value_name = "URL", requires = "authorization_endpoint")]
    device_authorization_endpoint: Option<String>,
}

impl ConsentArgs {
    fn wire(self) -> Option<v1::Consent> {
        let Self {
            authorization_endpoint,
            authorization_parameters,
            offline_scopes,
            iss,
            device_authorization_endpoint,
        } = self;
        Some(v1::Consent {
            authorization_endpoint: authorization_endpoint?,
            parameters: authorization_parameters.into_iter().collect(),
            offline_scopes,
            iss,
            device_authorization_endpoint: device_authorization_endpoint.unwrap_or_default(),
        })
    }
}

/// How else a provider's token endpoint behaves.
#[derive(Debug, Args)]
pub(crate) struct ProfileArgs {
    /// How long nothing is presented after an exchange without an answer [default: 15000]
    #[arg(long, value_name = "MS")]
    quiet_ms: Option<u64>,
    /// How long an exchange may take [default: 10000]
    #[arg(long, value_name = "MS")]
    deadline_ms: Option<u64>,
    /// After how long without use the provider drops a refresh token; it is used every half of that
    #[arg(long, value_name = "SECONDS")]
    idle_lifetime_s: Option<u64>,
    /// Exchanges a second for one tenant [default: 50]
    #[arg(long, value_name = "NUMBER")]
    requests_per_s: Option<u32>,
    /// Exchanges at once for one tenant [default: 100]
    #[arg(long, value_name = "NUMBER")]
    requests_burst: Option<u32>,
    /// An error code of the provider's own that means invalid_grant; repeat for more
    #[arg(long = "dead-code", value_name = "CODE")]
    dead_codes: Vec<String>,
    /// Exchanges under way at once: as many as a crash may cost at a strict provider [default: 8 there]
    #[arg(long, value_name = "NUMBER")]
    max_in_flight: Option<u32>,
    /// How apps may authenticate there; repeat for more [default: any way]
    #[arg(long = "auth-method", value_enum, value_name = "METHOD")]
    auth_methods: Vec<Auth>,
    /// The sole audience of apps' assertions [default: the issuer, or the token endpoint without one]
    #[arg(
        long,
        value_name = "URL",
        default_value = "",
        hide_default_value = true
    )]
    assertion_audience: String,
    /// Bind access tokens to a key that the enclave makes for each grant [RFC 9449]
    #[arg(long)]
    dpop: bool,
    /// Refresh tokens that were replaced still work: to replace one does not end its copies
    #[arg(long)]
    superseded_still_work: bool,
}

impl ProfileArgs {
    fn wire(self) -> v1::ProviderProfile {
        let Self {
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
        } = self;
        let methods = auth_methods.into_iter();
        v1::ProviderProfile {
            quiet_ms,
            deadline_ms,
            idle_lifetime_s,
            requests_per_s,
            requests_burst,
            dead_codes,
            max_in_flight,
            auth_methods: methods.map(|method| method.wire().into()).collect(),
            assertion_audience,
            dpop,
            superseded_still_work,
        }
    }
}

impl Rotation {
    const fn wire(self) -> v1::RotationProfile {
        match self {
            Self::Strict => v1::RotationProfile::Strict,
            Self::Grace => v1::RotationProfile::Grace,
            Self::Never => v1::RotationProfile::Never,
        }
    }
}

fn name_and_url(text: &str) -> Result<(String, String), String> {
    let (name, url) = text.split_once('=').ok_or("must be NAME=URL")?;
    if name.is_empty() || url.is_empty() {
        return Err("must be NAME=URL".to_owned());
    }
    Ok((name.to_owned(), url.to_owned()))
}

fn rotation_name(number: i32) -> String {
    match v1::RotationProfile::try_from(number) {
        // Not said: the service assumes the strictest.
        Ok(v1::RotationProfile::Unspecified | v1::RotationProfile::Strict) => "strict".to_owned(),
        Ok(v1::RotationProfile::Grace) => "grace".to_owned(),
        Ok(v1::RotationProfile::Never) => "never".to_owned(),
        Err(_) => format!("unknown ({number})"),
    }
}

fn record(provider: v1::Provider) -> Record {
    let v1::Provider {
        id,
        token_endpoint,
        rotation,
        targets,
        profile,
        revocation_endpoint,
        issuer,
        consent,
        made_from,
    } = provider;
    let device = consent
        .as_ref()
        .map(|consent| consent.device_authorization_endpoint.clone())
        .filter(|url| !url.is_empty());
    let consent = consent.map(|consent| consent.authorization_endpoint);
    let profile = profile.unwrap_or_default();
    let methods = profile.auth_methods.iter();
    let methods: Vec<String> = methods.map(|method| auth_name(*method)).collect();
    let resources = targets
        .iter()
        .filter(|target| !target.upstream_resource.is_empty())
        .map(|target| format!("{}={}", target.name, target.upstream_resource));
    let resources: Vec<String> = resources.collect();
    let operations: Vec<_> = targets.iter().flat_map(operations::shown).collect();
    let targets: Vec<String> = targets
        .into_iter()
        .map(|target| match &target.api {
            Some(Api::GatewayBaseUrl(url)) if target.tenant_hosts => {
                format!("{}={url} (gateway, a host for each tenant)", target.name)
            }
            Some(Api::GatewayBaseUrl(url)) => format!("{}={url} (gateway)", target.name),
            Some(Api::Resource(resource)) => format!("{}={resource} (direct)", target.name),
            None => format!("{} (unknown)", target.name),
        })
        .collect();
    Record::new([
        ("id", json!(id)),
        ("token_endpoint", json!(token_endpoint)),
        ("issuer", json!(issuer)),
        ("authorization_endpoint", json!(consent)),
        ("device_authorization_endpoint", json!(device)),
        ("revocation_endpoint", json!(revocation_endpoint)),
        ("rotation", json!(rotation_name(rotation))),
        ("targets", json!(targets)),
        ("upstream_resources", json!(resources)),
        ("operations", json!(operations)),
        ("quiet_ms", json!(profile.quiet_ms)),
        ("deadline_ms", json!(profile.deadline_ms)),
        ("idle_lifetime_s", json!(profile.idle_lifetime_s)),
        ("requests_per_s", json!(profile.requests_per_s)),
        ("requests_burst", json!(profile.requests_burst)),
        ("dead_codes", json!(profile.dead_codes)),
        ("max_in_flight", json!(profile.max_in_flight)),
        ("auth_methods", json!(methods)),
        ("assertion_audience", json!(profile.assertion_audience)),
        ("dpop", json!(profile.dpop)),
        (
            "superseded_still_work",
            json!(profile.superseded_still_work),
        ),
        ("made_from", json!(made_from.map(made_from_text))),
    ])
}

fn made_from_text(origin: v1::ProfileOrigin) -> String {
    let v1::ProfileOrigin {
        id,
        sha256,
        signer_sha256,
        parameters,
    } = origin;
    let by = match signer_sha256.as_slice() {
        [] => "part of the image".to_owned(),
        signer => format!("signed by {}", hex::encode(signer)),
    };
    let mut parameters: Vec<String> = parameters
        .into_iter()
        .map(|(name, value)| format!(" {name}={value}"))
        .collect();
    parameters.sort();
    let digest = hex::encode(sha256);
    format!("{id}{} (SHA-256 {digest}, {by})", parameters.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_name_and_a_url() {
        let pair = |name: &str, url: &str| Ok((name.to_owned(), url.to_owned()));
        assert_eq!(
            name_and_url("api=https://a/?b=c"),
            pair("api", "https://a/?b=c")
        );
        for text in ["api", "=https://a", "api=", ""] {
            assert_eq!(
                name_and_url(text),
                Err("must be NAME=URL".to_owned()),
                "{text}"
            );
        }
    }

    #[test]
    fn each_rotation_is_shown_as_it_was_given() {
        for rotation in Rotation::value_variants() {
            let name = rotation.to_possible_value().unwrap();
            assert_eq!(rotation_name(rotation.wire().into()), name.get_name());
        }
        assert_eq!(rotation_name(0), "strict");
        assert_eq!(rotation_name(9), "unknown (9)");
    }
}
