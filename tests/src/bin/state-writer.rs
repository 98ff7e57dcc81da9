//! `state-writer`: writes to a store as fast as it can and says what was acknowledged, until it is killed.
#![allow(clippy::print_stderr, reason = "a program that can't go on says why")]

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use broker::store::{EmbeddedStore, FilePolicy, StateDir};
use clap::Parser;
use enclave::store::{Batch, Store as _, StoreError};
use ring::rand::SystemRandom;
use tests::life::{cipher, key, step};
use tokio::task::JoinSet;

/// Compacts whenever a file of some kilobytes is twice as large as it need be, and has room soon: kills fall into
/// compactions, too, and into the making of room.
const POLICY: FilePolicy = FilePolicy {
    ratio: 2,
    from_bytes: 16 * 1024,
    room_from_bytes: 2 * 1024,
};

/// Writes to the store in a directory until it is killed. Prints a line `KEY GENERATION` for each write that the store
/// acknowledged.
#[derive(Parser)]
#[command(after_help = "Examples:\n  \
    state-writer /tmp/state\n  \
    state-writer /tmp/state --writers 1 --acknowledge-early")]
struct Cli {
    /// The directory
    dir: PathBuf,
    /// Writers at a time, each with keys of its own
    #[arg(long, default_value_t = 8)]
    writers: u64,
    /// Say that a write was acknowledged before it was: what a harness must find out
    #[arg(long)]
    acknowledge_early: bool,
    /// Write other bytes than were foretold: what a harness must find out
    #[arg(long)]
    scribble: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match write(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("state-writer: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn write(cli: Cli) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (store, _report) = EmbeddedStore::open(
        &cli.dir,
        cipher(),
        SystemRandom::new(),
        POLICY,
        Box::new(|_kind| std::process::abort()),
    )?;
    let store = Arc::new(store);
    say("ready")?;
    let mut writers = JoinSet::new();
    for n in 0..cli.writers {
        let store = Arc::clone(&store);
        writers.spawn(write_one(store, n, cli.acknowledge_early, cli.scribble));
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    Ok(())
}

async fn write_one(
    store: Arc<EmbeddedStore<StateDir>>,
    n: u64,
    early: bool,
    scribble: bool,
) -> Result<(), WriteError> {
    let found = store.get(&key(n)).await?;
    let mut generation = found.map_or(0, |record| record.generation);
    loop {
        let mut batch = step(n, generation);
        if scribble {
            turn_over(&mut batch);
        }
        generation = generation.saturating_add(1);
        let line = format!("{n} {generation}");
        if early {
            say(&line)?;
        }
        let _receipt = store.commit(batch).await?;
        if !early {
            say(&line)?;
        }
    }
}

fn turn_over(batch: &mut Batch) {
    for write in &mut batch.writes {
        for byte in write.sealed.iter_mut().flatten() {
            *byte = !*byte;
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// One line, whole, at once.
fn say(line: &str) -> io::Result<()> {
    io::stdout()
        .lock()
        .write_all(format!("{line}\n").as_bytes())
}
