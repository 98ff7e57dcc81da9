//! `key`: DPoP keys, and the keys that the enclave speaks with.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;
use tokenkeep::{DpopKey, Signer as _};

use super::exit::manual;
use super::failure::Failure;
use super::key_rotation::{self, KindArg};
use super::output::Output;
use super::record::Record;
use super::session::Global;

/// Keys: make a DPoP key, list and replace those of the enclave
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make an ES256 key in a new file of mode 0600 and print its thumbprint
    #[command(after_long_help = manual!("  tokenkeep key new dpop.key\n  tokenkeep --json key new dpop.key"))]
    New {
        /// The file; an existing one is not overwritten
        file: PathBuf,
    },
    /// Print the thumbprint of a DPoP key
    #[command(after_long_help = manual!("  tokenkeep key show dpop.key"))]
    Show {
        /// The file
        file: PathBuf,
    },
    /// List the keys that the enclave speaks with, or a tenant's
    #[command(after_long_help = manual!("  tokenkeep key list\n  tokenkeep --json key list --tenant acme"))]
    List {
        /// List this tenant's keys instead
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Replace a key of the enclave; the old one lives on for an overlap
    ///
    /// signing: tokens of the old key are good until they expire. ca: the new one is announced, and takes over when
    /// the overlap ends: give it out by `tokenkeep trust` meanwhile. deposit: what was sealed before still opens. log:
    /// both keys sign checkpoints: tell witnesses the new one meanwhile. tenant: what is written from now on is sealed
    /// under the new key; earlier ones stay until the tenant is erased.
    #[command(after_long_help = manual!("  tokenkeep key rotate signing\n  tokenkeep key rotate signing --overlap-s 0     # it leaked: tokens of the old key end now\n  tokenkeep key rotate ca --overlap-s 604800\n  tokenkeep key rotate tenant --tenant acme"))]
    Rotate {
        /// Which key
        kind: KindArg,
        /// Whose, for `tenant`
        #[arg(long, required_if_eq("kind", "tenant"))]
        tenant: Option<String>,
        /// How long the old key lives on, in seconds; 0 if it leaked [default: signing 600, deposit 3600, ca and log 30 days]
        #[arg(long)]
        overlap_s: Option<u64>,
    },
}

pub(crate) async fn run(
    command: KeyCommand,
    global: &Global,
    output: Output,
) -> Result<(), Failure> {
    let (key, file) = match command {
        KeyCommand::New { file } => (DpopKey::create_file(&file)?, file),
        KeyCommand::Show { file } => (DpopKey::from_file(&file)?, file),
        KeyCommand::List { tenant } => {
            return key_rotation::list(tenant, &global.channel().await?, output).await;
        }
        KeyCommand::Rotate {
            kind,
            tenant,
            overlap_s,
        } => {
            let channel = global.channel().await?;
            return key_rotation::rotate(kind, tenant, overlap_s, &channel, output).await;
        }
    };
    let jkt = key.jkt().to_string();
    output.record(&Record::new([
        ("jkt", json!(jkt)),
        ("file", json!(file.display().to_string())),
    ]))
}
