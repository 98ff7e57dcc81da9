//! Runs the body `attestation_bundle` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("attestation_bundle");
