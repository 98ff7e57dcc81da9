//! Webhooks, on the receiver's side: whether what was posted is the service's, for whoever has its JWKS.

use base64ct::{Base64UrlUnpadded, Encoding};
use jose::jws::{Compact, JwsError};
use jose::{Alg, PublicKey};
use serde_json::Value;
use thiserror::Error;

/// The header with the event's id.
pub const ID_HEADER: &str = "webhook-id";
/// The header with the time of posting, Unix time in seconds.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// The header with the signature.
pub const SIGNATURE_HEADER: &str = "tokenkeep-signature";

/// The longest body that is read, bytes.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// The longest JWKS that is read, bytes.
pub const MAX_JWKS_BYTES: usize = 64 * 1024;

/// How old a posting may be unless the receiver says otherwise, seconds.
pub const DEFAULT_MAX_AGE_S: u64 = 300;

/// How far the service's clock may be ahead, seconds.
const MAX_AHEAD_S: u64 = 60;

/// The longest signature that is read, bytes.
const MAX_SIGNATURE_BYTES: usize = 2_048;

/// The `typ` of the signature.
const EVENT_TYP: &str = "tokenkeep-event+jws";

/// What was posted.
#[derive(Debug, Clone, Copy)]
pub struct Posted<'a> {
    /// The header [`ID_HEADER`].
    pub id: &'a str,
    /// The header [`TIMESTAMP_HEADER`].
    pub timestamp: &'a str,
    /// The header [`SIGNATURE_HEADER`].
    pub signature: &'a str,
    /// The body, byte for byte.
    pub body: &'a [u8],
}

/// What the receiver knows.
#[derive(Debug, Clone, Copy)]
pub struct Receiver<'a> {
    /// The service's JWKS, as `tokenkeep jwks export` wrote it.
    pub jwks: &'a [u8],
    /// The tenant whose events these must be; any if none is named.
    pub tenant: Option<&'a str>,
    /// The webhook that they must be posted to; any if none is named.
    pub webhook: Option<&'a str>,
    /// The service's issuer that they must name; any if none is named.
    pub issuer: Option<&'a str>,
    /// Now, Unix time in seconds.
    pub at_s: u64,
    /// How old a posting may be, seconds.
    pub max_age_s: u64,
}

/// An event that the service vouches for. Made by [`verify`] alone.
///
/// ```compile_fail,E0451
/// # fn forge(event: serde_json::Value) -> tokenkeep::webhook::VerifiedEvent {
/// tokenkeep::webhook::VerifiedEvent { event }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedEvent {
    event: Value,
}

impl VerifiedEvent {
    /// The event.
    #[must_use]
    pub const fn event(&self) -> &Value {
        &self.event
    }
}

/// Why a posting is not to be believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WebhookError {
    /// The JWKS is none.
    #[error("the JWKS is not an object with keys")]
    Jwks,
    /// The body is longer than one of the service's.
    #[error("the body has more than {MAX_BODY_BYTES} bytes")]
    TooLarge,
    /// The signature has content of its own, or is none.
    #[error("the signature is not a compact JWS with detached content")]
    Form,
    /// It is no JWS that is read.
    #[error(transparent)]
    Jws(JwsError),
    /// It is of another type: a token or a proof.
    #[error("the signature is not of the type {EVENT_TYP}")]
    Type,
    /// The JWKS has not the key that it names.
    #[error("the JWKS has no key {kid:?}: fetch it again, the service may have a new one")]
    UnknownKey {
        /// Which it names; empty if it names none.
        kid: String,
    },
    /// The body is no event.
    #[error("the body is not an event: {0} is missing or of another type")]
    Body(&'static str),
    /// A header says another thing than the body.
    #[error("the header {0} is not what the body says")]
    Header(&'static str),
    /// It is another's than expected: of another tenant, webhook or issuer.
    #[error("the event's {name} is {found:?}")]
    Other {
        /// Of what.
        name: &'static str,
        /// Whose.
        found: String,
    },
    /// It was posted too long ago: it may be posted again by somebody else.
    #[error("it was posted at {sent_at_s}, and now is {at_s}")]
    Age {
        /// When it was posted.
        sent_at_s: u64,
        /// The receiver's time.
        at_s: u64,
    },
}

/// Verifies what was posted. That an event comes once is the receiver's to see to: its id is the same each time.
///
/// # Errors
/// [`WebhookError`].
pub fn verify(posted: &Posted<'_>, receiver: &Receiver<'_>) -> Result<VerifiedEvent, WebhookError> {
    if posted.body.len() > MAX_BODY_BYTES {
        return Err(WebhookError::TooLarge);
    }
    let (header, signature) = posted
        .signature
        .split_once("..")
        .filter(|_| posted.signature.len() <= MAX_SIGNATURE_BYTES)
        .ok_or(WebhookError::Form)?;
    if header.contains('.') || signature.contains('.') {
        return Err(WebhookError::Form);
    }
    let payload = Base64UrlUnpadded::encode_string(posted.body);
    let compact = format!("{header}.{payload}.{signature}");
    let compact = Compact::parse_bounded(&compact, compact.len()).map_err(WebhookError::Jws)?;
    if compact.typ() != Some(EVENT_TYP) {
        return Err(WebhookError::Type);
    }
    let kid = compact.kid().unwrap_or_default();
    let key = key(receiver.jwks, kid)?;
    let allowed = [Alg::Es256, Alg::EdDsa];
    compact.verify(&key, &allowed).map_err(WebhookError::Jws)?;

    let event: Value =
        serde_json::from_slice(posted.body).map_err(|_| WebhookError::Body("the object"))?;
    let text = |name: &'static str| {
        let found = event.get(name).and_then(Value::as_str);
        found.ok_or(WebhookError::Body(name))
    };
    let sent_at_s = event.get("sent_at_s").and_then(Value::as_u64);
    let sent_at_s = sent_at_s.ok_or(WebhookError::Body("sent_at_s"))?;
    text("kind")?;
    if text("id")? != posted.id {
        return Err(WebhookError::Header(ID_HEADER));
    }
    if posted.timestamp.parse() != Ok(sent_at_s) {
        return Err(WebhookError::Header(TIMESTAMP_HEADER));
    }
    for (name, expected) in [
        ("tenant", receiver.tenant),
        ("webhook", receiver.webhook),
        ("issuer", receiver.issuer),
    ] {
        let found = text(name)?;
        if expected.is_some_and(|expected| expected != found) {
            let found = found.to_owned();
            return Err(WebhookError::Other { name, found });
        }
    }
    let at_s = receiver.at_s;
    let is_late = at_s.saturating_sub(sent_at_s) > receiver.max_age_s;
    if is_late || sent_at_s.saturating_sub(at_s) > MAX_AHEAD_S {
        return Err(WebhookError::Age { sent_at_s, at_s });
    }
    Ok(VerifiedEvent { event })
}

