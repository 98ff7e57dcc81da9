//! Latency against load: open loops at shares of what the service can take, and the time of an `fdatasync` of the same
//! disk, which every token waits for.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use crate::caller::{Ask, GrpcSlot, Shape, Target, connect};
use crate::clock::now;
use crate::load::{Crew, Outcome, Plan};
use crate::machine;
use crate::processors::{Halves, run_on, run_on_half_as_many};
use crate::report::{number, print, progress, table};
use crate::rows::{Bar, Row, write_file};
use crate::server::{self, Lab, Terms};
use crate::stats::{Latencies, What, count, median, p99, whole};
use crate::svg::{Axis, Line, Plot, Scale};

/// The shares of the capacity that the curve has.
const SHARES: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];

/// The share at which the p99 is promised.
const PROMISED: f64 = 0.7;

/// What is promised beside two syncs, in milliseconds.
const PROMISED_MS: f64 = 5.0;

/// Writes and syncs of one measurement, and how much is written before each.
const SYNCS: u32 = 300;
const SYNCED: [u8; 4_096] = [0xa5; 4_096];

/// One point of the curve.
#[derive(Clone, Copy, Debug)]
struct Point {
    per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
}

impl Point {
    fn new(per_s: f64, outcome: &Outcome) -> Self {
        let latencies = Latencies::of(&outcome.samples);
        Self {
            per_s,
            p50_ms: latencies.quantile_ms(0.5),
            p99_ms: latencies.quantile_ms(0.99),
            p999_ms: latencies.quantile_ms(0.999),
        }
    }
}

/// Latency against load.
#[derive(Debug, Default)]
struct Curve(Vec<Point>);

/// Measures the curve once.
///
/// # Errors
/// The service can't be measured.
async fn curve(crew: &mut Crew<GrpcSlot>, capacity: f64, time: Duration) -> anyhow::Result<Curve> {
    let mut points = Vec::new();
    for share in SHARES {
        let per_s = capacity * share;
        let point = Point::new(per_s, &crew.open(plan(per_s, time)).await?);
        progress(&format!("{per_s:.0} a second: p99 {:.2} ms", point.p99_ms));
        points.push(point);
    }
    Ok(Curve(points))
}

fn plan(per_s: f64, time: Duration) -> Plan {
    Plan {
        per_s,
        time,
        deadline: None,
    }
}

impl Curve {
    /// For people.
    fn table(&self) -> String {
        let lines: Vec<Vec<String>> = self
            .0
            .iter()
            .map(|point| {
                vec![
                    number(point.per_s, 0),
                    number(point.p50_ms, 2),
                    number(point.p99_ms, 2),
                    number(point.p999_ms, 2),
                ]
            })
            .collect();
        table(&["tokens/s", "p50 ms", "p99 ms", "p99.9 ms"], &lines)
    }

    /// As a picture.
    fn plot(&self) -> Plot {
        let line = |name: &str, value: fn(&Point) -> f64| Line {
            name: name.to_owned(),
            points: self
                .0
                .iter()
                .map(|point| (point.per_s, value(point)))
                .collect(),
        };
        Plot {
            title: "Latency of a token against load, from when each call was due",
            x: Axis {
                label: "tokens a second",
                scale: Scale::Linear,
            },
            y: Axis {
                label: "ms",
                scale: Scale::Logarithmic,
            },
            lines: vec![
                line("p50", |point| point.p50_ms),
                line("p99", |point| point.p99_ms),
                line("p99.9", |point| point.p999_ms),
            ],
        }
    }
}

/// What is measured with the service and the generator on half of the processors each, so that what a caller waits for is
/// the service, and not a generator that waits for a processor.
pub(crate) struct Apart {
    pub(crate) dev: PathBuf,
    pub(crate) shape: Shape,
    pub(crate) rounds: u32,
    pub(crate) time: Duration,
    /// Where the plot goes.
    pub(crate) plots: Option<PathBuf>,
}

impl Apart {
    /// Measures the curve once, and the promise in each round.
    ///
    /// # Errors
    /// The machine has one processor, or the service can't be measured.
    pub(crate) async fn measure(self) -> anyhow::Result<Vec<Row>> {
        let halves = Halves::of(machine::processors())
            .context("latency needs a processor for the service and one for the generator")?;
        let service = halves.service_list();
        run_on(halves.generator, move || async move {
            Box::pin(self.on_halves(&service)).await
        })
        .await
    }

