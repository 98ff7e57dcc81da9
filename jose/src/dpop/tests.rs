//! DPoP: what is made verifies, the RFC's examples, replay ids; the table of refusals is in [`refusals`].
#![expect(
    clippy::arithmetic_side_effects,
    reason = "small numbers of the tests' own"
)]

use proptest::prelude::*;
use ring::rand::SystemRandom;

use super::*;
use crate::{Alg, SigningKey, Thumbprint, jws::JwsError, target_uri::TargetUri};

mod forge;
mod refusals;

fn key(alg: Alg) -> SigningKey {
    let rng = SystemRandom::new();
    SigningKey::from_pkcs8(&SigningKey::generate(alg, &rng).unwrap(), &rng).unwrap()
}

fn expected<'a>(htm: &'a str, htu: &'a str, now_s: u64) -> Expected<'a> {
    Expected {
        htm,
        htu: TargetUri::parse(htu).unwrap(),
        access_token: None,
        bound_jkt: None,
        now_s,
        iat: IatRule::WITHOUT_NONCE,
    }
}

/// N073, N074: a replay has the same id, whatever else of it is new. N075: another key's `jti` is another.
#[test]
fn a_replay_is_known_by_key_and_jti() {
    let id = |forge: &forge::Forge| forge.check().unwrap().replay_id();
    let first = forge::Forge::new();
    let mut malleated = first.clone();
    malleated.signature = forge::malleate;
    assert_eq!(id(&malleated), id(&first), "N073 malleated");
    let mut signed_anew = first.clone();
    signed_anew.claim("x", "1");
    assert_eq!(id(&signed_anew), id(&first), "N074 a new signature");
    assert_ne!(id(&forge::Forge::new()), id(&first), "N075 another key");
    let mut other = first.clone();
    other.claim("jti", "\"another\"");
    assert_ne!(id(&other), id(&first));
}

/// An `ath` that nobody has compared is seen, whatever it is.
#[test]
fn a_claim_for_a_token_that_did_not_come_is_seen() {
    for (ath, expected) in [(None, false), (Some("\"x\""), true), (Some("7"), true)] {
        let mut forge = forge::Forge::new();
        forge.access_token = None;
        match ath {
            Some(ath) => forge.claim("ath", ath),
            None => forge.without_claim("ath"),
        }
        assert_eq!(forge.check().unwrap().has_ath(), expected, "{ath:?}");
    }
}

