//! Client assertions: `private_key_jwt` [RFC 7523 §3; draft-ietf-oauth-rfc7523bis].

use std::sync::Arc;

use jose::Alg;
use jose::json::{JsonError, Object};
use jose::jws::{Compact, JwsError};
use ring::digest::{SHA256, digest};
use thiserror::Error;

use crate::ids::ClientId;
use crate::registry::Client;
use crate::time::Now;
use crate::view::View;

/// The `client_assertion_type` of an assertion [RFC 7523 §2.2].
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The `typ` of an assertion, where it has one [draft-ietf-oauth-rfc7523bis].
pub const TYP: &str = "client-authentication+jwt";

/// Longest assertion that is read. A real one takes 500 bytes.
pub const MAX_ASSERTION_BYTES: usize = 4_096;

/// How far ahead an assertion may expire, and how old it may be, in seconds.
pub const MAX_LIFETIME_S: u64 = 300;

/// How far a client's clock may be ahead, in seconds [FAPI 2.0 §5.3.2.1].
pub const MAX_AHEAD_S: u64 = 10;

/// Longest `jti`; only a digest of it is kept.
pub const MAX_JTI_BYTES: usize = 256;

/// Why an assertion was refused. Who is not proved to be the client learns no
/// more than `invalid_client`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AssertionError {
    /// There is more than one.
    #[error("more than one client assertion")]
    Repeated,
    /// It is not text.
    #[error("the client assertion is not text")]
    NotText,
    /// It is no JWS that we accept, or its signature is not the key's.
    #[error(transparent)]
    Jws(#[from] JwsError),
    /// Its `typ` is there and another.
    #[error("the client assertion's typ is not client-authentication+jwt")]
    Type,
    /// A claim is missing or of another type.
    #[error("the client assertion's claims: {0}")]
    Claims(JsonError),
    /// Its `iss` is no client.
    #[error("the client assertion's issuer is not a client")]
    UnknownClient,
    /// Its `kid` is absent or none of the client's.
    #[error("the client assertion's key is not one of the client's")]
    UnknownKey,
    /// `sub` is not `iss`.
    #[error("the client assertion's sub is not its iss")]
    Subject,
    /// `aud` is not our issuer identifier.
    #[error("the client assertion's aud must be this issuer's identifier")]
    Audience,
    /// It has expired.
    #[error("the client assertion has expired")]
    Expired {
        /// Its `exp`.
        exp_s: u64,
        /// Our time.
        now_s: u64,
    },
    /// It lasts longer than [`MAX_LIFETIME_S`] from now.
    #[error("the client assertion must expire within 300 seconds")]
    TooLong {
        /// Its `exp`.
        exp_s: u64,
        /// Our time.
        now_s: u64,
    },
    /// Its `iat` lies ahead by more than [`MAX_AHEAD_S`].
    #[error("the client assertion is from the future")]
    FromFuture {
        /// Its `iat`.
        iat_s: u64,
        /// Our time.
        now_s: u64,
    },
    /// Its `iat` is older than [`MAX_LIFETIME_S`].
    #[error("the client assertion is too old")]
    TooOld {
        /// Its `iat`.
        iat_s: u64,
        /// Our time.
        now_s: u64,
    },
    /// It was made before this boot, which does not know what was spent then.
    #[error("the client assertion is older than the service's last start")]
    BeforeBoot {
        /// Its `iat`.
        iat_s: u64,
        /// When this boot began.
        boot_s: u64,
    },
    /// Its `nbf` lies ahead.
    #[error("the client assertion is not valid yet")]
    NotYetValid {
        /// Its `nbf`.
        nbf_s: u64,
        /// Our time.
        now_s: u64,
    },
    /// Its `jti` is empty or longer than [`MAX_JTI_BYTES`].
    #[error("the client assertion's jti must have 1 to 256 bytes")]
    JtiLength,
    /// It was used before.
    #[error("the client assertion was used before")]
    Replayed,
    /// No more can be remembered until older ones expire.
    #[error("too many client assertions in this time span")]
    Full,
}

/// What assertions are held to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    /// Our issuer identifier.
    pub(crate) issuer: &'a str,
    /// When this boot began.
    pub(crate) boot_s: u64,
    pub(crate) now: &'a Now,
}

