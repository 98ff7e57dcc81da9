//! Runs the body `broker_snapshot` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("broker_snapshot");
