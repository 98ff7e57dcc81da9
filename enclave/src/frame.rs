//! Sealed frames of an append-only file: one-use keys, chained in order.
//!
//! A file is a header followed by frames:
//!
//! ```text
//! file  = magic 8 | version u32 | file id 32 | HMAC-SHA-256 over these 32
//! frame = salt 32 | sealed header (body length u32, sequence u64) 12 + 16
//!                 | sealed body, body length + 16
//! ```
//!
//! Numbers are big-endian. Each frame has a key of its own, HKDF-SHA-256 over
//! the store key with 32 random bytes of salt, under which AES-256-GCM seals
//! exactly two messages: nonce 0 the header, nonce 1 the body. So no nonce can
//! repeat, whatever the disk is rolled back to. The associated data name the
//! file, the sequence and the tag of the frame before: a frame that is moved,
//! dropped from the middle or taken from another file (or from another history
//! of the same file) does not open. What the chain can't show is that whole
//! frames are missing at the end; that is the witnesses' part.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use ring::rand::SecureRandom;
use ring::{digest, hkdf, hmac};
use std::fmt;
use thiserror::Error;
use zeroize::Zeroizing;

/// Bytes of the header of a file.
pub const FILE_HEADER_BYTES: usize = MAGIC.len() + 4 + FILE_ID_BYTES + MAC_BYTES;

/// Bytes of a frame before its body.
pub const FRAME_HEADER_BYTES: usize = SALT_BYTES + SEALED_HEADER_BYTES;

/// Bytes by which a sealed body is longer than the body.
pub const BODY_TAG_BYTES: usize = TAG_BYTES;

/// Bodies of more bytes are neither sealed nor opened. Two groups of batches
/// of 4 MiB fit; a reader never has to allocate more.
pub const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// So many frames behind one that is lost are looked for.
pub const FRAMES_BEHIND: u64 = 16;

/// The format that this code writes: a file may begin with a snapshot.
pub const FORMAT_VERSION: u32 = 2;

/// The oldest format that this code reads: the same frames, and no snapshot.
pub const OLDEST_FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"TKSTORE\0";
const FILE_ID_BYTES: usize = 32;
const MAC_BYTES: usize = 32;
const SALT_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const HEADER_BYTES: usize = 4 + 8;
const SEALED_HEADER_BYTES: usize = HEADER_BYTES + TAG_BYTES;

const FILE_KEY_LABEL: &[u8] = b"tokenkeep/store/file-header/v1";
const FRAME_KEY_LABEL: &[u8] = b"tokenkeep/store/frame-key/v1";
const HEADER_LABEL: &[u8] = b"tokenkeep/store/frame-header/v1";
const BODY_LABEL: &[u8] = b"tokenkeep/store/frame-body/v1";
const PLACE_LABEL: &[u8] = b"tokenkeep/store/place/v1";

/// Why a file header or a frame was not sealed or not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The body to seal is over [`MAX_BODY_BYTES`].
    #[error("a frame body of {body_bytes} bytes is over the bound")]
    TooLarge {
        /// What was asked for.
        body_bytes: usize,
    },
    /// The random source failed.
    #[error("no random bytes")]
    Random,
    /// The file holds as many frames as can be numbered.
    #[error("no sequence number is left")]
    Exhausted,
    /// The cipher refused to seal.
    #[error("sealing failed")]
    Seal,
    /// The file does not begin as one of ours.
    #[error("not a store file")]
    Magic,
    /// The file is in another format.
    #[error(
        "store format {found} is not known: this program reads {OLDEST_FORMAT_VERSION} to {FORMAT_VERSION}"
    )]
    Version {
        /// The version that the file names.
        found: u32,
    },
    /// The file header was changed, or the key is not the one it was made with.
    #[error("the file header is not authentic under this key")]
    FileHeader,
    /// A frame header does not open at this place of this file.
    #[error("the frame header is not authentic at this place")]
    Header,
    /// A frame header opened but breaks the format.
    #[error("the frame header breaks the format")]
    HeaderValues,
    /// A frame body is not as long as its header says.
    #[error("the frame body has {found} bytes instead of {expected}")]
    BodyLength {
        /// What the header says, with the tag.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// A frame body does not open.
    #[error("the frame body is not authentic")]
    Body,
}

