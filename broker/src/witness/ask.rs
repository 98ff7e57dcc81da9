//! One witness, asked to cosign a head; and what it proves if it does not.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use enclave::log::LogName;
use http::{Method, StatusCode};
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use rustls::ClientConfig;
use thiserror::Error;
use tlog::witness::AddCheckpoint;
use tlog::{
    ConsistencyProof, CosignerKey, NoteSignature, Origin, TreeHead, VerifiedCheckpoint,
    VerifiedCosignature, VerifierKey,
};
use url::Url;

use crate::exchange::{self, Bounds, NoAnswer};
use crate::log::LogReadError;
use crate::shell::Shell;

/// How often a witness is asked in one round: it may have to tell its size first.
const TRIES: usize = 3;

/// A witness of the manifest.
#[derive(Debug)]
pub struct Known {
    /// Its name in the manifest.
    pub name: String,
    /// Its submission prefix.
    pub url: Url,
    /// Its key.
    pub key: CosignerKey,
    /// What it cosigned last, as far as is known.
    pub(super) size: Mutex<u64>,
}

impl Known {
    /// A witness of which nothing is known yet.
    #[must_use]
    pub const fn new(name: String, url: Url, key: CosignerKey) -> Self {
        Self {
            name,
            url,
            key,
            size: Mutex::new(0),
        }
    }
}

/// The proof that this state is not the newest one, or not the only one: a head that the state's own log key signed,
/// that a witness cosigned, and that the state does not lead to. No other than an enclave with this state's keys can
/// have signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superseded {
    /// The witness that showed it.
    pub witness: String,
    /// What it showed.
    pub seen: TreeHead,
    /// When it cosigned that, by its own clock, Unix time in seconds.
    pub cosigned_at_s: u64,
    /// What this state has, this boot's own leaves included.
    pub ours: TreeHead,
}

impl fmt::Display for Superseded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            witness,
            seen,
            cosigned_at_s,
            ours,
        } = self;
        write!(
            f,
            "the disk was put back to an older state, or another enclave runs on a copy of it: witness {witness} cosigned at Unix time {cosigned_at_s} a control log of {} leaves with root {}, \
             signed by this state's own log key; the state here leads to {} leaves with root {} and not to that. \
             Put the newest state back; or, if it is lost, move the state away and begin with a new identity",
            seen.size, seen.root, ours.size, ours.root
        )
    }
}

impl std::error::Error for Superseded {}

/// Why a witness did not cosign.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// It proved that this state must not go on.
    #[error(transparent)]
    Superseded(Box<Superseded>),
    /// It did not answer.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// It does not know the log.
    #[error(
        "it does not know the log, or not the key that signs it now: tell it `tokenkeep witness add-log DIR '{log_key}'`"
    )]
    UnknownLog {
        /// The log's verifier key.
        log_key: String,
    },
    /// It answered with this status, and did not prove why.
    #[error("it answered {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// Its answer is no cosignature of the head by its key.
    #[error("its answer is no cosignature of this head by its key")]
    NoCosignature,
    /// Our own log could not be read.
    #[error(transparent)]
    Log(#[from] LogReadError),
}

/// A witness's word on a head, and the line that gives it to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// What was verified.
    pub cosignature: VerifiedCosignature,
    /// The line of the note.
    pub line: NoteSignature,
}

/// What is asked of all witnesses in one round.
#[derive(Debug)]
pub struct Question {
    /// The log.
    pub origin: Origin,
    /// Its keys, the current one first.
    pub log_keys: Vec<VerifierKey>,
    /// The head to be cosigned.
    pub checkpoint: VerifiedCheckpoint,
    /// How witnesses are reached by TLS.
    pub tls: Arc<ClientConfig>,
    /// How long an answer may take.
    pub deadline: Duration,
}

