//! Each key, before, in and after its overlap, across restarts and failed commits.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]

use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use tlog::{VerifiedCheckpoint, VerifierKey};

use super::*;
use crate::admin::{DepositRequest, Role};
use crate::gateway::TokenError;
use crate::log::LogName;
use crate::registry::Rotation;
use crate::store::StoreError;
use crate::testing::{RESOURCE, World, id};

fn rotate(world: &World, kind: KeyKind, overlap_s: Option<u64>) -> Vec<KeyState> {
    let pending = world
        .enclave
        .rotate_key(world.admin(), kind, overlap_s, &world.now)
        .unwrap();
    world.settle(pending)
}

fn retire(world: &World) -> bool {
    let pending = world.enclave.retire_keys(&world.now).unwrap();
    pending.map(|pending| world.settle(pending)).is_some()
}

fn pass(world: &mut World, seconds: u64) {
    world.now.lo_s += seconds;
    world.now.hi_s += seconds;
    world.now.mono_ms += seconds * 1_000;
}

fn token(world: &World) -> String {
    world.ask(|_| {}).unwrap().access_token.clone()
}

fn check(world: &World, token: &str) -> Result<(), TokenError> {
    let claims = world.enclave.check_token(token, RESOURCE, &world.now);
    claims.map(drop)
}

fn numbers(states: &[KeyState], kind: KeyKind) -> Vec<(u32, &'static str)> {
    let of_kind = states.iter().filter(|state| state.kind == kind.as_str());
    of_kind.map(|state| (state.number, state.state)).collect()
}

#[test]
fn a_new_signing_key_signs_at_once_and_tokens_of_the_old_one_live_to_their_end() {
    let mut world = World::new(Rotation::Strict);
    let old_kid = world.enclave.keys().token().kid().to_owned();
    let old = token(&world);
    let states = rotate(&world, KeyKind::Signing, None);
    let expected = vec![(2, "current"), (1, "earlier")];
    assert_eq!(numbers(&states, KeyKind::Signing), expected);
    let new = token(&world);
    for boot in ["the same boot", "after a restart"] {
        let keys = world.enclave.keys();
        assert_ne!(keys.token().kid(), old_kid, "{boot}");
        assert_eq!(keys.earlier_tokens()[0].kid(), old_kid, "{boot}");
        assert_eq!(check(&world, &old), Ok(()), "{boot}");
        assert_eq!(check(&world, &new), Ok(()), "{boot}");
        assert!(!retire(&world), "{boot}");
        world.restart();
    }
    pass(&mut world, KeyKind::Signing.default_overlap_s());
    assert!(retire(&world));
    assert!(!retire(&world));
    assert_eq!(check(&world, &old), Err(TokenError::UnknownKey));
    world.restart();
    assert!(world.enclave.keys().earlier_tokens().is_empty());
}

#[test]
fn without_overlap_the_tokens_of_the_old_key_are_refused_at_once() {
    let world = World::new(Rotation::Strict);
    let old = token(&world);
    rotate(&world, KeyKind::Signing, Some(0));
    assert_eq!(check(&world, &old), Err(TokenError::UnknownKey));
}

#[test]
fn a_new_ca_is_announced_first_and_takes_over_when_the_overlap_ends() {
    let mut world = World::new(Rotation::Strict);
    let ca = |world: &World| world.enclave.keys().authority().certificate().clone();
    let old = ca(&world);
    let states = rotate(&world, KeyKind::Ca, Some(1_000));
    let expected = vec![(2, "next"), (1, "current")];
    assert_eq!(numbers(&states, KeyKind::Ca), expected);
    let next = world
        .enclave
        .keys()
        .next_authority()
        .unwrap()
        .certificate()
        .clone();
    let bundle = attestation::KeyBundle::decode(&world.enclave.bundle().bytes).unwrap();
    let named: Vec<_> = bundle.authorities().collect();
    assert_eq!(named, [old.as_ref(), next.as_ref()]);
    // One at a time.
    let second = world
        .enclave
        .rotate_key(world.admin(), KeyKind::Ca, None, &world.now);
    assert!(matches!(
        second,
        Err(AdminError::Field { field: "kind", .. })
    ));
    world.restart();
    pass(&mut world, 999);
    assert!(!retire(&world));
    assert_eq!(ca(&world), old);
    pass(&mut world, 1);
    assert!(retire(&world));
    assert_eq!(ca(&world), next);
    world.restart();
    assert_eq!(ca(&world), next);
    assert!(world.enclave.keys().next_authority().is_none());

    // One that was announced takes over early, and without one a new CA issues at once.
    rotate(&world, KeyKind::Ca, Some(1_000));
    let announced = world
        .enclave
        .keys()
        .next_authority()
        .unwrap()
        .certificate()
        .clone();
    rotate(&world, KeyKind::Ca, Some(0));
    assert_eq!(ca(&world), announced);
    rotate(&world, KeyKind::Ca, Some(0));
    assert_ne!(ca(&world), announced);
    world.restart();
}

