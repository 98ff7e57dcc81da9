//! Public keys from and to JWK [RFC 7517; RFC 7518 §6.2; RFC 8037 §2].

use ring::{digest, signature};

use crate::{
    Alg, Thumbprint, base64url,
    json::{self, JsonError, Object, ObjectWriter, Value},
    p256_point,
};

/// Longest JWK that is read. A public key takes 130 bytes, with `kid`, `x5c` and the like still below.
pub const MAX_JWK_BYTES: usize = 4096;

/// Longest `kid` that is read [RFC 7517 §4.5 sets none].
pub const MAX_KID_BYTES: usize = 256;

/// Members that hold private or symmetric key material, of any key type [RFC 7518 §6.2.2, §6.3.2, §6.4;
/// RFC 8037 §2; `priv` as post-quantum drafts have it].
const PRIVATE_MEMBERS: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];

/// Why a JWK is not an acceptable public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// Not an acceptable JSON object, or a member is missing or of the wrong type.
    #[error("JWK is malformed")]
    Json(#[from] JsonError),
    /// A member for private or symmetric keys is there, whatever its value.
    #[error("JWK holds a private member")]
    PrivateMember,
    /// A member of another key type is there, so that two readers could see two keys.
    #[error("JWK mixes key types")]
    MixedKeyTypes,
    /// `kty` is neither `EC` nor `OKP`.
    #[error("JWK key type is not supported")]
    UnsupportedKty,
    /// `crv` is not `P-256` for `EC`, or not `Ed25519` for `OKP`.
    #[error("JWK curve is not supported")]
    UnsupportedCrv,
    /// A coordinate is not the canonical base64url of exactly 32 bytes.
    #[error("JWK coordinate is malformed")]
    Coordinate,
    /// The point is not on P-256, or a coordinate not below the field's prime.
    #[error("JWK point is not on its curve")]
    NotOnCurve,
    /// An Ed25519 key of small order, under which anyone can sign, or not canonically encoded.
    #[error("JWK point is of small order or not canonical")]
    WeakPoint,
    /// `use` is not `sig`.
    #[error("JWK is not for signatures")]
    UseNotSig,
    /// `key_ops` has no `verify`.
    #[error("JWK is not for verification")]
    KeyOpsWithoutVerify,
    /// `alg` is not that of the key.
    #[error("JWK algorithm is not that of its key")]
    AlgMismatch,
    /// `kid` is empty or longer than [`MAX_KID_BYTES`].
    #[error("JWK key id is empty or too long")]
    KidLength,
}

/// A public key that verifies signatures: a point on P-256 or an Ed25519 key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// Uncompressed SEC 1 point: 4, x, y.
    P256([u8; 65]),
    Ed25519([u8; 32]),
}

/// A public key with what its JWK says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwk {
    /// The key.
    pub key: PublicKey,
    /// Its `kid`, if it has one; 1 to [`MAX_KID_BYTES`] bytes.
    pub kid: Option<String>,
}

impl Jwk {
    /// Reads a public JWK. Members that no key type defines are ignored [RFC 7517 §4].
    ///
    /// # Errors
    /// Any [`JwkError`].
    pub fn from_json(text: &str) -> Result<Self, JwkError> {
        let members = Object::parse(text.as_bytes(), MAX_JWK_BYTES)?;
        let key = public_key(&members)?;
        let kid = members.optional_str("kid")?;
        if kid.is_some_and(|kid| kid.is_empty() || kid.len() > MAX_KID_BYTES) {
            return Err(JwkError::KidLength);
        }
        Ok(Self {
            key,
            kid: kid.map(str::to_owned),
        })
    }
}

impl PublicKey {
    /// Reads the key of a public JWK, like [`Jwk::from_json`].
    ///
    /// # Errors
    /// Any [`JwkError`].
    pub fn from_json(text: &str) -> Result<Self, JwkError> {
        Jwk::from_json(text).map(|jwk| jwk.key)
    }

    /// A P-256 key from its uncompressed SEC 1 point: 4, x, y; 65 bytes [SEC 1 §2.3.3].
    ///
    /// # Errors
    /// [`JwkError::Coordinate`] for another form, [`JwkError::NotOnCurve`].
    pub fn from_p256_point(point: &[u8]) -> Result<Self, JwkError> {
        let point: [u8; 65] = point.try_into().map_err(|_| JwkError::Coordinate)?;
        let (x, y) = coordinates(&point);
        if point.first() != Some(&4) {
            return Err(JwkError::Coordinate);
        }
        if !p256_point::is_on_curve(&x, &y) {
            return Err(JwkError::NotOnCurve);
        }
        Ok(Self(Kind::P256(point)))
    }

