//! Runs the body `attestation_certificate_table` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("attestation_certificate_table");
