//! Runs the body `client_keyholder` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("client_keyholder");
