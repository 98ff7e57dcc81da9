//! Three times what the service can take: how much it still answers in time, and how soon it is normal again. Callers
//! have a deadline, as callers do: what comes later is of no use, and what nobody could send before is not sent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use crate::caller::{Ask, GrpcSlot, Shape, connect, presign};
use crate::load::{Crew, Outcome, Plan};
use crate::machine;
use crate::processors::{Halves, run_on};
use crate::report::progress;
use crate::rows::{Bar, Row};
use crate::server::{self, Lab, Terms};
use crate::stats::{Latencies, What, count, median, normal_from, whole, windows};

/// How often the capacity is asked for.
const TIMES: f64 = 3.0;
/// An offer of less says nothing of three times as much.
const LEAST_TIMES: f64 = 2.7;
/// How long a caller waits.
const DEADLINE: Duration = Duration::from_secs(1);
/// How long the load lasts.
const LOAD: Duration = Duration::from_secs(4);
/// How long the service is watched afterwards, at half of its capacity: longer than it may take.
const AFTERWARDS: Duration = Duration::from_secs(12);
/// Of which one p99 each.
const WINDOW: Duration = Duration::from_millis(250);
/// So many windows in a row, beside the first one, are the normal state.
const STEADY: usize = 3;
/// On one connection, below what the service allows.
const IN_FLIGHT: u32 = 100;
/// So many calls at a time of one client have room.
const MOST_AT_A_TIME: u32 = 120;
/// Nearly all calls at the capacity are answered.
const LEAST_GOOD: f64 = 0.99;

/// One time.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// Answers in time over the capacity.
    goodput_ratio: f64,
    /// What was sent over the capacity.
    offered_ratio: f64,
    /// No number if it was not normal while it was watched.
    recovery_s: f64,
    capacity_per_s: f64,
    /// What as many connections reach as one client has calls at a time, with a call each.
    many_per_s: f64,
}

impl Round {
    /// Answers in time.
    fn good_per_s(&self) -> f64 {
        self.goodput_ratio * self.capacity_per_s
    }
}

/// Measures overload and recovery.
///
/// # Errors
/// The machine has one processor, the service can't be measured, or the generator can't offer as much.
pub(crate) async fn measure(dev: &Path, rounds: u32) -> anyhow::Result<Vec<Row>> {
    let halves = Halves::of(machine::processors())
        .context("overload needs a processor for the service and one for the generator")?;
    let dev = dev.to_path_buf();
    let generator = halves.generator.clone();
    run_on(generator, move || on_halves(dev, halves, rounds)).await
}

async fn on_halves(dev: PathBuf, halves: Halves, rounds: u32) -> anyhow::Result<Vec<Row>> {
    let lab = Lab::new(Terms::default())?;
    let server = server::ours(&dev, &lab, Some(&halves.service_list())).await?;
    let shape = Shape {
        connections: 8,
        in_flight: 8,
    };
    let mut few = connect(&server.target, shape, Ask::Dpop).await?;
    few.closed(Duration::from_secs(1)).await?;
    let crowd = crowd(capacity(&mut few).await?);
    // A token costs more on more connections. The bar is held against what few of them reach, which is more.
    let one_each = Shape {
        connections: crowd.connections.min(MOST_AT_A_TIME),
        in_flight: 1,
    };
    let mut one_each = connect(&server.target, one_each, Ask::Dpop).await?;
    let mut crowd = connect(&server.target, crowd, Ask::Dpop).await?;
    let mut found = Vec::new();
    for round in 1..=rounds {
        let many_per_s = capacity(&mut one_each).await?;
        let capacity = capacity(&mut few).await?;
        let of_round = Round {
            many_per_s,
            ..once(&mut crowd, capacity).await?
        };
        progress(&format!(
            "overload {round} of {rounds}: {:.1} times {capacity:.0} a second; {:.2} of the capacity in time; normal after {:.2} s",
            of_round.offered_ratio, of_round.goodput_ratio, of_round.recovery_s
        ));
        found.push(of_round);
    }
    server.stop().await?;
    rows(&found)
}

/// Tokens a second, each slot asking for the next one when it has its answer.
async fn capacity(crew: &mut Crew<GrpcSlot>) -> anyhow::Result<f64> {
    reached(&crew.closed(Duration::from_secs(2)).await?)
}

/// A load with many refusals is not what the service can take.
fn reached(closed: &Outcome) -> anyhow::Result<f64> {
    let good = whole(count(&closed.samples, What::Good));
    let all = closed.samples.len();
    ensure!(
        good >= all as f64 * LEAST_GOOD,
        "of {all} calls that were to find room {good} did"
    );
    Ok(good / closed.elapsed.as_secs_f64())
}

/// Enough calls under way for the whole load to wait until its deadline.
fn crowd(capacity: f64) -> Shape {
    let calls = capacity * TIMES * DEADLINE.as_secs_f64() * 1.1;
    Shape {
        connections: (calls / f64::from(IN_FLIGHT)).ceil().clamp(1.0, 1_000.0) as u32,
        in_flight: IN_FLIGHT,
    }
}

async fn once(crew: &mut Crew<GrpcSlot>, capacity: f64) -> anyhow::Result<Round> {
    let half = Plan {
        per_s: capacity / 2.0,
        time: Duration::from_secs(2),
        deadline: Some(DEADLINE),
    };
    // The first time every connection learns its nonce.
    crew.open(half).await?;
    let before = crew.open(half).await?;
    let normal_ms = normal_ms(Latencies::of(&before.samples).quantile_ms(0.99));
    let load = Plan {
        per_s: capacity * TIMES,
        time: LOAD,
        deadline: Some(DEADLINE),
    };
    let proofs = capacity * TIMES * LOAD.as_secs_f64();
    presign(crew, proofs as usize).await?;
    let under_load = crew.open(load).await?;
    // Of proofs that were made ahead nothing is left: they would be old.
    presign(crew, 0).await?;
    let watched = Plan {
        time: AFTERWARDS,
        ..half
    };
    let afterwards = crew.open(watched).await?;
    let windows = windows(&afterwards.samples, WINDOW, AFTERWARDS);
    Ok(round(capacity, &under_load, &windows, normal_ms))
}

