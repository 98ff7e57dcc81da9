//! The bars of abuse: what a client that means well notices of others that do not.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dev::names;
use proto::v1;
use testkit::rounds::median;
use tests::bars::{self, Bar, Row};
use tests::caller::Caller;
use tests::effort;
use tests::stack::{Blueprint, Stack};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::Code;

use crate::floods::{Abuse, Target};
use crate::grpc_refusals::{framed, raw};

/// Connections of those that are slow or idle.
fn idle() -> usize {
    if effort::is_full() { 10_000 } else { 16 }
}

/// Rounds, in each of which every kind of abuse comes once.
fn rounds() -> usize {
    if effort::is_full() { 5 } else { 1 }
}

/// Turns of a round, and calls in each.
fn amount() -> (usize, usize) {
    if effort::is_full() { (2, 150) } else { (1, 20) }
}

/// Between two calls of the client.
const PAUSE: Duration = Duration::from_millis(5);

/// What a client noticed, and what became of the service.
#[derive(Debug, Default)]
struct Noticed {
    /// How much slower its calls were beside the worst abuse than alone, and which that was.
    ratio: f64,
    worst: Option<Abuse>,
    /// Calls of its that failed.
    failed: u64,
    rss_mib: f64,
    crashes: u32,
    runs: u64,
}

/// The most memory that a process had since [`begin_peak`].
fn peak_mib(process: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// From now on the peak is measured anew [proc_pid_clear_refs(5)].
fn begin_peak(process: u32) {
    fs::write(format!("/proc/{process}/clear_refs"), "5").unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a test times what it waits for")]
fn now() -> Instant {
    Instant::now()
}

/// Times of calls, one after another.
async fn times(calls: usize, call: &mut impl AsyncFnMut() -> bool) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..calls {
        let begun = now();
        // One that fails took for ever.
        let good = call().await;
        times.push(if good {
            begun.elapsed()
        } else {
            Duration::from_secs(60)
        });
        sleep(PAUSE).await;
    }
    times
}

/// The time that 99 of 100 do not exceed, s.
fn p99_s(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    let at = (times.len() * 99).div_ceil(100).saturating_sub(1);
    times[at].as_secs_f64()
}

/// How much slower calls are beside something than alone, taking turns, so that what else the machine does falls on both.
async fn slowdown<S>(
    (turns, calls): (usize, usize),
    mut call: impl AsyncFnMut() -> bool,
    mut begin: impl AsyncFnMut() -> S,
    mut end: impl AsyncFnMut(S),
) -> f64 {
    // Caches, and pages of the program.
    times(10, &mut call).await;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for turn in 0..turns {
        if turn > 0 {
            // What the turn before has left to be closed is nobody's normal state.
            times(calls, &mut call).await;
        }
        alone.extend(times(calls, &mut call).await);
        let begun = begin().await;
        beside.extend(times(calls, &mut call).await);
        end(begun).await;
    }
    p99_s(&mut beside) / p99_s(&mut alone)
}

async fn noticed(stack: &mut Stack) -> Noticed {
    let mut all = Noticed::default();
    let mut ratios: Vec<(Abuse, Vec<f64>)> = Abuse::ALL.map(|abuse| (abuse, Vec::new())).into();
    // The rounds of a kind are minutes apart: what the machine does for a while falls on one of them.
    for _ in 0..rounds() {
        for (abuse, ratios) in &mut ratios {
            ratios.push(round(stack, *abuse, &mut all).await);
        }
        all.runs += 1;
    }
    for (abuse, ratios) in ratios {
        let ratio = median(&ratios);
        tell(abuse, &format!("median {ratio:.2} of {ratios:.2?}"));
        // What is no number is above all, and meets no bar.
        if all.worst.is_none() || ratio.total_cmp(&all.ratio).is_gt() {
            (all.ratio, all.worst) = (ratio, Some(abuse));
        }
    }
    all
}

/// One kind of abuse, once: how much slower calls were beside it than alone.
async fn round(stack: &mut Stack, abuse: Abuse, all: &mut Noticed) -> f64 {
    // Anew for each: the one before may have ended the process.
    let target = Target::of(stack).await;
    let caller = Caller::of(stack).await;
    let process = stack.service().id();
    let nonce = caller.nonce().await;
    let mut failed = 0;
    let call = async || {
        let proof = caller.issue_proof(&nonce);
        let issued = Box::pin(caller.issue(caller.request(), &[&proof])).await;
        failed += u64::from(issued.is_err());
        issued.is_ok()
    };
    begin_peak(process);
    let begin = async || {
        let begun = abuse.begin(&target, idle());
        begun.there().await;
        begun
    };
    let end = async |under_way: crate::floods::UnderWay| {
        Box::pin(stops(&*stack, &target, process)).await;
        assert!(under_way.end().await > 0, "{abuse:?}");
    };
    let ratio = slowdown(amount(), call, begin, end).await;
    let rss_mib = peak_mib(process).unwrap_or(f64::INFINITY);
    tell(
        abuse,
        &format!("p99 {ratio:.2} times, {failed} failed, {rss_mib:.0} MiB"),
    );
    all.failed += failed;
    all.rss_mib = all.rss_mib.max(rss_mib);
    if !stack.running() {
        all.crashes += 1;
        stack.restart().await;
    }
    ratio
}

/// What stops something gets through, and whoever asks whether the service is there learns it.
async fn stops(stack: &Stack, target: &Target, process: u32) {
    // A crash is counted when the turn is over.
    if peak_mib(process).is_none() {
        return;
    }
    let grant = || v1::freeze_subject::Subject::Grant(names::GRANT.to_owned());
    stack.freeze(grant()).await;
    stack.thaw(grant()).await;
    let path = "/grpc.health.v1.Health/Check";
    let health = raw(target.channel(), path, framed(0, b"")).await;
    assert_eq!(health.code(), Code::Ok, "{health:?}");
}

#[expect(
    clippy::print_stdout,
    reason = "the figures are what a campaign is run for"
)]
fn tell(abuse: Abuse, what: &str) {
    println!("abuse: {abuse:?}: {what}");
}

