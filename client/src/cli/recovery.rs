//! `recovery`: shares that open the state when keyholders are lost.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use ring::rand::SystemRandom;
use serde_json::json;
use tokenkeep::keyholder::Keyholder;
use tokenkeep::private_file::{create_private, read_private};
use tokenkeep::recovery::{MAX_SHARE_FILE_BYTES, RecoveryError, RecoveryShare, combine, split};

use super::exit::{Exit, manual};
use super::failure::Failure;
use super::keyholder;
use super::output::Output;
use super::record::Record;

/// Recovery shares: for people to keep, and for the day on which keyholders are lost
///
/// `split` makes a key whose private half exists in the shares alone; the manifest names its public half, and the
/// service wraps its root key for it. `combine` puts enough shares together into a keyholder's directory: that
/// keyholder gives the key to the enclave when it has verified it, and to nobody else.
#[derive(Debug, Subcommand)]
pub(crate) enum RecoveryCommand {
    /// Make a recovery set: one file a share, and the public key for the manifest
    #[command(after_long_help = manual!("  tokenkeep recovery split --shares 3 --threshold 2 recovery/\n  tokenkeep --json recovery split --shares 5 --threshold 3 recovery/"))]
    Split {
        /// The directory for the share files; it must exist, and the files must not
        dir: PathBuf,
        /// How many shares there are
        #[arg(long, value_name = "N", default_value_t = 3)]
        shares: usize,
        /// How many of them are needed
        #[arg(long, value_name = "K", default_value_t = 2)]
        threshold: usize,
    },
    /// Put shares together, for a keyholder to give to the enclave
    #[command(after_long_help = manual!("  tokenkeep recovery combine --keyholder /var/lib/keyholder share-1.txt share-3.txt"))]
    Combine {
        /// The share files, at least as many as are needed
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The directory of a keyholder that the manifest names
        #[arg(long, value_name = "DIR")]
        keyholder: PathBuf,
    },
    /// Take the combined key out of a keyholder's directory again
    #[command(after_long_help = manual!("  tokenkeep recovery withdraw 0123456789abcdef --keyholder /var/lib/keyholder"))]
    Withdraw {
        /// The id of the set
        set: String,
        /// The keyholder's directory
        #[arg(long, value_name = "DIR")]
        keyholder: PathBuf,
    },
}

pub(crate) fn run(command: &RecoveryCommand, output: Output) -> Result<(), Failure> {
    match command {
        RecoveryCommand::Split {
            dir,
            shares,
            threshold,
        } => {
            let set = split(*threshold, *shares, &SystemRandom::new()).map_err(failed)?;
            let mut files = Vec::new();
            for share in &set {
                let path = dir.join(format!("share-{}.txt", share.index()));
                create_private(&path, share.to_text().as_bytes())?;
                files.push(path.display().to_string());
            }
            let first = set.first().ok_or_else(|| failed(RecoveryError::None))?;
            output.record(&Record::new([
                ("set", json!(first.set())),
                ("key", json!(hex::encode(first.public_key))),
                ("threshold", json!(threshold)),
                ("files", json!(files)),
            ]))
        }
        RecoveryCommand::Combine { files, keyholder } => {
            let shares: Vec<RecoveryShare> = files
                .iter()
                .map(|file| read(file))
                .collect::<Result<_, _>>()?;
            let key = combine(&shares).map_err(failed)?;
            let opened = open(keyholder)?;
            let set = attestation::manifest::recovery_set(key.public());
            opened
                .directory()
                .keep_recovery_key(&set, key.expose_secret())
                .map_err(|error| keyholder::failed(&error))?;
            output.record(&Record::new([
                ("set", json!(hex::encode(set))),
                ("keyholder", json!(keyholder.display().to_string())),
            ]))?;
            output.note("the enclave asks for it by itself; run `recovery withdraw` when it has opened its state")
        }
        RecoveryCommand::Withdraw { set, keyholder } => {
            let mut id = [0; 8];
            hex::decode_to_slice(set, &mut id).map_err(|_| {
                Failure::usage(
                    "the id of a set has 16 hex digits",
                    "`keyholder show` lists them",
                )
            })?;
            let was_there = open(keyholder)?
                .directory()
                .drop_recovery_key(&id)
                .map_err(|error| keyholder::failed(&error))?;
            output.record(&Record::new([
                ("set", json!(set)),
                ("withdrawn", json!(was_there)),
            ]))
        }
    }
}

fn open(dir: &Path) -> Result<Keyholder, Failure> {
    Keyholder::open(dir, Box::new(|| None)).map_err(|error| keyholder::failed(&error))
}

fn read(path: &Path) -> Result<RecoveryShare, Failure> {
    let bytes = read_private(path, MAX_SHARE_FILE_BYTES)?;
    let text = String::from_utf8_lossy(&bytes);
    RecoveryShare::from_text(&text).map_err(|error| {
        let what = format!("{}: {error}", path.display());
        Failure::new(
            Exit::Usage,
            what,
            "compare it with the share as it was written down",
        )
    })
}

fn failed(error: RecoveryError) -> Failure {
    let next = match &error {
        RecoveryError::Threshold { .. } => "2 of 3 and 3 of 5 are usual",
        RecoveryError::TooFew { .. } | RecoveryError::None => "name more share files",
        RecoveryError::Mixed { .. } | RecoveryError::Twice { .. } => {
            "name each share of one set once"
        }
        RecoveryError::Altered | RecoveryError::Checksum | RecoveryError::Form { .. } => {
            "compare the shares with what was written down"
        }
        RecoveryError::Random => "try again",
    };
    Failure::new(Exit::Usage, error.to_string(), next)
}
