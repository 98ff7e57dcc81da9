//! Runs the body `attestation_pcs` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("attestation_pcs");
