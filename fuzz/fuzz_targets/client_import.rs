//! Runs the body `client_import` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("client_import");
