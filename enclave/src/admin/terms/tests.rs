//! Tests of terms and tenants' limits: who sets them, which are refused, what stays of them.

use serde_json::{Value, json};

use super::super::{DepositRequest, Role};
use super::*;
use crate::limits::{Limit, TargetLimits};
use crate::registry::Rotation;
use crate::testing::{World, id};

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

fn security() -> Administrator {
    by(Role::TenantSecurity(id("acme")))
}

fn calls(amount: u64) -> Limits {
    Limits {
        calls: Some(Limit {
            amount,
            period_s: 1,
            burst: 10,
        }),
        ..Limits::default()
    }
}

fn limited(amount: u64) -> GrantTerms {
    GrantTerms {
        limits: calls(amount),
        ..GrantTerms::default()
    }
}

fn update(world: &World, by: &Administrator, terms: GrantTerms) -> Result<(), AdminError> {
    let updated = world
        .enclave
        .update_grant(by, &id("contacts"), terms, &world.now);
    let _view = world.settle(updated?);
    Ok(())
}

fn set(world: &World, by: &Administrator, limits: Limits) -> Result<(), AdminError> {
    let set = world
        .enclave
        .set_tenant_limits(by, &id("acme"), limits, &world.now);
    let _tenant = world.settle(set?);
    Ok(())
}

/// The newest event of acme's of a kind.
fn newest(world: &World, kind: &str) -> Value {
    let auditor = by(Role::TenantAuditor(id("acme")));
    let reader = world
        .enclave
        .leaf_reader(&auditor, Some(&id("acme")))
        .unwrap();
    let leaves = world.store.leaves.lock();
    let read = leaves
        .iter()
        .filter_map(|leaf| world.enclave.read_leaf(&reader, &leaf.bytes));
    let mut events = read.map(|read| serde_json::from_str::<Value>(&read.event.unwrap()).unwrap());
    events.rfind(|event| event["event"] == kind).unwrap()
}

#[test]
fn a_tenants_own_people_set_its_terms_and_its_owner_alone_widens_them() {
    let world = World::new(Rotation::Strict);
    let no = || Err(AdminError::Forbidden);
    let absent = || Err(AdminError::NotFound("grant"));
    let rows = [
        (Role::Operator, absent(), no()),
        (Role::Vendor(id("crm-sync")), absent(), no()),
        (Role::Tenant(id("other")), absent(), no()),
        (Role::TenantAuditor(id("acme")), no(), no()),
        (Role::TenantSecurity(id("acme")), Ok(()), Ok(())),
        (Role::Tenant(id("acme")), Ok(()), Ok(())),
    ];
    for (role, of_grant, of_tenant) in rows {
        let by = by(role);
        assert_eq!(update(&world, &by, limited(5)), of_grant, "{by:?}");
        assert_eq!(set(&world, &by, calls(5)), of_tenant, "{by:?}");
    }
    for wider in [calls(6), Limits::default()] {
        let terms = GrantTerms {
            limits: wider,
            ..GrantTerms::default()
        };
        assert_eq!(update(&world, &security(), terms.clone()), no());
        assert_eq!(set(&world, &security(), wider), no());
        assert_eq!(update(&world, &security(), limited(4)), Ok(()));
        assert_eq!(set(&world, &security(), calls(4)), Ok(()));
        assert_eq!(update(&world, &owner(), terms), Ok(()));
        let leaf = newest(&world, "grant_changed");
        assert_eq!(
            (&leaf["widened"], &leaf["by"]),
            (&json!(true), &json!("someone"))
        );
        assert_eq!(set(&world, &owner(), wider), Ok(()));
        let leaf = newest(&world, "tenant_limits_set");
        assert_eq!(leaf["widened"], json!(true));
        assert_eq!(update(&world, &owner(), limited(5)), Ok(()));
        let leaf = newest(&world, "grant_changed");
        let calls = json!({"calls": {"amount": 5, "period_s": 1, "burst": 10}});
        assert_eq!(
            leaf["terms"],
            json!({"limits": calls}),
            "nothing but what is set"
        );
        assert_eq!(set(&world, &owner(), self::calls(5)), Ok(()));
    }
}

#[test]
fn a_targets_limit_that_goes_away_widens() {
    let at = |targets: &[(&str, u64)]| GrantTerms {
        target_limits: targets
            .iter()
            .map(|(target, amount)| TargetLimits {
                target: id(target),
                limits: calls(*amount),
            })
            .collect(),
        ..GrantTerms::default()
    };
    let before = at(&[("api", 5)]);
    let rows = [
        (at(&[("api", 5)]), false),
        (at(&[("api", 4)]), false),
        (at(&[("direct", 9), ("api", 5)]), false),
        (at(&[("api", 6)]), true),
        (at(&[("direct", 5)]), true),
        (at(&[]), true),
    ];
    for (after, widens) in rows {
        assert_eq!(after.widen(&before), widens, "{after:?}");
    }
}

