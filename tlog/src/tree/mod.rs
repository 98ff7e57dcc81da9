//! The Merkle tree: what is appended to, what proofs read.

mod frontier;
mod head;
mod memory;
mod node;

pub use frontier::{
    FRONTIER_VERSION, Frontier, FrontierError, MAX_FRONTIER_BYTES, MAX_FRONTIER_HASHES,
};
pub use head::TreeHead;
pub use memory::MemoryTree;
pub use node::{HashReader, NodeId, ReadError, root};
pub(crate) use node::{fold_right, range_hash, subtrees};
