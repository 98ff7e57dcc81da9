//! Tests of authentication: who is recognised, and each reason why not.

use jose::json::JsonError;
use jose::jws::{JwsError, Segment};
use serde_json::json;

use super::assertion::{MAX_AHEAD_S, MAX_LIFETIME_S};
use super::*;
use crate::issue::IssueError;
use crate::registry::{ClientKey, Rotation};
use crate::testing::{Asking, Assertion, CLIENT_SPKI, KID, OTHER_SPKI, World, id, key};

type Change = Box<dyn Fn(&mut Assertion)>;

fn world() -> World {
    World::new(Rotation::Strict)
}

fn by_assertion(ask: &mut Asking, assertion: Vec<u8>) {
    ask.peer = None;
    ask.assertions = vec![assertion];
}

fn asked(world: &World, change: impl FnOnce(&mut Assertion)) -> Result<(), IssueError> {
    let assertion = world.assertion(change);
    world.ask(|ask| by_assertion(ask, assertion)).map(|_| ())
}

fn refused(error: AssertionError) -> Result<(), IssueError> {
    Err(AuthenticationError::from(error).into())
}

#[test]
fn each_good_assertion_is_accepted() {
    let world = world();
    let (now, boot) = (world.now.hi_s, world.now.lo_s);
    let rows: Vec<(&str, Change)> = vec![
        ("C01 valid", Box::new(|_| {})),
        ("C02 without typ", Box::new(|a| a.typ = None)),
        (
            "C17 iat 8 s ahead",
            Box::new(move |a| a.claim("iat", json!(now + 8))),
        ),
        (
            "as old as the boot",
            Box::new(move |a| a.claim("iat", json!(boot))),
        ),
        (
            "iat at the edge",
            Box::new(move |a| a.claim("iat", json!(now + MAX_AHEAD_S))),
        ),
        (
            "exp at the far edge",
            Box::new(move |a| a.claim("exp", json!(now + MAX_LIFETIME_S))),
        ),
        (
            "exp at the near edge",
            Box::new(move |a| a.claim("exp", json!(now + 1))),
        ),
        ("nbf now", Box::new(move |a| a.claim("nbf", json!(now)))),
        (
            "nbf at the edge",
            Box::new(move |a| a.claim("nbf", json!(now + MAX_AHEAD_S))),
        ),
        ("another claim", Box::new(|a| a.claim("x", json!([1])))),
        (
            "a jti at its bound",
            Box::new(|a| a.claim("jti", json!("j".repeat(256)))),
        ),
    ];
    for (what, change) in rows {
        assert_eq!(asked(&world, change), Ok(()), "{what}");
    }
    // C36
    let assertion = world.assertion(|_| {});
    let found = world.ask(|ask| {
        by_assertion(ask, assertion);
        ask.client_id = Some("worker".into());
    });
    assert_eq!(
        found.map(|issued| issued.client.to_string()),
        Ok("worker".into())
    );
}

