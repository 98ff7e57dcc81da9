//! Witnesses: a quorum of them must have cosigned the control log before the service serves from a state, and again
//! and again while it does [C2SP tlog-witness].
//!
//! | module | holds |
//! | --- | --- |
//! | [`ask`] | one request to one witness, and what its answer proves |
//! | [`keeper`] | the rounds: at boot, every third of the lease, and for each change of an administrator |

pub mod ask;
pub mod keeper;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tlog::TreeHead;
use tokio::sync::watch;

/// How long a change waits for its cosignatures.
const PATIENCE: Duration = Duration::from_secs(10);

/// The change is in force and durable here, and was not cosigned in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotCosigned;

/// Between those who wait for cosignatures and the keeper who gets them.
#[derive(Debug)]
pub struct Witnessing {
    /// Rounds that have begun.
    begun: AtomicU64,
    /// The round that somebody waits for.
    wanted: watch::Sender<u64>,
    /// The last round that a quorum cosigned.
    done: watch::Sender<u64>,
    /// The last checkpoint that a quorum cosigned, as it is served.
    cosigned: Mutex<Option<(String, TreeHead)>>,
}

impl Default for Witnessing {
    fn default() -> Self {
        Self {
            begun: AtomicU64::new(0),
            wanted: watch::Sender::new(0),
            done: watch::Sender::new(0),
            cosigned: Mutex::new(None),
        }
    }
}

impl Witnessing {
    /// The last checkpoint of the control log that a quorum cosigned, with its cosignatures.
    #[must_use]
    pub fn checkpoint(&self) -> Option<(String, TreeHead)> {
        self.cosigned.lock().clone()
    }

    /// Waits until a quorum has cosigned all that is durable by now.
    ///
    /// # Errors
    /// [`NotCosigned`].
    pub async fn covered(&self) -> Result<(), NotCosigned> {
        // The next one to begin has it all.
        let round = self.begun.load(Ordering::SeqCst).saturating_add(1);
        let mut done = self.done.subscribe();
        self.wanted
            .send_modify(|wanted| *wanted = (*wanted).max(round));
        let covered = done.wait_for(|done| *done >= round);
        match tokio::time::timeout(PATIENCE, covered).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(NotCosigned),
        }
    }
}
