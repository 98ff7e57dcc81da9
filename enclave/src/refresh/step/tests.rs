//! Tests of single steps: what each answer leaves on the disk, in the logs, in the pace and in the caches.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]

use std::sync::atomic::Ordering;

use base64ct::{Base64UrlUnpadded, Encoding};
use futures_util::FutureExt;
use serde_json::{Value, json};

use super::super::start::{Begin, Cached};
use super::super::tests::{
    Provider, begin, commit, committed, custody_on_disk, drive, finished, grant, leaves, on_disk,
    response, run, scopes, sent, view,
};
use super::super::{UpstreamRequest, pace::Whom};
use super::*;
use crate::admin::Administrator;
use crate::freeze::Subject;
use crate::profile::Profile;
use crate::record::Table;
use crate::secret::UpstreamAccessToken;
use crate::store::Key;
use crate::testing::{REFRESH_TOKEN, World, id};

const GOOD: &str = r#"{"access_token":"at","token_type":"Bearer","expires_in":60,"refresh_token":"refresh-2-canary"}"#;

fn answer(status: u16, retry_after_s: Option<u64>, nonce: Option<&str>, body: &str) -> Event {
    Event::Answered(UpstreamAnswer::Response {
        status,
        retry_after_s,
        dpop_nonce: nonce.map(ToOwned::to_owned),
        body: RawResponse::new(body.as_bytes().to_vec()),
    })
}

fn whole(status: u16, body: &str) -> Event {
    answer(status, None, None, body)
}

fn cut(status: u16, body: &str) -> Event {
    Event::Answered(UpstreamAnswer::Cut {
        status,
        body: RawResponse::new(body.as_bytes().to_vec()),
    })
}

fn not_sent() -> Event {
    Event::Answered(UpstreamAnswer::NotSent)
}

fn ambiguous() -> Event {
    Event::Answered(UpstreamAnswer::Ambiguous)
}

fn full() -> Event {
    Event::CommitFailed(StoreError::Full)
}

fn conflict() -> Event {
    Event::CommitFailed(StoreError::Conflict { key: Key([0; 32]) })
}

fn whom() -> Whom {
    (id("crm"), id("acme"))
}

fn step(world: &World, exchange: &mut Exchange, event: Event) -> Action {
    world.enclave.step_refresh(exchange, event, &world.now)
}

/// Commits to the end. Gives how often, and how it ended.
fn commits(
    world: &World,
    exchange: &mut Exchange,
    mut action: Action,
) -> (usize, Result<(), RefreshError>) {
    let mut count = 0;
    while matches!(action, Action::Commit(_)) {
        count += 1;
        action = committed(world, exchange, action);
    }
    (count, finished(action))
}

fn refused(code: &'static str) -> RefreshError {
    RefreshError::ProviderRefused { code }
}

fn limited(retry_after_s: u64) -> RefreshError {
    RefreshError::RateLimited { retry_after_s }
}

fn cached_tokens(world: &World) -> usize {
    let cache = world.enclave.upstream.lock();
    cache
        .get(&grant())
        .map_or(0, std::collections::HashMap::len)
}

/// What an answer leaves behind.
struct Left {
    /// So often something was committed behind the answer.
    commits: usize,
    result: Result<(), RefreshError>,
    phase: Phase,
    /// Whether the new refresh token is there.
    rotated: bool,
    leaf: Option<Value>,
}

