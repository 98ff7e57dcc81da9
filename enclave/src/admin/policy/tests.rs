//! Tests of tenants' policies: who sets them, what loosens, what they decide, what stays of them.

use attestation::manifest::{sign_manifest, sign_policy_change};
use futures_util::FutureExt;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::*;
use crate::freeze::Subject;
use crate::issue::IssueError;
use crate::limits::Limits;
use crate::policy::Denied;
use crate::registry::{Rotation, Tenant};
use crate::store::{Log, StoreError};
use crate::testing::{DIRECT, World, id};

const ALL: &str = "@id(\"all\") permit(principal, action, resource);\n";
const NO_WRITES: &str = "@id(\"no-writes\") forbid(principal, action, resource)\nwhen { context.scopes.contains(\"contacts.write\") };\n";
const NO_DIRECT: &str = "@id(\"no-direct\") forbid(principal, action, resource)\nwhen { context.target == \"direct\" };\n";

/// The key of an owner of the tenant `acme`, which the manifest names.
struct Owner {
    pkcs8: Vec<u8>,
    spki_sha256: [u8; 32],
}

fn owner() -> Owner {
    let rng = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
    let pkcs8 = pkcs8.as_ref().to_vec();
    let file = sign_manifest(b"", &pkcs8, &rng).unwrap();
    let spki_sha256 = ManifestSignature::from_json(file.as_bytes())
        .unwrap()
        .signer();
    Owner { pkcs8, spki_sha256 }
}

impl Owner {
    fn named(&self, world: &mut World, roles: &[Role]) {
        world.enclave.config.administrators.push(Administrator {
            name: "owner".into(),
            spki_sha256: self.spki_sha256,
            roles: roles.to_vec(),
        });
    }

    fn sign(&self, change: &PolicyChange<'_>) -> Vec<u8> {
        let rng = SystemRandom::new();
        let file = sign_policy_change(&change.to_text(), &self.pkcs8, &rng);
        file.unwrap().into_bytes()
    }
}

fn acme() -> TenantId {
    id("acme")
}

fn by(roles: &[Role]) -> Administrator {
    Administrator {
        name: "someone".into(),
        spki_sha256: [7; 32],
        roles: roles.to_vec(),
    }
}

fn change<'a>(text: Option<&'a str>, sequence: u64, signature: &'a [u8]) -> SetPolicy<'a> {
    SetPolicy {
        tenant: acme(),
        text: text.map(str::as_bytes),
        sequence,
        signature,
    }
}

fn set(world: &World, text: Option<&str>, sequence: u64, signature: &[u8]) -> PolicyView {
    let guard = by(&[Role::TenantSecurity(acme())]);
    let pending = world
        .enclave
        .set_policy(&guard, &change(text, sequence, signature), &world.now);
    world.settle(pending.unwrap())
}

fn refused(world: &World, text: Option<&str>, sequence: u64, signature: &[u8]) -> AdminError {
    let guard = by(&[Role::TenantSecurity(acme())]);
    let change = change(text, sequence, signature);
    world
        .enclave
        .set_policy(&guard, &change, &world.now)
        .unwrap_err()
}

/// The change from one text to another as `sequence`, as the owner of acme signs it.
fn signed<'a>(
    world: &'a World,
    sequence: u64,
    before: Option<&str>,
    after: Option<&str>,
) -> PolicyChange<'a> {
    let digest = |text: &str| tenant_policy::digest_of(text.as_bytes());
    PolicyChange {
        issuer: &world.enclave.config.issuer,
        tenant: "acme",
        sequence,
        before: before.map(digest),
        after: after.map(digest),
    }
}

/// The events of acme's leaves of a kind, opened.
fn events(world: &World, kind: &str) -> Vec<Value> {
    let auditor = by(&[Role::TenantAuditor(acme())]);
    let reader = world.enclave.leaf_reader(&auditor, Some(&acme())).unwrap();
    let leaves = world.store.leaves.lock();
    let read = leaves
        .iter()
        .filter_map(|leaf| world.enclave.read_leaf(&reader, &leaf.bytes));
    let events = read.map(|read| serde_json::from_str::<Value>(&read.event.unwrap()).unwrap());
    events.filter(|event| event["event"] == kind).collect()
}

fn policy_denied(world: &World, found: Result<crate::issue::Issued, IssueError>) {
    let Err(IssueError::Denied(Denied::Policy { decision })) = found else {
        panic!("{found:?}");
    };
    let leaf = events(world, "policy_denied").pop().unwrap();
    assert_eq!(leaf["decision"], decision.as_str());
}

