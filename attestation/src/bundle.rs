//! The key bundle: every public key the enclave speaks with, in one canonical encoding that the report binds.

use crate::canonical::{CanonicalError, Reader, Writer, sha256};
use crate::p256::{NotP256, P256PublicKey};
use crate::token_public_key::TokenPublicKey;

/// The name and version of the encoding.
const DOMAIN: &str = "tokenkeep/key-bundle/v2";

/// The most an encoded bundle may have.
pub const MAX_BUNDLE_BYTES: usize = 32 * 1024;
/// The most the enclave CA's certificate may have.
const MAX_CA_BYTES: usize = 4 * 1024;
/// The most token keys a bundle may name.
const MAX_TOKEN_KEYS: usize = 16;
/// The most a key id may have.
const MAX_KID_BYTES: usize = 128;
/// The most an origin or issuer may have.
const MAX_ORIGIN_BYTES: usize = 512;
/// The most the log's public key may have.
const MAX_LOG_KEY_BYTES: usize = 512;
/// The most CAs beside the first, and the most earlier log keys, a bundle may name.
pub const MAX_OTHERS: usize = 4;

/// Every public key the enclave speaks with, and what it is configured to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyBundle {
    /// DER of the certificate of the CA born in the enclave, which issues the server certificates.
    pub enclave_ca_der: Vec<u8>,
    /// DER of the certificates of CAs that are to take its place: whoever pins one pins all.
    pub next_ca_ders: Vec<Vec<u8>>,
    /// The key that signs TLS exporters: see [`crate::exporter_message`].
    pub instance_key: P256PublicKey,
    /// The keys that sign access tokens, the current one first.
    pub token_keys: Vec<TokenKey>,
    /// The X25519 public key to which deposits are sealed.
    pub hpke_public: [u8; 32],
    /// DER of the SubjectPublicKeyInfo of the key that signs log checkpoints.
    pub log_key_spki: Vec<u8>,
    /// As `log_key_spki`: the keys before it, which sign checkpoints too until their overlap ends.
    pub earlier_log_keys: Vec<Vec<u8>>,
    /// SHA-256 of the manifest file.
    pub manifest_digest: [u8; 32],
    /// SHA-256 of the manifest signer's SubjectPublicKeyInfo: what HOST_DATA must be.
    pub manifest_signer: [u8; 32],
    /// Random at each start of the enclave.
    pub boot_identity: [u8; 32],
    /// The issuer of the tokens.
    pub issuer: String,
    /// Where gRPC is served.
    pub grpc_origin: String,
    /// Where issuer metadata, keys and log are served.
    pub public_origin: String,
    /// Where the gateway is served.
    pub gateway_origin: String,
}

/// A key that signs access tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKey {
    /// Its id in JWKS and token headers.
    pub kid: String,
    /// The key.
    pub key: TokenPublicKey,
}

/// Why bytes are no key bundle, or a value cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Larger than [`MAX_BUNDLE_BYTES`].
    #[error("the bundle has {found_bytes} bytes, at most {MAX_BUNDLE_BYTES} are read")]
    TooLarge {
        /// Its size.
        found_bytes: usize,
    },
    /// The encoding is not canonical.
    #[error("the field {field} cannot be read")]
    Encoding {
        /// Which field.
        field: &'static str,
        /// Why.
        #[source]
        error: CanonicalError,
    },
    /// A field is empty or longer than it may be.
    #[error("the field {field} has {found_bytes} bytes, not 1 to {max_bytes}")]
    Length {
        /// Which field.
        field: &'static str,
        /// Its size.
        found_bytes: usize,
        /// The most it may have.
        max_bytes: usize,
    },
    /// A key is no P-256 key.
    #[error("the field {field} is no key")]
    Key {
        /// Which field.
        field: &'static str,
        /// Why.
        #[source]
        error: NotP256,
    },
    /// A text is not printable ASCII.
    #[error("the field {field} is not printable ASCII")]
    Text {
        /// Which field.
        field: &'static str,
    },
    /// A token key is of neither kind.
    #[error("a token key is neither of P-256 nor of Ed25519")]
    TokenKey,
    /// No token key, or too many.
    #[error("{found} token keys, not 1 to {MAX_TOKEN_KEYS}")]
    TokenKeys {
        /// How many.
        found: u64,
    },
    /// More CAs or earlier log keys than [`MAX_OTHERS`].
    #[error("the field {field} has {found} entries, at most {MAX_OTHERS} are allowed")]
    Others {
        /// Which field.
        field: &'static str,
        /// How many.
        found: u64,
    },
    /// Two token keys have one id.
    #[error("the key id {kid:?} occurs twice")]
    DuplicateKid {
        /// The id.
        kid: String,
    },
}

