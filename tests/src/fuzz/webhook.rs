//! What is posted to a webhook, as anybody may post it.

use ::jose::jws::{HeaderMember, sign};
use ::jose::{Alg, SigningKey};
use ring::rand::SystemRandom;
use serde_json::{Value, json};
use std::sync::LazyLock;
use tokenkeep::webhook::{DEFAULT_MAX_AGE_S, Posted, Receiver, verify};

use super::Target;

pub(super) const WEBHOOK: Target = Target {
    name: "client_webhook",
    run: webhook,
    seeds,
};

const AT_S: u64 = 1_793_500_000;

/// The service's key, and its JWKS.
static SERVICE: LazyLock<(SigningKey, Vec<u8>)> = LazyLock::new(|| {
    let rng = SystemRandom::new();
    let pkcs8 = SigningKey::generate(Alg::Es256, &rng).unwrap();
    let key = SigningKey::from_pkcs8(&pkcs8, &rng).unwrap();
    let jwk = key.public_key().to_json_with_kid("emulated-1");
    (key, format!("{{\"keys\":[{jwk}]}}").into_bytes())
});

fn body() -> Vec<u8> {
    let event = json!({
        "id": "acme.siem.9", "kind": "freeze", "tenant": "acme", "webhook": "siem", "issuer": "https://keep.example",
        "sent_at_s": AT_S,
    });
    event.to_string().into_bytes()
}

fn signature() -> String {
    let members = [
        HeaderMember::Typ("tokenkeep-event+jws"),
        HeaderMember::Kid("emulated-1"),
    ];
    let compact = sign(&members, &body(), &SERVICE.0, &SystemRandom::new()).unwrap();
    let (header, rest) = compact.split_once('.').unwrap();
    format!("{header}..{}", rest.split_once('.').unwrap().1)
}

/// A signature, a line's end, a body; or a JWKS.
fn webhook(input: &[u8]) -> bool {
    let receiver = |jwks| Receiver {
        jwks,
        tenant: Some("acme"),
        webhook: Some("siem"),
        issuer: None,
        at_s: AT_S,
        max_age_s: DEFAULT_MAX_AGE_S,
    };
    let timestamp = AT_S.to_string();
    let posted = |signature, body| Posted {
        id: "acme.siem.9",
        timestamp: &timestamp,
        signature,
        body,
    };
    let (good, signed) = (body(), signature());
    let by_jwks = verify(&posted(&signed, &good), &receiver(input)).is_ok();
    let text = std::str::from_utf8(input).unwrap_or_default();
    let Some((signature, body)) = text.split_once('\n') else {
        return by_jwks;
    };
    let found = verify(&posted(signature, body.as_bytes()), &receiver(&SERVICE.1));
    match found {
        Ok(event) => {
            assert_eq!(body.as_bytes(), good, "a body that was not signed");
            let expected: Value = serde_json::from_slice(&good).unwrap();
            assert_eq!(*event.event(), expected);
            true
        }
        Err(_) => by_jwks,
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let posted = [signature().as_bytes(), b"\n", &body()].concat();
    vec![posted, SERVICE.1.clone()]
}
