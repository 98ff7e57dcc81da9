//! Wycheproof's vectors for JWS. Numbers 345 and 349 are the example of RFC 7520 §4.1, the only one of its signatures
//! that is of an algorithm of ours.

use serde_json::Value;

use super::*;
use crate::rs256::RsaPublicKey;

const WYCHEPROOF: &str = include_str!("../../vectors/wycheproof_jws.json");

/// Valid by the RFCs, and not taken: the test's number and why.
const DECLINED: [(u64, &str); 1] = [(259, "an empty payload is no token")];

/// Whether a text is signed by a key, as each of our two verifiers says.
fn verifies(jwk: &Value, text: &str) -> bool {
    let Ok(compact) = Compact::parse(text) else {
        return false;
    };
    let jwk = jwk.to_string();
    let ours = PublicKey::from_json(&jwk)
        .is_ok_and(|key| compact.verify(&key, &[Alg::Es256, Alg::EdDsa]).is_ok());
    let foreign = RsaPublicKey::from_json(&jwk).is_ok_and(|key| key.verify(&compact).is_ok());
    ours || foreign
}

#[test]
fn jws_agrees_with_wycheproof() {
    let vectors: Value = serde_json::from_str(WYCHEPROOF).unwrap();
    let (mut taken, mut refused) = (0, 0);
    let mut wrong = Vec::new();
    for group in vectors["groups"].as_array().unwrap() {
        for test in group["tests"].as_array().unwrap() {
            let (id, comment) = (test[0].as_u64().unwrap(), test[1].as_str().unwrap());
            let valid = test[3] == "valid";
            let found = verifies(&group["jwk"], test[2].as_str().unwrap());
            let declined = DECLINED.iter().any(|(known, _)| *known == id);
            if found != (valid && !declined) {
                wrong.push(format!("{id} {comment}: {found}"));
            }
            if found {
                taken += 1;
            } else {
                refused += 1;
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    // Ten of the file are valid, and one of these is declined.
    assert_eq!((taken, refused), (9, 267));
}
