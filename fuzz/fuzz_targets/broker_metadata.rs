//! Runs the body `broker_metadata` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("broker_metadata");
