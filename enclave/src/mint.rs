//! Minting of access tokens: JWTs by the profile of RFC 9068, one audience, one
//! confirmation method.

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};

use crate::actor::Act;
use crate::ids::{ClientId, GrantId};
use crate::json;
use crate::keys::keyring::TokenKey;
use crate::seal::{OneUseSalt, SealError};

/// The longest lifetime of a token in seconds.
pub const MAX_LIFETIME_S: u64 = 300;

/// The claims of an access token [RFC 9068 §2.2].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The issuer.
    pub iss: String,
    /// The client, as no person is involved.
    pub sub: ClientId,
    /// The sole audience.
    pub aud: String,
    /// Expiry, Unix time in seconds.
    pub exp: u64,
    /// Time of issue, Unix time in seconds.
    pub iat: u64,
    /// The token's own id.
    pub jti: String,
    /// The client.
    pub client_id: ClientId,
    /// The scopes, separated by spaces.
    pub scope: String,
    /// What the token is bound to.
    pub cnf: Confirmation,
    /// The grant that it draws on.
    pub grant: GrantId,
    /// The assurance of the enclave that issued it.
    pub tier: String,
    /// On whose behalf the client asked for it, if it said so [RFC 8693 §4.1].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<Act>>,
}

/// The confirmation method [RFC 7800 §3.1]: exactly one, so a `cnf` of two members
/// does not read as any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confirmation {
    /// The RFC 7638 thumbprint of the DPoP key [RFC 9449 §6.1].
    #[serde(rename = "jkt")]
    Jkt(String),
    /// The SHA-256 of the client's certificate, base64url [RFC 8705 §3.1].
    #[serde(rename = "x5t#S256")]
    X5tS256(String),
}

impl Confirmation {
    /// By the certificate with this SHA-256, over its DER.
    #[must_use]
    pub fn certificate(sha256: &[u8; 32]) -> Self {
        Self::X5tS256(Base64UrlUnpadded::encode_string(sha256))
    }

    /// The thumbprint, of whichever kind: what a freeze of a key names.
    #[must_use]
    pub fn thumbprint(&self) -> &str {
        match self {
            Self::Jkt(text) | Self::X5tS256(text) => text,
        }
    }

    /// The `token_type` of a token that is confirmed so: one that is bound to a
    /// certificate is shown as a bearer token [RFC 8705 §3].
    #[must_use]
    pub fn token_type(&self) -> &'static str {
        match self {
            Self::Jkt(_) => "DPoP",
            Self::X5tS256(_) => "Bearer",
        }
    }
}

/// A new token id of 128 random bits.
pub(crate) fn token_id(rng: &dyn SecureRandom) -> Result<String, SealError> {
    let mut id = [0; 16];
    rng.fill(&mut id).map_err(|_| SealError::Failed)?;
    Ok(Base64UrlUnpadded::encode_string(&id))
}

/// The same, with the salt of the token's leaf.
pub(crate) fn token_id_and_salt(rng: &dyn SecureRandom) -> Result<(String, OneUseSalt), SealError> {
    let (salt, id) = OneUseSalt::draw_with_name(rng)?;
    Ok((Base64UrlUnpadded::encode_string(&id), salt))
}

/// Signs the claims.
pub(crate) fn mint(
    key: &TokenKey,
    claims: &Claims,
    rng: &dyn SecureRandom,
) -> Result<String, SealError> {
    let payload = json::to_vec(claims).map_err(|_| SealError::Failed)?;
    key.sign("at+jwt", &payload, rng)
}
