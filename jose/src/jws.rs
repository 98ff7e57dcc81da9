//! Compact JWS [RFC 7515 §3.1, §7.1]: parse, verify, sign.

use std::{fmt, mem};

use ring::rand::SecureRandom;

use crate::{
    PublicKey, SigningKey, base64url,
    json::{JsonError, Object, ObjectWriter, Value},
    signing_key::SigningKeyError,
};

/// Longest compact JWS that [`Compact::parse`] reads.
pub const MAX_TOKEN_BYTES: usize = 8192;

/// Longest `typ` and `kid` that are read.
pub const MAX_HEADER_STRING_BYTES: usize = 256;

/// The algorithms that we sign and verify with; each belongs to one kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alg {
    /// ECDSA on P-256 with SHA-256 [RFC 7518 §3.4].
    Es256,
    /// EdDSA with Ed25519 [RFC 8037 §3.1], under its name `EdDSA` or `Ed25519` [RFC 9864 §2.2].
    EdDsa,
}

impl Alg {
    /// The name we write in a header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The algorithm that a header names. Names are case-sensitive [RFC 7515 §4.1.1].
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "ES256" => Some(Self::Es256),
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

/// One of the three parts of a compact JWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// The first.
    Header,
    /// The second.
    Payload,
    /// The third.
    Signature,
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Header => "header",
            Self::Payload => "payload",
            Self::Signature => "signature",
        })
    }
}

/// Why a text is no acceptable JWS, or its signature not the key's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// Longer than the bound.
    #[error("JWS too large")]
    TooLarge,
    /// Not exactly three segments.
    #[error("JWS does not have three segments")]
    SegmentCount,
    /// A segment is empty.
    #[error("JWS {0} is empty")]
    EmptySegment(Segment),
    /// A segment is not canonical base64url without padding.
    #[error("JWS {0} is not canonical base64url")]
    NotBase64Url(Segment),
    /// The header is no acceptable JSON object, or a member is missing or of the wrong type.
    #[error("JWS header is malformed")]
    Header(#[source] JsonError),
    /// The header has `crit`: we understand no extension [RFC 7515 §4.1.11].
    #[error("JWS header has critical members")]
    Crit,
    /// The header has `b64`, which would change what is signed [RFC 7797].
    #[error("JWS header has the member b64")]
    B64,
    /// The header has `zip`, which only encryption defines [RFC 7516 §4.1.3].
    #[error("JWS header has the member zip")]
    Zip,
    /// `typ` or `kid` is empty or longer than [`MAX_HEADER_STRING_BYTES`].
    #[error("JWS header member `{0}` is empty or too long")]
    HeaderStringLength(&'static str),
    /// `alg` is none that the verifier knows.
    #[error("JWS algorithm is not supported")]
    UnsupportedAlg,
    /// `alg` is not in the caller's list.
    #[error("JWS algorithm is not allowed here")]
    AlgNotAllowed,
    /// `alg` belongs to another kind of key.
    #[error("JWS algorithm is not that of the key")]
    AlgKeyMismatch,
    /// The signature has another length than the algorithm's.
    #[error("JWS signature has the wrong length")]
    SignatureLength,
    /// The signature is not the key's over this text.
    #[error("JWS signature does not verify")]
    BadSignature,
    /// The payload is no acceptable JSON object.
    #[error("JWS payload is malformed")]
    Payload(#[source] JsonError),
}

/// A well-formed compact JWS whose signature nobody has checked yet.
#[derive(Clone)]
pub struct Compact<'a> {
    signing_input: &'a str,
    alg: HeaderAlg,
    typ: Option<String>,
    kid: Option<String>,
    jwk: JwkMember,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// What the header's `alg` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderAlg {
    Ours(Alg),
    /// Only [`crate::rs256`] verifies it.
    Rs256,
    Unknown,
}

/// What the header's `jwk` is. It is kept as text: only a proof of possession may look inside, any
/// other reader would let the signer choose the key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum JwkMember {
    Absent,
    NotObject,
    Object(String),
}

