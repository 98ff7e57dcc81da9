//! What exchanges promise besides surviving kills: one presentation for a herd, nothing lost by callers that hang up, by
//! a store that is away or by answers that are cut, nothing sent twice, nothing released behind a freeze, and dead grants
//! left alone.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a failed test may panic; what is counted is far below 2^52"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use broker::store::{FilePolicy, Folder, StateDir};
use broker::upstream::TokenRequest;
use enclave::ids::GrantId;
use enclave::refresh::{
    Action, Begin, Event as Happened, RefreshError, UpstreamAnswer, UpstreamRequest,
};
use enclave::registry::Rotation;
use rustls::RootCertStore;
use tempfile::TempDir;
use testkit::provider::{Answer, Entry, Event, Fault, Outcome, Standing};
use tests::bars::{self, Bar, Row};
use tests::binary::binary;
use tests::core::{BEGIN, Core};
use tests::disk::Dice;
use tests::effort;
use tests::exchanges::{Exchanges, Terms, egress, keys, wanted};
use tests::oracle::Oracle;
use tests::stuck::StuckDir;
use tests::wait::wait_for;
use tests::wire::{Habit, Wire};
use tokio::task::JoinSet;

const POLICY: FilePolicy = FilePolicy {
    ratio: 2,
    from_bytes: 256 * 1024,
    room_from_bytes: 16 * 1024,
};

/// So many in a full run, and so many on every day.
fn count(full: u64, bounded: u64) -> u64 {
    if effort::is_full() { full } else { bounded }
}

fn judge(name: &'static str, value: u64, bar: f64, runs: u64, seed: u64) {
    let row = Row {
        name,
        value: value as f64,
        unit: "count",
        bar: Bar::AtMost(bar),
        runs,
        seed,
    };
    if effort::is_full() {
        assert!(bars::record("refresh", row).unwrap());
    } else {
        assert!(row.met(), "{row:?}");
    }
}

/// Exchanges in this process, over a directory, before a provider in a process of its own.
struct House<F: Folder> {
    exchanges: Arc<Exchanges<F>>,
    oracle: Oracle,
    folder: TempDir,
    /// The service's names of the grants, by the provider's.
    known: BTreeMap<String, String>,
}

impl House<StateDir> {
    async fn new(rotation: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::lock(folder.path()).unwrap();
        Self::over(folder, dir, rotation, more).await
    }
}

impl<F: Folder> House<F> {
    async fn over(folder: TempDir, on: F, rotation: &str, more: &[&str]) -> Self {
        let oracle = Oracle::start(&binary("tokenkeep-dev"), rotation, more).await;
        let keys = keys(folder.path());
        let end = Box::new(|kind| panic!("a sync failed: {kind}"));
        let exchanges = Exchanges::open(on, &keys, POLICY, end).await;
        let taken_for = if rotation == "strict" {
            Rotation::Strict
        } else {
            Rotation::Grace
        };
        let mut terms = Terms::brisk(&oracle.token_endpoint(), taken_for);
        terms.profile.max_in_flight = Some(64);
        exchanges.furnish(&terms).await;
        Self {
            exchanges: Arc::new(exchanges),
            oracle,
            folder,
            known: BTreeMap::new(),
        }
    }

    async fn deposit(&mut self, grant: &str) {
        let consented = self.oracle.consent().await;
        self.known.insert(consented.grant, grant.to_owned());
        self.exchanges
            .deposit(grant, &consented.refresh_token)
            .await;
    }

    /// How often each grant's token was presented since this was asked last.
    fn presented(&mut self) -> Presented {
        let mut presented = Presented::default();
        for Entry { event, .. } in self.oracle.news() {
            if let Event::Presented {
                grant,
                standing,
                outcome,
                concurrent,
                ..
            } = event
            {
                let grant = grant.and_then(|grant| self.known.get(&grant).cloned());
                *presented
                    .times
                    .entry(grant.unwrap_or_default())
                    .or_default() += 1;
                presented.unknown += u64::from(standing == Standing::Unknown);
                presented.at_once += u64::from(concurrent > 0);
                presented.refused += u64::from(outcome == Outcome::FamilyRevoked);
            }
        }
        presented
    }

    async fn slow(&self, delay_ms: u64) {
        let slow = Fault::at_token(true, Answer::Honest)
            .delayed_by_ms(delay_ms)
            .times(u32::MAX);
        self.oracle.fault(&slow).await;
    }
}