    async fn on_halves(&self, service: &str) -> anyhow::Result<Vec<Row>> {
        let lab = Lab::new(Terms::default())?;
        let ours = server::ours(&self.dev, &lab, Some(service)).await?;
        let bare = server::bare(Some(service)).await?;
        let mut of_ours = Asked::connect(&ours.target, self.shape).await?;
        let mut of_bare = Asked::connect(&bare.target, self.shape).await?;
        let capacity = of_ours.capacity(self.time).await?;
        let curve = curve(&mut of_ours.many, capacity, self.time).await?;
        print(&format!(
            "Latency against load, service and generator on half of the processors each\n{}\n",
            curve.table()
        ))?;
        if let Some(plots) = &self.plots {
            let svg = curve.plot().svg();
            write_file(&plots.join("latency.svg"), svg.as_bytes())?;
        }
        let mut found = Promised::default();
        for _ in 0..self.rounds {
            let of_ours = (of_ours.capacity(self.time).await?, &mut of_ours.many);
            let of_bare = (of_bare.capacity(self.time).await?, &mut of_bare.many);
            found.round(of_ours, of_bare, lab.disk(), self.time).await?;
        }
        ours.stop().await?;
        bare.stop().await?;
        Ok(found.apart_rows())
    }
}

/// Who is asked, by as many calls as the comparison has, and by as many as may have to wait.
struct Asked {
    few: Crew<GrpcSlot>,
    many: Crew<GrpcSlot>,
}

impl Asked {
    async fn connect(target: &Target, shape: Shape) -> anyhow::Result<Self> {
        let mut asked = Self {
            few: connect(target, shape, Ask::Dpop).await?,
            many: connect(target, waiting(shape), Ask::Dpop).await?,
        };
        for crew in [&mut asked.few, &mut asked.many] {
            crew.closed(Duration::from_secs(1)).await?;
        }
        Ok(asked)
    }

    /// Tokens a second.
    async fn capacity(&mut self, time: Duration) -> anyhow::Result<f64> {
        let closed = self.few.closed(time).await?;
        Ok(whole(count(&closed.samples, What::Good)) / closed.elapsed.as_secs_f64())
    }
}

/// Calls in flight on a connection of an open loop: as many as may have to wait.
fn waiting(shape: Shape) -> Shape {
    Shape {
        in_flight: 64,
        ..shape
    }
}

/// What is measured with all processors for both, by the rates that they reached.
///
/// The generator has half as many threads as there are processors, which are half busy with it: as many as the service
/// has would take turns with those, some milliseconds each, and a call would wait for the generator.
pub(crate) struct Shared {
    pub(crate) ours: (f64, Target),
    pub(crate) bare: (f64, Target),
    pub(crate) disk: PathBuf,
    pub(crate) shape: Shape,
    pub(crate) rounds: u32,
    pub(crate) time: Duration,
}

impl Shared {
    /// Measures the promise in each round.
    ///
    /// # Errors
    /// A server can't be measured.
    pub(crate) async fn measure(self) -> anyhow::Result<Vec<Row>> {
        run_on_half_as_many(move || Box::pin(self.on_few_threads())).await
    }

    async fn on_few_threads(self) -> anyhow::Result<Vec<Row>> {
        let shape = waiting(self.shape);
        let (of_ours, of_bare) = (self.ours.0, self.bare.0);
        let mut ours = connect(&self.ours.1, shape, Ask::Dpop).await?;
        let mut bare = connect(&self.bare.1, shape, Ask::Dpop).await?;
        for crew in [&mut ours, &mut bare] {
            crew.closed(Duration::from_secs(1)).await?;
        }
        let mut found = Promised::default();
        for _ in 0..self.rounds {
            let (ours, bare) = ((of_ours, &mut ours), (of_bare, &mut bare));
            found.round(ours, bare, &self.disk, self.time).await?;
        }
        Ok(found.rows())
    }
}

