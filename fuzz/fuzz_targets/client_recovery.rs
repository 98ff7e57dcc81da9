//! Runs the body `client_recovery` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("client_recovery");
