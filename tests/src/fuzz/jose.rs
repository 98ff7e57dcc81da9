//! JSON, keys, signed tokens and proofs, as a client or a provider writes them.

use std::str;
use std::sync::LazyLock;

use ::jose::dpop::{Expected, IatRule, Proof, ProofParams};
use ::jose::json::{MAX_MEMBERS, Object, ObjectWriter, Value};
use ::jose::jws::{self, Compact, HeaderMember};
use ::jose::rs256::RsaPublicKey;
use ::jose::target_uri::TargetUri;
use ::jose::{Alg, PublicKey, SigningKey, base64url};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

use super::Target;

pub(super) const JSON: Target = Target {
    name: "jose_json",
    run: json,
    seeds: json_seeds,
};
pub(super) const JWK: Target = Target {
    name: "jose_jwk",
    run: jwk,
    seeds: jwk_seeds,
};
pub(super) const JWS: Target = Target {
    name: "jose_jws",
    run: jws,
    seeds: jws_seeds,
};
pub(super) const DPOP: Target = Target {
    name: "jose_dpop",
    run: dpop,
    seeds: dpop_seeds,
};
pub(super) const DPOP_SIGNED: Target = Target {
    name: "jose_dpop_signed",
    run: dpop_signed,
    seeds: dpop_signed_seeds,
};

/// The most that the JSON reader is asked to read.
const MAX_JSON_BYTES: usize = 4096;
const HTU: &str = "https://broker.test:8443/tokenkeep.v1.TokenService/IssueToken";
const JTI: &str = "f3f9a1c2-seed";
const NOW_S: u64 = 1_780_000_000;
const PAYLOAD: &[u8] =
    br#"{"iss":"https://issuer.test","aud":"https://api.test/v1","exp":1780000300}"#;

/// The example key of RFC 7515 §A.3 as PKCS#8, so that saved inputs stay valid.
static PKCS8: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let member = |text| base64url::decode(text).unwrap();
    [
        hex("308187020100301306072a8648ce3d020106082a8648ce3d030107046d306b0201010420"),
        member("jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"),
        hex("a14403420004"),
        member("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"),
        member("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"),
    ]
    .concat()
});
static KEY: LazyLock<SigningKey> =
    LazyLock::new(|| SigningKey::from_pkcs8(&PKCS8, &SystemRandom::new()).unwrap());
/// The same key, to sign what our own signer would not.
static PAIR: LazyLock<EcdsaKeyPair> = LazyLock::new(|| {
    EcdsaKeyPair::from_pkcs8(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        &PKCS8,
        &SystemRandom::new(),
    )
    .unwrap()
});

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Writes an object again as it was understood.
fn rewritten(object: &Object<'_>) -> String {
    let mut writer = ObjectWriter::with_capacity(64);
    for (name, value) in object.members() {
        writer = match value {
            Value::String(text) => writer.string(name, text),
            Value::Number(number) => writer.json(name, number.as_text()),
            Value::Object(text) | Value::Array(text) => writer.json(name, text),
            Value::Bool(value) => writer.json(name, &value.to_string()),
            Value::Null => writer.json(name, "null"),
        };
    }
    writer.finish()
}

fn walk(value: &Value<'_>, depth: usize) {
    assert!(depth <= ::jose::json::MAX_DEPTH + 1, "too deep");
    match value {
        Value::Array(text) => {
            if let Ok(elements) = ::jose::json::elements(text) {
                elements.iter().for_each(|element| walk(element, depth + 1));
            }
        }
        Value::Object(text) => {
            let object = Object::parse(text.as_bytes(), MAX_JSON_BYTES);
            let object = object.expect("a member that was accepted reads on its own");
            object
                .members()
                .for_each(|(_, member)| walk(member, depth + 1));
        }
        Value::Number(number) => {
            if let (Some(unsigned), Some(signed)) = (number.as_u64(), number.as_i64()) {
                assert_eq!(i64::try_from(unsigned), Ok(signed));
            }
        }
        Value::String(_) | Value::Bool(_) | Value::Null => {}
    }
}

