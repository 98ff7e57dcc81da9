//! Runs the body `broker_store` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("broker_store");
