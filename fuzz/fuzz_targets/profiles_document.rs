//! Runs the body `profiles_document` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("profiles_document");
