//! Runs the body `jose_dpop` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("jose_dpop");
