//! Runs the body `enclave_frame` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("enclave_frame");
