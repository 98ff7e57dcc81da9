//! `audit prove`: receipts and their proofs.

use std::path::PathBuf;

use clap::Args;
use proto::v1;
use serde_json::json;
use tlog::TlogProof;
use tlog::proof::MAX_PROOF_BYTES;
use tokenkeep::audit::receipt::ProveError;
use tokenkeep::audit::{LogKeys, Receipt};
use tokenkeep::private_file::{create_private, read_public};
use tokenkeep::rpc_error::answer;

use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::output::Output;
use super::super::record::Record;
use super::super::session::Global;
use super::tiles::{Place, unread};

/// The longest receipt that is read, bytes.
const MAX_RECEIPT_BYTES: usize = 64 << 10;

#[derive(Debug, Args)]
pub(crate) struct ProveArgs {
    /// The receipt, as `tokenkeep token --receipt FILE` or `--json token` gives it
    receipt: PathBuf,
    /// Check this proof (C2SP tlog-proof) and ask nobody
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tiles", "out"], requires = "log_key")]
    proof: Option<PathBuf>,
    /// Write the proof (C2SP tlog-proof) to this new file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

pub(crate) async fn run(args: ProveArgs, global: &Global, output: Output) -> Result<(), Failure> {
    let ProveArgs {
        receipt: file,
        proof,
        out,
        place,
    } = args;
    let text = read_public(&file, MAX_RECEIPT_BYTES)?;
    let receipt = Receipt::from_json(&text).map_err(|error| {
        Failure::usage(
            format!("{}: {error}", file.display()),
            "give the file that `tokenkeep token --receipt FILE` wrote",
        )
    })?;
    let (keys, proof) = match proof {
        Some(proof) => {
            let text = read_public(&proof, MAX_PROOF_BYTES)?;
            let proof = TlogProof::parse(&text).map_err(|error| refused(&error.into()))?;
            (place.keys()?, proof)
        }
        None if place.tiles.is_some() => {
            let (keys, source) = place.open(global).await?;
            let proof = receipt.prove(&keys, &source).await;
            (keys, proof.map_err(|error| refused(&error))?)
        }
        None => ask(&receipt, &place, global).await?,
    };
    let (inclusion, checkpoint) = receipt
        .verify(&keys, &proof)
        .map_err(|error| refused(&error))?;
    if let Some(out) = &out {
        create_private(out, proof.to_string().as_bytes())?;
    }
    output.record(&Record::new([
        ("proved", json!(true)),
        ("log", json!(receipt.log)),
        ("index", json!(inclusion.index())),
        ("leaf_hash", json!(inclusion.leaf().to_string())),
        ("size", json!(checkpoint.head().size)),
        ("root", json!(checkpoint.head().root.to_string())),
    ]))
}

/// Asks the service.
async fn ask(
    receipt: &Receipt,
    place: &Place,
    global: &Global,
) -> Result<(LogKeys, TlogProof), Failure> {
    let channel = global.channel().await?;
    let keys = match place.log_key {
        Some(_) => place.keys()?,
        None => LogKeys::from_bundle(channel.bundle())
            .map_err(|error| Failure::answer(error.to_string()))?,
    };
    let request = v1::ProveInclusionRequest {
        log: receipt.log.clone(),
        index: receipt.index,
    };
    let found = answer(channel.audit().prove_inclusion(request)).await?;
    let proof = receipt.proved(&keys, found.into_inner());
    Ok((keys, proof.map_err(|error| refused(&error))?))
}

fn refused(error: &ProveError) -> Failure {
    match error {
        ProveError::Source(error) => unread(error),
        ProveError::Name(_)
        | ProveError::Log(_)
        | ProveError::Beyond { .. }
        | ProveError::Malformed(_)
        | ProveError::OtherLeaf { .. }
        | ProveError::Refused(_) => {
            let mut what = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                let text = cause.to_string();
                if !what.ends_with(&text) {
                    what.push_str(&format!(": {text}"));
                }
                source = cause.source();
            }
            Failure::new(
                Exit::Refused,
                what,
                "if receipt and log are the same service's, the log does not hold what was promised: keep both, and run `tokenkeep audit verify`",
            )
        }
    }
}
