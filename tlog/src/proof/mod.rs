//! Proofs over the tree: that a leaf is in it, that a larger tree keeps a smaller one.

mod consistency;
mod file;
mod inclusion;
#[cfg(test)]
mod tests;

pub use consistency::{
    ConsistencyError, ConsistencyProof, MAX_CONSISTENCY_HASHES, ProveConsistencyError,
    VerifiedConsistency,
};
pub use file::{MAX_PROOF_BYTES, TlogProof, TlogProofError, TlogProofRefused};
pub use inclusion::{
    InclusionError, InclusionProof, MAX_INCLUSION_HASHES, ProveInclusionError, VerifiedInclusion,
};

/// Where [RFC 6962 §2.1] splits a tree of `size` leaves: the largest power of two below it; `None`
/// for fewer than two leaves.
fn split(size: u64) -> Option<u64> {
    let below = size.checked_sub(1)?.checked_ilog2()?;
    1u64.checked_shl(below)
}