#[test]
fn a_deposit_that_was_sealed_before_a_rotation_opens_until_the_overlap_ends() {
    let deposit = |world: &World, sealed: &[u8]| {
        let request = DepositRequest {
            grant: world.grant(),
            sealed_refresh_token: sealed,
            rotate: false,
            only_new: false,
        };
        let pending = world.enclave.deposit(world.admin(), request, &world.now)?;
        world.settle(pending);
        Ok::<_, AdminError>(())
    };
    let seal = |world: &World| world.seal("acme", "crm-app", "contacts", "refresh-token", "r");
    let mut world = World::new(Rotation::Strict);
    let before = seal(&world);
    let public = *world.enclave.keys().hpke_public();
    rotate(&world, KeyKind::Deposit, Some(100));
    assert_ne!(*world.enclave.keys().hpke_public(), public);
    deposit(&world, &before).unwrap();
    // Any change of keys makes another bundle: what was sealed under this one opens, too.
    let between = seal(&world);
    rotate(&world, KeyKind::Signing, None);
    deposit(&world, &between).unwrap();
    deposit(&world, &seal(&world)).unwrap();
    pass(&mut world, 100);
    assert_eq!(deposit(&world, &before), Err(AdminError::Deposit));
    deposit(&world, &between).unwrap();
    rotate(&world, KeyKind::Deposit, Some(0));
    assert_eq!(deposit(&world, &between), Err(AdminError::Deposit));
    deposit(&world, &seal(&world)).unwrap();
    world.restart();
    deposit(&world, &seal(&world)).unwrap();
}

#[test]
fn checkpoints_bear_both_log_keys_until_the_overlap_ends() {
    let mut world = World::new(Rotation::Strict);
    let origin = world.enclave.logs().origin(LogName::Control).unwrap();
    let name: tlog::KeyName = origin.as_str().parse().unwrap();
    let key = |world: &World| {
        let keys = world.enclave.keys();
        VerifierKey::new(
            name.clone(),
            keys.log_public().as_bytes().try_into().unwrap(),
        )
    };
    let opens = |world: &World, key: &VerifierKey| {
        let logs = world.enclave.logs();
        let signed = logs.checkpoint(LogName::Control, 0, &world.now).unwrap();
        let note = signed.note().to_string();
        VerifiedCheckpoint::open(note.as_bytes(), &origin, std::slice::from_ref(key)).is_ok()
    };
    let old = key(&world);
    assert!(opens(&world, &old));
    rotate(&world, KeyKind::Log, Some(1_000));
    let new = key(&world);
    assert_ne!(new, old);
    for _ in 0..2 {
        assert!(opens(&world, &old));
        assert!(opens(&world, &new));
        world.restart();
    }
    let bundle = attestation::KeyBundle::decode(&world.enclave.bundle().bytes).unwrap();
    assert_eq!(bundle.log_keys().count(), 2);
    pass(&mut world, 1_000);
    assert!(retire(&world));
    for _ in 0..2 {
        assert!(!opens(&world, &old));
        assert!(opens(&world, &new));
        world.restart();
    }
    rotate(&world, KeyKind::Log, Some(0));
    assert!(!opens(&world, &new));
}

