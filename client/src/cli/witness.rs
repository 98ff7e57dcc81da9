//! `witness`: cosigns the checkpoints of logs, so that nobody can roll them back.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tlog::{KeyName, VerifierKey};
use tokenkeep::SystemClock;
use tokenkeep::private_file::{read_private, read_public};
use tokenkeep::witness::state::{Directory, StateError};
use tokenkeep::witness::{Witness, serve};
use tokio::net::TcpListener;

use super::exit::{Exit, manual};
use super::failure::Failure;
use super::output::Output;
use super::record::Record;

/// Largest file of certificates or of a key, bytes.
const MAX_PEM_BYTES: usize = 256 << 10;

/// A witness of logs: remembers the last checkpoint of each, and cosigns only what follows it
///
/// Run it where the operator of the service has no say. A service whose manifest names witnesses starts only
/// from a state that a quorum of them has seen, so that a disk that was put back is found out.
#[derive(Debug, Subcommand)]
pub(crate) enum WitnessCommand {
    /// Make a witness in a new directory and print its key, for the manifest
    #[command(after_long_help = manual!("  tokenkeep witness init /var/lib/witness --name witness.example/1\n  tokenkeep witness init w --name witness.example/1 --log 'keep.example/control+0123abcd+AT…'"))]
    Init {
        /// The directory
        dir: PathBuf,
        /// The witness's name: a URL without scheme is usual
        #[arg(long)]
        name: String,
        /// The verifier key of a log to cosign; repeat for more
        #[arg(long = "log", value_name = "VKEY")]
        logs: Vec<String>,
    },
    /// Let a witness know a log, by its verifier key; one that runs knows it at once
    #[command(after_long_help = manual!("  tokenkeep witness add-log /var/lib/witness 'keep.example/control+0123abcd+AT…'"))]
    AddLog {
        /// The directory
        dir: PathBuf,
        /// The log's verifier key; its name is the log's origin
        #[arg(id = "log_key", value_name = "VKEY")]
        key: String,
    },
    /// Serve `POST /add-checkpoint` (C2SP tlog-witness) until it is stopped
    ///
    /// What was seen is on the disk before it is answered: stop it as you like.
    #[command(after_long_help = manual!("  tokenkeep witness serve /var/lib/witness --listen 127.0.0.1:7501\n  tokenkeep witness serve /var/lib/witness --listen 0.0.0.0:443 \\\n      --tls-cert chain.pem --tls-key key.pem"))]
    Serve(ServeArgs),
    /// Show the witness's key, and what it saw of each log
    #[command(after_long_help = manual!("  tokenkeep witness show /var/lib/witness\n  tokenkeep --json witness show /var/lib/witness"))]
    Show {
        /// The directory
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// The directory
    dir: PathBuf,
    /// The address; port 0 takes a free one and prints it
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7501")]
    listen: SocketAddr,
    /// Certificate chain (PEM): serve TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM, mode 0600)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

pub(crate) async fn run(command: WitnessCommand, output: Output) -> Result<(), Failure> {
    match command {
        WitnessCommand::Init { dir, name, logs } => {
            let name: KeyName = name.parse().map_err(|error| {
                Failure::usage(
                    format!("--name: {error}"),
                    "give a name such as witness.example/1",
                )
            })?;
            let logs: Vec<VerifierKey> = logs
                .iter()
                .map(|key| log_key(key))
                .collect::<Result<_, _>>()?;
            let witness = Witness::init(&dir, &name).map_err(|error| failed(&error))?;
            for key in &logs {
                Directory::add_log(&dir, key).map_err(|error| failed(&error))?;
            }
            output.record(&Record::new([
                ("key", json!(witness.key().to_string())),
                ("dir", json!(dir.display().to_string())),
            ]))
        }
        WitnessCommand::AddLog { dir, key } => {
            let key = log_key(&key)?;
            Directory::add_log(&dir, &key).map_err(|error| failed(&error))?;
            output.record(&Record::new([("log", json!(key.name().as_str()))]))
        }
        WitnessCommand::Serve(args) => serve(args, output).await,
        WitnessCommand::Show { dir } => show(&dir, output),
    }
}

fn log_key(text: &str) -> Result<VerifierKey, Failure> {
    text.parse().map_err(|error| {
        Failure::usage(
            format!("the log's key is no verifier key: {error}"),
            "the service tells its log's key at start, and in its key bundle: `tokenkeep verify` shows it",
        )
    })
}

async fn serve(args: ServeArgs, output: Output) -> Result<(), Failure> {
    let ServeArgs {
        dir,
        listen,
        tls_cert,
        tls_key,
    } = args;
    let witness = Witness::open(&dir).map_err(|error| failed(&error))?;
    let tls = match (tls_cert, tls_key) {
        (Some(cert), Some(key)) => Some(tls(&cert, &key)?),
        (None, _) | (_, None) => None,
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let unbound = |error: std::io::Error| {
        Failure::new(
            Exit::Usage,
            format!("{listen} cannot be listened on: {error}"),
            "name another address with --listen",
        )
    };
    let listener = TcpListener::bind(listen).await.map_err(unbound)?;
    let address = listener.local_addr().map_err(unbound)?;
    output.record(&Record::new([
        ("ready", json!(true)),
        ("url", json!(format!("{scheme}://{address}"))),
        ("key", json!(witness.key().to_string())),
        ("logs", json!(witness.logs().len())),
    ]))?;
    serve::serve(Arc::new(witness), Arc::new(SystemClock), listener, tls).await;
    Ok(())
}

pub(super) fn tls(
    cert: &std::path::Path,
    key: &std::path::Path,
) -> Result<Arc<ServerConfig>, Failure> {
    let wrong = |what: String| Failure::usage(what, "give PEM files: a chain, and its PKCS#8 key");
    let chain = read_public(cert, MAX_PEM_BYTES)?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(format!("{}: {error}", cert.display())))?;
    let pem = read_private(key, MAX_PEM_BYTES)?;
    let pem = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| wrong(format!("{}: {error}", key.display())))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, pem))
        .map_err(|error| wrong(error.to_string()))?;
    Ok(Arc::new(config))
}

