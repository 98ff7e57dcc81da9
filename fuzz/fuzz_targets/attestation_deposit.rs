//! Runs the body `attestation_deposit` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("attestation_deposit");