/// The p99 at the promised share of the capacity, against syncs measured before each round; and that of the bare server
/// at the same share of its own, which says what the machine and the generator have of it.
#[derive(Debug, Default)]
struct Promised {
    ours_ms: Vec<f64>,
    bare_ms: Vec<f64>,
    syncs_ms: Vec<f64>,
}

impl Promised {
    /// One round: each by its capacity.
    ///
    /// # Errors
    /// A server or the disk can't be measured.
    async fn round(
        &mut self,
        ours: (f64, &mut Crew<GrpcSlot>),
        bare: (f64, &mut Crew<GrpcSlot>),
        disk: &Path,
        time: Duration,
    ) -> anyhow::Result<()> {
        let file = disk.join("fdatasync");
        let sync_ms = tokio::task::block_in_place(|| fdatasync_p99_ms(&file))?;
        let mut found = Vec::new();
        for (capacity, crew) in [ours, bare] {
            let per_s = capacity * PROMISED;
            found.push(Point::new(per_s, &crew.open(plan(per_s, time)).await?).p99_ms);
        }
        let [of_ours, of_bare] = found.as_slice() else {
            anyhow::bail!("two were asked");
        };
        progress(&format!(
            "at {:.0} % of the rate: p99 {of_ours:.2} ms, the bare server {of_bare:.2} ms; p99 of a sync {sync_ms:.2} ms",
            PROMISED * 100.0
        ));
        self.ours_ms.push(*of_ours);
        self.bare_ms.push(*of_bare);
        self.syncs_ms.push(sync_ms);
        Ok(())
    }

    /// Where service and generator share all processors. The bar hangs on the disk of the same run.
    fn rows(&self) -> Vec<Row> {
        let sync_ms = median(&self.syncs_ms);
        let bar = Bar::AtMost(((PROMISED_MS + 2.0 * sync_ms) * 100.0).round() / 100.0);
        let (ours_ms, runs) = (median(&self.ours_ms), self.ours_ms.len());
        vec![
            Row::against("p99_ms_at_70pct", ours_ms, "ms", bar, runs),
            Row::plain("bare_p99_ms_at_70pct", median(&self.bare_ms), "ms", runs),
            Row::plain("fdatasync_p99_ms", sync_ms, "ms", runs),
        ]
    }

    /// Where each has a half. The promise is not held against this: the service need not share.
    fn apart_rows(&self) -> Vec<Row> {
        let runs = self.ours_ms.len();
        let plain = |name, values: &[f64]| Row::plain(name, median(values), "ms", runs);
        vec![
            plain("apart_p99_ms_at_70pct", &self.ours_ms),
            plain("apart_bare_p99_ms_at_70pct", &self.bare_ms),
        ]
    }
}

/// Appends and syncs a file, as the store does.
fn fdatasync_p99_ms(path: &Path) -> anyhow::Result<f64> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let mut times_ms = Vec::new();
    for _ in 0..SYNCS {
        let begun = now();
        file.write_all(&SYNCED)?;
        file.sync_data()?;
        times_ms.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    std::fs::remove_file(path)?;
    Ok(p99(&times_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_that_of_the_disk() {
        let promised = |syncs_ms: &[f64]| Promised {
            ours_ms: vec![9.0, 7.0, 8.0],
            bare_ms: vec![3.0],
            syncs_ms: syncs_ms.to_vec(),
        };
        let found = promised(&[1.0, 2.0, 1.5]).rows();
        assert_eq!(found[0].bar.as_deref(), Some("<= 8"));
        assert_eq!(
            (found[0].value, found[0].met, found[0].runs),
            (Some(8.0), Some(true), 3)
        );
        assert_eq!((found[1].value, found[2].value), (Some(3.0), Some(1.5)));
        // A disk that can't be measured is no excuse.
        assert_eq!(promised(&[f64::NAN]).rows()[0].met, Some(false));
        // What is easier is no promise kept.
        let apart = promised(&[1.0]).apart_rows();
        assert_eq!((apart[0].value, apart[0].met), (Some(8.0), None));
    }

    #[test]
    fn a_sync_takes_time_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sync");
        assert!(fdatasync_p99_ms(&path).unwrap() > 0.0);
        assert!(!path.exists());
    }
}
