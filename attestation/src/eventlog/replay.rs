//! Replays a log: what the registers must hold if exactly these events were measured.

use ring::digest::{Context, SHA384};

use super::payload::Payload;
use super::read::{Event, EventLog};

/// Why a log does not belong to the registers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The events yield another value.
    #[error("RTMR{rtmr} is not what the log yields")]
    Register {
        /// Which register.
        rtmr: usize,
        /// What the log yields.
        replayed: [u8; 48],
    },
    /// The bytes of an event are not what was measured.
    #[error("the bytes of event {index} are not what was measured")]
    Payload {
        /// Its number among the measured events, from 0.
        index: usize,
    },
}

/// A log that yields the registers of appraised evidence, and whose bytes are what was measured wherever that is
/// defined. Only [`EventLog::replay`] makes it.
///
/// ```compile_fail,E0451
/// let replayed = attestation::eventlog::ReplayedLog { events: Vec::new() };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedLog {
    events: Vec<Event>,
}

impl ReplayedLog {
    /// The events, in their order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}

impl EventLog {
    /// What RTMR0 to RTMR3 hold after these events: each begins with zeros, and an event makes it
    /// SHA-384(register || digest).
    #[must_use]
    pub fn registers(&self) -> [[u8; 48]; 4] {
        let mut registers = [[0; 48]; 4];
        for event in self.events() {
            if let Some(register) = registers.get_mut(event.rtmr) {
                let mut hash = Context::new(&SHA384);
                hash.update(register);
                hash.update(&event.digest);
                register.copy_from_slice(hash.finish().as_ref());
            }
        }
        registers
    }

    /// Compares the log with the registers of evidence: see [`crate::Appraised::rtmrs`].
    ///
    /// # Errors
    /// [`ReplayError`], the first one.
    pub fn replay(self, rtmrs: &[[u8; 48]; 4]) -> Result<ReplayedLog, ReplayError> {
        let replayed = self.registers();
        for (rtmr, (replayed, found)) in replayed.iter().zip(rtmrs).enumerate() {
            if replayed != found {
                return Err(ReplayError::Register {
                    rtmr,
                    replayed: *replayed,
                });
            }
        }
        let lie = |event: &Event| event.payload == Payload::Mismatch;
        if let Some(index) = self.events().iter().position(lie) {
            return Err(ReplayError::Payload { index });
        }
        Ok(ReplayedLog {
            events: self.events().to_vec(),
        })
    }
}
