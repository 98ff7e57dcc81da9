//! Requests and answers as they travel: JSON objects.

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Serialize};

use super::answer::{Answer, AnswerError};
use super::request::{MAX_REQUEST_BYTES, Request, RequestError};
use crate::evidence::{Evidence, MAX_SAVED_EVIDENCE_BYTES, SavedEvidenceError};
use crate::manifest::{MAX_MANIFEST_BYTES, MAX_SIGNATURE_BYTES};
use crate::nonces::Nonce;

/// The name and version of the form.
const FORMAT: &str = "tokenkeep/keyholder/v1";

/// The most a call may have: evidence, manifest and signature, with the escapes that JSON puts before quotes and line
/// ends.
pub const MAX_CALL_BYTES: usize =
    2 * (MAX_SAVED_EVIDENCE_BYTES + MAX_MANIFEST_BYTES + MAX_SIGNATURE_BYTES + MAX_REQUEST_BYTES);

/// The most an answer may have.
pub const MAX_ANSWER_BYTES: usize = 4 * 1024;

/// A request with all that a keyholder judges it by. Nothing here is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The keyholder's nonce.
    pub nonce: Nonce,
    /// What is asked.
    pub request: Request,
    /// The evidence, which binds nonce and request.
    pub evidence: Evidence,
    /// The manifest that the enclave runs under.
    pub manifest: String,
    /// Its signature file.
    pub manifest_signature: String,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WireAnswer {
    /// A nonce to ask with.
    Nonce(Nonce),
    /// The answer to a call.
    Answer(Answer),
    /// A refusal: its stable reason, and what it means in words.
    Refused {
        /// Upper-case words with underscores, at most 64.
        reason: String,
        /// For people, at most 512 characters.
        message: String,
    },
}