impl<'a> Compact<'a> {
    /// Parses `text`, at most [`MAX_TOKEN_BYTES`] of it: three segments, none empty, each canonical
    /// base64url; a header that is a strict JSON object. Members of the header that we do not know are
    /// ignored [RFC 7515 §4], but for `crit`, `b64` and `zip`. The payload is not looked into.
    ///
    /// # Errors
    /// Any [`JwsError`] before `UnsupportedAlg`, in the order of the enum.
    pub fn parse(text: &'a str) -> Result<Self, JwsError> {
        Self::parse_bounded(text, MAX_TOKEN_BYTES)
    }

    /// Like [`Compact::parse`] with another bound.
    ///
    /// # Errors
    /// As [`Compact::parse`].
    pub fn parse_bounded(text: &'a str, max_bytes: usize) -> Result<Self, JwsError> {
        if text.len() > max_bytes {
            return Err(JwsError::TooLarge);
        }
        let (signing_input, signature) = text.rsplit_once('.').ok_or(JwsError::SegmentCount)?;
        let (header, payload) = signing_input
            .split_once('.')
            .ok_or(JwsError::SegmentCount)?;
        if payload.contains('.') {
            return Err(JwsError::SegmentCount);
        }
        let header = decode(header, Segment::Header)?;
        let payload = decode(payload, Segment::Payload)?;
        let signature = decode(signature, Segment::Signature)?;

        let members = Object::parse(&header, max_bytes).map_err(JwsError::Header)?;
        for (name, error) in [
            ("crit", JwsError::Crit),
            ("b64", JwsError::B64),
            ("zip", JwsError::Zip),
        ] {
            if members.member(name).is_some() {
                return Err(error);
            }
        }
        let alg = match members.str("alg").map_err(JwsError::Header)? {
            "RS256" => HeaderAlg::Rs256,
            name => Alg::from_name(name).map_or(HeaderAlg::Unknown, HeaderAlg::Ours),
        };
        let jwk = match members.member("jwk") {
            None => JwkMember::Absent,
            Some(Value::Object(text)) => JwkMember::Object((*text).to_owned()),
            Some(
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Array(_),
            ) => JwkMember::NotObject,
        };
        let (typ, kid) = (
            header_string(&members, "typ")?,
            header_string(&members, "kid")?,
        );
        Ok(Self {
            signing_input,
            alg,
            typ,
            kid,
            jwk,
            payload,
            signature,
        })
    }

    /// The header's `typ`, as it is written.
    pub fn typ(&self) -> Option<&str> {
        self.typ.as_deref()
    }

    /// The header's `kid`. It may choose among keys that the caller trusts already, no more.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The header's `alg`, if it is one of ours.
    pub fn alg(&self) -> Option<Alg> {
        match self.alg {
            HeaderAlg::Ours(alg) => Some(alg),
            HeaderAlg::Rs256 | HeaderAlg::Unknown => None,
        }
    }

    /// The payload as anyone could have written it: to find which key to verify with, for nothing else.
    pub fn danger_unverified_payload(&self) -> &[u8] {
        &self.payload
    }

    /// Verifies the signature by `key` under an algorithm in `allowed`.
    ///
    /// # Errors
    /// [`JwsError::UnsupportedAlg`], [`JwsError::AlgNotAllowed`], [`JwsError::AlgKeyMismatch`],
    /// [`JwsError::SignatureLength`], [`JwsError::BadSignature`].
    pub fn verify(&self, key: &PublicKey, allowed: &[Alg]) -> Result<VerifiedJws<'_>, JwsError> {
        let alg = self.allowed_alg(allowed)?;
        if alg != key.alg() {
            return Err(JwsError::AlgKeyMismatch);
        }
        if self.signature.len() != 64 {
            return Err(JwsError::SignatureLength);
        }
        if !key.accepts(self.signing_input.as_bytes(), &self.signature) {
            return Err(JwsError::BadSignature);
        }
        Ok(VerifiedJws { compact: self })
    }

    /// The header's algorithm, if the caller allows it.
    pub(crate) fn allowed_alg(&self, allowed: &[Alg]) -> Result<Alg, JwsError> {
        match self.alg {
            HeaderAlg::Ours(alg) if allowed.contains(&alg) => Ok(alg),
            HeaderAlg::Ours(_) | HeaderAlg::Rs256 => Err(JwsError::AlgNotAllowed),
            HeaderAlg::Unknown => Err(JwsError::UnsupportedAlg),
        }
    }

    pub(crate) fn header_alg(&self) -> HeaderAlg {
        self.alg
    }

    /// Moves the header's `jwk` out.
    pub(crate) fn take_jwk(&mut self) -> JwkMember {
        mem::replace(&mut self.jwk, JwkMember::Absent)
    }

    pub(crate) fn signing_input(&self) -> &'a str {
        self.signing_input
    }

    pub(crate) fn signature(&self) -> &[u8] {
        &self.signature
    }
}

