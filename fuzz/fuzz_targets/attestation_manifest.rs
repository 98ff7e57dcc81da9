//! Runs the body `attestation_manifest` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("attestation_manifest");
