//! Tests of a grant's end in the middle of an exchange: whatever step is under
//! way, what was revoked stays dead and what was deleted is not written again.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]

use base64ct::{Base64UrlUnpadded, Encoding};
use futures_util::FutureExt;

use super::tests::{Provider, commit, grant, leaves, on_disk, response, scopes, sent};
use super::*;
use crate::admin::AdminError;
use crate::custody;
use crate::freshness::{Freshness, WitnessPolicy};
use crate::issue::IssueError;
use crate::policy::Denied;
use crate::profile::Profile;
use crate::record::{Place, Table};
use crate::registry::Rotation;
use crate::secret::RawResponse;
use crate::store::Store;
use crate::testing::{World, id};

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Revoked,
    /// Deleted, and made anew at once under the same id.
    Replaced,
}

/// When the end comes, seen from a commit of the exchange.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    Before,
    /// It was decided before the commit and is committed behind it.
    Between,
    /// The commit is durable, and the exchange does not know it yet.
    Behind,
}

const NEW_TOKEN: &str = "refresh-of-a-new-consent";

/// Ends the grant as the shell does: again, if a step of the exchange was faster.
fn end(world: &World, end: End) {
    let by = world.admin();
    match end {
        End::Revoked => {
            let ended = world.enclave.revoke_grant(by, &grant(), "", &world.now);
            assert!(world.settle(ended.unwrap()).revoked);
        }
        End::Replaced => {
            let ended = world.enclave.delete_grant(by, &grant(), &world.now);
            world.settle(ended.unwrap());
            world.deposit(NEW_TOKEN).unwrap();
        }
    }
}

fn token_in_custody(world: &World) -> (Phase, Vec<u8>) {
    let view = world.enclave.view.read();
    let held = view.custody.get(&grant()).unwrap();
    let key = view.realm_key(&id("acme")).unwrap();
    let place = Place::tenant(&id("acme"), Table::Custody, "contacts");
    let sealed = &held.value.sealed;
    let body = world
        .enclave
        .cabinet
        .open(&key, &place, held.generation, sealed);
    let (head, token, _key) = custody::decode(&body.unwrap()).unwrap();
    assert_eq!(head.phase, held.value.phase);
    (head.phase, token.expose().to_vec())
}

/// What is true of a grant that came to its end, also after a restart.
fn assert_ended(world: &mut World, end: End, what: &str) {
    for restarted in [false, true] {
        if restarted {
            world.restart();
        }
        assert_eq!(world.enclave.interrupted(), [], "{what}");
        let found = token_in_custody(world);
        match end {
            End::Revoked => {
                assert_eq!(found, (Phase::Revoked, Vec::new()), "{what}");
                assert!(world.enclave.view.read().journal.is_empty(), "{what}");
                let begun = world
                    .enclave
                    .begin_refresh(&grant(), &scopes(world), &world.now);
                assert_eq!(begun.map(|_| ()).unwrap_err(), RefreshError::Revoked);
                let asked = world.ask(|_| {}).map(|_| ());
                assert_eq!(asked, Err(IssueError::Denied(Denied::Revoked)), "{what}");
                let anew = world.deposit("another");
                assert_eq!(anew, Err(AdminError::Revoked), "{what}");
            }
            End::Replaced => {
                assert!(world.enclave.view.read().journal.is_empty(), "{what}");
                let expected = (Phase::Idle, NEW_TOKEN.as_bytes().to_vec());
                assert_eq!(found, expected, "{what}");
            }
        }
    }
}

