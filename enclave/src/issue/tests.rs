//! Tests of issuance: what passes, and each reason why not.

use std::cell::RefCell;
use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use jose::dpop::DpopError;

use super::*;
use crate::custody::Cause;
use crate::freeze::Subject;
use crate::registry::Rotation;
use crate::store::StoreError;
use crate::testing::{Asking, CLIENT_SPKI, DIRECT, GRPC, OTHER_SPKI, RESOURCE, World, id, key};

fn world() -> World {
    World::new(Rotation::Strict)
}

#[test]
fn a_token_is_what_rfc_9068_and_rfc_9449_ask_for() {
    let world = world();
    let issued = world.ask(|_| {}).unwrap();
    let parts: Vec<&str> = issued.access_token.split('.').collect();
    let decode = |text: &str| -> serde_json::Value {
        serde_json::from_slice(&jose::base64url::decode(text).unwrap()).unwrap()
    };
    let header = decode(parts[0]);
    assert_eq!(header["typ"], "at+jwt");
    assert_eq!(header["alg"], "ES256");
    let kid = header["kid"].as_str().unwrap();
    assert_eq!(kid, world.enclave.keys().token().kid());
    assert!(kid.starts_with("emulated-"), "{kid}");
    let claims = decode(parts[1]);
    assert_eq!(claims["iss"], "https://127.0.0.1:7444");
    assert_eq!(claims["aud"], RESOURCE);
    assert_eq!(claims["sub"], "worker");
    assert_eq!(claims["client_id"], "worker");
    assert_eq!(claims["scope"], "contacts.read");
    assert_eq!(claims["iat"], world.now.lo_s);
    assert_eq!(claims["exp"], world.now.lo_s + 300);
    assert_eq!(claims["tier"], "emulated");
    let jkt = world.dpop.public_key().thumbprint().to_string();
    assert_eq!(claims["cnf"], serde_json::json!({ "jkt": jkt }));
    assert_eq!(issued.expires_in_s, 300);
}

#[test]
fn a_token_is_bound_to_the_certificate_that_the_caller_prefers() {
    let world = world();
    let ask = |certificate| {
        world.ask(|ask| {
            ask.certificate = certificate;
            ask.bind_certificate = true;
            ask.proofs.clear();
        })
    };
    let issued = ask(Some([0xfb; 32])).unwrap();
    assert_eq!(issued.token_type, "Bearer");
    let claims = issued.access_token.split('.').nth(1).unwrap();
    let claims = jose::base64url::decode(claims).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    // Exactly one method [RFC 8705 §3.1].
    let x5t = jose::base64url::encode(&[0xfb; 32]);
    assert_eq!(claims["cnf"], serde_json::json!({ "x5t#S256": x5t }));
    let found = ask(None).map(|_| ());
    assert_eq!(found, Err(IssueError::NothingToBindTo));
    // A key that is frozen is frozen in either form.
    let subject = Subject::Key(x5t);
    world.freeze(subject.clone());
    let found = ask(Some([0xfb; 32])).map(|_| ());
    assert_eq!(found, Err(Denied::Frozen { subject }.into()));
}

#[test]
fn a_token_outlives_neither_its_grant_nor_what_endorses_the_platform() {
    let mut world = world();
    let life = |world: &World| world.ask(|_| {}).map(|issued| issued.expires_in_s);
    assert_eq!(life(&world), Ok(300));
    let (lo_s, hi_s) = (world.now.lo_s, world.now.hi_s);
    world.enclave.config.endorsed_until_s = Some(lo_s + 299);
    assert_eq!(life(&world), Ok(299));
    world.grant_until(hi_s + 100);
    assert_eq!(life(&world), Ok(hi_s + 100 - lo_s));
    world.enclave.config.endorsed_until_s = Some(lo_s);
    assert_eq!(life(&world), Ok(0));
    world.enclave.config.endorsed_until_s = None;
    world.now.hi_s += 100;
    assert_eq!(life(&world), Err(Denied::Expired.into()));
}

#[test]
fn no_scopes_ask_for_all_of_the_grant_and_a_direct_resource_is_its_own_audience() {
    let world = world();
    let issued = world.ask(|ask| {
        ask.scopes.clear();
        ask.resource = DIRECT.into();
    });
    let issued = issued.unwrap();
    assert_eq!(issued.scopes.to_string(), "contacts.read contacts.write");
    assert_eq!(issued.resource, DIRECT);
}

