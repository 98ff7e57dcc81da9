//! What tenants hear of, over real gRPC and by the command line: in order, from any place on, and nobody else's.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use dev::names;
use proto::v1;
use proto::v1::freeze_subject::Subject;
use serde_json::Value;
use tests::binary::binary;
use tests::caller::refused;
use tests::stack::Stack;
use tests::wait::wait_for;
use tokenkeep::audit::{LogKeys, Receipt};
use tokenkeep::rpc_error::answer;
use tokenkeep::{AttestedChannel, TokenClient, TokenRequest};
use tonic::{Code, Streaming};

use crate::keys::admin;

fn watch(from: Option<u64>, kinds: &[v1::EventKind]) -> v1::WatchRequest {
    v1::WatchRequest {
        tenant: names::TENANT.to_owned(),
        from,
        kinds: kinds.iter().map(|kind| (*kind).into()).collect(),
        until_now: false,
    }
}

async fn begin(
    channel: &AttestedChannel,
    request: v1::WatchRequest,
) -> Streaming<v1::WatchResponse> {
    let stream = answer(channel.events().watch(request)).await.unwrap();
    stream.into_inner()
}

/// As many events as are wanted, and where to go on.
async fn next(stream: &mut Streaming<v1::WatchResponse>, count: usize) -> (Vec<v1::Event>, u64) {
    let (mut events, mut place) = (Vec::new(), 0);
    while events.len() < count {
        let message = stream.message().await.unwrap().unwrap();
        events.extend(message.events);
        place = message.next;
    }
    (events, place)
}

fn kinds(events: &[v1::Event]) -> Vec<v1::EventKind> {
    events.iter().map(v1::Event::kind).collect()
}

fn detail(event: &v1::Event) -> Value {
    serde_json::from_str(&event.detail).unwrap()
}

#[tokio::test]
async fn events_are_told_in_order_from_any_place_on_and_over_a_restart() {
    use v1::EventKind::{Freeze, GrantConnected, Thaw};
    let mut stack = Stack::with_grant(Default::default()).await;
    let channel = stack.admin().await;
    let mut stream = begin(&channel, watch(Some(0), &[])).await;
    let (events, _) = next(&mut stream, 1).await;
    assert_eq!(kinds(&events), [GrantConnected]);
    assert_eq!(detail(&events[0])["grant"], names::GRANT);

    // While it is read, more comes.
    let client = || Subject::Client(names::CLIENT.to_owned());
    stack.freeze(client()).await;
    stack.thaw(client()).await;
    let (events, place) = next(&mut stream, 2).await;
    assert_eq!(kinds(&events), [Freeze, Thaw]);
    assert!(events[0].position < events[1].position);
    assert!(events[0].number < events[1].number);
    assert_eq!(
        detail(&events[0])["subject"],
        format!("client/{}", names::CLIENT)
    );

    // An event is a receipt: the service proves that its leaf stands in the log.
    let keys = LogKeys::from_bundle(channel.bundle()).unwrap();
    let request = v1::ProveInclusionRequest {
        log: String::new(),
        index: events[0].position,
    };
    let proved = answer(channel.audit().prove_inclusion(request))
        .await
        .unwrap();
    let log = keys.origin(&tokenkeep::audit::LogName::Control).unwrap();
    let receipt = v1::Receipt {
        log: log.to_string(),
        index: events[0].position,
        leaf_hash: events[0].leaf_hash.clone(),
    };
    let receipt = Receipt::try_from(receipt).unwrap();
    receipt.proved(&keys, proved.into_inner()).unwrap();

    // What happens while nobody listens is told from the place on, after a restart too, and by kind.
    drop(stream);
    stack.freeze(client()).await;
    stack.kill().await;
    stack.restart().await;
    stack.thaw(client()).await;
    let channel = stack.admin().await;
    let mut stream = begin(&channel, watch(Some(place), &[])).await;
    let (events, _) = next(&mut stream, 2).await;
    assert_eq!(kinds(&events), [Freeze, Thaw]);
    let mut thaws = begin(&channel, watch(Some(0), &[Thaw])).await;
    let (events, _) = next(&mut thaws, 2).await;
    assert_eq!(kinds(&events), [Thaw, Thaw]);

    // Without a place, only what is still to come; the first message says that the past is over.
    let mut fresh = begin(&channel, watch(None, &[])).await;
    let message = fresh.message().await.unwrap().unwrap();
    assert_eq!(message.events, []);
    stack.freeze(client()).await;
    let (events, _) = next(&mut fresh, 1).await;
    assert_eq!(kinds(&events), [Freeze]);

    // The service's end is told.
    let ended = async {
        loop {
            match fresh.message().await {
                Ok(Some(_)) => {}
                other => return other,
            }
        }
    };
    let (ended, _) = tokio::join!(ended, stack.stop());
    let status = ended.unwrap_err();
    assert_eq!(refused(status), (Code::Unavailable, "STOPPING".to_owned()));
}

