//! The parts of a run, one after the other. A part that fails is told and leaves no rows; the others go on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::caller::{Ask, Proofs, Shape, connect, presign};
use crate::callgrind;
use crate::compare::{Contest, OidcSlots, Round, Rounds};
use crate::idle;
use crate::latency::{Apart, Shared};
use crate::load::Plan;
use crate::machine::{self, Meter};
use crate::observed;
use crate::oidc::{Oidc, Refreshing};
use crate::overload;
use crate::processors::{Halves, run_on};
use crate::report::{number, print, progress, table};
use crate::rows::{Bar, Row, Rows};
use crate::server::{self, Lab, Server, Terms};
use crate::shed;
use crate::stats::{What, count};

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// CPU time of a token beside the bare server, the bound and oidc-provider
    Compare,
    /// Latency against load
    Latency,
    /// Three times the capacity, and afterwards
    Overload,
    /// Refusals of a client that is over its rate
    Shed,
    /// What metrics and traces cost
    Observed,
    /// Memory of connections that do nothing
    Idle,
    /// Instructions under callgrind
    Instructions,
}

/// A run.
pub(crate) struct Running {
    pub(crate) dev: PathBuf,
    pub(crate) shape: Shape,
    pub(crate) time: Duration,
    pub(crate) rounds: u32,
    /// Empty: all parts.
    pub(crate) only: Vec<Part>,
    pub(crate) valgrind: PathBuf,
    pub(crate) plots: Option<PathBuf>,
    /// Files that may be open.
    pub(crate) files: u64,
}

/// How often instructions are counted: they hardly vary.
const COUNTS: usize = 5;

impl Running {
    /// Measures all parts. The rows, and whether a part failed.
    ///
    /// # Errors
    /// Standard output is gone.
    pub(crate) async fn run(&self) -> anyhow::Result<(Rows, bool)> {
        print(&format!("{}\n\n", machine::description()))?;
        let mut rows = Rows::default();
        let mut failed = false;
        let mut take = |part: &str, found: anyhow::Result<Vec<Row>>| match found {
            Ok(found) => {
                for row in found {
                    rows.add(row);
                }
            }
            Err(error) => {
                failed = true;
                progress(&format!("{part} was not measured: {error:#}"));
            }
        };
        let wants = |part| self.only.is_empty() || self.only.contains(&part);
        if wants(Part::Compare) || wants(Part::Latency) {
            take(
                "the service",
                Box::pin(self.service(wants(Part::Latency))).await,
            );
        }
        if wants(Part::Latency) {
            let apart = Apart {
                dev: self.dev.clone(),
                shape: self.shape,
                rounds: self.rounds,
                time: self.time,
                plots: self.plots.clone(),
            };
            take("latency", Box::pin(apart.measure()).await);
        }
        if wants(Part::Overload) {
            let measured = overload::measure(&self.dev, self.rounds);
            take("overload", Box::pin(measured).await);
        }
        if wants(Part::Shed) {
            let measured = shed::measure(&self.dev, self.shape, self.rounds);
            take("a refusal", Box::pin(measured).await);
        }
        if wants(Part::Observed) {
            let measured = observed::measure(&self.dev, self.shape, self.rounds, self.time);
            take("observability", Box::pin(measured).await);
        }
        if wants(Part::Idle) {
            let measured = idle::measure(&self.dev, self.rounds, self.files);
            take("an idle connection", Box::pin(measured).await);
        }
        if wants(Part::Instructions) {
            take(
                "the number of instructions",
                Box::pin(self.instructions()).await,
            );
        }
        Ok((rows, failed))
    }

    /// One service for the comparison and the promise of latency, by the rates that the comparison found.
    async fn service(&self, latency: bool) -> anyhow::Result<Vec<Row>> {
        let lab = Lab::new(Terms::default())?;
        let ours = server::ours(&self.dev, &lab, None).await?;
        let rounds = Box::pin(self.compare(&ours)).await?;
        print(&format!(
            "{} connections, {} calls in flight on each, medians of {} rounds of {} s\n{}\n",
            self.shape.connections,
            self.shape.in_flight,
            self.rounds,
            self.time.as_secs(),
            rounds.table()
        ))?;
        let mut rows = rounds.rows();
        if latency {
            match Box::pin(self.shared(&ours, lab.disk(), &rounds)).await {
                Ok(found) => rows.extend(found),
                Err(error) => progress(&format!("latency was not measured: {error:#}")),
            }
        }
        ours.stop().await?;
        Ok(rows)
    }

    async fn compare(&self, ours: &Server) -> anyhow::Result<Rounds> {
        let bare = server::bare(None).await?;
        let oidc = match Oidc::start().await {
            Ok(oidc) => Some(oidc),
            Err(error) => {
                progress(&format!("oidc-provider is not measured: {error:#}"));
                None
            }
        };
        let slots = match &oidc {
            Some(oidc) => {
                let connections = self.shape.calls().min(64);
                Some(OidcSlots {
                    pid: oidc.pid(),
                    rotated: oidc.connect(connections, Refreshing::Rotated).await?,
                    kept: oidc.connect(connections, Refreshing::Kept).await?,
                })
            }
            None => None,
        };
        let contest = Contest {
            ours,
            bare: &bare,
            oidc: slots,
            shape: self.shape,
            rounds: self.rounds,
            time: self.time,
        };
        let rounds = Box::pin(contest.run()).await?;
        bare.stop().await?;
        if let Some(oidc) = oidc {
            oidc.stop().await?;
        }
        Ok(rounds)
    }

