//! Tests of grants' lives: sleep and its end, what a restart knows of it, reviews.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]

use serde_json::{Value, json};

use super::*;
use crate::admin::{AdminError, Administrator, PageRequest, Role};
use crate::issue::IssueError;
use crate::policy::Denied;
use crate::profile::Profile;
use crate::registry::Rotation;
use crate::terms::{GrantTerms, MAX_IDLE_S};
use crate::testing::{World, id};

const DAY_S: u64 = 86_400;

fn by(role: Role) -> Administrator {
    Administrator {
        name: "someone".into(),
        spki_sha256: [7; 32],
        roles: vec![role],
    }
}

fn owner() -> Administrator {
    by(Role::Tenant(id("acme")))
}

fn update(world: &World, by: &Administrator, terms: GrantTerms) -> Result<(), AdminError> {
    let updated = world
        .enclave
        .update_grant(by, &id("contacts"), terms, &world.now);
    drop(world.settle(updated?));
    Ok(())
}

fn sleeps_after(idle_s: u64) -> GrantTerms {
    GrantTerms {
        sleep_after_idle_s: Some(idle_s),
        ..GrantTerms::default()
    }
}

fn review_at(at_s: u64) -> GrantTerms {
    GrantTerms {
        owner: "crm-team".into(),
        purpose: "nightly sync".into(),
        review_at_s: Some(at_s),
        ..GrantTerms::default()
    }
}

/// A world whose grant falls asleep after a day.
fn drowsy() -> World {
    let world = World::new(Rotation::Strict);
    update(&world, &owner(), sleeps_after(DAY_S)).unwrap();
    world
}

fn pass(world: &mut World, seconds: u64) {
    world.now.lo_s += seconds;
    world.now.hi_s += seconds;
    world.now.mono_ms += seconds * 1_000;
}

fn ask(world: &World) -> Result<(), IssueError> {
    world.ask(|_| {}).map(|_| ())
}

const ASLEEP: Result<(), IssueError> = Err(IssueError::Denied(Denied::Asleep));

/// Tends until nothing is due, and says how often something was.
fn tend(world: &World) -> usize {
    let mut batches = 0;
    while let Some(pending) = world.enclave.tend(&world.now).unwrap() {
        world.settle(pending);
        batches += 1;
    }
    batches
}

/// The events of acme's of a kind.
fn events(world: &World, kind: &str) -> Vec<Value> {
    let auditor = by(Role::TenantAuditor(id("acme")));
    let reader = world
        .enclave
        .leaf_reader(&auditor, Some(&id("acme")))
        .unwrap();
    let leaves = world.store.leaves.lock();
    let read = leaves
        .iter()
        .filter_map(|leaf| world.enclave.read_leaf(&reader, &leaf.bytes));
    let events = read.map(|read| serde_json::from_str::<Value>(&read.event.unwrap()).unwrap());
    events.filter(|event| event["event"] == kind).collect()
}

fn seen(world: &World) -> crate::admin::GrantView {
    world.enclave.grant(&owner(), &id("contacts")).unwrap()
}

/// The clock's uncertainty: no grant falls asleep before the time is surely over.
fn slack_s(world: &World) -> u64 {
    world.now.hi_s - world.now.lo_s
}

#[test]
fn a_grant_that_nobody_uses_falls_asleep_until_its_tenant_wakes_it() {
    let mut world = drowsy();
    let slack_s = slack_s(&world);
    // Each use puts it off.
    for _ in 0..3 {
        pass(&mut world, DAY_S + slack_s - 1);
        assert_eq!(ask(&world), Ok(()));
        assert_eq!(tend(&world), 0);
    }
    let used_s = world.now.hi_s;
    assert_eq!(seen(&world).last_used_s, Some(used_s));
    assert_eq!(world.enclave.tend_in_s(&world.now), Some(DAY_S + slack_s));
    pass(&mut world, DAY_S + slack_s);
    assert_eq!(world.enclave.tend_in_s(&world.now), Some(0));
    // It sleeps whether or not that is written down yet.
    assert_eq!(ask(&world), ASLEEP);
    assert_eq!(tend(&world), 1);
    assert_eq!(tend(&world), 0);
    assert_eq!(world.enclave.tend_in_s(&world.now), None);
    let since_s = world.now.lo_s;
    let slept = json!({"event": "grant_slept", "grant": "contacts", "last_used_s": used_s});
    assert_eq!(events(&world, "grant_slept"), [slept]);
    assert_eq!(seen(&world).asleep_since_s, Some(since_s));
    for restarted in [false, true] {
        if restarted {
            world.restart();
        }
        assert_eq!(ask(&world), ASLEEP, "{restarted}");
        // Neither a longer time nor none wakes it.
        update(&world, &owner(), sleeps_after(10 * DAY_S)).unwrap();
        update(&world, &owner(), GrantTerms::default()).unwrap();
        assert_eq!(ask(&world), ASLEEP, "{restarted}");
        update(&world, &owner(), sleeps_after(DAY_S)).unwrap();
        assert_eq!(ask(&world), ASLEEP, "{restarted}");
        assert_eq!(tend(&world), 0);
    }
    let wake = |by: &Administrator| {
        let woken = world.enclave.wake_grant(by, &id("contacts"), &world.now);
        woken.map(|pending| world.settle(pending).asleep_since_s)
    };
    let absent = Err(AdminError::NotFound("grant"));
    assert_eq!(wake(&by(Role::Operator)), absent);
    assert_eq!(wake(&by(Role::Vendor(id("crm-sync")))), absent);
    assert_eq!(wake(&by(Role::Tenant(id("other")))), absent);
    let auditor = by(Role::TenantAuditor(id("acme")));
    assert_eq!(wake(&auditor), Err(AdminError::Forbidden));
    assert_eq!(wake(&by(Role::TenantSecurity(id("acme")))), Ok(None));
    assert_eq!(ask(&world), Ok(()));
    // Once awake it stays so, and no leaf says otherwise.
    assert_eq!(wake(&owner()), Ok(None));
    let woken = json!({"event": "grant_woken", "grant": "contacts", "by": "someone"});
    assert_eq!(events(&world, "grant_woken"), [woken]);
    world.restart();
    assert_eq!(ask(&world), Ok(()));
}

