//! Checks DPoP proofs [RFC 9449 §4.3], each stage a type.

use std::fmt;

use ring::digest;
use subtle::ConstantTimeEq as _;

use super::{Claim, DpopError, MAX_JTI_BYTES, MAX_PROOF_BYTES, PROOF_TYP, ath};
use crate::{
    Alg, PublicKey, Thumbprint,
    json::{Object, Value},
    jws::{Compact, JwkMember},
    target_uri::TargetUri,
};

/// The algorithms of proofs [RFC 9449 §4.3 #5]: asymmetric, and no RSA.
const ALLOWED: [Alg; 2] = [Alg::Es256, Alg::EdDsa];

/// How far `exp` and `nbf`, which proofs need not have, may be off: as much as FAPI 2.0 allows two clocks
/// to differ, seconds.
const EXP_NBF_LEEWAY_S: u64 = 60;

/// A well-formed proof whose signature nobody has checked yet; only its nonce may be looked at.
pub struct Proof<'a> {
    compact: Compact<'a>,
    jwk: String,
    claims: Claims,
}

/// The claims as found, their faults kept for their turn.
struct Claims {
    jti: Member<String>,
    htm: Member<String>,
    htu: Member<String>,
    iat_s: Member<u64>,
    ath: Member<String>,
    exp_s: Member<u64>,
    nbf_s: Member<u64>,
    nonce: Option<String>,
}

enum Member<T> {
    Absent,
    WrongType,
    Is(T),
}

/// When a proof is fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IatRule {
    past_s: u64,
    future_s: u64,
    needs_nonce: bool,
}

impl IatRule {
    /// For servers that gave a nonce: the nonce is the clock, `iat` only has to be within a day, so that
    /// a client's wrong clock does no harm. The proof must have a nonce, and the caller must have checked
    /// it [RFC 9449 §11.1].
    pub const WITH_NONCE: Self = Self {
        past_s: 86_400,
        future_s: 86_400,
        needs_nonce: true,
    };

    /// For servers that give no nonces: `iat` from 60 s ago to 10 s ahead, which FAPI 2.0 asks to accept.
    pub const WITHOUT_NONCE: Self = Self {
        past_s: 60,
        future_s: 10,
        needs_nonce: false,
    };
}

/// What a proof must say.
#[derive(Clone, Copy)]
pub struct Expected<'a> {
    /// The method: `POST` for gRPC.
    pub htm: &'a str,
    /// The target: a configured origin and the path, never what the peer calls us.
    pub htu: TargetUri<'a>,
    /// The access token as it was received, if one came with the proof. Without one, `ath` is ignored.
    pub access_token: Option<&'a str>,
    /// The key that the access token or grant is bound to, if it is.
    pub bound_jkt: Option<Thumbprint>,
    /// The verifier's clock, seconds since 1970.
    pub now_s: u64,
    /// When the proof is fresh.
    pub iat: IatRule,
}