/// The place at which the next frame of a file goes: file, sequence number and
/// the tag that it is chained to.
///
/// Only a [`FrameCipher`] makes one, from an authentic header or frame:
///
/// ```compile_fail
/// let chain = enclave::frame::Chain { file_id: [0; 32], sequence: 0, previous: [0; 16] };
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    file_id: [u8; FILE_ID_BYTES],
    sequence: u64,
    previous: [u8; TAG_BYTES],
}

impl Chain {
    /// The number of the next frame, from 0.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What tells this place from every other one, of this file and of others:
    /// SHA-256 over file id, sequence and the tag before. It names a state, down
    /// to its last frame, to whoever may not see it.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut digest = digest::Context::new(&digest::SHA256);
        digest.update(&self.associated_data(PLACE_LABEL, &[]));
        let mut fingerprint = [0; 32];
        for (to, from) in fingerprint.iter_mut().zip(digest.finish().as_ref()) {
            *to = *from;
        }
        fingerprint
    }

    fn next(&self, tag: [u8; TAG_BYTES]) -> Result<Self, FrameError> {
        Ok(Self {
            file_id: self.file_id,
            sequence: self.sequence.checked_add(1).ok_or(FrameError::Exhausted)?,
            previous: tag,
        })
    }

    fn associated_data(&self, label: &[u8], header_tag: &[u8]) -> Vec<u8> {
        let mut data = Vec::with_capacity(128);
        data.extend_from_slice(label);
        data.extend_from_slice(&self.file_id);
        data.extend_from_slice(&self.sequence.to_be_bytes());
        data.extend_from_slice(&self.previous);
        data.extend_from_slice(header_tag);
        data
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

/// A frame header that opened at its place; opens the body.
///
/// Only [`FrameCipher::open_header`] makes one:
///
/// ```compile_fail
/// fn forge(chain: enclave::frame::Chain) -> enclave::frame::AuthenticHeader {
///     enclave::frame::AuthenticHeader { chain, body_bytes: 0, key: todo!(), tag: [0; 16] }
/// }
/// ```
pub struct AuthenticHeader {
    chain: Chain,
    body_bytes: usize,
    key: LessSafeKey,
    tag: [u8; TAG_BYTES],
}

impl AuthenticHeader {
    /// Bytes of the sealed body that follows the header, its tag included. At
    /// most [`MAX_BODY_BYTES`] + [`BODY_TAG_BYTES`].
    #[must_use]
    pub fn sealed_body_bytes(&self) -> usize {
        self.body_bytes.saturating_add(TAG_BYTES)
    }

    /// Opens the sealed body in place. Gives the body and the place of the next
    /// frame.
    ///
    /// # Errors
    /// [`FrameError::BodyLength`], [`FrameError::Body`] or
    /// [`FrameError::Exhausted`].
    pub fn open_body(self, sealed: &mut [u8]) -> Result<(&[u8], Chain), FrameError> {
        if sealed.len() != self.sealed_body_bytes() {
            return Err(FrameError::BodyLength {
                expected: self.sealed_body_bytes(),
                found: sealed.len(),
            });
        }
        let tag = *sealed
            .last_chunk::<TAG_BYTES>()
            .ok_or(FrameError::HeaderValues)?;
        let data = self.chain.associated_data(BODY_LABEL, &self.tag);
        let body = self
            .key
            .open_in_place(nonce(1), Aad::from(data), sealed)
            .map_err(|_unspecified| FrameError::Body)?;
        Ok((body, self.chain.next(tag)?))
    }
}

impl fmt::Debug for AuthenticHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticHeader")
            .field("chain", &self.chain)
            .field("body_bytes", &self.body_bytes)
            .finish_non_exhaustive()
    }
}

