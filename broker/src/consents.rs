//! Consents that somebody waits for: by device, and those whose browser comes back to the public listener.

use std::collections::HashMap;

use enclave::admin::{Administrator, GrantView};
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use tokio::sync::{Notify, watch};

use crate::status::Refusal;

/// As many devices may be under way at once, and of one administrator.
const MAX_DEVICES: usize = 1_024;
const MAX_OF_ONE: usize = 16;

/// What came of a consent, once it is over.
pub(crate) type Outcome = watch::Receiver<Option<Result<GrantView, Refusal>>>;

/// All that are waited for.
#[derive(Debug, Default)]
pub struct Consents {
    /// A browser came back.
    came: Notify,
    /// By the SHA-256 of their handles.
    devices: Mutex<HashMap<[u8; 32], Device>>,
}

#[derive(Debug)]
struct Device {
    by: [u8; 32],
    until_ms: u64,
    outcome: Outcome,
}

impl Consents {
    /// Tells those who wait that a browser came back.
    pub(crate) fn browser_came(&self) {
        self.came.notify_waiters();
    }

    /// Whoever waits for a browser.
    pub(crate) const fn came(&self) -> &Notify {
        &self.came
    }

    /// Whether one more device of an administrator may be under way.
    pub(crate) fn has_room(&self, by: &Administrator, now_ms: u64) -> bool {
        let mut devices = self.devices.lock();
        devices.retain(|_, device| now_ms < device.until_ms);
        let own = devices.values();
        let own = own.filter(|device| device.by == by.spki_sha256).count();
        devices.len() < MAX_DEVICES && own < MAX_OF_ONE
    }

    /// Keeps what a device is waited for by.
    pub(crate) fn keep(&self, handle: &str, by: &Administrator, until_ms: u64, outcome: Outcome) {
        let device = Device {
            by: by.spki_sha256,
            until_ms,
            outcome,
        };
        self.devices.lock().insert(name_of(handle), device);
    }

    /// The device of a handle, for whoever began it.
    pub(crate) fn device(&self, handle: &str, by: &Administrator) -> Option<Outcome> {
        let devices = self.devices.lock();
        let device = devices.get(&name_of(handle))?;
        (device.by == by.spki_sha256).then(|| device.outcome.clone())
    }
}

fn name_of(handle: &str) -> [u8; 32] {
    let mut name = [0; 32];
    name.copy_from_slice(digest(&SHA256, handle.as_bytes()).as_ref());
    name
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn administrator(key: u8) -> Administrator {
        Administrator {
            name: "someone".into(),
            spki_sha256: [key; 32],
            roles: Vec::new(),
        }
    }

    #[test]
    fn a_device_is_its_beginners_alone_and_no_more_are_under_way_than_that() {
        let consents = Consents::default();
        let (own, other) = (administrator(1), administrator(2));
        for number in 0..MAX_OF_ONE {
            assert!(consents.has_room(&own, 0));
            let (_sender, outcome) = watch::channel(None);
            consents.keep(&format!("handle-{number}"), &own, 100, outcome);
        }
        assert!(!consents.has_room(&own, 99));
        assert!(consents.has_room(&other, 99));
        assert!(consents.device("handle-0", &own).is_some());
        assert!(consents.device("handle-0", &other).is_none());
        assert!(consents.device("handle-99", &own).is_none());
        // What is over makes room.
        assert!(consents.has_room(&own, 100));
        assert!(consents.device("handle-0", &own).is_none());
    }
}
