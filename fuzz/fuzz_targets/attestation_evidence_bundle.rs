//! Runs the body `attestation_evidence_bundle` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("attestation_evidence_bundle");