/// What counts as normal: twice the p99 before, and at least 5 ms more, which is less than anybody notices.
fn normal_ms(before_ms: f64) -> f64 {
    (before_ms * 2.0).max(before_ms + 5.0)
}

fn round(capacity: f64, load: &Outcome, windows: &[Option<f64>], normal_ms: f64) -> Round {
    let over = |number: u64| whole(number) / LOAD.as_secs_f64() / capacity;
    let all = u64::try_from(load.samples.len()).unwrap_or(u64::MAX);
    let sent = all.saturating_sub(count(&load.samples, What::Unsent));
    let recovery_s = normal_from(windows, normal_ms, STEADY)
        .map_or(f64::NAN, |window| window as f64 * WINDOW.as_secs_f64());
    Round {
        goodput_ratio: over(count(&load.samples, What::Good)),
        offered_ratio: over(sent),
        recovery_s,
        capacity_per_s: capacity,
        many_per_s: f64::NAN,
    }
}

fn rows(found: &[Round]) -> anyhow::Result<Vec<Row>> {
    let of = |value: fn(&Round) -> f64| {
        let values: Vec<f64> = found.iter().map(value).collect();
        median(&values)
    };
    let offered = of(|round| round.offered_ratio);
    let capacity = of(|round| round.capacity_per_s);
    if offered.is_nan() || offered < LEAST_TIMES {
        bail!(
            "the generator sent {offered:.1} times the capacity of {capacity:.0} a second, which is not three times"
        );
    }
    let runs = found.len();
    // A service that is not normal after all that time takes longer than it may.
    let recovery_s = of(|round| match round.recovery_s {
        known if known.is_finite() => known,
        _ => AFTERWARDS.as_secs_f64(),
    });
    let goodput = of(|round| round.goodput_ratio);
    Ok(vec![
        Row::against(
            "overload_goodput_ratio",
            goodput,
            "ratio",
            Bar::AtLeast(0.8),
            runs,
        ),
        Row::against(
            "overload_recovery_s",
            recovery_s,
            "s",
            Bar::AtMost(10.0),
            runs,
        ),
        Row::plain("overload_offered_ratio", offered, "ratio", runs),
        Row::plain("overload_capacity_per_s", capacity, "1/s", runs),
        Row::plain("overload_good_per_s", of(Round::good_per_s), "1/s", runs),
        Row::plain(
            "overload_many_connections_per_s",
            of(|round| round.many_per_s),
            "1/s",
            runs,
        ),
        Row::plain(
            "overload_goodput_over_many_connections",
            of(|round| round.good_per_s() / round.many_per_s),
            "ratio",
            runs,
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Sample;

    fn outcome(good: usize, late: usize, unsent: usize) -> Outcome {
        let sample = |what| Sample {
            due_us: 0,
            took_us: 1_000,
            what,
        };
        let mut samples = vec![sample(What::Good); good];
        samples.extend(vec![sample(What::Late); late]);
        samples.extend(vec![sample(What::Unsent); unsent]);
        Outcome {
            samples,
            elapsed: LOAD,
        }
    }

    #[test]
    fn goodput_is_what_was_answered_in_time() {
        // 100 a second for 4 s: 400 answers would be all of the capacity.
        let windows = [Some(80.0), Some(9.0), Some(8.0), Some(9.0), Some(7.0)];
        let found = round(100.0, &outcome(360, 700, 140), &windows, 10.0);
        assert!((found.goodput_ratio - 0.9).abs() < 1e-9, "{found:?}");
        assert!((found.offered_ratio - 2.65).abs() < 1e-9, "{found:?}");
        assert!((found.recovery_s - 0.25).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn a_load_that_is_refused_is_no_capacity() {
        assert!((reached(&outcome(400, 0, 4)).unwrap() - 100.0).abs() < 1e-9);
        let refused = reached(&outcome(400, 10, 0)).unwrap_err().to_string();
        assert_eq!(refused, "of 410 calls that were to find room 400 did");
    }

    #[test]
    fn an_offer_that_is_too_small_gives_no_rows() {
        let found = round(100.0, &outcome(400, 400, 400), &[Some(1.0); 8], 10.0);
        let refused = rows(&[found]).unwrap_err().to_string();
        assert!(refused.contains("2.0 times the capacity"), "{refused}");
    }

    #[test]
    fn a_service_that_does_not_recover_does_not_meet_its_bar() {
        let never = round(100.0, &outcome(400, 800, 0), &[Some(50.0); 48], 10.0);
        let found = rows(&[never]).unwrap();
        let row = found.iter().find(|row| row.name == "overload_recovery_s");
        assert_eq!(
            row.map(|row| (row.value, row.met)),
            Some((Some(12.0), Some(false)))
        );
    }

    #[test]
    fn the_crowd_holds_all_that_waits() {
        let crowd = crowd(5_000.0);
        assert!(f64::from(crowd.calls()) >= 15_000.0);
        assert_eq!(crowd.in_flight, IN_FLIGHT);
        assert_eq!((normal_ms(2.0), normal_ms(20.0)), (7.0, 40.0));
    }
}
