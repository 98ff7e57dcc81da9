//! Tests.
use super::*;
use crate::*;
#[test]
fn made_proofs_verify() {
    let rng = ring::rand::SystemRandom::new();
    for alg in [Alg::Es256, Alg::EdDsa] {
        let key = SigningKey::from_pkcs8(&SigningKey::generate(alg, &rng).unwrap(), &rng).unwrap();
        let p = ProofParams {
            htm: "POST",
            htu: "https://h/a?x",
            iat_s: 100,
            jti: "j",
            nonce: Some("n"),
            access_token: Some("t"),
        };
        let text = p.sign(&key, &rng).unwrap();
        let proof = Proof::from_header_values([text.as_bytes()]).unwrap();
        assert_eq!(proof.nonce(), Some("n"));
        let v = proof
            .verify(&Expected {
                htm: "POST",
                htu: target_uri::TargetUri::parse("https://h/a").unwrap(),
                access_token: Some("t"),
                bound_jkt: Some(key.public_key().thumbprint()),
                now_s: 100,
                iat: IatRule::WITH_NONCE,
            })
            .unwrap();
        assert_eq!(v.jkt(), key.public_key().thumbprint());
    }
}
