//! Evidence as it travels: a report and its endorsements, unverified; and its form as a saved file.

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// The most a saved evidence file may have.
pub const MAX_SAVED_EVIDENCE_BYTES: usize = 256 * 1024;

/// The name and version of the saved form.
const SAVED_FORMAT: &str = "tokenkeep/evidence/v1";

/// The kind of hardware that made the evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    /// AMD SEV-SNP.
    Snp,
    /// Intel TDX.
    Tdx,
}

impl Platform {
    /// The name used in reports and files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Snp => "snp",
            Self::Tdx => "tdx",
        }
    }
}

/// What an attester hands out. Nothing here has been verified: see [`crate::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The kind of hardware.
    pub platform: Platform,
    /// The raw attestation report: for SEV-SNP 1184 bytes [AMD 56860, table "ATTESTATION_REPORT"], for TDX the quote.
    pub report: Vec<u8>,
    /// The certificates that came with a SEV-SNP report. A TDX quote carries its own.
    pub endorsements: Endorsements,
    /// Intel's statements about the platform of a TDX quote, one JSON object: TCB info and QE identity with their
    /// signatures and chains, the revocation lists of PCK and root certificates.
    pub collateral: Option<Vec<u8>>,
}

/// Certificates for SEV-SNP evidence, each DER.
///
/// A verifier needs the VEK. It takes AMD's ASK and ASVK from its own root set when they are absent, and the ARK is
/// only ever compared with the pinned one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endorsements {
    /// The key that signed the report: VCEK or VLEK.
    pub vek: Option<Vec<u8>>,
    /// The AMD SEV signing key (ASK), or for a VLEK the ASVK.
    pub ask: Option<Vec<u8>>,
    /// The AMD root key.
    pub ark: Option<Vec<u8>>,
}

impl Endorsements {
    /// When the first of them expires, Unix time in seconds; `None` if there are none that can be read. Nothing here
    /// is verified: it can only shorten what hangs on it.
    #[must_use]
    pub fn expires_at_s(&self) -> Option<u64> {
        let Self { vek, ask, ark } = self;
        [vek, ask, ark]
            .into_iter()
            .flatten()
            .filter_map(|der| {
                let (_, certificate) = X509Certificate::from_der(der).ok()?;
                u64::try_from(certificate.validity().not_after.timestamp()).ok()
            })
            .min()
    }
}