#[test]
fn each_bad_assertion_is_refused_for_its_reason() {
    let world = world();
    let (lo_s, now_s) = (world.now.lo_s, world.now.hi_s);
    let issuer = world.enclave.config().issuer.clone();
    let claims = AssertionError::Claims;
    type Row = (&'static str, Change, AssertionError);
    let set = |name: &'static str, value: serde_json::Value| -> Change {
        Box::new(move |a| a.claim(name, value.clone()))
    };
    let none = serde_json::Value::Null;
    let rows: Vec<Row> = vec![
        (
            "C03 typ JWT",
            Box::new(|a| a.typ = Some("JWT".into())),
            AssertionError::Type,
        ),
        (
            "C04 typ at+jwt",
            Box::new(|a| a.typ = Some("at+jwt".into())),
            AssertionError::Type,
        ),
        (
            "typ in another case",
            Box::new(|a| a.typ = Some("Client-Authentication+jwt".into())),
            AssertionError::Type,
        ),
        (
            "C05 aud the token endpoint",
            set("aud", json!(format!("{issuer}/token"))),
            AssertionError::Audience,
        ),
        (
            "C06 aud a list of the issuer",
            set("aud", json!([issuer])),
            claims(JsonError::WrongType("aud")),
        ),
        (
            "C07 aud a list of two",
            set("aud", json!([issuer, "x"])),
            claims(JsonError::WrongType("aud")),
        ),
        (
            "C08 aud another",
            set("aud", json!("https://other.example")),
            AssertionError::Audience,
        ),
        (
            "C09 aud with a slash more",
            set("aud", json!(format!("{issuer}/"))),
            AssertionError::Audience,
        ),
        (
            "C10 no aud",
            set("aud", none.clone()),
            claims(JsonError::Missing("aud")),
        ),
        (
            "C11 no exp",
            set("exp", none.clone()),
            claims(JsonError::Missing("exp")),
        ),
        (
            "C12 expired",
            set("exp", json!(now_s)),
            AssertionError::Expired {
                exp_s: now_s,
                now_s,
            },
        ),
        (
            "C13 exp too far ahead",
            set("exp", json!(now_s + 301)),
            AssertionError::TooLong {
                exp_s: now_s + 301,
                now_s,
            },
        ),
        (
            "exp at the end of time",
            set("exp", json!(u64::MAX)),
            AssertionError::TooLong {
                exp_s: u64::MAX,
                now_s,
            },
        ),
        (
            "C14 exp a string",
            set("exp", json!("1800000060")),
            claims(JsonError::WrongType("exp")),
        ),
        (
            "exp a fraction",
            set("exp", json!(1_800_000_060.5)),
            claims(JsonError::WrongType("exp")),
        ),
        (
            "C15 nbf ahead",
            set("nbf", json!(now_s + 11)),
            AssertionError::NotYetValid {
                nbf_s: now_s + 11,
                now_s,
            },
        ),
        (
            "nbf a string",
            set("nbf", json!("1")),
            claims(JsonError::WrongType("nbf")),
        ),
        (
            "C16 iat ahead",
            set("iat", json!(now_s + 11)),
            AssertionError::FromFuture {
                iat_s: now_s + 11,
                now_s,
            },
        ),
        (
            "iat too old",
            set("iat", json!(lo_s - 301)),
            AssertionError::TooOld {
                iat_s: lo_s - 301,
                now_s: lo_s,
            },
        ),
        (
            "iat as old as may be, and before this boot",
            set("iat", json!(lo_s - 300)),
            AssertionError::BeforeBoot {
                iat_s: lo_s - 300,
                boot_s: lo_s,
            },
        ),
        (
            "iat before this boot",
            set("iat", json!(lo_s - 1)),
            AssertionError::BeforeBoot {
                iat_s: lo_s - 1,
                boot_s: lo_s,
            },
        ),
        (
            "C18 no iat",
            set("iat", none.clone()),
            claims(JsonError::Missing("iat")),
        ),
        (
            "C19 iss no client",
            set("iss", json!("nobody")),
            AssertionError::UnknownClient,
        ),
        (
            "iss no id",
            set("iss", json!("https://worker/")),
            AssertionError::UnknownClient,
        ),
        (
            "C20 sub another client",
            set("sub", json!("stranger")),
            AssertionError::Subject,
        ),
        (
            "iss another client",
            set("iss", json!("stranger")),
            AssertionError::UnknownKey,
        ),
        (
            "C21 no sub",
            set("sub", none.clone()),
            claims(JsonError::Missing("sub")),
        ),
        (
            "C22 no iss",
            set("iss", none.clone()),
            claims(JsonError::Missing("iss")),
        ),
        (
            "C23 no jti",
            set("jti", none),
            claims(JsonError::Missing("jti")),
        ),
        (
            "jti empty",
            set("jti", json!("")),
            AssertionError::JtiLength,
        ),
        (
            "jti too long",
            set("jti", json!("j".repeat(257))),
            AssertionError::JtiLength,
        ),
        (
            "C28 another key under the client's kid",
            Box::new(|a| a.key = Some(key())),
            JwsError::BadSignature.into(),
        ),
        (
            "C30 unknown kid",
            Box::new(|a| a.kid = Some("worker-2".into())),
            AssertionError::UnknownKey,
        ),
        (
            "C31 a path as kid",
            Box::new(|a| a.kid = Some("../../worker-1".into())),
            AssertionError::UnknownKey,
        ),
        (
            "no kid",
            Box::new(|a| a.kid = None),
            AssertionError::UnknownKey,
        ),
        (
            "a claim twice",
            Box::new(|a| {
                let rest = a.claims.split_off(1);
                a.claims = format!("{{\"sub\":\"stranger\",{rest}");
            }),
            JwsError::Payload(JsonError::DuplicateMember).into(),
        ),
        (
            "claims no object",
            Box::new(|a| a.claims = "[]".into()),
            JwsError::Payload(JsonError::NotObject).into(),
        ),
    ];
    for (what, change, expected) in rows {
        assert_eq!(asked(&world, change), refused(expected), "{what}");
    }
}

