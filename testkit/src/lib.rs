//! Mints evidence and PKIs; a provider and an API to test against; what rounds of a measurement come to.
//!
//! Nothing here is part of the product: a crate that ships names this one at most in its
//! `dev-dependencies`.

pub mod canary;
pub mod endorser;
pub mod fetch;
pub mod node;
pub mod pki;
pub mod provider;
pub mod python;
pub mod rounds;
pub mod snp;
pub mod tdx;
