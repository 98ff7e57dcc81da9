//! A TDX quote: header, body and signature data, split within bounds, and the one encoding that is allowed.

use super::body::{BodyKind, Reader, TdBody};
use crate::canonical::sha256;

/// The most a quote may have; those of today's clouds have 4,936 to 8,000 bytes.
pub const MAX_QUOTE_BYTES: usize = 16 * 1024;
/// The TEE type of TDX; that of SGX is zero.
pub(super) const TEE_TDX: u32 = 0x81;
/// ECDSA with P-256 and SHA-256.
const ECDSA_P256: u16 = 2;
/// Outer certification data: the QE's report and what certifies it.
const QE_REPORT_CERTIFICATION: u16 = 6;
/// Inner certification data: the PCK chain in PEM.
const PCK_CHAIN: u16 = 5;

/// Why bytes are no TDX quote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuoteProblem {
    /// Larger than [`MAX_QUOTE_BYTES`].
    #[error("the quote has {found_bytes} bytes, at most {MAX_QUOTE_BYTES} are read")]
    TooLarge {
        /// Its size.
        found_bytes: usize,
    },
    /// A part of it ends before its stated length.
    #[error("the quote ends within its {part}")]
    Truncated {
        /// Which part.
        part: &'static str,
    },
    /// It is of another TEE: an SGX quote says nothing about a TD.
    #[error("TEE type {found:#x} is not TDX")]
    TeeType {
        /// The number in the quote.
        found: u32,
    },
    /// Neither version 4 nor 5.
    #[error("quote version {found} is unknown")]
    Version {
        /// The number in the quote.
        found: u16,
    },
    /// The attestation key is not of ECDSA P-256.
    #[error("attestation key type {found} is not ECDSA P-256")]
    AttestationKeyType {
        /// The number in the quote.
        found: u16,
    },
    /// The body is none of TDX.
    #[error("body type {found} is unknown")]
    BodyType {
        /// The number in the quote.
        found: u16,
    },
    /// The stated size is not that of the body type.
    #[error("the body is said to have {found_bytes} bytes")]
    BodySize {
        /// The stated size.
        found_bytes: u32,
    },
}

/// Why a quote has not the one encoding that its signed content allows. All of it lies outside the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodingProblem {
    /// The outer certification data are not a QE report's (type 6).
    #[error("the outer certification data are of type {found}, not 6")]
    OuterCertification {
        /// The number in the quote.
        found: u16,
    },
    /// The inner certification data are not a PCK chain (type 5).
    #[error("the inner certification data are of type {found}, not 5")]
    InnerCertification {
        /// The number in the quote.
        found: u16,
    },
    /// A length covers more than what it holds.
    #[error("{part} has {excess_bytes} bytes too many")]
    Length {
        /// Which part.
        part: &'static str,
        /// How many bytes nothing accounts for.
        excess_bytes: usize,
    },
    /// Bytes after the signature data are not zero.
    #[error("the padding after the signature data is not zero")]
    Padding,
}

/// A quote, split; nothing about it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    raw: Vec<u8>,
    signed_bytes: usize,
    version: u16,
    kind: BodyKind,
    body: TdBody,
    encoding: Vec<EncodingProblem>,
}

impl Quote {
    /// Splits a quote.
    ///
    /// # Errors
    /// [`QuoteProblem`], the first one.
    pub fn parse(raw: &[u8]) -> Result<Self, QuoteProblem> {
        if raw.len() > MAX_QUOTE_BYTES {
            return Err(QuoteProblem::TooLarge {
                found_bytes: raw.len(),
            });
        }
        let mut from = Reader(raw);
        let (version, kind, body) = signed_part(&mut from)?;
        let signed_bytes = raw.len().saturating_sub(from.0.len());
        let mut encoding = signature_data(&mut from)?;
        if from.0.iter().any(|byte| *byte != 0) {
            encoding.push(EncodingProblem::Padding);
        }
        Ok(Self {
            raw: raw.to_vec(),
            signed_bytes,
            version,
            kind,
            body,
            encoding,
        })
    }

    /// All bytes, as they came.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Header and body: what the attestation key signed.
    #[must_use]
    pub fn signed_body(&self) -> &[u8] {
        self.raw.get(..self.signed_bytes).unwrap_or(&[])
    }

