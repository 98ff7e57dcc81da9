//! `collateral`: AMD's revocation lists, fetched, shown and checked.

use std::path::{Path, PathBuf};

use attestation::snp::{Line, RevocationSummary};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokenkeep::collateral::{AMD_KDS, CollateralError, Store, fetch};
use tokenkeep::{Clock as _, SystemClock};

use super::exit::{Exit, manual};
use super::failure::Failure;
use super::output::Output;
use super::session::Global;

/// AMD's revocation lists: fetch, show, check
#[derive(Debug, Subcommand)]
pub(crate) enum CollateralCommand {
    /// Fetch lists into the folder of --collateral; an older one never replaces a newer one
    #[command(after_long_help = manual!("  tokenkeep collateral fetch --collateral lists\n  tokenkeep collateral fetch --collateral lists --amd-kds http://mirror.internal:8080\n  tokenkeep collateral fetch --collateral lists --from carried"))]
    Fetch(FetchArgs),
    /// Print the lists of the folder of --collateral
    #[command(after_long_help = manual!("  tokenkeep collateral show --collateral lists"))]
    Show,
    /// Refuse unless a current list of each product line is there
    #[command(after_long_help = manual!("  tokenkeep collateral check --collateral lists --days 7"))]
    Check(CheckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// AMD's key distribution service, or a mirror of it
    #[arg(long, value_name = "URL", default_value = AMD_KDS)]
    amd_kds: String,
    /// Take the lists from this folder and ask nobody
    #[arg(long, value_name = "DIR", conflicts_with = "amd_kds")]
    from: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// How many days each list must still hold
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    days: u16,
}

pub(crate) async fn run(
    command: &CollateralCommand,
    global: &Global,
    output: Output,
) -> Result<Exit, Failure> {
    let folder = global.collateral.as_deref().ok_or_else(|| {
        Failure::usage(
            "no folder is named",
            "give --collateral DIR or set TOKENKEEP_COLLATERAL",
        )
    })?;
    let store = Store::new(folder);
    // Not those of the store: it is what is looked at.
    let roots = attestation::Roots::amd()?;
    match command {
        CollateralCommand::Fetch(args) => {
            let mut kept = Vec::new();
            for (line, der) in wanted(args).await? {
                kept.push(store.keep(line, &der, &roots).map_err(refused)?);
            }
            print(&kept, output)?;
            Ok(Exit::Ok)
        }
        CollateralCommand::Show => {
            print(&summaries(&store, &roots)?, output)?;
            Ok(Exit::Ok)
        }
        CollateralCommand::Check(CheckArgs { days }) => {
            let found = summaries(&store, &roots)?;
            print(&found, output)?;
            let now_s = i64::try_from(SystemClock.unix_time_s()).unwrap_or(i64::MAX);
            let until_s = now_s.saturating_add(i64::from(*days).saturating_mul(86_400));
            let holds = |line: &Line| {
                found.iter().any(|list| {
                    list.line == *line
                        && list.this_update_s <= now_s
                        && until_s <= list.next_update_s
                })
            };
            Ok(if Line::ALL.iter().all(holds) {
                Exit::Ok
            } else {
                Exit::Refused
            })
        }
    }
}

async fn wanted(args: &FetchArgs) -> Result<Vec<(Line, Vec<u8>)>, Failure> {
    if let Some(folder) = &args.from {
        return Ok(Store::new(Path::new(folder)).lists()?);
    }
    let mut lists = Vec::new();
    for line in Line::ALL {
        let der = fetch(&args.amd_kds, line).await.map_err(refused)?;
        lists.push((line, der));
    }
    Ok(lists)
}

fn summaries(store: &Store, roots: &attestation::Roots) -> Result<Vec<RevocationSummary>, Failure> {
    let mut summaries = Vec::new();
    for (_, der) in store.lists()? {
        summaries.push(roots.read_revocation_list(&der)?);
    }
    Ok(summaries)
}

fn print(lists: &[RevocationSummary], output: Output) -> Result<(), Failure> {
    if output.is_json() {
        let lists: Vec<Value> = lists
            .iter()
            .map(|list| {
                json!({
                    "line": list.line.as_str(),
                    "number": list.number,
                    "this_update": list.this_update_s,
                    "next_update": list.next_update_s,
                    "revoked": list.revoked,
                })
            })
            .collect();
        return output.json(&json!({"lists": lists}));
    }
    if lists.is_empty() {
        output.line("no lists")?;
    }
    for list in lists {
        output.line(&format!(
            "{:6} number 0x{}, unix time {} to {}, {} signing keys revoked",
            list.line.as_str(),
            list.number,
            list.this_update_s,
            list.next_update_s,
            list.revoked
        ))?;
    }
    Ok(())
}

/// How a failed fetch ends the program.
fn refused(error: CollateralError) -> Failure {
    let (exit, next) = match &error {
        CollateralError::Url { .. } => (Exit::Usage, "give --amd-kds https://HOST".to_owned()),
        CollateralError::Unreached { .. }
        | CollateralError::Timeout { .. }
        | CollateralError::Status { .. } => (
            Exit::Unavailable,
            "try again later, or carry the lists over and use --from DIR".to_owned(),
        ),
        CollateralError::Busy { retry_after_s, .. } => (
            Exit::Unavailable,
            retry_after_s.map_or_else(
                || "try again later".to_owned(),
                |after_s| format!("try again in {after_s} s"),
            ),
        ),
        CollateralError::List(_) | CollateralError::Line { .. } => (
            Exit::Refused,
            "the store is as it was; ask AMD's own service".to_owned(),
        ),
        CollateralError::File(_) | CollateralError::Replace { .. } => (
            Exit::Usage,
            "name a folder that exists and that you may write".to_owned(),
        ),
    };
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    let what = match cause {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    Failure::new(exit, what, next)
}
