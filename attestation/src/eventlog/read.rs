//! Reads a log in the format of TCG PC Client events with SHA-384 digests, within bounds.

use super::payload::Payload;

/// The most a log may have; the area that firmware reserves for one has 64 to 256 KiB.
pub const MAX_EVENT_LOG_BYTES: usize = 1024 * 1024;
/// The most events a log may have.
pub const MAX_EVENTS: usize = 4_096;
/// The most algorithms its header may name.
const MAX_ALGORITHMS: u32 = 8;
/// TPM_ALG_SHA384 [TCG Algorithm Registry].
const SHA384: u16 = 0x000C;
/// EV_NO_ACTION: says something and measures nothing.
const NO_ACTION: u32 = 3;
/// What the header's event begins with.
const SIGNATURE: &[u8; 16] = b"Spec ID Event03\0";

/// Why bytes are no event log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventLogError {
    /// Larger than [`MAX_EVENT_LOG_BYTES`].
    #[error("the log has {found_bytes} bytes, at most {MAX_EVENT_LOG_BYTES} are read")]
    TooLarge {
        /// Its size.
        found_bytes: usize,
    },
    /// More than [`MAX_EVENTS`].
    #[error("the log has more than {MAX_EVENTS} events")]
    TooManyEvents,
    /// The first event does not say that this is such a log.
    #[error("the header of the log is not that of a TCG event log")]
    Header,
    /// The header names no SHA-384, or it names an algorithm twice or too many.
    #[error("the algorithms of the log are not such that SHA-384 can be read")]
    Algorithms,
    /// An event ends within itself.
    #[error("event {index} ends too early")]
    Truncated {
        /// Its number, from 0.
        index: usize,
    },
    /// An event has not one digest of each of the header's algorithms.
    #[error("the digests of event {index} are not those of the header")]
    Digests {
        /// Its number, from 0.
        index: usize,
    },
    /// An event measures into a register that is not RTMR0 to RTMR3.
    #[error("event {index} measures into register {found}")]
    Register {
        /// Its number, from 0.
        index: usize,
        /// The register's number in the log.
        found: u32,
    },
}

/// One measured event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which RTMR, 0 to 3.
    pub rtmr: usize,
    /// The type [TCG PC Client Platform Firmware Profile, "Event Types"].
    pub event_type: u32,
    /// What was measured, SHA-384.
    pub digest: [u8; 48],
    /// What the log says about it. Only [`Payload::Measured`] is more than a label of the host's choice.
    pub payload: Payload,
    /// The bytes of the event.
    pub data: Vec<u8>,
}

/// A log; nothing about it is compared with a quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventLog {
    events: Vec<Event>,
}

impl EventLog {
    /// Reads a log: it ends at its end, or where the register's number is all ones.
    ///
    /// # Errors
    /// [`EventLogError`], the first one.
    pub fn parse(log: &[u8]) -> Result<Self, EventLogError> {
        if log.len() > MAX_EVENT_LOG_BYTES {
            return Err(EventLogError::TooLarge {
                found_bytes: log.len(),
            });
        }
        let mut from = Cursor(log);
        let algorithms = header(&mut from)?;
        let mut events = Vec::new();
        let mut index = 0usize;
        while !from.0.is_empty() {
            if index >= MAX_EVENTS {
                return Err(EventLogError::TooManyEvents);
            }
            let truncated = EventLogError::Truncated { index };
            let register = from.u32().ok_or_else(|| truncated.clone())?;
            if register == u32::MAX {
                break;
            }
            let event_type = from.u32().ok_or_else(|| truncated.clone())?;
            let digest = digest(&mut from, &algorithms, index)?;
            let data = from.sized().ok_or(truncated)?;
            if event_type != NO_ACTION {
                // Register 0 is MRTD, which nothing can extend.
                let rtmr = register
                    .checked_sub(1)
                    .and_then(|rtmr| usize::try_from(rtmr).ok())
                    .filter(|rtmr| *rtmr < 4)
                    .ok_or(EventLogError::Register {
                        index,
                        found: register,
                    })?;
                events.push(Event {
                    rtmr,
                    event_type,
                    digest,
                    payload: Payload::of(event_type, data, &digest),
                    data: data.to_vec(),
                });
            }
            index = index.saturating_add(1);
        }
        Ok(Self { events })
    }

    /// The measured events, in their order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}

/// Takes parts off the front.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(count)?;
        self.0 = tail;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Bytes behind their length.
    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.bytes(usize::try_from(length).ok()?)
    }
}

/// The first event, in the older form with one SHA-1 digest: it names the algorithms of all others.
fn header(from: &mut Cursor<'_>) -> Result<Vec<(u16, usize)>, EventLogError> {
    let event = (|| {
        from.u32()?;
        let event_type = from.u32()?;
        from.bytes(20)?;
        let data = from.sized()?;
        (event_type == NO_ACTION).then_some(data)
    })()
    .ok_or(EventLogError::Header)?;
    let mut inside = Cursor(event);
    // Platform class, version, size of integers.
    let (Some(signature), Some(_), Some(count)) =
        (inside.array::<16>(), inside.bytes(8), inside.u32())
    else {
        return Err(EventLogError::Header);
    };
    if signature != *SIGNATURE {
        return Err(EventLogError::Header);
    }
    if count > MAX_ALGORITHMS {
        return Err(EventLogError::Algorithms);
    }
    let mut algorithms: Vec<(u16, usize)> = Vec::new();
    for _ in 0..count {
        let (Some(id), Some(bytes)) = (inside.u16(), inside.u16()) else {
            return Err(EventLogError::Header);
        };
        if algorithms.iter().any(|(known, _)| *known == id) {
            return Err(EventLogError::Algorithms);
        }
        algorithms.push((id, usize::from(bytes)));
    }
    if algorithms.contains(&(SHA384, 48)) {
        Ok(algorithms)
    } else {
        Err(EventLogError::Algorithms)
    }
}

/// One digest of each algorithm; the registers hold SHA-384, so only that one counts.
fn digest(
    from: &mut Cursor<'_>,
    algorithms: &[(u16, usize)],
    index: usize,
) -> Result<[u8; 48], EventLogError> {
    let truncated = || EventLogError::Truncated { index };
    let count = from.u32().ok_or_else(truncated)?;
    if usize::try_from(count) != Ok(algorithms.len()) {
        return Err(EventLogError::Digests { index });
    }
    let mut seen = Vec::new();
    let mut found = None;
    for _ in 0..count {
        let id = from.u16().ok_or_else(truncated)?;
        let known = algorithms.iter().find(|(known, _)| *known == id);
        let (_, length) = known.ok_or(EventLogError::Digests { index })?;
        if seen.contains(&id) {
            return Err(EventLogError::Digests { index });
        }
        seen.push(id);
        let bytes = from.bytes(*length).ok_or_else(truncated)?;
        if id == SHA384 {
            found = bytes.try_into().ok();
        }
    }
    found.ok_or(EventLogError::Digests { index })
}
