//! The embedded store: one append-only file of sealed frames.
//!
//! Everything that the file holds is authenticated before it is parsed. Each
//! frame carries a group of batches; the records are indexed in memory, leaves
//! are read back from the file. When much of the file is superseded it is
//! replaced by one that begins with a snapshot.

mod atomic_file;
mod callers;
mod check;
mod compaction;
mod embedded;
mod encoding;
mod export;
mod gathering;
mod index;
mod medium;
mod policy;
mod reader;
mod records;
mod recovery;
mod room;
mod snapshot;
mod state_dir;
#[cfg(test)]
mod tests;
mod writer;

pub use atomic_file::{create_or_replace, sync_dir};
pub use callers::Callers;
pub use check::{Checked, Damage, check};
pub use compaction::{Compacted, NEW_FILE_NAME};
pub use embedded::{EmbeddedStore, FILE_NAME, LOCK_NAME, OnSyncFailure, OpenReport, Stats};
pub use encoding::MAX_BATCH_BYTES;
pub use export::{
    Behind, EXPORT_VERSION, ExportHeader, HeaderError, OnProgress, Progress, Source, TransferError,
    import,
};
pub use medium::{Folder, Medium};
pub use policy::FilePolicy;
pub use recovery::{Corruption, OpenError, TornTail};
pub use state_dir::{FileMedium, StateDir};
pub use writer::QUEUE_BATCHES;