impl Question {
    /// Asks one witness.
    ///
    /// # Errors
    /// [`Fault`].
    pub async fn ask(&self, shell: &Shell, witness: &Known) -> Result<Cosigned, Fault> {
        let new = self.checkpoint.head().size;
        let mut last = 0;
        for _ in 0..TRIES {
            let old = (*witness.size.lock()).min(new);
            let proof = self.consistency(shell, old).await?;
            let body = AddCheckpoint::new(old, proof, &self.checkpoint).to_string();
            let post = (Method::POST, "add-checkpoint", body);
            let sent = exchange::send(&witness.url, &self.tls, self.bounds(), post).await;
            let (parts, body) = sent?.into_parts();
            let status = parts.status;
            last = status.as_u16();
            match status {
                StatusCode::OK => {
                    let cosignature = self.read(witness, &body)?;
                    *witness.size.lock() = new;
                    return Ok(cosignature);
                }
                StatusCode::CONFLICT => {
                    let size = std::str::from_utf8(&body).ok();
                    let size = size.and_then(|text| text.strip_suffix('\n')?.parse().ok());
                    let size: u64 = size.ok_or(Fault::Status { status: last })?;
                    if size > new {
                        return Err(self.proof(shell, witness, last).await);
                    }
                    *witness.size.lock() = size;
                }
                StatusCode::UNPROCESSABLE_ENTITY => {
                    return Err(self.proof(shell, witness, last).await);
                }
                // It knows no log of this name, or none of the keys that signed [C2SP tlog-witness].
                StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => {
                    let log_key = self.log_keys.first().map(ToString::to_string);
                    let log_key = log_key.unwrap_or_default();
                    return Err(Fault::UnknownLog { log_key });
                }
                _ => return Err(Fault::Status { status: last }),
            }
        }
        Err(Fault::Status { status: last })
    }

    /// An answer is a note at most.
    const fn bounds(&self) -> Bounds {
        Bounds {
            deadline: self.deadline,
            max_bytes: tlog::note::MAX_NOTE_BYTES,
        }
    }

    async fn consistency(&self, shell: &Shell, old: u64) -> Result<ConsistencyProof, Fault> {
        let new = self.checkpoint.head().size;
        Ok(shell.consistency_proof(LogName::Control, old, new).await?)
    }

    /// The witness's line of an answer; lines of others are ignored.
    fn read(&self, witness: &Known, body: &[u8]) -> Result<Cosigned, Fault> {
        let lines = std::str::from_utf8(body).map_err(|_| Fault::NoCosignature)?;
        lines
            .lines()
            .filter_map(|line| line.parse::<NoteSignature>().ok())
            .filter_map(|line| {
                let verified = self.checkpoint.verify_cosignature(&witness.key, &line);
                verified
                    .ok()
                    .map(|cosignature| Cosigned { cosignature, line })
            })
            .find(|cosigned| cosigned.cosignature.timestamp_s() > 0)
            .ok_or(Fault::NoCosignature)
    }

    /// What the witness can show for its refusal. Without proof it is one witness less, no more.
    async fn proof(&self, shell: &Shell, witness: &Known, status: u16) -> Fault {
        let unproved = Fault::Status { status };
        let hash = digest(&SHA256, self.origin.as_str().as_bytes());
        let path = format!("{}/checkpoint", hex::encode(hash.as_ref()));
        let get = (Method::GET, path.as_str(), String::new());
        let sent = exchange::send(&witness.url, &self.tls, self.bounds(), get).await;
        let note = match sent {
            Ok(answer) if answer.status() == StatusCode::OK => answer.into_body(),
            Ok(_) | Err(_) => return unproved,
        };
        let Ok(seen) = VerifiedCheckpoint::open(&note, &self.origin, &self.log_keys) else {
            return unproved;
        };
        let Ok(cosigned) = seen.cosignature(&witness.key) else {
            return unproved;
        };
        let ours = self.checkpoint.head();
        let follows = if seen.head().size > ours.size {
            false
        } else {
            match self.consistency(shell, seen.head().size).await {
                Ok(proof) => proof.verify(seen.head(), ours).is_ok(),
                Err(_) => return unproved,
            }
        };
        if follows {
            return unproved;
        }
        Fault::Superseded(Box::new(Superseded {
            witness: witness.name.clone(),
            seen: seen.head(),
            cosigned_at_s: cosigned.timestamp_s(),
            ours,
        }))
    }
}