#[derive(Debug, Default)]
struct Presented {
    times: BTreeMap<String, u64>,
    unknown: u64,
    at_once: u64,
    refused: u64,
}

/// The canary's driver: on the caller's own task, and as it is told to be careless.
async fn careless<F: Folder>(
    exchanges: &Exchanges<F>,
    grant: &str,
    hasty: bool,
) -> Result<(), RefreshError> {
    let shell = &exchanges.shell;
    let grant = GrantId::parse(grant).unwrap();
    let begun = shell
        .enclave
        .begin_refresh(&grant, &wanted(), &shell.clock.now())?;
    let Begin::Exchange(mut exchange, mut action) = begun else {
        return Ok(());
    };
    let way_out = egress(RootCertStore::empty());
    loop {
        let happened = match action {
            Action::Commit(pending) => match pending.commit(&*shell.store).await {
                Ok(durable) => Happened::Committed(durable),
                Err(error) => Happened::CommitFailed(error),
            },
            Action::Send(UpstreamRequest {
                url,
                authorization,
                certificate,
                body,
                ..
            }) => {
                let request = TokenRequest {
                    url: url.as_str().parse().unwrap(),
                    headers: http::HeaderMap::new(),
                    authorization,
                    certificate,
                    body,
                    deadline: None,
                };
                let answer = way_out.token_request(request).await;
                if hasty {
                    // The provider has answered: what could go wrong?
                    return answer
                        .map(|_| ())
                        .map_err(|_| RefreshError::ProviderUnclear);
                }
                match answer {
                    Ok(answer) => Happened::Answered(UpstreamAnswer::Response {
                        status: answer.status.as_u16(),
                        retry_after_s: None,
                        dpop_nonce: None,
                        body: answer.body,
                    }),
                    Err(_) => Happened::Answered(UpstreamAnswer::Ambiguous),
                }
            }
            Action::Pause(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Happened::Resumed
            }
            Action::Finish(outcome) => return outcome.map(|_| ()),
        };
        action = shell
            .enclave
            .step_refresh(&mut exchange, happened, &shell.clock.now());
    }
}

/// Asks at a time for a grant that has no access token.
const HERD: u64 = 10_000;