/// Runs an exchange and ends the grant at its `at`th commit. Gives whether the exchange came so far.
fn exchange_ended_at(at: usize, when: When, how: End, rotation: Rotation) -> bool {
    let what = format!("{how:?} {when:?} commit {at} of {rotation:?}");
    let mut world = World::new(rotation);
    let mut provider = Provider::new(rotation);
    let begun = world
        .enclave
        .begin_refresh(&grant(), &scopes(&world), &world.now);
    let Ok(Begin::Exchange(mut exchange, mut action)) = begun else {
        panic!("{what}: no exchange");
    };
    let mut commits = 0;
    let mut ended = false;
    let found = loop {
        let event = match action {
            Action::Commit(pending) if commits == at && !ended => {
                ended = true;
                commits += 1;
                match when {
                    When::Before => {
                        end(&world, how);
                        commit(&world, pending)
                    }
                    When::Behind => {
                        let event = commit(&world, pending);
                        let by = world.admin();
                        let early = world.enclave.revoke_grant(by, &grant(), "", &world.now);
                        // The record moved on, unless this step does not write it.
                        if let Ok(durable) =
                            early.unwrap().commit(&world.store).now_or_never().unwrap()
                        {
                            world.enclave.release(durable, &world.now).unwrap();
                        }
                        action = world.enclave.step_refresh(&mut exchange, event, &world.now);
                        end(&world, how);
                        continue;
                    }
                    When::Between => {
                        let by = world.admin();
                        let early = world.enclave.revoke_grant(by, &grant(), "", &world.now);
                        let event = commit(&world, pending);
                        if let Ok(durable) =
                            early.unwrap().commit(&world.store).now_or_never().unwrap()
                        {
                            world.enclave.release(durable, &world.now).unwrap();
                        }
                        action = world.enclave.step_refresh(&mut exchange, event, &world.now);
                        end(&world, how);
                        continue;
                    }
                }
            }
            Action::Commit(pending) => {
                commits += 1;
                commit(&world, pending)
            }
            Action::Send(request) => Event::Answered(response(provider.present(&request))),
            Action::Pause(_) => Event::Resumed,
            Action::Finish(found) => break found,
        };
        action = world.enclave.step_refresh(&mut exchange, event, &world.now);
    };
    if !ended {
        return false;
    }
    if when == When::Before {
        assert!(found.is_err(), "{what}: a token was released");
    }
    let cached = world
        .enclave
        .cached_upstream(&grant(), &scopes(&world), &world.now);
    assert!(cached.is_none(), "{what}: a token stayed in the cache");
    assert_ended(&mut world, how, &what);
    true
}

#[test]
fn a_grant_that_ended_stays_dead_whatever_is_under_way() {
    for rotation in [Rotation::Strict, Rotation::Grace, Rotation::Never] {
        for how in [End::Revoked, End::Replaced] {
            for when in [When::Before, When::Between, When::Behind] {
                let reached = (0..8).filter(|at| exchange_ended_at(*at, when, how, rotation));
                // The intent, the journal, the adoption.
                assert_eq!(reached.count(), 3, "{how:?} {when:?} {rotation:?}");
            }
        }
    }
}

#[test]
fn a_revoked_grant_keeps_its_token_for_the_provider_alone_until_it_is_deleted() {
    let mut world = World::new(Rotation::Strict);
    let by = world.admin();
    let stranger = crate::admin::Administrator {
        name: "other".into(),
        spki_sha256: [7; 32],
        roles: vec![crate::admin::Role::Tenant(id("other"))],
    };
    let absent = AdminError::NotFound("grant");
    let revoked = world
        .enclave
        .revoke_grant(&stranger, &grant(), "", &world.now);
    assert_eq!(revoked.map(|_| ()), Err(absent.clone()));
    let deleted = world.enclave.delete_grant(&stranger, &grant(), &world.now);
    assert_eq!(deleted.map(|_| ()), Err(absent.clone()));
    let long = "x".repeat(513);
    let revoked = world.enclave.revoke_grant(by, &grant(), &long, &world.now);
    let rule = "at most 512 bytes";
    let field = "reason";
    assert_eq!(revoked.map(|_| ()), Err(AdminError::Field { field, rule }));

    let records = || world.store.records.lock().len();
    let before = records();
    end(&world, End::Revoked);
    assert_eq!(records(), before + 1);
    // Again: nothing is written, nothing changes.
    let leaves = world.store.leaves.lock().len();
    end(&world, End::Revoked);
    assert_eq!(world.store.leaves.lock().len(), leaves);
    world.restart();
    let view = world.enclave.grant(world.admin(), &grant()).unwrap();
    assert!(view.revoked && view.revocation_pending);

    let deleted = world
        .enclave
        .delete_grant(world.admin(), &grant(), &world.now);
    world.settle(deleted.unwrap());
    // The custody's record stays, empty.
    assert_eq!(world.store.records.lock().len(), before - 1);
    world.restart();
    let gone = world.enclave.grant(world.admin(), &grant());
    assert_eq!(gone.map(|_| ()), Err(absent));
    let first = world.store.scan(None, 1_000).now_or_never().unwrap();
    assert_eq!(first.unwrap().len(), before - 1);
    // The id is free for a new consent.
    world.deposit(NEW_TOKEN).unwrap();
    assert!(world.ask(|_| {}).is_ok());
}

