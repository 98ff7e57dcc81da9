//! Makes DPoP proofs [RFC 9449 §4.2].

use ring::rand::SecureRandom;

use super::{PROOF_TYP, ath};
use crate::{
    SigningKey, base64url,
    json::ObjectWriter,
    jws::{self, HeaderMember},
    signing_key::SigningKeyError,
};

/// What a proof says. Each attempt at a request needs a proof of its own, with a new `jti`.
#[derive(Clone, Copy)]
pub struct ProofParams<'a> {
    /// The method, as it is sent.
    pub htm: &'a str,
    /// The target URI; query and fragment are left out of the proof.
    pub htu: &'a str,
    /// The maker's clock, seconds since 1970.
    pub iat_s: u64,
    /// A name that no other proof by this key has; [`random_jti`] gives one.
    pub jti: &'a str,
    /// The newest nonce that the server gave.
    pub nonce: Option<&'a str>,
    /// The access token that goes with the proof; its `ath` is put in.
    pub access_token: Option<&'a str>,
}

impl ProofParams<'_> {
    /// Signs the proof with `key`, whose public half goes into the header.
    ///
    /// # Errors
    /// [`SigningKeyError::Randomness`].
    pub fn sign(
        &self,
        key: &SigningKey,
        rng: &dyn SecureRandom,
    ) -> Result<String, SigningKeyError> {
        let Self {
            htm,
            htu,
            iat_s,
            jti,
            nonce,
            access_token,
        } = *self;
        let htu = htu.split(['?', '#']).next().unwrap_or_default();
        let payload = ObjectWriter::with_capacity(384)
            .string("jti", jti)
            .string("htm", htm)
            .string("htu", htu)
            .u64("iat", iat_s)
            .optional_string("ath", access_token.map(ath).as_deref())
            .optional_string("nonce", nonce)
            .finish();
        jws::sign(
            &[HeaderMember::Typ(PROOF_TYP), HeaderMember::OwnJwk],
            payload.as_bytes(),
            key,
            rng,
        )
    }
}

/// 128 random bits as base64url: a fresh `jti`.
///
/// # Errors
/// [`SigningKeyError::Randomness`].
pub fn random_jti(rng: &dyn SecureRandom) -> Result<String, SigningKeyError> {
    let mut bytes = [0; 16];
    rng.fill(&mut bytes)
        .map_err(|_| SigningKeyError::Randomness)?;
    Ok(base64url::encode(&bytes))
}
