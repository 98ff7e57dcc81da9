//! `collateral`: AMD's revocation lists and Intel's statements about platforms, fetched, shown and checked.

use std::path::{Path, PathBuf};

use attestation::snp::{Line, RevocationSummary};
use attestation::tdx::{CollateralSummary, PlatformModel};
use attestation::{Platform, Roots};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use tokenkeep::collateral::{
    AMD_KDS, CollateralError, INTEL_PCS, INTEL_ROOT_CRL, Store, fetch, fetch_statements,
};
use tokenkeep::{Clock as _, SystemClock};

use super::evidence;
use super::exit::{Exit, manual};
use super::failure::Failure;
use super::output::Output;
use super::session::Global;

const DAY_S: i64 = 86_400;

/// AMD's revocation lists and Intel's statements: fetch, show, check
#[derive(Debug, Subcommand)]
pub(crate) enum CollateralCommand {
    /// Fetch into the folder of --collateral; what is older never replaces what is newer
    ///
    /// AMD is asked for the revocation list of each product line, Intel for its statements about each platform that
    /// is named here or that the folder has already.
    #[command(after_long_help = manual!("  tokenkeep collateral fetch --collateral store\n  tokenkeep collateral fetch --collateral store --of evidence.json\n  tokenkeep collateral fetch --collateral store --vendor intel --model 00806f050000-platform\n  tokenkeep collateral fetch --collateral store --intel-pcs https://pccs.internal:8081 \\\n      --intel-root-crl https://pccs.internal:8081/sgx/certification/v4/rootcacrl\n  tokenkeep collateral fetch --collateral store --from carried"))]
    Fetch(FetchArgs),
    /// Print what the folder of --collateral holds
    #[command(after_long_help = manual!("  tokenkeep collateral show --collateral store"))]
    Show,
    /// Refuse unless a current list of each AMD line and current statements on each Intel platform are there
    #[command(after_long_help = manual!("  tokenkeep collateral check --collateral store --days 7\n  tokenkeep collateral check --collateral store --vendor intel --days 7"))]
    Check(CheckArgs),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Vendor {
    Amd,
    Intel,
}

#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// Only this manufacturer's; without it, both
    #[arg(long, value_enum)]
    vendor: Option<Vendor>,
    /// AMD's key distribution service, or a mirror of it
    #[arg(long, value_name = "URL", default_value = AMD_KDS)]
    amd_kds: String,
    /// Intel's provisioning certification service, or a mirror or caching service
    #[arg(long, value_name = "URL", default_value = INTEL_PCS)]
    intel_pcs: String,
    /// Where the revocation list of Intel's root is
    #[arg(long, value_name = "URL", default_value = INTEL_ROOT_CRL)]
    intel_root_crl: String,
    /// An Intel platform by its model, FMSPC-platform or FMSPC-processor; repeat for more
    #[arg(long = "model", value_name = "MODEL", value_parser = model)]
    models: Vec<PlatformModel>,
    /// The Intel platform of this TDX evidence: a saved file, or a folder with quote.bin; repeat for more
    #[arg(long = "of", value_name = "PATH")]
    evidence: Vec<PathBuf>,
    /// Take everything from this folder and ask nobody
    #[arg(long, value_name = "DIR", conflicts_with_all = ["amd_kds", "intel_pcs", "intel_root_crl", "models", "evidence"])]
    from: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Only this manufacturer's; without it, both
    #[arg(long, value_enum)]
    vendor: Option<Vendor>,
    /// How many days each must still hold
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    days: u16,
}

fn model(text: &str) -> Result<PlatformModel, String> {
    PlatformModel::named(text).ok_or_else(|| {
        "must be 12 hexadecimal digits, then -platform or -processor, as `collateral show` prints it"
            .to_owned()
    })
}

/// What a store holds.
#[derive(Default)]
struct Held {
    lists: Vec<RevocationSummary>,
    statements: Vec<CollateralSummary>,
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
    // Not with those of the store: it is what is looked at.
    let roots = global.roots()?;
    match command {
        CollateralCommand::Fetch(args) => {
            print(&fetched(args, &store, &roots).await?, output)?;
            Ok(Exit::Ok)
        }
        CollateralCommand::Show => {
            print(&held(&store, &roots)?, output)?;
            Ok(Exit::Ok)
        }
        CollateralCommand::Check(args) => {
            let held = held(&store, &roots)?;
            print(&held, output)?;
            let now_s = i64::try_from(SystemClock.unix_time_s()).unwrap_or(i64::MAX);
            Ok(if holds(&held, args, now_s) {
                Exit::Ok
            } else {
                Exit::Refused
            })
        }
    }
}

async fn fetched(args: &FetchArgs, store: &Store, roots: &Roots) -> Result<Held, Failure> {
    let carried = args
        .from
        .as_deref()
        .map(|folder| Store::new(Path::new(folder)));
    let mut kept = Held::default();
    if args.vendor != Some(Vendor::Intel) {
        let lists = match &carried {
            Some(carried) => carried.lists()?,
            None => {
                let mut lists = Vec::new();
                for line in Line::ALL {
                    lists.push((line, fetch(&args.amd_kds, line).await.map_err(refused)?));
                }
                lists
            }
        };
        for (line, der) in lists {
            kept.lists
                .push(store.keep(line, &der, roots).map_err(refused)?);
        }
    }
    if args.vendor != Some(Vendor::Amd) {
        let statements = match &carried {
            Some(carried) => carried.statements().map_err(refused)?,
            None => {
                let mut statements = Vec::new();
                for model in models(args, store)? {
                    let (pcs, root_crl) = (&args.intel_pcs, &args.intel_root_crl);
                    let json = fetch_statements(pcs, root_crl, &model).await;
                    statements.push((model, json.map_err(refused)?));
                }
                statements
            }
        };
        for (model, json) in statements {
            let summary = store.keep_statements(&model, &json, roots);
            kept.statements.push(summary.map_err(refused)?);
        }
    }
    Ok(kept)
}