/// The key of an id.
fn key(jwks: &[u8], kid: &str) -> Result<PublicKey, WebhookError> {
    if jwks.len() > MAX_JWKS_BYTES {
        return Err(WebhookError::Jwks);
    }
    let jwks: Value = serde_json::from_slice(jwks).map_err(|_| WebhookError::Jwks)?;
    let keys = jwks.get("keys").and_then(Value::as_array);
    let mut keys = keys.ok_or(WebhookError::Jwks)?.iter();
    let found = keys.find(|key| key.get("kid").and_then(Value::as_str) == Some(kid));
    let unknown = || WebhookError::UnknownKey {
        kid: kid.to_owned(),
    };
    let found = found.filter(|_| !kid.is_empty()).ok_or_else(unknown)?;
    PublicKey::from_json(&found.to_string()).map_err(|_| unknown())
}

#[cfg(test)]
mod tests {
    use jose::SigningKey;
    use jose::jws::HeaderMember;
    use ring::rand::SystemRandom;
    use serde_json::json;

    use super::*;

    const AT_S: u64 = 1_793_500_000;

    struct Service {
        key: SigningKey,
        jwks: Vec<u8>,
    }

    impl Service {
        fn new() -> Self {
            let rng = SystemRandom::new();
            let pkcs8 = SigningKey::generate(Alg::Es256, &rng).unwrap();
            let key = SigningKey::from_pkcs8(&pkcs8, &rng).unwrap();
            let mut jwk: Value = serde_json::from_str(&key.public_key().to_json()).unwrap();
            jwk["kid"] = json!("emulated-1");
            let jwks = json!({"keys": [jwk]}).to_string().into_bytes();
            Self { key, jwks }
        }

        fn receiver(&self) -> Receiver<'_> {
            Receiver {
                jwks: &self.jwks,
                tenant: Some("acme"),
                webhook: Some("siem"),
                issuer: Some("https://keep.example"),
                at_s: AT_S,
                max_age_s: DEFAULT_MAX_AGE_S,
            }
        }

