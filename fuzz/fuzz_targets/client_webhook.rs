//! Runs the body `client_webhook` of `tests/src/fuzz`.

#![no_main]

fuzz::target!("client_webhook");
