//! Tests of introspection: what is told, and to whom nothing is.

use super::*;
use crate::authenticate::Peer;
use crate::freeze::Subject;
use crate::registry::Rotation;
use crate::testing::{CLIENT_SPKI, OTHER_SPKI, World, id};

fn of(spki: [u8; 32]) -> Credentials<'static> {
    Credentials {
        peer: Peer {
            spki_sha256: Some(spki),
            ..Peer::default()
        },
        ..Credentials::default()
    }
}

#[test]
fn the_owner_learns_of_a_token_that_holds_and_nothing_else() {
    let world = World::new(Rotation::Strict);
    let token = world.ask(|_| {}).unwrap().access_token;
    let ask = |spki, token: &str, now: &Now| world.enclave.introspect(&of(spki), token, now);
    let claims = ask(CLIENT_SPKI, &token, &world.now).unwrap().unwrap();
    assert_eq!(claims.scope, "contacts.read");

    // I01: another client's.
    assert_eq!(ask(OTHER_SPKI, &token, &world.now), Ok(None));
    for text in ["", "x", "a.b.c", &world.proof(), &format!("{token}A")] {
        assert_eq!(ask(CLIENT_SPKI, text, &world.now), Ok(None), "{text}");
    }
    let mut later = world.now;
    later.hi_s = claims.exp;
    assert_eq!(ask(CLIENT_SPKI, &token, &later), Ok(None));

    world.freeze(Subject::Grant(id("contacts")));
    assert_eq!(ask(CLIENT_SPKI, &token, &world.now), Ok(None));
}

#[test]
fn who_is_no_client_is_not_answered() {
    let world = World::new(Rotation::Strict);
    let found = world
        .enclave
        .introspect(&Credentials::default(), "x", &world.now);
    assert_eq!(found, Err(AuthenticationError::NoCertificate.into()));
    let found = world.enclave.introspect(&of([9; 32]), "x", &world.now);
    assert_eq!(found, Err(AuthenticationError::UnknownCertificate.into()));
    for _ in 0..100 {
        let found = world.enclave.introspect(&of(CLIENT_SPKI), "x", &world.now);
        assert_eq!(found, Ok(None));
    }
    let found = world.enclave.introspect(&of(CLIENT_SPKI), "x", &world.now);
    let exceeded = RateExceeded { retry_after_ms: 20 };
    assert_eq!(found, Err(exceeded.into()));
}

#[test]
fn an_assertion_that_asked_is_spent() {
    let world = World::new(Rotation::Strict);
    let assertion = world.assertion(|_| {});
    let credentials = Credentials {
        assertions: vec![&assertion],
        ..Credentials::default()
    };
    let ask = || world.enclave.introspect(&credentials, "x", &world.now);
    assert_eq!(ask(), Ok(None));
    let replayed = authenticate::assertion::AssertionError::Replayed;
    assert_eq!(ask(), Err(AuthenticationError::from(replayed).into()));
}
