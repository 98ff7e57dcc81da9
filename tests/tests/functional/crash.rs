//! kill -9 under load: what was acknowledged holds, and each grant works or says why not.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use dev::names;
use http::Method;
use proto::v1;
use proto::v1::GrantState;
use proto::v1::freeze_subject::Subject;
use ring::rand::{SecureRandom as _, SystemRandom};
use testkit::provider::{Answer, Event, Fault, Outcome, Standing};
use tests::binary::binary;
use tests::caller::{Caller, refused};
use tests::effort;
use tests::stack::{Blueprint, Stack};
use tests::wait::wait_for;
use tokenkeep::rpc_error::answer;
use tokenkeep::{DpopKey, Signer as _};
use tokio::task::JoinHandle;
use tonic::Code;

/// Callers that never stop.
const CALLERS: usize = 4;

/// Kills on every day, and all of them.
fn kills() -> u64 {
    if effort::is_full() { 200 } else { 15 }
}

/// A moment within `below_ms`.
fn moment(below_ms: u16) -> Duration {
    let mut bytes = [0; 2];
    SystemRandom::new().fill(&mut bytes).unwrap();
    Duration::from_millis(u64::from(u16::from_le_bytes(bytes) % below_ms))
}

/// Calls in a loop, whatever comes back, until it is told to stop; counts the good answers.
struct Load {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    async fn start(stack: &Stack) -> Self {
        let caller = Arc::new(Caller::of(stack).await);
        let token = caller.token().await;
        let nonce = caller.gateway_nonce().await;
        let (stop, good) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let tasks = (0..CALLERS)
            .map(|_| {
                let (caller, stop, good) =
                    (Arc::clone(&caller), Arc::clone(&stop), Arc::clone(&good));
                let (token, nonce) = (token.clone(), nonce.clone());
                tokio::spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        match caller
                            .try_call(Method::GET, "/contacts", &token, &nonce)
                            .await
                        {
                            Ok(reply) if reply.status == 200 => {
                                good.fetch_add(1, Ordering::Relaxed);
                            }
                            // The service is down, or the grant is: both are looked at below.
                            Ok(_) | Err(_) => tokio::task::yield_now().await,
                        }
                    }
                })
            })
            .collect();
        Self { stop, good, tasks }
    }

    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        self.good.load(Ordering::Relaxed)
    }
}

async fn jwks(caller: &Caller, stack: &Stack) -> serde_json::Value {
    let reply = caller
        .https
        .get(&format!("{}/jwks.json", stack.url("public_url")))
        .await;
    assert_eq!(reply.status, 200);
    reply.json()
}

/// What was presented, in order: how good it was and what came of it.
fn presentations(stack: &Stack) -> Vec<(Standing, Outcome)> {
    let entries = stack.ledger().entries.into_iter();
    entries
        .filter_map(|entry| match entry.event {
            Event::Presented {
                standing, outcome, ..
            } => Some((standing, outcome)),
            Event::Consented { .. }
            | Event::Revoked { .. }
            | Event::Faulted { .. }
            | Event::ApiCall { .. } => None,
        })
        .collect()
}

