//! Every change leaves a leaf that names it, before it is acknowledged.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a failed test may panic"
)]

use proto::v1;
use serde_json::Value;
use tests::wait::wait_for;
use tokenkeep::rpc_error::answer;
use tonic::Code;

use super::asks::{self, Ask, By, Told};
use super::contract::Contract;
use super::judge_none;
use super::world::{self, World};

/// A log, and how many leaves it has.
type Size = (String, u64);

async fn sizes(world: &World) -> Vec<Size> {
    let logs = answer(world.root.audit().list_logs(v1::ListLogsRequest::default())).await;
    let logs = logs.unwrap().into_inner().logs;
    logs.into_iter().map(|log| (log.origin, log.size)).collect()
}

/// The leaves since then, as the one who may read them all sees them.
async fn since(world: &World, before: &[Size]) -> Vec<Value> {
    let mut events = Vec::new();
    for (log, from) in before {
        let request = v1::ListLeavesRequest {
            log: log.clone(),
            from: *from,
            page_size: 1_000,
            tenant: String::new(),
        };
        let leaves = answer(world.root.audit().list_leaves(request)).await;
        let leaves = leaves.unwrap().into_inner().leaves;
        let read = leaves.iter().filter(|leaf| !leaf.event.is_empty());
        events.extend(read.map(|leaf| serde_json::from_str::<Value>(&leaf.event).unwrap()));
    }
    events
}

fn is_told(events: &[Value], Told { kind, names }: &Told) -> bool {
    events.iter().any(|event| {
        let text = event.to_string();
        event["event"] == **kind && names.iter().all(|name| text.contains(name))
    })
}

/// Carries out a request; its answer must be good.
async fn carry_out(world: &World, contract: &Contract, ask: &Ask) {
    // With a proof.
    match ask.rpc {
        "TokenService/IssueToken" => return drop(world.caller.token().await),
        "TokenService/IssueTokens" => {
            let wanted = [world.caller.sdk_request()];
            let answers = Box::pin(world.caller.sdk().tokens(&wanted)).await.unwrap();
            return assert!(answers.iter().all(Result::is_ok));
        }
        _ => {}
    }
    let channel = match ask.by {
        By::Root | By::Anyone => &world.root,
        By::Owner => world.party("owner"),
        By::Client => &world.caller.channel,
    };
    let answered = world::ask(channel, contract.rpc(ask.rpc), &ask.message).await;
    assert_eq!(answered.code, Code::Ok, "{}: {}", ask.rpc, answered.text);
}

/// Lets the grant that is to be woken fall asleep.
async fn sleep(world: &World) {
    let request = v1::UpdateGrantRequest {
        id: "to-sleep".to_owned(),
        terms: Some(v1::GrantTerms {
            sleep_after_idle_s: 1,
            ..v1::GrantTerms::default()
        }),
    };
    answer(world.root.grants().update_grant(request))
        .await
        .unwrap();
    wait_for("the grant sleeps", async || {
        let state = world.stack.grant("to-sleep").await.state();
        (state == v1::GrantState::Asleep).then_some(())
    })
    .await;
}

/// Every changing RPC once; those whose leaf is not there. `looked` says up to where the log is looked at.
async fn untold(
    world: &World,
    looked: impl Fn(Vec<Value>) -> Vec<Value>,
) -> (Vec<&'static str>, usize) {
    let contract = Contract::read();
    let asks = Box::pin(asks::all(world, &contract)).await;
    Box::pin(sleep(world)).await;
    let (mut untold, mut changes) = (Vec::new(), 0);
    for ask in &asks {
        let before = sizes(world).await;
        Box::pin(carry_out(world, &contract, ask)).await;
        if let Some(told) = &ask.told {
            changes += 1;
            let events = looked(since(world, &before).await);
            if !is_told(&events, told) {
                untold.push(ask.rpc);
            }
        }
    }
    (untold, changes)
}

#[tokio::test]
async fn control_bar_every_change_leaves_a_leaf() {
    let world = Box::pin(World::new(None)).await;
    // What comes of a consent on a device is told of too: a person at the provider brought it about.
    let told = Told {
        kind: "connected",
        names: vec!["on-a-device".to_owned()],
    };
    wait_for("the consent on a device is told", async || {
        let logs = sizes(&world).await.into_iter();
        let whole: Vec<Size> = logs.map(|(log, _)| (log, 0)).collect();
        is_told(&since(&world, &whole).await, &told).then_some(())
    })
    .await;
    let (untold, changes) = Box::pin(untold(&world, |events| events)).await;
    judge_none("admin_changes_without_leaf", &untold, changes);
}

#[tokio::test]
async fn control_bar_canary_changes_that_leave_no_leaf_are_seen() {
    let world = Box::pin(World::new(None)).await;
    // A log that keeps quiet about freezes and says nothing of whom it was that was registered.
    let quiet = |events: Vec<Value>| {
        let mut events = events;
        events.retain(|event| event["event"] != "frozen");
        for event in &mut events {
            if event["event"] == "registered" {
                event["id"] = Value::Null;
            }
        }
        events
    };
    let (untold, _) = Box::pin(untold(&world, quiet)).await;
    assert_eq!(
        untold,
        [
            "RegistryService/CreateTenant",
            "RegistryService/CreateVendor",
            "RegistryService/CreateClient",
            "RegistryService/CreateProvider",
            "RegistryService/CreateApp",
            "GrantService/Freeze",
        ]
    );
}
