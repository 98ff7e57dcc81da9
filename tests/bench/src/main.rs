//! `tokenkeep-bench`: what an issued token costs the service, as a ratio to a
//! bare server on the same stack in the same run.

mod bare;
mod cpu;
mod load;
mod report;
mod server;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::load::{Load, Target};
use crate::report::{Round, Summary};

/// Measures the service's CPU time per issued token, beside a bare issuing
/// server: the same TLS, HTTP/2 and gRPC, one ES256 verification, one signature,
/// and nothing else.
#[derive(Parser)]
#[command(
    name = "tokenkeep-bench",
    after_help = "Examples:\n  \
        tokenkeep-bench\n  \
        tokenkeep-bench --rounds 5 --seconds 5 --connections 8 --in-flight 8\n\n\
        tokenkeep-dev is looked for beside this program, or named by --dev."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// How often each server is measured, taking turns.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Connections.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    connections: u32,
    /// Calls in flight on each connection.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=128))]
    in_flight: u32,
    /// The program tokenkeep-dev.
    #[arg(long, value_name = "FILE")]
    dev: Option<PathBuf>,
    /// Where the rows go as JSON.
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the bare server alone: prints its URL, ends when standard input does.
    Bare,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if let Some(Command::Bare) = cli.command {
        return bare::run().await;
    }
    let load = Load {
        connections: cli.connections,
        in_flight: cli.in_flight,
        time: Duration::from_secs(cli.seconds),
    };
    report::progress("starting the service and the bare server");
    let ours = server::ours(cli.dev.as_deref()).await?;
    let bare = server::bare().await?;
    let mut summary = Summary::default();
    // A first round of each warms up caches and code, and is not counted.
    let warm_up = Load {
        time: Duration::from_secs(1),
        ..load
    };
    measure(&warm_up, &ours.target).await?;
    measure(&warm_up, &bare.target).await?;
    for round in 1..=cli.rounds {
        let of_ours = measure(&load, &ours.target).await?;
        let of_bare = measure(&load, &bare.target).await?;
        report::progress(&format!(
            "round {round} of {}: {:.0} µs a token against {:.0}",
            cli.rounds, of_ours.cpu_us_per_token, of_bare.cpu_us_per_token
        ));
        summary.add(of_ours, of_bare);
    }
    ours.stop().await?;
    bare.stop().await?;
    summary.print(&load, cli.summary.as_deref())
}

async fn measure(load: &Load, target: &Target) -> anyhow::Result<Round> {
    let before = cpu::of_process(target.pid)?;
    let outcome = load.run(target).await?;
    let after = cpu::of_process(target.pid)?;
    Ok(Round::new(outcome, after.saturating_sub(before)))
}
