//! Death at each step of an exchange, of a compaction and of a recovery: what comes of the grant is what the step says,
//! and nothing that was spent is presented without need.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a failed test may panic; what is counted is far below 2^52"
)]

use std::path::Path;

use testkit::provider::{Entry, Event, Outcome, Standing};
use tests::bars::{self, Bar, Row};
use tests::binary::binary;
use tests::effort;
use tests::gate::{Gate, Stop};
use tests::oracle::Oracle;
use tests::worker::{Line, Worker};

/// How often each step is died at.
fn times() -> u64 {
    if effort::is_full() { 20 } else { 1 }
}

/// What becomes of a grant at a provider without grace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its token was not spent, or its successor is here.
    Works,
    /// The successor never came to the disk.
    Lost,
}

/// Where the service dies.
#[derive(Clone, Copy, Debug)]
enum Where {
    /// At an operation on the disk, from 0: a write and a sync each for the intent, the journal and the adoption.
    Disk(u64, &'static str),
    /// On the wire.
    Wire(Stop),
}

struct Step {
    name: &'static str,
    at: Where,
    fate: Fate,
}

const fn step(name: &'static str, at: Where, fate: Fate) -> Step {
    Step { name, at, fate }
}

/// An exchange from its beginning to its end.
const STEPS: [Step; 20] = [
    step(
        "the intent is to be written",
        Where::Disk(0, "before"),
        Fate::Works,
    ),
    step(
        "half of the intent is written",
        Where::Disk(0, "half"),
        Fate::Works,
    ),
    step(
        "the intent is written",
        Where::Disk(0, "after"),
        Fate::Works,
    ),
    step(
        "the intent is to be synced",
        Where::Disk(1, "before"),
        Fate::Works,
    ),
    step("the intent is synced", Where::Disk(1, "after"), Fate::Works),
    step(
        "the provider is connected",
        Where::Wire(Stop::Connected),
        Fate::Works,
    ),
    step(
        "half of the request is sent",
        Where::Wire(Stop::HalfRequest),
        Fate::Works,
    ),
    step(
        "the request is sent, and has not come",
        Where::Wire(Stop::WholeRequest),
        Fate::Works,
    ),
    step(
        "the provider has acted",
        Where::Wire(Stop::Answered),
        Fate::Lost,
    ),
    step(
        "the answer's head is here",
        Where::Wire(Stop::Head),
        Fate::Lost,
    ),
    step(
        "half of the answer's body is here",
        Where::Wire(Stop::HalfBody),
        Fate::Lost,
    ),
    step(
        "the answer is here, the journal is to be written",
        Where::Disk(2, "before"),
        Fate::Lost,
    ),
    step(
        "half of the journal is written",
        Where::Disk(2, "half"),
        Fate::Lost,
    ),
    // The process dies, the machine lives: what was written is there.
    step(
        "the journal is written",
        Where::Disk(2, "after"),
        Fate::Works,
    ),
    step(
        "the journal is synced",
        Where::Disk(3, "after"),
        Fate::Works,
    ),
    step(
        "the adoption is to be written",
        Where::Disk(4, "before"),
        Fate::Works,
    ),
    step(
        "half of the adoption is written",
        Where::Disk(4, "half"),
        Fate::Works,
    ),
    step(
        "the adoption is written",
        Where::Disk(4, "after"),
        Fate::Works,
    ),
    step(
        "the adoption is to be synced",
        Where::Disk(5, "before"),
        Fate::Works,
    ),
    step(
        "the adoption is synced, and nobody is told",
        Where::Disk(5, "after"),
        Fate::Works,
    ),
];

const GRANT: &str = "g-0";

/// A provider behind a wire.
struct Upstream {
    oracle: Oracle,
    gate: Gate,
    rotation: &'static str,
}

impl Upstream {
    async fn start(rotation: &'static str) -> Self {
        let oracle = Oracle::start(&binary("tokenkeep-dev"), rotation, &[]).await;
        let gate = Gate::before(oracle.authority()).await;
        Self {
            oracle,
            gate,
            rotation,
        }
    }

    fn is_strict(&self) -> bool {
        self.rotation == "strict"
    }

    fn worker(&self, dir: &Path, grants: u32, more: &[&str]) -> Worker {
        let taken_for = if self.is_strict() { "strict" } else { "grace" };
        let grants = grants.to_string();
        let endpoint = self.gate.token_endpoint();
        let arguments = ["--token-endpoint", &endpoint, "--rotation", taken_for];
        let arguments = [&arguments[..], &["--grants", &grants], more].concat();
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        Worker::start(&binary("refresh-worker"), dir, &arguments)
    }

