//! Runs the body `attestation_report` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("attestation_report");