/// Asks for a token; a denial comes out when its leaf is durable.
fn ask(
    world: &World,
    scopes: &[&str],
    resource: Option<&str>,
) -> Result<crate::issue::Issued, IssueError> {
    let pending = world.pending(|asking| {
        asking.scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        if let Some(resource) = resource {
            asking.resource = resource.into();
        }
    })?;
    let durable = pending
        .commit(&world.store)
        .now_or_never()
        .unwrap()
        .unwrap();
    Ok(world.enclave.release(durable, &world.now)?)
}

#[test]
fn only_those_who_guard_a_tenant_set_its_policy_and_only_those_who_see_it_read_it() {
    let world = World::new(Rotation::Strict);
    let rows = [
        (Role::Tenant(acme()), true, true),
        (Role::TenantSecurity(acme()), true, true),
        (Role::TenantAuditor(acme()), false, true),
        (Role::Operator, false, false),
        (Role::Tenant(id("other")), false, false),
        (Role::TenantSecurity(id("other")), false, false),
        (Role::Vendor(id("crm-sync")), false, false),
    ];
    for (role, sets, sees) in rows {
        let who = by(&[role]);
        let change = change(Some(ALL), 0, b"");
        let found = world.enclave.set_policy(&who, &change, &world.now);
        let found = found.map(|_| ());
        let forbidden = Err(AdminError::Forbidden);
        assert_eq!(found, if sets { Ok(()) } else { forbidden }, "{who:?}");
        let found = world.enclave.policy(&who, &acme()).map(|_| ());
        let forbidden = Err(AdminError::Forbidden);
        assert_eq!(found, if sees { Ok(()) } else { forbidden }, "{who:?}");
    }
    // A role for a tenant that is not there.
    let who = by(&[Role::Tenant(id("other"))]);
    let of_other = SetPolicy {
        tenant: id("other"),
        ..change(Some(ALL), 0, b"")
    };
    let found = world.enclave.set_policy(&who, &of_other, &world.now);
    assert_eq!(found.unwrap_err(), AdminError::NotFound("tenant"));
    let found = world.enclave.policy(&who, &id("other"));
    assert_eq!(found.unwrap_err(), AdminError::NotFound("tenant"));
}

#[test]
fn what_is_no_policy_or_comes_too_late_is_refused() {
    let world = World::new(Rotation::Strict);
    let AdminError::Policy(PolicyError::Faults(faults)) =
        refused(&world, Some("permit(principal, action, resource);"), 0, b"")
    else {
        panic!("a policy without an id is set");
    };
    assert!(
        faults
            .to_string()
            .starts_with("line 1: give the policy a name"),
        "{faults}"
    );
    assert_eq!(
        refused(&world, Some(ALL), 1, b""),
        PolicyError::Sequence { current: 0 }.into()
    );
    assert_eq!(set(&world, Some(ALL), 0, b"").sequence, 1);
    for sequence in [0, 2] {
        assert_eq!(
            refused(&world, Some(ALL), sequence, b""),
            PolicyError::Sequence { current: 1 }.into()
        );
    }
    // Of two that change the same one, the store takes the first.
    let guard = by(&[Role::Tenant(acme())]);
    let text = [ALL, NO_DIRECT].concat();
    let twice = [(); 2].map(|()| {
        let change = change(Some(&text), 1, b"");
        world
            .enclave
            .set_policy(&guard, &change, &world.now)
            .unwrap()
    });
    let [first, second] = twice.map(|pending| {
        let committed = pending.commit(&world.store).now_or_never().unwrap();
        committed.map(|durable| world.enclave.release(durable, &world.now).unwrap().sequence)
    });
    assert_eq!(first, Ok(2));
    assert!(
        matches!(second, Err(StoreError::Conflict { .. })),
        "{second:?}"
    );
}