/// What the provider is asked to revoke.
fn asked_to_revoke(world: &World) -> String {
    let Ok(Telling::Send(request)) = world.enclave.tell(&grant(), &world.now) else {
        panic!("there is something to tell");
    };
    assert_eq!(request.url.as_str(), "http://127.0.0.1:1/revoke");
    String::from_utf8(request.body.expose().to_vec()).unwrap()
}

fn status(status: u16, body: &str) -> UpstreamAnswer {
    UpstreamAnswer::Response {
        status,
        retry_after_s: None,
        dpop_nonce: None,
        body: RawResponse::new(body.as_bytes().to_vec()),
    }
}

#[test]
fn a_provider_is_told_until_its_answer_settles_it() {
    let unsettled = || {
        vec![
            UpstreamAnswer::NotSent,
            UpstreamAnswer::Ambiguous,
            status(500, ""),
            status(503, ""),
            status(429, ""),
            status(302, ""),
        ]
    };
    let rows = [
        (200, "", Told::Proved),
        (200, "{}", Told::Proved),
        (400, r#"{"error":"invalid_token"}"#, Told::Proved),
        (400, r#"{"error":"invalid_grant"}"#, Told::Proved),
        (
            400,
            r#"{"error":"unsupported_token_type"}"#,
            Told::Unsupported,
        ),
        (401, r#"{"error":"invalid_client"}"#, Told::Refused),
        (403, "<html>", Told::Refused),
        (200, r#"{"error":"oops"}"#, Told::Refused),
    ];
    for (code, body, expected) in rows {
        let mut world = World::new(Rotation::Strict);
        let untouched = world.enclave.tell(&grant(), &world.now);
        assert_eq!(untouched.map(|_| ()), Err(RefreshError::NoSuchGrant));
        end(&world, End::Revoked);
        for answer in unsettled() {
            let form = asked_to_revoke(&world);
            assert!(form.contains("token=refresh-1-canary"), "{form}");
            let heard = world.enclave.heard(&grant(), answer, &world.now);
            assert!(heard.unwrap().is_none());
            assert_eq!(world.enclave.to_be_told(), [grant()]);
            // A provider that fails is left alone for a while.
            world.now.mono_ms += 120_000;
        }
        world.restart();
        let _asked = asked_to_revoke(&world);
        let heard = world
            .enclave
            .heard(&grant(), status(code, body), &world.now);
        let told = world.settle(heard.unwrap().unwrap());
        assert_eq!(told, expected, "{code} {body}");
        for restarted in [false, true] {
            if restarted {
                world.restart();
            }
            assert_eq!(world.enclave.to_be_told(), []);
            let view = world.enclave.grant(world.admin(), &grant()).unwrap();
            assert!(view.revoked && !view.revocation_pending);
            assert_eq!(view.told, Some(expected));
            assert_eq!(token_in_custody(&world), (Phase::Revoked, Vec::new()));
        }
    }
}

/// A grant that was revoked, with four failures of its provider in a row.
fn revoked_with_a_provider_that_fails() -> World {
    let world = World::new(Rotation::Strict);
    end(&world, End::Revoked);
    for _ in 0..4 {
        let pace = &world.enclave.pace;
        pace.report(&whom(), pace::Taken::Unwell, &world.now);
    }
    world
}

fn whom() -> pace::Whom {
    (id("crm"), id("acme"))
}

#[test]
fn what_a_provider_says_to_a_revocation_counts_for_its_circuit() {
    let cut = |status| UpstreamAnswer::Cut {
        status,
        body: RawResponse::new(Vec::new()),
    };
    for (answer, well) in [
        (UpstreamAnswer::NotSent, false),
        (UpstreamAnswer::Ambiguous, false),
        (cut(200), false),
        (status(500, ""), false),
        (status(503, ""), false),
        (status(599, ""), false),
        (status(499, ""), true),
        (status(408, ""), true),
        (status(400, ""), true),
        (status(302, ""), true),
        (status(200, ""), true),
    ] {
        let what = format!("{answer:?}");
        let world = revoked_with_a_provider_that_fails();
        let _asked = asked_to_revoke(&world);
        let _heard = world.enclave.heard(&grant(), answer, &world.now).unwrap();
        let paused = Err(RefreshError::ProviderPaused { retry_after_s: 1 });
        let expected = if well { Ok(()) } else { paused };
        let pace = &world.enclave.pace;
        assert_eq!(pace.waits(&whom(), &world.now), expected, "{what}");
        let told = world.enclave.tell(&grant(), &world.now);
        assert_eq!(told.map(|_| ()), expected, "{what}");
        for _ in 0..4 {
            assert_eq!(pace.waits(&whom(), &world.now).is_ok(), well, "{what}");
            pace.report(&whom(), pace::Taken::Unwell, &world.now);
        }
    }
}

#[test]
fn a_provider_that_asks_for_patience_is_told_later() {
    for code in [200, 302, 400, 429, 503] {
        for (retry_after_s, expected) in [
            (None, Ok(())),
            (Some(9), Err(RefreshError::RateLimited { retry_after_s: 9 })),
        ] {
            let world = World::new(Rotation::Strict);
            end(&world, End::Revoked);
            let _asked = asked_to_revoke(&world);
            let answer = UpstreamAnswer::Response {
                status: code,
                retry_after_s,
                dpop_nonce: None,
                body: RawResponse::new(Vec::new()),
            };
            let _heard = world.enclave.heard(&grant(), answer, &world.now).unwrap();
            let told = world.enclave.tell(&grant(), &world.now);
            assert_eq!(told.map(|_| ()), expected, "{code}");
        }
    }
}

#[test]
fn a_provider_is_told_at_its_rate_and_by_a_state_that_is_witnessed() {
    let profile = Profile {
        requests_per_s: 1,
        requests_burst: 1,
        ..Profile::default()
    };
    let mut world = World::with_profile(Rotation::Strict, profile);
    end(&world, End::Revoked);
    world.enclave.freshness = Freshness::new(Some(WitnessPolicy {
        quorum: 1,
        keys: Vec::new(),
        lease_ms: 1_000,
    }));
    let told = |world: &World| world.enclave.tell(&grant(), &world.now).map(|_| ());
    assert_eq!(told(&world), Err(RefreshError::NotWitnessed));
    world.enclave.freshness = Freshness::new(None);
    assert_eq!(told(&world), Ok(()));
    let limited = RefreshError::RateLimited { retry_after_s: 1 };
    assert_eq!(told(&world), Err(limited));
}

#[test]
fn what_a_provider_made_of_a_revocation_is_a_leaf() {
    for (code, body, outcome) in [
        (200, "", "proved"),
        (400, r#"{"error":"invalid_token"}"#, "proved"),
        (401, r#"{"error":"invalid_client"}"#, "refused"),
        (400, r#"{"error":"unsupported_token_type"}"#, "unsupported"),
    ] {
        let world = World::new(Rotation::Strict);
        end(&world, End::Revoked);
        let before = leaves(&world).len();
        let answer = status(code, body);
        let heard = world.enclave.heard(&grant(), answer, &world.now);
        let told = world.settle(heard.unwrap().unwrap());
        assert_eq!(told.word(), outcome);
        let leaf = serde_json::json!({
            "event": "provider_told",
            "grant": "contacts",
            "outcome": outcome,
        });
        assert_eq!(leaves(&world).split_off(before), [leaf], "{code} {body}");
        assert_eq!(on_disk(&world, Table::Revocations, "contacts"), None);
    }
}

/// The same body, with an id token.
fn with_id_token(body: &str) -> String {
    let claims = br#"{"iss":"https://p.example","sub":"alice"}"#;
    let payload = Base64UrlUnpadded::encode_string(claims);
    body.replacen('{', &format!(r#"{{"id_token":"e30.{payload}.c2ln","#), 1)
}

#[test]
fn whatever_an_answer_holds_its_successor_is_told_of_if_the_grant_was_revoked_meanwhile() {
    // The revocation comes when the answer is here, or when its journal is durable.
    for named in [false, true] {
        for steps in 0..2 {
            let what = format!("{named} {steps}");
            let mut world = World::new(Rotation::Strict);
            let mut provider = Provider::new(Rotation::Strict);
            let (mut exchange, request) = sent(&world);
            let (status, mut body) = provider.present(&request);
            if named {
                body = with_id_token(&body);
            }
            let mut event = Event::Answered(response((status, body)));
            let mut left: u8 = steps;
            let found = loop {
                if left == 0 {
                    end(&world, End::Revoked);
                }
                left = left.wrapping_sub(1);
                match world.enclave.step_refresh(&mut exchange, event, &world.now) {
                    Action::Commit(pending) => event = commit(&world, pending),
                    Action::Pause(_) => event = Event::Resumed,
                    Action::Finish(found) => break found,
                    Action::Send(_) => panic!("{what}"),
                }
            };
            assert_eq!(found.map(|_| ()), Err(RefreshError::Revoked), "{what}");
            for restarted in [false, true] {
                if restarted {
                    world.restart();
                }
                let form = asked_to_revoke(&world);
                assert!(form.contains("token=refresh-2-canary"), "{what} {form}");
                assert_eq!(on_disk(&world, Table::Journal, "contacts"), None, "{what}");
            }
        }
    }
}

#[test]
fn a_successor_that_arrives_behind_the_revocation_is_what_the_provider_is_told_of() {
    let world = World::new(Rotation::Strict);
    let mut provider = Provider::new(Rotation::Strict);
    let begun = world
        .enclave
        .begin_refresh(&grant(), &scopes(&world), &world.now);
    let Ok(Begin::Exchange(mut exchange, mut action)) = begun else {
        panic!("no exchange");
    };
    let found = loop {
        let event = match action {
            Action::Commit(pending) => commit(&world, pending),
            Action::Send(request) => {
                let answer = provider.present(&request);
                end(&world, End::Revoked);
                Event::Answered(response(answer))
            }
            Action::Pause(_) => Event::Resumed,
            Action::Finish(result) => break result,
        };
        action = world.enclave.step_refresh(&mut exchange, event, &world.now);
    };
    assert_eq!(found.map(|_| ()), Err(RefreshError::Revoked));
    let form = asked_to_revoke(&world);
    assert!(form.contains("token=refresh-2-canary"), "{form}");

    // The same, if the process died with the answer in its journal.
    let mut world = World::new(Rotation::Strict);
    let mut provider = Provider::new(Rotation::Strict);
    let begun = world
        .enclave
        .begin_refresh(&grant(), &scopes(&world), &world.now);
    let Ok(Begin::Exchange(mut exchange, mut action)) = begun else {
        panic!("no exchange");
    };
    for _ in 0..3 {
        let event = match action {
            Action::Commit(pending) => commit(&world, pending),
            Action::Send(request) => Event::Answered(response(provider.present(&request))),
            Action::Pause(_) | Action::Finish(_) => panic!("{action:?}"),
        };
        action = world.enclave.step_refresh(&mut exchange, event, &world.now);
    }
    world.restart();
    end(&world, End::Revoked);
    let form = asked_to_revoke(&world);
    assert!(form.contains("token=refresh-2-canary"), "{form}");
}
