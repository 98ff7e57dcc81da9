//! Bodies of the fuzz targets: one for each parser of bytes that a peer, a store or a file can send.
//!
//! A body panics if a parser breaks a promise, and says whether it accepted the input. `fuzz/` runs the bodies under
//! libFuzzer for as long as one likes; the test `fuzz_bounded` runs each over its seeds and a fixed number of
//! mutations of them, with any compiler, every day.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a fuzz body finds faults by panicking, and makes its own seeds from known values"
)]

mod attestation;
mod audit;
mod broker;
mod enclave;
mod evidence_bundle;
mod jose;
mod keyholder;
mod mutate;
mod oauth;
mod policy;
mod profiles;
mod tlog;
mod webhook;

pub use mutate::Mutator;

/// A fuzz target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, which is the name of its binary under `fuzz/`, too.
    pub name: &'static str,
    /// Feeds an input to a parser and checks what comes out. Whether it was accepted.
    pub run: fn(&[u8]) -> bool,
    /// Inputs that are accepted, to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Target").field(&self.name).finish()
    }
}

/// All targets.
pub const TARGETS: [Target; 47] = [
    attestation::BUNDLE,
    attestation::CERTIFICATE_TABLE,
    attestation::COLLATERAL,
    attestation::DEPOSIT,
    attestation::EVENT_LOG,
    attestation::EVIDENCE,
    evidence_bundle::BUNDLE,
    attestation::MANIFEST,
    attestation::NONCE_PATH,
    attestation::PCS,
    attestation::POLICY,
    attestation::QUOTE,
    attestation::REPORT,
    oauth::FORM,
    broker::EXPORT,
    broker::HOST_CONFIG,
    broker::MESSAGES,
    oauth::METADATA,
    broker::SNAPSHOT,
    broker::STORE,
    broker::TRACEPARENT,
    oauth::ASSERTION,
    audit::AUDIT,
    oauth::CALLBACK,
    oauth::IMPORT,
    keyholder::KEYHOLDER,
    keyholder::RECOVERY,
    webhook::WEBHOOK,
    oauth::DEVICE,
    enclave::ENVELOPE,
    enclave::FRAME,
    enclave::HEADERS,
    enclave::RECORD,
    oauth::SPIFFE_ID,
    enclave::TEXT,
    jose::DPOP,
    jose::DPOP_SIGNED,
    jose::JSON,
    jose::JWK,
    jose::JWS,
    policy::CASES,
    policy::TEXT,
    profiles::DOCUMENT,
    tlog::NOTE,
    tlog::PROOF,
    tlog::TILE,
    tlog::WITNESS,
];

/// The target of a name.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn target(name: &str) -> Target {
    TARGETS
        .into_iter()
        .find(|target| target.name == name)
        .expect("a target of this name")
}
