//! The event log of a TD's boot (CCEL), replayed to its run-time measurement registers.

mod payload;
mod read;
mod replay;

pub use payload::Payload;
pub use read::{Event, EventLog, EventLogError, MAX_EVENT_LOG_BYTES, MAX_EVENTS};
pub use replay::{ReplayError, ReplayedLog};
