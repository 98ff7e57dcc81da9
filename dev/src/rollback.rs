//! `rollback`: a disk that is put back, step by step, and the witness that finds it out.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attestation::manifest::{SignManifestError, sign_manifest};
use broker::RunError;
use proto::v1;
use ring::rand::SystemRandom;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use tlog::{KeyName, VerifierKey};
use tokenkeep::rpc_error::answer;
use tokenkeep::token_client::TokenError;
use tokenkeep::witness::state::{Directory, StateError};
use tokenkeep::witness::{Witness, serve};
use tokenkeep::{RpcError, SystemClock, TokenClient, TokenRequest};
use tokio::net::TcpListener;

use crate::lab::{self, LabError, LabFiles};
use crate::names::GRANT;
use crate::screen::Screen;
use crate::stack::{Logs, Stack, StackError};
use crate::stop::StopSignals;
use crate::up::temporary;

/// The witness's name.
const WITNESS: &str = "bank.test/witness";

/// Why the walk ended early.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
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
    /// A file or a socket.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The manifest can't be signed.
    #[error("the manifest can't be signed")]
    Sign(#[from] SignManifestError),
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The service and its provider.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// The witness.
    #[error(transparent)]
    Witness(#[from] StateError),
    /// The service refused what it must not.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The manifest's witness, the log's name or its key is none.
    #[error("{0} is malformed")]
    Malformed(&'static str),
}

fn io_error(what: &'static str) -> impl Fn(io::Error) -> RollbackError {
    move |error| RollbackError::Io { what, error }
}

/// Walks through a rollback. Done only if the old disk was refused.
///
/// # Errors
/// [`RollbackError`]: the first outcome that is not as it must be.
pub async fn rollback(colour: bool) -> Result<(), RollbackError> {
    let mut signals = StopSignals::listen().map_err(io_error("the signals can't be heard"))?;
    let mut screen = Screen::new(colour);
    tokio::select! {
        walked = Box::pin(walk(&mut screen)) => walked,
        () = signals.asked() => Err(RollbackError::Stopped),
    }
}

async fn walk(screen: &mut Screen) -> Result<(), RollbackError> {
    let folder = temporary().map_err(io_error("no temporary directory"))?;
    let lab = folder.path().join("lab");

    screen.step("A service with a grant, and a witness that another organisation runs.");
    let stack = Stack::start(&lab, Logs::ToFile).await?;
    stack.furnish().await?;
    let log_key = log_key(&stack).await?;
    let files = stack.files().clone();
    stack.stop().await?;
    let witness = witness(&folder.path().join("witness"), &log_key, &files).await?;
    screen.good(
        "witness",
        format_args!("{} knows the log {}", witness.key(), log_key.name()),
    );
    let stack = Stack::start(&lab, Logs::Elsewhere).await?;
    screen.good("cosigned", told(&witness));
    gives_token(&stack, "before").await?;
    screen.good("issued", "the integration gets an access token");

    screen.step("Snapshot: the host copies the disk.");
    let (disk, old, new) = (
        files.path("state"),
        folder.path().join("old"),
        folder.path().join("new"),
    );
    copy(&disk, &old)?;
    screen.good("copied", format_args!("{}", disk.display()));

    screen.step("Revoke: the tenant ends the grant.");
    let request = v1::RevokeGrantRequest {
        id: GRANT.to_owned(),
        reason: "the walk".to_owned(),
    };
    let admin = stack.admin().await?;
    answer(admin.grants().revoke_grant(request)).await?;
    screen.good(
        "cosigned",
        format_args!("{}, and so it was acknowledged", told(&witness)),
    );
    screen.refused(refused(&stack).await?);
    drop(admin);
    stack.stop().await?;

    screen.step("Rollback: the host puts the old disk back and starts the same service.");
    copy(&disk, &new)?;
    put_back(&old, &disk)?;
    match Stack::start(&lab, Logs::Elsewhere).await {
        Err(StackError::Run(RunError::Superseded(proof))) => screen.refused(proof),
        Err(error) => return Err(error.into()),
        Ok(_) => {
            return Err(RollbackError::Wrong {
                step: "the old disk",
                expected: "a refusal with the witness's proof",
                found: "a service that serves".to_owned(),
            });
        }
    }

    screen.step("The newest disk again: it serves, and what was revoked stays revoked.");
    put_back(&new, &disk)?;
    let stack = Stack::start(&lab, Logs::Elsewhere).await?;
    screen.refused(refused(&stack).await?);
    stack.stop().await?;
    screen.say("\nAll as it must be. docs/witness.md says how, and what a rollback still does.");
    Ok(())
}

/// What the witness saw last.
fn told(witness: &Witness) -> String {
    let seen = witness.logs().into_values().find_map(|seen| seen.latest);
    seen.map_or("nothing yet".to_owned(), |seen| {
        format!("a control log of {} leaves", seen.head().size)
    })
}

/// The verifier key of the control log, by the attested key bundle.
async fn log_key(stack: &Stack) -> Result<VerifierKey, RollbackError> {
    let admin = stack.admin().await?;
    let spki = &admin.bundle().log_key_spki;
    let key = spki
        .last_chunk::<32>()
        .ok_or(RollbackError::Malformed("the log's key"))?;
    let issuer = &stack.urls().issuer;
    let host = issuer
        .split_once("://")
        .map_or(issuer.as_str(), |(_, host)| host);
    let name: KeyName = format!("{host}/log/control")
        .parse()
        .map_err(|_| RollbackError::Malformed("the log's name"))?;
    Ok(VerifierKey::new(name, *key))
}

/// A witness that runs, knows the log, and is named in the manifest.
async fn witness(
    dir: &Path,
    log: &VerifierKey,
    files: &LabFiles,
) -> Result<Arc<Witness>, RollbackError> {
    let name: KeyName = WITNESS
        .parse()
        .map_err(|_| RollbackError::Malformed("the witness's name"))?;
    drop(Witness::init(dir, &name)?);
    Directory::add_log(dir, log)?;
    let witness = Arc::new(Witness::open(dir)?);
    let no_socket = io_error("the witness has no socket");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .map_err(&no_socket)?;
    let address = listener.local_addr().map_err(&no_socket)?;
    let key = witness.key().to_string();
    let serving = serve::serve(Arc::clone(&witness), Arc::new(SystemClock), listener, None);
    // It ends with the process.
    drop(tokio::spawn(serving));
    let more = format!(
        "\n[witnesses]\nquorum = 1\n[[witnesses.witness]]\nname = \"bank\"\nurl = \"http://{address}\"\nkey = \"{key}\"\n"
    );
    sign(files, &more)?;
    Ok(witness)
}

/// Adds to the manifest, raises its sequence, and signs it anew.
fn sign(files: &LabFiles, more: &str) -> Result<(), RollbackError> {
    let (manifest, signature) = (files.path(lab::MANIFEST), files.path(lab::SIGNATURE));
    let written = io_error("the manifest can't be written");
    let text = fs::read_to_string(&manifest).map_err(&written)?;
    let text = text.replacen("sequence = 1\n", "sequence = 2\n", 1) + more;
    let signer = PrivatePkcs8KeyDer::from_pem_file(files.path(lab::SIGNER))
        .map_err(|_| RollbackError::Malformed("the signer's key"))?;
    let rng = SystemRandom::new();
    let signed = sign_manifest(text.as_bytes(), signer.secret_pkcs8_der(), &rng)?;
    fs::write(&manifest, text).map_err(&written)?;
    fs::write(&signature, signed).map_err(&written)
}

async fn ask(stack: &Stack) -> Result<Result<(), TokenError>, RollbackError> {
    let channel = stack.client().await?;
    let key = Arc::new(stack.files().dpop_key()?);
    let client = TokenClient::new(&channel, key);
    let request = TokenRequest::new(GRANT, stack.resource());
    Ok(Box::pin(client.token(&request)).await.map(|_| ()))
}

async fn gives_token(stack: &Stack, step: &'static str) -> Result<(), RollbackError> {
    match ask(stack).await? {
        Ok(()) => Ok(()),
        Err(error) => Err(RollbackError::Wrong {
            step,
            expected: "a token",
            found: error.to_string(),
        }),
    }
}

/// How the service refuses the revoked grant.
async fn refused(stack: &Stack) -> Result<String, RollbackError> {
    match ask(stack).await? {
        Err(TokenError::Rpc(error)) if error.reason() == Some("GRANT_REVOKED") => {
            Ok("GRANT_REVOKED: the integration gets nothing any more".to_owned())
        }
        Err(error) => Err(RollbackError::Wrong {
            step: "the revoked grant",
            expected: "GRANT_REVOKED",
            found: error.to_string(),
        }),
        Ok(()) => Err(RollbackError::Wrong {
            step: "the revoked grant",
            expected: "GRANT_REVOKED",
            found: "a token".to_owned(),
        }),
    }
}

/// Copies the files of a directory.
fn copy(from: &Path, to: &Path) -> Result<(), RollbackError> {
    let failed = io_error("the disk can't be copied");
    fs::create_dir_all(to).map_err(&failed)?;
    for entry in fs::read_dir(from).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        let target: PathBuf = to.join(entry.file_name());
        fs::copy(entry.path(), target).map_err(&failed)?;
    }
    Ok(())
}

fn put_back(copied: &Path, disk: &Path) -> Result<(), RollbackError> {
    fs::remove_dir_all(disk).map_err(io_error("the disk can't be replaced"))?;
    copy(copied, disk)
}
