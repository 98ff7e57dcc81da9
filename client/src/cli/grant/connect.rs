//! `grant connect`: the owner consents at the provider; the code is exchanged inside the enclave.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use proto::v1;
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokenkeep::AttestedChannel;
use tokenkeep::consent::{Answer, Browser, Callback, ConsentError, Loopback};
use tokenkeep::rpc_error::answer;

use super::{GrantArgs, no_grant, record};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::output::Output;

#[derive(Debug, Args)]
pub(crate) struct ConnectArgs {
    #[command(flatten)]
    grant: GrantArgs,
    #[command(flatten)]
    come_back: ComeBack,
}

#[derive(Debug, Args)]
pub(crate) struct ReconnectArgs {
    /// The grant
    id: String,
    #[command(flatten)]
    come_back: ComeBack,
}

#[derive(Debug, Args)]
struct ComeBack {
    /// Where the browser comes back to on this machine; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))]
    listen: SocketAddr,
}

impl ConnectArgs {
    pub(super) async fn run(
        self,
        channel: &AttestedChannel,
        output: Output,
    ) -> Result<(), Failure> {
        let grant = self.grant.wire();
        self.come_back.connect(grant, channel, output).await
    }
}

impl ReconnectArgs {
    pub(super) async fn run(
        self,
        channel: &AttestedChannel,
        output: Output,
    ) -> Result<(), Failure> {
        let request = v1::GetGrantRequest { id: self.id };
        let found = answer(channel.grants().get_grant(request)).await?;
        let grant = found.into_inner().grant.ok_or_else(no_grant)?;
        self.come_back.connect(grant, channel, output).await
    }
}

impl ComeBack {
    async fn connect(
        self,
        grant: v1::Grant,
        channel: &AttestedChannel,
        output: Output,
    ) -> Result<(), Failure> {
        let loopback = Loopback::listen(self.listen).await.map_err(failed)?;
        let request = v1::BeginConnectRequest {
            grant: Some(grant),
            redirect_uri: loopback.redirect_uri(),
        };
        let begun = answer(channel.grants().begin_connect(request))
            .await?
            .into_inner();
        let v1::BeginConnectResponse {
            authorization_url,
            state,
            expires_in_s,
        } = begun;
        if output.is_json() {
            output.json(&json!({
                "authorization_url": authorization_url, "expires_in_s": expires_in_s,
            }))?;
        } else {
            output.note("open this in a browser of this machine, as the one whose data it is:")?;
            output.line(&authorization_url)?;
        }
        let within = Duration::from_secs(expires_in_s.into());
        let (heard, browser) = loopback.hear(&state, within).await.map_err(failed)?;
        let made = match heard {
            Answer::Refused(error) => {
                Err(Failure::answer(format!("the provider refused: {error}")))
            }
            Answer::Consented(Callback { code, iss }) => {
                let request = v1::CompleteConnectRequest {
                    state,
                    code: code.expose_secret().to_owned(),
                    iss: iss.unwrap_or_default(),
                };
                let made = answer(channel.grants().complete_connect(request)).await;
                made.map_err(Failure::from)
                    .and_then(|made| made.into_inner().grant.ok_or_else(no_grant))
            }
        };
        show(browser, &made).await;
        output.record(&record(made?))
    }
}

/// Says plainly what was granted to whom.
async fn show(browser: Browser, made: &Result<v1::Grant, Failure>) {
    match made {
        Err(failure) => {
            let why = [("why", failure.for_people())];
            browser.show(false, "Nothing was granted.", &why).await;
        }
        Ok(grant) => {
            let listed = |items: &[String], none: &str| match items {
                [] => none.to_owned(),
                items => items.join(", "),
            };
            let lines = [
                ("grant", grant.id.clone()),
                ("belongs to", grant.tenant.clone()),
                ("app at the provider", grant.app.clone()),
                ("may be used by", listed(&grant.clients, "nobody")),
                ("at", listed(&grant.targets, "nothing")),
                ("for", listed(&grant.operations, "every call there")),
                (
                    "with the scopes",
                    listed(&grant.scopes, "that the provider gives"),
                ),
                (
                    "kept by",
                    "the enclave: neither the vendor nor its operator has the token".to_owned(),
                ),
            ];
            browser.show(true, "Access was granted.", &lines).await;
        }
    }
}

fn failed(error: ConsentError) -> Failure {
    match &error {
        ConsentError::NotLoopback(_) => {
            Failure::usage(error.to_string(), "listen on 127.0.0.1 or [::1]")
        }
        ConsentError::Listen { .. } => {
            Failure::usage(error.to_string(), "name another port with --listen, or 0")
        }
        ConsentError::Late => Failure::new(
            Exit::Usage,
            error.to_string(),
            "begin anew, and consent in the browser before the time is over",
        ),
    }
}
