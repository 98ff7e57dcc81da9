//! Runs the body `attestation_evidence` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("attestation_evidence");
