//! A stop is true when it is acknowledged: for what is asked, for what is open, for what is under way.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dev::names;
use http::Method;
use http_body_util::BodyExt as _;
use proto::v1;
use proto::v1::GrantState;
use proto::v1::freeze_subject::Subject;
use proto::v1::token_service_client::TokenServiceClient;
use testkit::provider::{Answer, Event, Fault, RevokedBy};
use tests::bars::{self, Bar, Row};
use tests::caller::{Caller, refused};
use tests::effort;
use tests::https::Streaming;
use tests::stack::{Blueprint, Stack};
use tests::wait::{PATIENCE, wait_for};
use tokenkeep::rpc_error::answer;
use tokenkeep::{DpopKey, Signer as _};

/// One subject of each kind that a request of the caller touches.
pub(crate) fn kinds(caller: &Caller) -> [Subject; 7] {
    [
        Subject::Tenant(names::TENANT.to_owned()),
        Subject::Vendor(names::VENDOR.to_owned()),
        Subject::Client(names::CLIENT.to_owned()),
        Subject::Provider(names::PROVIDER.to_owned()),
        Subject::App(names::APP.to_owned()),
        Subject::Grant(names::GRANT.to_owned()),
        Subject::Jkt(caller.key.jkt().to_string()),
    ]
}

/// Whether a token holds, over gRPC: nothing of it is told behind a stop.
pub(crate) async fn introspect(caller: &Caller, token: &str) -> Result<(), String> {
    let transport = caller.channel.transport().clone();
    let mut client = TokenServiceClient::with_origin(transport, caller.grpc().clone());
    let asked = v1::IntrospectTokenRequest {
        token: token.to_owned(),
    };
    match client.introspect_token(asked).await {
        Ok(told) if told.get_ref().active => Ok(()),
        Ok(told) => {
            assert_eq!(*told.get_ref(), v1::IntrospectTokenResponse::default());
            Err("FROZEN".to_owned())
        }
        Err(status) => Err(refused(status).1),
    }
}

/// A download that goes on for hours.
pub(crate) const ENDLESS: &str = "/stream?chunks=1000000&chunk_bytes=64&interval_ms=20";

/// A stream whose next event comes in a minute.
const QUIET: &str = "/stream?chunks=1000&chunk_bytes=64&interval_ms=60000";

pub(crate) async fn open(caller: &Caller, path: &str, token: &str) -> Streaming {
    let nonce = caller.gateway_nonce().await;
    let mut answer = caller.open(path, token, &nonce).await.unwrap();
    assert_eq!(answer.response.status(), 200);
    let first = answer.response.body_mut().frame().await.unwrap().unwrap();
    assert!(first.data_ref().unwrap().starts_with(b"0 "));
    answer
}

/// Waits until the connection is cut; an orderly end would be a lie.
pub(crate) async fn cut(mut answer: Streaming) {
    let ended = tokio::time::timeout(PATIENCE, async {
        loop {
            match answer.response.body_mut().frame().await {
                Some(Ok(_)) => {}
                Some(Err(_)) => return true,
                None => return false,
            }
        }
    });
    assert_eq!(ended.await, Ok(true), "the stream must be cut");
}

pub(crate) async fn revoke(stack: &Stack, id: &str) -> v1::Grant {
    let request = v1::RevokeGrantRequest {
        id: id.to_owned(),
        reason: "a test".to_owned(),
    };
    let admin = stack.admin().await;
    let ended = answer(admin.grants().revoke_grant(request)).await;
    ended.unwrap().into_inner().grant.unwrap()
}

pub(crate) async fn delete(stack: &Stack, id: &str) {
    let request = v1::DeleteGrantRequest { id: id.to_owned() };
    let admin = stack.admin().await;
    answer(admin.grants().delete_grant(request)).await.unwrap();
}

#[tokio::test]
async fn each_freeze_cuts_the_streams_that_it_covers_and_no_other() {
    let stack = Stack::with_grant(Blueprint::default()).await;
    stack.deposit_as("other").await;
    let caller = Caller::of(&stack).await;
    let other = caller.at("other");
    let (token, other_token) = (caller.token().await, other.token().await);
    for path in [ENDLESS, QUIET] {
        for subject in kinds(&caller) {
            let open = open(&caller, path, &token).await;
            stack.freeze(subject.clone()).await;
            cut(open).await;
            stack.thaw(subject).await;
        }
    }
    // A freeze of one grant leaves the other's stream alone.
    let ours = open(&caller, QUIET, &token).await;
    let mut theirs = open(&other, ENDLESS, &other_token).await;
    let grant = Subject::Grant(names::GRANT.to_owned());
    stack.freeze(grant.clone()).await;
    cut(ours).await;
    let more = theirs.response.body_mut().frame().await;
    assert!(more.unwrap().is_ok());
    stack.thaw(grant).await;
    assert!(stack.log().contains("frozen"));
}

