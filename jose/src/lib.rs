//! Compact JWS, JWK, thumbprints and DPoP proofs: make and verify.
//!
//! The grammar is closed: where the standards leave two readers room to differ (duplicate members,
//! loose base64, unknown critical headers, repaired URLs) the text is refused. Two algorithms sign and
//! verify, `ES256` and `EdDSA` over Ed25519; `RS256` is verified for named foreign issuers only, by a
//! type of its own. No I/O, no clock: time and randomness are arguments.
//!
//! | module | holds |
//! | --- | --- |
//! | [`base64url`] | canonical base64url without padding [RFC 7515 §2] |
//! | [`json`] | a strict, bounded JSON object reader, and a small writer |
//! | [`jws`] | compact JWS: parse, verify, sign [RFC 7515] |
//! | [`jwk`] | public keys from and to JWK [RFC 7517, RFC 8037] |
//! | [`thumbprint`] | JWK thumbprints [RFC 7638] |
//! | [`signing_key`] | private keys that sign, from and to PKCS#8 |
//! | [`rs256`] | `RS256` of named foreign issuers, verified only |
//! | [`target_uri`] | the URI that a proof names |
//! | [`dpop`] | DPoP proofs [RFC 9449] |

pub mod base64url;
pub mod dpop;
pub mod json;
pub mod jwk;
pub mod jws;
mod p256_point;
pub mod rs256;
pub mod signing_key;
pub mod target_uri;
pub mod thumbprint;

pub use jwk::PublicKey;
pub use jws::Alg;
pub use signing_key::SigningKey;
pub use thumbprint::Thumbprint;