/// The thumbprints of all DPoP keys that are frozen, as the administrator sees them.
async fn frozen_keys(stack: &Stack) -> Vec<String> {
    let request = v1::ListFreezesRequest {
        tenant: names::TENANT.to_owned(),
    };
    let admin = stack.admin().await;
    let found = answer(admin.grants().list_freezes(request)).await.unwrap();
    let freezes = found.into_inner().freezes.into_iter();
    let mut keys: Vec<String> = freezes
        .filter_map(|freeze| match freeze.subject?.subject? {
            Subject::Jkt(jkt) => Some(jkt),
            Subject::Client(_)
            | Subject::Grant(_)
            | Subject::App(_)
            | Subject::Vendor(_)
            | Subject::Tenant(_)
            | Subject::Provider(_) => None,
        })
        .collect();
    keys.sort();
    keys
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_service_comes_back_with_its_grants_keys_and_freezes() {
    // Short-lived upstream tokens: the load makes exchanges all the time.
    let mut stack = Stack::with_grant(Blueprint {
        expires_in_s: 1,
        ..Blueprint::default()
    })
    .await;
    let keys = jwks(&Caller::of(&stack).await, &stack).await;
    let (mut acknowledged, mut losses, mut aimed, mut good) = (Vec::new(), 0, 0, 0);
    for kill in 0..kills() {
        let jkt = DpopKey::generate().unwrap().jkt().to_string();
        stack.freeze(Subject::Jkt(jkt.clone())).await;
        acknowledged.push(jkt);
        let slow = Fault::at_token(true, Answer::Honest)
            .delayed_by_ms(200)
            .times(50);
        stack.provider().fault(slow).unwrap();
        let presented = presentations(&stack).len();
        let load = Load::start(&stack).await;
        if kill % 3 == 0 {
            // Surely within an exchange: the provider has rotated and holds its answer back.
            wait_for("an exchange runs", async || {
                (presentations(&stack).len() > presented).then_some(())
            })
            .await;
            aimed += 1;
        } else {
            tokio::time::sleep(moment(900)).await;
        }
        stack.kill().await;
        good += load.stop().await;
        stack.provider().clear_faults();
        stack.restart().await;

        let caller = Caller::of(&stack).await;
        assert_eq!(jwks(&caller, &stack).await, keys, "after kill {kill}");
        acknowledged.sort();
        assert_eq!(frozen_keys(&stack).await, acknowledged, "after kill {kill}");
        let before = presentations(&stack).len();
        // The exchange that was cut off is given time to come to its end at the provider.
        let token = caller.token().await;
        let reply = caller.call_in_turn("/contacts", &token, "").await;
        let state = stack.grant_state(names::GRANT).await;
        if reply.status == 200 {
            assert_eq!(
                state,
                (GrantState::Active, String::new()),
                "after kill {kill}"
            );
        } else {
            assert_eq!(
                (reply.refusal(), state),
                (
                    (403, "NEEDS_CONSENT".to_owned()),
                    (GrantState::NeedsConsent, "lost_in_exchange".to_owned())
                ),
                "after kill {kill}"
            );
            // Nothing else may end a grant: the provider had given a successor that never arrived.
            let reuse = (Standing::Superseded, Outcome::FamilyRevoked);
            let superseded = presentations(&stack)[before..].contains(&reuse);
            assert!(superseded, "after kill {kill}: lost without a cause");
            losses += 1;
            stack.deposit().await;
            assert_eq!(caller.contacts().await.status, 200, "after kill {kill}");
        }
    }
    assert!(good > 0, "the load did something");
    assert!(
        losses >= aimed,
        "kills did hit exchanges: {losses} of {aimed}"
    );
    let reuses = presentations(&stack)
        .into_iter()
        .filter(|(standing, _)| *standing != Standing::Current);
    assert_eq!(reuses.count(), losses, "a dead grant is not tried again");
}

#[tokio::test]
async fn an_acknowledged_freeze_holds_after_a_kill() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    let token = Caller::of(&stack).await.token().await;
    stack
        .freeze(Subject::Client(names::CLIENT.to_owned()))
        .await;
    stack.kill().await;
    stack.restart().await;
    let caller = Caller::of(&stack).await;
    let proof = caller.issue_proof(&caller.nonce().await);
    let status = caller.issue(caller.request(), &[&proof]).await.unwrap_err();
    assert_eq!(
        refused(status),
        (Code::FailedPrecondition, "FROZEN".to_owned())
    );
    let reply = caller.call(Method::GET, "/contacts", &token).await;
    assert_eq!(reply.refusal(), (403, "FROZEN".to_owned()));
}

/// The walk for newcomers ends well only if the loss was found out, told of and mended.
#[tokio::test]
async fn the_walk_through_a_crash_ends_with_a_new_consent() {
    let walked = tokio::process::Command::new(binary("tokenkeep-dev"))
        .arg("crash")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(walked.stdout).unwrap();
    let failed = String::from_utf8(walked.stderr).unwrap();
    assert!(walked.status.success(), "{said}{failed}");
    assert!(said.contains("lost_in_exchange"), "{said}");
    assert!(said.contains("All as it must be."), "{said}");
}

#[tokio::test]
async fn a_restart_ends_older_nonces_but_no_token() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    let nonce = caller.gateway_nonce().await;
    stack.kill().await;
    stack.restart().await;
    let stale = caller
        .try_call(Method::GET, "/contacts", &token, &nonce)
        .await
        .unwrap();
    assert_eq!(stale.refusal(), (401, "USE_DPOP_NONCE".to_owned()));
    assert_eq!(
        caller.call(Method::GET, "/contacts", &token).await.status,
        200
    );
}