#[test]
fn each_thing_that_is_not_granted_is_refused() {
    type Change = Box<dyn Fn(&World, &mut Asking)>;
    let rows: Vec<(&str, Change, IssueError)> = vec![
        (
            "no certificate",
            Box::new(|_, a| a.peer = None),
            AuthenticationError::NoCertificate.into(),
        ),
        (
            "unknown certificate",
            Box::new(|_, a| a.peer = Some([9; 32])),
            AuthenticationError::UnknownCertificate.into(),
        ),
        (
            "an administrator's certificate",
            Box::new(|_, a| a.peer = Some(crate::testing::ADMIN_SPKI)),
            AuthenticationError::UnknownCertificate.into(),
        ),
        (
            "client that the grant does not name",
            Box::new(|_, a| a.peer = Some(OTHER_SPKI)),
            Denied::NoSuchGrant.into(),
        ),
        (
            "unknown grant",
            Box::new(|_, a| a.grant = Some("other".into())),
            Denied::NoSuchGrant.into(),
        ),
        (
            "ill-formed grant",
            Box::new(|_, a| a.grant = Some("../x".into())),
            IssueError::GrantId(IdError::Character),
        ),
        (
            "unknown resource",
            Box::new(|_, a| a.resource = "https://x.example/".into()),
            Denied::Resource.into(),
        ),
        (
            "resource with a slash too many",
            Box::new(|_, a| a.resource.push('/')),
            Denied::Resource.into(),
        ),
        (
            "target that the grant does not name",
            Box::new(|_, a| a.resource = "https://unnamed.example/".into()),
            Denied::Resource.into(),
        ),
        (
            "scope that was not granted",
            Box::new(|_, a| a.scopes.push("admin".into())),
            Denied::Scope.into(),
        ),
        (
            "ill-formed scope",
            Box::new(|_, a| a.scopes.push("a b".into())),
            ScopeError::Character.into(),
        ),
        (
            "no proof",
            Box::new(|_, a| a.proofs.clear()),
            DpopError::Missing.into(),
        ),
        (
            "two proofs",
            Box::new(|w, a| a.proofs.push(w.proof())),
            DpopError::Repeated.into(),
        ),
        (
            "garbage proof",
            Box::new(|_, a| a.proofs = vec!["x".into()]),
            DpopError::Jws(jose::jws::JwsError::SegmentCount).into(),
        ),
        (
            "no nonce",
            Box::new(|w, a| a.proofs = vec![w.proof_by(&w.dpop, &format!("{GRPC}{PATH}"), None)]),
            NonceError::Missing.into(),
        ),
        (
            "foreign nonce",
            Box::new(|w, a| {
                a.proofs = vec![w.proof_by(&w.dpop, &format!("{GRPC}{PATH}"), Some("x"))]
            }),
            NonceError::Foreign.into(),
        ),
        (
            "the gateway's nonce",
            Box::new(|w, a| {
                let nonce = w.enclave.dpop_nonce(Role::Gateway, &w.now);
                a.proofs = vec![w.proof_by(&w.dpop, &format!("{GRPC}{PATH}"), Some(&nonce))];
            }),
            NonceError::Foreign.into(),
        ),
        (
            "proof for another method",
            Box::new(|w, a| {
                let nonce = w.enclave.dpop_nonce(Role::Token, &w.now);
                a.proofs = vec![w.proof_by(&w.dpop, &format!("{GRPC}/x"), Some(&nonce))];
            }),
            DpopError::HtuMismatch.into(),
        ),
        (
            "proof for another origin",
            Box::new(|w, a| {
                let nonce = w.enclave.dpop_nonce(Role::Token, &w.now);
                a.proofs = vec![w.proof_by(
                    &w.dpop,
                    &format!("https://evil.example{PATH}"),
                    Some(&nonce),
                )];
            }),
            DpopError::HtuMismatch.into(),
        ),
    ];
    let world = world();
    for (what, change, expected) in rows {
        let found = world.ask(|asking| change(&world, asking));
        assert_eq!(found.map(|_| ()), Err(expected), "{what}");
    }
}

#[test]
fn a_proof_serves_once() {
    let world = world();
    let proof = world.proof();
    let again = |w: &World| w.ask(|ask| ask.proofs = vec![proof.clone()]).map(|_| ());
    assert_eq!(again(&world), Ok(()));
    assert_eq!(again(&world), Err(ReplayError::Replayed.into()));
}

#[test]
fn a_restart_ends_older_proofs() {
    let mut world = world();
    let proof = world.proof();
    world.restart();
    let found = world.ask(|ask| ask.proofs = vec![proof]).map(|_| ());
    assert_eq!(found, Err(NonceError::Foreign.into()));
}

#[test]
fn a_refused_request_uses_no_place_in_the_replay_cache() {
    let world = world();
    let proof = world.proof();
    let with = |peer| {
        world
            .ask(|ask| {
                ask.proofs = vec![proof.clone()];
                ask.peer = peer;
            })
            .map(|_| ())
    };
    let refused = Err(AuthenticationError::UnknownCertificate.into());
    assert_eq!(with(Some([9; 32])), refused);
    assert_eq!(with(Some(CLIENT_SPKI)), Ok(()));
}

