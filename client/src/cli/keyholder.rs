//! `keyholder`: holds shares of root keys, and releases them to enclaves that it verified.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attestation::Policy;
use attestation::policy::MAX_POLICY_BYTES;
use clap::{Args, Subcommand};
use serde_json::json;
use tokenkeep::SystemClock;
use tokenkeep::keyholder::state::{Deployment, StateError};
use tokenkeep::keyholder::{Keyholder, serve};
use tokenkeep::private_file::read_public;
use tokio::net::TcpListener;

use super::exit::{Exit, manual};
use super::failure::Failure;
use super::output::Output;
use super::record::Record;
use super::session::Global;
use super::witness;

/// A keyholder: holds shares of root keys, and releases each only to an enclave that it verified
///
/// Run it where the operator of the service has no say. It compares evidence with reference values of its own, never
/// with what the service says of itself, so that a new image opens the old state only when the manifest's signer and
/// its keyholders allow it.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyholderCommand {
    /// Make a keyholder in a new directory and print its key, for the manifest
    #[command(after_long_help = manual!("  tokenkeep keyholder init /var/lib/keyholder\n  tokenkeep --json keyholder init /var/lib/keyholder"))]
    Init {
        /// The directory
        dir: PathBuf,
    },
    /// Let a deployment enrol: whatever enclave matches --policy, under this issuer; again to replace the policy
    #[command(after_long_help = manual!("  tokenkeep keyholder add /var/lib/keyholder https://tokens.example --policy policy.toml"))]
    Add {
        /// The directory
        dir: PathBuf,
        /// The issuer of the service's tokens, as its manifest writes it
        issuer: String,
    },
    /// Serve until it is stopped
    ///
    /// What was released is on the disk before it leaves: stop it as you like. Emulated enclaves are refused without
    /// --allow-emulated, hardware without a current revocation list.
    #[command(after_long_help = manual!("  tokenkeep keyholder serve /var/lib/keyholder --listen 0.0.0.0:7502 \\\n      --collateral /var/lib/collateral\n  tokenkeep keyholder serve k --allow-emulated root.pem"))]
    Serve(ServeArgs),
    /// List the deployments and the shares that are held
    #[command(after_long_help = manual!("  tokenkeep keyholder list /var/lib/keyholder"))]
    List {
        /// The directory
        dir: PathBuf,
    },
    /// Destroy a share that no service asks for any more, whatever it opened
    ///
    /// A service that is in use has its shares destroyed itself. This is for one that is gone, or that never used a
    /// share it had made: `list` shows them. There is no way back.
    #[command(after_long_help = manual!("  tokenkeep keyholder destroy /var/lib/keyholder https://tokens.example \\\n      0f1e…-8c9d… --yes-destroy"))]
    Destroy {
        /// The directory
        dir: PathBuf,
        /// The issuer of the deployment
        issuer: String,
        /// The share, as `list` names it: STATE-SHARE
        share: String,
        /// There is no way back
        #[arg(long, required = true)]
        yes_destroy: bool,
    },
    /// Show the keyholder's key and the recovery sets that were combined here
    #[command(after_long_help = manual!("  tokenkeep keyholder show /var/lib/keyholder"))]
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
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7502")]
    listen: SocketAddr,
    /// Certificate chain (PEM): serve TLS
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM, mode 0600)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

