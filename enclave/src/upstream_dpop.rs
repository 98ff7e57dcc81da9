//! DPoP towards providers and their APIs [RFC 9449]: a grant's own key, and the nonces that servers gave.

use std::collections::HashMap;

use jose::dpop::{ProofParams, random_jti};
use jose::{Alg, SigningKey};
use parking_lot::Mutex;
use ring::rand::SecureRandom;

use crate::http_url::HttpUrl;
use crate::seal::SealError;
use crate::secret::DpopPrivateKey;
use crate::time::Now;

/// The longest nonce that is kept, in bytes.
const MAX_NONCE_BYTES: usize = 1_024;

/// As many servers' nonces are kept.
const MAX_SERVERS: usize = 4_096;

/// The key that a grant's upstream tokens are bound to.
pub(crate) struct BoundKey(SigningKey);

impl std::fmt::Debug for BoundKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BoundKey").field(&self.0).finish()
    }
}

/// What a proof is for.
pub(crate) struct ProofFor<'a> {
    pub(crate) method: &'a str,
    pub(crate) url: &'a str,
    pub(crate) nonce: Option<&'a str>,
    pub(crate) access_token: Option<&'a str>,
}

impl BoundKey {
    /// A new key, as it is kept.
    pub(crate) fn generate(rng: &dyn SecureRandom) -> Result<DpopPrivateKey, SealError> {
        let pkcs8 = SigningKey::generate(Alg::Es256, rng).map_err(|_| SealError::Failed)?;
        Ok(DpopPrivateKey::new(pkcs8.to_vec()))
    }

    /// The key, opened for use.
    pub(crate) fn open(kept: &DpopPrivateKey, rng: &dyn SecureRandom) -> Result<Self, SealError> {
        let key = SigningKey::from_pkcs8(kept.expose(), rng);
        key.map(Self).map_err(|_| SealError::Failed)
    }

    /// Its thumbprint [RFC 7638].
    pub(crate) fn thumbprint(&self) -> String {
        self.0.public_key().thumbprint().to_string()
    }

    /// A proof for one request, never made twice.
    pub(crate) fn proof(
        &self,
        request: &ProofFor<'_>,
        now: &Now,
        rng: &dyn SecureRandom,
    ) -> Result<String, SealError> {
        let failed = |_| SealError::Failed;
        let params = ProofParams {
            htm: request.method,
            htu: request.url,
            iat_s: now.lo_s,
            jti: &random_jti(rng).map_err(failed)?,
            nonce: request.nonce,
            access_token: request.access_token,
        };
        params.sign(&self.0, rng).map_err(failed)
    }
}

/// Which kind of server a nonce is of: an origin may be both, and the two are apart [RFC 9449 §8, §9].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ServerKind {
    /// A token endpoint.
    Authorization,
    /// An API.
    Resource,
}

/// The newest nonce of each server.
#[derive(Debug, Default)]
pub(crate) struct ServerNonces(Mutex<HashMap<(ServerKind, String), String>>);

impl ServerNonces {
    pub(crate) fn newest(&self, kind: ServerKind, server: &HttpUrl) -> Option<String> {
        self.0.lock().get(&(kind, server.origin())).cloned()
    }

    /// How many servers' nonces are kept.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Keeps a nonce; one that is none is ignored.
    pub(crate) fn keep(&self, kind: ServerKind, server: &HttpUrl, nonce: &str) {
        // 1*NQCHAR [RFC 9449 §8.1]
        let fits = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if !(1..=MAX_NONCE_BYTES).contains(&nonce.len()) || !nonce.bytes().all(fits) {
            return;
        }
        let mut nonces = self.0.lock();
        let key = (kind, server.origin());
        if nonces.len() >= MAX_SERVERS && !nonces.contains_key(&key) {
            // Whoever it was of gives another when it is asked.
            let any = nonces.keys().next().cloned();
            any.and_then(|any| nonces.remove(&any));
        }
        nonces.insert(key, nonce.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> HttpUrl {
        HttpUrl::parse(text).unwrap()
    }

    #[test]
    fn each_server_has_its_newest_nonce() {
        use ServerKind::{Authorization, Resource};
        let nonces = ServerNonces::default();
        let token = url("https://op.example/token");
        nonces.keep(Authorization, &token, "one");
        nonces.keep(Authorization, &token, "two");
        nonces.keep(Resource, &url("https://op.example/api"), "three");
        let newest = |kind, text| nonces.newest(kind, &url(text));
        let of = |text: &str| Some(text.to_owned());
        assert_eq!(newest(Authorization, "https://op.example/other"), of("two"));
        assert_eq!(newest(Resource, "https://op.example/"), of("three"));
        assert_eq!(newest(Resource, "https://op.example:8443/"), None);
        for none in ["", "a b", "a\"b", "a\\b", "\u{e9}", &"x".repeat(1_025)] {
            nonces.keep(Authorization, &token, none);
            assert_eq!(
                newest(Authorization, "https://op.example/"),
                of("two"),
                "{none}"
            );
        }
    }

    #[test]
    fn no_more_servers_are_kept_than_that() {
        let nonces = ServerNonces::default();
        for number in 0..=MAX_SERVERS {
            let server = url(&format!("https://op-{number}.example/"));
            nonces.keep(ServerKind::Resource, &server, "n");
        }
        assert_eq!(nonces.0.lock().len(), MAX_SERVERS);
        let last = url(&format!("https://op-{MAX_SERVERS}.example/"));
        let found = nonces.newest(ServerKind::Resource, &last);
        assert_eq!(found.as_deref(), Some("n"));
    }
}
