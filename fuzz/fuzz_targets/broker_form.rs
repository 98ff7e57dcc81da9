//! Runs the body `broker_form` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("broker_form");
