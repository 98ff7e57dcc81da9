//! Checkpoints: a signed tree head [C2SP tlog-checkpoint].

use core::fmt;
use core::str::FromStr;

use thiserror::Error;

use crate::hash::{Hash, HashError, empty_root};
use crate::note::{
    MAX_NOTE_BYTES, Note, NoteError, NoteSignature, NoteSigner, VerifiedNote, VerifierKey,
};
use crate::tree::TreeHead;

/// Longest origin: what `cosigned_message` of [C2SP tlog-cosignature] has room for.
pub const MAX_ORIGIN_BYTES: usize = 255;
/// Most extension lines read. None is recommended.
pub const MAX_EXTENSION_LINES: usize = 16;

/// Why text is no checkpoint.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CheckpointError {
    /// Longer than a note may be.
    #[error("a checkpoint of {found_bytes} bytes is too long")]
    TooLong {
        /// Its length.
        found_bytes: usize,
    },
    /// The last line does not end in a newline.
    #[error("a checkpoint's last line does not end in a newline")]
    Unterminated,
    /// Fewer than three lines.
    #[error("a checkpoint has origin, size and root, not {found} lines")]
    MissingLine {
        /// How many there are.
        found: usize,
    },
    /// The origin is empty.
    #[error("a checkpoint's origin is empty")]
    OriginEmpty,
    /// The origin is longer than [`MAX_ORIGIN_BYTES`].
    #[error("an origin of {found_bytes} bytes is too long")]
    OriginTooLong {
        /// Its length.
        found_bytes: usize,
    },
    /// A line holds a control character.
    #[error("a checkpoint's line holds control character {found:?}")]
    Control {
        /// The first of them.
        found: char,
    },
    /// The size is not ASCII decimal in a `u64` without leading zeros.
    #[error("a checkpoint's size is not decimal")]
    Size,
    /// The root is not 32 bytes in base64.
    #[error("a checkpoint's root is malformed")]
    Root(#[source] HashError),
    /// A tree without leaves whose root is not the empty root.
    #[error("an empty tree has another root")]
    EmptyTreeRoot,
    /// An extension line without characters.
    #[error("an extension line is empty")]
    ExtensionEmpty,
    /// More than [`MAX_EXTENSION_LINES`].
    #[error("a checkpoint has more than {MAX_EXTENSION_LINES} extension lines")]
    TooManyExtensions,
}

