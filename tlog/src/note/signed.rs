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
/// ```compile_fail,E0451
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

#[cfg(test)]
mod tests {
    use core::slice::from_ref;

    use proptest::prelude::*;
    use ring::signature::Ed25519KeyPair;

    use super::*;
    use crate::note::{KeyNameError, NoteSigner};

    const TEXT: &str = "one\n\ntwo \u{e9}\n";

    fn signer(name: &str, seed: u8) -> NoteSigner {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("seed");
        NoteSigner::new(name.parse().expect("name"), pair).expect("key")
    }

    fn note(text: &str, signers: &[&NoteSigner]) -> Note {
        let signatures = signers
            .iter()
            .map(|signer| signer.sign(text).expect("signs"))
            .collect();
        Note::new(text.to_owned(), signatures).expect("note")
    }

    #[test]
    fn a_note_is_read_back_as_written() {
        let (a, b) = (signer("a", 1), signer("b", 2));
        let note = note(TEXT, &[&a, &b]);
        let bytes = note.to_string();
        assert!(bytes.starts_with("one\n\ntwo \u{e9}\n\n\u{2014} a "));
        let parsed = Note::parse(bytes.as_bytes()).expect("own note");
        assert_eq!(parsed, note);
        assert_eq!(parsed.unverified_text(), TEXT);
        assert_eq!(parsed.signatures().len(), 2);
        // A text may be of empty lines alone.
        let lines = self::note("\n\n", &[&a]);
        assert_eq!(Note::parse(lines.to_string().as_bytes()), Ok(lines));
    }

    #[test]
    fn malformed_notes_are_refused() {
        use SignatureLineError as L;
        let good = note(TEXT, &[&signer("a", 1), &signer("b", 2)]).to_string();
        let lines: Vec<&str> = good.lines().collect();
        let (first, second) = (lines[4], lines[5]);
        let with = |from: &str, to: &str| good.replacen(from, to, 1).into_bytes();
        let line = |line, error| NoteError::SignatureLine { line, error };
        let base64 = first.rsplit(' ').next().expect("signature");
        let name = |error| line(0, L::Name(error));
        let rows: Vec<(Vec<u8>, NoteError)> = vec![
            (Vec::new(), NoteError::NoBlankLine),
            (b"text\n".to_vec(), NoteError::NoBlankLine),
            (
                format!("text\n{first}\n").into_bytes(),
                NoteError::NoBlankLine,
            ),
            (b"text\n\n".to_vec(), NoteError::NoSignatures),
            (
                good.trim_end().as_bytes().to_vec(),
                NoteError::SignatureUnterminated,
            ),
            (format!("{good}\n").into_bytes(), NoteError::NoSignatures),
            (with("two", "tw\to"), NoteError::Control { found: '\t' }),
            (with("one\n", "one\r\n"), NoteError::Control { found: '\r' }),
            (with("one", "o\0ne"), NoteError::Control { found: '\0' }),
            ([b"\xff", good.as_bytes()].concat(), NoteError::Utf8),
            (with("\u{2014} a", "- a"), line(0, L::Prefix)),
            (with("\u{2014} a", "\u{2014}a"), line(0, L::Prefix)),
            (with("\u{2014} b", " \u{2014} b"), line(1, L::Prefix)),
            (with(second, "\u{2014} b"), line(1, L::Form)),
            (with("\u{2014} a ", "\u{2014}  "), name(KeyNameError::Empty)),
            (
                with("\u{2014} a ", "\u{2014} a+ "),
                name(KeyNameError::Character { found: '+' }),
            ),
            (
                with("\u{2014} a ", "\u{2014} a\u{a0} "),
                name(KeyNameError::Character { found: '\u{a0}' }),
            ),
            (
                with("\u{2014} a ", &format!("\u{2014} {} ", "n".repeat(256))),
                name(KeyNameError::TooLong { found_bytes: 256 }),
            ),
            (with("\u{2014} a ", "\u{2014} a  "), line(0, L::Base64)),
            (
                with(base64, base64.trim_end_matches('=')),
                line(0, L::Base64),
            ),
            (with(base64, &format!("{base64} ")), line(0, L::Base64)),
            (with(base64, ""), line(0, L::TooShort { found_bytes: 0 })),
            (
                with(base64, "AAAA"),
                line(0, L::TooShort { found_bytes: 3 }),
            ),
            (
                with(base64, "AAAAAA=="),
                line(0, L::TooShort { found_bytes: 4 }),
            ),
            (
                format!("t\n\n{}", format!("{first}\n").repeat(65)).into_bytes(),
                NoteError::TooManySignatures,
            ),
            (
                with("two", &"t".repeat(MAX_NOTE_BYTES)),
                NoteError::TooLong {
                    found_bytes: good.len() - 3 + MAX_NOTE_BYTES,
                },
            ),
        ];
        for (bytes, error) in rows {
            let shown: String = String::from_utf8_lossy(&bytes).chars().take(300).collect();
            assert_eq!(Note::parse(&bytes), Err(error), "{shown}");
        }
        let most = format!("t\n\n{}", format!("{first}\n").repeat(64));
        assert_eq!(
            Note::parse(most.as_bytes()).map(|note| note.signatures().len()),
            Ok(64)
        );
    }