#[test]
fn each_ill_formed_term_is_refused() {
    let world = World::new(Rotation::Strict);
    let at = |targets: &[&str], limits: Limits| GrantTerms {
        target_limits: targets
            .iter()
            .map(|target| TargetLimits {
                target: id(target),
                limits,
            })
            .collect(),
        ..GrantTerms::default()
    };
    let exchanges = Limits {
        exchanges: calls(1).calls,
        ..Limits::default()
    };
    let rows = [
        (
            limited(0),
            "grant.terms.limits",
            "1 to 2^40 in 1 to 86400 seconds, 1 to 2^40 at once",
        ),
        (
            at(&["unnamed"], calls(1)),
            "grant.terms.target_limits.target",
            "targets of the grant, each once",
        ),
        (
            at(&["api", "direct", "api"], calls(1)),
            "grant.terms.target_limits.target",
            "targets of the grant, each once",
        ),
        (
            at(&["api"], exchanges),
            "grant.terms.target_limits.limits",
            "exchanges are counted for grants and tenants",
        ),
    ];
    for (terms, field, rule) in rows {
        let refused = Err(AdminError::Field { field, rule });
        assert_eq!(update(&world, &owner(), terms.clone()), refused);
        // A grant is not made with such terms either.
        let made = world.deposit_grant(Grant {
            id: id("new"),
            terms: terms.or_none(),
            ..world.grant()
        });
        assert_eq!(made, refused);
    }
    let refused = AdminError::Field {
        field: "limits",
        rule: "1 to 2^40 in 1 to 86400 seconds, 1 to 2^40 at once",
    };
    assert_eq!(set(&world, &owner(), calls(0)), Err(refused));
    let (e, now) = (&world.enclave, &world.now);
    // The operator registers a tenant without limits, a vendor a client with good ones.
    let tenant = Tenant {
        id: id("new"),
        display_name: String::new(),
        limits: calls(1),
    };
    let created = e.create_tenant(world.admin(), tenant, now).map(|_| ());
    let refused = AdminError::Field {
        field: "tenant.limits",
        rule: "are the tenant's own to set",
    };
    assert_eq!(created, Err(refused));
    let mut client = e.client(world.admin(), &id("worker")).unwrap();
    client.limits = exchanges;
    let updated = e.update_client(world.admin(), client, now).map(|_| ());
    let refused = AdminError::Field {
        field: "client.limits",
        rule: "exchanges are counted for grants and tenants",
    };
    assert_eq!(updated, Err(refused));
}

#[test]
fn terms_stay_over_a_restart_and_a_new_refresh_token() {
    let mut world = World::new(Rotation::Strict);
    update(&world, &owner(), limited(5)).unwrap();
    set(&world, &owner(), calls(7)).unwrap();
    world.restart();
    let terms = |world: &World| world.enclave.grant(&owner(), &id("contacts")).unwrap();
    assert_eq!(terms(&world).grant.terms, limited(5).or_none());
    let deposit = |terms: Option<GrantTerms>| {
        let sealed = world.seal("acme", "crm-app", "contacts", "refresh-token", "new");
        let request = DepositRequest {
            grant: Grant {
                terms: terms.and_then(GrantTerms::or_none),
                ..world.grant()
            },
            sealed_refresh_token: &sealed,
            rotate: false,
            only_new: false,
        };
        let pending = world.enclave.deposit(&owner(), request, &world.now)?;
        Ok(world.settle(pending).grant.terms)
    };
    assert_eq!(deposit(None), Ok(limited(5).or_none()));
    assert_eq!(deposit(Some(limited(5))), Ok(limited(5).or_none()));
    let refused = AdminError::Field {
        field: "grant",
        rule: "a new token for an existing grant must not change the rest of it",
    };
    assert_eq!(deposit(Some(limited(6))), Err(refused));
    // Whoever runs the service does not see what a tenant set for itself.
    let seen = |by: &Administrator| {
        let one = world.enclave.tenant(by, &id("acme")).unwrap().limits;
        let page = world.enclave.tenants(by, Default::default()).unwrap();
        let listed: Vec<Limits> = page.entries.iter().map(|tenant| tenant.limits).collect();
        assert_eq!(listed, [one]);
        one
    };
    assert_eq!(seen(&by(Role::Operator)), Limits::default());
    assert_eq!(seen(&by(Role::TenantAuditor(id("acme")))), calls(7));
}