#[test]
fn a_change_of_keys_is_a_leaf_that_everybody_reads() {
    let mut world = World::new(Rotation::Strict);
    let old = world.enclave.keys().token().kid().to_owned();
    rotate(&world, KeyKind::Signing, Some(7));
    let new = world.enclave.keys().token().kid().to_owned();
    let until_s = world.now.lo_s + 7;
    pass(&mut world, 7);
    assert!(retire(&world));
    let leaves = world.store.leaves.lock();
    let open: Vec<(String, serde_json::Value)> = leaves
        .iter()
        .map(|leaf| serde_json::from_slice::<serde_json::Value>(&leaf.bytes).unwrap())
        .filter(|leaf| leaf["kind"].as_str().unwrap().starts_with("key_"))
        .map(|leaf| {
            (
                leaf["kind"].as_str().unwrap().to_owned(),
                leaf["public"].clone(),
            )
        })
        .collect();
    let rotated = serde_json::json!(
        {"key": "signing", "number": 2, "id": new, "overlap_until_s": until_s}
    );
    let retired = serde_json::json!({"key": "signing", "number": 1, "id": old});
    let expected = [
        ("key_rotated".to_owned(), rotated),
        ("key_retired".to_owned(), retired),
    ];
    assert_eq!(open, expected);
}

#[test]
fn what_is_not_durable_changes_no_key() {
    for kind in KeyKind::ALL {
        let mut world = World::new(Rotation::Strict);
        let bundle = world.enclave.bundle();
        let rotation = |world: &World| {
            let by = world.admin();
            let pending = world.enclave.rotate_key(by, kind, None, &world.now);
            pending.unwrap()
        };
        let lost = rotation(&world);
        world.store.full.store(true, Ordering::Relaxed);
        let refused = lost.commit(&world.store).now_or_never().unwrap();
        assert_eq!(refused.unwrap_err(), StoreError::Full);
        world.store.full.store(false, Ordering::Relaxed);
        assert_eq!(world.enclave.bundle(), bundle, "{kind:?}");

        // Of two at once one is refused.
        let (one, other) = (rotation(&world), rotation(&world));
        let durable = one.commit(&world.store).now_or_never().unwrap().unwrap();
        let refused = other.commit(&world.store).now_or_never().unwrap();
        assert!(
            matches!(refused, Err(StoreError::Conflict { .. })),
            "{kind:?}"
        );
        // A crash before it is used: the next boot has the new key.
        drop(durable);
        let numbers_of = |world: &World| {
            let states = world.enclave.keys().states();
            numbers(&states, kind)
                .into_iter()
                .map(|(number, _)| number)
                .max()
        };
        assert_eq!(numbers_of(&world), Some(1), "{kind:?}");
        world.restart();
        assert_eq!(numbers_of(&world), Some(2), "{kind:?}");
    }
}

#[test]
fn a_connection_is_proved_to_whoever_verified_an_earlier_bundle_of_this_boot() {
    let mut world = World::new(Rotation::Strict);
    let exporter = [5; 32];
    let proves = |world: &World, digest: &[u8; 32]| {
        let proof = world.enclave.prove_connection(Some(digest), &exporter);
        let key = attestation::P256PublicKey::from_point(
            world.enclave.keys().instance().public_key().as_bytes(),
        );
        attestation::verify_exporter(&key.unwrap(), digest, &exporter, &proof.unwrap()).is_ok()
    };
    let before = world.enclave.bundle().digest;
    rotate(&world, KeyKind::Log, None);
    assert!(proves(&world, &before));
    assert!(proves(&world, &world.enclave.bundle().digest));
    assert!(!proves(&world, &[1; 32]));
    world.restart();
    assert!(!proves(&world, &before));
}

