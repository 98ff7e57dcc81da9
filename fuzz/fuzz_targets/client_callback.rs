//! Runs the body `client_callback` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("client_callback");
