//! A tenant's webhook: where its events are posted to, how far they were delivered, and what is posted.

use std::collections::BTreeSet;

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Enclave;
use crate::admin::{EventKind, TenantEvent};
use crate::http_url::HttpUrl;
use crate::ids::{TenantId, WebhookId};
use crate::mint::token_id;
use crate::seal::SealError;
use crate::time::Now;

/// The `typ` of the signature: no access token, proof or assertion has it, so that none passes for another.
pub const EVENT_TYP: &str = "tokenkeep-event+jws";

/// The word of the event that a test posts.
const TEST: &str = "test";

/// A webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Its id, among the tenant's.
    pub id: WebhookId,
    /// Random: tells it from one that was deleted and had the same id.
    pub made: String,
    /// Whose events.
    pub tenant: TenantId,
    /// Where they are posted to.
    pub url: HttpUrl,
    /// Which; all if there is none.
    pub kinds: BTreeSet<EventKind>,
    /// When it was made, Unix time in seconds.
    pub created_at_s: u64,
    /// By whom.
    pub by: String,
    /// The position in the control log of the first leaf that is not delivered.
    pub next: u64,
    /// Since when nothing is taken, Unix time in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since_s: Option<u64>,
    /// When it was given up, Unix time in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_at_s: Option<u64>,
}

/// What is posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Where to.
    pub url: HttpUrl,
    /// The event's id: the same each time that it is posted.
    pub id: String,
    /// When, Unix time in seconds.
    pub timestamp_s: u64,
    /// Compact JWS with detached content over the body [RFC 7515 appendix F].
    pub signature: String,
    /// JSON.
    pub body: Vec<u8>,
}

/// An event where it stands in the log.
#[derive(Clone, Copy, Debug)]
pub struct AtPosition<'a> {
    /// The leaf's index.
    pub position: u64,
    /// The leaf's hash.
    pub leaf_hash: &'a [u8; 32],
    /// What happened.
    pub event: &'a TenantEvent,
}

impl Webhook {
    /// The webhook without what of its URL may let whoever knows it post there.
    #[must_use]
    pub fn without_path(mut self) -> Self {
        self.url = self.url.without_path();
        self
    }
}

impl Enclave {
    /// An event as it is posted, signed by the key that signs access tokens, whose public half is in the JWKS.
    ///
    /// # Errors
    /// [`SealError`] if there are no random bytes.
    pub fn sign_event(
        &self,
        webhook: &Webhook,
        at: &AtPosition<'_>,
        now: &Now,
    ) -> Result<Delivery, SealError> {
        let AtPosition {
            position,
            leaf_hash,
            event,
        } = *at;
        let detail: Value = serde_json::from_str(&event.detail).map_err(|_| SealError::Failed)?;
        let id = format!("{}.{}.{position}", webhook.tenant, webhook.id);
        let more = json!({
            "kind": event.kind.word(),
            "position": position,
            "number": event.number,
            "at_s": event.at_s,
            "leaf_hash": Base64::encode_string(leaf_hash),
            "detail": detail,
        });
        self.sign_delivery(webhook, id, more, now)
    }

    /// What a test posts: signed as an event is, and about nothing.
    ///
    /// # Errors
    /// [`SealError`] if there are no random bytes.
    pub fn sign_test_event(&self, webhook: &Webhook, now: &Now) -> Result<Delivery, SealError> {
        let (tenant, name) = (&webhook.tenant, &webhook.id);
        let id = format!("{tenant}.{name}.{TEST}.{}", token_id(&*self.rng)?);
        self.sign_delivery(webhook, id, json!({"kind": TEST, "at_s": now.lo_s}), now)
    }

