//! The servers that are measured, as processes of their own: the service on a lab made for it, and the bare server.

use std::io::{Read as _, Seek as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use attestation::manifest::sign_manifest;
use dev::lab::{self, LabFiles};
use dev::stack::certificate_pem;
use ring::rand::SystemRandom;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Deserialize;
use tempfile::TempDir;
use tokenkeep::AttestedChannel;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::caller::{Grants, Target};
use crate::clock::now;

/// How long a server may take to come up. One with a million grants takes its time.
const START: Duration = Duration::from_secs(300);

/// Of what a server said that did not come up, so much is read.
const SAID_BYTES: u64 = 64 * 1024;

/// How long a server may take to stop.
const STOP: Duration = Duration::from_secs(60);

/// What a lab's host and manifest say otherwise than usual.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Connections that a listener takes.
    pub(crate) connections: u32,
    /// A client's rate and burst.
    pub(crate) client: Option<(u32, u32)>,
    /// Who looks on, if anybody does.
    pub(crate) observers: Option<Observers>,
}

/// Where metrics are asked for, and where traces go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Observers {
    pub(crate) metrics: SocketAddr,
    pub(crate) collector: SocketAddr,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            connections: 16_384,
            client: None,
            observers: None,
        }
    }
}

/// What a lab's state is filled with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Filling {
    pub(crate) grants: u64,
    /// Whose they are, in turn.
    pub(crate) tenants: u64,
    /// Each tenant has a policy.
    pub(crate) policies: bool,
}

/// A lab in a directory of its own, which goes with it.
pub(crate) struct Lab {
    folder: TempDir,
    files: LabFiles,
}

impl Lab {
    /// A new one.
    ///
    /// # Errors
    /// It can't be made.
    pub(crate) fn new(terms: Terms) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("tokenkeep-bench-")
            .tempdir()?;
        let dir = folder.path().join("lab");
        let files = lab::Lab::open(&dir)?.into_parts().files;
        let host = files.path(lab::HOST);
        let text = std::fs::read_to_string(&host)?;
        std::fs::write(&host, host_toml(&text, terms))?;
        if let Some((per_s, burst)) = terms.client {
            let path = files.path(lab::MANIFEST);
            let text = std::fs::read_to_string(&path)?;
            let manifest = manifest_toml(&text, per_s, burst)?;
            let signer = PrivatePkcs8KeyDer::from_pem_file(files.path(lab::SIGNER))?;
            let signer = signer.secret_pkcs8_der();
            let signature = sign_manifest(manifest.as_bytes(), signer, &SystemRandom::new())?;
            std::fs::write(&path, manifest)?;
            std::fs::write(files.path(lab::SIGNATURE), signature)?;
        }
        Ok(Self { folder, files })
    }

    /// Its files.
    pub(crate) fn files(&self) -> &LabFiles {
        &self.files
    }

    /// A directory on the disk that its state is on.
    pub(crate) fn disk(&self) -> &Path {
        self.folder.path()
    }

    /// Deposits grants.
    ///
    /// # Errors
    /// `tokenkeep-dev fill` fails.
    pub(crate) async fn fill(&self, dev: &Path, filling: Filling) -> anyhow::Result<()> {
        let status = Command::new(dev)
            .args(["fill", "--grants", &filling.grants.to_string()])
            .args(["--tenants", &filling.tenants.to_string()])
            .args(filling.policies.then_some("--policies"))
            .arg("--state")
            .arg(self.files.dir())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .status()
            .await?;
        if !status.success() {
            bail!("tokenkeep-dev fill ended with {status}");
        }
        Ok(())
    }
}

/// Room for the connections and for the proofs of a whole run.
fn host_toml(text: &str, terms: Terms) -> String {
    let connections = terms.connections;
    let mut host =
        format!("{text}\n[limits]\nconnections = {connections}\nreplay_entries = 16000000\n");
    if let Some(Observers { metrics, collector }) = terms.observers {
        host.push_str(&format!(
            "[metrics]\nlisten = \"{metrics}\"\n[traces]\nendpoint = \"http://{collector}\"\n"
        ));
    }
    host
}

