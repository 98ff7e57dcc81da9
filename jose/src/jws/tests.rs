//! Compact JWS: the RFCs' examples, and the exact error for each text that is not one.

use proptest::prelude::*;
use ring::rand::SystemRandom;

use super::*;

fn key(alg: Alg) -> SigningKey {
    let rng = SystemRandom::new();
    SigningKey::from_pkcs8(&SigningKey::generate(alg, &rng).unwrap(), &rng).unwrap()
}

/// Signs a header as it is given, valid or not.
fn signed(header: &str, payload: &[u8], key: &SigningKey) -> String {
    let input = format!(
        "{}.{}",
        base64url::encode(header.as_bytes()),
        base64url::encode(payload)
    );
    let signature = key.sign(input.as_bytes(), &SystemRandom::new()).unwrap();
    format!("{input}.{}", base64url::encode(signature.as_ref()))
}

fn check(text: &str, key: &PublicKey) -> Result<(), JwsError> {
    Compact::parse(text)?
        .verify(key, &[Alg::Es256, Alg::EdDsa])
        .map(drop)
}

/// [RFC 7515 §A.3]
#[test]
fn the_es256_example_of_rfc_7515_verifies() {
    let key = PublicKey::from_json(
        r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
    )
    .unwrap();
    let text = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let compact = Compact::parse(text).unwrap();
    let verified = compact.verify(&key, &[Alg::Es256]).unwrap();
    let claims = verified.claims().unwrap();
    assert_eq!(claims.str("iss"), Ok("joe"));
    assert_eq!(claims.u64("exp"), Ok(1_300_819_380));
    assert_eq!((verified.typ(), verified.kid()), (None, None));
}

/// [RFC 8037 §A.4, §A.5]
#[test]
fn the_ed25519_example_of_rfc_8037_verifies() {
    let key = PublicKey::from_json(
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
    )
    .unwrap();
    let text = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    let compact = Compact::parse(text).unwrap();
    let verified = compact.verify(&key, &[Alg::EdDsa]).unwrap();
    assert_eq!(verified.payload(), b"Example of Ed25519 signing");
    assert_eq!(
        verified.claims(),
        Err(JwsError::Payload(JsonError::NotObject))
    );
}

