//! Access tokens as a resource server gets them: one valid token, one change a row,
//! the exact verdict. Rows that begin with A and a number are cases of the table of
//! rules; the others are our own.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "small numbers of the tests' own"
)]

use jose::base64url;
use jose::json::JsonError;
use jose::jws::{JwsError, Segment};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

use super::*;
use crate::keys::keyring::Keyring;
use crate::mint::Confirmation;
use crate::registry::Rotation;
use crate::testing::{RESOURCE, World, key};

type Members = Vec<(String, String)>;

/// A token's parts as JSON texts, in order, names unchecked.
struct Forge {
    pair: EcdsaKeyPair,
    header: Members,
    claims: Members,
    /// Replaces the payload.
    payload: Option<Vec<u8>>,
    signature: fn(Vec<u8>) -> Vec<u8>,
    /// Changes the finished text.
    text: fn(String) -> String,
}

type Want = Result<(), TokenError>;
type Row = (&'static str, fn(&mut Forge), Want);

fn text(value: &str) -> String {
    format!("\"{value}\"")
}

impl Forge {
    fn new(world: &World) -> Self {
        let keys = world.enclave.keys();
        let key = keys.token();
        let pair = |name: &str, value: String| (name.to_owned(), value);
        let now_s = world.now.lo_s;
        let jkt = world.dpop.public_key().thumbprint();
        Self {
            pair: ecdsa(key.pkcs8()),
            header: vec![
                pair("alg", text("ES256")),
                pair("typ", text("at+jwt")),
                pair("kid", text(key.kid())),
            ],
            claims: vec![
                pair("iss", text(&world.enclave.config().issuer)),
                pair("sub", text("worker")),
                pair("aud", text(RESOURCE)),
                pair("exp", (now_s + 300).to_string()),
                pair("iat", now_s.to_string()),
                pair("jti", text("id-1")),
                pair("client_id", text("worker")),
                pair("scope", text("contacts.read")),
                pair("cnf", format!("{{\"jkt\":\"{jkt}\"}}")),
                pair("grant", text("contacts")),
                pair("tier", text("emulated")),
            ],
            payload: None,
            signature: |signature| signature,
            text: |text| text,
        }
    }

    fn head(&mut self, name: &str, json: &str) {
        set(&mut self.header, name, json);
    }

    fn claim(&mut self, name: &str, json: &str) {
        set(&mut self.claims, name, json);
    }

    fn without(&mut self, name: &str) {
        self.claims.retain(|(known, _)| known != name);
    }

    fn value(&self, name: &str) -> String {
        let found = self.claims.iter().find(|(known, _)| known == name);
        found.unwrap().1.clone()
    }

    /// A moment so many seconds from when the token was made.
    fn at(&self, seconds: i64) -> String {
        let made: u64 = self.value("iat").parse().unwrap();
        made.checked_add_signed(seconds).unwrap().to_string()
    }

    fn payload_text(&self) -> String {
        object(&self.claims)
    }

    fn finish(&self) -> String {
        let payload = self.payload.clone();
        let payload = payload.unwrap_or_else(|| self.payload_text().into_bytes());
        let input = format!(
            "{}.{}",
            base64url::encode(object(&self.header).as_bytes()),
            base64url::encode(&payload)
        );
        let signed = self.pair.sign(&SystemRandom::new(), input.as_bytes());
        let signature = (self.signature)(signed.unwrap().as_ref().to_vec());
        (self.text)(format!("{input}.{}", base64url::encode(&signature)))
    }
}

fn ecdsa(pkcs8: &[u8]) -> EcdsaKeyPair {
    let rng = SystemRandom::new();
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &rng).unwrap()
}

fn stranger() -> EcdsaKeyPair {
    let rng = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &rng).unwrap();
    ecdsa(pkcs8.as_ref())
}

fn set(members: &mut Members, name: &str, json: &str) {
    match members.iter_mut().find(|(known, _)| known == name) {
        Some((_, value)) => json.clone_into(value),
        None => members.push((name.to_owned(), json.to_owned())),
    }
}

