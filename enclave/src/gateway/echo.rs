//! Finds the provider's bearer in an API's answer as it streams, so that an
//! accidental echo does not leave the enclave.
//!
//! It is found plain, in hexadecimal and in base64 at any alignment and in both
//! alphabets, each also with percent- or JSON-escapes or broken into lines, and
//! across the borders of chunks. Bytes that may be the beginning of an echo are
//! held back until they are seen to be none; all others pass at once. What a
//! malicious API encodes otherwise passes: this guards against accidents.

mod needles;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

pub(crate) use needles::Needles;
use needles::State;

/// Line breaks in a row that an echo may have; base64 in mails has two.
const MAX_BREAK_BYTES: u8 = 4;

/// The answer holds the bearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the API's answer repeats the credential that it was called with")]
pub struct Echoed;

/// Where in an escape the reader is.
#[derive(Clone, Copy, Debug)]
enum Escape {
    None,
    /// Behind `%` and perhaps a digit.
    Percent(Option<u8>),
    /// Behind a backslash.
    Backslash,
    /// Behind `\u` and this many digits.
    Unicode {
        digits: u8,
        value: u16,
    },
}

/// The filter over one answer.
pub struct EchoFilter {
    /// None: there is nothing to look for.
    needles: Option<Arc<Needles>>,
    state: State,
    escape: Escape,
    /// Where the escape that is being read began.
    escape_at: u64,
    breaks: u8,
    /// Where each byte of the spelling that may have begun lies in the answer.
    places: VecDeque<u64>,
    /// How much was read.
    read: u64,
    /// Held back: the last bytes that were read.
    held: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for EchoFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EchoFilter([redacted])")
    }
}

impl EchoFilter {
    pub(crate) fn new(needles: Option<Arc<Needles>>) -> Self {
        Self {
            needles,
            state: State::START,
            escape: Escape::None,
            escape_at: 0,
            breaks: 0,
            places: VecDeque::new(),
            read: 0,
            held: Zeroizing::new(Vec::new()),
        }
    }

    /// Takes the next chunk; gives what may leave now.
    ///
    /// # Errors
    /// [`Echoed`]: nothing more of this answer may leave.
    pub fn push(&mut self, chunk: Bytes) -> Result<Bytes, Echoed> {
        let Some(needles) = self.needles.clone() else {
            return Ok(chunk);
        };
        let before = self.read;
        let mut rest = chunk.iter();
        loop {
            // Most bytes begin nothing.
            if self.state.is_start() && matches!(self.escape, Escape::None) {
                let skipped = rest
                    .as_slice()
                    .iter()
                    .position(|byte| matches!(byte, b'%' | b'\\') || needles.begins(*byte))
                    .unwrap_or(rest.len());
                self.read = self
                    .read
                    .saturating_add(u64::try_from(skipped).unwrap_or(u64::MAX));
                rest = rest.as_slice().get(skipped..).unwrap_or_default().iter();
            }
            let Some(byte) = rest.next() else { break };
            self.byte(&needles, *byte)?;
            self.read = self.read.saturating_add(1);
        }
        Ok(self.part(chunk, before))
    }

    /// The end of the answer: what was held back and is no echo.
    #[must_use]
    pub fn finish(&mut self) -> Bytes {
        Bytes::copy_from_slice(&std::mem::take(&mut *self.held))
    }

    /// Whether a header's value repeats the bearer.
    #[must_use]
    pub fn found_in(&self, value: &[u8]) -> bool {
        Self::new(self.needles.clone())
            .push(Bytes::copy_from_slice(value))
            .is_err()
    }

