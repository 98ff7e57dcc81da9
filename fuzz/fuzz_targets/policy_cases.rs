//! Runs the body `policy_cases` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("policy_cases");
