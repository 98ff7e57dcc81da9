//! kill -9 among exchanges: what was released is durable, what a strict provider has spent is few and told of, and a
//! provider with grace loses nothing. The judge is the provider's ledger.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a failed test may panic; what is counted is far below 2^52"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use testkit::provider::{Answer, Entry, Event, Fault, Outcome, Standing};
use tests::bars::{self, Bar, Row};
use tests::binary::{binary, release_binary};
use tests::disk::Dice;
use tests::effort;
use tests::oracle::Oracle;
use tests::worker::{Line, Worker};

/// Grants of one state.
const GRANTS: usize = 64;

/// Kills of one state before another is begun: each start reads all that was written.
const KILLS_OF_ONE: u64 = 25;

/// The load below which a full run says nothing.
const LEAST_PER_S: f64 = 200.0;

/// The programs: as they ship in a full run, which measures a rate.
fn program(name: &str) -> PathBuf {
    if effort::is_full() {
        release_binary(name)
    } else {
        binary(name)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test measures how much it did in which time"
)]
fn now() -> Instant {
    Instant::now()
}

/// What a campaign is like.
#[derive(Clone, Copy)]
struct Plan {
    /// What the provider does, in turn.
    rotations: &'static [&'static str],
    /// What the service takes it for.
    taken_for: &'static str,
    /// How long the provider holds an answer back, when it has acted.
    held_back_ms: u64,
    max_in_flight: Option<u32>,
    bug: Option<&'static str>,
}

const GRACE: Plan = Plan {
    rotations: &["grace", "grace-newest"],
    taken_for: "grace",
    held_back_ms: 0,
    max_in_flight: None,
    bug: None,
};

const STRICT: Plan = Plan {
    rotations: &["strict"],
    taken_for: "strict",
    // So that there always are as many under way as may be.
    held_back_ms: 20,
    max_in_flight: None,
    bug: None,
};

/// What was found.
#[derive(Clone, Copy, Debug, Default)]
struct Findings {
    kills: u64,
    /// Grants that do not work any more.
    lost: u64,
    /// The most of them by one kill.
    lost_by_one: u64,
    /// Presentations of a spent token that no grace covered.
    outside_grace: u64,
    /// Of two tokens of one grant, or of one twice, at a time.
    at_once: u64,
    /// Generations that were told of and were not durable.
    not_durable: u64,
    /// Grants that the provider has ended and the service calls good.
    undetected: u64,
    /// Lost grants without a leaf that says why.
    without_leaf: u64,
    /// Exchanges under load.
    exchanges: u64,
    load: Duration,
}

impl Findings {
    fn per_s(self) -> f64 {
        self.exchanges as f64 / self.load.as_secs_f64()
    }
}

/// One state, its provider, and what is known of both.
struct Campaign {
    plan: Plan,
    folder: TempDir,
    oracle: Oracle,
    /// The provider's names of the grants that are deposited, by it.
    known: BTreeMap<String, String>,
    /// The provider's names of those that it has ended.
    ended: BTreeSet<String>,
    /// The newest generation of each grant that was told of.
    told: BTreeMap<String, u64>,
    /// How often each grant was lost.
    losses: BTreeMap<String, usize>,
    findings: Findings,
}

impl Campaign {
    async fn begin(plan: Plan, turn: u64, findings: Findings) -> Self {
        let turn = usize::try_from(turn).unwrap();
        let rotation = plan.rotations[turn % plan.rotations.len()];
        let oracle = Oracle::start(&program("tokenkeep-dev"), rotation, &[]).await;
        if plan.held_back_ms > 0 {
            let slow = Fault::at_token(true, Answer::Honest)
                .delayed_by_ms(plan.held_back_ms)
                .times(u32::MAX);
            oracle.fault(&slow).await;
        }
        Self {
            plan,
            folder: tempfile::tempdir().unwrap(),
            oracle,
            known: BTreeMap::new(),
            ended: BTreeSet::new(),
            told: BTreeMap::new(),
            losses: BTreeMap::new(),
            findings,
        }
    }

    fn start(&self) -> Worker {
        let mut arguments = vec![
            "--token-endpoint".to_owned(),
            self.oracle.token_endpoint(),
            "--rotation".to_owned(),
            self.plan.taken_for.to_owned(),
            "--grants".to_owned(),
            GRANTS.to_string(),
        ];
        if let Some(bound) = self.plan.max_in_flight {
            arguments.extend(["--max-in-flight".to_owned(), bound.to_string()]);
        }
        if let Some(bug) = self.plan.bug {
            arguments.extend(["--bug".to_owned(), bug.to_owned()]);
        }
        Worker::start(&program("refresh-worker"), self.folder.path(), &arguments)
    }