impl<'a> Proof<'a> {
    /// Takes the one value of the request's DPoP header: size, framing and header are checked, the claims
    /// read.
    ///
    /// # Errors
    /// [`DpopError::Missing`], [`DpopError::Repeated`], [`DpopError::TooLarge`], [`DpopError::NotText`],
    /// [`DpopError::Jws`], [`DpopError::Typ`], [`DpopError::JwkMissing`], [`DpopError::JwkNotObject`],
    /// [`DpopError::Payload`], and [`DpopError::ClaimType`] for `nonce`.
    pub fn from_header_values(
        values: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, DpopError> {
        let mut values = values.into_iter();
        let value = values.next().ok_or(DpopError::Missing)?;
        if values.next().is_some() {
            return Err(DpopError::Repeated);
        }
        if value.len() > MAX_PROOF_BYTES {
            return Err(DpopError::TooLarge);
        }
        let text = std::str::from_utf8(value).map_err(|_| DpopError::NotText)?;
        let mut compact = Compact::parse_bounded(text, MAX_PROOF_BYTES).map_err(DpopError::Jws)?;
        if compact.typ() != Some(PROOF_TYP) {
            return Err(DpopError::Typ);
        }
        compact.allowed_alg(&ALLOWED).map_err(DpopError::Jws)?;
        let jwk = match compact.take_jwk() {
            JwkMember::Absent => return Err(DpopError::JwkMissing),
            JwkMember::NotObject => return Err(DpopError::JwkNotObject),
            JwkMember::Object(text) => text,
        };
        let payload = compact.danger_unverified_payload();
        let object = Object::parse(payload, MAX_PROOF_BYTES).map_err(DpopError::Payload)?;
        let claims = Claims::read(&object)?;
        Ok(Self {
            compact,
            jwk,
            claims,
        })
    }

    /// The nonce that the proof carries, as anyone could have written it. The caller checks its MAC before
    /// it spends a signature verification.
    pub fn nonce(&self) -> Option<&str> {
        self.claims.nonce.as_deref()
    }

    /// Checks key, signature and claims. What is left to the caller is `jti`: see
    /// [`VerifiedProof::replay_id`].
    ///
    /// # Errors
    /// Any [`DpopError`] from `Jwk` on, in the order of RFC 9449 §4.3, and [`DpopError::Jws`].
    pub fn verify(self, expected: &Expected<'_>) -> Result<VerifiedProof, DpopError> {
        let Expected {
            htm,
            htu,
            access_token,
            bound_jkt,
            now_s,
            iat,
        } = *expected;
        let key = PublicKey::from_json(&self.jwk).map_err(DpopError::Jwk)?;
        self.compact
            .verify(&key, &ALLOWED)
            .map_err(DpopError::Jws)?;

        let claims = self.claims;
        let jti = claims.jti.required(Claim::Jti)?;
        if jti.is_empty() || jti.len() > MAX_JTI_BYTES {
            return Err(DpopError::JtiLength);
        }
        let claimed_htm = claims.htm.required(Claim::Htm)?;
        let claimed_htu = claims.htu.required(Claim::Htu)?;
        let iat_s = claims.iat_s.required(Claim::Iat)?;
        iat.check(iat_s, now_s, claims.nonce.is_some())?;
        if claims
            .exp_s
            .optional(Claim::Exp)?
            .is_some_and(|exp_s| exp_s.saturating_add(EXP_NBF_LEEWAY_S) <= now_s)
        {
            return Err(DpopError::Expired);
        }
        if claims
            .nbf_s
            .optional(Claim::Nbf)?
            .is_some_and(|nbf_s| nbf_s > now_s.saturating_add(EXP_NBF_LEEWAY_S))
        {
            return Err(DpopError::NotYetValid);
        }

        if claimed_htm != htm {
            return Err(DpopError::HtmMismatch);
        }
        let is_named = htu.is_named_by(&claimed_htu);
        if !is_named.map_err(|_| DpopError::HtuMalformed)? {
            return Err(DpopError::HtuMismatch);
        }

        let has_ath = !matches!(claims.ath, Member::Absent);
        if let Some(access_token) = access_token {
            let claimed = claims.ath.required(Claim::Ath)?;
            if !bool::from(claimed.as_bytes().ct_eq(ath(access_token).as_bytes())) {
                return Err(DpopError::AthMismatch);
            }
        }
        let jkt = key.thumbprint();
        if bound_jkt.is_some_and(|bound| bound != jkt) {
            return Err(DpopError::KeyMismatch);
        }
        Ok(VerifiedProof {
            key,
            jkt,
            jti,
            iat_s,
            has_ath,
            nonce: claims.nonce,
        })
    }
}

impl fmt::Debug for Proof<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").finish_non_exhaustive()
    }
}

