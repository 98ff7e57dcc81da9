//! `soak-report`: whether a campaign measured all its bars, often enough, and met them.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a report is for whoever reads the terminal"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tests::campaign::{CAMPAIGNS, Report};

/// Holds the rows of a campaign against its bars and prints the table. Ends with 1 if a bar is missing, was tried too
/// seldom or is not met.
#[derive(Parser)]
#[command(after_help = "Examples:\n  \
    make soak-state\n  \
    soak-report state target/soak/state.json")]
struct Cli {
    /// The campaign
    campaign: String,
    /// Its rows
    rows: PathBuf,
}

fn main() -> ExitCode {
    let Cli { campaign, rows } = Cli::parse();
    let read = match std::fs::read(&rows) {
        Ok(read) => read,
        // A campaign that measured nothing has no file: then each bar is missing.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => b"[]".to_vec(),
        Err(error) => {
            eprintln!("soak-report: {}: {error}", rows.display());
            return ExitCode::FAILURE;
        }
    };
    match Report::of(CAMPAIGNS, &campaign, &read) {
        Ok(report) => {
            print!("{report}");
            if report.is_green() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("soak-report: {error}");
            ExitCode::FAILURE
        }
    }
}
