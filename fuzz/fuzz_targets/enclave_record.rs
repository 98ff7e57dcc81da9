//! Runs the body `enclave_record` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("enclave_record");