/// The most presentations that a herd led to. In the canary a token is of no use when it comes, so that each part of
/// the herd asks for one.
async fn herds(runs: u64, kept: bool) -> u64 {
    let life = if kept { "3600" } else { "0" };
    let mut house = House::new("grace", &["--expires-in-s", life]).await;
    let mut most = 0;
    for run in 0..runs {
        let grant = format!("g-{run}");
        house.deposit(&grant).await;
        let mut asks = JoinSet::new();
        for _ in 0..HERD {
            let (exchanges, grant) = (Arc::clone(&house.exchanges), grant.clone());
            asks.spawn(async move { exchanges.ask(&grant).await });
        }
        for asked in asks.join_all().await {
            assert_eq!(asked, Ok(()));
        }
        if !kept {
            assert_eq!(house.exchanges.ask(&grant).await, Ok(()));
        }
        let presented = house.presented();
        most = most.max(presented.times.get(&grant).copied().unwrap_or_default());
    }
    house.oracle.stop().await;
    most
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_bar_ten_thousand_asks_are_one_presentation() {
    let runs = count(20, 2);
    let most = herds(runs, true).await;
    assert!(most > 0, "nothing was presented");
    judge("herd_upstream_refreshes", most, 1.0, runs, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_bar_canary_a_herd_that_asks_twice_is_seen() {
    assert!(herds(1, false).await > 1);
}

/// Grants that callers ask for and hang up on.
const HUNG_UP_ON: u64 = 40;

/// So many callers for one that hangs up before it has its answer: a quick machine answers many.
const ASKS_FOR_ONE: u64 = 50;

/// Callers that hang up at some moment, until so many did it before they had their answer: how many grants are not as
/// the provider has them.
async fn cancelled(runs: u64, seed: u64, own_task: bool) -> u64 {
    let mut house = House::new("strict", &[]).await;
    house.slow(10).await;
    for n in 0..HUNG_UP_ON {
        house.deposit(&format!("g-{n}")).await;
    }
    let mut dice = Dice::new(seed);
    let (mut hung_up, mut asked) = (0, 0);
    while hung_up < runs {
        assert!(
            asked < ASKS_FOR_ONE * runs,
            "{hung_up} of {asked} hung up in time"
        );
        let mut asks = Vec::new();
        for n in 0..HUNG_UP_ON {
            let (exchanges, grant) = (Arc::clone(&house.exchanges), format!("g-{n}"));
            let ask = tokio::spawn(async move {
                if own_task {
                    careless(&exchanges, &grant, false).await
                } else {
                    exchanges.ask(&grant).await
                }
            });
            asks.push((ask, dice.below(25)));
        }
        asks.sort_by_key(|(_, after_ms)| *after_ms);
        let mut passed = 0;
        for (ask, after_ms) in asks {
            tokio::time::sleep(Duration::from_millis(after_ms - passed)).await;
            passed = after_ms;
            ask.abort();
            hung_up += u64::from(ask.await.is_err_and(|error| error.is_cancelled()));
            asked += 1;
        }
    }
    house.oracle.well().await;
    let mut lost = 0;
    for n in 0..HUNG_UP_ON {
        let settled = house.exchanges.ask_until_settled(&format!("g-{n}")).await;
        lost += u64::from(settled.is_err());
    }
    let presented = house.presented();
    assert_eq!(presented.at_once, 0, "presented twice at a time");
    for (grant, times) in &presented.times {
        let durable = house.exchanges.grant(grant).refresh_generation;
        // Each presentation was answered by a successor, and each is here. The deposit was the first.
        let expected = times + 1;
        if house.exchanges.grant(grant).needs_consent.is_none() {
            lost += u64::from(durable != expected);
        }
    }
    house.oracle.stop().await;
    lost
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_bar_callers_that_hang_up_lose_nothing() {
    let (runs, seed) = (count(1_000, 80), 0xca11);
    let lost = cancelled(runs, seed, false).await;
    judge("cancelled_callers_lost", lost, 0.0, runs, seed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_bar_canary_an_exchange_that_is_its_callers_is_seen_to_be_lost() {
    // A grant that is lost answers at once, and nobody hangs up on it any more.
    assert!(cancelled(20, 1, true).await > 0);
}

/// How long the provider holds an answer back in a race: no ask is answered by it earlier.
const HELD_BACK: Duration = Duration::from_millis(60);

#[expect(
    clippy::disallowed_methods,
    reason = "a test tells what was before from what was behind"
)]
fn now() -> Instant {
    Instant::now()
}

/// Freezes while an exchange of the grant may be under way: how many asks were answered with a token although the
/// freeze had been acknowledged, and how many exchanges there were.
async fn freezes(runs: u64, seed: u64, elsewhere: bool) -> (u64, u64) {
    let mut house = House::new("grace", &[]).await;
    let held_back_ms = u64::try_from(HELD_BACK.as_millis()).unwrap();
    house.slow(held_back_ms).await;
    let grants: Vec<String> = (0..8).map(|n| format!("g-{n}")).collect();
    for grant in grants.iter().map(String::as_str).chain(["other"]) {
        house.deposit(grant).await;
    }
    let mut races = JoinSet::new();
    let mut dice = Dice::new(seed);
    let share = runs.div_ceil(grants.len() as u64);
    for grant in &grants {
        let exchanges = Arc::clone(&house.exchanges);
        let (grant, mut dice) = (grant.clone(), Dice::new(dice.below(u64::MAX)));
        races.spawn(async move {
            let (mut released, mut judged) = (0_u64, 0_u64);
            while judged < share {
                let frozen = if elsewhere { "other" } else { &grant };
                let began = now();
                let under_way = {
                    let (exchanges, grant) = (Arc::clone(&exchanges), grant.clone());
                    tokio::spawn(async move { exchanges.ask(&grant).await })
                };
                tokio::time::sleep(Duration::from_millis(dice.below(40))).await;
                let acknowledged = exchanges.freeze(frozen).await;
                // Then the provider's answer came behind the acknowledgement.
                let surely_before = now().duration_since(began) < HELD_BACK;
                let behind = exchanges.ask(&grant).await;
                let under_way = under_way.await.unwrap();
                // Two freezes of one thing are one too many, in the canary.
                let acknowledged = acknowledged && surely_before;
                released += u64::from(acknowledged && under_way.is_ok());
                released += u64::from(acknowledged && behind.is_ok());
                judged += u64::from(acknowledged);
                exchanges.thaw(frozen).await;
            }
            released
        });
    }
    let mut released = 0;
    while let Some(raced) = races.join_next().await {
        released += raced.unwrap();
    }
    let exchanges = house.presented().times.values().sum();
    house.oracle.stop().await;
    (released, exchanges)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_bar_no_token_follows_an_acknowledged_freeze() {
    let (runs, seed) = (count(1_000, 40), 0xf2ee2e);
    let (released, exchanges) = freezes(runs, seed, false).await;
    assert!(
        exchanges > runs / 2,
        "{exchanges} exchanges in {runs} races"
    );
    judge("tokens_after_acked_freeze", released, 0.0, runs, seed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_bar_canary_a_freeze_of_something_else_is_seen() {
    assert!(freezes(8, 1, true).await.0 > 0);
}

/// An answer that is cut at each byte: the new token is taken whole or not at all. Gives the tokens that the provider
/// never gave out, and the bytes.
async fn truncations(every: usize, made_up: bool) -> (u64, u64, u64) {
    let mut house = House::new("strict", &[]).await;
    let (mut wrong, mut cut, mut salvaged) = (0, 0, 0);
    for at_byte in (0..).step_by(every) {
        let grant = format!("g-{at_byte}");
        house.deposit(&grant).await;
        let fault = Fault::at_token(true, Answer::Truncated { at_byte });
        house.oracle.fault(&fault).await;
        let met = house.exchanges.ask(&grant).await;
        let whole = met.is_ok();
        cut += u64::from(!whole);
        if made_up && at_byte == 0 {
            house.exchanges.deposit(&grant, "a-token-of-its-own").await;
        }
        let next = house.exchanges.ask_until_settled(&grant).await;
        salvaged += u64::from(next.is_ok() && !whole);
        let lost = matches!(next, Err(RefreshError::NeedsConsent { .. }));
        assert!(next.is_ok() || lost, "cut at {at_byte}: {next:?}");
        wrong += house.presented().unknown;
        if whole || made_up {
            break;
        }
    }
    house.oracle.stop().await;
    (wrong, cut, salvaged)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_bar_an_answer_cut_at_any_byte_gives_no_wrong_token() {
    let every = if effort::is_full() { 1 } else { 11 };
    let (wrong, cut, salvaged) = truncations(every, false).await;
    // Behind the token there are scope and type.
    assert!(salvaged > 0 && salvaged < cut, "{salvaged} of {cut}");
    judge("truncated_body_wrong_token", wrong, 0.0, cut, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_bar_canary_a_token_that_nobody_gave_is_seen() {
    assert!(truncations(1, true).await.0 > 0);
}

/// One store that goes away behind the provider's answer, for a while. Gives whether something was released
/// meanwhile, and whether the grant was lost.
async fn store_down(away: Duration, hasty: bool) -> (bool, bool) {
    let folder = tempfile::tempdir().unwrap();
    let (dir, switch) = StuckDir::around(StateDir::lock(folder.path()).unwrap());
    let mut house = House::over(folder, dir, "strict", &[]).await;
    house.slow(300).await;
    house.deposit("g").await;
    let exchanges = Arc::clone(&house.exchanges);
    let asked = tokio::spawn(async move {
        if hasty {
            careless(&exchanges, "g", true).await
        } else {
            exchanges.ask("g").await
        }
    });
    // The provider has acted and holds its answer back.
    wait_for("the token is presented", async || {
        (!house.presented().times.is_empty()).then_some(())
    })
    .await;
    switch.stick(true);
    // A caller that comes meanwhile waits as well.
    let exchanges = Arc::clone(&house.exchanges);
    let came_later = tokio::spawn(async move { exchanges.ask("g").await });
    tokio::time::sleep(away).await;
    let over = [asked.is_finished(), came_later.is_finished()];
    let refused = switch.refused();
    assert!(hasty || refused > 0, "the store was not asked for anything");
    switch.stick(false);
    let answers = [asked.await.unwrap(), came_later.await.unwrap()];
    let released = over
        .iter()
        .zip(&answers)
        .any(|(over, answer)| *over && answer.is_ok());
    house.oracle.well().await;
    let settled = house.exchanges.ask_until_settled("g").await;
    // As the next process finds it.
    let House {
        exchanges,
        oracle,
        folder,
        ..
    } = house;
    let generation = exchanges.grant("g").refresh_generation;
    let exchanges = Arc::into_inner(exchanges).unwrap();
    exchanges.close().await;
    let keys = keys(folder.path());
    let end = Box::new(|kind| panic!("a sync failed: {kind}"));
    let dir = StateDir::lock(folder.path()).unwrap();
    let again = Exchanges::open(dir, &keys, POLICY, end).await;
    let lost = settled.is_err() || again.grant("g").refresh_generation != generation;
    oracle.stop().await;
    (released, lost)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_bar_a_store_that_is_away_delays_and_loses_nothing() {
    let runs = count(20, 2);
    let away = Duration::from_secs(count(30, 2));
    let (mut released, mut lost) = (0, 0);
    let here = tokio::task::LocalSet::new();
    let all = async {
        let mut stores = JoinSet::new();
        for _ in 0..runs {
            stores.spawn_local(store_down(away, false));
        }
        stores.join_all().await
    };
    for store in here.run_until(all).await {
        released += u64::from(store.0);
        lost += u64::from(store.1);
    }
    judge("store_down_released_before_durable", released, 0.0, runs, 0);
    judge("store_down_lost", lost, 0.0, runs, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_bar_canary_a_token_that_is_released_in_haste_is_seen() {
    let (released, lost) = store_down(Duration::from_secs(2), true).await;
    assert!(released && lost, "released {released}, lost {lost}");
}

/// What a connection can do to a request that a careless client would send again.
async fn transports(runs: u64, again: bool) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let dir = StateDir::lock(folder.path()).unwrap();
    let end = Box::new(|kind| panic!("a sync failed: {kind}"));
    let exchanges = Exchanges::open(dir, &keys(folder.path()), POLICY, end).await;
    let wire = Wire::lay().await;
    let mut terms = Terms::brisk(&wire.token_endpoint(), Rotation::Strict);
    terms.profile.quiet_ms = 0;
    exchanges.furnish(&terms).await;
    exchanges.deposit("g", "a-token").await;
    let mut duplicates = 0;
    for run in 0..runs {
        let habit = Habit::ALL[usize::try_from(run).unwrap() % Habit::ALL.len()];
        wire.behave(habit);
        let before = wire.posts();
        let met = exchanges.ask("g").await;
        assert_eq!(met.is_ok(), habit.answers(), "{habit:?}: {met:?}");
        if again && met.is_err() {
            drop(exchanges.ask("g").await);
        }
        let posts = wire.posts() - before;
        assert!(posts > 0, "{habit:?}: nothing came");
        duplicates += posts - 1;
        // It works again, and so the provider is not left alone for a while.
        wire.behave(Habit::Honest);
        let settled = exchanges.ask_until_settled("g").await;
        assert_eq!(settled, Ok(()), "behind {habit:?}");
    }
    duplicates
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_bar_no_transport_sends_a_request_twice() {
    let runs = count(500, 32);
    let duplicates = transports(runs, false).await;
    judge("duplicate_posts_by_transport", duplicates, 0.0, runs, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_bar_canary_a_client_that_sends_again_is_seen() {
    assert!(transports(16, true).await > 0);
}

/// A grant that the provider calls dead, asked for every second of simulated hours: the calls in the busiest hour.
async fn dead_grant(hours: u64, answer: (u16, &'static str)) -> u64 {
    let mut core = Core::new().await;
    let mut now = BEGIN;
    let grant = GrantId::parse("contacts").unwrap();
    let mut busiest = 0;
    for hour in 0..hours {
        let mut calls = 0;
        for second in 0..3_600 {
            now.mono_ms += 1_000;
            now.lo_s += 1;
            now.hi_s += 1;
            let due = core.enclave.due_for_keep_alive(&now, None, 8);
            // A caller each second, and whatever keeps tokens alive each minute.
            let asks = if second % 60 == 0 { 1 + due.len() } else { 1 };
            for _ in 0..asks {
                calls += core.exchange(&grant, answer, &now).await;
            }
        }
        busiest = busiest.max(calls);
        // It forgets what it had in memory.
        if hour % 6 == 5 {
            core.restart(&now).await;
        }
    }
    busiest
}

#[tokio::test]
async fn refresh_bar_a_dead_grant_is_left_alone() {
    let hours = count(24, 24);
    let mut busiest = 0;
    for answer in [
        (400, r#"{"error":"invalid_grant"}"#),
        (401, r#"{"error":"invalid_grant"}"#),
        (200, r#"{"error":"invalid_grant"}"#),
    ] {
        let calls = dead_grant(hours, answer).await;
        assert!(calls > 0, "{answer:?}: the provider was never asked");
        busiest = busiest.max(calls);
    }
    judge("dead_grant_calls_per_hour", busiest, 1.0, hours, 0);
}

#[tokio::test]
async fn refresh_bar_canary_a_grant_that_is_asked_for_all_the_time_is_seen() {
    let refused = (400, r#"{"error":"invalid_client"}"#);
    assert!(dead_grant(1, refused).await > 1);
}
