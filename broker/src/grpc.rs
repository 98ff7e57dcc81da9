//! The gRPC services: messages become the enclave's types at this edge, once.

mod administrator;
pub mod attestation;
pub mod audit;
mod awaiting;
mod bundling;
mod connecting;
pub mod convert;
mod device;
pub mod door;
pub mod event;
pub mod grant;
pub mod key;
mod outlet;
pub mod registry;
mod rotating;
pub mod services;
pub mod token;
pub mod webhook;
