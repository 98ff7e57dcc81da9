//! The command line `tokenkeep`.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

use cli::{Cli, Exit, Output};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return unparsed(&error).into(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(Box::pin(cli.run()));
            // A name look-up that hangs must not hold the program.
            runtime.shutdown_background();
            exit.into()
        }
        Err(error) => {
            cli.output().status(
                &format!("tokenkeep: no I/O: {error}"),
                &serde_json::json!({"error": {"message": error.to_string()}}),
            );
            Exit::Usage.into()
        }
    }
}

/// Help and version go to standard output; wrong usage to standard error, as JSON if that was asked for.
fn unparsed(error: &clap::Error) -> Exit {
    if !error.use_stderr() {
        // Nobody may be reading: that is no failure.
        error.print().unwrap_or_default();
        return Exit::Ok;
    }
    if std::env::args_os().any(|argument| argument == "--json") {
        Output::new(true).failure(&cli::usage_failure(error));
    } else {
        error.print().unwrap_or_default();
    }
    Exit::Usage
}
