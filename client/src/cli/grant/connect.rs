//! `grant connect`: the owner consents at the provider; the code is exchanged inside the enclave.

use std::io::{self, BufRead as _, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use proto::v1;
use proto::v1::ConnectProgress;
use secrecy::ExposeSecret as _;
use serde_json::json;
use tokenkeep::AttestedChannel;
use tokenkeep::consent::{Answer, Browser, Callback, ConsentError, Loopback};
use tokenkeep::rpc_error::answer;
use tonic::Code;

use super::{GrantArgs, no_grant, record};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::output::Output;

/// The longest line that is read.
const MAX_TYPED_BYTES: u64 = 256;

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
    #[arg(long, value_name = "ADDRESS:PORT", default_value_t = SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), conflicts_with_all = ["public", "device"])]
    listen: SocketAddr,
    /// Let a browser of any machine come back to the service's public listener; its page shows a code that is typed here
    #[arg(long, conflicts_with = "device")]
    public: bool,
    /// Show a code that is typed at the provider, in a browser of any machine [RFC 8628]
    #[arg(long)]
    device: bool,
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
        if self.device {
            return by_device(grant, channel, output).await;
        }
        if self.public {
            return by_public_page(grant, channel, output).await;
        }
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
            redirect_uri: _,
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
                    confirmation: String::new(),
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

/// The owner types a code at the provider; the enclave asks it until that is done.
async fn by_device(
    grant: v1::Grant,
    channel: &AttestedChannel,
    output: Output,
) -> Result<(), Failure> {
    let request = v1::BeginDeviceConnectRequest { grant: Some(grant) };
    let begun = answer(channel.grants().begin_device_connect(request)).await?;
    let v1::BeginDeviceConnectResponse {
        handle,
        user_code,
        verification_uri,
        verification_uri_complete,
        expires_in_s,
    } = begun.into_inner();
    if output.is_json() {
        output.json(&json!({
            "user_code": user_code, "verification_uri": verification_uri,
            "verification_uri_complete": verification_uri_complete, "expires_in_s": expires_in_s,
        }))?;
    } else {
        output.note("open this in any browser, as the one whose data it is, and type the code:")?;
        output.line(&verification_uri)?;
        output.line(&user_code)?;
    }
    loop {
        let (progress, made) = awaited(&handle, channel).await?;
        match progress {
            ConnectProgress::Pending => {}
            ConnectProgress::Done => return output.record(&record(made.ok_or_else(no_grant)?)),
            ConnectProgress::Unspecified | ConnectProgress::CameBack => {
                return Err(Failure::answer("the answer is none to a device"));
            }
        }
    }
}

/// The owner's browser comes back to the service's public listener; what its page shows is typed here.
async fn by_public_page(
    grant: v1::Grant,
    channel: &AttestedChannel,
    output: Output,
) -> Result<(), Failure> {
    let request = v1::BeginConnectRequest {
        grant: Some(grant),
        redirect_uri: String::new(),
    };
    let begun = answer(channel.grants().begin_connect(request)).await?;
    let v1::BeginConnectResponse {
        authorization_url,
        state,
        expires_in_s,
        redirect_uri,
    } = begun.into_inner();
    if output.is_json() {
        output.json(&json!({
            "authorization_url": authorization_url, "expires_in_s": expires_in_s,
            "redirect_uri": redirect_uri,
        }))?;
    } else {
        output.note("open this in any browser, as the one whose data it is:")?;
        output.line(&authorization_url)?;
    }
    loop {
        match awaited(&state, channel).await?.0 {
            ConnectProgress::Pending => {}
            ConnectProgress::CameBack => break,
            ConnectProgress::Unspecified | ConnectProgress::Done => {
                return Err(Failure::answer("the answer is none to a page"));
            }
        }
    }
    loop {
        output.status(
            "the browser came back: type the code that its page shows:",
            &json!({"came_back": true}),
        );
        let confirmation = typed().await?;
        let request = v1::CompleteConnectRequest {
            state: state.clone(),
            confirmation,
            ..v1::CompleteConnectRequest::default()
        };
        match answer(channel.grants().complete_connect(request)).await {
            Ok(made) => {
                let made = made.into_inner().grant.ok_or_else(no_grant)?;
                return output.record(&record(made));
            }
            Err(error) if error.reason() == Some("CONNECT_CONFIRMATION") => {
                output.failure(&error.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What happens next to a consent.
async fn awaited(
    handle: &str,
    channel: &AttestedChannel,
) -> Result<(ConnectProgress, Option<v1::Grant>), Failure> {
    let request = v1::AwaitConnectRequest {
        handle: handle.to_owned(),
    };
    match answer(channel.grants().await_connect(request)).await {
        Ok(happened) => {
            let happened = happened.into_inner();
            Ok((happened.progress(), happened.grant))
        }
        // A service that gives requests less time than a wait takes.
        Err(error) if error.code() == Code::DeadlineExceeded => {
            Ok((ConnectProgress::Pending, None))
        }
        Err(error) => Err(error.into()),
    }
}

/// One line of standard input.
async fn typed() -> Result<String, Failure> {
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        let mut bounded = io::stdin().lock().take(MAX_TYPED_BYTES);
        bounded.read_line(&mut line).map(|_| line)
    });
    let line = read.await.ok().and_then(Result::ok).unwrap_or_default();
    let line = line.trim();
    if line.is_empty() {
        return Err(Failure::usage(
            "nothing was typed",
            "begin anew, and type the code that the page shows",
        ));
    }
    Ok(line.to_owned())
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
