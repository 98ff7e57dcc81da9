//! The shell around the enclave: gRPC, HTTP, TLS, stores, configuration, telemetry.

pub mod events;
pub mod listener;
pub mod store;
pub mod tls;