/// Seals and opens the frames of a store's files.
pub struct FrameCipher {
    store_key: Zeroizing<[u8; 32]>,
}

impl FrameCipher {
    /// A cipher under a store key: 32 uniformly random bytes, wiped on drop.
    #[must_use]
    pub fn new(store_key: Zeroizing<[u8; 32]>) -> Self {
        Self { store_key }
    }

    /// Begins a file with a random id: its header and the place of its first
    /// frame.
    ///
    /// # Errors
    /// [`FrameError::Random`] or [`FrameError::Seal`].
    pub fn begin_file(
        &self,
        random: &dyn SecureRandom,
    ) -> Result<([u8; FILE_HEADER_BYTES], Chain), FrameError> {
        let mut file_id = [0; FILE_ID_BYTES];
        random
            .fill(&mut file_id)
            .map_err(|_unspecified| FrameError::Random)?;
        let mut bytes = Vec::with_capacity(FILE_HEADER_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_be_bytes());
        bytes.extend_from_slice(&file_id);
        let key = self.file_key(&file_id).ok_or(FrameError::Seal)?;
        let mac = hmac::sign(&key, &bytes);
        bytes.extend_from_slice(mac.as_ref());
        let header = bytes.try_into().map_err(|_bytes| FrameError::Seal)?;
        let previous = *mac
            .as_ref()
            .first_chunk::<TAG_BYTES>()
            .ok_or(FrameError::Seal)?;
        Ok((
            header,
            Chain {
                file_id,
                sequence: 0,
                previous,
            },
        ))
    }

    /// Checks the header of a file. Gives the place of its first frame.
    ///
    /// # Errors
    /// [`FrameError::Magic`], [`FrameError::Version`] or
    /// [`FrameError::FileHeader`].
    pub fn open_file(&self, header: &[u8; FILE_HEADER_BYTES]) -> Result<Chain, FrameError> {
        let rest = header
            .as_slice()
            .strip_prefix(&MAGIC)
            .ok_or(FrameError::Magic)?;
        let (version, rest) = rest.split_first_chunk::<4>().ok_or(FrameError::Magic)?;
        let found = u32::from_be_bytes(*version);
        if !(OLDEST_FORMAT_VERSION..=FORMAT_VERSION).contains(&found) {
            return Err(FrameError::Version { found });
        }
        let (file_id, mac) = rest
            .split_first_chunk::<FILE_ID_BYTES>()
            .ok_or(FrameError::FileHeader)?;
        let (signed, _mac) = header
            .split_last_chunk::<MAC_BYTES>()
            .ok_or(FrameError::FileHeader)?;
        let key = self.file_key(file_id).ok_or(FrameError::FileHeader)?;
        hmac::verify(&key, signed, mac).map_err(|_unspecified| FrameError::FileHeader)?;
        let previous = *mac
            .first_chunk::<TAG_BYTES>()
            .ok_or(FrameError::FileHeader)?;
        Ok(Chain {
            file_id: *file_id,
            sequence: 0,
            previous,
        })
    }

