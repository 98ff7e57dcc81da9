//! Runs the body `broker_export` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("broker_export");
