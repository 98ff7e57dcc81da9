//! What vouches for the platform's evidence and does not come with it: the certificate of an AMD chip's key, Intel's
//! statements about a platform. The service fetches it, keeps it current and hands it out beside its evidence, so that
//! a verifier needs no network of its own.
//!
//! None of it decides anything here. It is verified so that a broken mirror can't put rubbish in the place of what is
//! good, and because what is newer must not be replaced by what is older.

mod ask;
mod supplier;

use std::sync::Arc;

use attestation::snp::{Report, vcek_path};
use attestation::tdx::{CollateralSummary, PcsError, PlatformModel, StatementError};
use attestation::{AttesterError, Evidence, Platform};
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use thiserror::Error;
use tokio::sync::Notify;

use crate::exchange::NoAnswer;
use crate::files::FileError;

pub use supplier::Supplier;

/// Why nothing new is there.
#[derive(Debug, Error)]
pub enum SupplyFault {
    /// The platform gave no evidence to ask about.
    #[error("the platform gave no evidence")]
    Platform(#[source] AttesterError),
    /// A service did not answer.
    #[error("{host}: {source}")]
    NoAnswer {
        /// Who was asked.
        host: String,
        /// What happened.
        source: NoAnswer,
    },
    /// A service answered with another status than 200.
    #[error("{host} answered {status}")]
    Status {
        /// Who was asked.
        host: String,
        /// The status.
        status: u16,
    },
    /// Answers make no statements.
    #[error(transparent)]
    Answer(#[from] PcsError),
    /// Statements that Intel did not sign, or older ones than are known.
    #[error(transparent)]
    Statements(#[from] StatementError),
    /// Statements about another model.
    #[error("the statements are about another model")]
    Model,
    /// A certificate that does not vouch for this platform's reports.
    #[error("the certificate does not vouch for the platform's reports")]
    Certificate,
    /// A file can't be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file can't be written.
    #[error("{name} can't be written: {kind}")]
    Write {
        /// Which.
        name: String,
        /// Why.
        kind: std::io::ErrorKind,
    },
}

/// What evidence lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lack {
    /// The certificate at this path of AMD's service.
    Vcek(String),
    /// Statements about this model.
    Statements(PlatformModel),
}

impl Lack {
    /// What evidence lacks as it comes from the platform; none if it is complete, or nobody could tell.
    fn of(evidence: &Evidence) -> Option<Self> {
        match evidence.platform {
            Platform::Snp if evidence.endorsements.vek.is_none() => {
                let report = Report::parse(&evidence.report).ok()?;
                vcek_path(&report).map(Self::Vcek)
            }
            Platform::Tdx if evidence.collateral.is_none() => {
                PlatformModel::of_quote(&evidence.report).map(Self::Statements)
            }
            Platform::Snp | Platform::Tdx => None,
        }
    }

    /// The name of the file that holds it.
    fn file(&self) -> String {
        match self {
            Self::Vcek(path) => {
                let name = hex::encode(digest(&SHA256, path.as_bytes()));
                format!("vcek-{}.der", name.get(..16).unwrap_or(&name))
            }
            Self::Statements(model) => format!("intel-{}.json", model.name()),
        }
    }

    const fn what(&self) -> &'static str {
        match self {
            Self::Vcek(_) => "vcek",
            Self::Statements(_) => "statements",
        }
    }
}

/// What is there, verified.
#[derive(Clone, Debug)]
struct Held {
    lack: Lack,
    bytes: Vec<u8>,
    /// Of statements.
    summary: Option<CollateralSummary>,
    expires_at_s: u64,
}

#[derive(Debug, Default)]
struct Shelf {
    held: Mutex<Option<Held>>,
    /// Evidence went out without what it lacks.
    wanted: Notify,
}

/// What is there to be handed out.
#[derive(Clone, Debug, Default)]
pub struct Supply(Arc<Shelf>);

impl Supply {
    /// Evidence with what it lacks, if that is there.
    pub fn endorsed(&self, mut evidence: Evidence) -> Evidence {
        let Some(lack) = Lack::of(&evidence) else {
            return evidence;
        };
        let bytes = {
            let held = self.0.held.lock();
            held.as_ref()
                .filter(|held| held.lack == lack)
                .map(|held| held.bytes.clone())
        };
        match (bytes, lack) {
            (Some(vcek), Lack::Vcek(_)) => evidence.endorsements.vek = Some(vcek),
            (Some(json), Lack::Statements(_)) => evidence.collateral = Some(json),
            // The platform's TCB has changed, or nothing was fetched yet.
            (None, _) => self.0.wanted.notify_one(),
        }
        evidence
    }

    /// When what is there ends, Unix time in seconds; none if there is nothing.
    #[must_use]
    pub fn expires_at_s(&self) -> Option<u64> {
        self.held().map(|held| held.expires_at_s)
    }

    fn held(&self) -> Option<Held> {
        self.0.held.lock().clone()
    }

    fn put(&self, held: Held) {
        *self.0.held.lock() = Some(held);
    }

    /// Until evidence goes out without what it lacks.
    async fn wanted(&self) {
        self.0.wanted.notified().await;
    }
}

#[cfg(test)]
mod tests;
