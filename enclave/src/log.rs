//! The logs as Merkle trees: heads, checkpoints signed by the log key, and what
//! proofs and tiles are read from.
//!
//! The store keeps two streams of leaves. The control stream is the control log.
//! The issuance stream is cut into one log a boot: each leaf names its boot. Of a
//! tree only the upper tiles and the right edge stay in memory, 32 bytes for 256
//! leaves; the rest is computed again from the leaves when it is asked for.

mod booted;
mod logs;
mod name;
mod reading;
mod receipt;
mod recovery;
mod tree;

pub use booted::Image;
pub(crate) use booted::{Anchor, Booted};
pub use logs::{LogError, Logs, SignedCheckpoint};
pub use name::{BootId, LogName, NotABootId};
pub use reading::{Reading, Wanted};
pub use receipt::Receipt;
pub(crate) use recovery::Recovery;

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]
mod tests;