    /// Seals a body as the frame at `chain`, appended to `out`. Gives the place
    /// of the frame after it. After an error `out` is as it was.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`], [`FrameError::Random`],
    /// [`FrameError::Exhausted`] or [`FrameError::Seal`].
    pub fn seal(
        &self,
        chain: &Chain,
        random: &dyn SecureRandom,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Chain, FrameError> {
        let body_bytes = body.len();
        let too_large = FrameError::TooLarge { body_bytes };
        if body_bytes > MAX_BODY_BYTES {
            return Err(too_large);
        }
        let length = u32::try_from(body_bytes).map_err(|_over| too_large)?;
        let mut salt = [0; SALT_BYTES];
        random
            .fill(&mut salt)
            .map_err(|_unspecified| FrameError::Random)?;
        let key = self.frame_key(&salt).ok_or(FrameError::Seal)?;

        let mut header = [0; HEADER_BYTES];
        if let Some((front, back)) = header.split_first_chunk_mut::<4>() {
            *front = length.to_be_bytes();
            back.copy_from_slice(&chain.sequence.to_be_bytes());
        }
        let header_tag = seal(
            &key,
            0,
            &chain.associated_data(HEADER_LABEL, &[]),
            &mut header,
        )?;
        let front = out.len();
        out.reserve(body_bytes.saturating_add(FRAME_HEADER_BYTES + BODY_TAG_BYTES));
        out.extend_from_slice(&salt);
        out.extend_from_slice(&header);
        out.extend_from_slice(&header_tag);
        let begins = out.len();
        out.extend_from_slice(body);
        let data = chain.associated_data(BODY_LABEL, &header_tag);
        let body = out.get_mut(begins..).ok_or(FrameError::Seal);
        let tag = body.and_then(|body| seal(&key, 1, &data, body));
        let sealed = tag.and_then(|tag| Ok((tag, chain.next(tag)?)));
        // What was not sealed stays in here.
        let (tag, next) = sealed.inspect_err(|_| out.truncate(front))?;
        out.extend_from_slice(&tag);
        Ok(next)
    }

    /// Opens the header of the frame at `chain`.
    ///
    /// # Errors
    /// [`FrameError::Header`] or [`FrameError::HeaderValues`].
    pub fn open_header(
        &self,
        chain: &Chain,
        frame: &[u8; FRAME_HEADER_BYTES],
    ) -> Result<AuthenticHeader, FrameError> {
        let (salt, sealed) = frame
            .split_first_chunk::<SALT_BYTES>()
            .ok_or(FrameError::Header)?;
        let tag = *sealed.last_chunk::<TAG_BYTES>().ok_or(FrameError::Header)?;
        let key = self.frame_key(salt).ok_or(FrameError::Header)?;
        let mut sealed = sealed.to_vec();
        let header = open_header(&key, chain, &mut sealed).ok_or(FrameError::Header)?;
        let (length, rest) = header
            .split_first_chunk::<4>()
            .ok_or(FrameError::HeaderValues)?;
        let sequence = rest.first_chunk::<8>().ok_or(FrameError::HeaderValues)?;
        let body_bytes = usize::try_from(u32::from_be_bytes(*length))
            .map_err(|_over| FrameError::HeaderValues)?;
        if body_bytes > MAX_BODY_BYTES || u64::from_be_bytes(*sequence) != chain.sequence {
            return Err(FrameError::HeaderValues);
        }
        Ok(AuthenticHeader {
            chain: *chain,
            body_bytes,
            key,
            tag,
        })
    }

    /// Whether one of the [`FRAMES_BEHIND`] frames behind the one at `chain` begins somewhere in these bytes, of which
    /// that frame's are the first: then it was whole once. The tag that the found one is chained to must be there, too.
    /// Takes some microseconds for each byte.
    #[must_use]
    pub fn has_frame_behind(&self, chain: &Chain, bytes: &[u8]) -> bool {
        bytes
            .windows(TAG_BYTES.saturating_add(FRAME_HEADER_BYTES))
            .skip(FRAME_HEADER_BYTES)
            .any(|window| self.is_frame_behind(chain, window).unwrap_or(false))
    }

    /// Whether a frame's header stands behind a tag.
    fn is_frame_behind(&self, chain: &Chain, window: &[u8]) -> Option<bool> {
        let (previous, frame) = window.split_first_chunk::<TAG_BYTES>()?;
        let (salt, sealed) = frame.split_first_chunk::<SALT_BYTES>()?;
        let (first, rest) = salt.split_first()?;
        if rest.iter().all(|byte| byte == first) {
            return None;
        }
        let key = self.frame_key(salt)?;
        let mut opened = [0; SEALED_HEADER_BYTES];
        let mut behind = 1..=FRAMES_BEHIND;
        Some(behind.any(|number| {
            let Some(sequence) = chain.sequence.checked_add(number) else {
                return false;
            };
            let chain = Chain {
                file_id: chain.file_id,
                sequence,
                previous: *previous,
            };
            opened.copy_from_slice(sealed);
            open_header(&key, &chain, &mut opened).is_some()
        }))
    }

    fn file_key(&self, file_id: &[u8; FILE_ID_BYTES]) -> Option<hmac::Key> {
        hkdf::Salt::new(hkdf::HKDF_SHA256, file_id)
            .extract(self.store_key.as_slice())
            .expand(&[FILE_KEY_LABEL], hmac::HMAC_SHA256)
            .ok()
            .map(hmac::Key::from)
    }

    fn frame_key(&self, salt: &[u8; SALT_BYTES]) -> Option<LessSafeKey> {
        hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
            .extract(self.store_key.as_slice())
            .expand(&[FRAME_KEY_LABEL], &AES_256_GCM)
            .ok()
            .map(|okm| LessSafeKey::new(UnboundKey::from(okm)))
    }
}

impl fmt::Debug for FrameCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameCipher([redacted])")
    }
}

