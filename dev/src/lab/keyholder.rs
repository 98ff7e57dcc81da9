//! The lab's own keyholder: it holds the share that opens the root key, and releases it to the enclave that it verified.
//!
//! It is the one of `tokenkeep keyholder`, with the lab's policy as its reference values, in the service's process: a
//! keyholder that its service's operator runs. In production tenants or third parties run keyholders.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attestation::Roots;
use attestation::policy::MAX_POLICY_BYTES;
use tokenkeep::SystemClock;
use tokenkeep::keyholder::refusal::Refusal;
use tokenkeep::keyholder::{Keyholder, serve};
use tokenkeep::private_file::read_public;
use tokio::task::JoinHandle;

use super::write::write_public;
use super::{KEYHOLDER, KEYHOLDER_ADDRESS, LabError, POLICY, ROOT, read_address, read_text};
use crate::ports::{self, PortError};

/// Its name in the manifest.
pub const NAME: &str = "tokenkeep-dev";

/// A keyholder with its socket, before it answers.
#[derive(Debug)]
pub struct LabKeyholder {
    lab: PathBuf,
    socket: TcpListener,
}

/// A keyholder that answers, until this is dropped.
#[derive(Debug)]
pub struct Answering(JoinHandle<()>);

fn open(lab: &Path) -> Result<Keyholder, LabError> {
    let root = lab.join(ROOT);
    // Read anew for each call, as the one of the command line reads its lists.
    let roots = move || {
        let pem = read_text(&root, "the development root").ok()?;
        Roots::with_emulated(&pem).ok()
    };
    Ok(Keyholder::open(&lab.join(KEYHOLDER), Box::new(roots))?)
}

impl LabKeyholder {
    /// Makes one with a key of its own on a free port. Gives its key and address, for the manifest.
    pub(super) fn create(lab: &Path) -> Result<(Self, [u8; 32], SocketAddr), LabError> {
        let dir = lab.join(KEYHOLDER);
        // What an unfinished start left: nothing hangs from its shares yet.
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(LabError::Directory { path: dir, error });
            }
            Ok(()) | Err(_) => {}
        }
        let keyholder = Keyholder::init(&dir, Box::new(|| None))?;
        let socket = ports::bind("keyholder", ports::ANY)?;
        let address = ports::address("keyholder", &socket)?;
        write_public(&lab.join(KEYHOLDER_ADDRESS), &format!("{address}\n"))?;
        let lab = lab.to_owned();
        Ok((Self { lab, socket }, *keyholder.public_key(), address))
    }

    /// The one of a lab, on its port; none if the lab has none.
    ///
    /// # Errors
    /// [`LabError`]; [`PortError::Taken`] if the port is in use.
    pub fn bind(lab: &Path) -> Result<Option<Self>, LabError> {
        if !lab.join(KEYHOLDER).exists() {
            return Ok(None);
        }
        let address = read_address(&lab.join(KEYHOLDER_ADDRESS))?;
        let socket = ports::bind("keyholder", address)?;
        let lab = lab.to_owned();
        Ok(Some(Self { lab, socket }))
    }

    /// The one of a lab, unless a service of the lab runs it already.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn bind_if_free(lab: &Path) -> Result<Option<Self>, LabError> {
        match Self::bind(lab) {
            Err(LabError::Port(PortError::Taken { .. })) => Ok(None),
            bound => bound,
        }
    }

    /// Answers from now on: whatever matches the lab's policy enrols under this issuer.
    ///
    /// # Errors
    /// [`LabError`]; call it within a runtime.
    pub fn serve(self, issuer: &str) -> Result<Answering, LabError> {
        let Self { lab, socket } = self;
        let keyholder = open(&lab)?;
        let policy = read_public(&lab.join(POLICY), MAX_POLICY_BYTES)?;
        keyholder.directory().add(issuer, &policy)?;
        let failed = |error| {
            let address = ports::ANY;
            let name = "keyholder";
            PortError::Bind {
                name,
                address,
                error,
            }
        };
        socket.set_nonblocking(true).map_err(failed)?;
        let socket = tokio::net::TcpListener::from_std(socket).map_err(failed)?;
        let (keyholder, clock) = (Arc::new(keyholder), Arc::new(SystemClock));
        let answering = serve::serve(keyholder, clock, socket, None);
        Ok(Answering(tokio::spawn(answering)))
    }
}

impl Answering {
    /// Ends, and frees the port.
    pub async fn stop(mut self) {
        self.0.abort();
        // Aborted, as it was told to be.
        drop((&mut self.0).await);
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How many shares the lab's keyholder holds for an issuer.
///
/// # Errors
/// [`LabError`].
pub fn shares(lab: &Path, issuer: &str) -> Result<usize, LabError> {
    match open(lab)?.directory().deployment(issuer) {
        Ok(deployment) => Ok(deployment.shares()?.len()),
        Err(Refusal::State(error)) => Err(error.into()),
        Err(_) => Ok(0),
    }
}
