//! Runs the body `attestation_nonce_path` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("attestation_nonce_path");
