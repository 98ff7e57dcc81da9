//! The control log as a tenant hears it: events from a position on, and those to come.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use enclave::admin::{EventReader, TenantEvent};
use enclave::ids::TenantId;
use enclave::log::{LogError, LogName};
use parking_lot::Mutex;
use tlog::{Hash, leaf_hash};

use crate::log::LogReadError;
use crate::shell::Shell;

/// Streams of events of one tenant at a time.
const MAX_WATCHES_OF_A_TENANT: usize = 8;

/// Streams of events at a time.
const MAX_WATCHES: usize = 256;

/// Leaves that one question looks at, whether they are events or not.
const MAX_SCANNED: usize = 4_096;

/// Leaves that are read at a time.
const READ_LEAVES: usize = 256;

/// Events in one answer.
const MAX_EVENTS: usize = 128;

/// Bytes of events in one answer, if it is more than one event.
const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// How often a stream looks for new leaves. To look costs the reading of a number.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// An event where it stands in the control log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedEvent {
    /// The leaf's index.
    pub position: u64,
    /// The leaf's hash.
    pub leaf_hash: Hash,
    /// What happened.
    pub event: TenantEvent,
}

/// Events that were found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// The events.
    pub events: Vec<PlacedEvent>,
    /// Where to go on.
    pub next: u64,
    /// Whether the log has no more leaves now.
    pub at_end: bool,
}

impl Shell {
    /// How many leaves the control log has: where to begin for what is still to come.
    ///
    /// # Errors
    /// [`LogReadError`].
    pub async fn events_end(&self) -> Result<u64, LogReadError> {
        Ok(self.current_head(LogName::Control).await?.size)
    }

    /// Events from a position on.
    ///
    /// # Errors
    /// [`LogReadError`]; [`LogError::Beyond`] if the log does not reach to `from`.
    pub async fn events(&self, reader: &EventReader, from: u64) -> Result<Events, LogReadError> {
        let size = self.events_end().await?;
        if from > size {
            return Err(LogError::Beyond { size }.into());
        }
        let mut found = Events {
            events: Vec::new(),
            next: from,
            at_end: from == size,
        };
        let (mut looked_at, mut bytes) = (0_usize, 0_usize);
        while found.next < size && looked_at < MAX_SCANNED {
            let rest = usize::try_from(size.saturating_sub(found.next)).unwrap_or(usize::MAX);
            let entries = self
                .leaves_at(LogName::Control, found.next, rest.min(READ_LEAVES))
                .await?;
            for entry in entries {
                looked_at = looked_at.saturating_add(1);
                if let Some(event) = self.enclave.read_event(reader, &entry) {
                    bytes = bytes.saturating_add(event.detail.len());
                    let is_full = found.events.len() >= MAX_EVENTS || bytes > MAX_ANSWER_BYTES;
                    if is_full && !found.events.is_empty() {
                        return Ok(found);
                    }
                    found.events.push(PlacedEvent {
                        position: found.next,
                        leaf_hash: leaf_hash(&entry),
                        event,
                    });
                }
                found.next = found.next.saturating_add(1);
            }
            found.at_end = found.next == size;
        }
        Ok(found)
    }

    /// What follows; waits for it.
    ///
    /// # Errors
    /// [`LogReadError`].
    pub async fn events_to_come(
        &self,
        reader: &EventReader,
        from: u64,
    ) -> Result<Events, LogReadError> {
        loop {
            let found = self.events(reader, from).await?;
            if found.next > from {
                return Ok(found);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// How many streams there are, of each tenant.
#[derive(Debug, Default)]
pub struct Watches(Mutex<HashMap<TenantId, usize>>);

/// The place of one stream; given back when it is dropped.
#[derive(Debug)]
pub struct WatchPlace {
    watches: Arc<Watches>,
    tenant: TenantId,
}

impl Watches {
    /// A place for a stream; none if there are as many as may be.
    #[must_use]
    pub fn enter(self: &Arc<Self>, tenant: &TenantId) -> Option<WatchPlace> {
        let mut counts = self.0.lock();
        let all = counts
            .values()
            .fold(0, |sum: usize, n| sum.saturating_add(*n));
        let own = counts.get(tenant).copied().unwrap_or_default();
        if all >= MAX_WATCHES || own >= MAX_WATCHES_OF_A_TENANT {
            return None;
        }
        counts.insert(tenant.clone(), own.saturating_add(1));
        Some(WatchPlace {
            watches: Arc::clone(self),
            tenant: tenant.clone(),
        })
    }
}

impl Drop for WatchPlace {
    fn drop(&mut self) {
        let mut counts = self.watches.0.lock();
        match counts.get_mut(&self.tenant) {
            Some(count) if *count > 1 => *count = count.saturating_sub(1),
            Some(_) | None => {
                counts.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tenant_takes_the_places_of_the_others() {
        let watches = Arc::<Watches>::default();
        let tenant = |name: &str| TenantId::parse(name).unwrap();
        let mut places = Vec::new();
        for _ in 0..MAX_WATCHES_OF_A_TENANT {
            places.push(watches.enter(&tenant("acme")).unwrap());
        }
        assert!(watches.enter(&tenant("acme")).is_none());
        places.push(watches.enter(&tenant("other")).unwrap());
        drop(places.remove(0));
        places.push(watches.enter(&tenant("acme")).unwrap());
        let more = (0..).map_while(|number| watches.enter(&tenant(&format!("t{number}"))));
        places.extend(more);
        assert_eq!(places.len(), MAX_WATCHES);
        places.clear();
        assert!(watches.0.lock().is_empty(), "all are given back");
    }
}
