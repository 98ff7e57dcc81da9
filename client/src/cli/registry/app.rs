//! `app`: a vendor's registrations at providers.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use proto::v1;
use serde_json::json;
use tokenkeep::AttestedChannel;
use tokenkeep::rpc_error::answer;

use super::missing;
use crate::cli::exit::manual;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::pages::all_pages;
use crate::cli::record::Record;
use crate::cli::secret_input;

/// Apps: vendors' registrations at providers
#[derive(Debug, Subcommand)]
pub(crate) enum AppCommand {
    /// Register an app; its secret is sealed to the attested enclave
    ///
    /// The secret comes from a file or standard input, never from the command line. With --auth private-key-jwt or tls
    /// there is none: the enclave makes a key that never leaves it, and what is printed is registered at the provider.
    #[command(after_long_help = manual!("  tokenkeep app create crm --vendor drift --provider crm-inc --oauth-client-id 0oa1 \\\n      --auth basic --secret-file client-secret\n  tokenkeep app create crm --vendor drift --provider crm-inc --oauth-client-id 0oa1 \\\n      --auth none\n  tokenkeep app create crm --vendor drift --provider crm-inc --oauth-client-id 0oa1 \\\n      --auth private-key-jwt"))]
    Create(CreateArgs),
    /// List a vendor's apps
    #[command(after_long_help = manual!("  tokenkeep app list --vendor drift"))]
    List {
        /// The vendor
        #[arg(long)]
        vendor: String,
    },
    /// Show an app
    #[command(after_long_help = manual!("  tokenkeep app show crm\n  tokenkeep --json app show crm | jq .jwks > jwks.json    # what is registered at the provider"))]
    Show {
        /// The id
        id: String,
    },
    /// Print the certificate of an app's key, PEM, to be registered at its provider
    #[command(after_long_help = manual!("  tokenkeep app certificate crm > crm.pem"))]
    Certificate {
        /// The id
        id: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// The id: 1 to 63 of a-z, 0-9 and single - inside
    id: String,
    /// The vendor whose app it is
    #[arg(long)]
    vendor: String,
    /// The provider where it is registered
    #[arg(long)]
    provider: String,
    /// Its client_id at the provider
    #[arg(long, value_name = "CLIENT_ID")]
    oauth_client_id: String,
    /// How it authenticates at the provider's token endpoint
    #[arg(long, value_enum)]
    auth: Auth,
    /// The file with its secret, for --auth basic and post [default: standard input]
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

/// How an app authenticates at the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Auth {
    /// Not at all: a public client
    None,
    /// Its secret in the Authorization header
    Basic,
    /// Its secret in the form
    Post,
    /// An assertion by a key that the enclave makes [RFC 7523]
    PrivateKeyJwt,
    /// A TLS client certificate whose key the enclave makes [RFC 8705]
    Tls,
}

impl AppCommand {
    pub(crate) async fn run(
        self,
        channel: &AttestedChannel,
        output: Output,
    ) -> Result<(), Failure> {
        let mut registry = channel.registry();
        match self {
            Self::Create(create) => create.run(channel, output).await,
            Self::List { vendor } => {
                let all = all_pages(async |page_token| {
                    let request = v1::ListAppsRequest {
                        vendor: vendor.clone(),
                        page_size: 0,
                        page_token,
                    };
                    let page = answer(registry.list_apps(request)).await?.into_inner();
                    Ok((page.apps, page.next_page_token))
                })
                .await?;
                let records: Vec<Record> = all.iter().map(row).collect();
                output.records("apps", &records)
            }
            Self::Show { id } => {
                let request = v1::GetAppRequest { id };
                let found = answer(registry.get_app(request)).await?.into_inner();
                output.record(&record(&found.app.ok_or_else(|| missing("app"))?))
            }
            Self::Certificate { id } => {
                let request = v1::GetAppRequest { id };
                let found = answer(registry.get_app(request)).await?.into_inner();
                let app = found.app.ok_or_else(|| missing("app"))?;
                certificate(&app, output)
            }
        }
    }
}

impl CreateArgs {
    async fn run(self, channel: &AttestedChannel, output: Output) -> Result<(), Failure> {
        let Self {
            id,
            vendor,
            provider,
            oauth_client_id,
            auth,
            secret_file,
        } = self;
        let sealed_client_secret = match (auth, &secret_file) {
            (Auth::None | Auth::PrivateKeyJwt | Auth::Tls, None) => Vec::new(),
            (Auth::None | Auth::PrivateKeyJwt | Auth::Tls, Some(_)) => {
                return Err(Failure::usage(
                    "only an app with --auth basic or post has a secret",
                    "leave out --secret-file, or choose --auth basic or post",
                ));
            }
            (Auth::Basic | Auth::Post, file) => {
                let recipient = Box::pin(channel.deposit_recipient()).await?;
                let secret = secret_input::read("app's secret", file.as_deref())?;
                recipient.seal_client_secret(&vendor, &id, &provider, &secret)?
            }
        };
        let request = v1::CreateAppRequest {
            app: Some(v1::App {
                id,
                vendor,
                provider,
                oauth_client_id,
                auth_method: auth.wire().into(),
                ..v1::App::default()
            }),
            sealed_client_secret,
        };
        let made = answer(channel.registry().create_app(request)).await?;
        let app = made.into_inner().app.ok_or_else(|| missing("app"))?;
        output.record(&record(&app))?;
        if app.jwks.is_empty() {
            return Ok(());
        }
        output
            .note("register jwks at the provider, or the certificate: `tokenkeep app certificate`")
    }
}

impl Auth {
    pub(super) const fn wire(self) -> v1::ClientAuthMethod {
        match self {
            Self::None => v1::ClientAuthMethod::None,
            Self::Basic => v1::ClientAuthMethod::ClientSecretBasic,
            Self::Post => v1::ClientAuthMethod::ClientSecretPost,
            Self::PrivateKeyJwt => v1::ClientAuthMethod::PrivateKeyJwt,
            Self::Tls => v1::ClientAuthMethod::TlsClientAuth,
        }
    }
}

/// A method as `--auth` names it.
pub(super) fn auth_name(number: i32) -> String {
    match v1::ClientAuthMethod::try_from(number) {
        Ok(v1::ClientAuthMethod::None) => "none".to_owned(),
        Ok(v1::ClientAuthMethod::ClientSecretBasic) => "basic".to_owned(),
        Ok(v1::ClientAuthMethod::ClientSecretPost) => "post".to_owned(),
        Ok(v1::ClientAuthMethod::PrivateKeyJwt) => "private-key-jwt".to_owned(),
        Ok(v1::ClientAuthMethod::TlsClientAuth) => "tls".to_owned(),
        Ok(v1::ClientAuthMethod::Unspecified) | Err(_) => format!("unknown ({number})"),
    }
}

fn certificate(app: &v1::App, output: Output) -> Result<(), Failure> {
    if app.certificate_pem.is_empty() {
        return Err(Failure::usage(
            "the app has no key",
            "a certificate is there for apps with --auth private-key-jwt or tls",
        ));
    }
    if output.is_json() {
        return output.json(&json!({ "certificate_pem": app.certificate_pem }));
    }
    output.bytes(app.certificate_pem.as_bytes()).map(|_open| ())
}

fn row(app: &v1::App) -> Record {
    Record::new([
        ("id", json!(app.id)),
        ("vendor", json!(app.vendor)),
        ("provider", json!(app.provider)),
        ("oauth_client_id", json!(app.oauth_client_id)),
        ("auth", json!(auth_name(app.auth_method))),
    ])
}

fn record(app: &v1::App) -> Record {
    let v1::App {
        id,
        vendor,
        provider,
        oauth_client_id,
        auth_method,
        jwks,
        certificate_pem: _,
    } = app;
    Record::new([
        ("id", json!(id)),
        ("vendor", json!(vendor)),
        ("provider", json!(provider)),
        ("oauth_client_id", json!(oauth_client_id)),
        ("auth", json!(auth_name(*auth_method))),
        (
            "jwks",
            serde_json::from_str(jwks).unwrap_or(serde_json::Value::Null),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_is_shown_as_it_was_given() {
        for auth in Auth::value_variants() {
            let name = auth.to_possible_value().unwrap();
            assert_eq!(auth_name(auth.wire().into()), name.get_name());
        }
        assert_eq!(auth_name(0), "unknown (0)");
    }
}