#[test]
fn what_loosens_needs_the_signature_of_the_tenants_owner_over_this_very_change() {
    let mut world = World::new(Rotation::Strict);
    let (owner, other, guard) = (owner(), owner(), owner());
    owner.named(&mut world, &[Role::Tenant(acme())]);
    other.named(&mut world, &[Role::Tenant(id("other")), Role::Operator]);
    guard.named(&mut world, &[Role::TenantSecurity(acme())]);
    let tight = [ALL, NO_WRITES, NO_DIRECT].concat();
    let loose = [ALL, NO_DIRECT].concat();

    // From none on, and with more that forbids, nothing loosens.
    set(&world, Some(&loose), 0, b"");
    let view = set(&world, Some(&tight), 1, b"");
    assert_eq!((view.sequence, view.signer), (2, None));
    assert_eq!(
        refused(&world, Some(&loose), 2, b""),
        PolicyError::Unsigned {
            reasons: vec!["no-writes forbids and is gone or says something else".into()],
        }
        .into()
    );
    assert_eq!(
        refused(&world, None, 2, b""),
        PolicyError::Unsigned {
            reasons: vec!["without a policy, all passes that the grants allow".into()],
        }
        .into()
    );

    let right = || signed(&world, 3, Some(&tight), Some(&loose));
    let rows = [
        (
            "another tenant's owner",
            other.sign(&right()),
            PolicySignatureFault::NotAnOwner,
        ),
        (
            "a guard",
            guard.sign(&right()),
            PolicySignatureFault::NotAnOwner,
        ),
        (
            "nobody's key",
            tests::owner().sign(&right()),
            PolicySignatureFault::NotAnOwner,
        ),
        (
            "an older change",
            owner.sign(&PolicyChange {
                sequence: 2,
                ..right()
            }),
            PolicySignatureFault::AnotherChange,
        ),
        (
            "a later change",
            owner.sign(&PolicyChange {
                sequence: 4,
                ..right()
            }),
            PolicySignatureFault::AnotherChange,
        ),
        (
            "another tenant",
            owner.sign(&PolicyChange {
                tenant: "other",
                ..right()
            }),
            PolicySignatureFault::AnotherChange,
        ),
        (
            "another service",
            owner.sign(&PolicyChange {
                issuer: "https://other.example",
                ..right()
            }),
            PolicySignatureFault::AnotherChange,
        ),
        (
            "another policy before",
            owner.sign(&signed(&world, 3, Some(&loose), Some(&loose))),
            PolicySignatureFault::AnotherChange,
        ),
        (
            "another policy after",
            owner.sign(&signed(&world, 3, Some(&tight), Some(ALL))),
            PolicySignatureFault::AnotherChange,
        ),
        (
            "a removal",
            owner.sign(&signed(&world, 3, Some(&tight), None)),
            PolicySignatureFault::AnotherChange,
        ),
        (
            "the same words as a manifest",
            sign_manifest(
                right().to_text().as_bytes(),
                &owner.pkcs8,
                &SystemRandom::new(),
            )
            .unwrap()
            .into_bytes(),
            PolicySignatureFault::AnotherChange,
        ),
        (
            "no signature file",
            b"{}".to_vec(),
            PolicySignatureFault::File(SignatureFault::Form),
        ),
    ];
    for (what, signature, fault) in &rows {
        let expected = AdminError::from(PolicyError::Signature(fault.clone()));
        assert_eq!(
            refused(&world, Some(&loose), 2, signature),
            expected,
            "{what}"
        );
        // One that is not needed is looked at all the same.
        let tighter = [tight.as_str(), &NO_DIRECT.replace("no-direct", "again")].concat();
        let found = refused(&world, Some(&tighter), 2, signature);
        assert!(
            matches!(found, AdminError::Policy(PolicyError::Signature(_))),
            "{what}: {found:?}"
        );
    }
    let good = owner.sign(&right());
    let view = set(&world, Some(&loose), 2, &good);
    assert_eq!((view.sequence, view.signer), (3, Some(owner.spki_sha256)));
    let leaf = events(&world, "policy_set").pop().unwrap();
    assert_eq!(leaf["loosens"], true);
    assert_eq!(leaf["sequence"], 3);
    assert_eq!(leaf["by"], "someone");
    assert_eq!(leaf["signer_sha256"], hex::encode(owner.spki_sha256));
    assert_eq!(
        leaf["before_sha256"],
        hex::encode(tenant_policy::digest_of(tight.as_bytes()))
    );
    assert_eq!(
        leaf["sha256"],
        hex::encode(tenant_policy::digest_of(loose.as_bytes()))
    );

    // The signature was good once.
    set(&world, Some(&tight), 3, b"");
    let again = refused(&world, Some(&loose), 4, &good);
    let used = AdminError::from(PolicyError::Signature(PolicySignatureFault::AnotherChange));
    assert_eq!(again, used);
    let removal = owner.sign(&signed(&world, 5, Some(&tight), None));
    let view = set(&world, None, 4, &removal);
    assert_eq!((view.sequence, view.text, view.sha256), (5, None, None));
    // After a removal, any policy tightens.
    assert_eq!(set(&world, Some(&loose), 5, b"").sequence, 6);
}