#[tokio::test]
async fn a_stream_goes_on_over_a_new_key_of_the_tenant_and_ends_with_its_erasure() {
    use v1::EventKind::{Freeze, KeyChange};
    let stack = Stack::with_grant(Default::default()).await;
    let channel = stack.admin().await;
    let mut stream = begin(&channel, watch(None, &[])).await;
    let shell = admin(&stack);
    let rotate = ["key", "rotate", "tenant", "--tenant", names::TENANT];
    drop(shell.run(&rotate).await.ok());
    let client = Subject::Client(names::CLIENT.to_owned());
    stack.freeze(client).await;
    let (events, _) = next(&mut stream, 2).await;
    assert_eq!(kinds(&events), [KeyChange, Freeze]);
    assert_eq!(detail(&events[1])["reason"], "a test");

    let erase = [
        "tenant",
        "erase",
        names::TENANT,
        "--yes-erase",
        names::TENANT,
    ];
    drop(shell.run(&erase).await.ok());
    let ended = loop {
        match stream.message().await {
            Ok(Some(message)) => assert_eq!(message.events, []),
            other => break other,
        }
    };
    let gone = (Code::NotFound, "NOT_FOUND".to_owned());
    assert_eq!(ended.map(drop).map_err(refused), Err(gone));
}

#[tokio::test]
async fn a_client_that_is_refused_again_and_again_is_told_once_with_a_count() {
    // Behind the other grant in the order of names.
    const LAST: &str = "zzz-crm";
    let stack = Stack::with_grant(Default::default()).await;
    stack.deposit_as(LAST).await;
    let channel = stack.admin().await;
    let mut bursts = begin(&channel, watch(None, &[v1::EventKind::DeniedBurst])).await;
    stack
        .freeze(Subject::Vendor(names::VENDOR.to_owned()))
        .await;
    for _ in 0..15 {
        assert!(!stack.try_issue().await);
    }
    let (events, _) = next(&mut bursts, 1).await;
    let told = detail(&events[0]);
    assert_eq!(told["grant"], names::GRANT);
    assert_eq!(told["client"], names::CLIENT);
    let refusals = told["refusals"].as_u64().unwrap();
    assert!((10..=15).contains(&refusals), "{told}");
    // What follows within the minute is no event of its own: when another grant's burst is told, which stands behind it
    // wherever both are told, this one's was not.
    for _ in 0..10 {
        assert!(!stack.try_issue().await);
    }
    let channel = stack.client().await;
    for _ in 0..10 {
        let client = TokenClient::new(&channel, stack.dpop_key() as _);
        let request = TokenRequest::new(LAST.to_owned(), stack.resource());
        client.token(&request).await.unwrap_err();
    }
    let (events, _) = next(&mut bursts, 1).await;
    let grants: Vec<Value> = events
        .iter()
        .map(|event| detail(event)["grant"].clone())
        .collect();
    assert_eq!(grants, [LAST]);
}