/// Why bytes are no call or answer.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Too many bytes.
    #[error("{found_bytes} bytes, at most {max_bytes} are read")]
    TooLarge {
        /// How many.
        found_bytes: usize,
        /// How many may be.
        max_bytes: usize,
    },
    /// It is not JSON of this form.
    #[error("it is not of the form {FORMAT}")]
    Form,
    /// It is of another form or version.
    #[error("the format is {found:?}, this program reads {FORMAT:?}")]
    Format {
        /// The stated format.
        found: String,
    },
    /// A field is not what it should be.
    #[error("the field {field} is not what it should be")]
    Field {
        /// Which.
        field: &'static str,
    },
    /// The evidence cannot be read.
    #[error("the evidence cannot be read: {0}")]
    Evidence(#[from] SavedEvidenceError),
    /// The request cannot be read.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The answer cannot be read.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireCall {
    format: String,
    nonce: String,
    request: String,
    evidence: String,
    manifest: String,
    manifest_signature: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Back {
    format: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nonce: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

fn bounded(bytes: &[u8], max_bytes: usize) -> Result<(), WireError> {
    let found_bytes = bytes.len();
    if found_bytes > max_bytes {
        return Err(WireError::TooLarge {
            found_bytes,
            max_bytes,
        });
    }
    Ok(())
}

fn format(found: String) -> Result<(), WireError> {
    if found == FORMAT {
        Ok(())
    } else {
        Err(WireError::Format { found })
    }
}

fn nonce(text: &str) -> Result<Nonce, WireError> {
    let mut nonce = [0; 32];
    hex::decode_to_slice(text, &mut nonce).map_err(|_| WireError::Field { field: "nonce" })?;
    Ok(nonce)
}

impl Call {
    /// The JSON.
    ///
    /// # Errors
    /// [`WireError::Evidence`], which no evidence of this program causes.
    pub fn to_json(&self) -> Result<String, WireError> {
        let Self {
            nonce,
            request,
            evidence,
            manifest,
            manifest_signature,
        } = self;
        let call = WireCall {
            format: FORMAT.to_owned(),
            nonce: hex::encode(nonce),
            request: Base64UrlUnpadded::encode_string(&request.encode()),
            evidence: evidence.to_json()?,
            manifest: manifest.clone(),
            manifest_signature: manifest_signature.clone(),
        };
        serde_json::to_string(&call).map_err(|_| WireError::Form)
    }

    /// Reads the JSON.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, WireError> {
        bounded(bytes, MAX_CALL_BYTES)?;
        let WireCall {
            format: found,
            nonce: nonce_hex,
            request,
            evidence,
            manifest,
            manifest_signature,
        } = serde_json::from_slice(bytes).map_err(|_| WireError::Form)?;
        format(found)?;
        let nonce = nonce(&nonce_hex)?;
        let request = Base64UrlUnpadded::decode_vec(&request)
            .map_err(|_| WireError::Field { field: "request" })?;
        let request = Request::decode(&request)?;
        bounded(manifest.as_bytes(), MAX_MANIFEST_BYTES)?;
        bounded(manifest_signature.as_bytes(), MAX_SIGNATURE_BYTES)?;
        Ok(Self {
            nonce,
            request,
            evidence: Evidence::from_json(evidence.as_bytes())?,
            manifest,
            manifest_signature,
        })
    }
}

impl WireAnswer {
    /// The JSON.
    ///
    /// # Errors
    /// [`WireError::Form`], which no value causes.
    pub fn to_json(&self) -> Result<String, WireError> {
        let mut back = Back {
            format: FORMAT.to_owned(),
            nonce: None,
            answer: None,
            refused: None,
            message: None,
        };
        match self {
            Self::Nonce(nonce) => back.nonce = Some(hex::encode(nonce)),
            Self::Answer(answer) => {
                back.answer = Some(Base64UrlUnpadded::encode_string(&answer.encode()));
            }
            Self::Refused { reason, message } => {
                back.refused = Some(reason.clone());
                back.message = Some(message.clone());
            }
        }
        serde_json::to_string(&back).map_err(|_| WireError::Form)
    }

    /// Reads the JSON.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, WireError> {
        bounded(bytes, MAX_ANSWER_BYTES)?;
        let Back {
            format: found,
            nonce: nonce_hex,
            answer,
            refused,
            message,
        } = serde_json::from_slice(bytes).map_err(|_| WireError::Form)?;
        format(found)?;
        match (nonce_hex, answer, refused, message) {
            (Some(text), None, None, None) => Ok(Self::Nonce(nonce(&text)?)),
            (None, Some(answer), None, None) => {
                let answer = Base64UrlUnpadded::decode_vec(&answer)
                    .map_err(|_| WireError::Field { field: "answer" })?;
                Ok(Self::Answer(Answer::decode(&answer)?))
            }
            (None, None, Some(reason), Some(message)) => {
                let words = |c: u8| c.is_ascii_uppercase() || c == b'_';
                if reason.is_empty() || reason.len() > 64 || !reason.bytes().all(words) {
                    return Err(WireError::Field { field: "refused" });
                }
                if message.len() > 512 || message.chars().any(char::is_control) {
                    return Err(WireError::Field { field: "message" });
                }
                Ok(Self::Refused { reason, message })
            }
            _ => Err(WireError::Form),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Endorsements;
    use crate::keyholder::Operation;

    fn call() -> Call {
        Call {
            nonce: [6; 32],
            request: Request {
                operation: Operation::Enrol,
                keyholder: [1; 32],
                issuer: "https://tokens.example".to_owned(),
                state: [2; 16],
                share: [3; 16],
                recipient: [4; 32],
                manifest: [5; 32],
            },
            evidence: Evidence::snp(vec![1, 2, 3], Endorsements::default()),
            manifest: "sequence = 1\n".to_owned(),
            manifest_signature: "{\"alg\":\"ES256\"}".to_owned(),
        }
    }

    #[test]
    fn calls_and_answers_come_back_as_they_were() {
        let json = call().to_json().unwrap();
        assert_eq!(Call::from_json(json.as_bytes()).unwrap(), call());
        let refused = WireAnswer::Refused {
            reason: "UNKNOWN_SHARE".to_owned(),
            message: "there is no such share".to_owned(),
        };
        let answer = Answer::decode(&[7; 64 + 32 + 48]).unwrap();
        for back in [
            WireAnswer::Nonce([9; 32]),
            refused,
            WireAnswer::Answer(answer),
        ] {
            let json = back.to_json().unwrap();
            assert_eq!(WireAnswer::from_json(json.as_bytes()).unwrap(), back);
        }
    }

    #[test]
    fn each_fault_of_a_call_or_answer_is_named() {
        let json = call().to_json().unwrap();
        let nonce = hex::encode([6; 32]);
        let rows = [
            (
                json.replace("keyholder/v1\"", "keyholder/v2\""),
                "the format is \"tokenkeep/keyholder/v2\", this program reads \"tokenkeep/keyholder/v1\"",
            ),
            (
                json.replace(&nonce, "06"),
                "the field nonce is not what it should be",
            ),
            (
                json.replace("\"request\":\"", "\"request\":\"*"),
                "the field request is not what it should be",
            ),
            (
                json.replace("evidence/v1", "evidence/v2"),
                "the evidence cannot be read: the format is \"tokenkeep/evidence/v2\", this program reads \"tokenkeep/evidence/v1\"",
            ),
            (
                json.replacen('{', "{\"more\":1,", 1),
                "it is not of the form tokenkeep/keyholder/v1",
            ),
            (
                json.replace("sequence = 1", &"x".repeat(MAX_MANIFEST_BYTES)),
                "262145 bytes, at most 262144 are read",
            ),
        ];
        for (text, expected) in rows {
            let error = Call::from_json(text.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        let back = |rest: &str| format!("{{\"format\":\"tokenkeep/keyholder/v1\",{rest}}}");
        let rows = [
            (
                back("\"nonce\":\"zz\""),
                "the field nonce is not what it should be",
            ),
            (
                back("\"answer\":\"*\""),
                "the field answer is not what it should be",
            ),
            (
                back("\"answer\":\"AAAA\""),
                "the answer is of the wrong length",
            ),
            (
                back("\"refused\":\"low\",\"message\":\"\""),
                "the field refused is not what it should be",
            ),
            (
                back("\"refused\":\"BAD\",\"message\":\"\\u001b[2J\""),
                "the field message is not what it should be",
            ),
            (
                back("\"refused\":\"BAD\""),
                "it is not of the form tokenkeep/keyholder/v1",
            ),
            (
                " ".repeat(MAX_ANSWER_BYTES + 1),
                "4097 bytes, at most 4096 are read",
            ),
        ];
        for (text, expected) in rows {
            let error = WireAnswer::from_json(text.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
