//! What is known of a request's connection.

use rustls_pki_types::CertificateDer;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_rustls::server::TlsStream;

use crate::tls::spki_sha256;

/// The TLS connection on which a request came; found in its extensions. Cheap to
/// clone.
///
/// Only the accept loop makes one, after the handshake:
///
/// ```compile_fail
/// let forged = broker::listener::Connection(std::sync::Arc::new(todo!()));
/// ```
#[derive(Clone)]
pub struct Connection(Arc<Facts>);

struct Facts {
    peer_addr: SocketAddr,
    peer: Option<Peer>,
    channel_binding: [u8; 32],
}

struct Peer {
    certificate: CertificateDer<'static>,
    spki_sha256: [u8; 32],
}

impl Connection {
    /// The facts of a connection whose handshake is done; `None` if it can't be
    /// exported from.
    pub(super) fn of<T>(stream: &TlsStream<T>, peer_addr: SocketAddr) -> Option<Self> {
        let (_transport, session) = stream.get_ref();
        // [RFC 9266 §2]: this label, an empty context, 32 bytes.
        let channel_binding = session
            .export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(&[]))
            .ok()?;
        let peer = match session.peer_certificates().and_then(<[_]>::first) {
            None => None,
            Some(certificate) => Some(Peer {
                spki_sha256: spki_sha256(certificate)?,
                certificate: certificate.clone().into_owned(),
            }),
        };
        Some(Self(Arc::new(Facts {
            peer_addr,
            peer,
            channel_binding,
        })))
    }

    /// Where the peer, or the load balancer before it, connected from.
    #[must_use]
    pub fn peer_addr(&self) -> SocketAddr {
        self.0.peer_addr
    }

    /// SHA-256 of the `SubjectPublicKeyInfo` of the client's certificate, whose
    /// key signed the handshake; `None` if it showed none.
    #[must_use]
    pub fn peer_spki_sha256(&self) -> Option<[u8; 32]> {
        self.0.peer.as_ref().map(|peer| peer.spki_sha256)
    }

    /// The client's certificate, DER. Nothing of it but its key was checked.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        self.0.peer.as_ref().map(|peer| &peer.certificate)
    }

    /// The connection's `tls-exporter` channel binding [RFC 9266]: equal at both
    /// ends of this connection and nowhere else.
    #[must_use]
    pub fn channel_binding(&self) -> &[u8; 32] {
        &self.0.channel_binding
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer_addr", &self.0.peer_addr)
            .field("certificate", &self.0.peer.is_some())
            .finish_non_exhaustive()
    }
}
