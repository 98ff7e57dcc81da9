//! Collateral: AMD's revocation lists and Intel's statements about platforms, fetched and kept with a floor.
//!
//! Both are signed by the manufacturer's root, so it does not matter who hands them out: a mirror may be asked in
//! clear. What matters is that what is newer is not replaced by what is older; the store refuses that.

mod ask;
mod fetch;
mod store;

use std::path::PathBuf;

use attestation::RevocationError;
use attestation::snp::Line;
use attestation::tdx::{PcsError, StatementError};

pub use attestation::snp::AMD_KDS;
pub use attestation::tdx::{INTEL_PCS, INTEL_ROOT_CRL};
pub use fetch::{fetch, fetch_statements};
pub use store::{MAX_MODELS, Store};

use crate::private_file::FileError;

/// Why collateral was not fetched or not kept.
#[derive(Debug, thiserror::Error)]
pub enum CollateralError {
    /// No `http` or `https` URL with a host.
    #[error("{url:?} is no http or https URL")]
    Url {
        /// What was given.
        url: String,
    },
    /// No connection, or it broke.
    #[error("{host} was not reached: {why}")]
    Unreached {
        /// Who was asked.
        host: String,
        /// What happened.
        why: String,
    },
    /// Nothing within the deadline.
    #[error("{host} did not answer in time")]
    Timeout {
        /// Who was asked.
        host: String,
    },
    /// Too many requests.
    #[error("{host} has had too many requests")]
    Busy {
        /// Who was asked.
        host: String,
        /// When to come back, seconds, if it says so.
        retry_after_s: Option<u64>,
    },
    /// Another answer than what was asked for.
    #[error("{host} answers with status {status}")]
    Status {
        /// Who was asked.
        host: String,
        /// The status.
        status: u16,
    },
    /// Not a list that a pinned root signed, or one older than that in the store.
    #[error("the list is refused")]
    List(#[from] RevocationError),
    /// A list of another line than asked for.
    #[error("the list is of {found}, not of {expected}")]
    Line {
        /// What was asked for.
        expected: Line,
        /// Whose root signed it.
        found: Line,
    },
    /// Statements that no pinned root signed, or older than those in the store.
    #[error("the statements are refused")]
    Statements(#[from] StatementError),
    /// Answers of Intel's service that make no collateral.
    #[error("{host} answers with something else than statements")]
    Answer {
        /// Who was asked.
        host: String,
        /// What is wrong.
        #[source]
        source: PcsError,
    },
    /// Statements of another model than asked for.
    #[error("the statements are about {found}, not about {expected}")]
    Model {
        /// What was asked for.
        expected: String,
        /// What they are about.
        found: String,
    },
    /// More files of statements than a store may have.
    #[error("the store has more than {MAX_MODELS} files of Intel's statements")]
    TooMany,
    /// The folder of a store.
    #[error("{path:?} cannot be listed")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file of the store.
    #[error(transparent)]
    File(#[from] FileError),
    /// The new file could not take the place of the old one.
    #[error("{path:?} cannot be replaced")]
    Replace {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests;
