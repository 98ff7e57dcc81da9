//! `crash`: a service that is killed between a strict provider's commit and its own, step by step.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use proto::v1;
use serde::Deserialize;
use testkit::provider::{Answer, Event, Fault, Outcome, Provider, RevokedBy, Running, Standing};
use tokenkeep::gateway::CallError;
use tokenkeep::{AttestedChannel, ConnectError, GatewayClient, TokenClient};
use tokio::task::JoinError;

use crate::call;
use crate::lab::{Lab, LabError, LabFiles};
use crate::names::{GRANT, resource};
use crate::provider::{self, ProviderProcessError};
use crate::registration::{self, RegistrationError};
use crate::screen::Screen;
use crate::stop::StopSignals;
use crate::up::temporary;

/// How long the provider holds its answer back: longer than the walk.
const HELD_BACK_MS: u64 = 600_000;

/// How often something is looked at that takes its time.
const EVERY: Duration = Duration::from_millis(100);

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why the walk ended early.
#[derive(Debug, thiserror::Error)]
pub enum CrashError {
    /// A step had another outcome than it must have.
    #[error("{step}: expected {expected}, found {found}")]
    Wrong {
        /// Which.
        step: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it was.
        found: String,
    },
    /// SIGTERM or SIGINT came.
    #[error("the walk was stopped")]
    Stopped,
    /// A file, a process or its output.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The service's first line is not what it says when it is ready.
    #[error("the service did not come up")]
    NotReady(#[source] serde_json::Error),
    /// A thread did not end.
    #[error("a thread did not end")]
    Thread(#[from] JoinError),
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The provider.
    #[error(transparent)]
    Provider(#[from] ProviderProcessError),
    /// The fault that is the point of it.
    #[error("the provider takes no fault")]
    Fault(#[from] testkit::provider::FaultRefused),
    /// The enclave was not verified or not reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Something was not registered or deposited.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
    /// The gateway was not reached.
    #[error(transparent)]
    Call(#[from] CallError),
}

fn io_error(what: &'static str) -> impl Fn(io::Error) -> CrashError {
    move |error| CrashError::Io { what, error }
}

/// Walks through a crash. Done only if the loss is found out and told of.
///
/// # Errors
/// [`CrashError`]: the first outcome that is not as it must be.
pub async fn crash(colour: bool) -> Result<(), CrashError> {
    let mut signals = StopSignals::listen().map_err(io_error("the signals can't be heard"))?;
    let mut screen = Screen::new(colour);
    tokio::select! {
        walked = Box::pin(walk(&mut screen)) => walked,
        () = signals.asked() => Err(CrashError::Stopped),
    }
}

async fn walk(screen: &mut Screen) -> Result<(), CrashError> {
    let folder = temporary().map_err(io_error("no temporary directory"))?;
    let dir = folder.path().join("lab");
    // The ports are free again for the service, which is a process of its own.
    let files = Lab::open(&dir)?.into_parts().files;
    let running = provider::start(&files, None)?;
    let upstream = running.provider();

    screen.step("A grant at a provider that gives each refresh token once, and revokes a grant whose token comes twice.");
    let service = Service::start(&dir).await?;
    let admin = service.admin(&files).await?;
    let url = upstream.base_url();
    Box::pin(registration::register(&admin, &files, url)).await?;
    Box::pin(registration::deposit(&admin, upstream)).await?;
    drop(admin);
    screen.good("deposited", format_args!("grant {GRANT}"));

    screen
        .step("Crash: the provider has given a new token, and the service dies before it arrives.");
    upstream.fault(Fault::at_token(true, Answer::Honest).delayed_by_ms(HELD_BACK_MS))?;
    let call = {
        let client = service.client(&files).await?;
        let (files, url) = (files.clone(), service.contacts());
        tokio::spawn(async move { Box::pin(get(&client, &files, &url)).await.map(drop) })
    };
    until("the exchange", "a presentation", async || {
        Ok((presented(upstream) == [(Standing::Current, Outcome::Rotated)]).then_some(()))
    })
    .await?;
    screen.good(
        "presented",
        "the first token; the provider has spent it and holds its successor",
    );
    service.kill()?;
    // It had no answer, and it has none now.
    drop(call.await?);
    screen.good(
        "killed",
        "the service, by SIGKILL: the successor is nowhere any more",
    );

    screen.step("Restart: nobody knows yet what became of the token.");
    let service = Service::start(&dir).await?;
    let client = service.client(&files).await?;
    let (status, received) = until("the calls", "a lasting answer", async || {
        let answer = Box::pin(get(&client, &files, &service.contacts())).await?;
        Ok((answer.0 != StatusCode::SERVICE_UNAVAILABLE).then_some(answer))
    })
    .await?;
    if status != StatusCode::FORBIDDEN || !received.contains("\"NEEDS_CONSENT\"") {
        return Err(wrong(
            "the call",
            "403 NEEDS_CONSENT",
            format!("{status}: {received}"),
        ));
    }
    screen.refused(
        "the call, behind the quiet time in which the dead request could still be at work: 403 (NEEDS_CONSENT)",
    );

    screen
        .step("Found out: the token was presented once more, and the provider revoked the grant.");
    let expected = [
        (Standing::Current, Outcome::Rotated),
        (Standing::Superseded, Outcome::FamilyRevoked),
    ];
    if presented(upstream) != expected || !is_revoked(upstream) {
        return Err(wrong(
            "the provider's ledger",
            "one presentation more, and a revocation",
            format!("{:?}", presented(upstream)),
        ));
    }
    screen.good(
        "ledger",
        "presented twice, never at a time; then left alone",
    );
    let admin = service.admin(&files).await?;
    let grant = registration::grant(&admin).await?;
    let grant = grant.unwrap_or_default();
    if grant.state() != v1::GrantState::NeedsConsent || grant.cause != "lost_in_exchange" {
        return Err(wrong(
            "the grant",
            "needs consent: lost_in_exchange",
            format!("{}: {}", grant.state().as_str_name(), grant.cause),
        ));
    }
    screen.good(
        "told",
        "the grant needs its owner's consent: lost_in_exchange, and a leaf of the control log says so",
    );

    screen.step("Consent: the user agrees once more, and everything works.");
    Box::pin(registration::deposit(&admin, upstream)).await?;
    let (status, received) = Box::pin(get(&client, &files, &service.contacts())).await?;
    if status != StatusCode::OK {
        return Err(wrong(
            "the new consent",
            "200",
            format!("{status}: {received}"),
        ));
    }
    screen.good("200", "the API answered");
    drop((client, admin));
    service.kill()?;
    end(running).await;
    screen.say("\nAll as it must be. At a provider with grace nothing is lost; docs/refresh.md says why this one can't be helped.");
    Ok(())
}

async fn end(running: Running) {
    running.stop().await;
}

fn wrong(step: &'static str, expected: &'static str, found: String) -> CrashError {
    CrashError::Wrong {
        step,
        expected,
        found,
    }
}

/// Looks until there is something.
async fn until<T>(
    step: &'static str,
    expected: &'static str,
    mut look: impl AsyncFnMut() -> Result<Option<T>, CrashError>,
) -> Result<T, CrashError> {
    let looking = async {
        loop {
            if let Some(found) = Box::pin(look()).await? {
                return Ok(found);
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(found) => found,
        Err(_elapsed) => Err(wrong(
            step,
            expected,
            format!("nothing within {} s", PATIENCE.as_secs()),
        )),
    }
}

/// What was presented, in order.
fn presented(upstream: &Provider) -> Vec<(Standing, Outcome)> {
    let entries = upstream.ledger().entries.into_iter();
    entries
        .filter_map(|entry| match entry.event {
            Event::Presented {
                standing, outcome, ..
            } => Some((standing, outcome)),
            Event::Consented { .. }
            | Event::Revoked { .. }
            | Event::Faulted { .. }
            | Event::ApiCall { .. } => None,
        })
        .collect()
}

fn is_revoked(upstream: &Provider) -> bool {
    let grants = upstream.grants();
    grants
        .iter()
        .any(|grant| grant.revoked == Some(RevokedBy::Reuse))
}

/// Calls the API through the gateway: the status, and all that was received, as text.
async fn get(
    client: &AttestedChannel,
    files: &LabFiles,
    url: &str,
) -> Result<(StatusCode, String), CrashError> {
    let key = Arc::new(files.dpop_key()?);
    let gateway = GatewayClient::new(client, Arc::new(TokenClient::new(client, key)))?;
    Ok(Box::pin(call::get(&gateway, url)).await?)
}

/// The service as a process of its own, so that it can be killed. It dies with its owner.
struct Service {
    child: Child,
    ready: Ready,
}

/// What it says when it is ready.
#[derive(Deserialize)]
struct Ready {
    grpc_url: String,
    gateway_url: String,
}

impl Service {
    async fn start(dir: &Path) -> Result<Self, CrashError> {
        let no_start = io_error("the service can't be started");
        let this = std::env::current_exe().map_err(&no_start)?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join("walk.log"))
            .map_err(&no_start)?;
        let mut child = Command::new(this)
            .args(["serve", "--state"])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(&no_start)?;
        let out = child.stdout.take();
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            if let Some(out) = out {
                BufReader::new(out).read_line(&mut line)?;
            }
            Ok(line)
        });
        let line = line.await?.map_err(&no_start)?;
        let ready = serde_json::from_str(&line).map_err(CrashError::NotReady)?;
        Ok(Self { child, ready })
    }

    fn contacts(&self) -> String {
        format!("{}/contacts", resource(&self.ready.gateway_url))
    }

    async fn admin(&self, files: &LabFiles) -> Result<AttestedChannel, CrashError> {
        let config = files.admin_config(&self.ready.grpc_url)?;
        Ok(Box::pin(AttestedChannel::connect(&config)).await?)
    }

    async fn client(&self, files: &LabFiles) -> Result<AttestedChannel, CrashError> {
        let config = files.client_config(&self.ready.grpc_url)?;
        Ok(Box::pin(AttestedChannel::connect(&config)).await?)
    }

    fn kill(mut self) -> Result<(), CrashError> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed
            .map(drop)
            .map_err(io_error("the service can't be killed"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may be gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
