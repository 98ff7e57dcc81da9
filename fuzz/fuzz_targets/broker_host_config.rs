//! Runs the body `broker_host_config` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("broker_host_config");