#[test]
fn a_use_is_written_down_once_an_hour() {
    let mut world = drowsy();
    let generation = |world: &World| {
        let key = world
            .enclave
            .cabinet
            .key(&Place::tenant(&id("acme"), Table::Lives, "contacts"));
        world.store.records.lock()[&key].generation
    };
    // It is watched from the moment on that its tenant said so.
    assert_eq!(generation(&world), 1);
    for _ in 0..100 {
        pass(&mut world, 35);
        assert_eq!(ask(&world), Ok(()));
    }
    assert_eq!(generation(&world), 1);
    pass(&mut world, 100);
    for _ in 0..100 {
        assert_eq!(ask(&world), Ok(()));
    }
    assert_eq!(generation(&world), 2);
    // A use that did not become durable is no reason to write the next one down at once.
    pass(&mut world, MARK_AFTER_S);
    let lost = world.pending(|_| {}).unwrap();
    drop(lost);
    assert_eq!(ask(&world), Ok(()));
    assert_eq!(generation(&world), 2);
    pass(&mut world, MARK_AFTER_S);
    assert_eq!(ask(&world), Ok(()));
    assert_eq!(generation(&world), 3);
}

#[test]
fn a_restart_lets_no_grant_sleep_early() {
    let mut world = drowsy();
    let slack_s = slack_s(&world);
    // Used a moment before the hour was over: the disk knows of the first use alone.
    pass(&mut world, MARK_AFTER_S - 1);
    assert_eq!(ask(&world), Ok(()));
    world.restart();
    pass(&mut world, DAY_S + slack_s - 1);
    assert_eq!(ask(&world), Ok(()));

    // What the disk does not know may let it sleep an hour late, and no later.
    let mut world = drowsy();
    world.restart();
    pass(&mut world, DAY_S + MARK_AFTER_S + slack_s);
    assert_eq!(ask(&world), ASLEEP);
}

#[test]
fn what_is_not_watched_never_sleeps_and_what_is_begins_when_it_is_set() {
    let mut world = World::new(Rotation::Strict);
    pass(&mut world, 1_000 * DAY_S);
    assert_eq!((ask(&world), tend(&world)), (Ok(()), 0));
    assert_eq!(seen(&world).last_used_s, None);
    pass(&mut world, 1_000 * DAY_S);
    update(&world, &owner(), sleeps_after(DAY_S)).unwrap();
    assert_eq!(ask(&world), Ok(()));
    // A new one begins with its deposit.
    world
        .deposit_grant(Grant {
            id: id("new"),
            terms: sleeps_after(DAY_S).or_none(),
            ..world.grant()
        })
        .unwrap();
    let view = world.enclave.view.read();
    let new = &view.grants[&id::<GrantId>("new")].value;
    assert!(!view.is_asleep(new, &world.now));
    let mut later = world.now;
    later.lo_s += DAY_S + slack_s(&world);
    assert!(view.is_asleep(new, &later));
}

#[test]
fn a_grant_that_sleeps_is_not_kept_alive() {
    let profile = Profile {
        quiet_ms: 0,
        idle_lifetime_s: Some(3_600),
        ..Profile::default()
    };
    let mut world = World::with_profile(Rotation::Strict, profile);
    update(&world, &owner(), sleeps_after(DAY_S)).unwrap();
    let due = |world: &World| world.enclave.due_for_keep_alive(&world.now, None, 10).len();
    pass(&mut world, DAY_S - 1);
    assert_eq!(due(&world), 1);
    let slack_s = slack_s(&world);
    pass(&mut world, 1 + slack_s);
    assert_eq!(due(&world), 0);
    tend(&world);
    assert_eq!(due(&world), 0);
}