/// An assertion that holds, to be spent.
#[derive(Debug)]
pub(super) struct Assertion {
    pub(super) id: [u8; 16],
    pub(super) exp_s: u64,
}

/// Checks the one assertion of a request.
///
/// Order: count, size, framing, header; then whose key; then the signature; then
/// the claims. The claims are looked at for `iss` alone before that.
pub(super) fn check(
    view: &View,
    assertions: &[&[u8]],
    rules: &Rules<'_>,
) -> Result<(Arc<Client>, Assertion), AssertionError> {
    let [assertion] = assertions else {
        return Err(AssertionError::Repeated);
    };
    let text = std::str::from_utf8(assertion).map_err(|_| AssertionError::NotText)?;
    let jws = Compact::parse_bounded(text, MAX_ASSERTION_BYTES)?;
    if jws.typ().is_some_and(|typ| typ != TYP) {
        return Err(AssertionError::Type);
    }
    let client = {
        let claims = Object::parse(jws.danger_unverified_payload(), MAX_ASSERTION_BYTES)
            .map_err(JwsError::Payload)?;
        let iss = claims.str("iss").map_err(AssertionError::Claims)?;
        let id = ClientId::parse(iss).map_err(|_| AssertionError::UnknownClient)?;
        let held = view.clients.get(&id).ok_or(AssertionError::UnknownClient)?;
        Arc::clone(&held.value)
    };
    let key = jws
        .kid()
        .and_then(|kid| client.jwks.iter().find(|key| key.kid() == kid))
        .ok_or(AssertionError::UnknownKey)?;
    let verified = jws.verify(key.key(), &[Alg::Es256, Alg::EdDsa])?;
    let assertion = check_claims(&verified.claims()?, rules)?;
    Ok((client, assertion))
}

fn check_claims(claims: &Object<'_>, rules: &Rules<'_>) -> Result<Assertion, AssertionError> {
    let Rules {
        issuer,
        boot_s,
        now,
    } = *rules;
    let malformed = AssertionError::Claims;
    if claims.str("sub").map_err(malformed)? != claims.str("iss").map_err(malformed)? {
        return Err(AssertionError::Subject);
    }
    // A string, and the issuer's alone [draft-ietf-oauth-rfc7523bis; FAPI 2.0].
    if claims.str("aud").map_err(malformed)? != issuer {
        return Err(AssertionError::Audience);
    }
    let exp_s = claims.u64("exp").map_err(malformed)?;
    let iat_s = claims.u64("iat").map_err(malformed)?;
    let nbf_s = claims.optional_u64("nbf").map_err(malformed)?;
    if now.hi_s >= exp_s {
        let now_s = now.hi_s;
        return Err(AssertionError::Expired { exp_s, now_s });
    }
    if exp_s.saturating_sub(now.hi_s) > MAX_LIFETIME_S {
        let now_s = now.hi_s;
        return Err(AssertionError::TooLong { exp_s, now_s });
    }
    if iat_s.saturating_sub(now.hi_s) > MAX_AHEAD_S {
        let now_s = now.hi_s;
        return Err(AssertionError::FromFuture { iat_s, now_s });
    }
    if now.lo_s.saturating_sub(iat_s) > MAX_LIFETIME_S {
        let now_s = now.lo_s;
        return Err(AssertionError::TooOld { iat_s, now_s });
    }
    if iat_s < boot_s {
        return Err(AssertionError::BeforeBoot { iat_s, boot_s });
    }
    if let Some(nbf_s) = nbf_s.filter(|nbf_s| nbf_s.saturating_sub(now.hi_s) > MAX_AHEAD_S) {
        let now_s = now.hi_s;
        return Err(AssertionError::NotYetValid { nbf_s, now_s });
    }
    let jti = claims.str("jti").map_err(malformed)?;
    if !(1..=MAX_JTI_BYTES).contains(&jti.len()) {
        return Err(AssertionError::JtiLength);
    }
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(digest(&SHA256, jti.as_bytes()).as_ref()) {
        *to = *from;
    }
    Ok(Assertion { id, exp_s })
}
