//! Tests of recovery: what the next start, or the next owner, makes of an exchange that was cut off at each of its
//! steps, and of the successor that another owner left.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]

use super::tests::{
    Provider, begin, commit, custody_on_disk, drive, grant, leaves, on_disk, response, run, sent,
    view,
};
use super::*;
use crate::custody::Custody;
use crate::record::{Place, Table};
use crate::registry::Rotation;
use crate::store::Write;
use crate::testing::{REFRESH_TOKEN, World, id};
use crate::view::Held;

const GOOD: &str = r#"{"access_token":"at","token_type":"Bearer","expires_in":60,"refresh_token":"refresh-2-canary"}"#;

fn whole(status: u16, body: &str) -> Event {
    Event::Answered(response((status, body.to_owned())))
}

/// A world that died with this answer in its journal.
fn died_with(body: &str) -> World {
    let mut world = World::new(Rotation::Strict);
    let (mut exchange, _) = sent(&world);
    let event = whole(200, body);
    let Action::Commit(journal) = world.enclave.step_refresh(&mut exchange, event, &world.now)
    else {
        panic!("the raw answer first");
    };
    assert!(matches!(commit(&world, journal), Event::Committed(_)));
    world.restart();
    world
}

/// Resumes the exchange and lets it end.
fn resumed(world: &World) -> Option<Result<(), RefreshError>> {
    let resumed = world.enclave.resume_refresh(&grant(), &world.now).unwrap();
    let (mut exchange, action) = resumed?;
    let found = drive(world, &mut exchange, action, |_| {
        unreachable!("nothing is sent when a journal is read")
    });
    Some(found.map(|_| ()))
}

#[test]
fn what_the_journal_holds_is_read_as_it_would_have_been() {
    let cause = Cause::RefusedByProvider;
    let uncertain = Phase::Uncertain { attempt: 1 };
    let adopted = (Phase::Idle, 2, "refresh-2-canary".to_owned());
    let kept = |phase| (phase, 1, REFRESH_TOKEN.to_owned());
    let unclear = RefreshError::ProviderUnclear;
    let refreshed = serde_json::json!({
        "event": "refreshed",
        "grant": "contacts",
        "refresh_generation": 2,
        "rotated": true,
    });
    let of_no_use = {
        let mut leaf = refreshed.clone();
        leaf["refused"] = "its type is not bearer".into();
        leaf
    };
    let rows = [
        // Its access token may be old: it is not released.
        (
            GOOD.to_owned(),
            unclear.clone(),
            adopted.clone(),
            Some(refreshed.clone()),
        ),
        (
            GOOD.replace("Bearer", "mac"),
            unclear.clone(),
            adopted.clone(),
            Some(of_no_use),
        ),
        // Cut off.
        (
            GOOD.strip_suffix('}').unwrap().to_owned(),
            unclear.clone(),
            adopted,
            Some(refreshed),
        ),
        ("<html>".to_owned(), unclear, kept(uncertain), None),
        (
            r#"{"error":"slow_down"}"#.to_owned(),
            RefreshError::RateLimited { retry_after_s: 5 },
            kept(uncertain),
            None,
        ),
        (
            r#"{"error":"oops"}"#.to_owned(),
            RefreshError::ProviderRefused { code: "other" },
            kept(uncertain),
            Some(serde_json::json!({
                "event": "refresh_refused",
                "grant": "contacts",
                "error": "other",
            })),
        ),
        (
            r#"{"error":"invalid_grant"}"#.to_owned(),
            RefreshError::NeedsConsent { cause },
            kept(Phase::NeedsConsent { cause }),
            Some(serde_json::json!({
                "event": "needs_consent",
                "grant": "contacts",
                "cause": "refused_by_provider",
            })),
        ),
    ];
    for (body, error, custody, leaf) in rows {
        let mut world = died_with(&body);
        assert_eq!(world.enclave.interrupted(), [grant()], "{body}");
        let before = leaves(&world).len();
        assert_eq!(resumed(&world), Some(Err(error)), "{body}");
        for restarted in [false, true] {
            if restarted {
                world.restart();
            }
            assert_eq!(custody_on_disk(&world), custody, "{body}");
            assert_eq!(view(&world).refresh_generation, custody.1, "{body}");
            assert_eq!(world.enclave.interrupted(), [], "{body}");
            assert_eq!(on_disk(&world, Table::Journal, "contacts"), None, "{body}");
            assert!(world.enclave.view.read().journal.is_empty(), "{body}");
            assert!(world.enclave.upstream.lock().is_empty(), "{body}");
            // Once: nothing is left to resume.
            assert_eq!(resumed(&world), None, "{body}");
        }
        let new = leaves(&world).split_off(before);
        assert_eq!(new, Vec::from_iter(leaf), "{body}");
    }
}

