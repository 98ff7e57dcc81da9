//! What a verified DPoP proof and a minted token cost, beside the one signature in each. Both are measured in turns, in
//! one process; the least of many rounds counts, because noise only adds.
//!
//! `cargo bench --package tokenkeep-tests --bench proofs -- FILE` writes the rows to a file, too.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench reads the clock and prints, and ends at the first surprise"
)]

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use enclave::ids::{ClientId, GrantId};
use enclave::mint::{Claims, Confirmation};
use jose::dpop::{Expected, IatRule, Proof, ProofParams, random_jti};
use jose::jws::{self, HeaderMember};
use jose::target_uri::TargetUri;
use jose::{Alg, SigningKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey,
};
use serde_json::{Value, json};

/// The cost of a verified proof, in the cost of its signature's verification.
const PROOF_BAR: f64 = 1.1;
/// The cost of a minted token, in the cost of its signature.
const TOKEN_BAR: f64 = 1.15;
const ROUNDS: u32 = 400;
/// Of each kind in a round.
const BATCH: u32 = 20;
const NOW_S: u64 = 1_800_000_000;
const HTU: &str = "https://tokens.example/tokenkeep.v1.TokenService/IssueToken";

fn least(best: Duration, mut work: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..BATCH {
        work();
    }
    best.min(start.elapsed())
}

/// The least time of a batch of each.
fn in_turns(mut whole: impl FnMut(), mut bare: impl FnMut()) -> (Duration, Duration) {
    let mut best = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        best = (least(best.0, &mut whole), least(best.1, &mut bare));
    }
    best
}

/// A proof by a client that sends a nonce, from the header's bytes to the verified value.
fn proof() -> (Duration, Duration) {
    let rng = SystemRandom::new();
    let key = SigningKey::from_pkcs8(&SigningKey::generate(Alg::Es256, &rng).unwrap(), &rng);
    let key = key.unwrap();
    let jti = random_jti(&rng).unwrap();
    let params = ProofParams {
        htm: "POST",
        htu: HTU,
        iat_s: NOW_S,
        jti: &jti,
        nonce: Some("AQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        access_token: None,
    };
    let text = params.sign(&key, &rng).unwrap();
    let expected = Expected {
        htm: "POST",
        htu: TargetUri::parse(HTU).unwrap(),
        access_token: None,
        bound_jkt: None,
        now_s: NOW_S,
        iat: IatRule::WITH_NONCE,
    };
    let whole = || {
        let proof = Proof::from_header_values([black_box(text.as_bytes())]).unwrap();
        black_box(proof.verify(&expected).unwrap().replay_id());
    };
    let (signed, signature) = text.rsplit_once('.').unwrap();
    let signature = Base64UrlUnpadded::decode_vec(signature).unwrap();
    let point = key.public_key().as_bytes();
    let bare = || {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, black_box(point))
            .verify(signed.as_bytes(), &signature)
            .unwrap();
    };
    in_turns(whole, bare)
}

/// A token with the claims that the enclave puts into one, from its parts to its text.
fn token() -> (Duration, Duration) {
    let rng = SystemRandom::new();
    let pkcs8 = SigningKey::generate(Alg::Es256, &rng).unwrap();
    let key = SigningKey::from_pkcs8(&pkcs8, &rng).unwrap();
    let kid = key.public_key().thumbprint().to_string();
    let client = ClientId::try_from("crm-sync".to_owned()).unwrap();
    let grant = GrantId::try_from("acme-crm".to_owned()).unwrap();
    let whole = || {
        let mut id = [0; 16];
        rng.fill(&mut id).unwrap();
        let claims = Claims {
            iss: "https://tokens.example".to_owned(),
            sub: client.clone(),
            aud: "https://gateway.example/g/acme-crm/contacts".to_owned(),
            exp: NOW_S.saturating_add(300),
            iat: NOW_S,
            jti: Base64UrlUnpadded::encode_string(&id),
            client_id: client.clone(),
            scope: "contacts.read contacts.write".to_owned(),
            cnf: Confirmation::Jkt(kid.clone()),
            grant: grant.clone(),
            tier: "hardware".to_owned(),
            act: None,
        };
        let payload = serde_json::to_vec(&claims).unwrap();
        let members = [HeaderMember::Typ("at+jwt"), HeaderMember::Kid(&kid)];
        black_box(jws::sign(&members, &payload, &key, &rng).unwrap());
    };
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &rng).unwrap();
    // As many bytes as the token has before its signature.
    let signed = [7; 560];
    let bare = || {
        black_box(pair.sign(&rng, black_box(&signed)).unwrap());
    };
    in_turns(whole, bare)
}

fn row(name: &str, bar: f64, (whole, bare): (Duration, Duration)) -> Value {
    let ratio = whole.as_secs_f64() / bare.as_secs_f64();
    let us = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(BATCH);
    let met = ratio <= bar;
    println!(
        "{name} = {ratio:.3} (bar <= {bar}): {:.1} µs with everything, {:.1} µs for the signature alone: {}",
        us(whole),
        us(bare),
        if met { "met" } else { "NOT MET" }
    );
    json!({
        "name": name,
        "value": (ratio * 1000.0).round() / 1000.0,
        "unit": "ratio",
        "bar": format!("<= {bar}"),
        "met": met,
        "runs": ROUNDS,
    })
}

fn main() {
    let rows = [
        row("proof_over_signature", PROOF_BAR, proof()),
        row("token_over_signature", TOKEN_BAR, token()),
    ];
    if let Some(file) = std::env::args().skip(1).find(|word| !word.starts_with('-')) {
        let file = Path::new(&file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, serde_json::to_vec_pretty(&rows).unwrap()).unwrap();
    }
    if rows.iter().any(|row| row["met"] != true) {
        std::process::exit(1);
    }
}