fn json(input: &[u8]) -> bool {
    let Ok(object) = Object::parse(input, MAX_JSON_BYTES) else {
        return false;
    };
    assert!(input.len() <= MAX_JSON_BYTES);
    let members: Vec<_> = object.members().collect();
    assert!(members.len() <= MAX_MEMBERS);
    for (name, value) in &members {
        let found = object.member(name).expect("a member is found by its name");
        assert_eq!(format!("{found:?}"), format!("{value:?}"));
        walk(value, 1);
    }
    let text = rewritten(&object);
    // Escapes may make it longer than what was read.
    let again = Object::parse(text.as_bytes(), text.len()).expect("what is written can be read");
    assert_eq!(rewritten(&again), text);
    // Another reader, less strict, understands at least as much.
    let other: serde_json::Map<String, serde_json::Value> = match serde_json::from_slice(input) {
        Ok(other) => other,
        // We keep numbers as text; it wants them to fit a double.
        Err(error) => {
            let reason = error.to_string();
            assert!(reason.starts_with("number out of range"), "{reason}");
            return true;
        }
    };
    assert_eq!(other.len(), members.len());
    for (name, value) in &members {
        if let Some(text) = value.as_str() {
            assert_eq!(other[*name].as_str(), Some(text));
        }
        if let Some(number) = value.as_u64() {
            assert_eq!(other[*name].as_u64(), Some(number));
        }
    }
    true
}

fn json_seeds() -> Vec<Vec<u8>> {
    [
        r#"{}"#,
        r#"{"alg":"ES256","typ":"dpop+jwt","jwk":{"kty":"EC","crv":"P-256","x":"a","y":"b"}}"#,
        r#"{"iat":1780000000,"n":-12.5e3,"t":true,"f":false,"z":null,"a":[1,"two",[3],{"four":4}]}"#,
        r#"{"escaped":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00","plain":"é😀"}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn jwk(input: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(input) else {
        return false;
    };
    let mut accepted = false;
    if let Ok(bytes) = base64url::decode(text) {
        assert_eq!(base64url::encode(&bytes), text);
    }
    if let Ok(key) = PublicKey::from_json(text) {
        accepted = true;
        let again = PublicKey::from_json(&key.to_json()).expect("what is written can be read");
        assert_eq!(again, key);
        assert_eq!(again.thumbprint().as_bytes(), key.thumbprint().as_bytes());
    }
    accepted |= RsaPublicKey::from_json(text).is_ok();
    accepted |= SigningKey::from_pkcs8_pem(text, &SystemRandom::new()).is_ok();
    if let Ok(uri) = TargetUri::parse(text) {
        accepted = true;
        let again = TargetUri::parse(text);
        assert!(again == Ok(uri), "a target is equal to itself");
    }
    accepted
}