#[tokio::test]
async fn a_call_that_waits_for_the_api_ends_when_it_is_frozen() {
    let stack = Stack::with_grant(Blueprint {
        log_level: "debug",
        ..Blueprint::default()
    })
    .await;
    let caller = Arc::new(Caller::of(&stack).await);
    let token = caller.token().await;
    let warm = caller.call(Method::GET, "/contacts", &token).await;
    assert_eq!(warm.status, 200);
    // Longer than any test waits.
    let held = Fault::at_api(true, Answer::Honest).delayed_by_ms(60_000);
    stack.provider().fault(held).unwrap();
    let waiting = {
        let (caller, token) = (Arc::clone(&caller), token.clone());
        tokio::spawn(async move { caller.call(Method::GET, "/contacts", &token).await })
    };
    wait_for("the API has the call", async || {
        let forwarded = stack.log().matches("call_forwarded").count();
        (forwarded == 2).then_some(())
    })
    .await;
    stack.freeze(Subject::Grant(names::GRANT.to_owned())).await;
    let reply = tokio::time::timeout(PATIENCE, waiting).await;
    let frozen = (403, "FROZEN".to_owned());
    assert_eq!(reply.unwrap().unwrap().refusal(), frozen);
}

#[tokio::test]
async fn a_revoked_grant_stays_dead_across_restarts_and_racing_exchanges() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    let caller = Arc::new(Caller::of(&stack).await);
    let token = caller.token().await;
    // An exchange is under way: the provider has rotated the token and holds its answer back.
    let held = Fault::at_token(true, Answer::Honest).delayed_by_ms(2_000);
    stack.provider().fault(held).unwrap();
    let racing = {
        let (caller, token) = (Arc::clone(&caller), token.clone());
        tokio::spawn(async move { caller.call(Method::GET, "/contacts", &token).await })
    };
    wait_for("the token is presented", async || {
        (stack.ledger().entries.len() > 1).then_some(())
    })
    .await;
    let ended = revoke(&stack, names::GRANT).await;
    assert_eq!(ended.state(), GrantState::Revoked);
    let gone = (403, "GRANT_REVOKED".to_owned());
    assert_eq!(racing.await.unwrap().refusal(), gone);
    wait_for("the exchange came to its end", async || {
        stack.log().contains("refresh_failed").then_some(())
    })
    .await;

    for round in 0..2 {
        if round > 0 {
            stack.kill().await;
            stack.restart().await;
        }
        let caller = Caller::of(&stack).await;
        assert_eq!(stack.grant(names::GRANT).await.state(), GrantState::Revoked);
        let reply = caller.call(Method::GET, "/contacts", &token).await;
        assert_eq!(reply.refusal(), gone);
        let nonce = caller.nonce().await;
        let proof = caller.issue_proof(&nonce);
        let asked = Box::pin(caller.issue(caller.request(), &[&proof])).await;
        let (code, reason) = refused(asked.unwrap_err());
        let expected = (tonic::Code::FailedPrecondition, "GRANT_REVOKED");
        assert_eq!((code, reason.as_str()), expected);
    }
    // The provider was told, and has no use for the successor any more.
    wait_for("the provider was told", async || {
        let grant = stack.grant(names::GRANT).await;
        (grant.provider_told == "proved" && !grant.revocation_pending).then_some(())
    })
    .await;
    let by_client = |event: &Event| {
        matches!(
            event,
            Event::Revoked {
                by: RevokedBy::Client,
                ..
            }
        )
    };
    let entries = stack.ledger().entries;
    assert!(entries.iter().any(|entry| by_client(&entry.event)));
    // Deleted, the id serves a new consent.
    delete(&stack, names::GRANT).await;
    stack.deposit().await;
    let caller = Caller::of(&stack).await;
    assert_eq!(caller.contacts().await.status, 200);
}

/// How often is frozen and thawed.
fn freezes() -> u64 {
    if effort::is_full() { 1_000 } else { 25 }
}

/// Callers that ask for tokens and use them, all the time.
const WORKERS: usize = 4;

/// Even while nothing is frozen; odd from the acknowledgement of a freeze until thawing begins.
#[derive(Debug, Default)]
struct Phase {
    now: AtomicU64,
    /// What was asked and answered within one frozen phase.
    asked_while_frozen: AtomicU64,
    released_while_frozen: AtomicU64,
    released: AtomicU64,
}

impl Phase {
    async fn attempt(&self, asked: impl Future<Output = Result<(), String>>) {
        let before = self.now.load(Ordering::SeqCst);
        let outcome = asked.await;
        let whole = before % 2 == 1 && self.now.load(Ordering::SeqCst) == before;
        match outcome {
            Ok(()) if whole => self.released_while_frozen.fetch_add(1, Ordering::SeqCst),
            Ok(()) => self.released.fetch_add(1, Ordering::SeqCst),
            Err(reason) if whole && reason == "FROZEN" => {
                self.asked_while_frozen.fetch_add(1, Ordering::SeqCst)
            }
            Err(_) => 0,
        };
    }
}

