//! Runs the body `jose_jws` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("jose_jws");
