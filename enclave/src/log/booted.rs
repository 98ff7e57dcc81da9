//! The leaf of each boot: which image runs now, under which manifest, and where
//! the issuance log of the boot before ended.

use serde::Serialize;
use tlog::TreeHead;

use super::logs::Logs;
use super::name::{BootId, LogName};
use crate::Enclave;
use crate::audit::Event;
use crate::freeze::Touched;
use crate::pending::Pending;
use crate::seal::SealError;
use crate::store::{Batch, MAX_BATCH_ENTRIES};
use crate::time::Now;

/// What the platform says of the image that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The platform's short name, such as `snp`.
    pub platform: String,
    /// The launch measurement in lowercase hex.
    pub measurement: String,
}

/// The public part of the leaf.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Booted {
    platform: String,
    measurement: String,
    manifest_sha256: String,
    manifest_sequence: u64,
    key_bundle_sha256: String,
    /// The issuance log of the boot before, if it has a leaf.
    previous: Option<Anchor>,
}

/// A head of an issuance log, held fast in the control log.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Anchor {
    boot: String,
    size: u64,
    /// In base64, as in a checkpoint.
    root: String,
}

impl Anchor {
    fn new(boot: BootId, head: TreeHead) -> Self {
        let TreeHead { size, root } = head;
        Self {
            boot: boot.to_string(),
            size,
            root: root.to_string(),
        }
    }

    /// Of this boot's issuance log, once it has a leaf.
    pub(crate) fn current(logs: &Logs) -> Option<Self> {
        let boot = logs.boot();
        let head = logs.current_head(LogName::Issuance(boot)).ok()?;
        (head.size > 0).then(|| Self::new(boot, head))
    }
}

impl Enclave {
    /// The leaf that states this boot in the control log, and one for each number
    /// that no leaf of the boots before has. They must be durable before the first
    /// answer leaves.
    ///
    /// # Errors
    /// [`SealError`] if there are no random bytes.
    pub fn booted(&self, image: &Image, now: &Now) -> Result<Pending<()>, SealError> {
        let booted = Booted {
            platform: image.platform.clone(),
            measurement: image.measurement.clone(),
            manifest_sha256: hex(&self.config.manifest_digest),
            manifest_sequence: self.config.manifest_sequence,
            key_bundle_sha256: hex(&self.bundle().digest),
            previous: anchor(&self.logs),
        };
        let view = self.view.read();
        let mut leaves = vec![self.leaf(&view, None, &Event::Booted(&booted), now)?];
        // What is above the bound is used by later leaves.
        let unused = self.sequences.gaps(MAX_BATCH_ENTRIES.saturating_sub(1));
        for reader in &unused {
            leaves.push(self.leaf(&view, reader.as_ref(), &Event::Unused, now)?);
        }
        let batch = Batch {
            writes: Vec::new(),
            leaves,
        };
        Ok(Pending::new(batch, Vec::new(), Touched::nothing(), ()))
    }
}

impl Enclave {
    /// The leaf that says when what vouches for the service's evidence ends.
    ///
    /// # Errors
    /// [`SealError`] if there are no random bytes.
    pub fn collateral_expiring(
        &self,
        expires_at_s: u64,
        now: &Now,
    ) -> Result<Pending<()>, SealError> {
        let event = Event::CollateralExpiring { expires_at_s };
        let leaf = self.leaf(&self.view.read(), None, &event, now)?;
        let batch = Batch {
            writes: Vec::new(),
            leaves: vec![leaf],
        };
        Ok(Pending::new(batch, Vec::new(), Touched::nothing(), ()))
    }
}

fn anchor(logs: &Logs) -> Option<Anchor> {
    let (boot, head) = logs.previous()?;
    Some(Anchor::new(boot, head))
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