/// Why bytes are not a checkpoint of this log.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    /// Not a note, or not signed by the log.
    #[error("the checkpoint's note is refused")]
    Note(#[source] NoteError),
    /// A signed note, but not a checkpoint.
    #[error("the log signed no checkpoint")]
    Checkpoint(#[source] CheckpointError),
    /// A checkpoint of another log.
    #[error("the checkpoint is of {found}, not of {expected}")]
    OtherOrigin {
        /// The log meant.
        expected: Origin,
        /// The log named.
        found: Origin,
    },
}

/// The unique name of a log, first line of its checkpoints: 1 to 255 bytes without control character.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin(String);

impl Origin {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        if text.is_empty() {
            return Err(CheckpointError::OriginEmpty);
        }
        if text.len() > MAX_ORIGIN_BYTES {
            return Err(CheckpointError::OriginTooLong {
                found_bytes: text.len(),
            });
        }
        check_line(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a log says about its tree: origin, size, root, and lines of its own. Signed by nobody yet.
///
/// `FromStr` and `Display` are the note's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: Origin,
    head: TreeHead,
    extensions: Vec<String>,
}

impl Checkpoint {
    /// A checkpoint without extension lines.
    ///
    /// # Errors
    /// [`CheckpointError::EmptyTreeRoot`].
    pub fn new(origin: Origin, head: TreeHead) -> Result<Self, CheckpointError> {
        if head.size == 0 && head.root != empty_root() {
            return Err(CheckpointError::EmptyTreeRoot);
        }
        Ok(Self {
            origin,
            head,
            extensions: Vec::new(),
        })
    }

    /// The log.
    #[must_use]
    pub const fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Size and root of its tree.
    #[must_use]
    pub const fn head(&self) -> TreeHead {
        self.head
    }

    /// The lines after the root, opaque here.
    #[must_use]
    pub fn extensions(&self) -> &[String] {
        &self.extensions
    }

    /// The note that says this, signed by the log. A log must sign none that is inconsistent with one
    /// it signed before [C2SP tlog-checkpoint]: that is the caller's to know.
    ///
    /// # Errors
    /// [`NoteError`]; none for a checkpoint without extension lines.
    pub fn sign(&self, signer: &NoteSigner) -> Result<Note, NoteError> {
        let text = self.to_string();
        let signature = signer.sign(&text)?;
        Note::new(text, vec![signature])
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        if text.len() > MAX_NOTE_BYTES {
            return Err(CheckpointError::TooLong {
                found_bytes: text.len(),
            });
        }
        let lines = text
            .strip_suffix('\n')
            .ok_or(CheckpointError::Unterminated)?;
        let mut lines = lines.split('\n');
        let missing = |found| CheckpointError::MissingLine { found };
        let origin = lines.next().ok_or(missing(0))?.parse()?;
        let size = decimal(lines.next().ok_or(missing(1))?).ok_or(CheckpointError::Size)?;
        let root = lines.next().ok_or(missing(2))?;
        let root = Hash::from_base64(root).map_err(CheckpointError::Root)?;
        let mut checkpoint = Self::new(origin, TreeHead { size, root })?;
        for line in lines {
            if line.is_empty() {
                return Err(CheckpointError::ExtensionEmpty);
            }
            if checkpoint.extensions.len() >= MAX_EXTENSION_LINES {
                return Err(CheckpointError::TooManyExtensions);
            }
            check_line(line)?;
            checkpoint.extensions.push(line.to_owned());
        }
        Ok(checkpoint)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            origin,
            head: TreeHead { size, root },
            extensions,
        } = self;
        writeln!(f, "{origin}\n{size}\n{root}")?;
        for line in extensions {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// A checkpoint that its log signed. Made by [`VerifiedCheckpoint::open`] alone.
///
/// ```compile_fail,E0451
/// # use tlog::{Checkpoint, VerifiedCheckpoint, VerifiedNote};
/// # fn forge(checkpoint: Checkpoint, note: VerifiedNote) -> VerifiedCheckpoint {
/// VerifiedCheckpoint { checkpoint, note }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCheckpoint {
    checkpoint: Checkpoint,
    note: VerifiedNote,
}

impl VerifiedCheckpoint {
    /// Reads a signed note and verifies that one of the log's keys signed it, that it is a
    /// checkpoint, and that it is of this log. Says nothing about an earlier checkpoint: see
    /// [`crate::ConsistencyProof::verify`].
    ///
    /// # Errors
    /// [`OpenError`]: the first rule broken.
    pub fn open(bytes: &[u8], origin: &Origin, keys: &[VerifierKey]) -> Result<Self, OpenError> {
        let note = Note::parse(bytes).map_err(OpenError::Note)?;
        let note = note.verify(keys).map_err(OpenError::Note)?;
        let checkpoint: Checkpoint = note.text().parse().map_err(OpenError::Checkpoint)?;
        if checkpoint.origin != *origin {
            let (expected, found) = (origin.clone(), checkpoint.origin);
            return Err(OpenError::OtherOrigin { expected, found });
        }
        Ok(Self { checkpoint, note })
    }

    /// What the log said.
    #[must_use]
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Size and root of the log's tree.
    #[must_use]
    pub const fn head(&self) -> TreeHead {
        self.checkpoint.head
    }

    /// The note it came in, with every signature. `Display` of it is what was read.
    #[must_use]
    pub const fn note(&self) -> &VerifiedNote {
        &self.note
    }

    /// The note with more signatures, as a log serves it once witnesses cosigned. They are not
    /// verified here: see [`Self::cosignature`].
    ///
    /// # Errors
    /// [`NoteError::TooManySignatures`], [`NoteError::TooLong`].
    pub fn note_with_signatures(
        &self,
        more: impl IntoIterator<Item = NoteSignature>,
    ) -> Result<Note, NoteError> {
        self.note.note().clone().with_signatures(more)
    }
}

fn check_line(line: &str) -> Result<(), CheckpointError> {
    match line.chars().find(|c| *c < ' ') {
        Some(found) => Err(CheckpointError::Control { found }),
        None => Ok(()),
    }
}

/// ASCII decimal without sign or leading zeros; `0` alone is zero.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = text.len() > 1 && text.starts_with('0');
    if digits && !leading_zero {
        text.parse().ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::signature::Ed25519KeyPair;

    use super::*;
    use crate::hash::leaf_hash;

    /// The note text of [C2SP tlog-checkpoint].
    const TEXT: &str =
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

    fn signer(seed: u8) -> NoteSigner {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("seed");
        NoteSigner::new("example.com/behind-the-sofa".parse().expect("name"), pair).expect("key")
    }

    fn origin(text: &str) -> Origin {
        text.parse().expect("origin")
    }

    #[test]
    fn the_checkpoint_of_the_standard_is_read_and_written_back() {
        let checkpoint: Checkpoint = TEXT.parse().expect("the standard's own");
        assert_eq!(checkpoint.origin(), &origin("example.com/behind-the-sofa"));
        assert_eq!(checkpoint.head().size, 20_852_163);
        assert_eq!(checkpoint.to_string(), TEXT);
        let extended = format!("{TEXT}one\ntwo \u{e9}\n");
        let checkpoint: Checkpoint = extended.parse().expect("extensions are allowed");
        assert_eq!(checkpoint.extensions(), ["one", "two \u{e9}"]);
        assert_eq!(checkpoint.to_string(), extended);
        let spaced = TEXT.replace("behind-the-sofa", "behind the sofa + 1");
        assert_eq!(
            spaced.parse::<Checkpoint>().map(|c| c.to_string()),
            Ok(spaced)
        );
        let empty = Checkpoint::new(origin("o"), TreeHead::empty()).expect("empty root");
        assert_eq!(
            empty.to_string(),
            "o\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
        );
        assert_eq!(empty.to_string().parse(), Ok(empty));
    }

    #[test]
    fn malformed_checkpoints_are_refused() {
        use CheckpointError as E;
        let with = |from: &str, to: &str| TEXT.replacen(from, to, 1);
        let rows = [
            (String::new(), E::Unterminated),
            (TEXT.trim_end().to_owned(), E::Unterminated),
            ("\n".to_owned(), E::OriginEmpty),
            ("o\n".to_owned(), E::MissingLine { found: 1 }),
            ("o\n1\n".to_owned(), E::MissingLine { found: 2 }),
            (with("example.com/behind-the-sofa", ""), E::OriginEmpty),
            (
                with("example.com/behind-the-sofa", &"o".repeat(256)),
                E::OriginTooLong { found_bytes: 256 },
            ),
            (with("example", "exam\tple"), E::Control { found: '\t' }),
            (with("sofa\n", "sofa\r\n"), E::Control { found: '\r' }),
            (with("20852163", ""), E::Size),
            (with("20852163", "020852163"), E::Size),
            (with("20852163", "00"), E::Size),
            (with("20852163", "+20852163"), E::Size),
            (with("20852163", "-1"), E::Size),
            (with("20852163", " 20852163"), E::Size),
            (with("20852163", "20852163 "), E::Size),
            (with("20852163", "0x10"), E::Size),
            (with("20852163", "18446744073709551616"), E::Size),
            (with("20852163", "٣"), E::Size),
            (with("q2I=", "q2J="), E::Root(HashError::Base64)),
            (with("q2I=", "q2I"), E::Root(HashError::Base64)),
            (
                with("q2I=", ""),
                E::Root(HashError::Length { found_bytes: 30 }),
            ),
            (with("20852163", "0"), E::EmptyTreeRoot),
            (format!("{TEXT}\n"), E::ExtensionEmpty),
            (format!("{TEXT}a\n\nb\n"), E::ExtensionEmpty),
            (format!("{TEXT}a\0\n"), E::Control { found: '\0' }),
            (format!("{TEXT}{}", "x\n".repeat(17)), E::TooManyExtensions),
            (
                format!("{TEXT}{}\n", "x".repeat(131_072)),
                E::TooLong {
                    found_bytes: 131_155,
                },
            ),
        ];
        for (text, error) in rows {
            let shown: String = text.chars().take(200).collect();
            assert_eq!(text.parse::<Checkpoint>(), Err(error), "{shown:?}");
        }
        assert!(
            format!("{TEXT}{}", "x\n".repeat(16))
                .parse::<Checkpoint>()
                .is_ok()
        );
        let wrong = TreeHead {
            size: 0,
            root: leaf_hash(b""),
        };
        assert_eq!(Checkpoint::new(origin("o"), wrong), Err(E::EmptyTreeRoot));
    }

    #[test]
    fn only_the_logs_own_checkpoint_opens() {
        let log = signer(1);
        let keys = [log.verifier_key().clone()];
        let name = origin("example.com/behind-the-sofa");
        let checkpoint: Checkpoint = TEXT.parse().expect("good");
        let good = checkpoint.sign(&log).expect("signs").to_string();
        let opened = VerifiedCheckpoint::open(good.as_bytes(), &name, &keys).expect("opens");
        assert_eq!(opened.checkpoint(), &checkpoint);
        assert_eq!(opened.head(), checkpoint.head());
        assert_eq!(opened.note().note().to_string(), good);
        assert_eq!(opened.note().signers(), keys);

        let signed = |text: &str, signer: &NoteSigner| {
            let signature = signer.sign(text).expect("signs");
            Note::new(text.to_owned(), vec![signature])
                .expect("note")
                .to_string()
        };
        let bad = OpenError::Note(NoteError::BadSignature {
            name: keys[0].name().clone(),
            key_id: keys[0].key_id(),
        });
        let other = OpenError::OtherOrigin {
            expected: name.clone(),
            found: origin("other"),
        };
        let rows = [
            (good.replacen("20852163", "20852164", 1), bad),
            (
                checkpoint.sign(&signer(2)).expect("signs").to_string(),
                OpenError::Note(NoteError::NoKnownSignature),
            ),
            (
                signed("hello\n", &log),
                OpenError::Checkpoint(CheckpointError::MissingLine { found: 1 }),
            ),
            (
                signed(
                    &TEXT.replacen("example.com/behind-the-sofa", "other", 1),
                    &log,
                ),
                other,
            ),
            (TEXT.to_owned(), OpenError::Note(NoteError::NoBlankLine)),
        ];
        for (note, error) in rows {
            let opened = VerifiedCheckpoint::open(note.as_bytes(), &name, &keys);
            assert_eq!(opened, Err(error), "{note}");
        }
        let none = VerifiedCheckpoint::open(good.as_bytes(), &name, &[]);
        assert_eq!(none, Err(OpenError::Note(NoteError::NoKnownSignature)));
    }

    proptest! {
        #[test]
        fn any_text_is_a_checkpoint_or_refused(
            text in "(\\PC|\n){0,100}",
            lines in "[a-z]{0,3}\n[0-9]{0,21}\n",
            tail in "([a-z]{0,2}\n){0,3}",
        ) {
            let framed = format!("{lines}CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n{tail}");
            for text in [text, framed] {
                if let Ok(checkpoint) = text.parse::<Checkpoint>() {
                    prop_assert_eq!(checkpoint.to_string(), text);
                }
            }
        }
    }
}