        fn sign(&self, typ: &str, kid: &str, body: &[u8]) -> String {
            let rng = SystemRandom::new();
            let members = [HeaderMember::Typ(typ), HeaderMember::Kid(kid)];
            let compact = jose::jws::sign(&members, body, &self.key, &rng).unwrap();
            let (header, rest) = compact.split_once('.').unwrap();
            format!("{header}..{}", rest.split_once('.').unwrap().1)
        }
    }

    fn body() -> Value {
        json!({
            "id": "acme.siem.9", "kind": "freeze", "tenant": "acme", "webhook": "siem", "issuer": "https://keep.example",
            "sent_at_s": AT_S, "position": 9,
        })
    }

    #[test]
    fn what_the_service_posted_is_believed_and_each_flaw_is_named() {
        let (service, other) = (Service::new(), Service::new());
        let good = body().to_string().into_bytes();
        let signature = service.sign(EVENT_TYP, "emulated-1", &good);
        let timestamp = AT_S.to_string();
        let posted = Posted {
            id: "acme.siem.9",
            timestamp: &timestamp,
            signature: &signature,
            body: &good,
        };
        let event = verify(&posted, &service.receiver()).unwrap();
        assert_eq!(event.event()["position"], 9);

        let token = service.sign("at+jwt", "emulated-1", &good);
        let foreign = service.sign(EVENT_TYP, "emulated-2", &good);
        let nameless = signature.replacen("..", ".", 1);
        let attached = signature.replacen("..", ".e30.", 1);
        let long = "a".repeat(MAX_SIGNATURE_BYTES);
        let changed = String::from_utf8(good.clone())
            .unwrap()
            .replacen("freeze", "thaws!", 1);
        let large = vec![b' '; MAX_BODY_BYTES + 1];
        let rows: Vec<(Posted<'_>, Receiver<'_>, WebhookError)> = vec![
            (
                Posted {
                    body: &large,
                    ..posted
                },
                service.receiver(),
                WebhookError::TooLarge,
            ),
            (
                Posted {
                    signature: "",
                    ..posted
                },
                service.receiver(),
                WebhookError::Form,
            ),
            (
                Posted {
                    signature: &nameless,
                    ..posted
                },
                service.receiver(),
                WebhookError::Form,
            ),
            (
                Posted {
                    signature: &attached,
                    ..posted
                },
                service.receiver(),
                WebhookError::Form,
            ),
            (
                Posted {
                    signature: &long,
                    ..posted
                },
                service.receiver(),
                WebhookError::Form,
            ),
            (
                Posted {
                    signature: &token,
                    ..posted
                },
                service.receiver(),
                WebhookError::Type,
            ),
            (
                Posted {
                    signature: &foreign,
                    ..posted
                },
                service.receiver(),
                WebhookError::UnknownKey {
                    kid: "emulated-2".into(),
                },
            ),
            (
                posted,
                Receiver {
                    jwks: b"[]",
                    ..service.receiver()
                },
                WebhookError::Jwks,
            ),
            (
                posted,
                Receiver {
                    jwks: &other.jwks,
                    ..service.receiver()
                },
                WebhookError::Jws(JwsError::BadSignature),
            ),
            (
                Posted {
                    body: changed.as_bytes(),
                    ..posted
                },
                service.receiver(),
                WebhookError::Jws(JwsError::BadSignature),
            ),
            (
                Posted {
                    id: "acme.siem.10",
                    ..posted
                },
                service.receiver(),
                WebhookError::Header(ID_HEADER),
            ),
            (
                Posted {
                    timestamp: "1",
                    ..posted
                },
                service.receiver(),
                WebhookError::Header(TIMESTAMP_HEADER),
            ),
            (
                posted,
                Receiver {
                    tenant: Some("other"),
                    ..service.receiver()
                },
                WebhookError::Other {
                    name: "tenant",
                    found: "acme".into(),
                },
            ),
            (
                posted,
                Receiver {
                    webhook: Some("other"),
                    ..service.receiver()
                },
                WebhookError::Other {
                    name: "webhook",
                    found: "siem".into(),
                },
            ),
            (
                posted,
                Receiver {
                    issuer: Some("https://other.example"),
                    ..service.receiver()
                },
                WebhookError::Other {
                    name: "issuer",
                    found: "https://keep.example".into(),
                },
            ),
            (
                posted,
                Receiver {
                    at_s: AT_S + 301,
                    ..service.receiver()
                },
                WebhookError::Age {
                    sent_at_s: AT_S,
                    at_s: AT_S + 301,
                },
            ),
            (
                posted,
                Receiver {
                    at_s: AT_S - 61,
                    ..service.receiver()
                },
                WebhookError::Age {
                    sent_at_s: AT_S,
                    at_s: AT_S - 61,
                },
            ),
        ];
        for (number, (posted, receiver, expected)) in rows.into_iter().enumerate() {
            assert_eq!(verify(&posted, &receiver), Err(expected), "row {number}");
        }
    }

    #[test]
    fn a_body_that_is_no_event_is_refused_though_it_is_signed() {
        let service = Service::new();
        for name in ["id", "kind", "tenant", "webhook", "issuer", "sent_at_s"] {
            let mut other = body();
            other.as_object_mut().unwrap().remove(name);
            let other = other.to_string().into_bytes();
            let signature = service.sign(EVENT_TYP, "emulated-1", &other);
            let timestamp = AT_S.to_string();
            let posted = Posted {
                id: "acme.siem.9",
                timestamp: &timestamp,
                signature: &signature,
                body: &other,
            };
            let found = verify(&posted, &service.receiver());
            assert_eq!(found, Err(WebhookError::Body(name)));
        }
    }
}
