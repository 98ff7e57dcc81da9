//! The shell around the enclave: gRPC, HTTP, TLS, stores, configuration, telemetry.
//!
//! [`run()`] is the whole service; what it is made of stands beside it.

pub mod audit;
pub mod boot;
pub mod caretaker;
pub mod clock;
pub mod collateral;
pub mod configure;
pub mod consents;
pub mod event_feed;
pub mod events;
pub mod evidence;
pub mod evidence_bundle;
mod exchange;
pub mod files;
pub mod gateway;
pub mod grpc;
pub mod host_config;
pub mod hygiene;
pub mod key_watch;
pub mod listener;
pub mod log;
pub mod metrics;
pub mod offline;
mod outlasting;
pub mod places;
pub mod public;
pub mod refresher;
pub mod room;
pub mod root;
pub mod run;
pub mod sbom;
pub mod seated;
pub mod shell;
pub mod status;
pub mod store;
pub mod svid;
pub mod telemetry;
pub mod teller;
mod throttle;
pub mod tls;
pub mod tokens;
pub mod toml_fields;
pub mod traces;
pub mod upstream;
pub mod upstream_bound;
pub mod watchman;
pub mod webhooks;
pub mod witness;

pub use run::{Config, RunError, Sockets, run};