#[test]
fn a_policy_decides_on_tokens_and_the_leaves_name_it() {
    let mut world = World::new(Rotation::Strict);
    let granted = |world: &World| ask(world, &["contacts.write"], None).is_ok();
    assert!(granted(&world));
    assert_eq!(
        events(&world, "token_issued").pop().unwrap()["policy"],
        Value::Null
    );
    let text = [ALL, NO_WRITES].concat();
    let sha256 = hex::encode(tenant_policy::digest_of(text.as_bytes()));
    set(&world, Some(&text), 0, b"");
    // Whether it was set in this boot or before.
    for restarted in [false, true] {
        if restarted {
            world.restart();
        }
        drop(ask(&world, &["contacts.read"], None).unwrap());
        let leaf = events(&world, "token_issued").pop().unwrap();
        let expected = serde_json::json!({"sequence": 1, "sha256": sha256, "by": ["all"]});
        assert_eq!(leaf["policy"], expected);

        policy_denied(&world, ask(&world, &["contacts.write"], None));
        // All scopes of the grant, if none is named.
        policy_denied(&world, ask(&world, &[], None));
        let leaf = events(&world, "policy_denied").pop().unwrap();
        let expected = serde_json::json!({"sequence": 1, "sha256": sha256, "by": ["no-writes"]});
        assert_eq!(leaf["policy"], expected);
        let rest = ["action", "grant", "client", "target", "scope"].map(|name| &leaf[name]);
        let expected = [
            "issue",
            "contacts",
            "worker",
            "api",
            "contacts.read contacts.write",
        ];
        assert_eq!(rest, expected.map(Value::from).each_ref());
        assert_eq!(
            leaf["jkt"],
            world.dpop.public_key().thumbprint().to_string()
        );
    }
    // A grant's own refusals come first, and are the same with a policy as without.
    let found = ask(&world, &["other"], None).err();
    assert_eq!(found, Some(Denied::Scope.into()));
    // Without its leaf, a denial is not told.
    world.store.full.store(true, Ordering::Relaxed);
    let pending = world.pending(|asking| asking.scopes.clear()).unwrap();
    let failed = pending.commit(&world.store).now_or_never().unwrap();
    assert_eq!(failed.map(|_| ()), Err(StoreError::Full));
}

#[test]
fn what_was_decided_before_stands_neither_against_a_change_nor_against_a_freeze() {
    let world = World::new(Rotation::Strict);
    let writes = || ask(&world, &["contacts.write"], None);
    set(&world, Some(ALL), 0, b"");
    assert!(writes().is_ok() && writes().is_ok());
    set(&world, Some(&[ALL, NO_WRITES].concat()), 1, b"");
    policy_denied(&world, writes());
    policy_denied(&world, writes());
    let reads = || ask(&world, &["contacts.read"], None);
    assert!(reads().is_ok() && reads().is_ok());
    let subject = Subject::Client(id("worker"));
    world.freeze(subject.clone());
    assert_eq!(reads().err(), Some(Denied::Frozen { subject }.into()));
}

#[test]
fn what_is_under_way_meets_the_policy_that_is_set_meanwhile() {
    let world = World::new(Rotation::Strict);
    let under_way = |scope: &str| {
        let pending = world.pending(|asking| asking.scopes = vec![scope.to_owned()]);
        pending
            .unwrap()
            .commit(&world.store)
            .now_or_never()
            .unwrap()
            .unwrap()
    };
    let (reads, writes) = (under_way("contacts.read"), under_way("contacts.write"));
    set(&world, Some(&[ALL, NO_WRITES].concat()), 0, b"");
    assert!(world.enclave.release(reads, &world.now).is_ok());
    let found = world.enclave.release(writes, &world.now).err();
    assert_eq!(found, Some(Denied::PolicyChanged));
    // What was decided by the newest goes on.
    let reads = under_way("contacts.read");
    set(&world, Some(&[ALL, NO_WRITES, NO_DIRECT].concat()), 1, b"");
    assert!(world.enclave.release(reads, &world.now).is_ok());
}

