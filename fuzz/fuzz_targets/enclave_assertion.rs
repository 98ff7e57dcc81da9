//! Runs the body `enclave_assertion` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("enclave_assertion");
