//! `audit`: the service's logs, for whoever wants to know what was done and whether all of it is there.

mod leaves;
mod prove;
mod tiles;

use clap::Subcommand;

use super::exit::{Exit, manual};
use super::failure::Failure;
use super::output::Output;
use super::session::Global;

/// The logs: verify them from their tiles, copy them, list and follow their leaves, prove receipts
///
/// The control log has a leaf for each change of registry, grants and freezes; the issuance log of each boot has one
/// for each token, refresh and gateway call, written before the answer left. Whoever has the log key verifies all of
/// it without asking anybody; what is private in a leaf opens for its tenant alone.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Verify the logs from their tiles alone: the public listener's, or a folder's
    ///
    /// Checks each checkpoint's signature, cosignatures if --witness is given, that each log begins with what --kept
    /// remembers, every tile, every leaf's hash and schema, and that the numbers of each tenant have no gap.
    #[command(after_long_help = tiles::MANUAL)]
    Verify(tiles::VerifyArgs),
    /// Copy the logs to a folder, as tiles; take it up again where it was broken off
    #[command(after_long_help = manual!("  tokenkeep audit export copy/ --server https://keep.example:8443 --policy policy.toml\n  tokenkeep audit export copy/ --tiles https://keep.example:8444 \\\n      --log-key 'keep.example:8444/log/control+…' --ca ca.pem"))]
    Export(tiles::ExportArgs),
    /// Prove that the leaf of a receipt stands in its log; or check such a proof, offline
    #[command(after_long_help = manual!("  tokenkeep audit prove receipt.json --out receipt.tlog-proof\n  tokenkeep audit prove receipt.json --tiles copy/ --log-key 'keep.example:8444/log/control+…'\n  tokenkeep audit prove receipt.json --proof receipt.tlog-proof \\\n      --log-key 'keep.example:8444/log/control+…'"))]
    Prove(prove::ProveArgs),
    /// List leaves; what is private in them is shown to those who may read it
    #[command(after_long_help = manual!("  tokenkeep audit list --tenant acme\n  tokenkeep audit list --issuance --from 1000 --limit 50\n  tokenkeep --json audit list --log keep.example:8444/log/issuance/0a…"))]
    List(leaves::ListArgs),
    /// Print leaves as they come
    #[command(after_long_help = manual!("  tokenkeep audit tail --issuance --tenant acme\n  tokenkeep --json audit tail --issuance --from 0 | jq .event"))]
    Tail(leaves::TailArgs),
    /// List the logs: the control log and each boot's issuance log
    #[command(after_long_help = manual!("  tokenkeep audit logs\n  tokenkeep --json audit logs"))]
    Logs,
}

pub(crate) async fn run(
    command: AuditCommand,
    global: &Global,
    output: Output,
) -> Result<Exit, Failure> {
    match command {
        AuditCommand::Verify(args) => return tiles::verify(args, global, output).await,
        AuditCommand::Export(args) => tiles::export(args, global, output).await?,
        AuditCommand::Prove(args) => prove::run(args, global, output).await?,
        AuditCommand::List(args) => leaves::list(args, &global.channel().await?, output).await?,
        AuditCommand::Tail(args) => leaves::tail(args, &global.channel().await?, output).await?,
        AuditCommand::Logs => leaves::logs(&global.channel().await?, output).await?,
    }
    Ok(Exit::Ok)
}