    /// The promise where all share the processors, by the rates of the comparison.
    async fn shared(
        &self,
        ours: &Server,
        disk: &Path,
        rounds: &Rounds,
    ) -> anyhow::Result<Vec<Row>> {
        let bare = server::bare(None).await?;
        let shared = Shared {
            ours: (rounds.capacity(), ours.target.clone()),
            bare: (rounds.bare_capacity(), bare.target.clone()),
            disk: disk.to_path_buf(),
            shape: self.shape,
            rounds: self.rounds,
            time: self.time,
        };
        let rows = Box::pin(shared.measure()).await?;
        bare.stop().await?;
        Ok(rows)
    }

    async fn instructions(&self) -> anyhow::Result<Vec<Row>> {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for turn in 1..=COUNTS {
            let found = callgrind::count(&self.valgrind).await?;
            progress(&format!(
                "instructions {turn} of {COUNTS}: {:.0} a token, the bare issuer {:.0}",
                found.ours, found.bare
            ));
            ours.push(found.ours);
            bare.push(found.bare);
        }
        let (of_ours, of_bare) = (crate::stats::median(&ours), crate::stats::median(&bare));
        let bar = Bar::AtMost(1_150_000.0);
        Ok(vec![
            Row::against("issuance_instructions", of_ours, "count", bar, COUNTS),
            Row::plain("bare_instructions", of_bare, "count", COUNTS),
        ])
    }
}

/// One load, and nothing else.
pub(crate) struct Loading {
    pub(crate) dev: PathBuf,
    pub(crate) shape: Shape,
    pub(crate) time: Duration,
    /// Without one it is a closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) ask: Ask,
    pub(crate) proofs: Proofs,
    /// Service and generator have half of the processors each.
    pub(crate) halves: bool,
    pub(crate) json: bool,
}

impl Loading {
    /// Starts the service, loads it, and prints what came of it.
    ///
    /// # Errors
    /// It can't be measured.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        if !self.halves {
            return self.measure(None).await;
        }
        let halves = Halves::of(machine::processors())
            .context("--halves needs a processor for the service and one for the generator")?;
        let service = halves.service_list();
        run_on(halves.generator, move || async move {
            self.measure(Some(&service)).await
        })
        .await
    }

    async fn measure(&self, processors: Option<&str>) -> anyhow::Result<()> {
        idle::raise_limit()?;
        let lab = Lab::new(Terms::default())?;
        let server = server::ours(&self.dev, &lab, processors).await?;
        let mut crew = connect(&server.target, self.shape, self.ask).await?;
        let warm = crew.closed(Duration::from_secs(1)).await?;
        if self.proofs == Proofs::Presigned {
            let seconds = self.time.as_secs_f64();
            // What the first second took, and half as much again; if that is too little, the rest are made live.
            let closed = warm.samples.len() as f64 * 1.5;
            presign(&crew, (self.rate.unwrap_or(closed) * seconds) as usize).await?;
        }
        let meter = Meter::begin(server.target.pid, &[])?;
        let outcome = match self.rate {
            None => crew.closed(self.time).await?,
            Some(per_s) => {
                let plan = Plan {
                    per_s,
                    time: self.time,
                    deadline: None,
                };
                crew.open(plan).await?
            }
        };
        let round = Round::new(&outcome, meter.end()?);
        let peak_kib = machine::memory(server.target.pid)?.peak_kib;
        server.stop().await?;
        let of = |what| count(&outcome.samples, what);
        let text = if self.json {
            let object = serde_json::json!({
                "answers": of(What::Good),
                "refused": of(What::Refused),
                "late": of(What::Late),
                "cpu_us": round.cpu_us,
                "per_s": round.per_s,
                "p50_ms": round.p50_ms,
                "p99_ms": round.p99_ms,
                "p999_ms": round.p999_ms,
                "peak_kib": peak_kib,
                "foreign_cpu_percent": round.foreign_percent,
            });
            format!("{object}\n")
        } else {
            let line = vec![
                number(round.cpu_us, 1),
                number(round.per_s, 0),
                number(round.p50_ms, 2),
                number(round.p99_ms, 2),
                number(round.p999_ms, 2),
                number(peak_kib as f64 / 1_024.0, 0),
                number(round.foreign_percent, 0),
            ];
            let head = [
                "CPU µs", "per s", "p50 ms", "p99 ms", "p99.9 ms", "peak MiB", "others %",
            ];
            format!("{}\n{}", machine::description(), table(&head, &[line]))
        };
        Ok(print(&text)?)
    }
}