impl fmt::Debug for Compact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A token is a credential: only its kind is shown.
        f.debug_struct("Compact")
            .field("alg", &self.alg)
            .finish_non_exhaustive()
    }
}

fn decode(text: &str, segment: Segment) -> Result<Vec<u8>, JwsError> {
    if text.is_empty() {
        return Err(JwsError::EmptySegment(segment));
    }
    base64url::decode(text).map_err(|_| JwsError::NotBase64Url(segment))
}

fn header_string(members: &Object<'_>, name: &'static str) -> Result<Option<String>, JwsError> {
    let value = members.optional_str(name).map_err(JwsError::Header)?;
    if value.is_some_and(|value| value.is_empty() || value.len() > MAX_HEADER_STRING_BYTES) {
        return Err(JwsError::HeaderStringLength(name));
    }
    Ok(value.map(str::to_owned))
}

/// A JWS whose signature verified. Only [`Compact::verify`] makes one:
///
/// ```compile_fail,E0451
/// fn forge<'a>(compact: &'a jose::jws::Compact<'a>) -> jose::jws::VerifiedJws<'a> {
///     jose::jws::VerifiedJws { compact }
/// }
/// ```
#[derive(Clone, Copy)]
pub struct VerifiedJws<'c> {
    compact: &'c Compact<'c>,
}

impl<'c> VerifiedJws<'c> {
    /// The signed payload.
    pub fn payload(&self) -> &'c [u8] {
        &self.compact.payload
    }

    /// The signed payload as a strict JSON object.
    ///
    /// # Errors
    /// [`JwsError::Payload`].
    pub fn claims(&self) -> Result<Object<'c>, JwsError> {
        Object::parse(&self.compact.payload, self.compact.payload.len()).map_err(JwsError::Payload)
    }

    /// The signed header's `typ`, as it is written.
    pub fn typ(&self) -> Option<&'c str> {
        self.compact.typ.as_deref()
    }

    /// The signed header's `kid`.
    pub fn kid(&self) -> Option<&'c str> {
        self.compact.kid.as_deref()
    }
}

impl fmt::Debug for VerifiedJws<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedJws")
            .field("alg", &self.compact.alg)
            .finish_non_exhaustive()
    }
}

/// A member that we write in a header; `alg` comes from the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderMember<'a> {
    /// `typ`
    Typ(&'a str),
    /// `kid`
    Kid(&'a str),
    /// `jwk`: the public half of the signing key.
    OwnJwk,
}

/// Signs `payload`, which is JSON, under a header of `alg` and `members`, each at most once.
///
/// # Errors
/// [`SigningKeyError::Randomness`].
pub fn sign(
    members: &[HeaderMember<'_>],
    payload: &[u8],
    key: &SigningKey,
    rng: &dyn SecureRandom,
) -> Result<String, SigningKeyError> {
    let mut header = ObjectWriter::with_capacity(256).string("alg", key.alg().name());
    for member in members {
        header = match member {
            HeaderMember::Typ(typ) => header.string("typ", typ),
            HeaderMember::Kid(kid) => header.string("kid", kid),
            HeaderMember::OwnJwk => header.json("jwk", key.public_json()),
        };
    }
    let header = header.finish();
    let bytes = header.len().saturating_add(payload.len());
    let mut token = String::with_capacity(base64url::encoded_len(bytes).saturating_add(128));
    write(&mut token, header.as_bytes())?;
    token.push('.');
    write(&mut token, payload)?;
    let signature = key.sign(token.as_bytes(), rng)?;
    token.push('.');
    write(&mut token, signature.as_ref())?;
    Ok(token)
}

fn write(token: &mut String, part: &[u8]) -> Result<(), SigningKeyError> {
    base64url::write(token, part).map_err(|fmt::Error| SigningKeyError::Text)
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod vectors;