#[test]
fn what_is_no_assertion_of_ours_is_refused() {
    let world = world();
    let good = String::from_utf8(world.assertion(|_| {})).unwrap();
    let (_, rest) = good.split_once('.').unwrap();
    let with_header = |header: &str| {
        let header = jose::base64url::encode(header.as_bytes());
        format!("{header}.{rest}").into_bytes()
    };
    let algless = r#"{"typ":"client-authentication+jwt","kid":"worker-1""#;
    let payload = rest.split_once('.').unwrap().0;
    let unsigned = format!(
        "{}.{payload}.",
        jose::base64url::encode(format!("{algless},\"alg\":\"none\"}}").as_bytes())
    );
    let jwk = key().public_key().to_json();
    let rows: Vec<(&str, Vec<Vec<u8>>, AssertionError)> = vec![
        (
            "C25 alg none",
            vec![unsigned.into_bytes()],
            JwsError::EmptySegment(Segment::Signature).into(),
        ),
        (
            "alg none with a signature",
            vec![with_header(&format!("{algless},\"alg\":\"none\"}}"))],
            JwsError::UnsupportedAlg.into(),
        ),
        (
            "C26 HS256",
            vec![with_header(&format!("{algless},\"alg\":\"HS256\"}}"))],
            JwsError::UnsupportedAlg.into(),
        ),
        (
            "C27 RS256",
            vec![with_header(&format!("{algless},\"alg\":\"RS256\"}}"))],
            JwsError::AlgNotAllowed.into(),
        ),
        (
            "EdDSA under an EC key",
            vec![with_header(&format!("{algless},\"alg\":\"EdDSA\"}}"))],
            JwsError::AlgKeyMismatch.into(),
        ),
        (
            "C29 a key in the header",
            vec![with_header(&format!(
                "{algless},\"alg\":\"ES256\",\"jwk\":{jwk}}}"
            ))],
            JwsError::BadSignature.into(),
        ),
        (
            "C32 crit",
            vec![with_header(&format!(
                "{algless},\"alg\":\"ES256\",\"crit\":[\"x\"]}}"
            ))],
            JwsError::Crit.into(),
        ),
        (
            "C40 a DPoP proof",
            vec![world.proof().into_bytes()],
            AssertionError::Type,
        ),
        (
            "an access token of ours",
            vec![world.ask(|_| {}).unwrap().access_token.into_bytes()],
            AssertionError::Type,
        ),
        (
            "two",
            vec![world.assertion(|_| {}), world.assertion(|_| {})],
            AssertionError::Repeated,
        ),
        ("bytes", vec![vec![0xff; 10]], AssertionError::NotText),
        (
            "over the bound",
            vec![vec![b'a'; 4_097]],
            JwsError::TooLarge.into(),
        ),
        ("empty", vec![Vec::new()], JwsError::SegmentCount.into()),
    ];
    for (what, assertions, expected) in rows {
        let found = world.ask(|ask| {
            ask.peer = None;
            ask.assertions = assertions;
        });
        assert_eq!(found.map(|_| ()), refused(expected), "{what}");
    }
}

#[test]
fn an_assertion_serves_once() {
    let world = world();
    let assertion = world.assertion(|_| {});
    let ask = || {
        world
            .ask(|ask| by_assertion(ask, assertion.clone()))
            .map(|_| ())
    };
    assert_eq!(ask(), Ok(()));
    // C24
    assert_eq!(ask(), refused(AssertionError::Replayed));
}

#[test]
fn an_assertion_outlives_a_stale_nonce_but_no_restart() {
    let mut world = world();
    let assertion = world.assertion(|_| {});
    let found = world.ask(|ask| {
        by_assertion(ask, assertion.clone());
        ask.proofs.clear();
    });
    let missing = IssueError::from(jose::dpop::DpopError::Missing);
    assert_eq!(found.map(|_| ()), Err(missing));
    let found = world.ask(|ask| by_assertion(ask, assertion.clone()));
    assert_eq!(found.map(|_| ()), Ok(()));

    // What was spent is forgotten, so what is older than the boot is refused.
    world.now.lo_s += 5;
    world.now.hi_s += 5;
    world.restart();
    let found = world.ask(|ask| by_assertion(ask, assertion)).map(|_| ());
    let before = AssertionError::BeforeBoot {
        iat_s: world.now.lo_s - 5,
        boot_s: world.now.lo_s,
    };
    assert_eq!(found, refused(before));
    assert_eq!(asked(&world, |_| {}), Ok(()));
}

