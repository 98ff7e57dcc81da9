//! Tests of several tokens for one proof.

use jose::dpop::DpopError;

use super::*;
use crate::authenticate::Peer;
use crate::freeze::Subject;
use crate::issue::SEVERAL_PATH;
use crate::policy::Denied;
use crate::rate::RateExceeded;
use crate::registry::Rotation;
use crate::testing::{CLIENT_SPKI, GRPC, RESOURCE, World, id};

/// A proof for the method of `path`.
fn proof(world: &World, path: &str) -> String {
    let nonce = world.enclave.dpop_nonce(Door::Grpc.role(), &world.now);
    world.proof_by(&world.dpop, &format!("{GRPC}{path}"), Some(&nonce))
}

/// Asks for the resources of the client's grant.
fn ask(
    world: &World,
    proof: &str,
    resources: &[&str],
) -> Result<Vec<Result<Issued, IssueError>>, SeveralError> {
    let asks = resources.iter().map(|resource| TokenAsk {
        grant: Some("contacts"),
        resource,
        scopes: &[],
        actors: &[],
    });
    let request = SeveralRequest {
        credentials: Credentials {
            peer: Peer {
                spki_sha256: Some(CLIENT_SPKI),
                ..Peer::default()
            },
            ..Credentials::default()
        },
        binding: Binding::Proof(vec![proof.as_bytes()]),
        asks: asks.collect(),
    };
    let decided = world.enclave.issue_several(&request, &world.now, &())?;
    let settled = decided
        .into_iter()
        .map(|pending| Ok(world.settle(pending?)));
    Ok(settled.collect())
}

#[test]
fn each_token_is_decided_on_its_own_in_the_order_of_the_request() {
    let world = World::new(Rotation::Strict);
    let before = world.store.leaves.lock().len();
    let elsewhere = "https://elsewhere.example/api";
    let wanted = [RESOURCE, elsewhere, RESOURCE];
    let answers = ask(&world, &proof(&world, SEVERAL_PATH), &wanted).unwrap();
    let [first, refused, second] = answers.try_into().unwrap();
    assert_eq!(refused.unwrap_err(), Denied::Resource.into());
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_ne!(first.access_token, second.access_token);
    let claims = |issued: &Issued| {
        let payload = issued.access_token.split('.').nth(1).unwrap().to_owned();
        let claims = jose::base64url::decode(&payload).unwrap();
        serde_json::from_slice::<serde_json::Value>(&claims).unwrap()
    };
    let jkt = world.dpop.public_key().thumbprint().to_string();
    for issued in [&first, &second] {
        assert_eq!(claims(issued)["aud"], RESOURCE);
        assert_eq!(claims(issued)["cnf"], serde_json::json!({ "jkt": jkt }));
    }
    // A leaf for each token that left.
    assert_eq!(world.store.leaves.lock().len(), before + 2);
}

#[test]
fn one_to_sixteen_are_asked_for_and_the_proof_is_not_spent_on_others() {
    let world = World::new(Rotation::Strict);
    let proof = proof(&world, SEVERAL_PATH);
    for found in [0, MAX_ASKS + 1] {
        let refused = ask(&world, &proof, &vec![RESOURCE; found]).map(|_| ());
        assert_eq!(refused, Err(SeveralError::Count { found }));
    }
    let answers = ask(&world, &proof, &[RESOURCE; MAX_ASKS]).unwrap();
    assert!(answers.iter().all(Result::is_ok));
    // Once only, as everywhere.
    assert!(ask(&world, &proof, &[RESOURCE]).is_err());
}

#[test]
fn a_proof_for_one_method_is_not_good_for_the_other() {
    let world = World::new(Rotation::Strict);
    let refused = ask(&world, &world.proof(), &[RESOURCE]).map(|_| ());
    let expected = IssueError::Proof(DpopError::HtuMismatch);
    assert_eq!(refused, Err(expected.clone().into()));
    let refused = world.ask(|ask| ask.proofs = vec![proof(&world, SEVERAL_PATH)]);
    assert_eq!(refused.map(|_| ()), Err(expected));
}

#[test]
fn each_token_counts_towards_the_rate_of_its_client() {
    let world = World::new(Rotation::Strict);
    for _ in 0..6 {
        let answers = ask(&world, &proof(&world, SEVERAL_PATH), &[RESOURCE; MAX_ASKS]).unwrap();
        assert!(answers.iter().all(Result::is_ok));
    }
    // Four of a hundred are left.
    let exceeded = RateExceeded { retry_after_ms: 20 };
    let answers = ask(&world, &proof(&world, SEVERAL_PATH), &[RESOURCE; MAX_ASKS]).unwrap();
    let (good, refused) = answers.split_at(4);
    assert!(good.iter().all(Result::is_ok));
    for refused in refused {
        assert_eq!(refused.as_ref().unwrap_err(), &exceeded.into());
    }
    let refused = ask(&world, &proof(&world, SEVERAL_PATH), &[RESOURCE]).map(|_| ());
    assert_eq!(refused, Err(IssueError::Rate(exceeded).into()));
}

#[test]
fn a_freeze_stops_each_of_them() {
    let world = World::new(Rotation::Strict);
    let subject = Subject::Client(id("worker"));
    world.freeze(subject.clone());
    let answers = ask(&world, &proof(&world, SEVERAL_PATH), &[RESOURCE; 2]).unwrap();
    for answer in answers {
        let subject = subject.clone();
        assert_eq!(answer.unwrap_err(), Denied::Frozen { subject }.into());
    }
}