#[test]
fn only_an_exchange_that_was_cut_off_is_resumed() {
    let mut world = World::new(Rotation::Strict);
    let nobody = world.enclave.resume_refresh(&id("stranger"), &world.now);
    assert!(nobody.unwrap().is_none());
    assert_eq!(resumed(&world), None);
    assert_eq!(custody_on_disk(&world).0, Phase::Idle);

    // Without an answer nothing is written: the next exchange says more than this.
    let (_exchange, _request) = sent(&world);
    world.restart();
    let before = (on_disk(&world, Table::Custody, "contacts"), leaves(&world));
    assert_eq!(resumed(&world), None);
    let held = world.enclave.view.read().custody[&grant()].value.phase;
    assert_eq!(held, Phase::Uncertain { attempt: 1 });
    let after = (on_disk(&world, Table::Custody, "contacts"), leaves(&world));
    assert_eq!(after, before);
    assert_eq!(world.enclave.interrupted(), []);
    assert_eq!(resumed(&world), None);
}

#[test]
fn an_answer_to_another_exchange_is_not_taken_for_the_answer_to_this_one() {
    let mut world = died_with(GOOD);
    // As if another owner had written the record on: the same bytes, one generation later.
    let place = Place::tenant(&id("acme"), Table::Custody, "contacts");
    let (generation, body) = on_disk(&world, Table::Custody, "contacts").unwrap();
    let write: Write = {
        let view = world.enclave.view.read();
        let key = view.realm_key(&id("acme")).unwrap();
        let (enclave, rng) = (&world.enclave, &ring::rand::SystemRandom::new());
        let sealed = enclave.cabinet.seal(rng, &key, &place, generation, &body);
        sealed.unwrap()
    };
    {
        let mut records = world.store.records.lock();
        let record = records.get_mut(&write.key).unwrap();
        record.generation += 1;
        record.sealed = write.sealed.unwrap().into();
    }
    world.restart();
    assert_eq!(resumed(&world), None);
    let held = world.enclave.view.read().custody[&grant()].value.phase;
    assert_eq!(held, Phase::Uncertain { attempt: 1 });
    // It goes with what comes next.
    assert!(on_disk(&world, Table::Journal, "contacts").is_some());
    run(&world, |_| response((500, String::new()))).unwrap_err();
    assert_eq!(on_disk(&world, Table::Journal, "contacts"), None);
    assert_eq!(custody_on_disk(&world).0, Phase::Uncertain { attempt: 2 });
}

/// So many actions of an exchange are carried out, then the process dies: at once, or when the next commit is durable
/// and the exchange does not know of it.
fn die_after(
    world: &mut World,
    provider: &mut Provider,
    exchange: &mut Exchange,
    mut action: Action,
    steps: usize,
    durable: bool,
) {
    for _ in 0..steps {
        let event = match action {
            Action::Commit(pending) => commit(world, pending),
            Action::Send(request) => Event::Answered(response(provider.present(&request))),
            Action::Pause(_) => Event::Resumed,
            Action::Finish(_) => break,
        };
        action = world.enclave.step_refresh(exchange, event, &world.now);
    }
    if let (Action::Commit(pending), true) = (action, durable) {
        assert!(matches!(commit(world, pending), Event::Committed(_)));
    }
    world.restart();
}

#[test]
fn a_process_that_dies_at_each_step_and_at_each_step_of_its_recovery_loses_what_it_must_alone() {
    // The intent, the request, the journal, the adoption; then as far as the recovery comes.
    for steps in 0..5 {
        for (durable, recovered) in [(false, 0), (false, 1), (true, 0), (true, 1)] {
            for recovery_durable in [false, true] {
                let what = format!("{steps} {durable} {recovered} {recovery_durable}");
                let mut world = World::new(Rotation::Strict);
                let mut provider = Provider::new(Rotation::Strict);
                let (mut exchange, action) = begin(&world);
                die_after(
                    &mut world,
                    &mut provider,
                    &mut exchange,
                    action,
                    steps,
                    durable,
                );
                // The recovery dies as well, as often as it likes.
                for _ in 0..3 {
                    let begun = world.enclave.resume_refresh(&grant(), &world.now);
                    let Some((mut exchange, action)) = begun.unwrap() else {
                        world.restart();
                        continue;
                    };
                    let exchange = &mut exchange;
                    let durable = recovery_durable;
                    die_after(
                        &mut world,
                        &mut provider,
                        exchange,
                        action,
                        recovered,
                        durable,
                    );
                }
                let _last = resumed(&world);
                assert_eq!(world.enclave.interrupted(), [], "{what}");
                let acted = provider.issued > 1;
                // Behind the request: durable, the journal's commit is what saves it.
                let kept = steps > 2 || (steps == 2 && durable);
                assert_eq!(acted, steps > 1, "{what}");
                let (phase, generation, token) = custody_on_disk(&world);
                if acted && kept {
                    let expected = (Phase::Idle, 2, provider.current.clone());
                    assert_eq!((phase, generation, token), expected, "{what}");
                } else {
                    assert_eq!((generation, token.as_str()), (1, REFRESH_TOKEN), "{what}");
                }
                assert_eq!(on_disk(&world, Table::Journal, "contacts"), None, "{what}");
                assert!(world.enclave.view.read().orphans.is_empty(), "{what}");
                // The next exchange works, or says what was lost, and it alone.
                let next = run(&world, |request| response(provider.present(request)));
                let cause = Cause::LostInExchange;
                let expected = if acted && !kept {
                    Err(RefreshError::NeedsConsent { cause })
                } else {
                    Ok(())
                };
                assert_eq!(next.map(|_| ()), expected, "{what}");
            }
        }
    }
}

