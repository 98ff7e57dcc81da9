//! Runs the body `tlog_proof` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("tlog_proof");