    #[test]
    fn what_would_not_be_read_is_not_written() {
        let log = signer("a", 1);
        let signature = log.sign(TEXT).expect("signs");
        let new = |text: &str, count| Note::new(text.to_owned(), vec![signature.clone(); count]);
        let long = format!("{}\n", "t".repeat(MAX_NOTE_BYTES - 1));
        let rows = [
            ("no newline", 1, NoteError::TextUnterminated),
            ("", 1, NoteError::TextUnterminated),
            ("a\x1bb\n", 1, NoteError::Control { found: '\x1b' }),
            (TEXT, 0, NoteError::NoSignatures),
            (TEXT, 65, NoteError::TooManySignatures),
            (
                long.as_str(),
                1,
                NoteError::TooLong {
                    found_bytes: MAX_NOTE_BYTES + 2 + signature.to_string().len(),
                },
            ),
        ];
        for (text, count, error) in rows {
            assert_eq!(new(text, count), Err(error));
        }
        assert_eq!(log.sign("no newline"), Err(NoteError::TextUnterminated));
        assert_eq!(log.sign("a\rb\n"), Err(NoteError::Control { found: '\r' }));
        let longer = "t".repeat(MAX_NOTE_BYTES + 1);
        let error = NoteError::TooLong {
            found_bytes: MAX_NOTE_BYTES + 1,
        };
        assert_eq!(log.sign(&longer), Err(error));

        let note = note(TEXT, &[&log]);
        let more = |count| note.clone().with_signatures(vec![signature.clone(); count]);
        assert_eq!(more(63).map(|note| note.signatures().len()), Ok(64));
        assert_eq!(more(64), Err(NoteError::TooManySignatures));
        assert_eq!(more(1000), Err(NoteError::TooManySignatures));
    }

