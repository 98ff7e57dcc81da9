//! Receipts: where the leaf of an answer stands, for whoever wants its proof later.

use tlog::Hash;

use super::name::LogName;
use crate::Enclave;
use crate::pending::Durable;

/// Where a leaf stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The log.
    pub log: LogName,
    /// The leaf's place in it.
    pub index: u64,
    /// The leaf's hash [RFC 6962 §2.1].
    pub leaf_hash: Hash,
}

impl Enclave {
    /// The receipt of an answer's first leaf, if it has one. It says nothing of the answer, which
    /// [`release`](Self::release) alone gives out.
    #[must_use]
    pub fn receipt<T>(&self, durable: &Durable<T>) -> Option<Receipt> {
        let first = durable.leaves.first()?;
        let (log, index) = self.logs().locate(first.log, first.place)?;
        Some(Receipt {
            log,
            index,
            leaf_hash: first.hash,
        })
    }
}
