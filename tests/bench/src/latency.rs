//! Latency against load: open loops at shares of what the service can take, and the time of an `fdatasync` of the same
//! disk, which every token waits for.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::caller::GrpcSlot;
use crate::clock::now;
use crate::load::{Crew, Outcome, Plan};
use crate::report::{number, progress, table};
use crate::rows::{Bar, Row};
use crate::stats::{Latencies, median, p99};
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
pub(crate) struct Curve(Vec<Point>);

/// Measures the curve once.
///
/// # Errors
/// The service can't be measured.
pub(crate) async fn curve(
    crew: &mut Crew<GrpcSlot>,
    capacity: f64,
    time: Duration,
) -> anyhow::Result<Curve> {
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
    pub(crate) fn table(&self) -> String {
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
    pub(crate) fn plot(&self) -> Plot {
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

/// Who is asked at the promised share of its capacity.
pub(crate) struct Asked<'a> {
    pub(crate) crew: &'a mut Crew<GrpcSlot>,
    /// Tokens a second.
    pub(crate) capacity: f64,
}

impl Asked<'_> {
    async fn p99_ms(&mut self, time: Duration) -> anyhow::Result<f64> {
        let per_s = self.capacity * PROMISED;
        Ok(Point::new(per_s, &self.crew.open(plan(per_s, time)).await?).p99_ms)
    }
}

/// The p99 at the promised share of the capacity, against syncs measured before each round; and that of the bare server
/// at the same share of its own, which says what the machine and the generator have of it.
///
/// # Errors
/// A server or the disk can't be measured.
pub(crate) async fn promised(
    mut ours: Asked<'_>,
    mut bare: Asked<'_>,
    disk: &Path,
    rounds: u32,
    time: Duration,
) -> anyhow::Result<Vec<Row>> {
    let (mut found_ms, mut bare_ms, mut syncs_ms) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let file = disk.join("fdatasync");
        let sync_ms = tokio::task::block_in_place(|| fdatasync_p99_ms(&file))?;
        let of_ours = ours.p99_ms(time).await?;
        let of_bare = bare.p99_ms(time).await?;
        progress(&format!(
            "at {:.0} % of the rate: p99 {of_ours:.2} ms, the bare server {of_bare:.2} ms; p99 of a sync {sync_ms:.2} ms",
            PROMISED * 100.0
        ));
        found_ms.push(of_ours);
        bare_ms.push(of_bare);
        syncs_ms.push(sync_ms);
    }
    Ok(rows(&found_ms, &bare_ms, &syncs_ms))
}

/// The bar hangs on the disk of the same run.
fn rows(found_ms: &[f64], bare_ms: &[f64], syncs_ms: &[f64]) -> Vec<Row> {
    let sync_ms = median(syncs_ms);
    let bar = Bar::AtMost(((PROMISED_MS + 2.0 * sync_ms) * 100.0).round() / 100.0);
    let runs = found_ms.len();
    vec![
        Row::against("p99_ms_at_70pct", median(found_ms), "ms", bar, runs),
        Row::plain("bare_p99_ms_at_70pct", median(bare_ms), "ms", runs),
        Row::plain("fdatasync_p99_ms", sync_ms, "ms", runs),
    ]
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
        let found = rows(&[9.0, 7.0, 8.0], &[3.0], &[1.0, 2.0, 1.5]);
        assert_eq!(found[0].bar.as_deref(), Some("<= 8"));
        assert_eq!(
            (found[0].value, found[0].met, found[0].runs),
            (Some(8.0), Some(true), 3)
        );
        assert_eq!((found[1].value, found[2].value), (Some(3.0), Some(1.5)));
        // A disk that can't be measured is no excuse.
        let unknown = rows(&[1.0], &[1.0], &[f64::NAN]);
        assert_eq!(unknown[0].met, Some(false));
    }

    #[test]
    fn a_sync_takes_time_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sync");
        assert!(fdatasync_p99_ms(&path).unwrap() > 0.0);
        assert!(!path.exists());
    }
}
