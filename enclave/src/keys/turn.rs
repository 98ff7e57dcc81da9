//! From one keyring to the next: a key is replaced, or what an overlap kept of another has come to its end.
//!
//! | kind | during the overlap | after it |
//! | --- | --- | --- |
//! | signing | the new key signs; the old one's public half is in the JWKS | tokens of the old key are refused |
//! | ca | the old CA goes on; the new one is announced in the bundle | the new one takes over, the old one's key is gone |
//! | deposit | the old key still opens what was sealed under a bundle of this boot | it is gone |
//! | log | both sign each checkpoint | the new one alone |

use std::sync::Arc;

use jose::Alg;
use ring::digest::{SHA256, digest};
use ring::rand::SecureRandom;
use serde::Serialize;
use zeroize::Zeroizing;

use super::authority::HostName;
use super::keyring::{
    EarlierTokenKey, Keyring, KeyringError, LogKey, StoredKey, TokenKey, generate, open_authority,
    open_deposit_key,
};
use super::ring::{Earlier, KeyKind, Next};
use crate::time::Now;
use crate::view::Held;

/// What new keys are made for.
pub(crate) struct Making<'a> {
    pub(crate) hosts: &'a [HostName],
    pub(crate) token_alg: Alg,
    pub(crate) emulated: bool,
    pub(crate) now: &'a Now,
    pub(crate) rng: &'a dyn SecureRandom,
}

/// The next keyring, and what of it is to be stored first.
pub(crate) struct Turned {
    pub(crate) keys: Keyring,
    pub(crate) put: Vec<StoredKey>,
    pub(crate) delete: Vec<String>,
    pub(crate) changes: Vec<KeyChange>,
}

/// What everybody may read in the control log of a change of keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct KeyChange {
    /// The kind.
    pub(crate) key: &'static str,
    /// The number of the key.
    pub(crate) number: u32,
    /// What names the key: its kid, the SHA-256 of the CA's certificate, the public key in hex.
    pub(crate) id: String,
    /// When the overlap ends, Unix time in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) overlap_until_s: Option<u64>,
}

/// A key in use, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// `signing`, `ca`, `deposit`, `log` or `tenant`.
    pub kind: &'static str,
    /// From 1.
    pub number: u32,
    /// `current`, `next` or `earlier`.
    pub state: &'static str,
    /// What names the key: its kid, the SHA-256 of the CA's certificate, the public key in hex.
    pub id: String,
    /// Unix time in seconds; 0 if it is not known.
    pub made_at_s: u64,
    /// When a key that is announced takes over, or an earlier one ends; 0 for the current one.
    pub until_s: u64,
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

impl Keyring {
    /// What names the current key of a kind.
    fn id(&self, kind: KeyKind) -> String {
        match kind {
            KeyKind::Signing => self.token.kid().to_owned(),
            KeyKind::Ca => sha256(self.authority.certificate()),
            KeyKind::Deposit => hex(self.hpke.public()),
            KeyKind::Log => hex(self.log.public().as_bytes()),
        }
    }

    /// What names the earlier key of a kind at this place.
    fn earlier_id(&self, kind: KeyKind, at: usize) -> String {
        match kind {
            KeyKind::Signing => self.earlier_tokens.get(at).map(|key| key.kid().to_owned()),
            KeyKind::Log => self
                .earlier_logs
                .get(at)
                .map(|key| hex(key.public().as_bytes())),
            KeyKind::Ca | KeyKind::Deposit => None,
        }
        .unwrap_or_default()
    }

    /// All keys.
    pub(crate) fn states(&self) -> Vec<KeyState> {
        let mut states = Vec::new();
        for kind in KeyKind::ALL {
            let slot = self.ring.value.slot(kind);
            let state = |number, state, id, made_at_s, until_s| KeyState {
                kind: kind.as_str(),
                number,
                state,
                id,
                made_at_s,
                until_s,
            };
            if let (Some(next), Some(ca)) = (&slot.next, &self.next_authority) {
                let id = sha256(ca.certificate());
                states.push(state(next.number, "next", id, next.made_at_s, next.from_s));
            }
            let id = self.id(kind);
            states.push(state(slot.number, "current", id, slot.made_at_s, 0));
            for (at, earlier) in slot.earlier.iter().enumerate() {
                let id = self.earlier_id(kind, at);
                let (number, made_at_s) = (earlier.number, earlier.made_at_s);
                states.push(state(number, "earlier", id, made_at_s, earlier.until_s));
            }
        }
        states
    }

    /// When the current key of a kind was made, Unix time in seconds; 0 if it is not known.
    pub(crate) fn made_at_s(&self, kind: KeyKind) -> u64 {
        self.ring.value.slot(kind).made_at_s
    }

    /// Whether one more key of a kind can be kept.
    pub(crate) fn has_room(&self, kind: KeyKind) -> bool {
        let slot = self.ring.value.slot(kind);
        match kind {
            KeyKind::Signing | KeyKind::Log => slot.earlier.len() < kind.max_earlier(),
            KeyKind::Ca => slot.next.is_none(),
            KeyKind::Deposit => true,
        }
    }