    async fn deposit(&self, worker: &mut Worker, grant: &str) {
        let token = self.oracle.consent().await.refresh_token;
        worker.tell(&format!("deposit {grant} {token}")).await;
        worker.hear_until("deposited").await.unwrap();
    }

    /// A worker with a grant that works.
    async fn working(&self, dir: &Path) -> Worker {
        let mut worker = self.worker(dir, 1, &[]);
        worker.hear_until("ready").await.unwrap();
        self.deposit(&mut worker, GRANT).await;
        worker.tell(&format!("one {GRANT}")).await;
        let line = worker.hear().await.unwrap();
        assert_eq!((line.word.as_str(), line.rest.as_str()), ("ok", "2"));
        worker
    }

    /// Lets an exchange come to a step, and the service die there. What it said stands in what is given back.
    async fn die(&mut self, dir: &Path, at: Where) -> Vec<Line> {
        let mut worker = self.working(dir).await;
        match at {
            Where::Disk(number, moment) => {
                worker.tell(&format!("arm any {number} {moment}")).await;
                worker.hear_until("armed").await.unwrap();
                worker.tell(&format!("one {GRANT}")).await;
                worker.died().await
            }
            Where::Wire(stop) => {
                self.gate.stop_at(stop);
                worker.tell(&format!("one {GRANT}")).await;
                self.gate.reached(stop).await;
                worker.kill().await
            }
        }
    }

