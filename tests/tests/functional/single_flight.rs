//! One exchange a grant, on a task of its own, made durable before anything is done with it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a failed test may panic"
)]

use std::sync::Arc;

use dev::names;
use http::Method;
use proto::v1::GrantState;
use testkit::provider::{Answer, Event, Fault, Outcome, Standing};
use tests::caller::Caller;
use tests::stack::{Blueprint, Stack};
use tests::wait::wait_for;

/// Callers at a time.
const CALLERS: usize = 200;

/// Each presentation: its generation, how good it was, how many were open beside it, what came of it.
fn presentations(stack: &Stack) -> Vec<(Option<u64>, Standing, u32, Outcome)> {
    let entries = stack.ledger().entries.into_iter();
    entries
        .filter_map(|entry| match entry.event {
            Event::Presented {
                generation,
                standing,
                concurrent,
                outcome,
                ..
            } => Some((generation, standing, concurrent, outcome)),
            Event::Consented { .. }
            | Event::Revoked { .. }
            | Event::Faulted { .. }
            | Event::ApiCall { .. } => None,
        })
        .collect()
}

const FIRST: (Option<u64>, Standing, u32, Outcome) =
    (Some(0), Standing::Current, 0, Outcome::Rotated);
const SECOND: (Option<u64>, Standing, u32, Outcome) =
    (Some(1), Standing::Current, 0, Outcome::Rotated);

#[tokio::test]
async fn two_hundred_callers_on_a_cold_grant_are_one_presentation() {
    let stack = Stack::with_grant(Blueprint::default()).await;
    let caller = Arc::new(Caller::of(&stack).await);
    let token = caller.token().await;
    let nonce = caller.gateway_nonce().await;
    // Held back until all of them are there.
    let held = Fault::at_token(true, Answer::Honest).delayed_by_ms(4_000);
    stack.provider().fault(held).unwrap();
    let calls: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (caller, token, nonce) = (Arc::clone(&caller), token.clone(), nonce.clone());
            tokio::spawn(async move {
                let reply = caller
                    .try_call(Method::GET, "/contacts", &token, &nonce)
                    .await;
                reply.unwrap().refusal()
            })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), (200, String::new()));
    }
    assert_eq!(presentations(&stack), [FIRST]);
    // The deposit was the first.
    assert_eq!(stack.grant(names::GRANT).await.refresh_generation, 2);
}

#[tokio::test]
async fn a_caller_that_hangs_up_cancels_nothing() {
    let stack = Stack::with_grant(Blueprint::default()).await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    let nonce = caller.gateway_nonce().await;
    let held = Fault::at_token(true, Answer::Honest).delayed_by_ms(500);
    stack.provider().fault(held).unwrap();
    {
        let call = caller.open("/contacts", &token, &nonce);
        let mut call = std::pin::pin!(call);
        let presented = wait_for("the token is presented", async || {
            (!presentations(&stack).is_empty()).then_some(())
        });
        tokio::select! {
            biased;
            () = presented => {}
            answer = &mut call => panic!("the provider holds it back: {answer:?}"),
        }
        // Here the caller hangs up.
    }
    wait_for("the exchange is committed all the same", async || {
        (stack.grant(names::GRANT).await.refresh_generation == 2).then_some(())
    })
    .await;
    assert_eq!(
        caller.call(Method::GET, "/contacts", &token).await.status,
        200
    );
    assert_eq!(presentations(&stack), [FIRST]);
}

#[tokio::test]
async fn a_successor_is_durable_before_the_access_token_is_used() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    let nonce = caller.gateway_nonce().await;
    // The API never answers: the service dies at the first moment at which the access token is used.
    let held = Fault::at_api(true, Answer::Honest).delayed_by_ms(600_000);
    stack.provider().fault(held).unwrap();
    {
        let call = caller.open("/contacts", &token, &nonce);
        let mut call = std::pin::pin!(call);
        let used = wait_for("the access token is used", async || {
            let entries = stack.ledger().entries;
            let mut events = entries.iter().map(|entry| &entry.event);
            events
                .any(|event| matches!(event, Event::ApiCall { .. }))
                .then_some(())
        });
        tokio::select! {
            biased;
            () = used => {}
            answer = &mut call => panic!("the API holds it back: {answer:?}"),
        }
        stack.kill().await;
    }
    stack.restart().await;
    let caller = Caller::of(&stack).await;
    assert_eq!(caller.contacts().await.refusal(), (200, String::new()));
    assert_eq!(presentations(&stack), [FIRST, SECOND]);
    assert_eq!(
        stack.grant_state(names::GRANT).await,
        (GrantState::Active, String::new())
    );
}