#[test]
fn a_workload_is_recognised_by_its_spiffe_id() {
    let world = world();
    let spiffe_id = SpiffeId::parse("spiffe://workloads.test/worker").unwrap();
    let by_id = |id: &SpiffeId, spki| {
        world
            .ask(|ask| {
                ask.peer = spki;
                ask.spiffe_id = Some(id.clone());
            })
            .map(|issued| issued.client.to_string())
    };
    let no = |error: AuthenticationError| Err(IssueError::from(error));
    let fresh = Some([9; 32]);
    assert_eq!(
        by_id(&spiffe_id, fresh),
        no(AuthenticationError::UnknownCertificate)
    );

    let registered = |change: fn(&mut Client)| {
        let mut client = world.enclave.client(world.admin(), &id("worker")).unwrap();
        change(&mut client);
        let change = world
            .enclave
            .update_client(world.admin(), client, &world.now);
        world.settle(change.unwrap());
    };
    registered(|client| {
        client.tls_spki_sha256 = None;
        client.spiffe_id = SpiffeId::parse("spiffe://workloads.test/worker").ok();
    });
    assert_eq!(by_id(&spiffe_id, fresh), Ok("worker".to_owned()));
    let other = SpiffeId::parse("spiffe://workloads.test/worker2").unwrap();
    assert_eq!(
        by_id(&other, fresh),
        no(AuthenticationError::UnknownCertificate)
    );
    // The key is another client's.
    assert_eq!(
        by_id(&spiffe_id, Some(OTHER_SPKI)),
        no(AuthenticationError::TwoMethods)
    );
    // What was taken away is nobody's.
    let found = world.ask(|_| {}).map(|issued| issued.client.to_string());
    assert_eq!(found, no(AuthenticationError::UnknownCertificate));
    registered(|client| {
        client.tls_spki_sha256 = Some(CLIENT_SPKI);
        client.spiffe_id = None;
    });
    assert_eq!(
        by_id(&spiffe_id, fresh),
        no(AuthenticationError::UnknownCertificate)
    );
    assert_eq!(world.ask(|_| {}).map(|_| ()), Ok(()));
}

#[test]
fn a_clients_keys_are_changed_without_a_gap() {
    let mut world = world();
    let next = key();
    let jwk = |key: &jose::SigningKey, kid: &str| {
        ClientKey::from_json(&key.public_key().to_json_with_kid(kid)).unwrap()
    };
    let (old, new) = (jwk(&world.assertion_key, KID), jwk(&next, "next"));
    let change = |world: &World, jwks: Vec<ClientKey>| {
        let mut client = world.enclave.client(world.admin(), &id("worker")).unwrap();
        client.jwks = jwks;
        let change = world
            .enclave
            .update_client(world.admin(), client, &world.now);
        world.settle(change.unwrap());
    };
    let by_old = |world: &World| asked(world, |_| {});
    let by_new = |world: &World, next: jose::SigningKey| {
        asked(world, |assertion| {
            assertion.kid = Some("next".into());
            assertion.key = Some(next);
        })
    };
    change(&world, vec![old, new.clone()]);
    assert_eq!(by_old(&world), Ok(()));
    change(&world, vec![new]);
    assert_eq!(by_old(&world), refused(AssertionError::UnknownKey));
    // A restart finds the change.
    world.restart();
    assert_eq!(by_old(&world), refused(AssertionError::UnknownKey));
    assert_eq!(by_new(&world, next), Ok(()));
}

#[test]
fn there_is_one_method_and_one_client() {
    let world = world();
    let with = |peer, client_id: Option<&str>, assert: bool| {
        world
            .ask(|ask| {
                ask.peer = peer;
                if assert {
                    ask.assertions = vec![world.assertion(|_| {})];
                }
                ask.client_id = client_id.map(str::to_owned);
            })
            .map(|_| ())
    };
    let no = |error: AuthenticationError| Err(IssueError::from(error));
    let rows = [
        (None, None, false, no(AuthenticationError::NoCertificate)),
        (
            Some([9; 32]),
            None,
            false,
            no(AuthenticationError::UnknownCertificate),
        ),
        (
            Some(CLIENT_SPKI),
            None,
            true,
            no(AuthenticationError::TwoMethods),
        ),
        (
            Some(OTHER_SPKI),
            None,
            true,
            no(AuthenticationError::TwoMethods),
        ),
        // A certificate that nobody registered is no second method.
        (Some([9; 32]), None, true, Ok(())),
        // C35
        (
            None,
            Some("stranger"),
            true,
            no(AuthenticationError::ClientId),
        ),
        (
            Some(CLIENT_SPKI),
            Some("stranger"),
            false,
            no(AuthenticationError::ClientId),
        ),
        (Some(CLIENT_SPKI), Some("worker"), false, Ok(())),
    ];
    for (n, (peer, client_id, assert, expected)) in rows.into_iter().enumerate() {
        assert_eq!(with(peer, client_id, assert), expected, "row {n}");
    }
}
