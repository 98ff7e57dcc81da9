//! Tests of approvals: what is the same call, how long it waits, how many there may be.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]

use super::*;
use crate::testing::id;

fn at(mono_ms: u64) -> Now {
    Now {
        lo_s: 0,
        hi_s: 0,
        mono_ms,
    }
}

fn call(name: &str, change: impl FnOnce(&mut Approval)) -> Approval {
    let mut call = Approval {
        id: name.into(),
        tenant: id("acme"),
        grant: id("listed"),
        client: id("worker"),
        operation: OperationName::parse("listed/people-add").unwrap(),
        method: "POST".into(),
        path_and_query: "/people".into(),
        actors: vec!["jane".into()],
        asked_at_s: 7,
        state: ApprovalState::Waiting,
        ends_in_s: 0,
    };
    change(&mut call);
    call
}

fn decided(id: &str, state: ApprovalState, until_ms: u64) -> ApprovalEffect {
    ApprovalEffect::Decided {
        id: id.into(),
        state,
        until_ms,
    }
}

fn approved() -> ApprovalState {
    ApprovalState::Approved { by: "x".into() }
}

#[test]
fn an_approval_is_for_this_very_call_once() {
    let id = |id: &str| id.to_owned();
    type Change = fn(&mut Approval);
    let others: [Change; 7] = [
        |call| call.grant = crate::testing::id("other"),
        |call| call.client = crate::testing::id("stranger"),
        |call| call.operation = OperationName::parse("listed/people-get").unwrap(),
        |call| call.method = "PUT".into(),
        |call| call.path_and_query = "/people?page=2".into(),
        |call| call.actors.clear(),
        |call| call.actors.push("eve".into()),
    ];
    let approvals = Approvals::default();
    let now = at(0);
    assert_eq!(
        approvals.take(call("a", |_| {}), &now),
        Found::Asked { id: id("a") }
    );
    // Until its leaf is durable nobody decides, and it is written down again.
    assert_eq!(approvals.one("a", &now), None);
    assert_eq!(
        approvals.take(call("b", |_| {}), &now),
        Found::Asked { id: id("a") }
    );
    approvals.apply(ApprovalEffect::Asked { id: id("a") });
    assert_eq!(
        approvals.take(call("b", |_| {}), &now),
        Found::Waiting { id: id("a") }
    );
    let shown = approvals.one("a", &now).unwrap();
    assert_eq!(shown, call("a", |call| call.ends_in_s = WAITS_MS / 1_000));
    approvals.apply(decided("a", approved(), USABLE_MS));
    for (at, other) in others.into_iter().enumerate() {
        let name = format!("other-{at}");
        let found = approvals.take(call(&name, other), &now);
        assert_eq!(found, Found::Asked { id: name });
    }
    assert_eq!(
        approvals.take(call("b", |_| {}), &now),
        Found::Approved { id: id("a") }
    );
    // It was used.
    assert_eq!(
        approvals.take(call("b", |_| {}), &now),
        Found::Asked { id: id("b") }
    );
    assert_eq!(approvals.one("a", &now), None);
}

#[test]
fn what_waits_or_is_decided_comes_to_its_end() {
    let ask = |approvals: &Approvals, name: &str, mono_ms| {
        approvals.take(call(name, |_| {}), &at(mono_ms))
    };
    let asked = |name: &str| Found::Asked { id: name.into() };
    let begun = || {
        let approvals = Approvals::default();
        assert_eq!(ask(&approvals, "a", 0), asked("a"));
        approvals.apply(ApprovalEffect::Asked { id: "a".into() });
        approvals
    };
    let approvals = begun();
    let waiting = Found::Waiting { id: "a".into() };
    assert_eq!(ask(&approvals, "b", WAITS_MS - 1), waiting);
    assert!(approvals.one("a", &at(WAITS_MS - 1)).is_some());
    assert_eq!(approvals.one("a", &at(WAITS_MS)), None);
    assert_eq!(ask(&approvals, "b", WAITS_MS), asked("b"));

    for (mono_ms, expected) in [
        (USABLE_MS - 1, Found::Approved { id: "a".into() }),
        (USABLE_MS, asked("b")),
    ] {
        let approvals = begun();
        approvals.apply(decided("a", approved(), USABLE_MS));
        assert_eq!(ask(&approvals, "b", mono_ms), expected);
    }
    let approvals = begun();
    let denied = ApprovalState::Denied { by: "x".into() };
    approvals.apply(decided("a", denied, WAITS_MS));
    let found = Found::Denied { id: "a".into() };
    assert_eq!(ask(&approvals, "b", WAITS_MS - 1), found);
    assert_eq!(ask(&approvals, "b", WAITS_MS), asked("b"));
    // The last decision counts.
    approvals.apply(ApprovalEffect::Asked { id: "b".into() });
    let denied = ApprovalState::Denied { by: "x".into() };
    approvals.apply(decided("b", approved(), 3 * WAITS_MS));
    approvals.apply(decided("b", denied, 3 * WAITS_MS));
    let found = Found::Denied { id: "b".into() };
    assert_eq!(ask(&approvals, "c", WAITS_MS), found);
}

#[test]
fn a_client_and_a_tenant_fill_their_own_room_alone() {
    let approvals = Approvals::default();
    let ask = |tenant: &str, n: usize| {
        let name = format!("{tenant}-{n}");
        approvals.take(
            call(&name, |call| {
                call.tenant = id(tenant);
                call.grant = id(&format!("of-{tenant}"));
                call.client = id(&format!("client-{}", n / MAX_OF_CLIENT));
                call.path_and_query = format!("/{n}");
            }),
            &at(0),
        )
    };
    for n in 0..MAX_OF_TENANT {
        assert!(matches!(ask("acme", n), Found::Asked { .. }), "{n}");
    }
    assert_eq!(ask("acme", MAX_OF_TENANT), Found::Full);
    for n in 0..=MAX_OF_CLIENT {
        let found = approvals.take(
            call(&format!("flood-{n}"), |call| {
                call.tenant = id("flooded");
                call.path_and_query = format!("/{n}");
            }),
            &at(0),
        );
        assert_eq!(found == Found::Full, n == MAX_OF_CLIENT, "{n}");
    }
    assert!(matches!(ask("flooded", 0), Found::Asked { .. }));
    assert!(matches!(ask("other", 0), Found::Asked { .. }));
    let tenants = MAX_IN_ALL / MAX_OF_TENANT;
    for tenant in 1..tenants {
        for n in 0..MAX_OF_TENANT {
            ask(&format!("t{tenant}"), n);
        }
    }
    assert_eq!(ask("late", 0), Found::Full);
}