impl TokenKey {
    /// The key as a JSON Web Key, with its members in alphabetical order [RFC 7517 §4].
    #[must_use]
    pub fn jwk(&self) -> serde_json::Value {
        self.key.jwk(&self.kid)
    }
}

impl KeyBundle {
    /// The one encoding of this bundle: length-prefixed parts in the order of the fields.
    ///
    /// # Errors
    /// [`BundleError`] if a field is outside its bounds, so that whatever is encoded can be decoded.
    pub fn encode(&self) -> Result<Vec<u8>, BundleError> {
        let Self {
            enclave_ca_der,
            next_ca_ders,
            instance_key,
            token_keys,
            hpke_public,
            log_key_spki,
            earlier_log_keys,
            manifest_digest,
            manifest_signer,
            boot_identity,
            issuer,
            grpc_origin,
            public_origin,
            gateway_origin,
        } = self;
        self.check()?;
        let mut writer = Writer::new(DOMAIN);
        writer.part(enclave_ca_der).part(instance_key.point());
        writer.number(u64::try_from(token_keys.len()).unwrap_or(u64::MAX));
        for TokenKey { kid, key } in token_keys {
            writer.part(kid.as_bytes()).part(key.as_bytes());
        }
        writer
            .part(hpke_public)
            .part(log_key_spki)
            .part(manifest_digest)
            .part(manifest_signer)
            .part(boot_identity)
            .part(issuer.as_bytes())
            .part(grpc_origin.as_bytes())
            .part(public_origin.as_bytes())
            .part(gateway_origin.as_bytes());
        for others in [next_ca_ders, earlier_log_keys] {
            writer.number(u64::try_from(others.len()).unwrap_or(u64::MAX));
            for other in others {
                writer.part(other);
            }
        }
        Ok(writer.finish())
    }

    /// Reads an encoded bundle. Every bundle has one encoding, so that its digest is unambiguous.
    ///
    /// # Errors
    /// [`BundleError`], by field.
    pub fn decode(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() > MAX_BUNDLE_BYTES {
            return Err(BundleError::TooLarge {
                found_bytes: bytes.len(),
            });
        }
        let mut reader = Fields {
            reader: Reader::new(bytes, DOMAIN).map_err(in_field("domain"))?,
        };
        let mut bundle = Self {
            enclave_ca_der: reader.bytes("enclave_ca", MAX_CA_BYTES)?,
            next_ca_ders: Vec::new(),
            instance_key: reader.key("instance_key")?,
            token_keys: reader.token_keys()?,
            hpke_public: reader.array("hpke_public")?,
            log_key_spki: reader.bytes("log_key", MAX_LOG_KEY_BYTES)?,
            earlier_log_keys: Vec::new(),
            manifest_digest: reader.array("manifest_digest")?,
            manifest_signer: reader.array("manifest_signer")?,
            boot_identity: reader.array("boot_identity")?,
            issuer: reader.text("issuer", MAX_ORIGIN_BYTES)?,
            grpc_origin: reader.text("grpc_origin", MAX_ORIGIN_BYTES)?,
            public_origin: reader.text("public_origin", MAX_ORIGIN_BYTES)?,
            gateway_origin: reader.text("gateway_origin", MAX_ORIGIN_BYTES)?,
        };
        bundle.next_ca_ders = reader.others("next_ca", MAX_CA_BYTES)?;
        bundle.earlier_log_keys = reader.others("earlier_log_key", MAX_LOG_KEY_BYTES)?;
        reader.reader.finish().map_err(in_field("end"))?;
        bundle.check()?;
        Ok(bundle)
    }