    fn sign_delivery(
        &self,
        webhook: &Webhook,
        id: String,
        mut body: Value,
        now: &Now,
    ) -> Result<Delivery, SealError> {
        let timestamp_s = now.lo_s;
        let members = body.as_object_mut().ok_or(SealError::Failed)?;
        for (name, value) in [
            ("id", json!(id)),
            ("issuer", json!(self.config.issuer)),
            ("tenant", json!(webhook.tenant.as_str())),
            ("webhook", json!(webhook.id.as_str())),
            ("sent_at_s", json!(timestamp_s)),
        ] {
            members.insert(name.to_owned(), value);
        }
        let body = serde_json::to_vec(&body).map_err(|_| SealError::Failed)?;
        let compact = self.keys().token().sign(EVENT_TYP, &body, &*self.rng)?;
        Ok(Delivery {
            url: webhook.url.clone(),
            id,
            timestamp_s,
            signature: detached(&compact).ok_or(SealError::Failed)?,
            body,
        })
    }
}

/// A compact JWS without its payload, which is the body.
fn detached(compact: &str) -> Option<String> {
    let mut segments = compact.split('.');
    let (header, _payload) = (segments.next()?, segments.next()?);
    let signature = segments.next()?;
    Some(format!("{header}..{signature}"))
}

#[cfg(test)]
mod tests {
    use jose::jws::Compact;

    use super::*;
    use crate::registry::Rotation;
    use crate::testing::{World, id};

    fn webhook() -> Webhook {
        Webhook {
            id: id("siem"),
            made: "w1".to_owned(),
            tenant: id("acme"),
            url: HttpUrl::parse("https://siem.example/hook").unwrap(),
            kinds: BTreeSet::from([EventKind::Freeze]),
            created_at_s: 1,
            by: "owner".to_owned(),
            next: 7,
            failing_since_s: None,
            disabled_at_s: None,
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let written = serde_json::to_string(&webhook()).unwrap();
        assert_eq!(
            serde_json::from_str::<Webhook>(&written).unwrap(),
            webhook()
        );
        let other = written.replacen("\"freeze\"", "\"freezes\"", 1);
        assert!(serde_json::from_str::<Webhook>(&other).is_err());
    }

    #[test]
    fn what_is_posted_is_signed_over_every_byte_and_is_no_token() {
        let world = World::new(Rotation::Strict);
        let event = TenantEvent {
            kind: EventKind::Freeze,
            at_s: 5,
            number: 3,
            detail: "{\"event\":\"frozen\"}".to_owned(),
        };
        let at = AtPosition {
            position: 9,
            leaf_hash: &[4; 32],
            event: &event,
        };
        let delivery = world
            .enclave
            .sign_event(&webhook(), &at, &world.now)
            .unwrap();
        assert_eq!(delivery.id, "acme.siem.9");
        let body: Value = serde_json::from_slice(&delivery.body).unwrap();
        assert_eq!(body["sent_at_s"], delivery.timestamp_s);
        assert_eq!(
            (&body["kind"], &body["number"]),
            (&json!("freeze"), &json!(3))
        );
        assert_eq!(body["detail"]["event"], "frozen");
        assert_eq!(body["tenant"], "acme");

        let (header, signature) = delivery.signature.split_once("..").unwrap();
        let attached = |body: &[u8]| {
            let payload = base64ct::Base64UrlUnpadded::encode_string(body);
            format!("{header}.{payload}.{signature}")
        };
        let keys = world.enclave.keys();
        let key = keys.token().public_key();
        let allowed = [key.alg()];
        let good = attached(&delivery.body);
        let good = Compact::parse(&good).unwrap();
        assert_eq!(good.typ(), Some(EVENT_TYP));
        assert_eq!(good.kid(), Some(keys.token().kid()));
        good.verify(key, &allowed).unwrap();
        let mut other = delivery.body.clone();
        other.push(b' ');
        let other = attached(&other);
        Compact::parse(&other)
            .unwrap()
            .verify(key, &allowed)
            .unwrap_err();
        // The service does not take it for a token of its own.
        assert!(
            world
                .enclave
                .read_token(&attached(&delivery.body), &world.now)
                .is_err()
        );

        // Posted again, it is the same event; a test is another each time.
        let again = world
            .enclave
            .sign_event(&webhook(), &at, &world.now)
            .unwrap();
        assert_eq!(again.id, delivery.id);
        let test = || {
            world
                .enclave
                .sign_test_event(&webhook(), &world.now)
                .unwrap()
                .id
        };
        assert_ne!(test(), test());
    }
}
