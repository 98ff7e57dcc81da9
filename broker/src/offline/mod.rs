//! `store`: looks at a state, carries it away and brings it back, while no service uses it.

mod command;
mod exporting;
mod ground;
mod importing;
mod looking;

pub use command::{StoreCommand, run};
pub use ground::OfflineError;
