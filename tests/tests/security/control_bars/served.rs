//! The same calls as [`reach`](super::reach) makes, over the service's own HTTPS, with a real API behind it: what it saw
//! is what passed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a failed test may panic"
)]

use dev::names;
use http::{Method, Uri};
use proto::v1;
use testkit::provider::Event;
use tests::caller::{Caller, DPOP};
use tests::dice::Dice;
use tests::stack::{Blueprint, Stack};
use tests::targets;

use super::oracle::{Agreed, CallAsk, Fate, May, OPERATIONS, may_call};
use super::reach::call_of;
use super::{SEED, runs};

const GRANT: &str = "listed";

/// Calls before another token is got.
const CALLS_A_TOKEN: usize = 200;

/// A grant that allows half of what its target has; `initech` has no policy.
fn agreed() -> Agreed {
    Agreed {
        id: GRANT.to_owned(),
        tenant: "initech",
        app: (GRANT, "sync", GRANT),
        clients: vec!["worker-a"],
        targets: vec![names::TARGET],
        scopes: names::SCOPES.to_vec(),
        operations: vec!["list", "update", "file"],
        approvals: Vec::new(),
        actors: 0,
        fate: Fate::Lives,
    }
}

/// Registers the target and the grant; `operations` are those that the grant lists.
async fn stack(operations: &[&str]) -> Stack {
    let stack = Stack::with_grant(Blueprint::default()).await;
    let listed = OPERATIONS
        .iter()
        .map(|(id, method, path, query, body)| v1::Operation {
            id: (*id).to_owned(),
            method: (*method).to_owned(),
            path: (*path).to_owned(),
            query: query.iter().map(|name| (*name).to_owned()).collect(),
            content_types: body.iter().map(|(of, _)| (*of).to_owned()).collect(),
            max_body_bytes: body.map(|(_, most)| most),
        });
    let target = v1::Target {
        operations: listed.collect(),
        ..targets::whole(&format!("{}/api", stack.provider().base_url()))
    };
    Box::pin(targets::add(&stack, GRANT, target, operations)).await;
    stack
}

/// Calls of the API that there were since then.
fn api_calls(stack: &Stack, since: &mut u64) -> usize {
    let page = stack.provider().ledger_since(*since, usize::MAX);
    *since = page.next_seq;
    let entries = page.entries.into_iter();
    entries
        .filter(|entry| matches!(entry.event, Event::ApiCall { .. }))
        .count()
}

/// What passed and may not, what may pass, and how much of it did.
#[derive(Debug, Default)]
struct Tally {
    beyond: Vec<CallAsk>,
    allowed: usize,
    passed: usize,
}

async fn calls(stack: &Stack, times: usize) -> Tally {
    let grants = [agreed()];
    let may = May {
        grant: GRANT.to_owned(),
        target: names::TARGET,
        scopes: names::SCOPES.to_vec(),
    };
    let caller = Caller::of(stack).await.at(GRANT);
    let (mut dice, mut tally, mut since) = (Dice::new(SEED), Tally::default(), 0);
    api_calls(stack, &mut since);
    let mut token = String::new();
    for time in 0..times {
        if time % CALLS_A_TOKEN == 0 {
            token = caller.token().await;
        }
        let ask = call_of(&grants, "worker-a", &may, 0, &mut dice);
        let url = format!("{}{}", stack.url("gateway_url"), ask.path);
        let query = ask
            .query
            .as_ref()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        let whole = format!("{url}{query}");
        // A length that is not known beforehand, or too large to send, is for the other half.
        let body = match ask.body_bytes {
            Some(bytes) if bytes < 10_000 => vec![b'1'; usize::try_from(bytes).unwrap()],
            _ => continue,
        };
        if whole.parse::<Uri>().is_err() {
            continue;
        }
        let nonce = caller.gateway_nonce().await;
        let proof = caller.proof(&ask.method, &url, &nonce, Some(&token));
        let authorization = format!("DPoP {token}");
        let mut headers = vec![("authorization", authorization.as_str()), (DPOP, &proof)];
        headers.extend(ask.content_types.iter().map(|of| ("content-type", *of)));
        let method = Method::from_bytes(ask.method.as_bytes()).unwrap();
        let reply = caller.https.try_send(method, &whole, &headers, body).await;
        // The ledger knows the calls that the API has a page for; the gateway says of each who answered it.
        let by_api = reply.is_ok_and(|reply| reply.header("tokenkeep-answered-by") == "api");
        let seen = api_calls(stack, &mut since).max(usize::from(by_api));
        let may = may_call(&grants, &ask);
        tally.allowed += usize::from(may);
        tally.passed += usize::from(may && seen == 1);
        if seen > usize::from(may) {
            tally.beyond.push(ask);
        }
    }
    tally
}

#[tokio::test]
async fn control_bar_no_call_of_the_service_is_out_of_policy() {
    let stack = stack(&agreed().operations).await;
    let tally = Box::pin(calls(&stack, runs(5_000, 200))).await;
    let Tally {
        beyond,
        allowed,
        passed,
    } = tally;
    assert!(
        allowed > 20 && passed * 10 >= allowed * 9,
        "{passed} of {allowed}"
    );
    assert!(beyond.is_empty(), "{beyond:#?}");
}

#[tokio::test]
async fn control_bar_canary_operations_that_were_left_out_are_seen_at_the_api() {
    let stack = stack(&[]).await;
    let tally = Box::pin(calls(&stack, 120)).await;
    assert!(!tally.beyond.is_empty(), "{tally:?}");
}
