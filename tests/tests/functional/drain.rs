//! SIGTERM: what runs is finished, nothing new is taken, and the process ends with 0.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a failed test may panic"
)]

use dev::names;
use http_body_util::BodyExt as _;
use testkit::provider::{Answer, Event, Fault};
use tests::caller::Caller;
use tests::stack::{Blueprint, Stack};
use tests::wait::wait_for;

#[tokio::test]
async fn a_stream_is_finished_and_nobody_new_comes_in() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    let nonce = caller.gateway_nonce().await;
    let mut answer = caller
        .open("/stream?chunks=12&interval_ms=150", &token, &nonce)
        .await
        .unwrap();
    assert_eq!(answer.response.status(), 200);
    let first = answer.response.body_mut().frame().await.unwrap().unwrap();
    let mut body = first.into_data().unwrap().to_vec();

    stack.service().ask_to_stop().await;
    for name in ["grpc_url", "public_url", "gateway_url"] {
        wait_for("the listener is closed", async || {
            caller.https.connect(stack.url(name)).await.err()
        })
        .await;
    }
    let rest = answer.response.body_mut().collect().await.unwrap();
    body.extend_from_slice(&rest.to_bytes());
    let chunks = String::from_utf8(body).unwrap();
    let numbers: Vec<String> = chunks
        .lines()
        .map(|line| line.split_once(' ').unwrap().0.to_owned())
        .collect();
    let expected: Vec<String> = (0..12).map(|number| number.to_string()).collect();
    assert_eq!(numbers, expected);
    drop(answer);
    assert_eq!(stack.ended().await.code(), Some(0));
}

#[tokio::test]
async fn an_exchange_that_runs_is_committed_before_the_end() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    let nonce = caller.gateway_nonce().await;
    let held = Fault::at_token(true, Answer::Honest).delayed_by_ms(1_000);
    stack.provider().fault(held).unwrap();
    {
        let call = caller.open("/contacts", &token, &nonce);
        let mut call = std::pin::pin!(call);
        let presented = wait_for("the token is presented", async || {
            let entries = stack.ledger().entries;
            let mut events = entries.iter().map(|entry| &entry.event);
            events
                .any(|event| matches!(event, Event::Presented { .. }))
                .then_some(())
        });
        tokio::select! {
            biased;
            () = presented => {}
            answer = &mut call => panic!("the provider holds it back: {answer:?}"),
        }
        // The caller hangs up, and at once the operator stops the service.
    }
    assert_eq!(stack.stop().await.code(), Some(0));
    stack.restart().await;
    assert_eq!(stack.grant(names::GRANT).await.refresh_generation, 2);
    assert_eq!(Caller::of(&stack).await.contacts().await.status, 200);
}

#[tokio::test]
async fn an_idle_service_ends_at_once_and_comes_back() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    assert_eq!(stack.stop().await.code(), Some(0));
    stack.restart().await;
    assert_eq!(Caller::of(&stack).await.contacts().await.status, 200);
}
