//! The keys of the enclave: the root, how it is wrapped, and what hangs from it.

pub mod authority;
pub mod envelope;
pub mod instance;
pub mod keyring;
mod log_key;
pub mod root;
