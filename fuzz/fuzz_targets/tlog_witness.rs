//! Runs the body `tlog_witness` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("tlog_witness");