    /// The canonical name of this evidence: SHA-256 of the signed bytes. Signatures, certificates and padding may
    /// be written in other ways, so nothing else may be the key of a replay cache or an audit record.
    #[must_use]
    pub fn evidence_id(&self) -> [u8; 32] {
        sha256(self.signed_body())
    }

    /// The version of the format, 4 or 5.
    #[must_use]
    pub const fn version(&self) -> u16 {
        self.version
    }

    /// The kind of body.
    #[must_use]
    pub const fn body_kind(&self) -> BodyKind {
        self.kind
    }

    /// What is not in the one allowed encoding.
    pub(crate) fn encoding_problems(&self) -> &[EncodingProblem] {
        &self.encoding
    }

    pub(crate) const fn body(&self) -> &TdBody {
        &self.body
    }
}

/// Header and body.
fn signed_part(from: &mut Reader<'_>) -> Result<(u16, BodyKind, TdBody), QuoteProblem> {
    let header = QuoteProblem::Truncated { part: "header" };
    let (Some(version), Some(key_type), Some(tee_type), Some(_)) =
        // QE SVN, PCE SVN, QE vendor id, user data.
        (from.u16(), from.u16(), from.u32(), from.bytes(2 + 2 + 16 + 20))
    else {
        return Err(header);
    };
    // The TEE before the version: an SGX quote has versions of its own.
    if tee_type != TEE_TDX {
        return Err(QuoteProblem::TeeType { found: tee_type });
    }
    let kind = match version {
        4 => BodyKind::Td10,
        5 => {
            let (Some(number), Some(found_bytes)) = (from.u16(), from.u32()) else {
                return Err(QuoteProblem::Truncated { part: "body" });
            };
            let kind = BodyKind::of_type(number).ok_or(QuoteProblem::BodyType { found: number })?;
            if usize::try_from(found_bytes) != Ok(kind.bytes()) {
                return Err(QuoteProblem::BodySize { found_bytes });
            }
            kind
        }
        found => return Err(QuoteProblem::Version { found }),
    };
    if key_type != ECDSA_P256 {
        return Err(QuoteProblem::AttestationKeyType { found: key_type });
    }
    let body = from
        .bytes(kind.bytes())
        .and_then(|bytes| TdBody::read(kind, bytes))
        .ok_or(QuoteProblem::Truncated { part: "body" })?;
    Ok((version, kind, body))
}

/// Signature, attestation key and certification data: every length must fit exactly what is in it.
fn signature_data(from: &mut Reader<'_>) -> Result<Vec<EncodingProblem>, QuoteProblem> {
    let truncated = |part| QuoteProblem::Truncated { part };
    let mut problems = Vec::new();
    let excess = |problems: &mut Vec<EncodingProblem>, part, rest: Reader<'_>| {
        if !rest.0.is_empty() {
            problems.push(EncodingProblem::Length {
                part,
                excess_bytes: rest.0.len(),
            });
        }
    };
    let sized = |from: &mut Reader<'_>, length: Option<u32>| -> Option<Vec<u8>> {
        let length = usize::try_from(length?).ok()?;
        from.bytes(length).map(<[u8]>::to_vec)
    };

    let part = "signature data";
    let length = from.u32();
    let signature_data = sized(from, length).ok_or(truncated(part))?;
    let mut inside = Reader(&signature_data);
    // Signature and attestation key.
    inside.bytes(64 + 64).ok_or(truncated(part))?;
    let outer = inside.u16().ok_or(truncated(part))?;
    if outer != QE_REPORT_CERTIFICATION {
        problems.push(EncodingProblem::OuterCertification { found: outer });
    }
    let length = inside.u32();
    let certification = sized(&mut inside, length).ok_or(truncated("certification data"))?;
    excess(&mut problems, part, inside);

    let part = "certification data";
    let mut inside = Reader(&certification);
    // The QE's report and its signature.
    inside.bytes(384 + 64).ok_or(truncated(part))?;
    let length = inside.u16().map(u32::from);
    sized(&mut inside, length).ok_or(truncated("QE authentication data"))?;
    let inner = inside.u16().ok_or(truncated(part))?;
    if inner != PCK_CHAIN {
        problems.push(EncodingProblem::InnerCertification { found: inner });
    }
    let length = inside.u32();
    sized(&mut inside, length).ok_or(truncated("PCK chain"))?;
    excess(&mut problems, part, inside);
    Ok(problems)
}
