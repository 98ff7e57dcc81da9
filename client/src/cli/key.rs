//! `key`: DPoP keys.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use tokenkeep::{DpopKey, Signer as _};

use super::exit::manual;
use super::failure::Failure;
use super::output::Output;
use super::record::Record;

/// DPoP keys, to which tokens are bound
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make an ES256 key in a new file of mode 0600 and print its thumbprint
    #[command(after_long_help = manual!("  tokenkeep key new dpop.key\n  tokenkeep --json key new dpop.key"))]
    New {
        /// The file; an existing one is not overwritten
        file: PathBuf,
    },
    /// Print the thumbprint of a key
    #[command(after_long_help = manual!("  tokenkeep key show dpop.key"))]
    Show {
        /// The file
        file: PathBuf,
    },
}

pub(crate) fn run(command: &KeyCommand, output: Output) -> Result<(), Failure> {
    let (key, file) = match command {
        KeyCommand::New { file } => (DpopKey::create_file(file)?, file),
        KeyCommand::Show { file } => (DpopKey::from_file(file)?, file),
    };
    let jkt = key.jkt().to_string();
    output.record(&Record::new([
        ("jkt", json!(jkt)),
        ("file", json!(file.display().to_string())),
    ]))
}