/// Leaves an orphan of this generation of the grant's token, as another owner would.
fn leave_orphan(world: &World, replaces: u64) {
    let material = start::material(&world.enclave.view.read(), &grant());
    let mut exchange = Exchange {
        presented_generation: replaces,
        ..material.unwrap().exchange()
    };
    let successor = RefreshToken::new(b"refresh-2-canary".to_vec());
    let action = world.enclave.orphan(&mut exchange, successor).unwrap();
    let Action::Commit(pending) = action else {
        panic!("{action:?}");
    };
    let event = commit(world, pending);
    let ended = world.enclave.step_refresh(&mut exchange, event, &world.now);
    assert!(matches!(
        ended,
        Action::Finish(Err(RefreshError::ProviderUnclear))
    ));
}

#[test]
fn an_orphan_is_taken_where_its_token_may_have_been_spent_and_nowhere_else() {
    let consent = |cause| Phase::NeedsConsent { cause };
    let successor = Some(b"refresh-2-canary".to_vec());
    for (phase, generation, expected) in [
        (Phase::Intent { attempt: 1 }, 1, successor.clone()),
        (Phase::Uncertain { attempt: 1 }, 1, successor.clone()),
        (consent(Cause::LostInExchange), 1, successor),
        (consent(Cause::RefusedByProvider), 1, None),
        (consent(Cause::AnotherUser), 1, None),
        (Phase::Idle, 1, None),
        (Phase::Revoked, 1, None),
        // Another token has replaced it since.
        (Phase::Uncertain { attempt: 1 }, 2, None),
    ] {
        let world = World::new(Rotation::Strict);
        leave_orphan(&world, 1);
        let view = world.enclave.view.read();
        let held = &view.custody[&grant()];
        let held = Held::new(
            held.generation,
            Custody {
                phase,
                refresh_generation: generation,
                ..(*held.value).clone()
            },
        );
        let found = world.enclave.orphan_of(&view, &world.grant(), &held);
        let found = found.unwrap().map(|token| token.expose().to_vec());
        assert_eq!(found, expected, "{phase:?} {generation}");
    }
}

#[test]
fn an_orphan_that_was_adopted_is_gone_and_so_are_older_ones() {
    let mut world = World::new(Rotation::Strict);
    let (_exchange, _request) = sent(&world);
    for replaces in [0, 1] {
        leave_orphan(&world, replaces);
    }
    let on_disk = |world: &World| {
        ["contacts.0", "contacts.1"].map(|name| on_disk(world, Table::Orphans, name).is_some())
    };
    assert_eq!(on_disk(&world), [true, true]);
    world.restart();
    assert_eq!(resumed(&world), None);
    let before = leaves(&world).len();
    let found = run(&world, |_| unreachable!("the orphan is adopted first"));
    assert_eq!(found.map(|_| ()), Err(RefreshError::ProviderUnclear));
    for restarted in [false, true] {
        if restarted {
            world.restart();
        }
        assert_eq!(on_disk(&world), [false, false]);
        assert!(world.enclave.view.read().orphans.is_empty());
        let expected = (Phase::Idle, 2, "refresh-2-canary".to_owned());
        assert_eq!(custody_on_disk(&world), expected);
    }
    let leaf = serde_json::json!({
        "event": "refreshed",
        "grant": "contacts",
        "refresh_generation": 2,
        "rotated": true,
    });
    assert_eq!(leaves(&world).split_off(before), [leaf]);
}