    /// SHA-256 of the encoding: what report data binds.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn digest(&self) -> Result<[u8; 32], BundleError> {
        self.encode().map(|bytes| sha256(&bytes))
    }

    /// DER of the certificates of all CAs that server certificates may be issued by, the current one first.
    pub fn authorities(&self) -> impl Iterator<Item = &[u8]> {
        let next = self.next_ca_ders.iter().map(Vec::as_slice);
        std::iter::once(self.enclave_ca_der.as_slice()).chain(next)
    }

    /// DER of the SubjectPublicKeyInfo of all keys that sign log checkpoints, the current one first.
    pub fn log_keys(&self) -> impl Iterator<Item = &[u8]> {
        let earlier = self.earlier_log_keys.iter().map(Vec::as_slice);
        std::iter::once(self.log_key_spki.as_slice()).chain(earlier)
    }

    /// The rules that hold for a value as well as for its encoding.
    fn check(&self) -> Result<(), BundleError> {
        for ca in self.authorities() {
            length("enclave_ca", ca.len(), MAX_CA_BYTES)?;
        }
        for key in self.log_keys() {
            length("log_key", key.len(), MAX_LOG_KEY_BYTES)?;
        }
        few("next_ca", self.next_ca_ders.len())?;
        few("earlier_log_key", self.earlier_log_keys.len())?;
        let found = u64::try_from(self.token_keys.len()).unwrap_or(u64::MAX);
        if self.token_keys.is_empty() || self.token_keys.len() > MAX_TOKEN_KEYS {
            return Err(BundleError::TokenKeys { found });
        }
        let mut kids: Vec<&str> = Vec::new();
        for TokenKey { kid, key: _ } in &self.token_keys {
            text("kid", kid, MAX_KID_BYTES)?;
            if kids.contains(&kid.as_str()) {
                return Err(BundleError::DuplicateKid { kid: kid.clone() });
            }
            kids.push(kid);
        }
        text("issuer", &self.issuer, MAX_ORIGIN_BYTES)?;
        text("grpc_origin", &self.grpc_origin, MAX_ORIGIN_BYTES)?;
        text("public_origin", &self.public_origin, MAX_ORIGIN_BYTES)?;
        text("gateway_origin", &self.gateway_origin, MAX_ORIGIN_BYTES)
    }
}

/// Reads parts and names the field in each error.
struct Fields<'a> {
    reader: Reader<'a>,
}

impl Fields<'_> {
    fn bytes(&mut self, field: &'static str, max_bytes: usize) -> Result<Vec<u8>, BundleError> {
        self.reader
            .part(max_bytes)
            .map(<[u8]>::to_vec)
            .map_err(in_field(field))
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], BundleError> {
        self.reader.array().map_err(in_field(field))
    }

    fn key(&mut self, field: &'static str) -> Result<P256PublicKey, BundleError> {
        let point: [u8; 65] = self.array(field)?;
        P256PublicKey::from_point(&point).map_err(|error| BundleError::Key { field, error })
    }

    fn text(&mut self, field: &'static str, max_bytes: usize) -> Result<String, BundleError> {
        String::from_utf8(self.bytes(field, max_bytes)?).map_err(|_| BundleError::Text { field })
    }

    fn others(
        &mut self,
        field: &'static str,
        max_bytes: usize,
    ) -> Result<Vec<Vec<u8>>, BundleError> {
        let found = self.reader.number().map_err(in_field(field))?;
        let count = usize::try_from(found).unwrap_or(usize::MAX);
        few(field, count)?;
        (0..count).map(|_| self.bytes(field, max_bytes)).collect()
    }

    fn token_key(&mut self) -> Result<TokenPublicKey, BundleError> {
        let bytes = self.bytes("token_key", TokenPublicKey::MAX_BYTES)?;
        TokenPublicKey::from_bytes(&bytes).map_err(|_| BundleError::TokenKey)
    }

    fn token_keys(&mut self) -> Result<Vec<TokenKey>, BundleError> {
        let found = self.reader.number().map_err(in_field("token_keys"))?;
        let count = usize::try_from(found).unwrap_or(usize::MAX);
        if count == 0 || count > MAX_TOKEN_KEYS {
            return Err(BundleError::TokenKeys { found });
        }
        (0..count)
            .map(|_| {
                Ok(TokenKey {
                    kid: self.text("kid", MAX_KID_BYTES)?,
                    key: self.token_key()?,
                })
            })
            .collect()
    }
}