    /// What the grant comes to at the next start, with the leaf that says so: how often that is not as it must be.
    async fn violations(&mut self, dir: &Path, fate: Fate, what: &str) -> u64 {
        let mut worker = self.worker(dir, 1, &[]);
        worker.hear_until("ready").await.unwrap();
        worker.tell("settle").await;
        let settled = worker.hear_until("settled").await.unwrap();
        worker.tell("leaves").await;
        let leaves = worker.hear_until("leaves-told").await.unwrap();
        let fate = if self.is_strict() { fate } else { Fate::Works };
        let (word, logged) = match fate {
            Fate::Works => ("works", 0),
            Fate::Lost => ("lost", 1),
        };
        let told = settled.iter().map(|line| line.word.as_str());
        let as_expected = told.eq([word]) && leaves.len() == logged;
        let mut violations = u64::from(!as_expected);
        let mut family_revoked = 0;
        for Entry { event, .. } in self.oracle.news() {
            if let Event::Presented {
                standing,
                outcome,
                concurrent,
                ..
            } = event
            {
                // Of a token that is unknown, or of two at a time.
                violations += u64::from(standing == Standing::Unknown || concurrent > 0);
                let spent = standing != Standing::Current && outcome != Outcome::Graced;
                family_revoked += u64::from(spent);
            }
        }
        // What was spent is presented once, where there is no other way to learn it.
        violations += u64::from(family_revoked != u64::from(fate == Fate::Lost));
        if violations > 0 {
            say(&format!(
                "{} at {what}: {settled:?} {leaves:?}",
                self.rotation
            ));
        }
        violations
    }
}

#[expect(clippy::print_stderr, reason = "what is wrong is to be seen")]
fn say(what: &str) {
    eprintln!("{what}");
}

fn judge(name: &'static str, violations: u64, runs: u64) {
    let row = Row {
        name,
        value: violations as f64,
        unit: "count",
        bar: Bar::AtMost(0.0),
        runs,
        seed: 0,
    };
    if effort::is_full() {
        assert!(bars::record("refresh", row).unwrap());
    } else {
        assert!(row.met(), "{row:?}");
    }
}

/// Each step of an exchange; its death is certain, or the run fails.
async fn exchange_steps(upstream: &mut Upstream, times: u64) -> (u64, u64) {
    let (mut violations, mut runs) = (0, 0);
    for Step { name, at, fate } in STEPS {
        for _ in 0..times {
            let dir = tempfile::tempdir().unwrap();
            let said = upstream.die(dir.path(), at).await;
            // Nothing was released before it was durable.
            let early = said.iter().any(|line| line.word == "ok");
            violations += u64::from(early);
            violations += upstream.violations(dir.path(), fate, name).await;
            runs += 1;
        }
    }
    (violations, runs)
}

/// What a compaction does to the folder.
const COMPACTION: [(&str, &str); 6] = [
    ("create", "before"),
    ("create", "after"),
    ("rename", "before"),
    ("rename", "after"),
    ("sync-names", "before"),
    ("sync-names", "after"),
];

/// Grants that are asked for while a compaction is waited for.
const GRANTS: u32 = 8;

async fn compaction_steps(upstream: &mut Upstream, times: u64) -> (u64, u64) {
    let (mut violations, mut runs) = (0, 0);
    for (operation, moment) in COMPACTION {
        for _ in 0..times {
            let dir = tempfile::tempdir().unwrap();
            let mut worker = upstream.worker(dir.path(), GRANTS, &[]);
            worker.hear_until("ready").await.unwrap();
            for n in 0..GRANTS {
                upstream.deposit(&mut worker, &format!("g-{n}")).await;
            }
            worker.tell(&format!("arm {operation} 0 {moment}")).await;
            worker.hear_until("armed").await.unwrap();
            worker.tell("load").await;
            worker.died().await;
            let mut worker = upstream.worker(dir.path(), GRANTS, &[]);
            worker.hear_until("ready").await.unwrap();
            worker.tell("settle").await;
            let settled = worker.hear_until("settled").await.unwrap();
            let works = settled.iter().filter(|line| line.word == "works");
            violations += u64::from(GRANTS) - works.count() as u64;
            for Entry { event, .. } in upstream.oracle.news() {
                if let Event::Presented {
                    standing, outcome, ..
                } = event
                {
                    let spent = standing != Standing::Current && outcome != Outcome::Graced;
                    violations += u64::from(spent);
                }
            }
            runs += 1;
        }
    }
    (violations, runs)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_bar_death_at_each_step_comes_to_what_the_step_says() {
    let (mut violations, mut runs) = (0, 0);
    for rotation in ["strict", "grace", "grace-newest"] {
        let mut upstream = Upstream::start(rotation).await;
        let found = exchange_steps(&mut upstream, times()).await;
        violations += found.0;
        runs += found.1;
        if rotation == "grace" {
            let found = compaction_steps(&mut upstream, times()).await;
            violations += found.0;
            runs += found.1;
        }
        upstream.oracle.stop().await;
    }
    judge("step_kill_violations", violations, runs);
}

/// What a recovery may begin with.
const BEFORE_RECOVERY: [(&str, Where, Fate); 4] = [
    ("a journal that waits", Where::Disk(3, "after"), Fate::Works),
    ("half a journal", Where::Disk(2, "half"), Fate::Lost),
    ("an intent", Where::Disk(1, "after"), Fate::Works),
    (
        "an answer that is gone",
        Where::Wire(Stop::Answered),
        Fate::Lost,
    ),
];

/// Dies at an operation of a recovery and recovers once more. None if the recovery has fewer operations.
async fn recovery(upstream: &mut Upstream, number: u64, moment: &str, turn: u64) -> Option<u64> {
    let (begin, at, fate) = BEFORE_RECOVERY[usize::try_from(turn % 4).unwrap()];
    let dir = tempfile::tempdir().unwrap();
    upstream.die(dir.path(), at).await;
    let text = number.to_string();
    let more = ["--die-at", "any", "--number", &text, "--moment", moment];
    let mut worker = upstream.worker(dir.path(), 1, &more);
    let reached = worker.hear_until("ready").await.is_none();
    if reached {
        worker.died().await;
    } else {
        worker.kill().await;
    }
    let what = format!("{begin}, then operation {number} of the recovery, {moment}");
    let violations = upstream.violations(dir.path(), fate, &what).await;
    assert!(reached || violations == 0, "{what}");
    reached.then_some(violations)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_bar_death_at_each_step_of_a_recovery_is_recovered_from() {
    let mut upstream = Upstream::start("strict").await;
    let (mut violations, mut runs, mut steps) = (0, 0, 0);
    for moment in ["before", "half", "after"] {
        for number in 0.. {
            let mut reached = 0;
            // The beginnings in turn; the first one is recovered from in the most operations.
            for turn in 0..times() {
                if let Some(found) = recovery(&mut upstream, number, moment, turn).await {
                    violations += found;
                    reached += 1;
                }
            }
            if reached == 0 {
                break;
            }
            // Those that fewer beginnings come to are died at as often.
            let mut turn = 0;
            while reached < times() {
                if let Some(found) = recovery(&mut upstream, number, moment, turn).await {
                    violations += found;
                    reached += 1;
                }
                turn += 1;
            }
            runs += reached;
            steps += 1;
        }
    }
    // The store's last frame and its sync, its leftovers, its names, the adoption and the leaf of the start.
    assert!(steps >= 3 * 6, "{steps} steps");
    judge("recovery_kill_violations", violations, runs);
    upstream.oracle.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_bar_canary_a_step_that_comes_to_something_else_is_seen() {
    let mut upstream = Upstream::start("strict").await;
    for (at, mistaken) in [
        (Where::Wire(Stop::Answered), Fate::Works),
        (Where::Disk(1, "after"), Fate::Lost),
    ] {
        let dir = tempfile::tempdir().unwrap();
        upstream.die(dir.path(), at).await;
        assert!(upstream.violations(dir.path(), mistaken, "a canary").await > 0);
    }
}
