//! Runs the body `attestation_collateral` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("attestation_collateral");
