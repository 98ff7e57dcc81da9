//! Runs the body `enclave_spiffe_id` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("enclave_spiffe_id");
