//! Keeps the house in order: which crate may name which, what a file may look like, what the contract may
//! carry, and that a promise names a test that exists.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod arrows;
mod cases;
mod claims;
mod contract;
mod leaves;
mod metrics;
mod policies;
mod sources;
mod tree;