#[test]
fn each_answer_leaves_its_phase_its_token_and_its_leaf_and_no_journal() {
    let uncertain = Phase::Uncertain { attempt: 1 };
    let of_refresh = |generation: u64, refused: Option<&str>| {
        let mut leaf = json!({
            "event": "refreshed",
            "grant": "contacts",
            "refresh_generation": generation,
            "rotated": generation > 1,
        });
        if let Some(refused) = refused {
            leaf["refused"] = refused.into();
        }
        if generation == 1 {
            // The token that was deposited stays.
            leaf["exposed_before_deposit"] = true.into();
        }
        Some(leaf)
    };
    let of_refusal = |error: &str| {
        Some(json!({"event": "refresh_refused", "grant": "contacts", "error": error}))
    };
    let unclear = |commits| Left {
        commits,
        result: Err(RefreshError::ProviderUnclear),
        phase: uncertain,
        rotated: false,
        leaf: None,
    };
    let unspent = |commits, error: RefreshError, leaf| Left {
        commits,
        result: Err(error),
        phase: Phase::Idle,
        rotated: false,
        leaf,
    };
    let cause = Cause::RefusedByProvider;
    let lost = |commits| Left {
        commits,
        result: Err(RefreshError::NeedsConsent { cause }),
        phase: Phase::NeedsConsent { cause },
        rotated: false,
        leaf: Some(json!({
            "event": "needs_consent",
            "grant": "contacts",
            "cause": "refused_by_provider",
        })),
    };
    let adopted = |result, leaf| Left {
        commits: 2,
        result,
        phase: Phase::Idle,
        rotated: true,
        leaf,
    };
    let why = "its type is not bearer";
    let rows = [
        (
            "good",
            whole(200, GOOD),
            adopted(Ok(()), of_refresh(2, None)),
        ),
        (
            "not rotated",
            whole(200, r#"{"access_token":"at","token_type":"Bearer"}"#),
            Left {
                rotated: false,
                ..adopted(Ok(()), of_refresh(1, None))
            },
        ),
        (
            "of no use",
            whole(200, &GOOD.replace("Bearer", "mac")),
            adopted(
                Err(RefreshError::UnusableToken(why)),
                of_refresh(2, Some(why)),
            ),
        ),
        (
            "cut behind the token",
            cut(200, GOOD.strip_suffix('}').unwrap()),
            adopted(Err(RefreshError::ProviderUnclear), of_refresh(2, None)),
        ),
        ("cut before it", cut(200, &GOOD[..60]), unclear(1)),
        ("an error that was cut", cut(500, GOOD), unclear(1)),
        (
            "an error in a 200",
            whole(200, r#"{"error":"oops"}"#),
            unspent(2, refused("other"), of_refusal("other")),
        ),
        (
            "too fast in a 200",
            whole(200, r#"{"error":"ratelimited"}"#),
            unspent(2, limited(5), None),
        ),
        (
            "a dead token in a 200",
            whole(200, r#"{"error":"invalid_grant"}"#),
            lost(2),
        ),
        ("no answer", whole(200, "<html>"), unclear(2)),
        (
            "a dead token",
            whole(400, r#"{"error":"invalid_grant"}"#),
            lost(1),
        ),
        (
            "refused",
            whole(401, r#"{"error":"invalid_client"}"#),
            unspent(1, refused("invalid_client"), of_refusal("invalid_client")),
        ),
        ("too fast", whole(429, ""), unspent(1, limited(5), None)),
        ("failed", whole(500, GOOD), unclear(1)),
        (
            "not sent",
            not_sent(),
            unspent(1, RefreshError::ProviderUnreachable, None),
        ),
        ("silent", ambiguous(), unclear(1)),
    ];
    for (what, event, left) in rows {
        let world = World::new(Rotation::Strict);
        let before = leaves(&world).len();
        let (mut exchange, _) = sent(&world);
        let action = step(&world, &mut exchange, event);
        let found = commits(&world, &mut exchange, action);
        assert_eq!(found, (left.commits, left.result.clone()), "{what}");
        let token = if left.rotated {
            (2, "refresh-2-canary".to_owned())
        } else {
            (1, REFRESH_TOKEN.to_owned())
        };
        let expected = (left.phase, token.0, token.1);
        assert_eq!(custody_on_disk(&world), expected, "{what}");
        let in_memory = world.enclave.view.read().custody[&grant()].value.phase;
        assert_eq!(in_memory, left.phase, "{what}");
        assert_eq!(on_disk(&world, Table::Journal, "contacts"), None, "{what}");
        assert!(world.enclave.view.read().journal.is_empty(), "{what}");
        let new = leaves(&world).split_off(before);
        assert_eq!(new, Vec::from_iter(left.leaf), "{what}");
        let kept = usize::from(left.result.is_ok());
        assert_eq!(cached_tokens(&world), kept, "{what}");
    }
}

#[test]
fn the_answers_of_a_provider_open_its_circuit_or_close_it() {
    let rows = [
        ("not sent", not_sent(), false),
        ("silent", ambiguous(), false),
        ("cut", cut(200, ""), false),
        ("cut behind the token", cut(200, GOOD), false),
        ("500", whole(500, ""), false),
        ("501", whole(501, ""), false),
        ("503", whole(503, ""), false),
        ("599", whole(599, ""), false),
        ("499", whole(499, ""), true),
        ("408", whole(408, ""), true),
        ("400", whole(400, r#"{"error":"invalid_client"}"#), true),
        ("302", whole(302, ""), true),
        ("200", whole(200, GOOD), true),
    ];
    for (what, event, well) in rows {
        let world = World::new(Rotation::Strict);
        let (pace, now) = (&world.enclave.pace, &world.now);
        for _ in 0..4 {
            pace.report(&whom(), Taken::Unwell, now);
        }
        let (mut exchange, _) = sent(&world);
        let action = step(&world, &mut exchange, event);
        let (_, _result) = commits(&world, &mut exchange, action);
        let paused = Err(RefreshError::ProviderPaused { retry_after_s: 1 });
        // The fifth in a row.
        let expected = if well { Ok(()) } else { paused.clone() };
        assert_eq!(pace.waits(&whom(), now), expected, "{what}");
        if !well {
            pace.forget(&grant());
            let wanted = Wanted {
                resource: Some("https://other.example/".into()),
                ..scopes(&world)
            };
            let begun = world.enclave.begin_refresh(&grant(), &wanted, now);
            assert_eq!(begun.map(|_| ()), paused, "{what}");
        }
        for _ in 0..4 {
            assert_eq!(pace.waits(&whom(), now).is_ok(), well, "{what}");
            pace.report(&whom(), Taken::Unwell, now);
        }
    }
}

#[test]
fn patience_is_had_where_it_is_asked_for() {
    let slow = r#"{"error":"slow_down"}"#;
    let client = r#"{"error":"invalid_client"}"#;
    let rows = [
        (429, Some(9), "", Some(9)),
        (429, None, "", Some(5)),
        (503, Some(9), "", Some(9)),
        (503, None, "", None),
        (500, Some(9), "", None),
        (400, Some(9), slow, Some(9)),
        (400, None, slow, Some(5)),
        (400, Some(9), client, None),
        (200, Some(9), GOOD, None),
        (200, Some(9), slow, Some(5)),
        (302, Some(9), "", None),
    ];
    for (status, retry_after_s, body, expected) in rows {
        let what = format!("{status} {retry_after_s:?} {body}");
        let world = World::new(Rotation::Strict);
        let (mut exchange, _) = sent(&world);
        let event = answer(status, retry_after_s, None, body);
        let action = step(&world, &mut exchange, event);
        let (_, _result) = commits(&world, &mut exchange, action);
        let expected = expected.map_or(Ok(()), |wait_s| Err(limited(wait_s)));
        let found = world.enclave.pace.waits(&whom(), &world.now);
        assert_eq!(found, expected, "{what}");
        // Nobody's exchange with it begins.
        world.enclave.pace.forget(&grant());
        world.enclave.forget_upstream(&grant());
        let begun = world
            .enclave
            .begin_refresh(&grant(), &scopes(&world), &world.now);
        assert_eq!(begun.map(|_| ()), expected, "{what}");
    }
}

#[test]
fn an_answer_says_that_nothing_is_under_way_though_it_says_nothing_else() {
    // Quiet from the start of the boot on, if nothing were known.
    for (what, event, quiet) in [
        ("cut", cut(200, ""), false),
        ("cut, an error", cut(502, ""), false),
        ("whole", whole(500, ""), false),
        ("silent", ambiguous(), true),
    ] {
        let world = World::with_profile(Rotation::Strict, Profile::default());
        let (mut exchange, _) = sent(&world);
        let action = step(&world, &mut exchange, event);
        let (_, result) = commits(&world, &mut exchange, action);
        assert_eq!(result, Err(RefreshError::ProviderUnclear), "{what}");
        let begun = world
            .enclave
            .begin_refresh(&grant(), &scopes(&world), &world.now);
        let expected = if quiet {
            Err(RefreshError::Quiet { retry_after_s: 15 })
        } else {
            Ok(())
        };
        assert_eq!(begun.map(|_| ()), expected, "{what}");
    }
}

#[test]
fn each_answer_s_nonce_is_kept_for_the_next_proof() {
    for (status, body) in [
        (200, GOOD),
        (200, "<html>"),
        (400, r#"{"error":"invalid_client"}"#),
        (500, ""),
        (302, ""),
    ] {
        let world = World::new(Rotation::Strict);
        let (mut exchange, request) = sent(&world);
        let newest = |world: &World| {
            let kind = ServerKind::Authorization;
            world.enclave.server_nonces.newest(kind, &request.url)
        };
        assert_eq!(newest(&world), None);
        let event = answer(status, None, Some("n-1"), body);
        let action = step(&world, &mut exchange, event);
        assert_eq!(newest(&world).as_deref(), Some("n-1"), "{status}");
        let (_, _result) = commits(&world, &mut exchange, action);
        // An answer without one is no reason to forget it.
        world.enclave.pace.forget(&grant());
        world.enclave.forget_upstream(&grant());
        let (mut exchange, _) = sent(&world);
        let _next = step(&world, &mut exchange, whole(500, ""));
        assert_eq!(newest(&world).as_deref(), Some("n-1"), "{status}");
    }
}

fn dpop_world() -> World {
    let profile = Profile {
        quiet_ms: 0,
        dpop: true,
        ..Profile::default()
    };
    World::with_profile(Rotation::Strict, profile)
}

/// The nonce in a request's proof, and the proof.
fn proof(request: &UpstreamRequest) -> (Option<String>, String) {
    let proof = request.dpop.clone().unwrap();
    let payload = proof.split('.').nth(1).unwrap();
    let payload = Base64UrlUnpadded::decode_vec(payload).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    let nonce = claims.get("nonce").map(|nonce| nonce.as_str().unwrap());
    (nonce.map(ToOwned::to_owned), proof)
}

const CHALLENGE: &str = r#"{"error":"use_dpop_nonce"}"#;

#[test]
fn a_challenge_is_met_once_with_the_same_token_and_another_proof() {
    for status in [400, 401] {
        let world = dpop_world();
        let (mut exchange, first) = sent(&world);
        let (nonce, first_proof) = proof(&first);
        assert_eq!(nonce, None);
        let event = answer(status, None, Some("n-1"), CHALLENGE);
        let Action::Send(second) = step(&world, &mut exchange, event) else {
            panic!("the token is not spent");
        };
        let (nonce, second_proof) = proof(&second);
        assert_eq!(nonce.as_deref(), Some("n-1"));
        assert_ne!(first_proof, second_proof);
        assert_eq!(first.body.expose(), second.body.expose());
        let intent = Phase::Intent { attempt: 1 };
        assert_eq!(custody_on_disk(&world).0, intent);
        // A provider that is never content is not asked for ever.
        let event = answer(status, None, Some("n-2"), CHALLENGE);
        let action = step(&world, &mut exchange, event);
        let found = commits(&world, &mut exchange, action);
        assert_eq!(found, (1, Err(refused("use_dpop_nonce"))));
        assert_eq!(custody_on_disk(&world).0, Phase::Idle);
        // The next exchange begins with what the last answer gave.
        world.enclave.pace.forget(&grant());
        let (_, third) = sent(&world);
        assert_eq!(proof(&third).0.as_deref(), Some("n-2"));
    }
}

#[test]
fn what_is_no_challenge_of_ours_is_a_refusal() {
    let rows = [
        (true, 400, None, CHALLENGE, "use_dpop_nonce"),
        (true, 403, Some("n"), CHALLENGE, "use_dpop_nonce"),
        (
            true,
            400,
            Some("n"),
            r#"{"error":"invalid_client"}"#,
            "invalid_client",
        ),
        (
            true,
            401,
            Some("n"),
            r#"{"error":"invalid_dpop_proof"}"#,
            "invalid_dpop_proof",
        ),
        (false, 400, Some("n"), CHALLENGE, "use_dpop_nonce"),
        (false, 401, None, CHALLENGE, "use_dpop_nonce"),
    ];
    for (dpop, status, nonce, body, code) in rows {
        let world = if dpop {
            dpop_world()
        } else {
            World::new(Rotation::Strict)
        };
        let (mut exchange, request) = sent(&world);
        assert_eq!(request.dpop.is_some(), dpop);
        let action = step(&world, &mut exchange, answer(status, None, nonce, body));
        let found = commits(&world, &mut exchange, action);
        assert_eq!(found, (1, Err(refused(code))), "{dpop} {status} {nonce:?}");
    }
}

#[test]
fn a_token_is_bound_where_a_key_was_shown_and_nowhere_else() {
    let dpop = GOOD.replace("Bearer", "DPoP");
    let unusable = |why| Err(RefreshError::UnusableToken(why));
    for (bound, body, expected) in [
        (true, dpop.as_str(), Ok(true)),
        (true, GOOD, unusable("its type is not DPoP")),
        (false, GOOD, Ok(false)),
        (false, dpop.as_str(), unusable("its type is not bearer")),
    ] {
        let world = if bound {
            dpop_world()
        } else {
            World::new(Rotation::Strict)
        };
        let found = run(&world, |_| response((200, body.to_owned())));
        let found = found.map(|access| matches!(access.bound_to, BoundTo::OwnKey(_)));
        assert_eq!(found, expected, "{bound} {body}");
        assert_eq!(custody_on_disk(&world).2, "refresh-2-canary");
    }
}

/// An event that belongs to no state but one, which is not this.
fn stray(state: &State) -> Vec<Event> {
    match state {
        State::Intending | State::Journaling { .. } | State::Settling { .. } => {
            vec![Event::Resumed, not_sent()]
        }
        State::Sending => vec![Event::Resumed, full()],
        State::Adopting { .. } | State::Orphaning { .. } => vec![not_sent(), ambiguous()],
        State::Done => vec![Event::Resumed, full(), not_sent(), conflict()],
    }
}

#[test]
fn an_event_that_does_not_belong_to_the_state_changes_nothing() {
    for (body, status, expected) in [
        (GOOD, 200, Ok(())),
        ("<html>", 200, Err(RefreshError::ProviderUnclear)),
        ("", 500, Err(RefreshError::ProviderUnclear)),
    ] {
        let world = World::new(Rotation::Strict);
        let (mut exchange, mut action) = begin(&world);
        let mut asked = 0;
        let result = loop {
            for event in stray(&exchange.state) {
                let name = format!("{event:?}");
                let before = std::mem::discriminant(&exchange.state);
                let found = step(&world, &mut exchange, event);
                assert!(matches!(found, Action::Pause(PAUSE_MS)), "{name} {found:?}");
                assert_eq!(std::mem::discriminant(&exchange.state), before, "{name}");
            }
            let event = match action {
                Action::Commit(pending) => commit(&world, pending),
                Action::Send(_) => {
                    asked += 1;
                    whole(status, body)
                }
                Action::Pause(_) => panic!("it goes on"),
                Action::Finish(result) => break result.map(|_| ()),
            };
            action = step(&world, &mut exchange, event);
        };
        assert_eq!((asked, result), (1, expected));
        assert!(matches!(exchange.state, State::Done));
    }
}

/// An exchange whose good answer is journalled, with the adoption that is to be committed.
fn adopting(world: &World) -> (Box<Exchange>, Action) {
    let (mut exchange, _) = sent(world);
    let journal = step(world, &mut exchange, whole(200, GOOD));
    let adoption = committed(world, &mut exchange, journal);
    assert!(matches!(exchange.state, State::Adopting { .. }));
    (exchange, adoption)
}

#[test]
fn a_store_that_is_full_for_long_is_no_other_owner() {
    let world = World::new(Rotation::Strict);
    let (mut exchange, mut action) = adopting(&world);
    for _ in 0..4 * MAX_CONFLICTS {
        assert!(matches!(action, Action::Commit(_)));
        let pause = step(&world, &mut exchange, full());
        assert!(matches!(pause, Action::Pause(PAUSE_MS)));
        assert!(matches!(exchange.state, State::Adopting { .. }));
        action = step(&world, &mut exchange, Event::Resumed);
    }
    assert_eq!(exchange.conflicts, 0);
    assert_eq!(commits(&world, &mut exchange, action), (1, Ok(())));
    assert_eq!(
        custody_on_disk(&world),
        (Phase::Idle, 2, "refresh-2-canary".to_owned())
    );
    assert!(world.enclave.view.read().orphans.is_empty());
}

/// An exchange whose record is another owner's, with the orphan that is to be committed.
fn orphaning(world: &World) -> (Box<Exchange>, Action) {
    let (mut exchange, mut action) = adopting(world);
    for met in 1..=MAX_CONFLICTS + 1 {
        assert!(matches!(exchange.state, State::Adopting { .. }), "{met}");
        let pause = step(world, &mut exchange, conflict());
        assert!(matches!(pause, Action::Pause(PAUSE_MS)));
        // What else the store says does not count.
        assert!(matches!(exchange.state, State::Adopting { .. }), "{met}");
        action = step(world, &mut exchange, Event::Resumed);
    }
    assert!(matches!(exchange.state, State::Orphaning { .. }));
    (exchange, action)
}

#[test]
fn a_record_that_stays_another_s_leaves_an_orphan() {
    let unclear = || Err(RefreshError::ProviderUnclear);
    let orphan = |world: &World| on_disk(world, Table::Orphans, "contacts.1");
    let successor = Some((1, b"refresh-2-canary".to_vec()));

    let world = World::new(Rotation::Strict);
    let (mut exchange, action) = orphaning(&world);
    assert_eq!(orphan(&world), None);
    let found = finished(committed(&world, &mut exchange, action));
    assert_eq!(found, unclear());
    assert_eq!(orphan(&world), successor);
    let held: Vec<_> = world.enclave.view.read().orphans.keys().cloned().collect();
    assert_eq!(held, [(grant(), 1)]);
    assert!(matches!(exchange.state, State::Done));

    // It is tried until there is room.
    let world = World::new(Rotation::Strict);
    let (mut exchange, mut action) = orphaning(&world);
    for _ in 0..3 {
        let Action::Commit(pending) = action else {
            panic!("{action:?}");
        };
        world.store.full.store(true, Ordering::Relaxed);
        let event = commit(&world, pending);
        let pause = step(&world, &mut exchange, event);
        assert!(matches!(pause, Action::Pause(PAUSE_MS)), "{pause:?}");
        assert!(matches!(exchange.state, State::Orphaning { .. }));
        action = step(&world, &mut exchange, Event::Resumed);
    }
    world.store.full.store(false, Ordering::Relaxed);
    let found = finished(committed(&world, &mut exchange, action));
    assert_eq!(found, unclear());
    assert_eq!(orphan(&world), successor);

    // It is there already; or nothing will ever be written again.
    for (error, expected) in [
        (StoreError::Conflict { key: Key([0; 32]) }, unclear()),
        (StoreError::Closed, Err(StoreError::Closed.into())),
    ] {
        let world = World::new(Rotation::Strict);
        let (mut exchange, _) = orphaning(&world);
        let found = step(&world, &mut exchange, Event::CommitFailed(error));
        assert_eq!(finished(found), expected);
        assert!(matches!(exchange.state, State::Done));
        assert!(world.enclave.view.read().orphans.is_empty());
    }
}

#[test]
fn a_store_that_is_closed_ends_the_exchange() {
    let closed = || Event::CommitFailed(StoreError::Closed);
    let world = World::new(Rotation::Strict);
    let (mut exchange, _) = begin(&world);
    let ended = step(&world, &mut exchange, closed());
    assert_eq!(finished(ended), Err(StoreError::Closed.into()));
    assert!(matches!(exchange.state, State::Done));

    let (mut exchange, _) = adopting(&world);
    let ended = step(&world, &mut exchange, closed());
    assert_eq!(finished(ended), Err(StoreError::Closed.into()));
    assert!(matches!(exchange.state, State::Done));
    assert_eq!(cached_tokens(&world), 0);
    // The answer is in the journal, for the next process.
    assert!(on_disk(&world, Table::Journal, "contacts").is_some());
}

#[test]
fn a_journal_that_can_t_be_written_leaves_the_adoption_to_keep_the_answer() {
    let world = World::new(Rotation::Strict);
    let (mut exchange, _) = sent(&world);
    let _journal = step(&world, &mut exchange, whole(200, GOOD));
    let adoption = step(&world, &mut exchange, full());
    assert_eq!(commits(&world, &mut exchange, adoption), (1, Ok(())));
    assert_eq!(
        custody_on_disk(&world),
        (Phase::Idle, 2, "refresh-2-canary".to_owned())
    );
}

#[test]
fn what_could_not_be_written_down_holds_for_this_boot() {
    let cause = Cause::RefusedByProvider;
    let dead = r#"{"error":"invalid_grant"}"#;
    let rows = [
        (not_sent(), Phase::Idle, RefreshError::ProviderUnreachable),
        (
            whole(500, ""),
            Phase::Uncertain { attempt: 1 },
            RefreshError::ProviderUnclear,
        ),
        (
            whole(400, dead),
            Phase::NeedsConsent { cause },
            RefreshError::NeedsConsent { cause },
        ),
    ];
    for (event, phase, result) in rows {
        let mut world = World::new(Rotation::Strict);
        let (mut exchange, _) = sent(&world);
        let _settle = step(&world, &mut exchange, event);
        assert_eq!(world.enclave.interrupted(), [grant()]);
        let ended = step(&world, &mut exchange, full());
        assert_eq!(finished(ended), Err(result));
        assert!(matches!(exchange.state, State::Done));
        let held = world.enclave.view.read().custody[&grant()].value.phase;
        assert_eq!(held, phase);
        assert_eq!(world.enclave.interrupted(), []);
        // The disk says no less: an exchange that was cut off.
        let intent = Phase::Intent { attempt: 1 };
        assert_eq!(custody_on_disk(&world).0, intent);
        world.restart();
        assert_eq!(world.enclave.interrupted(), [grant()]);
        let resumed = world.enclave.resume_refresh(&grant(), &world.now);
        assert!(resumed.unwrap().is_none());
        assert_eq!(world.deposit("another"), Ok(()));
    }
}

#[test]
fn a_grant_that_is_lost_loses_its_tokens_in_the_cache_and_its_past() {
    let mut world = World::new(Rotation::Strict);
    let mut provider = Provider::new(Rotation::Strict);
    let once = refused("invalid_client");
    let (pace, began) = (&world.enclave.pace, world.now);
    for _ in 0..3 {
        pace.refused(&grant(), &once, &began);
    }
    world.now.mono_ms += 10_000;
    run(&world, |request| response(provider.present(request))).unwrap();
    // It works: the past is over.
    world.enclave.pace.refused(&grant(), &once, &world.now);
    let held = |world: &World, ms| {
        let now = Now {
            mono_ms: world.now.mono_ms + ms,
            ..world.now
        };
        let profile = Profile::default();
        world.enclave.pace.held(&grant(), false, &profile, &now)
    };
    assert_eq!(held(&world, 999), Err(once.clone()));
    assert_eq!(held(&world, 1_000), Ok(()));

    // Old, and usable still.
    world.now.mono_ms += 52_000;
    let cached = |world: &World| {
        let wanted = scopes(world);
        world.enclave.cached_upstream(&grant(), &wanted, &world.now)
    };
    assert!(matches!(cached(&world), Some(Cached::Ageing(_))));
    let dead = r#"{"error":"invalid_grant"}"#;
    let found = run(&world, |_| response((400, dead.to_owned())));
    let cause = Cause::RefusedByProvider;
    assert_eq!(found.map(|_| ()), Err(RefreshError::NeedsConsent { cause }));
    assert!(cached(&world).is_none());
    world.enclave.pace.refused(&grant(), &once, &world.now);
    assert_eq!(held(&world, 999), Err(once));
    assert_eq!(held(&world, 1_000), Ok(()));
}

/// What somebody else does.
type Meanwhile = fn(&World, &Administrator);

#[test]
fn what_happens_between_the_adoption_and_its_release_holds_the_token_back() {
    let freeze = |world: &World, _: &Administrator| world.freeze(Subject::Grant(grant()));
    let revoke = |world: &World, by: &Administrator| {
        let ended = world.enclave.revoke_grant(by, &grant(), "", &world.now);
        assert!(world.settle(ended.unwrap()).revoked);
    };
    let delete = |world: &World, by: &Administrator| {
        let ended = world.enclave.delete_grant(by, &grant(), &world.now);
        world.settle(ended.unwrap());
    };
    let nothing = |_: &World, _: &Administrator| {};
    let subject = Subject::Grant(grant());
    let rows: [(Meanwhile, _); 4] = [
        (nothing, Ok(())),
        (freeze, Err(RefreshError::Frozen { subject })),
        (revoke, Err(RefreshError::Revoked)),
        (delete, Err(RefreshError::NoSuchGrant)),
    ];
    for (meanwhile, expected) in rows {
        let world = World::new(Rotation::Strict);
        let (mut exchange, action) = adopting(&world);
        let Action::Commit(pending) = action else {
            panic!("{action:?}");
        };
        let durable = pending.commit(&world.store).now_or_never().unwrap();
        // As a step does it, with somebody else between its two looks.
        let state = std::mem::replace(&mut exchange.state, State::Done);
        let State::Adopting { adoption } = state else {
            panic!("{state:?}");
        };
        world.enclave.apply(durable.unwrap());
        meanwhile(&world, world.admin());
        let ended = world.enclave.adopted(&exchange, adoption, &world.now);
        assert_eq!(finished(ended), expected);
        assert_eq!(cached_tokens(&world), usize::from(expected.is_ok()));
    }
}

fn access(usable_until_ms: u64) -> Arc<UpstreamAccess> {
    Arc::new(UpstreamAccess {
        token: UpstreamAccessToken::new(b"at".to_vec()),
        bound_to: BoundTo::Nothing,
        scopes: None,
        fresh_until_ms: usable_until_ms - 10,
        usable_until_ms,
        ends_ms: usable_until_ms,
        obtained_ms: 0,
        needles: std::sync::OnceLock::new(),
    })
}

#[test]
fn so_many_tokens_are_kept_and_those_that_serve_no_more_make_room() {
    let mut world = World::new(Rotation::Strict);
    let end_ms = world.now.mono_ms + 1_000;
    let most = crate::MAX_UPSTREAM_TOKENS_PER_GRANT;
    let wanted = |number: usize| Wanted {
        resource: Some(format!("https://{number}.example/")),
        ..scopes(&world)
    };
    let wanted: Vec<Wanted> = (0..most + 2).map(wanted).collect();
    let keep = |world: &World, number: usize, until_ms| {
        let (enclave, now) = (&world.enclave, &world.now);
        enclave.keep_upstream(&grant(), &wanted[number], &access(until_ms), now);
    };
    let until_ms = |world: &World, number: usize| {
        let cache = world.enclave.upstream.lock();
        let found = cache[&grant()].get(&wanted[number])?;
        Some(found.usable_until_ms)
    };
    for number in 0..most {
        keep(&world, number, end_ms);
        assert_eq!(cached_tokens(&world), number + 1);
    }
    // One more than that is not kept, and none goes for it.
    keep(&world, most, end_ms + 1);
    assert_eq!(until_ms(&world, most), None);
    assert_eq!(cached_tokens(&world), most);
    // Another of those that are kept takes its place.
    keep(&world, 0, end_ms + 1);
    assert_eq!(until_ms(&world, 0), Some(end_ms + 1));
    assert_eq!(cached_tokens(&world), most);
    // Until their last millisecond.
    world.now.mono_ms = end_ms - 1;
    keep(&world, most, end_ms + 2);
    assert_eq!(cached_tokens(&world), most);
    assert_eq!(until_ms(&world, most), None);
    world.now.mono_ms = end_ms;
    keep(&world, most, end_ms + 2);
    assert_eq!(until_ms(&world, most), Some(end_ms + 2));
    assert_eq!(until_ms(&world, 0), Some(end_ms + 1));
    assert_eq!(cached_tokens(&world), 2);
    // No other grant's go with a grant's.
    let stranger: GrantId = id("stranger");
    world
        .enclave
        .keep_upstream(&stranger, &wanted[0], &access(end_ms + 9), &world.now);
    world.enclave.forget_upstream(&grant());
    assert_eq!(cached_tokens(&world), 0);
    assert!(world.enclave.upstream.lock().contains_key(&stranger));
}

#[test]
fn a_token_is_fresh_then_ageing_then_none_to_the_millisecond() {
    let mut world = World::new(Rotation::Strict);
    let wanted = scopes(&world);
    let until_ms = world.now.mono_ms + 1_000;
    let token = access(until_ms);
    world
        .enclave
        .keep_upstream(&grant(), &wanted, &token, &world.now);
    for (mono_ms, expected) in [
        (until_ms - 11, "fresh"),
        (until_ms - 10, "ageing"),
        (until_ms - 1, "ageing"),
        (until_ms, "none"),
    ] {
        world.now.mono_ms = mono_ms;
        let found = world.enclave.cached_upstream(&grant(), &wanted, &world.now);
        let found = match found {
            Some(Cached::Fresh(_)) => "fresh",
            Some(Cached::Ageing(_)) => "ageing",
            None => "none",
        };
        assert_eq!(found, expected, "{mono_ms}");
    }
}

#[test]
fn only_a_fresh_token_saves_an_exchange() {
    let mut world = World::new(Rotation::Strict);
    let wanted = scopes(&world);
    let until_ms = world.now.mono_ms + 1_000;
    let token = access(until_ms);
    world
        .enclave
        .keep_upstream(&grant(), &wanted, &token, &world.now);
    for (mono_ms, cached) in [(until_ms - 11, true), (until_ms - 10, false)] {
        world.now.mono_ms = mono_ms;
        let begun = world.enclave.begin_refresh(&grant(), &wanted, &world.now);
        assert_eq!(matches!(begun.unwrap(), Begin::Cached(_)), cached);
    }
}

#[test]
fn an_exchange_that_was_resumed_releases_nothing_whatever_it_read() {
    let mut world = World::new(Rotation::Strict);
    let (mut exchange, _) = sent(&world);
    let journal = step(&world, &mut exchange, whole(200, GOOD));
    let _adoption = committed(&world, &mut exchange, journal);
    world.restart();
    let resumed = world.enclave.resume_refresh(&grant(), &world.now).unwrap();
    let (mut exchange, action) = resumed.unwrap();
    let found = drive(&world, &mut exchange, action, |_| {
        unreachable!("nothing is sent when a journal is adopted")
    });
    assert_eq!(found.map(|_| ()), Err(RefreshError::ProviderUnclear));
    assert_eq!(cached_tokens(&world), 0);
    assert_eq!(view(&world).refresh_generation, 2);
}
