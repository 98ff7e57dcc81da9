//! The two servers as processes of their own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::load::Target;

/// How long a server may take to come up.
const START: Duration = Duration::from_secs(60);

/// How long a server may take to stop.
const STOP: Duration = Duration::from_secs(60);

/// A running server.
pub(crate) struct Server {
    pub(crate) target: Target,
    child: Child,
}

impl Server {
    /// Stops it: its standard input ends and it is told to terminate.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        drop(self.child.stdin.take());
        if let Some(pid) = self.child.id() {
            Command::new("kill").arg(pid.to_string()).status().await?;
        }
        timeout(STOP, self.child.wait())
            .await
            .context("a server did not stop")??;
        Ok(())
    }
}

/// What `tokenkeep-dev up --json` prints, as far as it matters here.
#[derive(Deserialize)]
struct Up {
    grpc_url: String,
    ca_file: PathBuf,
    client_cert: PathBuf,
    client_key: PathBuf,
    grant: String,
    resource: String,
    pid: u32,
}

/// What the bare server prints.
#[derive(Deserialize)]
struct Bare {
    origin: String,
    ca: String,
}

/// The service, with an emulated enclave.
pub(crate) async fn ours(dev: Option<&Path>) -> anyhow::Result<Server> {
    let dev = match dev {
        Some(dev) => dev.to_path_buf(),
        None => beside("tokenkeep-dev")?,
    };
    let mut command = Command::new(&dev);
    command.args(["up", "--json"]);
    let (child, line) = start(command).await?;
    let up: Up = serde_json::from_str(&line).context("tokenkeep-dev up printed something else")?;
    let identity = (
        CertificateDer::from_pem_file(&up.client_cert)?,
        PrivateKeyDer::from_pem_file(&up.client_key)?,
    );
    let ca = std::fs::read_to_string(&up.ca_file)?;
    Ok(Server {
        target: Target {
            origin: up.grpc_url,
            tls: tls(&ca, Some(identity))?,
            grant: up.grant,
            resource: up.resource,
            pid: up.pid,
        },
        child,
    })
}

/// The bare server.
pub(crate) async fn bare() -> anyhow::Result<Server> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("bare");
    let (child, line) = start(command).await?;
    let bare: Bare = serde_json::from_str(&line)?;
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::default().self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let pid = child.id().context("the bare server is gone")?;
    Ok(Server {
        target: Target {
            origin: bare.origin,
            tls: tls(&bare.ca, Some((certificate.der().clone(), key)))?,
            grant: "grant".to_owned(),
            resource: "https://127.0.0.1:7445/g/grant/target".to_owned(),
            pid,
        },
        child,
    })
}

fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.exists() {
        bail!(
            "{} is not there: build it, or name it by --dev",
            path.display()
        );
    }
    Ok(path)
}

/// Starts a server and waits for its ready line.
async fn start(mut command: Command) -> anyhow::Result<(Child, String)> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("can't start {:?}", command.as_std().get_program()))?;
    let out = child.stdout.take().context("no standard output")?;
    let mut lines = BufReader::new(out).lines();
    let line = timeout(START, lines.next_line())
        .await
        .context("a server did not come up")??
        .context("a server ended before it was ready")?;
    Ok((child, line))
}

fn tls(
    ca_pem: &str,
    identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots);
    let mut config = match identity {
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
