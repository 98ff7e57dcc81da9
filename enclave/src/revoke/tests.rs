//! Tests of revocation: a token ends at once, stays ended, and is forgotten.

use futures_util::FutureExt;

use super::*;
use crate::authenticate::Peer;
use crate::gateway::TokenError;
use crate::registry::Rotation;
use crate::testing::{CLIENT_SPKI, OTHER_SPKI, RESOURCE, World};

fn of(spki: [u8; 32]) -> Credentials<'static> {
    Credentials {
        peer: Peer {
            spki_sha256: Some(spki),
            ..Peer::default()
        },
        ..Credentials::default()
    }
}

fn revoke(world: &World, spki: [u8; 32], token: &str) -> bool {
    let pending = world
        .enclave
        .revoke_token(&of(spki), token, &world.now)
        .unwrap();
    pending.map(|pending| world.settle(pending)).is_some()
}

fn check(world: &World, token: &str) -> Result<(), TokenError> {
    world
        .enclave
        .check_token(token, RESOURCE, &world.now)
        .map(|_| ())
}

#[test]
fn a_revoked_token_is_refused_and_a_restart_does_not_bring_it_back() {
    let mut world = World::new(Rotation::Strict);
    let token = world.ask(|_| {}).unwrap().access_token;
    let other = world.ask(|_| {}).unwrap().access_token;
    assert_eq!(check(&world, &token), Ok(()));
    let leaves = world.store.leaves.lock().len();
    assert!(revoke(&world, CLIENT_SPKI, &token));
    assert_eq!(world.store.leaves.lock().len(), leaves + 1);
    for _ in 0..2 {
        assert_eq!(check(&world, &token), Err(TokenError::Revoked));
        assert_eq!(check(&world, &other), Ok(()));
        let told = world
            .enclave
            .introspect(&of(CLIENT_SPKI), &token, &world.now);
        assert_eq!(told, Ok(None));
        world.restart();
    }
    // A second time there is nothing to do.
    assert!(!revoke(&world, CLIENT_SPKI, &token));
}

#[test]
fn what_is_not_the_callers_is_left_alone() {
    let world = World::new(Rotation::Strict);
    let token = world.ask(|_| {}).unwrap().access_token;
    // V01, V02
    assert!(!revoke(&world, OTHER_SPKI, &token));
    assert!(!revoke(&world, CLIENT_SPKI, "unknown"));
    assert_eq!(check(&world, &token), Ok(()));
    let found = world
        .enclave
        .revoke_token(&Credentials::default(), &token, &world.now);
    assert_eq!(
        found.map(|_| ()),
        Err(AuthenticationError::NoCertificate.into())
    );
}

#[test]
fn two_at_the_same_time_conflict_and_the_token_is_revoked() {
    let world = World::new(Rotation::Strict);
    let token = world.ask(|_| {}).unwrap().access_token;
    let ask = || {
        world
            .enclave
            .revoke_token(&of(CLIENT_SPKI), &token, &world.now)
            .unwrap()
            .unwrap()
    };
    let (first, second) = (ask(), ask());
    world.settle(first);
    let found = second.commit(&world.store).now_or_never().unwrap();
    assert!(matches!(
        found.map(|_| ()),
        Err(crate::store::StoreError::Conflict { .. })
    ));
    assert_eq!(check(&world, &token), Err(TokenError::Revoked));
}

#[test]
fn a_revocation_outlives_its_token_and_is_dropped_then() {
    let mut world = World::new(Rotation::Strict);
    let token = world.ask(|_| {}).unwrap().access_token;
    let before = world.store.records.lock().len();
    assert!(revoke(&world, CLIENT_SPKI, &token));
    assert!(world.enclave.drop_ended_revocations(&world.now).is_none());
    let expires_at_s = world.now.lo_s + 300;
    world.now.lo_s = expires_at_s + OUTLIVES_S;
    world.now.hi_s = world.now.lo_s;
    assert!(world.enclave.drop_ended_revocations(&world.now).is_none());
    world.now.lo_s += 1;
    let pending = world.enclave.drop_ended_revocations(&world.now).unwrap();
    world.settle(pending);
    assert!(world.enclave.drop_ended_revocations(&world.now).is_none());
    assert_eq!(world.store.records.lock().len(), before);
    world.restart();
    assert_eq!(check(&world, &token), Err(TokenError::Expired));
}
