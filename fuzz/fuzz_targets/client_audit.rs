//! Runs the body `client_audit` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("client_audit");
