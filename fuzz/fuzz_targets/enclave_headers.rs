//! Runs the body `enclave_headers` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("enclave_headers");
