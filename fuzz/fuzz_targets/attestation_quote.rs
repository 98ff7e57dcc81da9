//! Runs the body `attestation_quote` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("attestation_quote");