impl IatRule {
    fn check(self, iat_s: u64, now_s: u64, has_nonce: bool) -> Result<(), DpopError> {
        let Self {
            past_s,
            future_s,
            needs_nonce,
        } = self;
        if needs_nonce && !has_nonce {
            return Err(DpopError::NonceMissing);
        }
        if iat_s < now_s.saturating_sub(past_s) {
            return Err(DpopError::TooOld { iat_s, now_s });
        }
        if iat_s > now_s.saturating_add(future_s) {
            return Err(DpopError::FromFuture { iat_s, now_s });
        }
        Ok(())
    }
}

impl Claims {
    fn read(object: &Object<'_>) -> Result<Self, DpopError> {
        let nonce = match Member::string(object, "nonce") {
            Member::Absent => None,
            Member::WrongType => return Err(DpopError::ClaimType(Claim::Nonce)),
            Member::Is(nonce) => Some(nonce),
        };
        Ok(Self {
            jti: Member::string(object, "jti"),
            htm: Member::string(object, "htm"),
            htu: Member::string(object, "htu"),
            iat_s: Member::integer(object, "iat"),
            ath: Member::string(object, "ath"),
            exp_s: Member::integer(object, "exp"),
            nbf_s: Member::integer(object, "nbf"),
            nonce,
        })
    }
}

impl Member<String> {
    fn string(object: &Object<'_>, name: &str) -> Self {
        Self::read(object, name, |value| value.as_str().map(str::to_owned))
    }
}

impl Member<u64> {
    fn integer(object: &Object<'_>, name: &str) -> Self {
        Self::read(object, name, |value| value.as_u64())
    }
}

impl<T> Member<T> {
    fn read(
        object: &Object<'_>,
        name: &str,
        convert: impl FnOnce(&Value<'_>) -> Option<T>,
    ) -> Self {
        match object.member(name) {
            None => Self::Absent,
            Some(value) => convert(value).map_or(Self::WrongType, Self::Is),
        }
    }

    fn required(self, claim: Claim) -> Result<T, DpopError> {
        self.optional(claim)?.ok_or(DpopError::ClaimMissing(claim))
    }

    fn optional(self, claim: Claim) -> Result<Option<T>, DpopError> {
        match self {
            Self::Absent => Ok(None),
            Self::WrongType => Err(DpopError::ClaimType(claim)),
            Self::Is(value) => Ok(Some(value)),
        }
    }
}

/// A proof that verified; whether it was used before is for the caller to find out. Only
/// [`Proof::verify`] makes one:
///
/// ```compile_fail,E0451
/// fn forge(key: jose::PublicKey, jkt: jose::Thumbprint) -> jose::dpop::VerifiedProof {
///     jose::dpop::VerifiedProof { key, jkt, jti: String::new(), iat_s: 0, has_ath: false, nonce: None }
/// }
/// ```
pub struct VerifiedProof {
    key: PublicKey,
    jkt: Thumbprint,
    jti: String,
    iat_s: u64,
    has_ath: bool,
    nonce: Option<String>,
}

impl VerifiedProof {
    /// The key that made the proof.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The thumbprint of [`Self::key`].
    pub fn jkt(&self) -> Thumbprint {
        self.jkt
    }

    /// What a replay of this proof has in common with it: 16 bytes of SHA-256 over thumbprint, a zero
    /// byte, `jti`. Not the signature, which anyone can change into another valid one.
    pub fn replay_id(&self) -> [u8; 16] {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(self.jkt.as_bytes());
        hash.update(&[0]);
        hash.update(self.jti.as_bytes());
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(hash.finish().as_ref()) {
            *to = *from;
        }
        id
    }

    /// When the proof says it was made, seconds since 1970.
    pub fn iat_s(&self) -> u64 {
        self.iat_s
    }

    /// Whether the proof names an access token, of whatever type the claim is: where none came with the proof, nobody
    /// has compared it.
    pub fn has_ath(&self) -> bool {
        self.has_ath
    }

    /// The nonce that the proof carries.
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }
}

impl fmt::Debug for VerifiedProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedProof")
            .field("jkt", &self.jkt)
            .field("iat_s", &self.iat_s)
            .finish_non_exhaustive()
    }
}
