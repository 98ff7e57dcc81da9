//! Runs the body `attestation_event_log` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("attestation_event_log");
