//! Authentication: who a connection's certificate belongs to. What they may do
//! is decided elsewhere.

use std::sync::Arc;

use thiserror::Error;

use crate::registry::Client;
use crate::view::View;

/// What the transport proved about the peer: it holds the private key of this
/// certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// SHA-256 of the SubjectPublicKeyInfo of the peer's certificate, if it sent
    /// one.
    pub spki_sha256: Option<[u8; 32]>,
}

/// Why a peer was not recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AuthenticationError {
    /// The connection has no client certificate.
    #[error("the connection has no client certificate")]
    NoCertificate,
    /// The certificate's key is not registered for this use.
    #[error("the certificate's key is not registered")]
    UnknownCertificate,
}

/// The client that a peer is.
pub(crate) fn client(view: &View, peer: &Peer) -> Result<Arc<Client>, AuthenticationError> {
    let spki = peer.spki_sha256.ok_or(AuthenticationError::NoCertificate)?;
    view.clients_by_spki
        .get(&spki)
        .and_then(|id| view.clients.get(id))
        .map(|held| Arc::clone(&held.value))
        .ok_or(AuthenticationError::UnknownCertificate)
}
