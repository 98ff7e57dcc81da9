//! The provider and API to test against: in this process, or as a process of its own.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdTcpListener};
use std::path::PathBuf;

use secrecy::SecretString;
use serde::Serialize;
use testkit::provider::{
    Client, ClientAuth, Config, Flaky, Provider, ProviderError, Rotation, Running, Successor,
};
use tokio::net::TcpListener;

use crate::lab::{self, LabError, LabFiles};
use crate::names;
use crate::ports::{self, PortError};
use crate::stop::StopSignals;

/// For how long a superseded refresh token still works under the kinds with grace, unless it is said.
pub const GRACE_WINDOW_MS: u64 = 30_000;

/// Life of an access token in seconds, unless it is said.
pub const EXPIRES_IN_S: u64 = 300;

/// Begins every token that the provider mints: easy to search for where none may be.
pub const TOKEN_MARKER: &str = "example-crm-";

/// What a provider of its own process is told.
#[derive(Debug, Clone)]
pub struct ProviderOptions {
    /// Where grants and tokens are kept.
    pub state_file: Option<PathBuf>,
    /// Where each presentation of a token is written down.
    pub ledger_file: Option<PathBuf>,
    /// The port; 0 for a free one.
    pub port: u16,
    /// The one client.
    pub client_id: String,
    /// The file with its secret; without one the client is public.
    pub client_secret_file: Option<PathBuf>,
    /// What happens to a refresh token that is used.
    pub rotation: RotationKind,
    /// For how long a superseded refresh token still works under the kinds with grace.
    pub grace_window_ms: u64,
    /// Life of an access token, in seconds.
    pub expires_in_s: u64,
    /// One in so many requests to the token endpoint is struck by a fault; 0 for none.
    pub flaky: u32,
    /// What the faults come from.
    pub seed: u64,
}

/// What happens to a refresh token that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RotationKind {
    /// Single use; a reuse revokes the grant.
    Strict,
    /// Single use; a reuse is refused, and nothing else happens.
    NoGrace,
    /// Single use, but the last one works again for a while, and gets the same successor.
    Grace,
    /// The same, but it gets a new successor, which supersedes the other.
    GraceNewest,
    /// It stays.
    Never,
}

/// Why the provider did not run.
#[derive(Debug, thiserror::Error)]
pub enum ProviderProcessError {
    /// Its files.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// Its socket.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Its start.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// A secret that is no text.
    #[error("the client's secret is not text: write one of letters and digits")]
    Secret,
    /// The signals cannot be heard.
    #[error("the signals to stop cannot be heard")]
    Signals(#[source] io::Error),
    /// The socket cannot be used.
    #[error("the socket cannot be used")]
    Socket(#[source] io::Error),
}

#[derive(Debug, Serialize)]
struct ReadyLine {
    ready: bool,
    provider_url: String,
    token_endpoint: String,
    api_url: String,
    pid: u32,
}

/// Starts a lab's provider in this process.
///
/// # Errors
/// [`ProviderProcessError`].
pub fn start(
    files: &LabFiles,
    bound: Option<StdTcpListener>,
) -> Result<Running, ProviderProcessError> {
    let socket = match bound {
        Some(socket) => socket,
        None => ports::bind("provider", files.provider_address()?)?,
    };
    let secret = secret_text(&files.app_secret()?)?;
    let auth = ClientAuth::SecretBasic(secret);
    let config = Config {
        clients: vec![Client::confidential(names::OAUTH_CLIENT_ID, auth)],
        state_file: Some(files.path(lab::PROVIDER_STATE)),
        token_marker: TOKEN_MARKER.to_owned(),
        ..Config::default()
    };
    Ok(Provider::spawn_on(adopt(socket)?, config)?)
}

/// Runs a provider until SIGTERM or SIGINT.
///
/// # Errors
/// [`ProviderProcessError`].
pub async fn run(options: ProviderOptions) -> Result<(), ProviderProcessError> {
    let ProviderOptions {
        state_file,
        ledger_file,
        port,
        client_id,
        client_secret_file,
        rotation,
        grace_window_ms,
        expires_in_s,
        flaky,
        seed,
    } = options;
    let mut signals = StopSignals::listen().map_err(ProviderProcessError::Signals)?;
    let client = match client_secret_file {
        Some(path) => {
            let secret =
                tokenkeep::private_file::read_private(&path, 4_096).map_err(LabError::from)?;
            Client::confidential(&client_id, ClientAuth::SecretBasic(secret_text(&secret)?))
        }
        None => Client::public(&client_id),
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let grace = |successor| Rotation::Grace {
        window_ms: grace_window_ms,
        successor,
    };
    let config = Config {
        clients: vec![client],
        rotation: match rotation {
            RotationKind::Strict => Rotation::Strict,
            RotationKind::NoGrace => Rotation::NoGrace,
            RotationKind::Grace => grace(Successor::Same),
            RotationKind::GraceNewest => grace(Successor::NewestWins),
            RotationKind::Never => Rotation::Never,
        },
        token_marker: TOKEN_MARKER.to_owned(),
        expires_in_s,
        flaky: (flaky > 0).then_some(Flaky {
            one_in: flaky,
            seed,
        }),
        state_file,
        ledger_file,
        ..Config::default()
    };
    let running = Provider::spawn_on(adopt(ports::bind("provider", address)?)?, config)?;
    let base_url = running.base_url();
    let line = ReadyLine {
        ready: true,
        provider_url: base_url.to_owned(),
        token_endpoint: running.token_endpoint(),
        api_url: format!("{base_url}/api"),
        pid: std::process::id(),
    };
    let line = serde_json::to_string(&line).unwrap_or_default();
    {
        let mut out = io::stdout().lock();
        // The reader of the line may be gone: the provider serves all the same.
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .unwrap_or_default();
    }
    signals.asked().await;
    running.stop().await;
    Ok(())
}

fn adopt(socket: StdTcpListener) -> Result<TcpListener, ProviderProcessError> {
    socket
        .set_nonblocking(true)
        .and_then(|()| TcpListener::from_std(socket))
        .map_err(ProviderProcessError::Socket)
}

fn secret_text(bytes: &[u8]) -> Result<SecretString, ProviderProcessError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ProviderProcessError::Secret)?;
    Ok(SecretString::from(text.trim_end_matches(['\r', '\n'])))
}