    #[test]
    fn only_known_keys_vouch_for_a_note() {
        let (a, b) = (signer("a", 1), signer("b", 2));
        let (key_a, key_b) = (a.verifier_key().clone(), b.verifier_key().clone());
        let both = note(TEXT, &[&a, &b]);
        let signers = |note: Note, keys: &[VerifierKey]| {
            note.verify(keys)
                .map(|verified| verified.signers().to_vec())
        };
        assert_eq!(
            signers(both.clone(), from_ref(&key_a)),
            Ok(vec![key_a.clone()])
        );
        assert_eq!(
            signers(both.clone(), &[key_b.clone(), key_a.clone()]),
            Ok(vec![key_a.clone(), key_b.clone()])
        );
        let twice = note(TEXT, &[&a, &a]);
        assert_eq!(signers(twice, from_ref(&key_a)), Ok(vec![key_a.clone()]));
        let verified = both.clone().verify(from_ref(&key_b)).expect("signed");
        assert_eq!((verified.text(), verified.note()), (TEXT, &both));

        let none = Err(NoteError::NoKnownSignature);
        let bad = |key: &VerifierKey| {
            let (name, key_id) = (key.name().clone(), key.key_id());
            Err(NoteError::BadSignature { name, key_id })
        };
        assert_eq!(signers(both.clone(), &[]), none);
        // Same name with another key, and the same key under another name.
        assert_eq!(
            signers(both.clone(), &[signer("a", 3).verifier_key().clone()]),
            none
        );
        assert_eq!(
            signers(both.clone(), &[signer("c", 1).verifier_key().clone()]),
            none
        );
        // A wrong signature of a known key refuses the note, however well others signed.
        let edited = both.to_string().replacen("one", "two", 1);
        let edited = Note::parse(edited.as_bytes()).expect("well formed");
        assert_eq!(signers(edited, from_ref(&key_b)), bad(&key_b));
        let other_text = b.sign("other\n").expect("signs");
        for signature in [
            other_text.clone(),
            NoteSignature::from_parts(key_b.name().clone(), key_b.key_id(), vec![1]),
            NoteSignature::from_parts(key_b.name().clone(), key_b.key_id(), vec![0; 64]),
            NoteSignature::from_parts(key_b.name().clone(), key_b.key_id(), vec![0; 65]),
        ] {
            let mixed = note(TEXT, &[&a])
                .with_signatures([signature])
                .expect("room");
            assert_eq!(
                signers(mixed.clone(), &[key_a.clone(), key_b.clone()]),
                bad(&key_b)
            );
            assert_eq!(signers(mixed, from_ref(&key_a)), Ok(vec![key_a.clone()]));
        }
    }

    #[test]
    fn every_flipped_bit_of_a_signed_text_is_refused() {
        let log = signer("a", 1);
        let key = log.verifier_key().clone();
        let good = note(TEXT, &[&log]).to_string().into_bytes();
        let opens = |bytes: &[u8]| Note::parse(bytes).and_then(|note| note.verify(from_ref(&key)));
        assert_eq!(
            opens(&good).map(|note| note.text().to_owned()),
            Ok(TEXT.to_owned())
        );
        for place in 0..good.len() {
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[place] ^= 1 << bit;
                let verdict = opens(&bytes);
                let in_text = place < TEXT.len() - 1;
                let text = String::from_utf8(bytes);
                let control = |text: &String| text.chars().find(|c| *c < ' ' && *c != '\n');
                let at = format!("byte {place} bit {bit}");
                match text.as_ref().map(control) {
                    Err(_) => assert_eq!(verdict, Err(NoteError::Utf8), "{at}"),
                    Ok(Some(found)) => {
                        assert_eq!(verdict, Err(NoteError::Control { found }), "{at}");
                    }
                    Ok(None) if in_text => {
                        let (name, key_id) = (key.name().clone(), key.key_id());
                        let error = NoteError::BadSignature { name, key_id };
                        assert_eq!(verdict, Err(error), "{at}");
                    }
                    Ok(None) => assert!(
                        matches!(
                            verdict,
                            Err(NoteError::NoBlankLine
                                | NoteError::SignatureLine { .. }
                                | NoteError::SignatureUnterminated
                                | NoteError::BadSignature { .. }
                                | NoteError::NoKnownSignature)
                        ),
                        "{at}: {verdict:?}"
                    ),
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_note_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            text in "(\\PC|\n){0,40}",
            lines in proptest::collection::vec("(\u{2014} )?[a-z+ ]{0,4} [A-Za-z0-9+/]{0,12}={0,2}", 0..4),
        ) {
            let framed = format!("{text}\n\n{}\n", lines.join("\n"));
            for bytes in [bytes, framed.into_bytes()] {
                if let Ok(note) = Note::parse(&bytes) {
                    prop_assert_eq!(note.to_string().into_bytes(), bytes);
                    prop_assert_eq!(note.verify(&[]), Err(NoteError::NoKnownSignature));
                }
            }
        }
    }
}
