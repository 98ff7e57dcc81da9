//! `refresh-worker`: makes exchanges with a provider as fast as it can and says what came of them, until it is killed
//! or dies where it was told to.
#![allow(clippy::print_stderr, reason = "a program that can't go on says why")]

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use broker::store::{FilePolicy, StateDir};
use clap::{Parser, ValueEnum};
use enclave::refresh::RefreshError;
use enclave::registry::Rotation;
use tests::dying::{Death, DyingDir, Moment, Operation};
use tests::exchanges::{Exchanges, Terms, keys};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Makes exchanges in the state in a directory, by what it is told on standard input:
///
///   deposit GRANT TOKEN     says `deposited GRANT`
///   one GRANT               asks once: `ok GRANT GENERATION` or `refused GRANT WHY`
///   settle                  asks for each grant until the answer lasts: `works GRANT GENERATION` or
///                           `lost GRANT CAUSE`, then `settled`
///   leaves                  `leaf GRANT CAUSE` for each loss in the control log, then `leaves-told`
///   load                    asks for all grants for ever: `ok GRANT GENERATION`
///   arm OPERATION NUMBER MOMENT   says `armed`, and dies at that operation on the disk
#[derive(Parser)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  \
    refresh-worker /tmp/state --token-endpoint http://127.0.0.1:9000/token --grants 64"
)]
struct Cli {
    /// The directory
    dir: PathBuf,
    /// The provider's token endpoint
    #[arg(long)]
    token_endpoint: String,
    /// How its refresh tokens behave
    #[arg(long, value_enum, default_value = "strict")]
    rotation: Kind,
    /// Grants: `g-0` and so on
    #[arg(long, default_value_t = 1)]
    grants: u32,
    /// Exchanges under way at once, instead of what the product does
    #[arg(long)]
    max_in_flight: Option<u32>,
    /// Dies at this operation of its start
    #[arg(long, value_enum, requires = "number")]
    die_at: Option<Operation>,
    /// Which one of these, from 0
    #[arg(long)]
    number: Option<u64>,
    /// When
    #[arg(long, value_enum, default_value = "after")]
    moment: Moment,
    /// What a harness must find out
    #[arg(long, value_enum)]
    bug: Option<Bug>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Strict,
    Grace,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bug {
    /// Says that a generation was reached before it is durable
    Early,
    /// Says that a lost grant works
    Boastful,
    /// Does not tell of the leaves
    Silent,
}

/// Compactions come under load, too.
const POLICY: FilePolicy = FilePolicy {
    ratio: 2,
    from_bytes: 256 * 1024,
    room_from_bytes: 16 * 1024,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match Box::pin(work(Cli::parse())).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("refresh-worker: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Work {
    exchanges: Exchanges<DyingDir>,
    grants: Vec<String>,
    bug: Option<Bug>,
}

async fn work(cli: Cli) -> Result<(), Failure> {
    std::fs::create_dir_all(&cli.dir)?;
    let keys = keys(&cli.dir);
    let (folder, trigger) = DyingDir::around(StateDir::lock(&cli.dir)?);
    if let (Some(operation), Some(number)) = (cli.die_at, cli.number) {
        trigger.arm(Death {
            operation,
            number,
            moment: cli.moment,
        });
    }
    let end = Box::new(|_kind| std::process::abort());
    let exchanges = Exchanges::open(folder, &keys, POLICY, end).await;
    let rotation = match cli.rotation {
        Kind::Strict => Rotation::Strict,
        Kind::Grace => Rotation::Grace,
    };
    let mut terms = Terms::brisk(&cli.token_endpoint, rotation);
    terms.profile.max_in_flight = cli.max_in_flight;
    exchanges.furnish(&terms).await;
    let work = Arc::new(Work {
        exchanges,
        grants: (0..cli.grants).map(|n| format!("g-{n}")).collect(),
        bug: cli.bug,
    });
    say("ready")?;
    let mut told = told();
    while let Some(line) = told.recv().await {
        let words: Vec<&str> = line.split(' ').collect();
        match *words.as_slice() {
            ["deposit", grant, token] => {
                work.exchanges.deposit(grant, token).await;
                say(&format!("deposited {grant}"))?;
            }
            ["one", grant] => work.one(grant).await?,
            ["settle"] => settle(&work).await?,
            ["leaves"] => work.leaves()?,
            ["load"] => load(&work).await?,
            ["arm", operation, number, moment] => {
                trigger.arm(Death {
                    operation: Operation::from_str(operation, true)?,
                    number: number.parse()?,
                    moment: Moment::from_str(moment, true)?,
                });
                say("armed")?;
            }
            _ => return Err(format!("not understood: {line}").into()),
        }
    }
    Ok(())
}

/// The lines of standard input, read by a thread: it ends with the process.
fn told() -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel(64);
    std::thread::spawn(move || {
        for line in io::stdin().lines().map_while(Result::ok) {
            if tell.blocking_send(line).is_err() {
                return;
            }
        }
    });
    told
}

/// Asks for each grant until the answer lasts.
async fn settle(work: &Arc<Work>) -> Result<(), Failure> {
    let mut asked = JoinSet::new();
    for grant in work.grants.clone() {
        let work = Arc::clone(work);
        asked.spawn(async move {
            let line = match work.exchanges.ask_until_settled(&grant).await {
                Err(RefreshError::NeedsConsent { cause }) if work.bug != Some(Bug::Boastful) => {
                    format!("lost {grant} {}", cause.word())
                }
                Ok(()) | Err(RefreshError::NeedsConsent { .. }) => {
                    format!("works {grant} {}", work.generation(&grant))
                }
                Err(error) => format!("refused {grant} {error}"),
            };
            say(&line)
        });
    }
    while let Some(asked) = asked.join_next().await {
        asked??;
    }
    say("settled")?;
    Ok(())
}

/// Asks for all grants, each again and again, for ever.
async fn load(work: &Arc<Work>) -> Result<(), Failure> {
    let mut asked = JoinSet::new();
    for grant in work.grants.clone() {
        let work = Arc::clone(work);
        asked.spawn(async move {
            loop {
                if let Err(error) = work.one(&grant).await {
                    return error;
                }
            }
        });
    }
    match asked.join_next().await {
        Some(Ok(error)) => Err(error.into()),
        Some(Err(error)) => Err(error.into()),
        None => Ok(()),
    }
}

impl Work {
    fn generation(&self, grant: &str) -> u64 {
        self.exchanges.grant(grant).refresh_generation
    }

    async fn one(&self, grant: &str) -> io::Result<()> {
        if self.bug == Some(Bug::Early) {
            let next = self.generation(grant).saturating_add(1);
            say(&format!("ok {grant} {next}"))?;
        }
        match self.exchanges.ask(grant).await {
            Ok(()) => say(&format!("ok {grant} {}", self.generation(grant))),
            Err(error) => say(&format!("refused {grant} {error}")),
        }
    }

    fn leaves(&self) -> io::Result<()> {
        for (grant, cause) in self.exchanges.losses_logged() {
            if self.bug != Some(Bug::Silent) {
                say(&format!("leaf {grant} {cause}"))?;
            }
        }
        say("leaves-told")
    }
}

/// One line, whole, at once.
fn say(line: &str) -> io::Result<()> {
    io::stdout()
        .lock()
        .write_all(format!("{line}\n").as_bytes())
}