    async fn deposit(&mut self, worker: &mut Worker, grant: &str) {
        let consented = self.oracle.consent().await;
        self.known.insert(consented.grant, grant.to_owned());
        let token = consented.refresh_token;
        worker.tell(&format!("deposit {grant} {token}")).await;
        worker.hear_until("deposited").await.unwrap();
    }

    /// Reads what the provider wrote down since; gives how often a token was presented.
    fn judge(&mut self) -> u64 {
        let mut presented = 0;
        for Entry { event, .. } in self.oracle.news() {
            match event {
                Event::Presented {
                    standing,
                    outcome,
                    concurrent,
                    ..
                } => {
                    presented += 1;
                    self.findings.at_once += u64::from(concurrent > 0);
                    let spent = standing != Standing::Current && outcome != Outcome::Graced;
                    self.findings.outside_grace += u64::from(spent);
                }
                Event::Revoked { grant, .. } => {
                    self.ended.insert(grant);
                }
                Event::Consented { .. } | Event::Faulted { .. } | Event::ApiCall { .. } => {}
            }
        }
        presented
    }

    fn note(&mut self, lines: &[Line]) {
        for line in lines.iter().filter(|line| line.word == "ok") {
            // The last line of a killed worker may be cut: then a smaller number is read.
            if let Ok(generation) = line.rest.parse::<u64>() {
                let told = self.told.entry(line.grant.clone()).or_default();
                *told = generation.max(*told);
            }
        }
    }

    /// A life: it comes up, each grant works or says why not, then it works until it is killed.
    async fn life(&mut self, load: Duration) {
        let mut worker = self.start();
        worker.hear_until("ready").await.unwrap();
        if self.known.is_empty() {
            for n in 0..GRANTS {
                self.deposit(&mut worker, &format!("g-{n}")).await;
            }
        }
        worker.tell("settle").await;
        let settled = worker.hear_until("settled").await.unwrap();
        self.judge();
        let lost = self.settled(&settled);
        self.findings.lost += lost.len() as u64;
        self.findings.lost_by_one = self.findings.lost_by_one.max(lost.len() as u64);
        if !lost.is_empty() {
            self.look_for_leaves(&mut worker, &lost).await;
        }
        for grant in lost {
            // Its owner consents again.
            self.known.retain(|_, name| *name != grant);
            self.told.remove(&grant);
            self.deposit(&mut worker, &grant).await;
        }
        self.judge();

        worker.tell("load").await;
        let began = now();
        let mut heard = Vec::new();
        while let Some(left) = load.checked_sub(now().duration_since(began)) {
            match tokio::time::timeout(left, worker.hear()).await {
                Ok(line) => heard.push(line.unwrap()),
                Err(_elapsed) => break,
            }
        }
        heard.extend(worker.kill().await);
        self.findings.load += now().duration_since(began);
        self.note(&heard);
        self.findings.exchanges += self.judge();
        self.findings.kills += 1;
    }

    /// Holds what each grant came to against what is known; gives those that are lost.
    fn settled(&mut self, lines: &[Line]) -> Vec<String> {
        let mut lost = Vec::new();
        assert_eq!(lines.len(), GRANTS, "{lines:?}");
        for Line { word, grant, rest } in lines {
            let provider_ended = self
                .known
                .iter()
                .any(|(name, known)| known == grant && self.ended.contains(name));
            match word.as_str() {
                "works" => {
                    self.findings.undetected += u64::from(provider_ended);
                    let told = self.told.get(grant).copied().unwrap_or_default();
                    let durable: u64 = rest.parse().unwrap();
                    // It was asked for once more since.
                    self.findings.not_durable += u64::from(durable < told + 1);
                    if provider_ended {
                        // As if it had been said, so that the canary goes on.
                        lost.push(grant.clone());
                    }
                }
                "lost" => {
                    *self.losses.entry(grant.clone()).or_default() += 1;
                    lost.push(grant.clone());
                }
                _ => panic!("{word} {grant} {rest}"),
            }
        }
        lost
    }

    async fn look_for_leaves(&mut self, worker: &mut Worker, lost: &[String]) {
        worker.tell("leaves").await;
        let leaves = worker.hear_until("leaves-told").await.unwrap();
        for grant in lost {
            let found = leaves.iter().filter(|leaf| {
                leaf.word == "leaf" && leaf.grant == *grant && leaf.rest == "lost_in_exchange"
            });
            let expected = self.losses.get(grant).copied().unwrap_or_default();
            self.findings.without_leaf += u64::from(found.count() != expected);
        }
    }
}

