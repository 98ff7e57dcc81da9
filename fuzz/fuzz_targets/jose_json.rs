//! Runs the body `jose_json` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("jose_json");
