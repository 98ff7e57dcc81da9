//! Tests of what holds an exchange back before anything of it is written.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]

use super::pace::{Taken, Whom};
use super::tests::{grant, scopes};
use super::*;
use crate::profile::Profile;
use crate::rate::{Rate, RateLimiter};
use crate::registry::Rotation;
use crate::testing::{World, id};

fn whom() -> Whom {
    (id("crm"), id("acme"))
}

/// Whether an exchange begins, or why none does.
fn begun(world: &World) -> Result<(), RefreshError> {
    let begun = world
        .enclave
        .begin_refresh(&grant(), &scopes(world), &world.now);
    begun.map(|begun| match begun {
        Begin::Exchange(_, action) => assert!(matches!(action, Action::Commit(_))),
        Begin::Cached(_) => panic!("a token is in the cache"),
    })
}

/// A grant with one exchange a second, at a provider of this profile.
fn slow_world(profile: Profile) -> World {
    let mut world = World::with_profile(Rotation::Strict, profile);
    world.enclave.upstream_rates = RateLimiter::new(Rate { per_s: 1, burst: 1 });
    world
}

fn limited(retry_after_s: u64) -> Result<(), RefreshError> {
    Err(RefreshError::RateLimited { retry_after_s })
}

#[test]
fn as_many_exchanges_are_under_way_as_the_profile_says() {
    let bounded = Profile {
        max_in_flight: Some(3),
        ..Profile::default()
    };
    for (rotation, profile, expected) in [
        (Rotation::Strict, Profile::default(), Some(8)),
        (Rotation::Grace, Profile::default(), None),
        (Rotation::Never, Profile::default(), None),
        (Rotation::Strict, bounded.clone(), Some(3)),
        (Rotation::Never, bounded, Some(3)),
    ] {
        let world = World::with_profile(rotation, profile);
        let expected = expected.map(|bound| (id("crm"), bound));
        assert_eq!(world.enclave.in_flight(&grant()), expected, "{rotation:?}");
        assert_eq!(world.enclave.in_flight(&id("stranger")), None);
    }
}

#[test]
fn a_provider_s_rate_is_taken_by_each_exchange_that_begins() {
    let profile = Profile {
        requests_per_s: 1,
        requests_burst: 2,
        ..Profile::default()
    };
    let world = World::with_profile(Rotation::Strict, profile);
    assert_eq!(begun(&world), Ok(()));
    assert_eq!(begun(&world), Ok(()));
    assert_eq!(begun(&world), limited(1));
}

#[test]
fn a_grant_over_its_own_rate_takes_nothing_of_its_provider_s() {
    let profile = Profile {
        requests_per_s: 1,
        requests_burst: 2,
        ..Profile::default()
    };
    let world = slow_world(profile.clone());
    assert_eq!(begun(&world), Ok(()));
    for _ in 0..10 {
        assert_eq!(begun(&world), limited(1));
    }
    // Another grant of the tenant has what is left.
    let pace = &world.enclave.pace;
    assert_eq!(pace.admit(&whom(), &profile, &world.now), Ok(()));
    assert_eq!(pace.admit(&whom(), &profile, &world.now), limited(1));
}

#[test]
fn a_grant_over_its_own_rate_does_not_use_up_the_probe() {
    let mut world = slow_world(Profile::default());
    for _ in 0..5 {
        let pace = &world.enclave.pace;
        pace.report(&whom(), Taken::Unwell, &world.now);
    }
    let paused = |retry_after_s| Err(RefreshError::ProviderPaused { retry_after_s });
    // While nobody may ask, that is what is said, and no rate is taken.
    assert_eq!(begun(&world), paused(1));
    world.now.mono_ms += 999;
    assert_eq!(begun(&world), paused(1));
    world.now.mono_ms += 1;
    world
        .enclave
        .upstream_rates
        .take(&grant(), &world.now)
        .unwrap();
    assert_eq!(begun(&world), limited(1));
    // The probe is there for whoever may ask.
    let profile = Profile::default();
    let pace = &world.enclave.pace;
    assert_eq!(pace.admit(&whom(), &profile, &world.now), Ok(()));
    assert_eq!(begun(&world), paused(10));
}

#[test]
fn a_probe_begins_with_the_whole_rate_of_a_grant_that_waited() {
    let mut world = slow_world(Profile::default());
    for _ in 0..5 {
        let pace = &world.enclave.pace;
        pace.report(&whom(), Taken::Unwell, &world.now);
    }
    for _ in 0..3 {
        let paused = RefreshError::ProviderPaused { retry_after_s: 1 };
        assert_eq!(begun(&world), Err(paused));
        world.now.mono_ms += 300;
    }
    world.now.mono_ms += 100;
    assert_eq!(begun(&world), Ok(()));
}
