//! Whom a connection's certificate names, for whoever shares something out among peers. It is no authentication: nothing
//! is allowed by it.

use crate::Enclave;
use crate::authenticate::{Peer, by_certificate};
use crate::ids::ClientId;

/// A peer with a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Known {
    /// An administrator of the manifest, by the SHA-256 of its key.
    Administrator([u8; 32]),
    /// A registered client.
    Client(ClientId),
}

impl Enclave {
    /// Whom the peer's certificate names, if it is anybody's who is registered. Any certificate proves its own key: that
    /// there is one says nothing.
    #[must_use]
    pub fn known(&self, peer: &Peer) -> Option<Known> {
        if let Ok(administrator) = self.administrator(peer) {
            return Some(Known::Administrator(administrator.spki_sha256));
        }
        let view = self.view.read();
        let client = by_certificate(&view, peer).ok()??;
        Some(Known::Client(client.value.id.clone()))
    }
}
