//! The embedded store: one append-only file of sealed frames.
//!
//! Everything that the file holds is authenticated before it is parsed. Each
//! frame carries a group of batches; the records are indexed in memory, leaves
//! are read back from the file.

mod atomic_file;
mod embedded;
mod encoding;
mod index;
mod medium;
mod recovery;
#[cfg(test)]
mod tests;
mod writer;

pub use atomic_file::{create_or_replace, sync_dir};
pub use embedded::{EmbeddedStore, FILE_NAME, LOCK_NAME, OnSyncFailure, OpenReport};
pub use encoding::MAX_BATCH_BYTES;
pub use medium::{FileMedium, Medium};
pub use recovery::{Corruption, OpenError, TornTail};