fn object(members: &Members) -> String {
    let members = members.iter();
    let members: Vec<String> = members
        .map(|(name, json)| format!("\"{name}\":{json}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

fn segment(text: &str, index: usize, change: impl Fn(&str) -> String) -> String {
    let mut segments: Vec<String> = text.split('.').map(str::to_owned).collect();
    segments[index] = change(&segments[index]);
    segments.join(".")
}

/// The same bytes by another last letter, which has four unused bits.
fn stray_bit(segment: &str) -> String {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (front, last) = segment.split_at(segment.len() - 1);
    let at = ALPHABET.find(last).unwrap();
    assert_eq!(at % 16, 0, "the last letter has no unused bits");
    format!("{front}{}", &ALPHABET[at + 1..at + 2])
}

/// Another valid signature from a valid one: s becomes n - s.
fn malleate(mut signature: Vec<u8>) -> Vec<u8> {
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63,
        0x25, 0x51,
    ];
    let mut borrow = 0;
    for (s, n) in signature[32..].iter_mut().zip(ORDER).rev() {
        let difference = 256 + i32::from(n) - i32::from(*s) - borrow;
        borrow = i32::from(difference < 256);
        *s = u8::try_from(difference % 256).unwrap();
    }
    signature
}

/// The signature as DER, as other protocols have it.
fn der(signature: Vec<u8>) -> Vec<u8> {
    let integer = |bytes: &[u8]| [&[2, 33, 0], bytes].concat();
    let both = [integer(&signature[..32]), integer(&signature[32..])].concat();
    let length = u8::try_from(both.len()).unwrap();
    [&[0x30, length][..], &both].concat()
}

const fn jws(error: JwsError) -> Want {
    Err(TokenError::Jws(error))
}

const CLAIMS: Want = Err(TokenError::Claims);

const ROWS: &[Row] = &[
    ("A01 valid", |_| {}, Ok(())),
    (
        "A02 alg none, no signature",
        |f| {
            f.head("alg", "\"none\"");
            f.signature = |_| Vec::new();
        },
        jws(JwsError::EmptySegment(Segment::Signature)),
    ),
    (
        "A03 alg none, signed",
        |f| f.head("alg", "\"none\""),
        jws(JwsError::UnsupportedAlg),
    ),
    (
        "A04 HS256 by what is public",
        |f| {
            f.head("alg", "\"HS256\"");
            f.signature = |_| {
                let key = hmac::Key::new(hmac::HMAC_SHA256, b"-----BEGIN PUBLIC KEY-----");
                hmac::sign(&key, b"input").as_ref().to_vec()
            };
        },
        jws(JwsError::UnsupportedAlg),
    ),
    (
        "A05 RS256",
        |f| f.head("alg", "\"RS256\""),
        jws(JwsError::AlgNotAllowed),
    ),
    (
        "EdDSA under an EC key",
        |f| f.head("alg", "\"EdDSA\""),
        jws(JwsError::AlgKeyMismatch),
    ),
    (
        "A06 alg es256",
        |f| f.head("alg", "\"es256\""),
        jws(JwsError::UnsupportedAlg),
    ),
    (
        "A07 no alg",
        |f| f.header.retain(|(name, _)| name != "alg"),
        jws(JwsError::Header(JsonError::Missing("alg"))),
    ),
    (
        "A08 the attacker's key in the header",
        |f| {
            f.pair = stranger();
            f.head("jwk", &key().public_key().to_json());
        },
        jws(JwsError::BadSignature),
    ),
    (
        "A09 another key under the same kid",
        |f| f.pair = stranger(),
        jws(JwsError::BadSignature),
    ),
    (
        "no kid",
        |f| f.header.retain(|(name, _)| name != "kid"),
        Err(TokenError::UnknownKey),
    ),
    (
        "another kid",
        |f| f.head("kid", "\"x\""),
        Err(TokenError::UnknownKey),
    ),
    (
        "A10 DER",
        |f| f.signature = der,
        jws(JwsError::SignatureLength),
    ),
    (
        "A11 r and s zero",
        |f| f.signature = |_| vec![0; 64],
        jws(JwsError::BadSignature),
    ),
    (
        "A12 a byte more",
        |f| {
            f.signature = |mut signature| {
                signature.push(0);
                signature
            };
        },
        jws(JwsError::SignatureLength),
    ),
    ("A13 malleated", |f| f.signature = malleate, Ok(())),
    (
        "A14 no signature",
        |f| f.signature = |_| Vec::new(),
        jws(JwsError::EmptySegment(Segment::Signature)),
    ),
    (
        "A15 padding",
        |f| f.text = |text| format!("{text}=="),
        jws(JwsError::NotBase64Url(Segment::Signature)),
    ),
    (
        "A16 trailing bits",
        |f| f.text = |text| segment(&text, 2, stray_bit),
        jws(JwsError::NotBase64Url(Segment::Signature)),
    ),
    (
        "A17 a line feed after it",
        |f| f.text = |text| format!("{text}\n"),
        jws(JwsError::NotBase64Url(Segment::Signature)),
    ),
    (
        "A18 the standard alphabet",
        // Zeros with one set bit: letters 62 and 63 for sure.
        |f| {
            f.signature = |_| vec![0xfb; 64];
            f.text = |text| segment(&text, 2, |s| s.replace('-', "+").replace('_', "/"));
        },
        jws(JwsError::NotBase64Url(Segment::Signature)),
    ),
    (
        "A19 two segments",
        |f| f.text = |text| text.rsplit_once('.').unwrap().0.to_owned(),
        jws(JwsError::SegmentCount),
    ),
    (
        "A20 four segments",
        |f| f.text = |text| format!("{text}.a"),
        jws(JwsError::SegmentCount),
    ),
    (
        "A21 flattened JSON",
        |f| {
            f.text = |text| {
                let parts: Vec<&str> = text.split('.').collect();
                format!(
                    "{{\"protected\":\"{}\",\"payload\":\"{}\",\"signature\":\"{}\"}}",
                    parts[0], parts[1], parts[2]
                )
            };
        },
        jws(JwsError::SegmentCount),
    ),
    (
        "A22 crit",
        |f| f.head("crit", "[\"x\"]"),
        jws(JwsError::Crit),
    ),
    (
        "A23 crit empty",
        |f| f.head("crit", "[]"),
        jws(JwsError::Crit),
    ),
    (
        "A24 b64 false, critical",
        |f| {
            f.head("crit", "[\"b64\"]");
            f.head("b64", "false");
        },
        jws(JwsError::Crit),
    ),
    (
        "A25 b64 false",
        |f| f.head("b64", "false"),
        jws(JwsError::B64),
    ),
    (
        "A26 alg twice, none first",
        |f| f.header.insert(0, ("alg".into(), "\"none\"".into())),
        jws(JwsError::Header(JsonError::DuplicateMember)),
    ),
    (
        "A27 alg twice, none last",
        |f| f.header.push(("alg".into(), "\"none\"".into())),
        jws(JwsError::Header(JsonError::DuplicateMember)),
    ),
    (
        "A28 aud twice",
        |f| {
            f.claims
                .insert(0, ("aud".into(), "\"https://evil.example\"".into()))
        },
        CLAIMS,
    ),
    (
        "A29 sub twice",
        |f| f.claims.insert(0, ("sub".into(), "\"root\"".into())),
        CLAIMS,
    ),
    (
        "sub twice, once escaped",
        |f| f.claims.insert(0, ("s\\u0075b".into(), "\"root\"".into())),
        CLAIMS,
    ),
    (
        "A30 no typ",
        |f| f.header.retain(|(name, _)| name != "typ"),
        Err(TokenError::Type),
    ),
    (
        "A31 typ JWT",
        |f| f.head("typ", "\"JWT\""),
        Err(TokenError::Type),
    ),
    (
        "A32 typ dpop+jwt",
        |f| f.head("typ", "\"dpop+jwt\""),
        Err(TokenError::Type),
    ),
    (
        "typ AT+JWT",
        |f| f.head("typ", "\"AT+JWT\""),
        Err(TokenError::Type),
    ),
    (
        "A33 typ with application/",
        |f| f.head("typ", "\"application/at+jwt\""),
        Ok(()),
    ),
    (
        "A34 another issuer",
        |f| f.claim("iss", "\"https://other.example\""),
        Err(TokenError::Issuer),
    ),
    (
        "A35 iss a list",
        |f| f.claim("iss", &format!("[{}]", f.value("iss"))),
        CLAIMS,
    ),
    ("A36 no iss", |f| f.without("iss"), CLAIMS),
    ("A37 no aud", |f| f.without("aud"), CLAIMS),
    (
        "A38 another aud",
        |f| f.claim("aud", "\"https://other.example\""),
        Err(TokenError::Audience),
    ),
    (
        "A39 aud a list with ours",
        |f| {
            f.claim(
                "aud",
                &format!("[{},\"https://other.example\"]", f.value("aud")),
            )
        },
        CLAIMS,
    ),
    ("A40 aud an empty list", |f| f.claim("aud", "[]"), CLAIMS),
    (
        "A41 aud longer than ours",
        |f| f.claim("aud", &text(&format!("{RESOURCE}x"))),
        Err(TokenError::Audience),
    ),
    (
        "A42 aud in another case",
        |f| f.claim("aud", &f.value("aud").replace("api", "API")),
        Err(TokenError::Audience),
    ),
    ("A43 no exp", |f| f.without("exp"), CLAIMS),
    (
        "A44 expired",
        |f| f.claim("exp", &f.at(-3_600)),
        Err(TokenError::Expired),
    ),
    (
        "A45 exp a string",
        |f| f.claim("exp", &text(&f.at(300))),
        CLAIMS,
    ),
    ("A46 exp never", |f| f.claim("exp", "\"never\""), CLAIMS),
    ("A47 exp null", |f| f.claim("exp", "null"), CLAIMS),
    (
        "A48 exp a fraction",
        |f| f.claim("exp", &format!("{}.5", f.at(300))),
        CLAIMS,
    ),
    ("A49 exp 1e400", |f| f.claim("exp", "1e400"), CLAIMS),
    (
        "A50 exp 2^64",
        |f| f.claim("exp", "18446744073709551616"),
        CLAIMS,
    ),
    ("A51 exp negative", |f| f.claim("exp", "-1"), CLAIMS),
    ("A52 nbf ahead", |f| f.claim("nbf", &f.at(3_600)), CLAIMS),
    ("A53 nbf a string", |f| f.claim("nbf", "\"1\""), CLAIMS),
    (
        "A54 iat ahead",
        |f| f.claim("iat", &f.at(36_000)),
        Err(TokenError::FromFuture),
    ),
    ("A55 no iat", |f| f.without("iat"), CLAIMS),
    ("A56 no jti", |f| f.without("jti"), CLAIMS),
    ("A57 no client_id", |f| f.without("client_id"), CLAIMS),
    ("A58 no sub", |f| f.without("sub"), CLAIMS),
    (
        "A59 payload a list",
        |f| f.payload = Some(format!("[{}]", f.payload_text()).into_bytes()),
        CLAIMS,
    ),
    (
        "A60 bytes after the payload",
        |f| f.payload = Some(format!("{}x", f.payload_text()).into_bytes()),
        CLAIMS,
    ),
    (
        "A61 a byte order mark",
        |f| f.payload = Some(format!("\u{feff}{}", f.payload_text()).into_bytes()),
        CLAIMS,
    ),
    (
        "A62 no UTF-8",
        |f| {
            let mut payload = f.payload_text().into_bytes();
            payload[9] = 0xff;
            f.payload = Some(payload);
        },
        CLAIMS,
    ),
    (
        "A63 5,000 deep",
        |f| f.claim("x", &format!("{}{}", "[".repeat(5_000), "]".repeat(5_000))),
        jws(JwsError::TooLarge),
    ),
    (
        "2,000 deep",
        |f| f.claim("x", &format!("{}{}", "[".repeat(2_000), "]".repeat(2_000))),
        CLAIMS,
    ),
    (
        "A64 a claim of 1 MiB",
        |f| f.claim("x", &text(&"x".repeat(1 << 20))),
        jws(JwsError::TooLarge),
    ),
    ("no cnf", |f| f.without("cnf"), CLAIMS),
    ("cnf empty", |f| f.claim("cnf", "{}"), CLAIMS),
    (
        "two confirmations",
        |f| f.claim("cnf", "{\"jkt\":\"a\",\"x5t#S256\":\"b\"}"),
        CLAIMS,
    ),
    (
        "another confirmation",
        |f| f.claim("cnf", "{\"kid\":\"a\"}"),
        CLAIMS,
    ),
    (
        "a claim that we never write",
        |f| f.claim("act", "{}"),
        CLAIMS,
    ),
];

#[test]
fn each_token_has_its_verdict() {
    let world = World::new(Rotation::Strict);
    for (what, change, want) in ROWS {
        let mut forge = Forge::new(&world);
        change(&mut forge);
        let found = world
            .enclave
            .check_token(&forge.finish(), RESOURCE, &world.now);
        assert_eq!(found.map(|_| ()), *want, "{what}");
    }
}

#[test]
fn a_token_of_another_service_with_the_same_claims_is_refused() {
    let (world, other) = (World::new(Rotation::Strict), World::new(Rotation::Strict));
    let token = Forge::new(&other).finish();
    let found = world.enclave.check_token(&token, RESOURCE, &world.now);
    assert_eq!(found.map(|_| ()), Err(TokenError::UnknownKey));
}

#[test]
fn a_confirmation_reads_as_it_was_written() {
    let certificate = Confirmation::certificate(&[0xfb; 32]);
    let json = serde_json::to_string(&certificate).unwrap();
    assert_eq!(
        json,
        format!("{{\"x5t#S256\":\"{}\"}}", certificate.thumbprint())
    );
    assert_eq!(
        serde_json::from_str::<Confirmation>(&json).unwrap(),
        certificate
    );
    assert_eq!(certificate.token_type(), "Bearer");
    assert_eq!(Confirmation::Jkt(String::new()).token_type(), "DPoP");
}

#[test]
fn a_token_that_was_verified_before_answers_for_no_other_and_not_without_its_key() {
    let world = World::new(Rotation::Strict);
    let token = world.ask(|_| {}).unwrap().access_token;
    let check = |token: &str| {
        let claims = world.enclave.check_token(token, RESOURCE, &world.now);
        claims.map(drop)
    };
    let name = VerifiedTokens::name(&token).unwrap();
    let remembered = |world: &World, keys: &Keyring| {
        let tokens = &world.enclave.verified_tokens;
        tokens.find(&name, keys).is_some()
    };
    assert!(!remembered(&world, &world.enclave.keys()));
    assert_eq!(check(&token), Ok(()));
    assert!(remembered(&world, &world.enclave.keys()));
    assert_eq!(check(&token), Ok(()));
    for at in 0..token.len() {
        let mut other = token.clone().into_bytes();
        other[at] = if other[at] == b'A' { b'B' } else { b'A' };
        let other = String::from_utf8(other).unwrap();
        assert!(check(&other).is_err(), "{at}");
    }
    let another = World::new(Rotation::Strict);
    assert!(!remembered(&world, &another.enclave.keys()));
    // What is of no use is not remembered.
    let mut late = World::new(Rotation::Strict);
    let token = late.ask(|_| {}).unwrap().access_token;
    let name = VerifiedTokens::name(&token).unwrap();
    late.now.hi_s += 300;
    let found = late.enclave.check_token(&token, RESOURCE, &late.now);
    assert_eq!(found.map(drop), Err(TokenError::Expired));
    let tokens = &late.enclave.verified_tokens;
    assert!(tokens.find(&name, &late.enclave.keys()).is_none());
}
