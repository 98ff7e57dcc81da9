//! `grant import`: a file of grants, each sealed to the enclave's attested key as a deposit is.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokenkeep::AttestedChannel;
use tokenkeep::import::{Line, Lines, Seen, parse};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::importing::{Importer, Outcome, Report};
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, chain};
use crate::cli::output::Output;

/// After so many lines it is said how far it is.
const PROGRESS_LINES: u64 = 100;

/// Group and world.
const OTHERS: u32 = 0o077;

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The file, one JSON object a line; `-` for standard input
    #[arg(value_name = "FILE.jsonl")]
    file: PathBuf,
    /// So many deposits at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=32))]
    at_once: u16,
    /// Leave the tokens as they are: whoever has a copy goes on using it until the first exchange
    #[arg(long)]
    leave_unrotated: bool,
}

/// How far it is.
#[derive(Debug, Default)]
struct Tally {
    lines: u64,
    imported: u64,
    present: u64,
    exposed: u64,
    pending: u64,
    failed: u64,
    refused: bool,
}

impl ImportArgs {
    pub(super) async fn run(
        self,
        channel: &AttestedChannel,
        output: Output,
    ) -> Result<(), Failure> {
        // Evidence first: nothing is read before there is somebody to seal it to.
        let importer = Box::pin(Importer::new(channel, self.leave_unrotated)).await?;
        let importer = Arc::new(importer);
        let mut lines = read_lines(self.open(output)?, self.at_once.into());
        let mut under_way: VecDeque<JoinHandle<Report>> = VecDeque::new();
        let (mut seen, mut tally) = (Seen::default(), Tally::default());
        let mut ended: Option<Failure> = None;
        loop {
            while ended.is_none() && under_way.len() < usize::from(self.at_once) {
                // What is under way is not kept waiting by a source that is slow.
                let next = if under_way.is_empty() {
                    lines.recv().await
                } else {
                    lines.try_recv().ok()
                };
                match next {
                    None => break,
                    Some(Err(error)) => ended = Some(unreadable(&error)),
                    Some(Ok((number, line))) => {
                        under_way.push_back(begin(&importer, &mut seen, number, line));
                    }
                }
            }
            let Some(first) = under_way.pop_front() else {
                break;
            };
            let report = first.await.map_err(|_torn_down| {
                Failure::new(Exit::Refused, "a deposit was torn down", "run it again")
            })?;
            tally.add(&report);
            if report.outcome == Outcome::Stopped && ended.is_none() {
                ended = Some(report.stopped());
            }
            report.show(output)?;
            if tally.lines.is_multiple_of(PROGRESS_LINES) {
                tally.tell(output);
            }
        }
        tally.tell(output);
        match ended {
            Some(failure) => Err(failure),
            None => tally.end(),
        }
    }

    fn open(&self, output: Output) -> Result<Box<dyn Read + Send>, Failure> {
        if self.file.as_os_str() == "-" {
            return Ok(Box::new(io::stdin()));
        }
        let failed = |error: io::Error| {
            Failure::usage(
                format!("{} cannot be read: {error}", self.file.display()),
                "check path and permissions",
            )
        };
        let file = File::open(&self.file).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode();
        if mode & OTHERS != 0 {
            output.note(&format!(
                "others on this machine can reach {}: run chmod 600 on it",
                self.file.display()
            ))?;
        }
        Ok(Box::new(file))
    }
}

/// Begins with a line.
fn begin(importer: &Arc<Importer>, seen: &mut Seen, number: u64, line: Line) -> JoinHandle<Report> {
    let read = line.and_then(|line| parse(&line));
    let read = read.map_err(|error| (None, error)).and_then(|line| {
        let grant = line.grant.id.clone();
        match seen.check(number, &line) {
            Ok(()) => Ok(line),
            Err(error) => Err((Some(grant), error)),
        }
    });
    let importer = Arc::clone(importer);
    tokio::spawn(async move {
        match read {
            Ok(line) => Box::pin(importer.import(number, line)).await,
            Err((grant, error)) => Report::ill_formed(number, grant, error),
        }
    })
}

/// Reads on a thread of its own, not far ahead. It ends with the program.
fn read_lines(
    source: Box<dyn Read + Send>,
    ahead: usize,
) -> mpsc::Receiver<io::Result<(u64, Line)>> {
    let (sender, lines) = mpsc::channel(ahead);
    std::thread::spawn(move || {
        let mut source = Lines::new(BufReader::new(source));
        while let Some(line) = source.next_line().transpose() {
            let over = line.is_err();
            if sender.blocking_send(line).is_err() || over {
                return;
            }
        }
    });
    lines
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::usage(
        format!("the file cannot be read on: {}", chain(error)),
        "run it again: what is there is left as it is",
    )
}

impl Tally {
    fn add(&mut self, report: &Report) {
        let one = |counter: &mut u64| *counter = counter.saturating_add(1);
        one(&mut self.lines);
        match report.outcome {
            Outcome::Imported => one(&mut self.imported),
            Outcome::Present => one(&mut self.present),
            Outcome::IllFormed => one(&mut self.failed),
            Outcome::Refused | Outcome::NeedsConsent | Outcome::Stopped => {
                one(&mut self.failed);
                self.refused = true;
            }
        }
        match report.token {
            "exposed" => one(&mut self.exposed),
            "pending" => one(&mut self.pending),
            _ => {}
        }
    }

    fn tell(&self, output: Output) {
        let Self {
            lines,
            imported,
            present,
            exposed,
            pending,
            failed,
            refused: _,
        } = self;
        let text = format!(
            "{lines} lines: {imported} imported, {present} there before, {failed} not; tokens exposed: {exposed}, pending: {pending}"
        );
        let json = serde_json::json!({"progress": {
            "lines": lines, "imported": imported, "present": present, "failed": failed,
            "exposed": exposed, "pending": pending,
        }});
        output.status(&text, &json);
    }

    fn end(&self) -> Result<(), Failure> {
        if self.failed == 0 {
            return Ok(());
        }
        let exit = if self.refused {
            Exit::Refused
        } else {
            Exit::Usage
        };
        Err(Failure::new(
            exit,
            format!("{} of {} lines were not imported", self.failed, self.lines),
            "correct what the report says of them and run it again: what is there is left as it is",
        ))
    }
}
