//! The shell around the enclave: gRPC, HTTP, TLS, stores, configuration, telemetry.

pub mod store;