fn show(dir: &std::path::Path, output: Output) -> Result<(), Failure> {
    let witness = Witness::open(dir).map_err(|error| failed(&error))?;
    let logs: Vec<Record> = witness
        .logs()
        .into_iter()
        .map(|(origin, seen)| {
            let head = seen.latest.as_ref().map(|latest| latest.head());
            let cosigned = seen
                .latest
                .as_ref()
                .and_then(|latest| latest.cosignature(witness.key()).ok());
            Record::new([
                ("log", json!(origin.as_str())),
                ("size", json!(head.map(|head| head.size))),
                ("root", json!(head.map(|head| head.root.to_string()))),
                (
                    "cosigned_at_s",
                    json!(cosigned.map(|cosigned| cosigned.timestamp_s())),
                ),
            ])
        })
        .collect();
    if output.is_json() {
        let logs: Vec<_> = logs.iter().map(Record::to_json).collect();
        return output.json(&json!({"key": witness.key().to_string(), "logs": logs}));
    }
    output.record(&Record::new([("key", json!(witness.key().to_string()))]))?;
    output.records("logs", &logs)
}

fn failed(error: &StateError) -> Failure {
    let next = match error {
        StateError::File(_) => {
            "name the directory of a witness; `tokenkeep witness init` makes one"
        }
        StateError::Write { .. } => "see to space and permissions there",
        StateError::Damaged { .. } => {
            "put the file back as it was: a witness that forgot what it saw must not go on under its key"
        }
        StateError::Clock { .. } => "set the machine's clock",
    };
    let mut what = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        what.push_str(&format!(": {source}"));
    }
    Failure::new(Exit::Usage, what, next)
}
