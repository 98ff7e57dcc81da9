//! The command line of `store`, for `tokenkeepd` and for the emulated enclave of `tokenkeep-dev`.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use attestation::Attester;
use clap::{Args, Subcommand};

use super::ground::{Ground, OfflineError};
use super::{exporting, importing, looking};
use crate::host_config::HostConfig;
use crate::listener::ShutdownSignal;

/// What is done with a state that no service uses.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Authenticate every frame of the store, and say what is wrong and where.
    #[command(after_help = "Examples:\n  \
        tokenkeepd store check\n  \
        tokenkeepd store --config /etc/tokenkeep/host.toml check --json\n\n\
        Nothing is changed. Exit codes: 0 all is authentic, 1 it is damaged or can't be opened, 2 usage.")]
    Check(Look),
    /// Say how much the store holds.
    #[command(after_help = "Examples:\n  \
        tokenkeepd store stats\n  \
        tokenkeepd store stats --json\n\n\
        Nothing is changed.")]
    Stats(Look),
    /// Write the state into one file that can be carried away. Who can open the state can open the file, and nobody
    /// else: its keyholders (on other chips with off_chip = true in the manifest) and its recovery set.
    #[command(after_help = "Examples:\n  \
        tokenkeepd store export /backup/tokenkeep-2026-11-29.tkexport\n  \
        tokenkeepd store export /backup/state.tkexport --restart\n\n\
        Stop the service first. If it is interrupted, run it again: it goes on where it stopped, as long as the state\n\
        is the same. Until it is whole the file is named FILE.part.")]
    Export(Export),
    /// Bring an exported state into an empty state directory.
    #[command(after_help = "Examples:\n  \
        tokenkeepd store import /backup/tokenkeep-2026-11-29.tkexport\n  \
        tokenkeepd store import /backup/state.tkexport --restart\n\n\
        If it is interrupted, run it again: it goes on where it stopped. A directory that holds a state is refused.\n\
        With witnesses, a state that went on after the export does not come back: they refuse the older one.")]
    Import(Import),
}

/// How findings are told.
#[derive(Debug, Args)]
pub struct Look {
    /// Print one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

/// Where an export goes.
#[derive(Debug, Args)]
pub struct Export {
    /// The file to write, which is not there yet.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Begin anew instead of going on with FILE.part.
    #[arg(long)]
    pub(super) restart: bool,
    /// Print one JSON object at the end.
    #[arg(long)]
    pub(super) json: bool,
}

/// Where an export is.
#[derive(Debug, Args)]
pub struct Import {
    /// The exported file.
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Begin anew instead of going on with what an interrupted import left.
    #[arg(long)]
    pub(super) restart: bool,
    /// Print one JSON object at the end.
    #[arg(long)]
    pub(super) json: bool,
}

/// Where it is told what was found, and how far it is.
pub(super) struct Told<'a> {
    pub(super) out: &'a mut dyn Write,
    pub(super) progress: &'a mut dyn Write,
}

/// Runs a command on the host's state. Findings go to `out`, progress to
/// `progress`. Whether all is well; false also if it was to stop before.
///
/// # Errors
/// [`OfflineError`].
pub async fn run(
    command: &StoreCommand,
    host: &HostConfig,
    attester: Arc<dyn Attester>,
    stop: ShutdownSignal,
    out: &mut dyn Write,
    progress: &mut dyn Write,
) -> Result<bool, OfflineError> {
    let mut told = Told { out, progress };
    let ground = Ground {
        host,
        attester,
        stop,
    };
    match command {
        StoreCommand::Check(look) => looking::check(ground, look, &mut told).await,
        StoreCommand::Stats(look) => looking::stats(ground, look, &mut told).await,
        StoreCommand::Export(export) => exporting::export(ground, export, &mut told).await,
        StoreCommand::Import(import) => importing::import(ground, import, &mut told).await,
    }
}