#[test]
fn what_is_made_verifies() {
    let rng = SystemRandom::new();
    for alg in [Alg::Es256, Alg::EdDsa] {
        let key = key(alg);
        let jti = random_jti(&rng).unwrap();
        let params = ProofParams {
            htm: "POST",
            htu: "https://api.example/a?q#f",
            iat_s: 1_700_000_000,
            jti: &jti,
            nonce: Some("n-1"),
            access_token: Some("at"),
        };
        let text = params.sign(&key, &rng).unwrap();
        let proof = Proof::from_header_values([text.as_bytes()]).unwrap();
        assert_eq!(proof.nonce(), Some("n-1"));
        let jkt = key.public_key().thumbprint();
        let expected = Expected {
            access_token: Some("at"),
            bound_jkt: Some(jkt),
            iat: IatRule::WITH_NONCE,
            ..expected("POST", "https://api.example/a", 1_700_000_000)
        };
        let verified = proof.verify(&expected).unwrap();
        assert_eq!(verified.key(), key.public_key());
        assert_eq!(
            (verified.jkt(), verified.iat_s(), verified.nonce()),
            (jkt, 1_700_000_000, Some("n-1"))
        );
        assert!(!format!("{verified:?}").contains(&jti));
        // Query and fragment stay at home.
        let payload = base64url::decode(text.split('.').nth(1).unwrap()).unwrap();
        assert!(
            String::from_utf8(payload)
                .unwrap()
                .contains(r#""htu":"https://api.example/a","#)
        );

        let bare = ProofParams {
            nonce: None,
            access_token: None,
            ..params
        }
        .sign(&key, &rng)
        .unwrap();
        let proof = Proof::from_header_values([bare.as_bytes()]).unwrap();
        assert_eq!(proof.nonce(), None);
        assert_eq!(
            proof.verify(&expected).map(drop),
            Err(DpopError::NonceMissing)
        );
    }
}

#[test]
fn fresh_ids_differ() {
    let rng = SystemRandom::new();
    let one = random_jti(&rng).unwrap();
    assert_eq!(one.len(), 22);
    assert_ne!(one, random_jti(&rng).unwrap());
}

/// [RFC 9449 §4.1, figures 1 and 2; §7.1, figures 12 and 13]
#[test]
fn the_examples_of_rfc_9449_verify() {
    let jkt = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
        .parse()
        .unwrap();
    let token_request = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
    let proof = Proof::from_header_values([token_request.as_bytes()]).unwrap();
    let expected_there = Expected {
        bound_jkt: Some(jkt),
        ..expected("POST", "https://server.example.com/token", 1_562_262_616)
    };
    assert_eq!(proof.verify(&expected_there).unwrap().jkt(), jkt);

    let resource_request = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
    let proof = Proof::from_header_values([resource_request.as_bytes()]).unwrap();
    let expected_there = Expected {
        access_token: Some("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"),
        bound_jkt: Some(jkt),
        ..expected(
            "GET",
            "https://resource.example.org/protectedresource",
            1_562_262_618,
        )
    };
    assert_eq!(
        proof.verify(&expected_there).unwrap().iat_s(),
        1_562_262_618
    );
}

#[test]
fn ath_is_that_of_rfc_9449() {
    assert_eq!(
        ath("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"),
        "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"
    );
}

/// N072 to N075: what counts is key and `jti`, never the signature or the rest.
#[test]
fn replays_have_one_id_and_others_do_not() {
    let id = |forge: &forge::Forge| forge.check().unwrap().replay_id();
    let base = forge::Forge::new();
    let first = id(&base);
    // The same text; a new signature over the same claims; other claims under the same `jti`.
    assert_eq!(id(&base), first);
    let mut other_claims = base.clone();
    other_claims.claim("x", "1");
    assert_eq!(id(&other_claims), first);
    let mut malleated = base.clone();
    malleated.signature = forge::malleate;
    assert_eq!(id(&malleated), first);

    let mut other_jti = base.clone();
    other_jti.claim("jti", "\"another\"");
    assert_ne!(id(&other_jti), first);
    let other_key = forge::Forge::new();
    assert_ne!(id(&other_key), first);

    // By its definition.
    let verified = base.check().unwrap();
    let input = [verified.jkt().as_bytes(), &[0][..], forge::JTI.as_bytes()].concat();
    assert_eq!(
        first,
        digest::digest(&digest::SHA256, &input).as_ref()[..16]
    );
}

/// N131 and N133: the nonce is readable before the signature is checked, and whose
/// it is the caller decides.
#[test]
fn the_nonce_is_read_before_the_signature() {
    let mut forge = forge::Forge::new();
    forge.signature = |mut signature| {
        signature[0] ^= 1;
        signature
    };
    for nonce in ["", "unknown", "n"] {
        forge.claim("nonce", &format!("\"{nonce}\""));
        let text = forge.text();
        let proof = Proof::from_header_values([text.as_bytes()]).unwrap();
        assert_eq!(proof.nonce(), Some(nonce));
        assert!(!format!("{proof:?}").contains("unknown"));
    }
}

#[test]
fn the_window_of_iat_has_exact_edges() {
    let now_s = forge::NOW_S;
    let check = |iat_s: u64, rule: IatRule| {
        let mut forge = forge::Forge::new();
        forge.claim("iat", &iat_s.to_string());
        forge.iat = rule;
        forge.check().map(|proof| proof.iat_s())
    };
    let day_s = 86_400;
    for (rule, past_s, future_s) in [
        (IatRule::WITHOUT_NONCE, 60, 10),
        (IatRule::WITH_NONCE, day_s, day_s),
    ] {
        for iat_s in [now_s - past_s, now_s, now_s + future_s] {
            assert_eq!(check(iat_s, rule), Ok(iat_s));
        }
        let iat_s = now_s - past_s - 1;
        assert_eq!(check(iat_s, rule), Err(DpopError::TooOld { iat_s, now_s }));
        let iat_s = now_s + future_s + 1;
        assert_eq!(
            check(iat_s, rule),
            Err(DpopError::FromFuture { iat_s, now_s })
        );
    }
    // A clock at either end of time neither panics nor wraps.
    let mut forge = forge::Forge::new();
    for (now_s, iat_s) in [
        (0, 0),
        (0, 10),
        (u64::MAX, u64::MAX),
        (u64::MAX, u64::MAX - 60),
    ] {
        forge.now_s = now_s;
        forge.claim("iat", &iat_s.to_string());
        assert_eq!(forge.check().map(|proof| proof.iat_s()), Ok(iat_s));
    }
}

#[test]
fn exp_and_nbf_have_exact_edges() {
    let now_s = forge::NOW_S;
    for (claim, value, want) in [
        ("exp", now_s - 59, Ok(())),
        ("exp", now_s - 60, Err(DpopError::Expired)),
        ("exp", u64::MAX, Ok(())),
        ("exp", 0, Err(DpopError::Expired)),
        ("nbf", now_s + 60, Ok(())),
        ("nbf", now_s + 61, Err(DpopError::NotYetValid)),
        ("nbf", 0, Ok(())),
        ("nbf", u64::MAX, Err(DpopError::NotYetValid)),
    ] {
        let mut forge = forge::Forge::new();
        forge.claim(claim, &value.to_string());
        assert_eq!(forge.check().map(drop), want, "{claim} {value}");
    }
}

#[test]
fn the_size_bound_holds_exactly() {
    let check = |len: usize| Proof::from_header_values([vec![b'a'; len].as_slice()]).map(drop);
    assert_eq!(
        check(MAX_PROOF_BYTES),
        Err(DpopError::Jws(JwsError::SegmentCount))
    );
    assert_eq!(check(MAX_PROOF_BYTES + 1), Err(DpopError::TooLarge));
}

#[test]
fn errors_show_fixed_phrases() {
    let error = DpopError::FromFuture {
        iat_s: 4_242_424_242,
        now_s: 1,
    };
    assert_eq!(error.to_string(), "DPoP proof is from the future");
    assert_eq!(
        DpopError::ClaimType(Claim::Nbf).to_string(),
        "DPoP proof's claim nbf has the wrong type"
    );
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Proof::from_header_values([&bytes[..]]).is_err());
    }

    /// Well-framed proofs with any claims: whatever they say, checking ends in a verdict, and only with
    /// exactly the right claims in acceptance.
    #[test]
    fn no_claims_panic(name in proptest::sample::select(vec!["jti", "htm", "htu", "iat", "ath", "exp", "nbf", "nonce"]), value in "(\"[ -~]{0,40}\"|-?[0-9]{1,25}|null|\\[\\]|[0-9]e[0-9]{1,3})") {
        let mut forge = forge::Forge::new();
        forge.claim(name, &value);
        if let Ok(verified) = forge.check() {
            prop_assert_eq!(verified.jkt(), forge.key.public_key().thumbprint());
            prop_assert!(!["htm", "htu", "ath"].contains(&name), "{} = {}", name, value);
        }
    }
}