    /// An Ed25519 key from its 32 bytes [RFC 8032 §5.1.5].
    ///
    /// # Errors
    /// [`JwkError::Coordinate`] for another length, [`JwkError::WeakPoint`].
    pub fn from_ed25519_bytes(bytes: &[u8]) -> Result<Self, JwkError> {
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| JwkError::Coordinate)?;
        if is_weak_ed25519(&bytes) {
            return Err(JwkError::WeakPoint);
        }
        Ok(Self(Kind::Ed25519(bytes)))
    }

    /// The key's bytes: an uncompressed SEC 1 point of 65 bytes for P-256, 32 bytes for Ed25519.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Kind::P256(point) => point,
            Kind::Ed25519(bytes) => bytes,
        }
    }

    /// The one algorithm that this key verifies.
    pub fn alg(&self) -> Alg {
        match self.0 {
            Kind::P256(_) => Alg::Es256,
            Kind::Ed25519(_) => Alg::EdDsa,
        }
    }

    /// The JWK with its required members only, in the order of RFC 7638 §3.
    pub fn to_json(&self) -> String {
        self.required_members().finish()
    }

    /// The JWK as it stands in a JWK Set: with `kid`, `use` and `alg` [RFC 7517 §5].
    pub fn to_json_with_kid(&self, kid: &str) -> String {
        self.required_members()
            .string("kid", kid)
            .string("use", "sig")
            .string("alg", self.alg().name())
            .finish()
    }

    /// The thumbprint [RFC 7638 §3.1, RFC 8037 §2]: the SHA-256 of [`to_json`](Self::to_json), whose text is not made for
    /// it.
    pub fn thumbprint(&self) -> Thumbprint {
        let hash = match &self.0 {
            Kind::P256(point) => {
                let (x, y) = coordinates(point);
                sha256([
                    br#"{"crv":"P-256","kty":"EC","x":""#,
                    &base64url::encode_32(&x),
                    br#"","y":""#,
                    &base64url::encode_32(&y),
                    br#""}"#,
                ])
            }
            Kind::Ed25519(bytes) => sha256([
                br#"{"crv":"Ed25519","kty":"OKP","x":""#,
                &base64url::encode_32(bytes),
                br#""}"#,
                b"",
                b"",
            ]),
        };
        Thumbprint::from_bytes(hash)
    }

    /// Whether `signature` over `message` is this key's: `r || s` of 64 bytes for P-256 [RFC 7518
    /// §3.4], 64 bytes for Ed25519.
    pub(crate) fn accepts(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn signature::VerificationAlgorithm = match self.0 {
            Kind::P256(_) => &signature::ECDSA_P256_SHA256_FIXED,
            Kind::Ed25519(_) => &signature::ED25519,
        };
        signature::UnparsedPublicKey::new(algorithm, self.as_bytes())
            .verify(message, signature)
            .is_ok()
    }

    fn required_members(&self) -> ObjectWriter {
        let empty = ObjectWriter::with_capacity(192);
        match &self.0 {
            Kind::P256(point) => {
                let (x, y) = coordinates(point);
                empty
                    .string("crv", "P-256")
                    .string("kty", "EC")
                    .string("x", &base64url::encode(&x))
                    .string("y", &base64url::encode(&y))
            }
            Kind::Ed25519(bytes) => empty
                .string("crv", "Ed25519")
                .string("kty", "OKP")
                .string("x", &base64url::encode(bytes)),
        }
    }
}

fn coordinates(point: &[u8; 65]) -> ([u8; 32], [u8; 32]) {
    let mut halves = point
        .get(1..)
        .unwrap_or_default()
        .chunks_exact(32)
        .map(|half| half.try_into().unwrap_or([0; 32]));
    (
        halves.next().unwrap_or([0; 32]),
        halves.next().unwrap_or([0; 32]),
    )
}

