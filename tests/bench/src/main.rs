//! `tokenkeep-bench`: what an issued token costs the service, beside what it must cost; latency against load; overload;
//! memory; and what grows with the work.

mod bare;
mod caller;
mod callgrind;
mod clock;
mod compare;
mod growth;
mod idle;
mod in_process;
mod issuer;
mod latency;
mod load;
mod machine;
mod observed;
mod oidc;
mod overload;
mod processors;
mod report;
mod rows;
mod run;
mod server;
mod shed;
mod stats;
mod svg;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::caller::{Ask, Proofs, Shape};
use crate::growth::Reach;
use crate::rows::Rows;
use crate::run::{Loading, Part, Running};

/// Measures the service with an emulated enclave, `tokenkeep-dev`, on this machine
///
/// Every figure of CPU time is of the server's process, and every bar is a ratio to something that is measured in the same
/// run, in turns: only ratios are to be compared between machines and days.
#[derive(Parser)]
#[command(
    name = "tokenkeep-bench",
    after_help = "Examples:\n  \
        tokenkeep-bench run --rows run.json --plots plots\n  \
        tokenkeep-bench run --only compare --rounds 5 --seconds 4\n  \
        tokenkeep-bench load --rate 3000 --seconds 10\n  \
        tokenkeep-bench load --bind certificate --connections 16 --in-flight 4 --json\n  \
        tokenkeep-bench growth --most-grants 100000 --rows growth.json --plots plots\n  \
        tokenkeep-bench judge --summary summary.json run.json growth.json\n\n\
        tokenkeep-dev is looked for beside this program, or named by --dev."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure everything that has a bar and takes minutes
    #[command(after_help = "Examples:\n  \
        tokenkeep-bench run\n  \
        tokenkeep-bench run --only compare --only latency --seconds 2\n  \
        tokenkeep-bench run --valgrind /usr/bin/valgrind --rows run.json --plots plots")]
    Run(Run),
    /// Put one load on the service, and say what came of it
    #[command(after_help = "Examples:\n  \
        tokenkeep-bench load\n  \
        tokenkeep-bench load --rate 3000 --seconds 10 --proofs presigned\n  \
        tokenkeep-bench load --rate 3000 --halves\n  \
        tokenkeep-bench load --bind certificate --json")]
    Load(Load),
    /// Measure what grows with grants, tenants, policies, connections and leaves
    #[command(after_help = "Examples:\n  \
        tokenkeep-bench growth --rows growth.json --plots plots\n  \
        tokenkeep-bench growth --most-grants 10000 --most-leaves 100000")]
    Growth(Growth),
    /// Hold rows against their bars: exit code 1 if one is missing or not met
    #[command(after_help = "Examples:\n  \
        tokenkeep-bench judge run.json\n  \
        tokenkeep-bench judge --all --summary summary.json run.json growth.json soak/state.json")]
    Judge(Judge),
    /// Run the bare server alone: prints its URL, ends when standard input does
    #[command(after_help = "Example:\n  tokenkeep-bench bare")]
    Bare,
    /// Issue tokens in this process, to be counted by callgrind
    #[command(hide = true)]
    InProcess(InProcess),
}

#[derive(Args)]
struct Common {
    /// The program tokenkeep-dev
    #[arg(long, value_name = "FILE")]
    dev: Option<PathBuf>,
    /// Connections
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    connections: u32,
    /// Calls in flight on each connection
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=128))]
    in_flight: u32,
    /// How long each measurement takes, in seconds
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

impl Common {
    fn shape(&self) -> Shape {
        Shape {
            connections: self.connections,
            in_flight: self.in_flight,
        }
    }

    fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    common: Common,
    /// How often each is measured, taking turns
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Only this part; may be given again
    #[arg(long, value_enum)]
    only: Vec<Part>,
    /// The program valgrind
    #[arg(long, value_name = "FILE", default_value = "valgrind")]
    valgrind: PathBuf,
    /// Where the rows go as JSON
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
    /// Where plots go as SVG
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

#[derive(Args)]
struct Load {
    #[command(flatten)]
    common: Common,
    /// Calls that are due in a second, each timed from then; without it each sends its next one when it has its answer
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// What the token is bound to
    #[arg(long, value_enum, default_value_t = Ask::Dpop)]
    bind: Ask,
    /// When proofs are made
    #[arg(long, value_enum, default_value_t = Proofs::Live)]
    proofs: Proofs,
    /// Give the service and the generator half of the processors each
    #[arg(long)]
    halves: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Growth {
    /// The program tokenkeep-dev
    #[arg(long, value_name = "FILE")]
    dev: Option<PathBuf>,
    /// The largest state; a million takes some minutes to fill
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=5_000_000))]
    most_grants: u64,
    /// The most tenants
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    most_tenants: u64,
    /// The most connections
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=16_000))]
    most_connections: u64,
    /// The longest log; each leaf takes 64 bytes of memory
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(10_000..=100_000_000))]
    most_leaves: u64,
    /// Where the rows go as JSON
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
    /// Where plots go as SVG
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