/// Opens a sealed header in place.
fn open_header<'a>(key: &LessSafeKey, chain: &Chain, sealed: &'a mut [u8]) -> Option<&'a [u8]> {
    let data = chain.associated_data(HEADER_LABEL, &[]);
    let header = key.open_in_place(nonce(0), Aad::from(data), sealed);
    header.ok().map(|header| &*header)
}

/// The two nonces of a one-use key: 0 for the header, 1 for the body.
fn nonce(message: u8) -> Nonce {
    let mut bytes = [0; 12];
    if let Some(last) = bytes.last_mut() {
        *last = message;
    }
    Nonce::assume_unique_for_key(bytes)
}

fn seal(
    key: &LessSafeKey,
    message: u8,
    data: &[u8],
    in_out: &mut [u8],
) -> Result<[u8; TAG_BYTES], FrameError> {
    let tag: Tag = key
        .seal_in_place_separate_tag(nonce(message), Aad::from(data), in_out)
        .map_err(|_unspecified| FrameError::Seal)?;
    tag.as_ref().try_into().map_err(|_length| FrameError::Seal)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "tests count small numbers")]

    use super::*;
    use ring::rand::SystemRandom;

    struct File {
        header: [u8; FILE_HEADER_BYTES],
        first: Chain,
        frames: Vec<Vec<u8>>,
        chains: Vec<Chain>,
    }

    fn cipher(byte: u8) -> FrameCipher {
        FrameCipher::new(Zeroizing::new([byte; 32]))
    }

    fn file(cipher: &FrameCipher, bodies: &[&[u8]]) -> File {
        let random = SystemRandom::new();
        let (header, first) = cipher.begin_file(&random).unwrap();
        let (mut frames, mut chains, mut chain) = (vec![], vec![first], first);
        for body in bodies {
            let mut out = vec![];
            chain = cipher.seal(&chain, &random, body, &mut out).unwrap();
            frames.push(out);
            chains.push(chain);
        }
        File {
            header,
            first,
            frames,
            chains,
        }
    }

    fn open(
        cipher: &FrameCipher,
        chain: &Chain,
        frame: &[u8],
    ) -> Result<(Vec<u8>, Chain), FrameError> {
        let (header, body) = frame.split_first_chunk().unwrap();
        let header = cipher.open_header(chain, header)?;
        let mut body = body.to_vec();
        header
            .open_body(&mut body)
            .map(|(body, next)| (body.to_vec(), next))
    }

    #[test]
    fn what_is_sealed_opens_in_order() {
        let cipher = cipher(7);
        let bodies: [&[u8]; 3] = [b"first", b"", &[9; 70_000]];
        let file = file(&cipher, &bodies);
        let mut chain = cipher.open_file(&file.header).unwrap();
        assert_eq!(chain, file.first);
        for (frame, body) in file.frames.iter().zip(bodies) {
            assert_eq!(
                frame.len(),
                FRAME_HEADER_BYTES + body.len() + BODY_TAG_BYTES
            );
            let (opened, next) = open(&cipher, &chain, frame).unwrap();
            assert_eq!(opened, body);
            chain = next;
        }
        assert_eq!(chain, file.chains[3]);
        assert_eq!(chain.sequence(), 3);
    }

    #[test]
    fn equal_bodies_give_unlike_frames() {
        let file = file(&cipher(7), &[b"same", b"same"]);
        assert_ne!(file.frames[0], file.frames[1]);
        assert_ne!(file.frames[0][..32], file.frames[1][..32]);
    }

    #[test]
    fn every_flip_of_a_file_header_is_refused() {
        let cipher = cipher(7);
        let file = file(&cipher, &[]);
        for at in 0..FILE_HEADER_BYTES {
            let mut header = file.header;
            header[at] ^= 0x10;
            let expected = match at {
                0..8 => FrameError::Magic,
                8..12 => FrameError::Version {
                    found: u32::from_be_bytes(header[8..12].try_into().unwrap()),
                },
                _ => FrameError::FileHeader,
            };
            assert_eq!(
                cipher.open_file(&header).unwrap_err(),
                expected,
                "byte {at}"
            );
        }
    }

    /// A header of a version, with a good MAC.
    fn header_of(cipher: &FrameCipher, version: u32) -> [u8; FILE_HEADER_BYTES] {
        let id = [4; FILE_ID_BYTES];
        let signed = [MAGIC.as_slice(), &version.to_be_bytes(), &id].concat();
        let mac = hmac::sign(&cipher.file_key(&id).unwrap(), &signed);
        [signed.as_slice(), mac.as_ref()]
            .concat()
            .try_into()
            .unwrap()
    }

    #[test]
    fn formats_that_are_not_known_are_refused_by_number() {
        let cipher = cipher(7);
        for known in [1, 2] {
            assert!(cipher.open_file(&header_of(&cipher, known)).is_ok());
        }
        for found in [0, 3, 256, u32::MAX] {
            assert_eq!(
                cipher.open_file(&header_of(&cipher, found)).unwrap_err(),
                FrameError::Version { found }
            );
        }
    }

    #[test]
    fn each_place_has_a_fingerprint_of_its_own() {
        let cipher = cipher(7);
        let (mine, other) = (file(&cipher, &[b"a", b"b"]), file(&cipher, &[b"a", b"b"]));
        let mut seen: Vec<_> = [&mine.chains[..], &other.chains[..]]
            .concat()
            .iter()
            .map(Chain::fingerprint)
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 6);
    }

    #[test]
    fn every_flip_of_a_frame_is_refused() {
        let cipher = cipher(7);
        let file = file(&cipher, &[b"a body of some bytes"]);
        for at in 0..file.frames[0].len() {
            for bit in 0..8 {
                let mut frame = file.frames[0].clone();
                frame[at] ^= 1 << bit;
                let expected = if at < FRAME_HEADER_BYTES {
                    FrameError::Header
                } else {
                    FrameError::Body
                };
                assert_eq!(
                    open(&cipher, &file.first, &frame).unwrap_err(),
                    expected,
                    "byte {at} bit {bit}"
                );
            }
        }
    }

    #[test]
    fn a_frame_opens_at_its_own_place_only() {
        let cipher = cipher(7);
        let mine = file(&cipher, &[b"one", b"two", b"three"]);
        let other = file(&cipher, &[b"one", b"two", b"three"]);
        let random = SystemRandom::new();
        let mut fork = vec![];
        let after_fork = cipher
            .seal(&mine.first, &random, b"one", &mut fork)
            .unwrap();

        let rows: [(&str, &Chain, &[u8]); 5] = [
            ("a later frame", &mine.chains[0], &mine.frames[1]),
            ("an earlier frame", &mine.chains[2], &mine.frames[0]),
            ("the frame after next", &mine.chains[1], &mine.frames[2]),
            ("another file's frame", &mine.chains[1], &other.frames[1]),
            ("another history's frame", &after_fork, &mine.frames[1]),
        ];
        for (name, chain, frame) in rows {
            assert_eq!(
                open(&cipher, chain, frame).unwrap_err(),
                FrameError::Header,
                "{name}"
            );
        }
        assert_eq!(
            open(&cipher, &mine.chains[1], &mine.frames[1]).unwrap().0,
            b"two"
        );
    }

    #[test]
    fn header_and_body_of_two_frames_do_not_mix() {
        let cipher = cipher(7);
        let random = SystemRandom::new();
        let file = file(&cipher, &[b"body"]);
        let mut twin = vec![];
        cipher
            .seal(&file.first, &random, b"ydob", &mut twin)
            .unwrap();
        let mut mixed = file.frames[0][..FRAME_HEADER_BYTES].to_vec();
        mixed.extend_from_slice(&twin[FRAME_HEADER_BYTES..]);
        assert_eq!(
            open(&cipher, &file.first, &mixed).unwrap_err(),
            FrameError::Body
        );
    }

    #[test]
    fn another_key_opens_nothing() {
        let file = file(&cipher(7), &[b"body"]);
        let thief = cipher(8);
        assert_eq!(
            thief.open_file(&file.header).unwrap_err(),
            FrameError::FileHeader
        );
        assert_eq!(
            open(&thief, &file.first, &file.frames[0]).unwrap_err(),
            FrameError::Header
        );
    }

    #[test]
    fn lengths_are_bounded() {
        let cipher = cipher(7);
        let random = SystemRandom::new();
        let file = file(&cipher, &[b"body"]);
        let mut out = b"kept".to_vec();
        assert_eq!(
            cipher
                .seal(&file.first, &random, &vec![0; MAX_BODY_BYTES + 1], &mut out)
                .unwrap_err(),
            FrameError::TooLarge {
                body_bytes: MAX_BODY_BYTES + 1
            }
        );
        assert_eq!(out, b"kept");

        let (header, body) = file.frames[0].split_first_chunk().unwrap();
        let header = cipher.open_header(&file.first, header).unwrap();
        assert_eq!(
            header.open_body(&mut body[1..].to_vec()).unwrap_err(),
            FrameError::BodyLength {
                expected: 20,
                found: 19
            }
        );
    }

    #[test]
    fn the_last_sequence_number_is_never_used() {
        let cipher = cipher(7);
        let random = SystemRandom::new();
        let file = file(&cipher, &[]);
        let last = Chain {
            sequence: u64::MAX,
            ..file.first
        };
        let mut out = vec![];
        assert_eq!(
            cipher.seal(&last, &random, b"", &mut out).unwrap_err(),
            FrameError::Exhausted
        );
        assert_eq!(out, b"");
    }

    #[test]
    fn a_header_that_breaks_the_format_is_refused() {
        let cipher = cipher(7);
        let file = file(&cipher, &[]);
        let over = u32::try_from(MAX_BODY_BYTES + 1).unwrap();
        for (name, length, sequence) in [("length", over, 0), ("sequence", 4, 1_u64)] {
            let salt = [3; SALT_BYTES];
            let key = cipher.frame_key(&salt).unwrap();
            let mut header = [length.to_be_bytes().as_slice(), &sequence.to_be_bytes()].concat();
            let data = file.first.associated_data(HEADER_LABEL, &[]);
            let tag = seal(&key, 0, &data, &mut header).unwrap();
            let frame = [salt.as_slice(), &header, &tag].concat();
            assert_eq!(
                cipher
                    .open_header(&file.first, &frame.try_into().unwrap())
                    .unwrap_err(),
                FrameError::HeaderValues,
                "{name}"
            );
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let cipher = cipher(0xa5);
        let file = file(&cipher, &[]);
        assert_eq!(format!("{cipher:?}"), "FrameCipher([redacted])");
        assert_eq!(format!("{:?}", file.first), "Chain { sequence: 0, .. }");
    }
}
