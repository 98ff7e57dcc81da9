//! A whole note: its text, its signatures, and the verdict on them.

use core::fmt;

use thiserror::Error;

use super::{KeyId, KeyName, NoteSignature, SignatureLineError, VerifierKey};

/// Longest note read or written. Room for 16 post-quantum signatures, which a verifier must accept.
pub const MAX_NOTE_BYTES: usize = 128 * 1024;
/// Most signatures of a note; the standard asks for at least 16 [C2SP signed-note].
pub const MAX_NOTE_SIGNATURES: usize = 64;

/// Why bytes are no note, or a note is not believed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NoteError {
    /// Longer than [`MAX_NOTE_BYTES`].
    #[error("a note of {found_bytes} bytes is too long")]
    TooLong {
        /// Its length.
        found_bytes: usize,
    },
    /// Not UTF-8.
    #[error("a note is not UTF-8")]
    Utf8,
    /// A control character below U+0020 other than newline.
    #[error("a note holds control character {found:?}")]
    Control {
        /// The first of them.
        found: char,
    },
    /// The text does not end in a newline.
    #[error("a note's text does not end in a newline")]
    TextUnterminated,
    /// No blank line between text and signatures.
    #[error("a note has no blank line before its signatures")]
    NoBlankLine,
    /// No signature lines.
    #[error("a note has no signatures")]
    NoSignatures,
    /// The last signature line does not end in a newline.
    #[error("a note's last signature does not end in a newline")]
    SignatureUnterminated,
    /// More than [`MAX_NOTE_SIGNATURES`].
    #[error("a note has more than {MAX_NOTE_SIGNATURES} signatures")]
    TooManySignatures,
    /// A line after the blank one is no signature.
    #[error("signature line {line} is malformed")]
    SignatureLine {
        /// From 0.
        line: usize,
        /// What is wrong.
        #[source]
        error: SignatureLineError,
    },
    /// A known key's signature does not verify: the whole note is refused.
    #[error("the signature of {name} ({key_id}) is wrong")]
    BadSignature {
        /// The key's name.
        name: KeyName,
        /// The key's id.
        key_id: KeyId,
    },
    /// No known key has signed.
    #[error("no known key has signed the note")]
    NoKnownSignature,
}

/// A well-formed note with at least one signature, none of them verified yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// A note of `text` (ends in a newline, no other control character) with these signatures.
    ///
    /// # Errors
    /// [`NoteError::TextUnterminated`], [`NoteError::Control`], [`NoteError::NoSignatures`],
    /// [`NoteError::TooManySignatures`], [`NoteError::TooLong`].
    pub fn new(text: String, signatures: Vec<NoteSignature>) -> Result<Self, NoteError> {
        check_text(&text)?;
        if signatures.is_empty() {
            return Err(NoteError::NoSignatures);
        }
        if signatures.len() > MAX_NOTE_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        let note = Self { text, signatures };
        let found_bytes = note.to_string().len();
        if found_bytes > MAX_NOTE_BYTES {
            return Err(NoteError::TooLong { found_bytes });
        }
        Ok(note)
    }

    /// Reads a note; `Display` writes the same bytes again.
    ///
    /// # Errors
    /// [`NoteError`]: every variant but [`NoteError::BadSignature`] and
    /// [`NoteError::NoKnownSignature`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLong {
                found_bytes: bytes.len(),
            });
        }
        let note = core::str::from_utf8(bytes).map_err(|_| NoteError::Utf8)?;
        check_characters(note)?;
        // The last empty line ends the text, which may have others.
        let (text, lines) = note.rsplit_once("\n\n").ok_or(NoteError::NoBlankLine)?;
        if lines.is_empty() {
            return Err(NoteError::NoSignatures);
        }
        let lines = lines
            .strip_suffix('\n')
            .ok_or(NoteError::SignatureUnterminated)?;
        let mut signatures = Vec::new();
        for (line, text) in lines.split('\n').enumerate() {
            if line >= MAX_NOTE_SIGNATURES {
                return Err(NoteError::TooManySignatures);
            }
            let parsed = text.parse();
            signatures.push(parsed.map_err(|error| NoteError::SignatureLine { line, error })?);
        }
        Ok(Self {
            text: format!("{text}\n"),
            signatures,
        })
    }

    /// The text with its final newline, which nobody has vouched for yet.
    #[must_use]
    pub fn unverified_text(&self) -> &str {
        &self.text
    }

    /// The signatures, none verified.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// The same note with more signatures after its own.
    ///
    /// # Errors
    /// [`NoteError::TooManySignatures`], [`NoteError::TooLong`].
    pub fn with_signatures(
        mut self,
        more: impl IntoIterator<Item = NoteSignature>,
    ) -> Result<Self, NoteError> {
        let room = MAX_NOTE_SIGNATURES
            .saturating_add(1)
            .saturating_sub(self.signatures.len());
        self.signatures.extend(more.into_iter().take(room));
        Self::new(self.text, self.signatures)
    }

    /// Verifies every signature that names one of `keys`. Signatures of other keys are ignored, also
    /// those that share only a name or only an id with one of them [C2SP signed-note].
    ///
    /// # Errors
    /// [`NoteError::BadSignature`] if one of them is wrong, [`NoteError::NoKnownSignature`] if there
    /// is none.
    pub fn verify(self, keys: &[VerifierKey]) -> Result<VerifiedNote, NoteError> {
        let mut signers: Vec<VerifierKey> = Vec::new();
        for signature in &self.signatures {
            // Two keys may share name and id by accident; either may have signed.
            let mut named = keys
                .iter()
                .filter(|key| key.is_named_by(signature))
                .peekable();
            if named.peek().is_none() {
                continue;
            }
            let Some(key) = named.find(|key| key.verifies(&self.text, signature)) else {
                let (name, key_id) = (signature.name().clone(), signature.key_id());
                return Err(NoteError::BadSignature { name, key_id });
            };
            if !signers.contains(key) {
                signers.push(key.clone());
            }
        }
        if signers.is_empty() {
            return Err(NoteError::NoKnownSignature);
        }
        Ok(VerifiedNote {
            note: self,
            signers,
        })
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for signature in &self.signatures {
            writeln!(f, "{signature}")?;
        }
        Ok(())
    }
}

/// A note that at least one known key has signed. Made by [`Note::verify`] alone.
///
/// ```compile_fail
/// # use tlog::{Note, VerifiedNote};
/// # fn forge(note: Note) -> VerifiedNote {
/// VerifiedNote { note, signers: Vec::new() }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedNote {
    note: Note,
    signers: Vec<VerifierKey>,
}

impl VerifiedNote {
    /// The signed text with its final newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.note.text
    }

    /// The note with all its signatures, also those of unknown keys.
    #[must_use]
    pub const fn note(&self) -> &Note {
        &self.note
    }

    /// The known keys that signed, each once, at least one.
    #[must_use]
    pub fn signers(&self) -> &[VerifierKey] {
        &self.signers
    }
}

/// Checks what a note's text must be.
pub(super) fn check_text(text: &str) -> Result<(), NoteError> {
    if text.len() > MAX_NOTE_BYTES {
        return Err(NoteError::TooLong {
            found_bytes: text.len(),
        });
    }
    check_characters(text)?;
    if text.ends_with('\n') {
        Ok(())
    } else {
        Err(NoteError::TextUnterminated)
    }
}

fn check_characters(text: &str) -> Result<(), NoteError> {
    match text.chars().find(|c| *c < ' ' && *c != '\n') {
        Some(found) => Err(NoteError::Control { found }),
        None => Ok(()),
    }
}
