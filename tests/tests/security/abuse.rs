//! What floods, slow peers and too many callers come to: each has its bound, and the service goes on.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dev::names;
use proto::v1;
use proto::v1::token_service_client::TokenServiceClient;
use secrecy::ExposeSecret as _;
use testkit::provider::{Answer, Fault};
use tests::caller::{Caller, refused};
use tests::stack::{Blueprint, Stack, sign};
use tests::wait::wait_for;
use tokenkeep::RpcError;
use tokenkeep::rpc_error::answer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tonic::{Code, Status};

use crate::floods::{
    Abuse, Target, closed_window, empty_data, evidence, noisy, pings, settings,
    trickle_until_closed, until, until_closed,
};
use crate::gateway_bars::frames::{
    CONTINUATION, DATA, HEADERS, PING, RST_STREAM, SETTINGS, count, frame, go_away, head_refused,
};
use crate::grpc_refusals::{framed, raw};

/// [RFC 9113 §7]
const ENHANCE_YOUR_CALM: u32 = 0xb;

async fn limited(limits: &str) -> Stack {
    Stack::with_grant(Blueprint {
        host_toml: format!("[metrics]\nlisten = \"127.0.0.1:0\"\n[limits]\n{limits}\n"),
        ..Blueprint::default()
    })
    .await
}

