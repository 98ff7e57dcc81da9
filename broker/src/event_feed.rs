//! The control log as a tenant hears it: events from a position on, and those to come.

use std::time::Duration;

use enclave::admin::{EventError, EventReader, TenantEvent};
use enclave::log::{LogError, LogName};
use thiserror::Error;
use tlog::{Hash, leaf_hash};

use crate::log::LogReadError;
use crate::shell::Shell;

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

/// Why events could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EventsError {
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] LogReadError),
    /// Its leaves could not be read as events.
    #[error(transparent)]
    Event(#[from] EventError),
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
    /// [`EventsError`]; [`LogError::Beyond`] if the log does not reach to `from`.
    pub async fn events(&self, reader: &EventReader, from: u64) -> Result<Events, EventsError> {
        let size = self.events_end().await?;
        if from > size {
            return Err(LogReadError::from(LogError::Beyond { size }).into());
        }
        // Who is erased hears so, though nothing follows.
        self.enclave.read_events::<Vec<u8>>(reader, &[])?;
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
            let read = self.enclave.read_events(reader, &entries)?;
            for (entry, event) in entries.iter().zip(read) {
                looked_at = looked_at.saturating_add(1);
                if let Some(event) = event {
                    bytes = bytes.saturating_add(event.detail.len());
                    let is_full = found.events.len() >= MAX_EVENTS || bytes > MAX_ANSWER_BYTES;
                    if is_full && !found.events.is_empty() {
                        return Ok(found);
                    }
                    found.events.push(PlacedEvent {
                        position: found.next,
                        leaf_hash: leaf_hash(entry),
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
    /// [`EventsError`].
    pub async fn events_to_come(
        &self,
        reader: &EventReader,
        from: u64,
    ) -> Result<Events, EventsError> {
        loop {
            let found = self.events(reader, from).await?;
            if found.next > from {
                return Ok(found);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}