pub(crate) async fn run(
    command: KeyholderCommand,
    global: &Global,
    output: Output,
) -> Result<(), Failure> {
    match command {
        KeyholderCommand::Init { dir } => {
            let keyholder =
                Keyholder::init(&dir, Box::new(|| None)).map_err(|error| failed(&error))?;
            output.record(&Record::new([
                ("key", json!(hex::encode(keyholder.public_key()))),
                ("dir", json!(dir.display().to_string())),
            ]))
        }
        KeyholderCommand::Add { dir, issuer } => {
            let Some(policy) = &global.policy else {
                return Err(Failure::usage(
                    "no reference values are named",
                    "give --policy FILE: `tokenkeep policy attestation init` writes one",
                ));
            };
            let policy = read_public(policy, MAX_POLICY_BYTES)?;
            drop(Policy::from_toml(&policy)?);
            let keyholder = open(&dir)?;
            let added = keyholder.directory().add(&issuer, &policy);
            added.map_err(|error| failed(&error))?;
            output.record(&Record::new([("issuer", json!(issuer))]))
        }
        KeyholderCommand::Serve(args) => serve(args, global, output).await,
        KeyholderCommand::List { dir } => {
            let keyholder = open(&dir)?;
            let deployments = keyholder.directory().deployments();
            let deployments = deployments.map_err(|error| failed(&error))?;
            let rows: Result<Vec<Record>, StateError> = deployments.iter().map(row).collect();
            output.records("deployments", &rows.map_err(|error| failed(&error))?)
        }
        KeyholderCommand::Destroy {
            dir,
            issuer,
            share,
            yes_destroy: _,
        } => {
            let keyholder = open(&dir)?;
            let unknown = |what: String| {
                Failure::usage(what, "`tokenkeep keyholder list` shows what is there")
            };
            let deployment = keyholder.directory().deployment(&issuer);
            let deployment = deployment
                .map_err(|refusal| unknown(format!("{issuer}: {}", refusal.message())))?;
            let known = deployment.shares().map_err(|error| failed(&error))?;
            if !known.contains(&share) {
                return Err(unknown(format!("there is no share {share}")));
            }
            let destroyed = deployment.destroy_named(&share);
            destroyed.map_err(|refusal| unknown(refusal.message()))?;
            output.record(&Record::new([("destroyed", json!(share))]))
        }
        KeyholderCommand::Show { dir } => {
            let keyholder = open(&dir)?;
            let sets = keyholder.directory().recovery_sets();
            output.record(&Record::new([
                ("key", json!(hex::encode(keyholder.public_key()))),
                (
                    "recovery_sets",
                    json!(sets.map_err(|error| failed(&error))?),
                ),
            ]))
        }
    }
}

fn row(deployment: &Deployment) -> Result<Record, StateError> {
    Ok(Record::new([
        ("issuer", json!(deployment.issuer()?)),
        ("manifest_sequence", json!(deployment.sequence()?)),
        ("destroyed", json!(deployment.destroyed()?)),
        ("shares", json!(deployment.shares()?)),
    ]))
}

fn open(dir: &Path) -> Result<Keyholder, Failure> {
    Keyholder::open(dir, Box::new(|| None)).map_err(|error| failed(&error))
}

async fn serve(args: ServeArgs, global: &Global, output: Output) -> Result<(), Failure> {
    let ServeArgs {
        dir,
        listen,
        tls_cert,
        tls_key,
    } = args;
    // Wrong flags are told now; the lists are read anew for each call.
    drop(global.verification()?);
    let again = global.clone();
    let roots = move || Some(again.verification().ok()?.roots);
    let keyholder = Keyholder::open(&dir, Box::new(roots)).map_err(|error| failed(&error))?;
    let tls = match (tls_cert, tls_key) {
        (Some(cert), Some(key)) => Some(witness::tls(&cert, &key)?),
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
        ("key", json!(hex::encode(keyholder.public_key()))),
    ]))?;
    serve::serve(Arc::new(keyholder), Arc::new(SystemClock), listener, tls).await;
    Ok(())
}

pub(super) fn failed(error: &StateError) -> Failure {
    let next = match error {
        StateError::File(_) => {
            "name the directory of a keyholder; `tokenkeep keyholder init` makes one"
        }
        StateError::Damaged { .. } => "put the file back as it was",
    };
    let mut what = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        what.push_str(&format!(": {source}"));
    }
    Failure::new(Exit::Usage, what, next)
}