fn public_key(members: &Object<'_>) -> Result<PublicKey, JwkError> {
    if PRIVATE_MEMBERS
        .iter()
        .any(|name| members.member(name).is_some())
    {
        return Err(JwkError::PrivateMember);
    }
    if members.member("n").is_some() || members.member("e").is_some() {
        return Err(match members.str("kty")? {
            "EC" | "OKP" => JwkError::MixedKeyTypes,
            _ => JwkError::UnsupportedKty,
        });
    }
    let key = match members.str("kty")? {
        "EC" => {
            require_curve(members, "P-256")?;
            let x = coordinate(members, "x")?;
            let y = coordinate(members, "y")?;
            let mut point = [4; 65];
            for (to, from) in point.iter_mut().skip(1).zip(x.iter().chain(&y)) {
                *to = *from;
            }
            PublicKey::from_p256_point(&point)?
        }
        "OKP" => {
            require_curve(members, "Ed25519")?;
            if members.member("y").is_some() {
                return Err(JwkError::MixedKeyTypes);
            }
            PublicKey::from_ed25519_bytes(&coordinate(members, "x")?)?
        }
        _ => return Err(JwkError::UnsupportedKty),
    };
    require_verification(members, key.alg())?;
    Ok(key)
}

fn require_curve(members: &Object<'_>, curve: &str) -> Result<(), JwkError> {
    if members.str("crv")? == curve {
        Ok(())
    } else {
        Err(JwkError::UnsupportedCrv)
    }
}

fn coordinate(members: &Object<'_>, name: &'static str) -> Result<[u8; 32], JwkError> {
    base64url::decode_array(members.str(name)?).map_err(|_| JwkError::Coordinate)
}

/// `use`, `key_ops` and `alg`, where present, must allow what we do [RFC 7517 §4.2-4.4].
fn require_verification(members: &Object<'_>, alg: Alg) -> Result<(), JwkError> {
    require_usage(members)?;
    match members.optional_str("alg")? {
        Some(name) if Alg::from_name(name) != Some(alg) => Err(JwkError::AlgMismatch),
        Some(_) | None => Ok(()),
    }
}

/// `use` and `key_ops`, where present, must allow to verify [RFC 7517 §4.2, §4.3].
pub(crate) fn require_usage(members: &Object<'_>) -> Result<(), JwkError> {
    if members
        .optional_str("use")?
        .is_some_and(|usage| usage != "sig")
    {
        return Err(JwkError::UseNotSig);
    }
    match members.member("key_ops") {
        None => {}
        Some(Value::Array(text)) => {
            let operations = json::elements(text)?;
            if operations
                .iter()
                .any(|operation| operation.as_str().is_none())
            {
                return Err(JsonError::WrongType("key_ops").into());
            }
            if !operations
                .iter()
                .any(|operation| operation.as_str() == Some("verify"))
            {
                return Err(JwkError::KeyOpsWithoutVerify);
            }
        }
        Some(
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_),
        ) => {
            return Err(JsonError::WrongType("key_ops").into());
        }
    }
    Ok(())
}

fn sha256(parts: [&[u8]; 5]) -> [u8; 32] {
    let mut hash = digest::Context::new(&digest::SHA256);
    parts.into_iter().for_each(|part| hash.update(part));
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(hash.finish().as_ref()) {
        *to = *from;
    }
    bytes
}

/// y = 0 has order four.
const Y_ZERO: [u8; 32] = [0; 32];
/// y = 1 is the neutral element.
const Y_ONE: [u8; 32] = {
    let mut y = [0; 32];
    y[0] = 1;
    y
};
/// y = -1 has order two.
const Y_MINUS_ONE: [u8; 32] = {
    let mut y = [0xff; 32];
    y[0] = 0xec;
    y[31] = 0x7f;
    y
};
/// The two y of the points of order eight.
const Y_ORDER_EIGHT: [[u8; 32]; 2] = [
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
];

/// Whether an Ed25519 key is of small order (anyone can make signatures that verify under it) or its y
/// is not below 2^255 - 19 (a second text for one key, so a second thumbprint). [RFC 8032 §5.1.3, §5.1.7]
fn is_weak_ed25519(bytes: &[u8; 32]) -> bool {
    let mut y = *bytes;
    if let Some(last) = y.last_mut() {
        // The highest bit is the sign of x.
        *last &= 0x7f;
    }
    // Little-endian; p - 1 is the greatest canonical y and is itself of small order.
    y.iter().rev().ge(Y_MINUS_ONE.iter().rev())
        || y == Y_ZERO
        || y == Y_ONE
        || Y_ORDER_EIGHT.contains(&y)
}

#[cfg(test)]
mod tests;
