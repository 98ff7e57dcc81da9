//! Tests of the lease: whose word counts, from when it runs, and what it holds back.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]

use futures_util::FutureExt;
use ring::signature::Ed25519KeyPair;
use tlog::{Cosigner, VerifiedCheckpoint, VerifierKey};

use super::*;
use crate::issue::IssueError;
use crate::refresh::RefreshError;
use crate::registry::Rotation;
use crate::store::Log;
use crate::testing::{World, id};

fn cosigner(seed: u8) -> Cosigner {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    Cosigner::new(format!("w.example/{seed}").parse().unwrap(), pair).unwrap()
}

/// With two of three witnesses needed.
fn world(lease_ms: u64) -> World {
    let mut world = World::new(Rotation::Strict);
    world.enclave.freshness = Freshness::new(Some(WitnessPolicy {
        quorum: 2,
        keys: [1, 2, 3].map(|seed| cosigner(seed).key().clone()).to_vec(),
        lease_ms,
    }));
    world
}

/// Takes what the store holds into the control log, as the shell does.
fn advance(world: &World) {
    let leaves = world.store.leaves.lock();
    let control = leaves.iter().filter(|leaf| leaf.log == Log::Control);
    let control: Vec<Vec<u8>> = control.map(|leaf| leaf.bytes.clone()).collect();
    world
        .enclave
        .logs
        .take_in(Log::Control, 0, &control)
        .unwrap();
}

fn checkpoint(world: &World) -> VerifiedCheckpoint {
    let logs = &world.enclave.logs;
    let origin = logs.origin(LogName::Control).unwrap();
    let size = logs.current_head(LogName::Control).unwrap().size;
    let signed = logs.checkpoint(LogName::Control, size, &world.now).unwrap();
    let public = world
        .enclave
        .keys()
        .log_public()
        .as_bytes()
        .try_into()
        .unwrap();
    let key = VerifierKey::new(origin.as_str().parse().unwrap(), public);
    VerifiedCheckpoint::open(signed.note().to_string().as_bytes(), &origin, &[key]).unwrap()
}

fn cosigned(checkpoint: &VerifiedCheckpoint, seed: u8) -> VerifiedCosignature {
    let cosigner = cosigner(seed);
    let line = cosigner.cosign(checkpoint, 7).unwrap();
    checkpoint
        .verify_cosignature(cosigner.key(), &line)
        .unwrap()
}

/// A round up to the question to the witnesses.
fn round(world: &World) -> (Round, VerifiedCheckpoint) {
    let begun = world.settle(world.enclave.begin_round(&world.now).unwrap());
    advance(world);
    let checkpoint = checkpoint(world);
    let round = world.enclave.round(begun, checkpoint.head()).unwrap();
    (round, checkpoint)
}

#[test]
fn only_a_quorum_over_this_very_head_gives_a_lease() {
    let mut world = world(30_000);
    let e = &world.enclave;
    let denied = Err(Denied::NotWitnessed);
    assert_eq!(e.check_fresh(&world.now), denied);
    let (_, older) = round(&world);
    let (round, head) = round(&world);
    let one = cosigned(&head, 1);
    let rows = [
        (vec![], 0),
        (vec![one.clone()], 1),
        (vec![one.clone(), one.clone()], 1),
        // No witness of the manifest.
        (vec![one.clone(), cosigned(&head, 9)], 1),
        // What another round asked for, before this round's leaf was there.
        (vec![one.clone(), cosigned(&older, 2)], 1),
    ];
    for (cosignatures, found) in rows {
        let needed = 2;
        let refused = Err(NotWitnessed::Quorum { found, needed });
        assert_eq!(e.witnessed(&round, &cosignatures), refused);
        assert_eq!(e.check_fresh(&world.now), denied);
    }
    assert_eq!(e.witnessed(&round, &[one, cosigned(&head, 3)]), Ok(()));
    let began_ms = world.now.mono_ms;
    for (after_ms, fresh) in [(0, Ok(())), (29_999, Ok(())), (30_000, denied.clone())] {
        world.now.mono_ms = began_ms + after_ms;
        assert_eq!(world.enclave.check_fresh(&world.now), fresh, "{after_ms}");
    }
    world.now.mono_ms = began_ms;
    world.enclave.end_lease();
    assert_eq!(world.enclave.check_fresh(&world.now), denied);
}

#[test]
fn the_lease_runs_from_before_the_leaf_and_never_longer_than_is_promised() {
    let mut world = world(90_000);
    let began_ms = world.now.mono_ms;
    let (round, head) = round(&world);
    // The witnesses take their time.
    world.now.mono_ms += 20_000;
    let both = [cosigned(&head, 1), cosigned(&head, 2)];
    assert_eq!(world.enclave.witnessed(&round, &both), Ok(()));
    world.now.mono_ms = began_ms + MAX_LEASE_MS;
    let denied = Err(Denied::NotWitnessed);
    assert_eq!(world.enclave.check_fresh(&world.now), denied);
}

#[test]
fn without_a_lease_nothing_is_issued_and_changes_are_made_all_the_same() {
    let mut world = world(30_000);
    let not_witnessed = || Err(IssueError::Denied(Denied::NotWitnessed));
    assert_eq!(world.ask(|_| {}).map(|_| ()), not_witnessed());
    let grant = id("contacts");
    let scopes = crate::refresh::Wanted::with(world.grant().scopes);
    let begun = world.enclave.begin_refresh(&grant, &scopes, &world.now);
    assert_eq!(begun.map(|_| ()).unwrap_err(), RefreshError::NotWitnessed);

    let (round, head) = round(&world);
    let both = [cosigned(&head, 1), cosigned(&head, 2)];
    world.enclave.witnessed(&round, &both).unwrap();
    assert!(world.ask(|_| {}).is_ok());
    // The lease ends between the decision and the release, and before a request is sent upstream.
    let begun = world.enclave.begin_refresh(&grant, &scopes, &world.now);
    let Ok(crate::refresh::Begin::Exchange(mut exchange, action)) = begun else {
        panic!("an exchange");
    };
    world.now.mono_ms += 30_000;
    let crate::refresh::Action::Commit(intent) = action else {
        panic!("an intent");
    };
    let intent = intent.commit(&world.store).now_or_never().unwrap().unwrap();
    let committed = crate::refresh::Event::Committed(intent);
    let next = world
        .enclave
        .step_refresh(&mut exchange, committed, &world.now);
    assert!(
        matches!(next, crate::refresh::Action::Commit(_)),
        "the token goes back unsent: {next:?}"
    );
    world.freeze(crate::freeze::Subject::Grant(grant));
    assert_eq!(world.enclave.freeze_epoch(), 1);
}

#[test]
fn without_witnesses_there_is_no_lease() {
    let world = World::new(Rotation::Strict);
    assert_eq!(world.enclave.check_fresh(&world.now), Ok(()));
    let (round, head) = round(&world);
    let both = [cosigned(&head, 1), cosigned(&head, 2)];
    let refused = Err(NotWitnessed::NoWitnesses);
    assert_eq!(world.enclave.witnessed(&round, &both), refused);
}
