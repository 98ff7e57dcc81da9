//! Runs the body `enclave_device` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("enclave_device");
