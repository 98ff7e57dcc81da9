//! The leaf of each boot: which image runs now, under which manifest, and where
//! the issuance log of the boot before ended.

use serde::Serialize;
use tlog::TreeHead;

use super::logs::Logs;
use crate::Enclave;
use crate::audit::Event;
use crate::freeze::Touched;
use crate::pending::Pending;
use crate::seal::SealError;
use crate::store::Batch;
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

/// The last head of an issuance log that has ended.
#[derive(Clone, Debug, Serialize)]
struct Anchor {
    boot: String,
    size: u64,
    /// In base64, as in a checkpoint.
    root: String,
}

impl Enclave {
    /// The leaf that states this boot in the control log. It must be durable
    /// before the first answer leaves.
    ///
    /// # Errors
    /// [`SealError`] if there are no random bytes.
    pub fn booted(&self, image: &Image, now: &Now) -> Result<Pending<()>, SealError> {
        let booted = Booted {
            platform: image.platform.clone(),
            measurement: image.measurement.clone(),
            manifest_sha256: hex(&self.config.manifest_digest),
            manifest_sequence: self.config.manifest_sequence,
            key_bundle_sha256: hex(&self.bundle.digest),
            previous: anchor(&self.logs),
        };
        let view = self.view.read();
        let leaf = self.leaf(&view, None, &Event::Booted(&booted), now)?;
        let batch = Batch {
            writes: Vec::new(),
            leaves: vec![leaf],
        };
        Ok(Pending::new(batch, Vec::new(), Touched::nothing(), ()))
    }
}

fn anchor(logs: &Logs) -> Option<Anchor> {
    let (boot, TreeHead { size, root }) = logs.previous()?;
    Some(Anchor {
        boot: boot.to_string(),
        size,
        root: root.to_string(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}
