//! Runs the body `tlog_note` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("tlog_note");
