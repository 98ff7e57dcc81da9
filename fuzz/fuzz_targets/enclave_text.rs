//! Runs the body `enclave_text` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("enclave_text");
