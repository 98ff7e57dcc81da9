//! The accept loop that all three listeners share.

mod accept;
mod answers;
mod connection;
mod gathered;
mod leash;
mod limits;
mod shutdown;
mod turnstile;

#[cfg(test)]
mod handshake_tests;
#[cfg(test)]
mod tests;

pub use accept::{Drained, ListenError, Name, bind, serve};
pub use answers::Answers;
pub use connection::Connection;
pub use leash::Unread;
pub use limits::Limits;
pub use shutdown::{Shutdown, ShutdownSignal, shutdown};