#[tokio::test]
async fn a_tenants_events_are_told_to_those_who_see_it_alone() {
    let stack = Stack::with_grant(Default::default()).await;
    let (owner, client) = (stack.admin().await, stack.client().await);
    let good = watch(Some(0), &[]);
    let tenant = |tenant: &str| v1::WatchRequest {
        tenant: tenant.to_owned(),
        ..good.clone()
    };
    let of_kind = |kind: i32| v1::WatchRequest {
        kinds: vec![kind],
        ..good.clone()
    };
    let rows = [
        (
            &client,
            good.clone(),
            Code::Unauthenticated,
            "INVALID_CLIENT",
        ),
        (&owner, tenant("other"), Code::PermissionDenied, "FORBIDDEN"),
        (
            &owner,
            tenant("-"),
            Code::InvalidArgument,
            "INVALID_REQUEST",
        ),
        (&owner, of_kind(0), Code::InvalidArgument, "INVALID_REQUEST"),
        (
            &owner,
            of_kind(99),
            Code::InvalidArgument,
            "INVALID_REQUEST",
        ),
    ];
    for (channel, request, code, reason) in rows {
        let found = channel.events().watch(request.clone()).await;
        let found = found.map(|_| ()).map_err(refused);
        assert_eq!(found, Err((code, reason.into())), "{request:?}");
    }
    // A place that the log has not reached.
    let mut beyond = begin(&owner, watch(Some(u64::MAX), &[])).await;
    let status = beyond.message().await.unwrap_err();
    let beyond = (Code::InvalidArgument, "BEYOND_THE_LOG".to_owned());
    assert_eq!(refused(status), beyond);
    // No tenant takes all places, and a place is given back.
    let mut streams = Vec::new();
    for _ in 0..8 {
        streams.push(begin(&owner, good.clone()).await);
    }
    let found = owner.events().watch(good.clone()).await;
    let found = found.map(|_| ()).map_err(refused);
    let full = (Code::ResourceExhausted, "TOO_MANY_WATCHES".to_owned());
    assert_eq!(found, Err(full));
    streams.clear();
    wait_for("a place is free again", async || {
        owner
            .events()
            .watch(good.clone())
            .await
            .is_ok()
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_command_line_prints_events_and_goes_on_from_a_position() {
    let stack = Stack::with_grant(Default::default()).await;
    let shell = admin(&stack);
    let client = || Subject::Client(names::CLIENT.to_owned());
    stack.freeze(client()).await;
    stack.thaw(client()).await;
    let watch = [
        "--json",
        "events",
        "watch",
        "--tenant",
        names::TENANT,
        "--until-now",
    ];
    let lines = |text: String| -> Vec<Value> {
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let all = shell.run(&[&watch[..], &["--all"]].concat()).await.ok();
    let all = lines(all);
    let kinds: Vec<&str> = all
        .iter()
        .map(|event| event["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["grant_connected", "freeze", "thaw"]);
    let freeze = all[1]["position"].to_string();
    let rest = shell
        .run(&[&watch[..], &["--since", &freeze]].concat())
        .await;
    assert_eq!(lines(rest.ok()), all[2..]);
    let some = shell
        .run(&[&watch[..], &["--all", "--kind", "freeze"]].concat())
        .await;
    assert_eq!(lines(some.ok()), all[1..2]);
    // Nothing is still to come of what was.
    assert_eq!(shell.run(&watch).await.ok(), "");
    let text = [
        "events",
        "watch",
        "--tenant",
        names::TENANT,
        "--until-now",
        "--all",
    ];
    let text = shell.run(&text).await.ok();
    assert!(text.contains("subject=client/crm-sync-worker"), "{text}");
    let (code, reason) = shell
        .run(&["--json", "events", "watch", "--tenant", "other"])
        .await
        .refusal();
    assert_eq!((code, reason.as_str()), (1, "FORBIDDEN"));
}

#[tokio::test]
async fn the_walk_through_an_incident_ends_with_the_auditors_file() {
    let walked = tokio::process::Command::new(binary("tokenkeep-dev"))
        .arg("incident")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(walked.stdout).unwrap();
    let failed = String::from_utf8(walked.stderr).unwrap();
    assert!(walked.status.success(), "{said}{failed}");
    for part in ["no gap", "the provider answered", "All as it must be."] {
        assert!(said.contains(part), "{said}");
    }
}
