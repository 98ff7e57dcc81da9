//! The keys of the enclave: the root, how it is wrapped, and what hangs from it.

mod app_key;
pub mod authority;
mod bundled;
pub mod envelope;
pub mod instance;
pub mod keyring;
mod log_key;
pub mod ring;
pub mod root;
mod turn;

pub use app_key::ClientCertificate;
pub(crate) use app_key::make as make_app_key;
pub use bundled::Bundle;
pub(crate) use bundled::Speaking;
pub use turn::KeyState;
pub(crate) use turn::{KeyChange, Making, Turned};
