//! Tests of limits: their bounds, what is wider than what, on whose accounts something counts.

use super::*;
use crate::issue::IssueError;
use crate::refresh::{Begin, RefreshError};
use crate::registry::Rotation;
use crate::terms::GrantTerms;
use crate::testing::{DIRECT, RESOURCE, World, id};

fn limit(amount: u64, period_s: u32, burst: u64) -> Limit {
    Limit {
        amount,
        period_s,
        burst,
    }
}

fn tokens(limit: Limit) -> Limits {
    Limits {
        tokens: Some(limit),
        ..Limits::default()
    }
}

/// One a day.
fn one() -> Limits {
    tokens(limit(1, 86_400, 1))
}

#[test]
fn each_bound_of_a_limit_refuses() {
    let bounds = Some("1 to 2^40 in 1 to 86400 seconds, 1 to 2^40 at once");
    let rows = [
        (limit(1, 1, 1), None),
        (limit(MAX_AMOUNT, MAX_PERIOD_S, MAX_AMOUNT), None),
        (limit(0, 1, 1), bounds),
        (limit(MAX_AMOUNT + 1, 1, 1), bounds),
        (limit(1, 0, 1), bounds),
        (limit(1, MAX_PERIOD_S + 1, 1), bounds),
        (limit(1, 1, 0), bounds),
        (limit(1, 1, MAX_AMOUNT + 1), bounds),
    ];
    for (limit, expected) in rows {
        for of in [
            LimitOf::Client,
            LimitOf::Target,
            LimitOf::Grant,
            LimitOf::Tenant,
        ] {
            assert_eq!(tokens(limit).broken(of), expected, "{limit:?}");
        }
    }
    let bytes = |burst| Limits {
        bytes: Some(limit(1, 1, burst)),
        ..Limits::default()
    };
    assert_eq!(bytes(MIN_BURST_BYTES).broken(LimitOf::Grant), None);
    let rule = Some("at least 65536 bytes at once");
    assert_eq!(bytes(MIN_BURST_BYTES - 1).broken(LimitOf::Grant), rule);
    let exchanges = Limits {
        exchanges: Some(limit(1, 1, 1)),
        ..Limits::default()
    };
    let stray = Some("exchanges are counted for grants and tenants");
    for (of, expected) in [
        (LimitOf::Client, stray),
        (LimitOf::Target, stray),
        (LimitOf::Grant, None),
        (LimitOf::Tenant, None),
    ] {
        assert_eq!(exchanges.broken(of), expected, "{of:?}");
    }
}

#[test]
fn what_is_wider_is_told_by_rate_and_burst() {
    let before = limit(60, 60, 10);
    let rows = [
        (Some(before), false),
        (Some(limit(1, 1, 10)), false),
        (Some(limit(59, 60, 10)), false),
        (Some(limit(60, 60, 9)), false),
        (Some(limit(61, 60, 10)), true),
        (Some(limit(60, 59, 10)), true),
        (Some(limit(60, 60, 11)), true),
        (Some(limit(1, 60, 11)), true),
        (None, true),
    ];
    for (after, wider) in rows {
        let of = |tokens| Limits {
            tokens,
            ..Limits::default()
        };
        assert_eq!(of(after).widen(&of(Some(before))), wider, "{after:?}");
        assert!(!of(after).widen(&of(None)), "{after:?}");
    }
}

/// A world whose grant has these terms, and whose client and tenant have these limits.
fn world(terms: GrantTerms, client: Limits, tenant: Limits) -> World {
    let world = World::new(Rotation::Strict);
    let (e, by, now) = (&world.enclave, world.admin(), &world.now);
    world.settle(e.update_grant(by, &id("contacts"), terms, now).unwrap());
    let mut worker = e.client(by, &id("worker")).unwrap();
    worker.limits = client;
    world.settle(e.update_client(by, worker, now).unwrap());
    let set = e.set_tenant_limits(by, &id("acme"), tenant, now);
    world.settle(set.unwrap());
    world
}

fn reached(of: LimitOf, counted: Counted) -> LimitError {
    LimitError::Reached {
        of,
        counted,
        retry_after_ms: 86_400_000,
    }
}

#[test]
fn a_token_counts_for_client_target_grant_and_tenant() {
    let none = Limits::default();
    let grant = |limits| GrantTerms {
        limits,
        ..GrantTerms::default()
    };
    let target = GrantTerms {
        target_limits: vec![TargetLimits {
            target: id("api"),
            limits: one(),
        }],
        ..GrantTerms::default()
    };
    // Whose limit it is, and whether the grant's other target is held back too.
    let rows = [
        (grant(none), one(), none, LimitOf::Client, true),
        (target, none, none, LimitOf::Target, false),
        (grant(one()), none, none, LimitOf::Grant, true),
        (grant(none), none, one(), LimitOf::Tenant, true),
    ];
    for (terms, client, tenant, of, everywhere) in rows {
        let world = world(terms, client, tenant);
        let ask = |resource: &str| {
            let asked = world.ask(|ask| ask.resource = resource.into());
            asked.map(|_| ())
        };
        assert_eq!(ask(RESOURCE), Ok(()), "{of:?}");
        let refused = Err(IssueError::Limit(reached(of, Counted::Tokens)));
        assert_eq!(ask(RESOURCE), refused, "{of:?}");
        let other = if everywhere { refused } else { Ok(()) };
        assert_eq!(ask(DIRECT), other, "{of:?}");
    }
}

#[test]
fn what_is_refused_for_another_reason_counts_for_nothing() {
    let terms = GrantTerms {
        limits: one(),
        ..GrantTerms::default()
    };
    let world = world(terms, Limits::default(), Limits::default());
    for _ in 0..3 {
        let refused = world.ask(|ask| ask.scopes = vec!["contacts.delete".into()]);
        assert!(matches!(refused, Err(IssueError::Denied(_))));
        let refused = world.ask(|ask| ask.proofs.clear());
        assert!(matches!(refused, Err(IssueError::Proof(_))));
    }
    assert!(world.ask(|_| {}).is_ok());
}

#[test]
fn an_exchange_counts_for_grant_and_tenant() {
    let exchanges = Limits {
        exchanges: Some(limit(1, 86_400, 1)),
        ..Limits::default()
    };
    for of in [LimitOf::Grant, LimitOf::Tenant] {
        let own = |wanted| {
            if of == wanted {
                exchanges
            } else {
                Limits::default()
            }
        };
        let terms = GrantTerms {
            limits: own(LimitOf::Grant),
            ..GrantTerms::default()
        };
        let world = world(terms, Limits::default(), own(LimitOf::Tenant));
        let begin = || {
            let wanted = world.enclave.whole_grant(&id("contacts")).unwrap();
            let begun = world
                .enclave
                .begin_refresh(&id("contacts"), &wanted, &world.now);
            begun.map(|begun| assert!(matches!(begun, Begin::Exchange(..))))
        };
        assert_eq!(begin(), Ok(()), "{of:?}");
        let refused = RefreshError::Limit(reached(of, Counted::Exchanges));
        assert_eq!(begin(), Err(refused), "{of:?}");
    }
}