#[test]
fn a_review_is_told_once_a_date() {
    let mut world = World::new(Rotation::Strict);
    let first_s = world.now.lo_s + DAY_S;
    update(&world, &owner(), review_at(first_s)).unwrap();
    assert_eq!(tend(&world), 0);
    assert_eq!(world.enclave.tend_in_s(&world.now), Some(DAY_S));
    pass(&mut world, DAY_S);
    let told = json!({
        "event": "grant_review_due", "grant": "contacts", "review_at_s": first_s,
        "owner": "crm-team", "purpose": "nightly sync",
    });
    for restarted in [false, true] {
        if restarted {
            world.restart();
        }
        assert_eq!(tend(&world), usize::from(!restarted));
        assert_eq!(
            events(&world, "grant_review_due"),
            std::slice::from_ref(&told)
        );
        assert_eq!(world.enclave.tend_in_s(&world.now), None);
    }
    // It goes on all the same, and another date is told again.
    assert_eq!(ask(&world), Ok(()));
    update(&world, &owner(), review_at(first_s + DAY_S)).unwrap();
    assert_eq!(tend(&world), 0);
    pass(&mut world, DAY_S);
    assert_eq!(tend(&world), 1);
    assert_eq!(events(&world, "grant_review_due").len(), 2);
    // A revoked grant is nobody's to review, and a deleted one leaves nothing behind.
    update(&world, &owner(), review_at(first_s)).unwrap();
    let revoked = world
        .enclave
        .revoke_grant(&owner(), &id("contacts"), "", &world.now);
    drop(world.settle(revoked.unwrap()));
    assert_eq!(tend(&world), 0);
    let deleted = world
        .enclave
        .delete_grant(&owner(), &id("contacts"), &world.now);
    world.settle(deleted.unwrap());
    let view = world.enclave.view.read();
    assert!(view.lives.is_empty() && view.tended.is_empty());
}

#[test]
fn grants_are_listed_by_their_review() {
    let world = World::new(Rotation::Strict);
    let at_s = world.now.lo_s + DAY_S;
    update(&world, &owner(), review_at(at_s)).unwrap();
    let listed = |before_s| {
        let page = PageRequest::default();
        let page = world.enclave.grants(&owner(), &id("acme"), before_s, page);
        page.unwrap().entries.len()
    };
    assert_eq!(listed(None), 1);
    assert_eq!(listed(Some(at_s)), 0);
    assert_eq!(listed(Some(at_s + 1)), 1);
}

#[test]
fn each_ill_formed_term_of_a_life_is_refused_and_the_owner_alone_puts_things_off() {
    let world = World::new(Rotation::Strict);
    let with = |change: fn(&mut GrantTerms)| {
        let mut terms = GrantTerms::default();
        change(&mut terms);
        terms
    };
    let rows = [
        (
            with(|terms| terms.owner = "o".repeat(257)),
            "grant.terms.owner",
            "at most 256 bytes, no control characters",
        ),
        (
            with(|terms| terms.owner = "a\nb".into()),
            "grant.terms.owner",
            "at most 256 bytes, no control characters",
        ),
        (
            with(|terms| terms.purpose = "p".repeat(1_025)),
            "grant.terms.purpose",
            "at most 1024 bytes, no control characters",
        ),
        (
            sleeps_after(0),
            "grant.terms.sleep_after_idle_s",
            "1 second to ten years",
        ),
        (
            sleeps_after(MAX_IDLE_S + 1),
            "grant.terms.sleep_after_idle_s",
            "1 second to ten years",
        ),
    ];
    for (terms, field, rule) in rows {
        let refused = Err(AdminError::Field { field, rule });
        assert_eq!(update(&world, &owner(), terms), refused);
    }
    let before = GrantTerms {
        sleep_after_idle_s: Some(DAY_S),
        ..review_at(100)
    };
    let changed = |change: fn(&mut GrantTerms)| {
        let mut terms = before.clone();
        change(&mut terms);
        terms
    };
    let rows = [
        (changed(|_| {}), false),
        (changed(|terms| terms.review_at_s = Some(99)), false),
        (changed(|terms| terms.review_at_s = Some(101)), true),
        (changed(|terms| terms.review_at_s = None), true),
        (changed(|terms| terms.sleep_after_idle_s = Some(1)), false),
        (
            changed(|terms| terms.sleep_after_idle_s = Some(DAY_S + 1)),
            true,
        ),
        (changed(|terms| terms.sleep_after_idle_s = None), true),
        (changed(|terms| terms.owner = "others".into()), true),
        (changed(|terms| terms.purpose.clear()), true),
    ];
    let security = by(Role::TenantSecurity(id("acme")));
    for (terms, owners) in rows {
        update(&world, &owner(), before.clone()).unwrap();
        assert_eq!(terms.widen(&before), owners, "{terms:?}");
        let expected = if owners {
            Err(AdminError::Forbidden)
        } else {
            Ok(())
        };
        assert_eq!(update(&world, &security, terms.clone()), expected);
        assert_eq!(update(&world, &owner(), terms), Ok(()));
    }
}