/// The value of a sample.
async fn sample(stack: &Stack, name: &str) -> u64 {
    let page = stack.metrics().await;
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

/// How many requests were turned away, for whatever reason.
async fn shed(stack: &Stack) -> u64 {
    let page = stack.metrics().await;
    let lines = page
        .lines()
        .filter(|line| line.starts_with("tokenkeep_requests_shed_total{"));
    let counts = lines.map(|line| {
        let (_, count) = line.rsplit_once(' ').unwrap();
        count.parse::<u64>().unwrap()
    });
    counts.sum()
}

async fn still_serves(stack: &Stack) {
    assert_eq!(Caller::of(stack).await.contacts().await.status, 200);
}

#[tokio::test]
async fn floods_of_frames_close_their_connection() {
    let stack = limited("").await;
    let target = Target::of(&stack).await;
    for (what, bytes) in [
        // CVE-2023-44487
        ("rapid reset", target.resets(0, 1_000)),
        // CVE-2024-27316 and its like
        ("a head that never ends", target.endless_head(1 << 20)),
        (
            "continuations of nothing",
            target.empty_continuations(10_000),
        ),
    ] {
        let read = until_closed(target.h2().await.unwrap(), &bytes).await;
        assert_eq!(go_away(&read), Some(ENHANCE_YOUR_CALM), "{what}");
    }
    still_serves(&stack).await;
}

#[tokio::test]
async fn floods_that_the_protocol_allows_are_answered_and_kept_by_nobody() {
    let stack = limited("").await;
    let target = Target::of(&stack).await;
    let before = sample(&stack, "process_resident_memory_bytes").await;
    for (what, bytes, kind, expected) in [
        ("pings", pings(20_000), PING, 20_000),
        // One of its own, one for the preface.
        ("settings", settings(5_000), SETTINGS, 5_002),
    ] {
        let (mut reader, mut writer) = tokio::io::split(target.h2().await.unwrap());
        let (mut read, mut some) = (Vec::new(), vec![0; 64 * 1024]);
        let answered = async {
            while count(&read, kind) < expected {
                let length = reader.read(&mut some).await.unwrap();
                assert!(length > 0, "{what}: closed after {}", count(&read, kind));
                read.extend_from_slice(&some[..length]);
            }
        };
        let written = async { writer.write_all(&bytes).await.unwrap() };
        tokio::time::timeout(tests::wait::PATIENCE, async {
            tokio::join!(answered, written)
        })
        .await
        .unwrap();
    }
    // Whoever does not read its answers stops being read.
    let mut deaf = target.h2().await.unwrap();
    let flood = pings(100_000);
    drop(tokio::time::timeout(Duration::from_secs(2), deaf.write_all(&flood)).await);
    let mut bytes = target.open_request(1);
    bytes.extend(empty_data(1, 100_000));
    let mut idle = target.h2().await.unwrap();
    drop(tokio::time::timeout(Duration::from_secs(2), idle.write_all(&bytes)).await);
    still_serves(&stack).await;
    let grown = sample(&stack, "process_resident_memory_bytes")
        .await
        .saturating_sub(before);
    assert!(grown < 64 << 20, "it has grown by {grown} bytes");
}

#[tokio::test]
async fn slow_peers_are_closed_however_they_trickle() {
    let stack = limited("handshake_s = 4\nhead_s = 4\nrequest_s = 4").await;
    let target = Target::of(&stack).await;
    // Half of a ClientHello.
    let handshake = |number| vec![if number == 0 { 0x16 } else { 3 }];
    trickle_until_closed(target.tcp().await.unwrap(), handshake).await;
    // A head in HTTP/1.1, byte by byte.
    let https = Caller::of(&stack).await.https;
    for url in ["public_url", "gateway_url"] {
        let stream = https.connect(stack.url(url)).await.unwrap();
        trickle_until_closed(stream, |number| {
            let head = if number == 0 {
                "GET / HTTP/1.1\r\nx: "
            } else {
                "a"
            };
            head.as_bytes().to_vec()
        })
        .await;
    }
    // In HTTP/2, the same; and a connection that says nothing at all.
    let head = target.endless_head(1);
    trickle_until_closed(target.h2().await.unwrap(), |number| match number {
        0 => head.clone(),
        _ => frame(CONTINUATION, 0, 1, b""),
    })
    .await;
    until_closed(target.h2().await.unwrap(), b"").await;

    // A body that does not come ends with the request's deadline.
    let deadline = "tokenkeep_rpc_total{service=\"tokenkeep.v1.TokenService\",method=\"IssueToken\",code=\"DEADLINE_EXCEEDED\"}";
    let mut stream = target.h2().await.unwrap();
    stream.write_all(&target.open_request(1)).await.unwrap();
    wait_for("the deadline", async || {
        (sample(&stack, deadline).await >= 1).then_some(())
    })
    .await;
    still_serves(&stack).await;
}

#[tokio::test]
async fn large_heads_and_deep_messages_are_refused() {
    let stack = limited("").await;
    let target = Target::of(&stack).await;
    let channel = stack.client().await;
    // 64 KiB of metadata: the request or its connection is refused for them.
    let large = target.large_head(1, 64 * 1024);
    let refused_as = until(target.h2().await.unwrap(), &large, |read| {
        head_refused(read, 1)
    });
    assert!(["431", "RST_STREAM", "GOAWAY"].contains(&refused_as.await));
    let refusals = "tokenkeep_rpc_total{service=\"tokenkeep.v1.TokenService\",method=\"IssueToken\",code=\"OK\"}";
    let issued = sample(&stack, refusals).await;
    for (what, message, expected) in [
        (
            "groups in groups",
            vec![0x0b; 200_000],
            (Code::InvalidArgument, "MALFORMED_MESSAGE"),
        ),
        (
            "fields that are not known",
            [0xf8, 0x07, 0x01].repeat(80_000),
            (Code::Unauthenticated, "INVALID_DPOP_PROOF"),
        ),
    ] {
        let path = "/tokenkeep.v1.TokenService/IssueToken";
        let (code, reason) = expected;
        let status = raw(&channel, path, framed(0, &message)).await;
        assert_eq!(refused(status), (code, reason.to_owned()), "{what}");
    }
    assert_eq!(sample(&stack, refusals).await, issued);
    still_serves(&stack).await;
}

#[tokio::test]
async fn idle_connections_find_their_bound_and_make_room_again() {
    let stack = limited("connections = 32\nhead_s = 20").await;
    let target = Target::of(&stack).await;
    let mut opening = JoinSet::new();
    for _ in 0..64 {
        let target = target.clone();
        opening.spawn(async move { target.h2().await.ok() });
    }
    let idle: Vec<_> = opening.join_all().await.into_iter().flatten().collect();
    // Those that verify and the test's own client hold some already.
    assert!((17..=32).contains(&idle.len()), "{}", idle.len());
    let refused = "tokenkeep_connections_total{listener=\"grpc\",outcome=\"refused\"}";
    assert!(sample(&stack, refused).await >= 1);
    // They said nothing, so that they are closed, and whoever comes then finds room.
    for stream in idle {
        until_closed(stream, b"").await;
    }
    still_serves(&stack).await;
}

/// Refusals among the outcomes, each of which must be a word of when to come back.
fn overloaded<T>(outcomes: &[Result<T, Status>]) -> usize {
    let mut count = 0;
    for outcome in outcomes {
        let Err(status) = outcome else {
            continue;
        };
        let error = RpcError::from(status.clone());
        assert_eq!(
            (error.code(), error.reason()),
            (Code::ResourceExhausted, Some("OVERLOADED")),
            "{status:?}"
        );
        let after = error.retry_after().unwrap();
        let (least, most) = (Duration::from_millis(500), Duration::from_secs(2));
        assert!(after >= least && after <= most, "{after:?}");
        count += 1;
    }
    count
}

#[tokio::test]
async fn whoever_asks_for_evidence_leaves_room_for_those_who_ask_for_tokens() {
    let stack = limited("requests = 16").await;
    let target = Target::of(&stack).await;
    // It verified the service before the others came.
    let caller = Caller::of(&stack).await;
    let mut asking = JoinSet::new();
    for _ in 0..64 {
        let target = target.clone();
        asking.spawn(async move {
            let mut outcomes = Vec::new();
            for _ in 0..8 {
                outcomes.push(evidence(&target).await.map(|_| ()));
            }
            outcomes
        });
    }
    for _ in 0..10 {
        caller.token().await;
    }
    let outcomes = asking.join_all().await.concat();
    let refused = overloaded(&outcomes);
    assert!(refused > 0 && refused < outcomes.len(), "{refused}");
    assert_eq!(shed(&stack).await, refused as u64);
}

/// What comes of 64 callers at once.
async fn overload(limits: &str) -> (Stack, Vec<Result<(), Status>>) {
    let stack = limited(limits).await;
    let mut callers = Vec::new();
    for _ in 0..4 {
        callers.push(Caller::of(&stack).await);
    }
    let nonce = callers[0].nonce().await;
    let mut asking = JoinSet::new();
    for number in 0..64 {
        let caller = callers[number % callers.len()].at(names::GRANT);
        let nonce = nonce.clone();
        asking.spawn(async move {
            let mut outcomes = Vec::new();
            for _ in 0..10 {
                let proof = caller.issue_proof(&nonce);
                let issued = Box::pin(caller.issue(caller.request(), &[&proof])).await;
                outcomes.push(issued.map(|_| ()));
            }
            outcomes
        });
    }
    let outcomes = asking.join_all().await.concat();
    (stack, outcomes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_its_room_the_service_turns_requests_away_and_serves_the_others() {
    let (stack, outcomes) = overload("requests = 16").await;
    let refused = overloaded(&outcomes);
    assert!(refused > 0 && refused < outcomes.len(), "{refused}");
    assert_eq!(shed(&stack).await, refused as u64);
    assert!(stack.log().contains("requests_shed"));
    still_serves(&stack).await;
    // With room for all nobody is turned away: it is the room that the others lacked.
    let (_stack, outcomes) = overload("requests = 1024").await;
    assert_eq!(overloaded(&outcomes), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stops_something_gets_through_a_full_room() {
    let stack = limited("requests = 16").await;
    let target = Target::of(&stack).await;
    let admin = stack.admin().await;
    let caller = Caller::of(&stack).await;
    let nonce = caller.nonce().await;
    let tokens: Vec<_> = vec![caller.token().await, caller.token().await];
    let done = Arc::new(AtomicBool::new(false));
    let mut asking = JoinSet::new();
    for _ in 0..64 {
        let (caller, nonce, done) = (caller.at(names::GRANT), nonce.clone(), Arc::clone(&done));
        asking.spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let proof = caller.issue_proof(&nonce);
                drop(Box::pin(caller.issue(caller.request(), &[&proof])).await);
            }
        });
    }
    wait_for("the room is full", async || {
        (shed(&stack).await > 0).then_some(())
    })
    .await;
    let subject = || {
        let grant = v1::freeze_subject::Subject::Grant(names::GRANT.to_owned());
        Some(v1::FreezeSubject {
            subject: Some(grant),
        })
    };
    for _ in 0..5 {
        let before = shed(&stack).await;
        let freeze = v1::FreezeRequest {
            subject: subject(),
            reason: "a test".to_owned(),
            tenant: names::TENANT.to_owned(),
        };
        answer(admin.grants().freeze(freeze)).await.unwrap();
        let thaw = v1::ThawRequest {
            subject: subject(),
            tenant: names::TENANT.to_owned(),
        };
        answer(admin.grants().thaw(thaw)).await.unwrap();
        let health = "/grpc.health.v1.Health/Check";
        let health = raw(target.channel(), health, framed(0, b"")).await;
        assert_eq!(health.code(), Code::Ok, "{health:?}");
        // It was full all the while.
        wait_for("others were turned away", async || {
            (shed(&stack).await > before).then_some(())
        })
        .await;
    }
    // The client's own share is full, too.
    for token in tokens {
        let transport = caller.channel.transport().clone();
        let mut client = TokenServiceClient::with_origin(transport, caller.grpc().clone());
        let revoke = v1::RevokeTokenRequest { token };
        client.revoke_token(revoke).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    asking.join_all().await;
    still_serves(&stack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_provider_holds_up_nobody_else() {
    let stack = limited("requests = 16").await;
    let caller = Caller::of(&stack).await;
    let admin = stack.admin().await;
    let recipient = admin.deposit_recipient().await.unwrap();
    let held = Fault::at_token(true, Answer::Honest).delayed_by_ms(4_000);
    stack.provider().fault(held.times(64)).unwrap();
    let mut depositing = JoinSet::new();
    for number in 0..16 {
        let id = format!("slow-{number}");
        let token = stack.consent().refresh_token;
        let sealed_refresh_token = recipient
            .seal_refresh_token(
                names::TENANT,
                names::APP,
                &id,
                token.expose_secret().as_bytes(),
            )
            .unwrap();
        let grant = v1::Grant {
            id,
            tenant: names::TENANT.to_owned(),
            app: names::APP.to_owned(),
            clients: vec![names::CLIENT.to_owned()],
            targets: vec![names::TARGET.to_owned()],
            scopes: names::SCOPES.map(str::to_owned).to_vec(),
            ..v1::Grant::default()
        };
        let request = v1::DepositGrantRequest {
            grant: Some(grant),
            sealed_refresh_token,
            leave_unrotated: false,
            only_new: false,
        };
        let admin = admin.clone();
        depositing.spawn(async move { admin.grants().deposit_grant(request).await.map(|_| ()) });
    }
    // Each of them would have a place, and there are sixteen.
    let in_flight = async || sample(&stack, "tokenkeep_rpc_in_flight").await;
    wait_for("all of them wait", async || {
        (in_flight().await >= 16).then_some(())
    })
    .await;
    for _ in 0..5 {
        caller.token().await;
    }
    assert!(in_flight().await > 0);
    assert_eq!(shed(&stack).await, 0);
    for outcome in depositing.join_all().await {
        outcome.unwrap();
    }
}

#[tokio::test]
async fn answers_that_nobody_reads_are_cut() {
    let stack = limited("requests = 16\nrequest_s = 4").await;
    let target = Target::of(&stack).await;
    let mut bytes = closed_window();
    // All the room that strangers have.
    for number in 0..4 {
        bytes.extend(target.ask_evidence(2 * number + 1));
    }
    let cut = until(target.h2().await.unwrap(), &bytes, |read| {
        (count(read, RST_STREAM) >= 4).then(|| (count(read, HEADERS), count(read, DATA)))
    });
    // Each had its head, and nothing behind it.
    assert_eq!(cut.await, (4, 0));
    evidence(&target).await.unwrap();
}

#[tokio::test]
async fn slow_bodies_of_strangers_hold_up_nobody_with_a_name() {
    let stack = limited("requests = 64").await;
    let target = Target::of(&stack).await;
    let caller = Caller::of(&stack).await;
    // Far more requests without a body than there are places, on many connections.
    let mut slow = Vec::new();
    for _ in 0..32 {
        let mut stream = target.h2().await.unwrap();
        let open: Vec<u8> = (0..100)
            .flat_map(|number| target.open_request(2 * number + 1))
            .collect();
        stream.write_all(&open).await.unwrap();
        slow.push(stream);
    }
    wait_for("most were turned away", async || {
        (shed(&stack).await >= 32 * 100 - 64).then_some(())
    })
    .await;
    for _ in 0..20 {
        caller.token().await;
    }
    let health = raw(
        target.channel(),
        "/grpc.health.v1.Health/Check",
        framed(0, b""),
    )
    .await;
    assert_eq!(health.code(), Code::Ok, "{health:?}");
}

#[tokio::test]
async fn one_client_that_asks_too_often_is_refused_and_no_other() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    assert_eq!(stack.stop().await.code(), Some(0));
    sign(stack.files(), |manifest| {
        let manifest = manifest.replace("sequence = 1", "sequence = 2");
        let manifest = manifest.replace("client_per_s = 100000", "client_per_s = 1");
        manifest.replace("client_burst = 100000", "client_burst = 20")
    });
    stack.restart().await;
    let noisy = noisy(&stack).await;
    let quiet = Caller::of(&stack).await;
    let nonce = quiet.nonce().await;
    let mut limited = 0;
    for number in 0..200 {
        let proof = noisy.issue_proof(&nonce);
        let status = noisy.issue(noisy.request(), &[&proof]).await.unwrap_err();
        let error = RpcError::from(status);
        match (error.code(), error.reason()) {
            (Code::NotFound, Some("GRANT_NOT_FOUND")) => {}
            (Code::ResourceExhausted, Some("RATE_LIMITED")) => {
                assert!(error.retry_after().is_some());
                limited += 1;
            }
            other => panic!("{other:?}"),
        }
        if number % 20 == 0 {
            let proof = quiet.issue_proof(&nonce);
            quiet.issue(quiet.request(), &[&proof]).await.unwrap();
        }
    }
    assert!(limited > 100, "{limited}");
}

#[tokio::test]
async fn each_kind_of_abuse_goes_on_beside_a_service_that_serves() {
    let stack = limited("").await;
    let target = Target::of(&stack).await;
    let process = stack.service().id();
    for abuse in Abuse::ALL {
        let under_way = abuse.begin(&target, 16);
        wait_for("it has begun", async || {
            (under_way.done() > 0).then_some(())
        })
        .await;
        Caller::of(&stack).await.token().await;
        assert!(under_way.end().await > 0, "{abuse:?}");
    }
    assert_eq!(stack.service().id(), process);
    still_serves(&stack).await;
}