#[test]
fn a_tenants_new_key_seals_what_comes_and_opens_what_was() {
    let mut world = World::new(Rotation::Strict);
    let acme = id::<TenantId>("acme");
    let first = world.enclave.view.read().realm_key(&acme).unwrap();
    let rotate = |world: &World| {
        let by = world.admin();
        let pending = world.enclave.rotate_tenant_key(by, &acme, &world.now);
        world.settle(pending.unwrap())
    };
    let states = rotate(&world);
    assert_eq!(states.len(), 2);
    let asked = world
        .enclave
        .key_states(world.admin(), Some(&acme))
        .unwrap();
    assert_eq!(asked, states);
    let sealed_by_first = |world: &World| {
        let view = world.enclave.view.read();
        let held = view.custody.get("contacts").unwrap();
        let place = Place::tenant(&acme, Table::Custody, "contacts");
        let cabinet = &world.enclave.cabinet;
        let sealed = &held.value.sealed;
        cabinet
            .open(&first, &place, held.generation, sealed)
            .is_ok()
    };
    let tag = |world: &World| {
        let view = world.enclave.view.read();
        crate::audit::tag(&acme, &view.realm_key(&acme).unwrap())
    };
    let name = tag(&world);
    assert!(sealed_by_first(&world));
    world.restart();
    assert!(sealed_by_first(&world));
    drop(world.ask(|_| {}).unwrap());
    world.deposit("another").unwrap();
    assert!(!sealed_by_first(&world));
    rotate(&world);
    world.restart();
    drop(world.ask(|_| {}).unwrap());
    assert_eq!(tag(&world), name);
    // Under a new root all of them are there.
    let old = world.new_root();
    while let Some(pending) = world.enclave.rewrap().unwrap() {
        world.settle(pending);
    }
    assert!(!old.is_needed());
    world.restart();
    assert_eq!(
        world.enclave.view.read().realm_key(&acme).unwrap().count(),
        3
    );
    drop(world.ask(|_| {}).unwrap());
    // Numbers go on, without a gap: all leaves have the tenant's one name.
    let leaves = world.store.leaves.lock();
    let seqs: std::collections::BTreeSet<u64> = leaves
        .iter()
        .map(|leaf| serde_json::from_slice::<serde_json::Value>(&leaf.bytes).unwrap())
        .filter(|leaf| leaf["tenant"] == name.as_str())
        .map(|leaf| leaf["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs.iter().copied().max(), u64::try_from(seqs.len()).ok());
}

#[test]
fn each_refusal_has_its_own_error() {
    let world = World::new(Rotation::Strict);
    let e = &world.enclave;
    let vendor = Administrator {
        name: "vendor".into(),
        spki_sha256: [7; 32],
        roles: vec![Role::Vendor(id("crm-sync"))],
    };
    let acme = id::<TenantId>("acme");
    let nobody = id::<TenantId>("nobody");
    let kind = KeyKind::Signing;
    let refused =
        |result: Result<Pending<Vec<KeyState>>, AdminError>| result.map(drop).unwrap_err();
    let now = &world.now;
    assert_eq!(
        refused(e.rotate_key(&vendor, kind, None, now)),
        AdminError::Forbidden
    );
    assert_eq!(
        refused(e.rotate_tenant_key(&vendor, &acme, now)),
        AdminError::Forbidden
    );
    assert_eq!(
        e.key_states(&vendor, Some(&acme)).unwrap_err(),
        AdminError::Forbidden
    );
    let absent = AdminError::NotFound("tenant");
    assert_eq!(
        refused(e.rotate_tenant_key(world.admin(), &nobody, now)),
        absent
    );
    assert_eq!(
        e.key_states(world.admin(), Some(&nobody)).unwrap_err(),
        absent
    );
    for kind in KeyKind::ALL {
        let long = Some(kind.max_overlap_s() + 1);
        let error = refused(e.rotate_key(world.admin(), kind, long, now));
        assert!(matches!(
            error,
            AdminError::Field {
                field: "overlap_s",
                ..
            }
        ));
    }
    for kind in [KeyKind::Signing, KeyKind::Log] {
        for _ in 0..kind.max_earlier() {
            rotate(&world, kind, None);
        }
        let error = refused(e.rotate_key(world.admin(), kind, None, now));
        assert!(matches!(error, AdminError::Field { field: "kind", .. }));
        rotate(&world, kind, Some(0));
    }
}
