//! `RS256`: the RFC's example, and the exact error for each change.

use super::*;
use crate::{Alg, jwk::JwkError, jwk::PublicKey};

/// The key and JWS of RFC 7515 §A.2.
const KEY: &str = r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#;
const INPUT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

#[test]
fn the_example_of_rfc_7515_verifies() {
    let text = format!("{INPUT}.{SIGNATURE}");
    let compact = Compact::parse(&text).unwrap();
    assert_eq!(compact.alg(), None);
    let verified = RsaPublicKey::from_json(KEY)
        .unwrap()
        .verify(&compact)
        .unwrap();
    assert_eq!(verified.claims().unwrap().str("iss"), Ok("joe"));
    assert_eq!(verified.typ(), None);
}

/// The example's header has no `typ`, and only the key's owner can sign another: the value is read as the header has it.
#[test]
fn the_type_is_the_headers() {
    let payload = INPUT.split_once('.').unwrap().1;
    let header = base64url::encode(br#"{"alg":"RS256","typ":"secevent+jwt"}"#);
    let text = format!("{header}.{payload}.{SIGNATURE}");
    let compact = Compact::parse(&text).unwrap();
    let read = ForeignJws { compact: &compact };
    assert_eq!(read.typ(), Some("secevent+jwt"));
}

#[test]
fn each_change_has_its_error() {
    let key = RsaPublicKey::from_json(KEY).unwrap();
    let check = |text: &str| key.verify(&Compact::parse(text).unwrap()).map(drop);
    let rehead = |header: &str| {
        let payload = INPUT.split_once('.').unwrap().1;
        format!(
            "{}.{payload}.{SIGNATURE}",
            base64url::encode(header.as_bytes())
        )
    };
    assert_eq!(check(&rehead(r#"{"alg":"RS256"}"#)), Ok(()));
    assert_eq!(
        check(&rehead(r#"{"alg":"RS256" }"#)),
        Err(JwsError::BadSignature)
    );
    for alg in ["ES256", "EdDSA", "RS384", "PS256", "none"] {
        assert_eq!(
            check(&rehead(&format!(r#"{{"alg":"{alg}"}}"#))),
            Err(JwsError::AlgNotAllowed),
            "{alg}"
        );
    }
    let mut signature = base64url::decode(SIGNATURE).unwrap();
    let with = |signature: &[u8]| format!("{INPUT}.{}", base64url::encode(signature));
    assert_eq!(
        check(&with(&signature[1..])),
        Err(JwsError::SignatureLength)
    );
    signature[9] ^= 1;
    assert_eq!(check(&with(&signature)), Err(JwsError::BadSignature));
}

#[test]
fn our_own_verifier_refuses_it() {
    let text = format!("{INPUT}.{SIGNATURE}");
    let compact = Compact::parse(&text).unwrap();
    let ours = PublicKey::from_ed25519_bytes(&[2; 32]).unwrap();
    assert_eq!(
        compact.verify(&ours, &[Alg::Es256, Alg::EdDsa]).map(drop),
        Err(JwsError::AlgNotAllowed)
    );
    assert_eq!(PublicKey::from_json(KEY), Err(JwkError::UnsupportedKty));
}

#[test]
fn keys_are_checked() {
    let add = |member: &str| KEY.replacen('{', &format!("{{{member},"), 1);
    let modulus = |bits: usize| {
        let mut n = vec![0xff; bits.div_ceil(8)];
        if !bits.is_multiple_of(8) {
            n[0] = (1 << (bits % 8)) - 1;
        }
        format!(
            r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#,
            base64url::encode(&n)
        )
    };
    let number = |n: &str, e: &str| format!(r#"{{"kty":"RSA","n":"{n}","e":"{e}"}}"#);
    let n = KEY.split('"').nth(7).unwrap();
    let cases = [
        (add(r#""use":"sig","alg":"RS256","kid":"k""#), Ok(())),
        (add(r#""use":"enc""#), Err(RsaKeyError::NotForRs256)),
        (add(r#""key_ops":["verify"]"#), Ok(())),
        (
            add(r#""key_ops":["encrypt"]"#),
            Err(RsaKeyError::NotForRs256),
        ),
        (add(r#""alg":"PS256""#), Err(RsaKeyError::NotForRs256)),
        (add(r#""d":null"#), Err(RsaKeyError::PrivateMember)),
        (KEY.replacen("RSA", "EC", 1), Err(RsaKeyError::NotForRs256)),
        (
            KEY.replacen(r#""e""#, r#""f""#, 1),
            Err(RsaKeyError::Json(JsonError::Missing("e"))),
        ),
        (number(n, ""), Err(RsaKeyError::Number)),
        (number(n, "AAEAAQ"), Err(RsaKeyError::Number)),
        (number(n, "AQAB="), Err(RsaKeyError::Number)),
        (
            number(&format!("AAAA{n}"), "AQAB"),
            Err(RsaKeyError::Number),
        ),
        (modulus(MIN_MODULUS_BITS), Ok(())),
        (
            modulus(MIN_MODULUS_BITS - 1),
            Err(RsaKeyError::ModulusLength),
        ),
        (modulus(MAX_MODULUS_BITS), Ok(())),
        (
            modulus(MAX_MODULUS_BITS + 1),
            Err(RsaKeyError::ModulusLength),
        ),
    ];
    for (text, want) in cases {
        assert_eq!(RsaPublicKey::from_json(&text).map(drop), want, "{text}");
    }
}
