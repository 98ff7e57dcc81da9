//! `store`: a lab's state is checked, measured, carried away and brought back.

use std::io;
use std::path::Path;
use std::sync::Arc;

use broker::listener::shutdown;
use broker::offline::{OfflineError, StoreCommand, run};
use broker::telemetry::{self, TelemetryError};

use crate::lab::{HOST, LabError, LabFiles, read_host};
use crate::stop::StopSignals;

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum StoreCommandError {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
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
    let attester = Arc::new(files.attester()?);
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
    io::Write::write_all(&mut io::stdout(), &out)
        .map_err(|error| StoreCommandError::Offline(OfflineError::Told(error)))?;
    Ok(done?)
}