#[derive(Args)]
struct Judge {
    /// Bars that other commands measure must be there, too
    #[arg(long)]
    all: bool,
    /// Where all rows go as JSON
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// Rows: of two files that have a row of one name the first one counts; a file that is not there has none
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Args)]
struct InProcess {
    #[arg(long)]
    tokens: u32,
    #[arg(long)]
    lab: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Run(args) => Box::pin(run(args)).await,
        Command::Load(args) => {
            let loading = Loading {
                dev: server::dev(args.common.dev.as_deref())?,
                shape: args.common.shape(),
                time: args.common.time(),
                rate: args.rate.map(f64::from),
                ask: args.bind,
                proofs: args.proofs,
                halves: args.halves,
                json: args.json,
            };
            Box::pin(loading.run()).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Growth(args) => Box::pin(growth(args)).await,
        Command::Judge(args) => judge(&args),
        Command::Bare => {
            bare::run().await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::InProcess(args) => {
            Box::pin(in_process::run(args.lab.as_deref(), args.tokens)).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What could not be measured is told, and its rows are not there: whoever judges them finds them missing.
async fn run(args: Run) -> anyhow::Result<ExitCode> {
    let running = Running {
        dev: server::dev(args.common.dev.as_deref())?,
        shape: args.common.shape(),
        time: args.common.time(),
        rounds: args.rounds,
        only: args.only,
        valgrind: args.valgrind,
        plots: args.plots,
        files: idle::raise_limit()?,
    };
    let (rows, failed) = Box::pin(running.run()).await?;
    if let Some(path) = &args.rows {
        rows.write(path)?;
    }
    report::print(&format!("\n{}", report::bars(&rows, false).0))?;
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn growth(args: Growth) -> anyhow::Result<ExitCode> {
    let files = idle::raise_limit()?;
    let dev = server::dev(args.dev.as_deref())?;
    let reach = Reach {
        grants: args.most_grants,
        tenants: args.most_tenants,
        connections: args.most_connections,
        leaves: args.most_leaves,
    };
    let (curves, found) = Box::pin(growth::measure(&dev, reach, files)).await?;
    for curve in &curves {
        report::print(&format!("\n{}", curve.table()))?;
        if let Some(plots) = &args.plots {
            let svg = curve.plot().svg();
            rows::write_file(&growth::file(plots, curve), svg.as_bytes())?;
        }
    }
    if let Some(path) = &args.rows {
        let mut rows = Rows::default();
        for row in found {
            rows.add(row);
        }
        rows.write(path)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn judge(args: &Judge) -> anyhow::Result<ExitCode> {
    let mut rows = Rows::default();
    for file in &args.files {
        match std::fs::read(file) {
            Ok(json) => rows
                .add_missing(&json)
                .map_err(|error| error.context(format!("{} can't be read", file.display())))?,
            // What was not measured is found missing.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(path) = &args.summary {
        rows.write(path)?;
    }
    let (text, green) = report::bars(&rows, args.all);
    report::print(&text)?;
    Ok(if green {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_each_command_has_examples() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            if sub.is_hide_set() || sub.get_name() == "help" {
                continue;
            }
            let help = sub.get_after_help().map(ToString::to_string);
            let example = format!("tokenkeep-bench {}", sub.get_name());
            assert!(
                help.is_some_and(|help| help.contains(&example)),
                "{example}"
            );
        }
    }

    #[test]
    fn arguments_that_do_not_fit_are_refused() {
        use clap::error::ErrorKind;
        let rows: [(&[&str], ErrorKind); 5] = [
            (&["load", "--rate", "0"], ErrorKind::ValueValidation),
            (&["load", "--in-flight", "129"], ErrorKind::ValueValidation),
            (&["run", "--only", "everything"], ErrorKind::InvalidValue),
            (&["judge"], ErrorKind::MissingRequiredArgument),
            (
                &["growth", "--most-grants", "10"],
                ErrorKind::ValueValidation,
            ),
        ];
        for (args, kind) in rows {
            let all = ["tokenkeep-bench"].iter().chain(args);
            let refused = Cli::try_parse_from(all).err().map(|error| error.kind());
            assert_eq!(refused, Some(kind), "{args:?}");
        }
    }
}
