//! Runs the body `policy_text` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("policy_text");