/// The models that are named, those of evidence, and those that the store has.
fn models(args: &FetchArgs, store: &Store) -> Result<Vec<PlatformModel>, Failure> {
    let mut models = args.models.clone();
    for path in &args.evidence {
        let evidence = evidence::evidence_at(path)?;
        let found = match evidence.platform {
            Platform::Tdx => PlatformModel::of_quote(&evidence.report),
            Platform::Snp => None,
        };
        models.push(found.ok_or_else(|| {
            Failure::new(
                Exit::Refused,
                format!("{} names no Intel platform", path.display()),
                "name TDX evidence: a file of `verify --save`, or a folder with quote.bin",
            )
        })?);
    }
    let known = store.statements().map_err(refused)?;
    models.extend(known.into_iter().map(|(model, _)| model));
    models.sort();
    models.dedup();
    Ok(models)
}

fn held(store: &Store, roots: &Roots) -> Result<Held, Failure> {
    let mut held = Held::default();
    for (_, der) in store.lists()? {
        held.lists.push(roots.read_revocation_list(&der)?);
    }
    for (_, json) in store.statements().map_err(refused)? {
        let summary = roots.read_collateral(&json);
        held.statements
            .push(summary.map_err(|error| refused(error.into()))?);
    }
    Ok(held)
}

fn holds(held: &Held, args: &CheckArgs, now_s: i64) -> bool {
    let until_s = now_s.saturating_add(i64::from(args.days).saturating_mul(DAY_S));
    let listed = |line: &Line| {
        held.lists.iter().any(|list| {
            list.line == *line && list.this_update_s <= now_s && until_s <= list.next_update_s
        })
    };
    let amd = args.vendor == Some(Vendor::Intel) || Line::ALL.iter().all(listed);
    // Which platforms there are, only the store says; asked for Intel alone, an empty one holds nothing.
    let stated =
        |stated: &CollateralSummary| i128::from(until_s) <= i128::from(stated.expires_at.secs());
    let some = args.vendor != Some(Vendor::Intel) || !held.statements.is_empty();
    let intel = args.vendor == Some(Vendor::Amd) || (some && held.statements.iter().all(stated));
    amd && intel
}

fn print(held: &Held, output: Output) -> Result<(), Failure> {
    let Held { lists, statements } = held;
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
        let statements: Vec<Value> = statements
            .iter()
            .map(|stated| {
                json!({
                    "model": stated.model.name(),
                    "tcb_evaluation_number": stated.tcb_evaluation_number,
                    "qe_evaluation_number": stated.qe_evaluation_number,
                    "tcb_issued_at": stated.tcb_issued_at.secs(),
                    "qe_issued_at": stated.qe_issued_at.secs(),
                    "root_crl_number": stated.root_crl_number,
                    "pck_crl_number": stated.pck_crl_number,
                    "expires_at": stated.expires_at.secs(),
                })
            })
            .collect();
        return output.json(&json!({"lists": lists, "statements": statements}));
    }
    if lists.is_empty() && statements.is_empty() {
        output.line("nothing")?;
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
    for stated in statements {
        output.line(&format!(
            "Intel {}: evaluation {} (TCB) and {} (QE), lists 0x{} (root) and 0x{} (PCK), unix time {} to {}",
            stated.model.name(),
            stated.tcb_evaluation_number,
            stated.qe_evaluation_number,
            stated.root_crl_number,
            stated.pck_crl_number,
            stated.tcb_issued_at.min(stated.qe_issued_at),
            stated.expires_at
        ))?;
    }
    Ok(())
}

/// How a failed fetch ends the program.
pub(crate) fn refused(error: CollateralError) -> Failure {
    let (exit, next) = match &error {
        CollateralError::Url { .. } => (
            Exit::Usage,
            "give --amd-kds, --intel-pcs or --intel-root-crl as https://HOST".to_owned(),
        ),
        CollateralError::Unreached { .. }
        | CollateralError::Timeout { .. }
        | CollateralError::Status { .. }
        | CollateralError::Answer { .. } => (
            Exit::Unavailable,
            "try again later, or carry the files over and use --from DIR".to_owned(),
        ),
        CollateralError::Busy { retry_after_s, .. } => (
            Exit::Unavailable,
            retry_after_s.map_or_else(
                || "try again later".to_owned(),
                |after_s| format!("try again in {after_s} s"),
            ),
        ),
        CollateralError::List(_)
        | CollateralError::Line { .. }
        | CollateralError::Statements(_)
        | CollateralError::Model { .. } => (
            Exit::Refused,
            "the store is as it was; ask the manufacturer's own service".to_owned(),
        ),
        CollateralError::File(_)
        | CollateralError::Folder { .. }
        | CollateralError::TooMany
        | CollateralError::Replace { .. } => (
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