fn in_field(field: &'static str) -> impl Fn(CanonicalError) -> BundleError {
    move |error| BundleError::Encoding { field, error }
}

fn few(field: &'static str, found: usize) -> Result<(), BundleError> {
    if found > MAX_OTHERS {
        let found = u64::try_from(found).unwrap_or(u64::MAX);
        return Err(BundleError::Others { field, found });
    }
    Ok(())
}

const fn length(
    field: &'static str,
    found_bytes: usize,
    max_bytes: usize,
) -> Result<(), BundleError> {
    if found_bytes == 0 || found_bytes > max_bytes {
        Err(BundleError::Length {
            field,
            found_bytes,
            max_bytes,
        })
    } else {
        Ok(())
    }
}

fn text(field: &'static str, text: &str, max_bytes: usize) -> Result<(), BundleError> {
    length(field, text.len(), max_bytes)?;
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(BundleError::Text { field })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> P256PublicKey {
        let mut point = [byte; 65];
        point[0] = 4;
        P256PublicKey::from_point(&point).unwrap()
    }

    fn sample() -> KeyBundle {
        KeyBundle {
            enclave_ca_der: vec![1; 300],
            next_ca_ders: vec![vec![11; 310]],
            instance_key: key(2),
            token_keys: vec![
                TokenKey {
                    kid: "a".to_owned(),
                    key: key(3).into(),
                },
                TokenKey {
                    kid: "b".to_owned(),
                    key: TokenPublicKey::Ed25519([4; 32]),
                },
            ],
            hpke_public: [5; 32],
            log_key_spki: vec![6; 44],
            earlier_log_keys: vec![vec![12; 44]],
            manifest_digest: [7; 32],
            manifest_signer: [8; 32],
            boot_identity: [9; 32],
            issuer: "https://issuer.test".to_owned(),
            grpc_origin: "https://grpc.test".to_owned(),
            public_origin: "https://public.test".to_owned(),
            gateway_origin: "https://gateway.test".to_owned(),
        }
    }

    #[test]
    fn a_bundle_comes_back_as_it_was() {
        let bytes = sample().encode().unwrap();
        assert_eq!(KeyBundle::decode(&bytes), Ok(sample()));
        assert_eq!(sample().digest(), Ok(sha256(&bytes)));
    }

    #[test]
    fn every_field_changes_the_digest() {
        let base = sample().digest().unwrap();
        let changes: [fn(&mut KeyBundle); 15] = [
            |b| b.enclave_ca_der[0] = 0,
            |b| b.next_ca_ders[0][0] = 0,
            |b| b.earlier_log_keys[0][0] = 0,
            |b| b.earlier_log_keys.clear(),
            |b| b.instance_key = key(0),
            |b| b.token_keys[0].kid = "c".to_owned(),
            |b| b.hpke_public[0] = 0,
            |b| b.log_key_spki[0] = 0,
            |b| b.manifest_digest[0] = 0,
            |b| b.manifest_signer[0] = 0,
            |b| b.boot_identity[0] = 0,
            |b| b.issuer.push('x'),
            |b| b.grpc_origin.push('x'),
            |b| b.public_origin.push('x'),
            |b| b.gateway_origin.push('x'),
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let mut bundle = sample();
            change(&mut bundle);
            assert_ne!(bundle.digest(), Ok(base), "change {i}");
        }
    }

    #[test]
    fn a_value_outside_its_bounds_is_neither_encoded_nor_decoded() {
        type Change = fn(&mut KeyBundle);
        let rows: [(Change, BundleError); 10] = [
            (
                |b| b.enclave_ca_der.clear(),
                BundleError::Length {
                    field: "enclave_ca",
                    found_bytes: 0,
                    max_bytes: MAX_CA_BYTES,
                },
            ),
            (
                |b| b.enclave_ca_der = vec![0; MAX_CA_BYTES + 1],
                BundleError::Length {
                    field: "enclave_ca",
                    found_bytes: MAX_CA_BYTES + 1,
                    max_bytes: MAX_CA_BYTES,
                },
            ),
            (
                |b| b.next_ca_ders = vec![vec![1]; MAX_OTHERS + 1],
                BundleError::Others {
                    field: "next_ca",
                    found: 5,
                },
            ),
            (
                |b| b.earlier_log_keys = vec![vec![1]; MAX_OTHERS + 1],
                BundleError::Others {
                    field: "earlier_log_key",
                    found: 5,
                },
            ),
            (
                |b| b.earlier_log_keys[0].clear(),
                BundleError::Length {
                    field: "log_key",
                    found_bytes: 0,
                    max_bytes: MAX_LOG_KEY_BYTES,
                },
            ),
            (
                |b| b.token_keys.clear(),
                BundleError::TokenKeys { found: 0 },
            ),
            (
                |b| b.token_keys[1].kid = "a".to_owned(),
                BundleError::DuplicateKid {
                    kid: "a".to_owned(),
                },
            ),
            (
                |b| b.token_keys[0].kid = "a b".to_owned(),
                BundleError::Text { field: "kid" },
            ),
            (
                |b| b.issuer = "https://\u{e9}".to_owned(),
                BundleError::Text { field: "issuer" },
            ),
            (
                |b| b.grpc_origin.clear(),
                BundleError::Length {
                    field: "grpc_origin",
                    found_bytes: 0,
                    max_bytes: MAX_ORIGIN_BYTES,
                },
            ),
        ];
        for (change, error) in rows {
            let mut bundle = sample();
            change(&mut bundle);
            assert_eq!(bundle.encode(), Err(error));
        }
    }

    #[test]
    fn every_truncation_and_any_suffix_is_refused() {
        let bytes = sample().encode().unwrap();
        for length in 0..bytes.len() {
            let error = KeyBundle::decode(&bytes[..length]).unwrap_err();
            assert!(
                matches!(
                    error,
                    BundleError::Encoding {
                        error: CanonicalError::Truncated,
                        ..
                    }
                ),
                "{length}: {error:?}"
            );
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        let trailing = BundleError::Encoding {
            field: "end",
            error: CanonicalError::Trailing { count_bytes: 1 },
        };
        assert_eq!(KeyBundle::decode(&longer), Err(trailing));
        let huge = vec![0; MAX_BUNDLE_BYTES + 1];
        assert_eq!(
            KeyBundle::decode(&huge),
            Err(BundleError::TooLarge {
                found_bytes: MAX_BUNDLE_BYTES + 1
            })
        );
    }

    #[test]
    fn a_token_key_of_neither_kind_is_refused() {
        let bytes = sample().encode().unwrap();
        let at = bytes
            .windows(32)
            .position(|window| window == [4; 32])
            .unwrap();
        // One byte less, by its length and by itself.
        let mut shorter = bytes.clone();
        shorter.remove(at);
        shorter[at - 1] -= 1;
        assert_eq!(KeyBundle::decode(&shorter), Err(BundleError::TokenKey));
    }

    #[test]
    fn a_jwk_has_the_members_a_resource_server_needs() {
        let jwk = sample().token_keys[0].jwk();
        let (x, y) = key(3).jwk_coordinates();
        assert_eq!(
            jwk.to_string(),
            format!(
                r#"{{"alg":"ES256","crv":"P-256","kid":"a","kty":"EC","use":"sig","x":"{x}","y":"{y}"}}"#
            )
        );
    }
}