    /// The keyring with a new key of a kind. Without overlap the old one is gone at once; a CA that was announced
    /// takes over then, if there is one.
    pub(crate) fn rotated(
        &self,
        kind: KeyKind,
        overlap_s: u64,
        making: &Making<'_>,
    ) -> Result<Turned, KeyringError> {
        let Making {
            hosts,
            token_alg,
            emulated,
            now,
            rng,
        } = *making;
        if kind == KeyKind::Ca && overlap_s == 0 && self.next_authority.is_some() {
            return Ok(self.taken_over(now.lo_s));
        }
        let until_s = now.lo_s.saturating_add(overlap_s);
        let mut turned = self.turn();
        let keys = &mut turned.keys;
        let mut ring = (*keys.ring.value).clone();
        let slot = ring.slot_mut(kind);
        let number = slot.next_number();
        let stored = generate(kind, hosts, token_alg, now, rng)?;
        let old = slot.number;
        let earlier = Earlier {
            number: old,
            made_at_s: slot.made_at_s,
            until_s,
            jwk: (kind == KeyKind::Signing).then(|| {
                let key = self.token.public_key();
                key.to_json_with_kid(self.token.kid())
            }),
        };
        let mut announced = None;
        match kind {
            KeyKind::Signing => {
                let key = TokenKey::open(&stored, emulated, rng)?;
                if overlap_s > 0 {
                    let published = EarlierTokenKey::open(&earlier)?;
                    keys.earlier_tokens.insert(0, published);
                    slot.earlier.insert(0, earlier);
                }
                keys.token = Arc::new(key);
                turned.delete.push(kind.record(old));
            }
            KeyKind::Ca => {
                let ca = Arc::new(open_authority(&stored)?);
                if overlap_s > 0 {
                    announced = Some(sha256(ca.certificate()));
                    keys.next_authority = Some(ca);
                    slot.next = Some(Next {
                        number,
                        made_at_s: now.lo_s,
                        from_s: until_s,
                    });
                } else {
                    keys.authority = ca;
                    turned.delete.push(kind.record(old));
                }
            }
            KeyKind::Deposit => {
                keys.hpke = Arc::new(open_deposit_key(&stored)?);
                turned.delete.push(kind.record(old));
            }
            KeyKind::Log => {
                let before = std::mem::replace(&mut keys.log, open_log(&stored, rng)?);
                if overlap_s > 0 {
                    keys.earlier_logs.insert(0, before);
                    slot.earlier.insert(0, earlier);
                } else {
                    turned.delete.push(kind.record(old));
                }
            }
        }
        if announced.is_none() {
            slot.number = number;
            slot.made_at_s = now.lo_s;
        }
        keys.ring = Held::new(self.ring.generation.saturating_add(1), ring);
        let id = announced.unwrap_or_else(|| keys.id(kind));
        turned.changes.push(KeyChange {
            key: kind.as_str(),
            number,
            id,
            overlap_until_s: (overlap_s > 0).then_some(until_s),
        });
        turned.put.push((kind.record(number), stored));
        Ok(turned)
    }

    /// The keyring without what has come to its end; none if nothing has.
    pub(crate) fn retired(&self, now: &Now) -> Option<Turned> {
        let next = self.ring.value.slot(KeyKind::Ca).next.as_ref();
        if next.is_some_and(|next| next.from_s <= now.lo_s) {
            // What else is due is found when this is done.
            return Some(self.taken_over(now.lo_s));
        }
        let mut turned = self.turn();
        let mut ring = (*self.ring.value).clone();
        for kind in [KeyKind::Signing, KeyKind::Log] {
            let slot = ring.slot_mut(kind);
            let mut at = 0;
            while let Some(earlier) = slot.earlier.get(at) {
                if earlier.until_s > now.lo_s {
                    at = at.saturating_add(1);
                    continue;
                }
                turned.changes.push(KeyChange {
                    key: kind.as_str(),
                    number: earlier.number,
                    id: turned.keys.earlier_id(kind, at),
                    overlap_until_s: None,
                });
                if kind == KeyKind::Log {
                    turned.delete.push(kind.record(earlier.number));
                    turned.keys.earlier_logs.remove(at);
                } else {
                    turned.keys.earlier_tokens.remove(at);
                }
                slot.earlier.remove(at);
            }
        }
        if turned.changes.is_empty() {
            return None;
        }
        turned.keys.ring = Held::new(self.ring.generation.saturating_add(1), ring);
        Some(turned)
    }

    /// The CA that was announced issues from now on.
    fn taken_over(&self, at_s: u64) -> Turned {
        let mut turned = self.turn();
        let mut ring = (*self.ring.value).clone();
        let slot = ring.slot_mut(KeyKind::Ca);
        if let (Some(next), Some(ca)) = (slot.next.take(), turned.keys.next_authority.take()) {
            turned.changes.push(KeyChange {
                key: KeyKind::Ca.as_str(),
                number: slot.number,
                id: self.id(KeyKind::Ca),
                overlap_until_s: Some(at_s),
            });
            turned.delete.push(KeyKind::Ca.record(slot.number));
            slot.number = next.number;
            slot.made_at_s = next.made_at_s;
            turned.keys.authority = ca;
        }
        turned.keys.ring = Held::new(self.ring.generation.saturating_add(1), ring);
        turned
    }

    fn turn(&self) -> Turned {
        Turned {
            keys: self.clone(),
            put: Vec::new(),
            delete: Vec::new(),
            changes: Vec::new(),
        }
    }

    pub(crate) fn ring(&self) -> &Held<super::ring::Ring> {
        &self.ring
    }
}

fn open_log(stored: &Zeroizing<Vec<u8>>, rng: &dyn SecureRandom) -> Result<LogKey, KeyringError> {
    LogKey::open(stored.clone(), rng)
}
