//! A small OAuth authorization server and the API behind it, real over HTTP and told how to misbehave.
//!
//! It rotates single-use refresh tokens and detects their reuse [RFC 9700 §4.14.2], writes down every
//! presentation of every token, and injects the faults that brokers lose grants to.
//!
//! ```no_run
//! # async fn example() -> Result<(), testkit::provider::ProviderError> {
//! use testkit::provider::{Config, Consent, Provider};
//!
//! let running = Provider::spawn(Config::default()).await?;
//! let granted = running.provider().consent(&Consent::of("tokenkeep", "contacts.read", "alice"))?;
//! // … refresh at `running.token_endpoint()`, then read the ledger …
//! assert!(running.provider().ledger().entries.len() >= 1);
//! running.stop().await;
//! # Ok(())
//! # }
//! ```

mod admin;
mod api;
mod client_auth;
mod clock;
mod config;
mod connection;
mod digest;
mod endpoints;
mod fault;
mod flaky;
mod form;
mod ledger;
mod misbehave;
mod oauth_error;
mod refresh;
mod server;
mod state;
mod state_file;

pub use clock::Clock;
pub use config::{Client, ClientAuth, Config, Rotation, Successor};
pub use connection::serve;
pub use digest::TokenDigest;
pub use fault::{Answer, Endpoint, Fault, FaultReport};
pub use flaky::Flaky;
pub use ledger::{ApiOutcome, Entry, Event, LedgerPage, Outcome, RevokedBy, Standing};
pub use server::{FaultRefused, Provider, ProviderError, Running};
pub use state::{Consent, ConsentError, GrantState, Granted};