/// Why a saved evidence file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SavedEvidenceError {
    /// The file is larger than [`MAX_SAVED_EVIDENCE_BYTES`].
    #[error("the file has {found_bytes} bytes, at most {MAX_SAVED_EVIDENCE_BYTES} are read")]
    TooLarge {
        /// Its size.
        found_bytes: usize,
    },
    /// It is not JSON of this form.
    #[error("the file is not saved evidence")]
    Json(#[source] serde_json::Error),
    /// It is of another form or version.
    #[error("the format is {found:?}, this program reads {SAVED_FORMAT:?}")]
    Format {
        /// The stated format.
        found: String,
    },
    /// A field is not base64.
    #[error("{field} is not base64")]
    Base64 {
        /// Which.
        field: &'static str,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    format: String,
    platform: Platform,
    report: String,
    #[serde(default)]
    endorsements: SavedEndorsements,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    collateral: Option<String>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedEndorsements {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vek: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ask: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ark: Option<String>,
}

impl Evidence {
    /// SEV-SNP evidence.
    #[must_use]
    pub const fn snp(report: Vec<u8>, endorsements: Endorsements) -> Self {
        Self {
            platform: Platform::Snp,
            report,
            endorsements,
            collateral: None,
        }
    }

    /// TDX evidence: a quote and its collateral, JSON.
    #[must_use]
    pub const fn tdx(quote: Vec<u8>, collateral: Option<Vec<u8>>) -> Self {
        Self {
            platform: Platform::Tdx,
            report: quote,
            endorsements: Endorsements {
                vek: None,
                ask: None,
                ark: None,
            },
            collateral,
        }
    }

    /// The saved form: one JSON object, binary parts in base64.
    ///
    /// # Errors
    /// [`SavedEvidenceError::Json`] if serialisation fails, which no value of this type causes.
    pub fn to_json(&self) -> Result<String, SavedEvidenceError> {
        let Self {
            platform,
            report,
            endorsements: Endorsements { vek, ask, ark },
            collateral,
        } = self;
        let encode = |der: &Option<Vec<u8>>| der.as_deref().map(Base64::encode_string);
        let saved = Saved {
            format: SAVED_FORMAT.to_owned(),
            platform: *platform,
            report: Base64::encode_string(report),
            endorsements: SavedEndorsements {
                vek: encode(vek),
                ask: encode(ask),
                ark: encode(ark),
            },
            collateral: encode(collateral),
        };
        serde_json::to_string_pretty(&saved).map_err(SavedEvidenceError::Json)
    }

    /// Reads the saved form.
    ///
    /// # Errors
    /// [`SavedEvidenceError`], by what is wrong with the file.
    pub fn from_json(file: &[u8]) -> Result<Self, SavedEvidenceError> {
        if file.len() > MAX_SAVED_EVIDENCE_BYTES {
            return Err(SavedEvidenceError::TooLarge {
                found_bytes: file.len(),
            });
        }
        let Saved {
            format,
            platform,
            report,
            endorsements,
            collateral,
        } = serde_json::from_slice(file).map_err(SavedEvidenceError::Json)?;
        if format != SAVED_FORMAT {
            return Err(SavedEvidenceError::Format { found: format });
        }
        let decode = |field: &'static str, text: &str| {
            Base64::decode_vec(text).map_err(|_| SavedEvidenceError::Base64 { field })
        };
        let optional = |field: &'static str, text: Option<String>| {
            text.map(|text| decode(field, &text)).transpose()
        };
        Ok(Self {
            platform,
            report: decode("report", &report)?,
            endorsements: Endorsements {
                vek: optional("endorsements.vek", endorsements.vek)?,
                ask: optional("endorsements.ask", endorsements.ask)?,
                ark: optional("endorsements.ark", endorsements.ark)?,
            },
            collateral: optional("collateral", collateral)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Evidence {
        Evidence::snp(
            vec![1, 2, 3],
            Endorsements {
                vek: Some(vec![4]),
                ask: None,
                ark: Some(vec![5, 6]),
            },
        )
    }

    #[test]
    fn a_saved_file_comes_back_as_it_was() {
        let json = sample().to_json().unwrap();
        assert_eq!(Evidence::from_json(json.as_bytes()).unwrap(), sample());
        let tdx = Evidence::tdx(vec![1, 2, 3], Some(b"{}".to_vec()));
        let json = tdx.to_json().unwrap();
        assert_eq!(Evidence::from_json(json.as_bytes()).unwrap(), tdx);
    }

    #[test]
    fn a_file_that_is_not_saved_evidence_is_refused_with_its_cause() {
        let good = sample().to_json().unwrap();
        let rows = [
            (
                good.replace("evidence/v1", "evidence/v2"),
                "the format is \"tokenkeep/evidence/v2\", this program reads \"tokenkeep/evidence/v1\"",
            ),
            (good.replace("AQID", "AQI*"), "report is not base64"),
            (
                good.replace("BQY=", "BQY"),
                "endorsements.ark is not base64",
            ),
            (
                good.replace("\"vek\"", "\"vcek\""),
                "the file is not saved evidence",
            ),
            (good.replace("snp", "sgx"), "the file is not saved evidence"),
            (
                " ".repeat(MAX_SAVED_EVIDENCE_BYTES + 1),
                "the file has 262145 bytes, at most 262144 are read",
            ),
        ];
        for (file, message) in rows {
            assert_eq!(
                Evidence::from_json(file.as_bytes())
                    .unwrap_err()
                    .to_string(),
                message
            );
        }
    }
}
