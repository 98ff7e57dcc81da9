//! Runs the body `tlog_tile` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("tlog_tile");