#[test]
fn each_freeze_stops_issuance_and_survives_a_restart() {
    let jkt = |w: &World| w.dpop.public_key().thumbprint().to_string();
    let subjects: [fn(&World) -> Subject; 6] = [
        |_| Subject::Tenant(id("acme")),
        |_| Subject::Vendor(id("crm-sync")),
        |_| Subject::Client(id("worker")),
        |_| Subject::Provider(id("crm")),
        |_| Subject::App(id("crm-app")),
        |_| Subject::Grant(id("contacts")),
    ];
    for subject in subjects {
        let mut world = world();
        let subject = subject(&world);
        world.freeze(subject.clone());
        for _ in 0..2 {
            let found = world.ask(|_| {}).map(|_| ());
            let subject = subject.clone();
            assert_eq!(found, Err(Denied::Frozen { subject }.into()));
            world.restart();
        }
        let thaw = world
            .enclave
            .thaw(world.admin(), subject, None, &world.now)
            .unwrap();
        world.settle(thaw);
        assert_eq!(world.ask(|_| {}).map(|_| ()), Ok(()));
    }
    let world = world();
    let subject = Subject::Key(jkt(&world));
    world.freeze(subject.clone());
    let found = world.ask(|_| {}).map(|_| ());
    assert_eq!(found, Err(Denied::Frozen { subject }.into()));
    let nonce = world.enclave.dpop_nonce(Role::Token, &world.now);
    let other = world.proof_by(&key(), &format!("{GRPC}{PATH}"), Some(&nonce));
    assert_eq!(
        world.ask(|ask| ask.proofs = vec![other]).map(|_| ()),
        Ok(())
    );
}

#[test]
fn a_freeze_between_decision_and_release_holds_the_token_back() {
    let world = world();
    let pending = world.pending(|_| {}).unwrap();
    let durable = pending
        .commit(&world.store)
        .now_or_never()
        .unwrap()
        .unwrap();
    let subject = Subject::Client(id("worker"));
    world.freeze(subject.clone());
    let found = world.enclave.release(durable, &world.now).map(|_| ());
    assert_eq!(found, Err(Denied::Frozen { subject }));
}

#[test]
fn whoever_asks_too_often_is_refused_before_the_proof_is_looked_at() {
    let world = world();
    let found = loop {
        if let Err(error) = world.ask(|_| {}) {
            break error;
        }
    };
    let IssueError::Rate(exceeded) = found else {
        panic!("{found}");
    };
    for proofs in [vec![], vec!["no proof".to_owned()]] {
        let found = world.ask(|ask| ask.proofs = proofs);
        assert_eq!(found.unwrap_err(), IssueError::Rate(exceeded));
    }
}

#[derive(Default)]
struct Passed(RefCell<Vec<Stage>>);

impl Stages for Passed {
    fn passed(&self, stage: Stage) {
        self.0.borrow_mut().push(stage);
    }
}

#[test]
fn each_stage_that_was_passed_is_told_in_its_order() {
    let world = world();
    let passed_with = |proof: &str, resource: &str| {
        let passed = Passed::default();
        let change = |ask: &mut Asking| {
            ask.proofs = vec![proof.to_owned()];
            ask.resource = resource.to_owned();
        };
        let found = world.asked(change, |request| {
            let found = world.enclave.issue_in_stages(request, &world.now, &passed);
            found.is_ok()
        });
        (found, passed.0.into_inner())
    };
    let all = [
        Stage::Authenticate,
        Stage::Proof,
        Stage::Policy,
        Stage::Mint,
    ];
    assert_eq!(passed_with(&world.proof(), RESOURCE), (true, all.to_vec()));
    for (proof, resource, count) in [
        ("no proof".to_owned(), RESOURCE, 1),
        (world.proof(), "https://elsewhere.example/", 2),
    ] {
        assert_eq!(
            passed_with(&proof, resource),
            (false, all[..count].to_vec())
        );
    }
}

#[test]
fn a_token_without_a_leaf_does_not_exist() {
    let world = world();
    let before = world.store.leaves.lock().len();
    world.ask(|_| {}).unwrap();
    assert_eq!(world.store.leaves.lock().len(), before + 1);
    world.store.full.store(true, Ordering::Relaxed);
    let pending = world.pending(|_| {}).unwrap();
    let found = pending.commit(&world.store).now_or_never().unwrap();
    assert_eq!(found.map(|_| ()), Err(StoreError::Full));
}

#[test]
fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let world = world();
    for _ in 0..100 {
        assert_eq!(world.ask(|_| {}).map(|_| ()), Ok(()));
    }
    let exceeded = RateExceeded { retry_after_ms: 20 };
    let found = world.ask(|_| {}).map(|_| ());
    assert_eq!(found, Err(exceeded.into()));
}

#[test]
fn the_words_of_causes_are_stable() {
    assert_eq!(Cause::LostInExchange.word(), "lost_in_exchange");
    assert_eq!(Cause::RefusedByProvider.word(), "refused_by_provider");
}
