//! Runs the body `enclave_envelope` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("enclave_envelope");