#[test]
fn what_is_signed_verifies() {
    let rng = SystemRandom::new();
    for alg in [Alg::Es256, Alg::EdDsa] {
        let key = key(alg);
        let members = [HeaderMember::Typ("at+jwt"), HeaderMember::Kid("k1")];
        let text = sign(&members, br#"{"a":1}"#, &key, &rng).unwrap();
        let compact = Compact::parse(&text).unwrap();
        assert_eq!(
            (compact.typ(), compact.kid(), compact.alg()),
            (Some("at+jwt"), Some("k1"), Some(alg))
        );
        assert_eq!(compact.danger_unverified_payload(), br#"{"a":1}"#);
        let verified = compact.verify(key.public_key(), &[alg]).unwrap();
        assert_eq!(
            (verified.typ(), verified.kid()),
            (Some("at+jwt"), Some("k1"))
        );
        assert_eq!(verified.claims().unwrap().u64("a"), Ok(1));
        assert!(format!("{compact:?} {verified:?}").len() < 100);

        let text = sign(&[HeaderMember::OwnJwk], b"{}", &key, &rng).unwrap();
        let mut compact = Compact::parse(&text).unwrap();
        let JwkMember::Object(jwk) = compact.take_jwk() else {
            panic!("no jwk")
        };
        assert_eq!(PublicKey::from_json(&jwk).as_ref(), Ok(key.public_key()));
    }
}

#[test]
fn headers_are_checked() {
    let es256 = key(Alg::Es256);
    let long = "t".repeat(MAX_HEADER_STRING_BYTES + 1);
    let deep = format!(
        r#"{{"alg":"ES256","a":{}1{}}}"#,
        "[".repeat(5000),
        "]".repeat(5000)
    );
    let cases: &[(&str, Result<(), JwsError>)] = &[
        (r#"{"alg":"ES256"}"#, Ok(())),
        (r#" { "alg" : "ES256" } "#, Ok(())),
        (
            r#"{"alg":"ES256","cty":"JWT","jku":"https://evil/","x5u":"https://evil/","x5c":[],"jwk":1,"x":{}}"#,
            Ok(()),
        ),
        (r#"{"alg":"ES256","typ":"a","kid":"b"}"#, Ok(())),
        (
            r#"{"typ":"JWT"}"#,
            Err(JwsError::Header(JsonError::Missing("alg"))),
        ),
        (
            r#"{"alg":null}"#,
            Err(JwsError::Header(JsonError::WrongType("alg"))),
        ),
        (
            r#"{"alg":["ES256"]}"#,
            Err(JwsError::Header(JsonError::WrongType("alg"))),
        ),
        (r#"{"alg":"none"}"#, Err(JwsError::UnsupportedAlg)),
        (r#"{"alg":"es256"}"#, Err(JwsError::UnsupportedAlg)),
        (r#"{"alg":"HS256"}"#, Err(JwsError::UnsupportedAlg)),
        (r#"{"alg":"ES384"}"#, Err(JwsError::UnsupportedAlg)),
        (r#"{"alg":""}"#, Err(JwsError::UnsupportedAlg)),
        (r#"{"alg":"RS256"}"#, Err(JwsError::AlgNotAllowed)),
        (r#"{"alg":"EdDSA"}"#, Err(JwsError::AlgKeyMismatch)),
        (r#"{"alg":"Ed25519"}"#, Err(JwsError::AlgKeyMismatch)),
        (r#"{"alg":"ES256","crit":["x"],"x":1}"#, Err(JwsError::Crit)),
        (r#"{"alg":"ES256","crit":[]}"#, Err(JwsError::Crit)),
        (r#"{"alg":"ES256","crit":null}"#, Err(JwsError::Crit)),
        (
            r#"{"alg":"ES256","crit":["b64"],"b64":true}"#,
            Err(JwsError::Crit),
        ),
        (r#"{"alg":"ES256","b64":false}"#, Err(JwsError::B64)),
        (r#"{"alg":"ES256","b64":true}"#, Err(JwsError::B64)),
        (r#"{"alg":"ES256","zip":"DEF"}"#, Err(JwsError::Zip)),
        (
            r#"{"alg":"ES256","typ":1}"#,
            Err(JwsError::Header(JsonError::WrongType("typ"))),
        ),
        (
            r#"{"alg":"ES256","typ":""}"#,
            Err(JwsError::HeaderStringLength("typ")),
        ),
        (
            r#"{"alg":"ES256","kid":null}"#,
            Err(JwsError::Header(JsonError::WrongType("kid"))),
        ),
        (
            &format!(r#"{{"alg":"ES256","kid":"{long}"}}"#),
            Err(JwsError::HeaderStringLength("kid")),
        ),
        (
            &format!(r#"{{"alg":"ES256","kid":"{}"}}"#, &long[1..]),
            Ok(()),
        ),
        (
            r#"{"alg":"none","alg":"ES256"}"#,
            Err(JwsError::Header(JsonError::DuplicateMember)),
        ),
        (
            r#"{"alg":"ES256","\u0061lg":"ES256"}"#,
            Err(JwsError::Header(JsonError::DuplicateMember)),
        ),
        (
            r#"{"alg":"ES256"}}"#,
            Err(JwsError::Header(JsonError::TrailingBytes)),
        ),
        (r#"["ES256"]"#, Err(JwsError::Header(JsonError::NotObject))),
        (
            "\u{feff}{\"alg\":\"ES256\"}",
            Err(JwsError::Header(JsonError::NotObject)),
        ),
        (&deep, Err(JwsError::TooLarge)),
    ];
    for (header, want) in cases {
        assert_eq!(
            check(&signed(header, b"{}", &es256), es256.public_key()),
            *want,
            "{header}"
        );
    }
    let deep = signed(&deep, b"{}", &es256);
    assert_eq!(
        Compact::parse_bounded(&deep, 1 << 16).map(drop),
        Err(JwsError::Header(JsonError::TooDeep))
    );
    let ed25519 = key(Alg::EdDsa);
    for (name, want) in [
        ("EdDSA", Ok(())),
        ("Ed25519", Ok(())),
        ("ES256", Err(JwsError::AlgKeyMismatch)),
    ] {
        let text = signed(&format!(r#"{{"alg":"{name}"}}"#), b"{}", &ed25519);
        assert_eq!(check(&text, ed25519.public_key()), want);
    }
}

#[test]
fn framing_is_checked() {
    let (key, other) = (key(Alg::Es256), key(Alg::Es256));
    let valid = signed(r#"{"alg":"ES256"}"#, br#"{"a":"?"}"#, &key);
    let (input, signature) = valid.rsplit_once('.').unwrap();
    let (header, payload) = input.split_once('.').unwrap();
    let raw = base64url::decode(signature).unwrap();
    let with = |signature: &[u8]| format!("{input}.{}", base64url::encode(signature));
    // 64 bytes leave four bits of the last character unused: the next letter has the same 64 bytes.
    let last = match signature.as_bytes()[85] {
        b'A' => 'B',
        b'Q' => 'R',
        b'g' => 'h',
        b'w' => 'x',
        other => panic!("{other}"),
    };
    let not_base64 = |segment| Err(JwsError::NotBase64Url(segment));
    let empty = |segment| Err(JwsError::EmptySegment(segment));
    let cases = [
        (valid.clone(), Ok(())),
        (String::new(), Err(JwsError::SegmentCount)),
        (header.to_owned(), Err(JwsError::SegmentCount)),
        (input.to_owned(), Err(JwsError::SegmentCount)),
        (format!("{valid}."), Err(JwsError::SegmentCount)),
        (format!(".{valid}"), Err(JwsError::SegmentCount)),
        (format!("{valid}.a.b"), Err(JwsError::SegmentCount)),
        (format!("{valid}, {valid}"), Err(JwsError::SegmentCount)),
        (format!(".{payload}.{signature}"), empty(Segment::Header)),
        (format!("{header}..{signature}"), empty(Segment::Payload)),
        (format!("{input}."), empty(Segment::Signature)),
        ("..".to_owned(), empty(Segment::Header)),
        (
            format!("{header}=.{payload}.{signature}"),
            not_base64(Segment::Header),
        ),
        (
            format!("{header}.{payload}=.{signature}"),
            not_base64(Segment::Payload),
        ),
        (format!("{valid}=="), not_base64(Segment::Signature)),
        (format!(" {valid}"), not_base64(Segment::Header)),
        (
            format!("{header}. {payload}.{signature}"),
            not_base64(Segment::Payload),
        ),
        (format!("{valid}\n"), not_base64(Segment::Signature)),
        (
            format!("{input}.+{}", &signature[1..]),
            not_base64(Segment::Signature),
        ),
        (
            format!("{}{last}", &valid[..valid.len() - 1]),
            not_base64(Segment::Signature),
        ),
        (with(&raw[..63]), Err(JwsError::SignatureLength)),
        (
            with(&[&raw[..], &[0]].concat()),
            Err(JwsError::SignatureLength),
        ),
        (with(&[0; 64]), Err(JwsError::BadSignature)),
        (
            with(&[&raw[32..], &raw[..32]].concat()),
            Err(JwsError::BadSignature),
        ),
        (
            format!(
                "{header}.{}.{signature}",
                base64url::encode(br#"{"a":"!"}"#)
            ),
            Err(JwsError::BadSignature),
        ),
        (
            format!(
                "{}.{payload}.{signature}",
                base64url::encode(br#"{"alg":"ES256" }"#)
            ),
            Err(JwsError::BadSignature),
        ),
    ];
    for (text, want) in cases {
        assert_eq!(check(&text, key.public_key()), want, "{text}");
    }
    assert_eq!(
        check(&valid, other.public_key()),
        Err(JwsError::BadSignature)
    );
    let compact = Compact::parse(&valid).unwrap();
    assert_eq!(
        compact.verify(key.public_key(), &[Alg::EdDsa]).map(drop),
        Err(JwsError::AlgNotAllowed)
    );
    assert_eq!(
        compact.verify(key.public_key(), &[]).map(drop),
        Err(JwsError::AlgNotAllowed)
    );
}

#[test]
fn the_size_bound_holds_exactly() {
    let key = key(Alg::Es256);
    let valid = signed(r#"{"alg":"ES256"}"#, b"{}", &key);
    assert!(Compact::parse_bounded(&valid, valid.len()).is_ok());
    assert_eq!(
        Compact::parse_bounded(&valid, valid.len() - 1).map(drop),
        Err(JwsError::TooLarge)
    );
    let large = "a".repeat(MAX_TOKEN_BYTES);
    assert_eq!(
        Compact::parse(&large).map(drop),
        Err(JwsError::SegmentCount)
    );
    assert_eq!(
        Compact::parse(&format!("{large}a")).map(drop),
        Err(JwsError::TooLarge)
    );
}

#[test]
fn claims_are_strict_json() {
    let key = key(Alg::EdDsa);
    for (payload, error) in [
        (&br#"{"a":1,"a":1}"#[..], JsonError::DuplicateMember),
        (b"[]", JsonError::NotObject),
        (b"{}x", JsonError::TrailingBytes),
        (b"{\"a\":\"\xff\"}", JsonError::NotUtf8),
    ] {
        let text = signed(r#"{"alg":"EdDSA"}"#, payload, &key);
        let compact = Compact::parse(&text).unwrap();
        let verified = compact.verify(key.public_key(), &[Alg::EdDsa]).unwrap();
        assert_eq!(verified.claims(), Err(JwsError::Payload(error)));
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in ".{0,200}") {
        prop_assert!(Compact::parse(&text).is_err());
    }

    /// Any header and payload: either refused, or what was encoded comes out again.
    #[test]
    fn parsing_keeps_the_payload(header in r#"\{("alg":"(ES256|EdDSA|x)")?(,"[a-z]{1,4}":[0-9]{1,25})?\}"#, payload in proptest::collection::vec(any::<u8>(), 1..64), signature in proptest::collection::vec(any::<u8>(), 1..70)) {
        let text = [header.as_bytes(), &payload, &signature].map(base64url::encode).join(".");
        if let Ok(compact) = Compact::parse(&text) {
            prop_assert_eq!(compact.danger_unverified_payload(), &payload[..]);
        }
    }
}
