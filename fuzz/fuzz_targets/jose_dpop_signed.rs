//! Runs the body `jose_dpop_signed` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("jose_dpop_signed");
