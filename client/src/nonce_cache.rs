//! The newest DPoP nonce of each server and role [RFC 9449 §8.2].

use parking_lot::Mutex;

use crate::origin::Origin;

/// The longest nonce that is kept, bytes.
pub const MAX_NONCE_BYTES: usize = 512;

/// The most servers whose nonces are kept; the one heard of longest ago goes first.
pub const MAX_NONCES: usize = 64;

/// What a server asks for proofs for. A nonce for one role is void for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Tokens are issued.
    Token,
    /// Calls are forwarded.
    Gateway,
}

/// Nonces by origin and role.
#[derive(Debug, Default)]
pub struct NonceCache {
    /// The newest at the end.
    entries: Mutex<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    origin: Origin,
    role: Role,
    nonce: String,
}

impl NonceCache {
    /// The newest nonce of this server and role.
    #[must_use]
    pub fn newest(&self, origin: &Origin, role: Role) -> Option<String> {
        let entries = self.entries.lock();
        let found = entries
            .iter()
            .find(|entry| entry.role == role && entry.origin == *origin);
        found.map(|entry| entry.nonce.clone())
    }

    /// Keeps what a server sent as its nonce, and says whether it is one: 1 to [`MAX_NONCE_BYTES`] characters
    /// that a nonce may have [RFC 9449 §8.1].
    pub fn learn(&self, origin: &Origin, role: Role, nonce: &str) -> bool {
        let is_nonce = (1..=MAX_NONCE_BYTES).contains(&nonce.len())
            && nonce
                .bytes()
                .all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
        if !is_nonce {
            return false;
        }
        let mut entries = self.entries.lock();
        entries.retain(|entry| entry.role != role || entry.origin != *origin);
        if entries.len() >= MAX_NONCES {
            entries.remove(0);
        }
        entries.push(Entry {
            origin: origin.clone(),
            role,
            nonce: nonce.to_owned(),
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(host: &str) -> Origin {
        Origin::parse(&format!("https://{host}")).unwrap()
    }

    #[test]
    fn the_newest_is_kept_for_each_origin_and_role() {
        let cache = NonceCache::default();
        let (a, b) = (origin("a.example"), origin("b.example"));
        assert_eq!(cache.newest(&a, Role::Token), None);
        assert!(cache.learn(&a, Role::Token, "1"));
        assert!(cache.learn(&a, Role::Gateway, "2"));
        assert!(cache.learn(&b, Role::Token, "3"));
        assert!(cache.learn(&a, Role::Token, "4"));
        assert_eq!(cache.newest(&a, Role::Token).as_deref(), Some("4"));
        assert_eq!(cache.newest(&a, Role::Gateway).as_deref(), Some("2"));
        assert_eq!(cache.newest(&b, Role::Token).as_deref(), Some("3"));
        assert_eq!(cache.newest(&b, Role::Gateway), None);
    }

    #[test]
    fn what_is_no_nonce_is_not_kept() {
        let cache = NonceCache::default();
        let a = origin("a.example");
        let long = "n".repeat(MAX_NONCE_BYTES + 1);
        for bad in ["", "a b", "a\"", "a\\", "a\n", "\u{e9}", long.as_str()] {
            assert!(!cache.learn(&a, Role::Token, bad), "{bad:.20}");
        }
        assert_eq!(cache.newest(&a, Role::Token), None);
        assert!(cache.learn(&a, Role::Token, &"n".repeat(MAX_NONCE_BYTES)));
    }

    #[test]
    fn it_does_not_grow_without_bound() {
        let cache = NonceCache::default();
        for i in 0..=MAX_NONCES {
            assert!(cache.learn(&origin(&format!("h{i}.example")), Role::Token, "n"));
        }
        assert_eq!(cache.newest(&origin("h0.example"), Role::Token), None);
        assert!(cache.newest(&origin("h1.example"), Role::Token).is_some());
        assert_eq!(cache.entries.lock().len(), MAX_NONCES);
    }
}
