//! Evidence from the emulated platform, from real processors and from forgers, through the whole verifier.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that fails is a test that panics"
)]

mod accept;
mod attester;
mod bounds;
mod differential;
mod emulated;
mod eventlog;
mod hostile;
mod listed;
mod mutations;
mod refuse;
mod revoke;
mod tdx;
mod tdx_emulated;
mod vectors;
mod vtpm;