/// The manifest with another rate.
fn manifest_toml(text: &str, per_s: u32, burst: u32) -> anyhow::Result<String> {
    let mut found = 0_u32;
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            let rate = match line.split_once(" = ").map(|(name, _)| name) {
                Some("client_per_s") => format!("client_per_s = {per_s}"),
                Some("client_burst") => format!("client_burst = {burst}"),
                Some(_) | None => return line.to_owned(),
            };
            found = found.saturating_add(1);
            rate
        })
        .collect();
    if found != 2 {
        bail!("the lab's manifest has no rates");
    }
    Ok(format!("{}\n", lines.join("\n")))
}

/// A running server.
pub(crate) struct Server {
    pub(crate) target: Target,
    child: Child,
    /// From the start of the process to its ready line.
    pub(crate) start: Duration,
}

impl Server {
    /// Stops it: its standard input ends and it is told to terminate.
    ///
    /// # Errors
    /// It does not stop.
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
    grant: String,
    resource: String,
    pid: u32,
}

/// What `tokenkeep-dev serve` prints.
#[derive(Deserialize)]
struct Serve {
    grpc_url: String,
    gateway_url: String,
    pid: u32,
}

/// What the bare server prints.
#[derive(Deserialize)]
struct Bare {
    origin: String,
    ca: String,
}

/// `tokenkeep-dev`: the one that is named, or the one beside this program.
///
/// # Errors
/// There is none.
pub(crate) fn dev(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = match named {
        Some(path) => path.to_path_buf(),
        None => std::env::current_exe()?.with_file_name("tokenkeep-dev"),
    };
    if !path.exists() {
        bail!(
            "{} is not there: build it, or name it by --dev",
            path.display()
        );
    }
    Ok(path)
}

/// A program, on these processors alone.
fn on(processors: Option<&str>, program: &Path) -> Command {
    match processors {
        None => Command::new(program),
        Some(list) => {
            let mut command = Command::new("taskset");
            command.args(["--cpu-list", list]).arg(program);
            command
        }
    }
}

/// The service with the usual grant, if so wanted on these processors alone.
///
/// # Errors
/// It does not come up.
pub(crate) async fn ours(
    dev: &Path,
    lab: &Lab,
    processors: Option<&str>,
) -> anyhow::Result<Server> {
    let mut command = on(processors, dev);
    command
        .args(["up", "--json", "--state"])
        .arg(lab.files.dir());
    let (child, line, start) = start(command).await?;
    let up: Up = serde_json::from_str(&line).context("tokenkeep-dev up printed something else")?;
    let ca = std::fs::read_to_string(&up.ca_file)?;
    Ok(Server {
        target: Target {
            origin: up.grpc_url,
            tls: tls(&ca, identity(&lab.files)?)?,
            grants: Grants::One {
                grant: up.grant,
                resource: up.resource,
            },
            pid: up.pid,
        },
        child,
        start,
    })
}

/// The service on a lab that was filled.
///
/// # Errors
/// It does not come up.
pub(crate) async fn filled(dev: &Path, lab: &Lab, grants: u64) -> anyhow::Result<Server> {
    let mut command = Command::new(dev);
    command.args(["serve", "--state"]).arg(lab.files.dir());
    let (child, line, start) = start(command).await?;
    let ready: Serve =
        serde_json::from_str(&line).context("tokenkeep-dev serve printed something else")?;
    let config = lab.files.client_config(&ready.grpc_url)?;
    let verified = Box::pin(AttestedChannel::connect(&config)).await?;
    let ca = certificate_pem(&verified.bundle().enclave_ca_der);
    Ok(Server {
        target: Target {
            origin: ready.grpc_url,
            tls: tls(&ca, identity(&lab.files)?)?,
            grants: Grants::Filled {
                gateway: ready.gateway_url,
                count: grants,
            },
            pid: ready.pid,
        },
        child,
        start,
    })
}

