//! `store`: a lab's state is checked, measured, carried away and brought back.

use std::io;
use std::path::Path;
use std::sync::Arc;

use attestation::manifest::EnclaveKind;
use attestation::{Attester as _, AttesterError};
use broker::RunError;
use broker::listener::shutdown;
use broker::offline::{OfflineError, StoreCommand, run};
use broker::run::open_manifest;
use broker::telemetry::{self, TelemetryError};

use crate::lab::keyholder::LabKeyholder;
use crate::lab::{HOST, LabError, LabFiles, read_host};
use crate::stop::StopSignals;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum StoreCommandError {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The manifest.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The emulated platform.
    #[error(transparent)]
    Platform(#[from] AttesterError),
    /// The state.
    #[error(transparent)]
    Offline(#[from] OfflineError),
    /// Events can't be told.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// Signals can't be heard.
    #[error("signals can't be heard: {0}")]
    Signals(io::Error),
}

/// Runs a command on the state of a lab that no service uses. Whether all is well.
///
/// # Errors
/// [`StoreCommandError`]
pub async fn store(dir: &Path, command: &StoreCommand) -> Result<bool, StoreCommandError> {
    telemetry::init(telemetry::OFFLINE)?;
    let files = LabFiles::of_directory(dir)?;
    let host = read_host(&files.path(HOST))?;
    let attester = files.attester()?;
    let signer = attester.host_data()?;
    let (manifest, ..) = open_manifest(&host.manifest, &signer, EnclaveKind::Emulated)?;
    // If a service runs it already, that service has the state, too, which is said then.
    let keyholder = LabKeyholder::bind_if_free(files.dir())?
        .map(|keyholder| keyholder.serve(manifest.issuer().as_str()))
        .transpose()?;
    let attester = Arc::new(attester);
    let mut signals = StopSignals::listen().map_err(StoreCommandError::Signals)?;
    let (speaker, stop) = shutdown();
    let hearing = tokio::spawn(async move {
        signals.asked().await;
        speaker.begin();
    });
    let (mut out, mut progress) = (Vec::new(), io::stderr());
    let done = run(command, &host, attester, stop, &mut out, &mut progress);
    let done = Box::pin(done).await;
    hearing.abort();
    if let Some(keyholder) = keyholder {
        keyholder.stop().await;
    }
    io::Write::write_all(&mut io::stdout(), &out)
        .map_err(|error| StoreCommandError::Offline(OfflineError::Told(error)))?;
    Ok(done?)
}