    /// Parts what was read into what may leave and what is held.
    fn part(&mut self, chunk: Bytes, before: u64) -> Bytes {
        let mut hold_from = self.places.front().copied().unwrap_or(self.read);
        if !matches!(self.escape, Escape::None) {
            hold_from = hold_from.min(self.escape_at);
        }
        let held_from = before.saturating_sub(u64::try_from(self.held.len()).unwrap_or(u64::MAX));
        let release = usize::try_from(hold_from.saturating_sub(held_from)).unwrap_or(usize::MAX);
        if self.held.is_empty() {
            let mut chunk = chunk;
            let kept = chunk.split_off(release.min(chunk.len()));
            self.held.extend_from_slice(&kept);
            return chunk;
        }
        let mut all = Zeroizing::new(Vec::with_capacity(
            self.held.len().saturating_add(chunk.len()),
        ));
        all.extend_from_slice(&self.held);
        all.extend_from_slice(&chunk);
        let (leaves, stays) = all.split_at_checked(release).unwrap_or((&all, &[]));
        self.held.zeroize();
        self.held.extend_from_slice(stays);
        Bytes::copy_from_slice(leaves)
    }

    /// Takes one byte as it was sent.
    fn byte(&mut self, needles: &Needles, byte: u8) -> Result<(), Echoed> {
        let at = self.read;
        match self.escape {
            Escape::None => match byte {
                b'%' => self.begin(Escape::Percent(None)),
                b'\\' => self.begin(Escape::Backslash),
                b'\r' | b'\n' => self.line_break(),
                plain => self.meant(needles, plain, at)?,
            },
            Escape::Percent(high) => match (hex(byte), high) {
                (Some(digit), None) => self.escape = Escape::Percent(Some(digit)),
                (Some(digit), Some(high)) => {
                    self.escape = Escape::None;
                    self.meant(needles, (high << 4) | digit, self.escape_at)?;
                }
                (None, _) => self.none_after_all(needles, byte)?,
            },
            Escape::Backslash => match byte {
                b'u' => {
                    self.escape = Escape::Unicode {
                        digits: 0,
                        value: 0,
                    };
                }
                b'/' | b'"' | b'\\' => {
                    self.escape = Escape::None;
                    self.meant(needles, byte, self.escape_at)?;
                }
                b'r' | b'n' => {
                    self.escape = Escape::None;
                    self.line_break();
                }
                other => self.none_after_all(needles, other)?,
            },
            Escape::Unicode { digits, value } => match hex(byte) {
                Some(digit) => {
                    let value = (value << 4) | u16::from(digit);
                    if digits < 3 {
                        self.escape = Escape::Unicode {
                            digits: digits.saturating_add(1),
                            value,
                        };
                    } else {
                        self.escape = Escape::None;
                        match u8::try_from(value) {
                            Ok(byte) => self.meant(needles, byte, self.escape_at)?,
                            Err(_) => self.start_over(),
                        }
                    }
                }
                None => self.none_after_all(needles, byte)?,
            },
        }
        Ok(())
    }

    fn begin(&mut self, escape: Escape) {
        self.escape = escape;
        self.escape_at = self.read;
    }

    /// What began like an escape is none: no spelling has its first byte.
    fn none_after_all(&mut self, needles: &Needles, byte: u8) -> Result<(), Echoed> {
        self.escape = Escape::None;
        self.start_over();
        self.byte(needles, byte)
    }

    fn line_break(&mut self) {
        self.breaks = self.breaks.saturating_add(1);
        if self.breaks > MAX_BREAK_BYTES {
            self.start_over();
        }
    }

    fn start_over(&mut self) {
        self.state = State::START;
        self.places.clear();
        self.breaks = 0;
    }

    /// Takes one byte as it is meant, which begins at `at`.
    fn meant(&mut self, needles: &Needles, byte: u8, at: u64) -> Result<(), Echoed> {
        self.breaks = 0;
        self.state = needles.next(self.state, byte);
        if needles.accepts(self.state) {
            return Err(Echoed);
        }
        self.places.push_back(at);
        let depth = needles.depth(self.state);
        let gone = self.places.len().saturating_sub(depth);
        self.places.drain(..gone);
        Ok(())
    }
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests;