/// The bare server, if so wanted on these processors alone.
///
/// # Errors
/// It does not come up.
pub(crate) async fn bare(processors: Option<&str>) -> anyhow::Result<Server> {
    let mut command = on(processors, &std::env::current_exe()?);
    command.arg("bare");
    let (child, line, start) = start(command).await?;
    let bare: Bare = serde_json::from_str(&line)?;
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::default().self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let pid = child.id().context("the bare server is gone")?;
    Ok(Server {
        target: Target {
            origin: bare.origin,
            tls: tls(&bare.ca, (certificate.der().clone(), key))?,
            grants: Grants::One {
                grant: "grant".to_owned(),
                resource: "https://127.0.0.1:7445/g/grant/target".to_owned(),
            },
            pid,
        },
        child,
        start,
    })
}

/// Starts a server and waits for its ready line.
async fn start(mut command: Command) -> anyhow::Result<(Child, String, Duration)> {
    let begun: Instant = now();
    let mut complaints = tempfile::tempfile()?;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(complaints.try_clone()?)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("can't start {:?}", command.as_std().get_program()))?;
    let out = child.stdout.take().context("no standard output")?;
    let mut lines = BufReader::new(out).lines();
    let line = timeout(START, lines.next_line())
        .await
        .context("a server did not come up")??;
    let Some(line) = line else {
        let mut said = Vec::new();
        complaints.rewind()?;
        complaints.take(SAID_BYTES).read_to_end(&mut said)?;
        let said = String::from_utf8_lossy(&said);
        let last = said.lines().last().unwrap_or_default();
        bail!("a server ended before it was ready: {last}");
    };
    Ok((child, line, begun.elapsed()))
}

type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

/// The lab's client.
fn identity(files: &LabFiles) -> anyhow::Result<Identity> {
    Ok((
        CertificateDer::from_pem_file(files.path(lab::CLIENT_CERT))?,
        PrivateKeyDer::from_pem_file(files.path(lab::CLIENT_KEY))?,
    ))
}

fn tls(ca_pem: &str, (certificate, key): Identity) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_is_made_to_the_terms() {
        let terms = Terms {
            connections: 12_345,
            client: Some((50, 100)),
            observers: Some(Observers {
                metrics: "127.0.0.1:9464".parse().unwrap(),
                collector: "127.0.0.1:4318".parse().unwrap(),
            }),
        };
        let lab = Lab::new(terms).unwrap();
        let host = lab::read_host(&lab.files().path(lab::HOST)).unwrap();
        assert_eq!(host.limits.connections, 12_345);
        assert_eq!(
            host.metrics,
            terms.observers.map(|observers| observers.metrics)
        );
        assert_eq!(
            host.traces.unwrap().endpoint.as_str(),
            "http://127.0.0.1:4318/"
        );
        let signer = lab::signer_digest(&lab.files().path(lab::SIGNER)).unwrap();
        let kind = attestation::manifest::EnclaveKind::Emulated;
        let (manifest, ..) = broker::run::open_manifest(&host.manifest, &signer, kind).unwrap();
        let rates = manifest.rates();
        assert_eq!((rates.client_per_s, rates.client_burst), (50, 100));
    }

    #[test]
    fn a_manifest_without_rates_is_refused() {
        let text = "sequence = 1\n[rates]\nclient_per_s = 5\n";
        let refused = manifest_toml(text, 50, 100).unwrap_err();
        assert_eq!(refused.to_string(), "the lab's manifest has no rates");
        let changed = manifest_toml(&format!("{text}client_burst = 7\n"), 50, 100).unwrap();
        assert_eq!(
            changed,
            "sequence = 1\n[rates]\nclient_per_s = 50\nclient_burst = 100\n"
        );
    }
}
