//! Runs the body `broker_traceparent` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("broker_traceparent");