fn jwk_seeds() -> Vec<Vec<u8>> {
    let ed25519 =
        r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let n = base64url::encode(&[&[0xc5u8; 255][..], &[0x0b]].concat());
    let rsa = format!(r#"{{"kty":"RSA","alg":"RS256","use":"sig","n":"{n}","e":"AQAB"}}"#);
    [
        KEY.public_key().to_json().as_str(),
        KEY.public_key().to_json_with_kid("k-1").as_str(),
        ed25519,
        rsa.as_str(),
        HTU,
        "http://127.0.0.1:80/a/~b?c=d",
        "https://[2001:db8::1]/",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn jws(input: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(input) else {
        return false;
    };
    let Ok(compact) = Compact::parse(text) else {
        return false;
    };
    assert!(text.len() <= jws::MAX_TOKEN_BYTES);
    assert!(!format!("{compact:?}").contains("issuer.test"));
    let Ok(verified) = compact.verify(KEY.public_key(), &[Alg::Es256, Alg::EdDsa]) else {
        return false;
    };
    assert_eq!(
        verified.payload(),
        PAYLOAD,
        "another payload than was signed"
    );
    assert_eq!(verified.typ(), Some("at+jwt"));
    verified.claims().is_ok()
}

fn jws_seeds() -> Vec<Vec<u8>> {
    let members = [HeaderMember::Typ("at+jwt"), HeaderMember::Kid("k-1")];
    vec![
        jws::sign(&members, PAYLOAD, &KEY, &SystemRandom::new())
            .unwrap()
            .into_bytes(),
    ]
}

fn expected(access_token: Option<&str>) -> Expected<'_> {
    Expected {
        htm: "POST",
        htu: TargetUri::parse(HTU).unwrap(),
        access_token,
        bound_jkt: Some(KEY.public_key().thumbprint()),
        now_s: NOW_S,
        iat: IatRule::WITH_NONCE,
    }
}

/// Header values, a line each.
fn dpop(input: &[u8]) -> bool {
    let Ok(proof) = Proof::from_header_values(input.split(|byte| *byte == b'\n')) else {
        return false;
    };
    let nonce = proof.nonce().map(str::to_owned);
    let Ok(verified) = proof.verify(&expected(Some("token"))) else {
        return false;
    };
    assert_eq!(verified.nonce().map(str::to_owned), nonce);
    assert_eq!(verified.iat_s(), NOW_S, "another proof than was signed");
    let genuine = Proof::from_header_values([dpop_seeds()[0].as_slice()])
        .unwrap()
        .verify(&expected(Some("token")))
        .unwrap();
    assert_eq!(verified.replay_id(), genuine.replay_id());
    true
}

fn dpop_seeds() -> Vec<Vec<u8>> {
    let params = ProofParams {
        htm: "POST",
        htu: HTU,
        iat_s: NOW_S,
        jti: JTI,
        nonce: Some("c2VlZC1ub25jZQ"),
        access_token: Some("token"),
    };
    vec![
        params
            .sign(&KEY, &SystemRandom::new())
            .unwrap()
            .into_bytes(),
    ]
}

/// A header and claims, a line each, that their author signs: the checks behind the signature are reached.
fn dpop_signed(input: &[u8]) -> bool {
    let mut lines = input.splitn(2, |byte| *byte == b'\n');
    let (header, claims) = (
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
    );
    let mut text = format!(
        "{}.{}",
        base64url::encode(header),
        base64url::encode(claims)
    );
    let signature = PAIR.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
    text.push('.');
    text.push_str(&base64url::encode(signature.as_ref()));
    let Ok(proof) = Proof::from_header_values([text.as_bytes()]) else {
        return false;
    };
    let Ok(verified) = proof.verify(&expected(None)) else {
        return false;
    };
    assert_eq!(
        verified.jkt().as_bytes(),
        KEY.public_key().thumbprint().as_bytes()
    );
    assert!(verified.nonce().is_some(), "accepted without a nonce");
    // Where another reader can hold the numbers, it reads the same method.
    if let Ok(claims) = serde_json::from_slice::<serde_json::Value>(claims) {
        assert_eq!(claims["htm"], "POST");
    }
    assert!(verified.iat_s().abs_diff(NOW_S) <= 86_400);
    true
}

fn dpop_signed_seeds() -> Vec<Vec<u8>> {
    let jwk = KEY.public_key().to_json();
    vec![
        format!(
            "{{\"alg\":\"ES256\",\"typ\":\"dpop+jwt\",\"jwk\":{jwk}}}\n{{\"jti\":\"{JTI}\",\"htm\":\"POST\",\
             \"htu\":\"{HTU}\",\"iat\":{NOW_S},\"nonce\":\"n\",\"exp\":1780000300,\"nbf\":1779999990}}"
        )
        .into_bytes(),
    ]
}
