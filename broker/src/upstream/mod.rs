//! Outgoing HTTP: to providers' token endpoints, and to APIs for the gateway.
//!
//! A connection goes to an address that was classified after its name was
//! resolved. Each token request has one of its own, and is never sent again; the
//! calls of one grant to one API may share some. No redirect is followed, no proxy
//! is used. An error says whether the request can have been seen.

mod address;
mod connect;
mod counted;
mod egress;
mod error;
mod idle_body;
mod origin;
mod pool;
mod reveal;

#[cfg(test)]
mod tests;

pub use address::{AddressClass, classify};
pub(crate) use egress::DPOP;
pub use egress::{Egress, EgressLimits, Loopback, TokenAnswer, TokenRequest};
pub use error::{Ambiguous, NotSent, UpstreamError};
pub use idle_body::{IdleBody, IdleBodyError};
pub use origin::{Origin, OriginError};
pub use pool::Owner;
