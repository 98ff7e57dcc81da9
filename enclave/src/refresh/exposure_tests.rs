//! Tests of deposited tokens: until when a copy outside counts as of use, and when they are exchanged by themselves.

use super::tests::{Provider, grant, response, run, scopes, view};
use super::*;
use crate::admin::AdminError;
use crate::profile::Profile;
use crate::registry::{Grant, Rotation};
use crate::testing::{REFRESH_TOKEN, World};

fn due(world: &World) -> Vec<(GrantId, Wanted)> {
    world.enclave.due_for_keep_alive(&world.now, None, 10)
}

#[test]
fn a_deposited_token_is_due_until_it_is_replaced() {
    let mut world = World::new(Rotation::Strict);
    let mut provider = Provider::new(Rotation::Strict);
    // Left as it is, it is exposed, and exchanged when somebody asks.
    world.deposit_as(REFRESH_TOKEN, false, false).unwrap();
    assert_eq!(view(&world).exposure, Exposure::BeforeDeposit);
    assert_eq!(due(&world), []);
    world.deposit_as(REFRESH_TOKEN, true, false).unwrap();
    assert_eq!(view(&world).exposure, Exposure::ToBeRotated);
    assert_eq!(due(&world), [(grant(), scopes(&world))]);
    assert_eq!(world.enclave.whole_grant(&grant()), Some(scopes(&world)));
    world.restart();
    assert_eq!(due(&world), [(grant(), scopes(&world))]);
    // What did not reach the provider is tried again.
    let found = run(&world, |_| UpstreamAnswer::NotSent);
    assert_eq!(found.unwrap_err(), RefreshError::ProviderUnreachable);
    assert_eq!(due(&world), [(grant(), scopes(&world))]);
    run(&world, |request| response(provider.present(request))).unwrap();
    assert_eq!(view(&world).exposure, Exposure::None);
    assert_eq!(due(&world), []);
    world.restart();
    assert_eq!(view(&world).exposure, Exposure::None);
}

#[test]
fn grants_that_stay_due_do_not_stand_before_others() {
    let profile = Profile {
        idle_lifetime_s: Some(3_600),
        ..Profile::default()
    };
    let mut world = World::with_profile(Rotation::Strict, profile);
    for id in ["another", "more"] {
        let id = crate::testing::id::<GrantId>(id);
        world
            .deposit_grant(Grant {
                id,
                ..world.grant()
            })
            .unwrap();
    }
    world.now.lo_s += 3_600;
    world.now.hi_s += 3_600;
    let behind = |after: Option<&str>, limit| {
        let after = after.map(crate::testing::id::<GrantId>);
        let due = world
            .enclave
            .due_for_keep_alive(&world.now, after.as_ref(), limit);
        let ids = due.iter().map(|(id, _)| id.as_str().to_owned());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(behind(None, 2), ["another", "contacts"]);
    assert_eq!(behind(Some("contacts"), 2), ["more", "another"]);
    assert_eq!(behind(Some("another"), 9), ["contacts", "more", "another"]);
    // One that is gone, and the last one.
    assert_eq!(behind(Some("b"), 1), ["contacts"]);
    assert_eq!(behind(Some("more"), 1), ["another"]);
}

#[test]
fn a_token_that_is_not_replaced_or_not_ended_stays_exposed() {
    let profile = || Profile {
        superseded_still_work: true,
        ..Profile::default()
    };
    let rows = [
        (World::new(Rotation::Never), Rotation::Never),
        (
            World::with_profile(Rotation::Grace, profile()),
            Rotation::Grace,
        ),
    ];
    for (mut world, rotation) in rows {
        let mut provider = Provider::new(rotation);
        world.deposit_as(REFRESH_TOKEN, true, false).unwrap();
        run(&world, |request| response(provider.present(request))).unwrap();
        assert_eq!(
            view(&world).exposure,
            Exposure::BeforeDeposit,
            "{rotation:?}"
        );
        // It is not asked for again and again.
        assert_eq!(due(&world), []);
        world.restart();
        assert_eq!(view(&world).exposure, Exposure::BeforeDeposit);
    }
}

#[test]
fn a_token_that_its_provider_does_not_take_is_not_due() {
    let world = World::new(Rotation::Strict);
    world.deposit_as("no-such-token", true, false).unwrap();
    let refused = (400, r#"{"error":"invalid_grant"}"#.to_owned());
    run(&world, |_| response(refused.clone())).unwrap_err();
    assert_eq!(due(&world), []);
    assert_eq!(view(&world).exposure, Exposure::ToBeRotated);
}

#[test]
fn what_is_there_is_not_deposited_over_by_who_wants_only_new_grants() {
    let world = World::new(Rotation::Strict);
    let mut provider = Provider::new(Rotation::Strict);
    run(&world, |request| response(provider.present(request))).unwrap();
    let again = world.deposit_as(REFRESH_TOKEN, true, true);
    assert_eq!(again, Err(AdminError::Exists("grant")));
    assert_eq!(view(&world).refresh_generation, 2);
    let delete = world
        .enclave
        .delete_grant(world.admin(), &grant(), &world.now);
    world.settle(delete.unwrap());
    assert_eq!(world.deposit_as(REFRESH_TOKEN, true, true), Ok(()));
}