async fn work(caller: Caller, phase: Arc<Phase>) {
    let mut token = caller.token().await;
    loop {
        let nonce = caller.nonce().await;
        phase
            .attempt(async {
                let proof = caller.issue_proof(&nonce);
                match Box::pin(caller.issue(caller.request(), &[&proof])).await {
                    Ok(issued) => {
                        token = issued.access_token;
                        Ok(())
                    }
                    Err(status) => Err(refused(status).1),
                }
            })
            .await;
        phase.attempt(introspect(&caller, &token)).await;
        let nonce = caller.gateway_nonce().await;
        phase
            .attempt(async {
                let called = caller
                    .try_call(Method::GET, "/contacts", &token, &nonce)
                    .await;
                match called {
                    Ok(reply) if reply.status == 200 => Ok(()),
                    Ok(reply) => Err(reply.reason()),
                    Err(error) => Err(error.to_string()),
                }
            })
            .await;
    }
}

/// What is frozen when the harness says so.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// What work is done with, one kind after the other.
    Honest,
    /// The canary bug: something else, so that the acknowledgement is not true.
    Elsewhere,
}

/// Freezes and thaws under load, and counts what was released in between.
async fn race(runs: u64, stop: Stop) -> Row {
    let stack = Stack::with_grant(Blueprint::default()).await;
    let first = Caller::of(&stack).await;
    assert_eq!(first.contacts().await.status, 200);
    let phase = Arc::new(Phase::default());
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let caller = Caller::of(&stack).await;
        workers.spawn(work(caller, Arc::clone(&phase)));
    }
    let admin = stack.admin().await;
    let all = match stop {
        Stop::Honest => kinds(&first).to_vec(),
        Stop::Elsewhere => vec![Subject::Jkt(DpopKey::generate().unwrap().jkt().to_string())],
    };
    for run in 0..runs {
        let subject = all[usize::try_from(run).unwrap() % all.len()].clone();
        let before = phase.released.load(Ordering::SeqCst);
        wait_for("work goes on", async || {
            (phase.released.load(Ordering::SeqCst) > before).then_some(())
        })
        .await;
        let subject = Some(v1::FreezeSubject {
            subject: Some(subject),
        });
        let freeze = v1::FreezeRequest {
            subject: subject.clone(),
            reason: String::new(),
            tenant: names::TENANT.to_owned(),
        };
        answer(admin.grants().freeze(freeze)).await.unwrap();
        phase.now.fetch_add(1, Ordering::SeqCst);
        let asked = phase.asked_while_frozen.load(Ordering::SeqCst);
        wait_for("workers ask in vain", async || {
            let more = phase.asked_while_frozen.load(Ordering::SeqCst);
            let released = phase.released_while_frozen.load(Ordering::SeqCst);
            (more > asked || released > 0).then_some(())
        })
        .await;
        phase.now.fetch_add(1, Ordering::SeqCst);
        let thaw = v1::ThawRequest {
            subject,
            tenant: names::TENANT.to_owned(),
        };
        answer(admin.grants().thaw(thaw)).await.unwrap();
    }
    workers.abort_all();
    let released = phase.released_while_frozen.load(Ordering::SeqCst);
    Row {
        name: "freeze_then_release",
        value: u32::try_from(released).unwrap().into(),
        unit: "count",
        bar: Bar::AtMost(0.0),
        runs,
        seed: 0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_bar_nothing_is_released_behind_an_acknowledged_freeze() {
    let row = race(freezes(), Stop::Honest).await;
    assert!(bars::record("state", row).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_bar_canary_a_freeze_that_is_not_true_is_seen() {
    let row = race(1, Stop::Elsewhere).await;
    assert!(row.value >= 1.0 && !row.met(), "{row:?}");
}

#[tokio::test]
async fn the_count_of_releases_behind_a_freeze_sees_one() {
    let phase = Phase::default();
    phase.attempt(async { Ok(()) }).await;
    phase.now.fetch_add(1, Ordering::SeqCst);
    phase.attempt(async { Err("FROZEN".to_owned()) }).await;
    // Begun while frozen, answered when thawed: says nothing.
    phase
        .attempt(async {
            phase.now.fetch_add(2, Ordering::SeqCst);
            Ok(())
        })
        .await;
    let counts = [
        &phase.released,
        &phase.asked_while_frozen,
        &phase.released_while_frozen,
    ];
    assert_eq!(counts.map(|count| count.load(Ordering::SeqCst)), [2, 1, 0]);
    phase.attempt(async { Ok(()) }).await;
    assert_eq!(phase.released_while_frozen.load(Ordering::SeqCst), 1);
}
