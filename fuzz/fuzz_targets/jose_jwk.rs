//! Runs the body `jose_jwk` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("jose_jwk");
