//! Minting of access tokens: JWTs by the profile of RFC 9068, signed with ES256,
//! one audience, one confirmation method.

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};

use crate::ids::{ClientId, GrantId};
use crate::keys::keyring::TokenKey;
use crate::seal::SealError;

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
    /// The key that the token is bound to.
    pub cnf: Confirmation,
    /// The grant that it draws on.
    pub grant: GrantId,
    /// The assurance of the enclave that issued it.
    pub tier: String,
}

/// The confirmation method [RFC 9449 §6.1]: exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// The RFC 7638 thumbprint of the DPoP key.
    pub jkt: String,
}

/// A new token id of 128 random bits.
pub(crate) fn token_id(rng: &dyn SecureRandom) -> Result<String, SealError> {
    let mut id = [0; 16];
    rng.fill(&mut id).map_err(|_| SealError::Failed)?;
    Ok(Base64UrlUnpadded::encode_string(&id))
}

/// Signs the claims.
pub(crate) fn mint(
    key: &TokenKey,
    claims: &Claims,
    rng: &dyn SecureRandom,
) -> Result<String, SealError> {
    let payload = serde_json::to_vec(claims).map_err(|_| SealError::Failed)?;
    key.sign("at+jwt", &payload, rng)
}