fn rows(noticed: &Noticed) -> [Row; 3] {
    let row = |name, value, unit, bar| Row {
        name,
        value,
        unit,
        bar: Bar::AtMost(bar),
        runs: noticed.runs,
        seed: 0,
    };
    [
        row("abuse_legit_p99_ratio_max", noticed.ratio, "ratio", 2.0),
        row("abuse_rss_mib_max", noticed.rss_mib, "MiB", 1_024.0),
        row("abuse_crashes", noticed.crashes.into(), "count", 0.0),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abuse_bar_a_client_notices_little_of_those_who_flood() {
    let mut stack = Stack::with_grant(Blueprint {
        release: effort::is_full(),
        // Room for all that are idle: whoever finds none comes again, and would measure that.
        host_toml: "[limits]\nconnections = 12288\n".to_owned(),
        ..Blueprint::default()
    })
    .await;
    let noticed = noticed(&mut stack).await;
    assert_eq!(noticed.failed, 0, "{noticed:?}");
    let [ratio, others @ ..] = rows(&noticed);
    // Times of a few calls on a busy machine say nothing: only a campaign is held to them.
    let ratio = effort::is_full().then_some(ratio);
    let rows: Vec<Row> = ratio.into_iter().chain(others).collect();
    if effort::is_full() {
        // All of them are written down, whatever the first one says.
        for row in &rows {
            assert_eq!(bars::record("abuse", *row).unwrap(), row.met());
        }
    }
    for row in rows {
        assert!(row.met(), "{row:?}: {noticed:?}");
    }
}

#[tokio::test]
async fn abuse_bar_canary_a_lock_that_floods_take_is_seen() {
    // A server with one lock for all, which each peer of a flood holds for a while.
    let lock = Arc::new(Mutex::new(()));
    let call = async || {
        drop(lock.lock().await);
        sleep(Duration::from_micros(200)).await;
        true
    };
    let begin = async || {
        let lock = Arc::clone(&lock);
        let mut flood = JoinSet::new();
        flood.spawn(async move {
            loop {
                let held = lock.lock().await;
                sleep(Duration::from_millis(500)).await;
                drop(held);
            }
        });
        flood
    };
    let end = async |mut flood: JoinSet<()>| flood.shutdown().await;
    let ratio = slowdown((1, 5), call, begin, end).await;
    assert!(ratio > 2.0, "{ratio}");
    let noticed = Noticed {
        ratio,
        ..Noticed::default()
    };
    let [row, ..] = rows(&noticed);
    assert!(!row.met());
}

#[tokio::test]
async fn abuse_bar_canary_a_service_that_ends_is_seen() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    let process = stack.service().id();
    begin_peak(process);
    assert!(peak_mib(process).unwrap() > 1.0);
    stack.kill().await;
    assert!(!stack.running());
    let noticed = Noticed {
        rss_mib: peak_mib(process).unwrap_or(f64::INFINITY),
        crashes: 1,
        ..Noticed::default()
    };
    let [_, rss, crashes] = rows(&noticed);
    assert!(!rss.met() && !crashes.met());
}