async fn kills(plan: Plan, count: u64, seed: u64) -> Findings {
    let mut dice = Dice::new(seed);
    let mut campaign = Campaign::begin(plan, 0, Findings::default()).await;
    for kill in 0..count {
        if kill > 0 && kill % KILLS_OF_ONE == 0 {
            let turn = kill / KILLS_OF_ONE;
            // What the last kill cost is seen by one more start.
            let findings = end(campaign).await;
            campaign = Campaign::begin(plan, turn, findings).await;
        }
        let load = Duration::from_millis(100 + dice.below(400));
        campaign.life(load).await;
    }
    end(campaign).await
}

/// One more life, without a kill that counts.
async fn end(mut campaign: Campaign) -> Findings {
    let before = campaign.findings;
    campaign.life(Duration::ZERO).await;
    campaign.oracle.stop().await;
    Findings {
        kills: before.kills,
        exchanges: before.exchanges,
        load: before.load,
        ..campaign.findings
    }
}

fn judge(rows: impl IntoIterator<Item = (&'static str, u64, f64)>, runs: u64, seed: u64) {
    let mut met = true;
    for (name, value, bar) in rows {
        let row = Row {
            name,
            value: value as f64,
            unit: "count",
            bar: Bar::AtMost(bar),
            runs,
            seed,
        };
        if effort::is_full() {
            met &= bars::record("refresh", row).unwrap();
        } else {
            assert!(row.met(), "{row:?}");
        }
    }
    assert!(met);
}

#[expect(clippy::print_stdout, reason = "what a campaign did is to be seen")]
fn tell(what: &str, findings: Findings) {
    println!("{what}: {:.0} exchanges/s, {findings:?}", findings.per_s());
    assert!(findings.exchanges > findings.kills, "{findings:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_bar_a_provider_with_grace_loses_nothing_to_kills() {
    let (runs, seed) = (if effort::is_full() { 500 } else { 4 }, 0x65ace);
    let findings = kills(GRACE, runs, seed).await;
    tell("kills, grace", findings);
    if effort::is_full() {
        // A run below its load says nothing.
        assert!(findings.per_s() >= LEAST_PER_S, "the load was too small");
    }
    judge(
        [
            (
                "grace_kill9_grants_lost",
                findings.lost + findings.undetected + findings.not_durable,
                0.0,
            ),
            (
                "grace_kill9_superseded_outside_grace",
                findings.outside_grace,
                0.0,
            ),
        ],
        findings.kills,
        seed,
    );
    assert_eq!(findings.at_once, 0, "presented twice at a time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_bar_a_strict_provider_loses_few_to_a_kill_and_each_is_told_of() {
    let (runs, seed) = (if effort::is_full() { 300 } else { 3 }, 0x571c7);
    let findings = kills(STRICT, runs, seed).await;
    tell("kills, strict", findings);
    judge(
        [
            ("strict_kill9_lost_per_kill_max", findings.lost_by_one, 8.0),
            (
                "strict_lost_undetected",
                findings.undetected + findings.not_durable,
                0.0,
            ),
            ("strict_lost_without_leaf", findings.without_leaf, 0.0),
        ],
        findings.kills,
        seed,
    );
    assert_eq!(findings.at_once, 0, "presented twice at a time");
    // Kills did hit exchanges, or the bars say nothing.
    assert!(findings.lost >= findings.kills, "{findings:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_bar_canary_what_kills_cost_is_seen() {
    // Taken for one with grace, and it has none.
    let mistaken = Plan {
        rotations: &["strict"],
        held_back_ms: 20,
        ..GRACE
    };
    let found = kills(mistaken, 2, 1).await;
    assert!(found.lost > 8 && found.outside_grace > 8, "{found:?}");
    let unbounded = Plan {
        max_in_flight: Some(64),
        ..STRICT
    };
    let found = kills(unbounded, 5, 2).await;
    assert!(found.lost_by_one > 8, "{found:?}");
    let with = |bug| Plan {
        bug: Some(bug),
        ..STRICT
    };
    let found = kills(with("early"), 4, 3).await;
    assert!(found.not_durable > 0, "{found:?}");
    let found = kills(with("boastful"), 6, 4).await;
    assert!(found.undetected > 0, "{found:?}");
    let found = kills(with("silent"), 6, 5).await;
    assert!(found.without_leaf > 0, "{found:?}");
}
