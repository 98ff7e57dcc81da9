//! Runs the body `attestation_policy` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("attestation_policy");
