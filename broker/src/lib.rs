//! The shell around the enclave: gRPC, HTTP, TLS, stores, configuration, telemetry.

pub mod clock;
pub mod events;
pub mod host_config;
pub mod listener;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod toml_fields;
pub mod upstream;
