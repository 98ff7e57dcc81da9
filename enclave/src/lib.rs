//! The trusted core of Tokenkeep: secrets, sealing, grants, refresh, tokens,
//! policy, audit.
//!
//! It has no sockets, files, clock or environment. It is fed bytes and the time,
//! and yields decisions and actions; the shell around it carries them out. The
//! story of one request is in [`issue`].

pub mod actor;
pub mod admin;
pub mod approvals;
mod audit;
pub mod authenticate;
pub mod boot;
pub mod config;
pub mod connect;
mod core;
pub mod custody;
pub mod denials;
pub mod fill;
pub mod frame;
pub mod freeze;
pub mod freshness;
pub mod gateway;
pub mod http_url;
pub mod ids;
pub mod introspect;
pub mod issue;
mod json;
pub mod keys;
pub mod known;
pub mod life;
pub mod limits;
pub mod log;
pub mod mint;
pub mod nonce;
pub mod operation;
pub mod pending;
pub mod policy;
pub mod profile;
pub mod proof;
pub mod rate;
pub mod record;
pub mod refresh;
pub mod registry;
pub mod relayed_proof;
pub mod replay;
pub mod revoke;
pub mod rewrap;
mod ruling;
pub mod scope;
pub mod seal;
pub mod secret;
mod shared;
pub mod spiffe;
pub mod stage;
pub mod store;
pub mod terms;
#[cfg(test)]
mod testing;
pub mod time;
pub mod upstream_bound;
mod upstream_dpop;
mod view;
pub mod webhook;

pub use core::{Enclave, MAX_UPSTREAM_TOKENS_PER_GRANT};
pub use keys::Bundle;
