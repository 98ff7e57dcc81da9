//! Rust SDK of Tokenkeep: verify an enclave, deposit into it, and get tokens that are of no use to a thief.
//!
//! Nothing is deposited or asked for over a channel that was not verified: [`AttestedChannel`] exists for
//! the verdict `accept` only, and everything else is made from one.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use tokenkeep::{
//!     AttestedChannel, AttestedConfig, ClientIdentity, DpopKey, TokenClient, TokenRequest, Verification,
//! };
//!
//! let policy = attestation::Policy::from_toml(&std::fs::read("policy.toml")?)?;
//! let verification = Verification::new(attestation::Roots::amd()?, Some(policy));
//! let mut config = AttestedConfig::new("https://tokenkeep.example:8443", verification);
//! config.client_identity = Some(ClientIdentity::from_pem_files("client.pem".as_ref(), "client.key".as_ref())?);
//!
//! let channel = AttestedChannel::connect(&config).await?;
//! let tokens = TokenClient::new(&channel, Arc::new(DpopKey::from_file("dpop.key".as_ref())?));
//! let token = tokens.token(&TokenRequest::new("acme-crm", "https://api.example")).await?;
//! # let _ = token;
//! # Ok(())
//! # }
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | [`origin`] | where a service is: scheme, host and port |
//! | [`verification`] | what a reply with evidence is worth |
//! | [`channel`] | the attested channel |
//! | [`bound_manifest`](mod@bound_manifest) | the manifest that the evidence binds |
//! | [`connection_proof`] | proof that a connection ends inside the enclave |
//! | [`consent`] | the loopback side of a consent |
//! | [`deposit`], [`import`] | secrets sealed to the enclave; files of grants to bring in |
//! | [`evidence_bundle`] | signed bundles of evidence: asked for, and verified offline |
//! | [`dpop_key`] | keys that tokens are bound to |
//! | [`token_client`], [`access_token`] | tokens, kept until 80 % of their life |
//! | [`gateway`], [`resource_url`] | calls through the gateway |
//! | [`proxy`] | a local listener for programs that know nothing of tokens |
//! | [`rpc_error`] | what a refusal says |
//! | [`collateral`] | AMD's revocation lists and Intel's statements: fetched, and kept with a floor |
//! | [`tls`], [`transport`] | connections |
//! | [`audit`] | the logs, verified from their tiles; receipts and proofs |
//! | [`webhook`] | what receivers of events verify postings with |
//! | [`witness`], [`keyholder`] | a witness of logs, a keeper of shares |
//! | [`recovery`] | the shares of a recovery set |
//! | [`nonce_cache`], [`clock`], [`private_file`] | nonces, time, files with private keys |

pub mod access_token;
pub mod audit;
pub mod bound_manifest;
pub mod channel;
pub mod clock;
pub mod collateral;
pub mod connection_proof;
pub mod consent;
pub mod deposit;
pub mod dpop_key;
pub mod evidence_bundle;
pub mod gateway;
pub mod import;
pub mod keyholder;
pub mod nonce_cache;
pub mod origin;
pub mod private_file;
pub mod proxy;
pub mod recovery;
pub mod resource_url;
pub mod rpc_error;
mod server_clock;
#[cfg(test)]
mod test_enclave;
#[cfg(test)]
mod test_server;
pub mod tls;
mod token_cache;
pub mod token_client;
pub mod transport;
mod upstream_challenge;
pub mod verification;
pub mod webhook;
pub mod witness;

pub use access_token::AccessToken;
pub use bound_manifest::{BoundManifestError, bound_manifest};
pub use channel::{AttestedChannel, AttestedConfig, ConnectError, inspect};
pub use clock::{Clock, SystemClock};
pub use connection_proof::ProofError;
pub use deposit::DepositRecipient;
pub use dpop_key::{DpopKey, Signer};
pub use gateway::{GatewayClient, GatewayHead, GatewayRequest, GatewayResponse};
pub use origin::Origin;
pub use proxy::Proxy;
pub use rpc_error::RpcError;
pub use tls::ClientIdentity;
pub use token_client::{TokenClient, TokenRequest};
pub use verification::{Inspection, Verification};
