//! Runs the body `broker_messages` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("broker_messages");