#[test]
fn a_policy_that_this_build_cant_read_denies_all_until_the_owner_replaces_it() {
    let mut world = World::new(Rotation::Strict);
    // As another version would have stored it.
    let stale =
        "@id(\"old\") permit(principal, action, resource) when { context.colour == \"red\" };";
    let stored = serde_json::json!({
        "sequence": 7, "text": stale, "set_at_s": 1, "by": "before", "signer": null,
    });
    let view = world.enclave.view.read();
    let place = Place::tenant(&acme(), Table::Policies, NAME);
    let write = world.enclave.cabinet.seal(
        &*world.enclave.rng,
        &view.realm_key(&acme()).unwrap(),
        &place,
        0,
        stored.to_string().as_bytes(),
    );
    drop(view);
    let batch = Batch {
        writes: vec![write.unwrap()],
        leaves: Vec::new(),
    };
    let stored = crate::store::Store::commit(&world.store, batch).now_or_never();
    drop(stored.unwrap().unwrap());
    world.restart();

    let found = ask(&world, &["contacts.read"], None).err().unwrap();
    assert!(
        matches!(found, IssueError::Denied(Denied::PolicyUnusable { .. })),
        "{found:?}"
    );
    assert_eq!(
        events(&world, "policy_denied").pop().unwrap()["unusable"],
        true
    );
    let seen = world
        .enclave
        .policy(&by(&[Role::TenantAuditor(acme())]), &acme())
        .unwrap();
    assert_eq!((seen.sequence, seen.text.as_deref()), (7, Some(stale)));
    let why = seen.unusable.unwrap();
    assert!(
        why.starts_with("line 1: policy old: ") && why.contains("colour"),
        "{why}"
    );

    let reasons = vec!["the policy in force can't be read and denies everything".to_owned()];
    assert_eq!(
        refused(&world, Some(ALL), 7, b""),
        PolicyError::Unsigned { reasons }.into()
    );
    let owner = owner();
    owner.named(&mut world, &[Role::Tenant(acme())]);
    let signature = owner.sign(&signed(&world, 8, Some(stale), Some(ALL)));
    set(&world, Some(ALL), 7, &signature);
    assert!(ask(&world, &["contacts.read"], None).is_ok());
}

#[test]
fn a_policy_of_one_tenant_is_nothing_to_another_and_goes_with_it() {
    let mut world = World::new(Rotation::Strict);
    let deny = "@id(\"none\") forbid(principal, action, resource);\n";
    let other = Tenant {
        id: id("other"),
        display_name: String::new(),
        limits: Limits::default(),
    };
    let created = world
        .enclave
        .create_tenant(world.admin(), other, &world.now);
    drop(world.settle(created.unwrap()));
    let guard = by(&[Role::Tenant(id("other"))]);
    let of_other = SetPolicy {
        tenant: id("other"),
        ..change(Some(deny), 0, b"")
    };
    let pending = world.enclave.set_policy(&guard, &of_other, &world.now);
    drop(world.settle(pending.unwrap()));
    assert!(ask(&world, &["contacts.read"], Some(DIRECT)).is_ok());
    set(&world, Some(&[ALL, NO_DIRECT].concat()), 0, b"");
    policy_denied(&world, ask(&world, &["contacts.read"], Some(DIRECT)));

    let erased = world
        .enclave
        .erase_tenant(world.admin(), &acme(), &world.now);
    drop(world.settle(erased.unwrap()));
    assert!(!world.enclave.view.read().policies.contains_key(&acme()));
    world.restart();
    let left: Vec<TenantId> = world.enclave.view.read().policies.keys().cloned().collect();
    assert_eq!(left, [id("other")]);
}

#[test]
fn tenants_with_the_same_policy_hold_it_once() {
    const TENANTS: usize = 200;
    let mut world = World::new(Rotation::Strict);
    for number in 0..TENANTS {
        let tenant: TenantId = id(&format!("tenant-{number}"));
        let new = Tenant {
            id: tenant.clone(),
            display_name: String::new(),
            limits: Limits::default(),
        };
        let created = world.enclave.create_tenant(world.admin(), new, &world.now);
        drop(world.settle(created.unwrap()));
        let guard = by(&[Role::Tenant(tenant.clone())]);
        let of_tenant = SetPolicy {
            tenant,
            ..change(Some(ALL), 0, b"")
        };
        let pending = world.enclave.set_policy(&guard, &of_tenant, &world.now);
        drop(world.settle(pending.unwrap()));
    }
    for restarted in [false, true] {
        if restarted {
            world.restart();
        }
        let view = world.enclave.view.read();
        let held = view.policies.values().map(|held| match &held.value.rules {
            Rules::Compiled(compiled) => Arc::as_ptr(compiled),
            Rules::Removed | Rules::Unusable { .. } => panic!("a policy is lost"),
        });
        let held: Vec<_> = held.collect();
        assert_eq!(held.len(), TENANTS);
        assert!(
            held.iter().all(|one| *one == held[0]),
            "restarted: {restarted}"
        );
    }
    let control = world.store.leaves.lock();
    let control = control
        .iter()
        .filter(|leaf| leaf.log == Log::Control)
        .count();
    assert!(control >= 2 * TENANTS, "a leaf each");
}
