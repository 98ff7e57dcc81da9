//! Merkle log: leaves, tree, tiles, checkpoints and proofs: make and verify.
//!
//! Everything here is a function of its arguments: no file, socket, clock or source of randomness is
//! read. A caller brings bytes (a tile, a note, a stored frontier) and takes bytes or a verdict away.
//!
//! - [`hash`]: RFC 6962 leaf and node hashing, [`struct@Hash`].
//! - [`tree`]: [`Frontier`] (append and root), [`HashReader`] (what a proof is made from),
//!   [`MemoryTree`], [`TreeHead`].
//! - [`proof`]: inclusion and consistency proofs, made from a [`HashReader`], verified to
//!   [`VerifiedInclusion`] and [`VerifiedConsistency`]; C2SP `tlog-proof`, one text of proof and checkpoint.
//! - [`tile`]: C2SP `tlog-tiles`: coordinates and paths, hash tiles, entry bundles.
//! - [`note`]: C2SP `signed-note`: parse, format, sign, verify.
//! - [`checkpoint`]: C2SP `tlog-checkpoint`, to a [`VerifiedCheckpoint`].
//! - [`cosignature`]: C2SP `tlog-cosignature` (Ed25519 `cosignature/v1`), to a [`VerifiedCosignature`].
//! - [`witness`]: C2SP `tlog-witness`: what a log asks for and whether a witness may cosign.
//!
//! Sources: [RFC 6962 §2.1], [RFC 9162 §2.1], [C2SP signed-note], [C2SP tlog-checkpoint],
//! [C2SP tlog-tiles], [C2SP tlog-proof], [C2SP tlog-cosignature], [C2SP tlog-witness].

mod base64;
pub mod checkpoint;
pub mod cosignature;
pub mod hash;
#[cfg(test)]
mod known_answers;
pub mod note;
pub mod proof;
pub mod tile;
pub mod tree;
pub mod witness;

pub use checkpoint::{Checkpoint, CheckpointError, OpenError, Origin, VerifiedCheckpoint};
pub use cosignature::{CosignatureError, Cosigner, CosignerKey, VerifiedCosignature};
pub use hash::{HASH_BYTES, Hash, HashError, empty_root, leaf_hash, node_hash};
pub use note::{KeyName, Note, NoteError, NoteSignature, NoteSigner, VerifiedNote, VerifierKey};
pub use proof::{
    ConsistencyError, ConsistencyProof, InclusionError, InclusionProof, TlogProof,
    VerifiedConsistency, VerifiedInclusion,
};
pub use tile::{BundleId, EntryBundle, HashTile, TileBuilder, TileId, TileSet};
pub use tree::{Frontier, FrontierError, HashReader, MemoryTree, NodeId, ReadError, TreeHead};
