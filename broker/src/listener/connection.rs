//! What is known of a request's connection.

use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use tokio_rustls::server::TlsStream;

use crate::room::Visitor;
use crate::svid::{Svid, TrustDomains};
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
    visitor: Visitor,
}

struct Peer {
    /// The client's certificate first, then those that it sent to vouch for it.
    chain: Vec<CertificateDer<'static>>,
    spki_sha256: [u8; 32],
    sha256: [u8; 32],
    /// Looked at when it is asked for first.
    svid: OnceLock<Option<Svid>>,
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
        let chain = session.peer_certificates().unwrap_or_default();
        let peer = match chain.first() {
            None => None,
            Some(certificate) => Some(Peer {
                spki_sha256: spki_sha256(certificate)?,
                sha256: digest(&SHA256, certificate).as_ref().try_into().ok()?,
                chain: chain.iter().map(|one| one.clone().into_owned()).collect(),
                svid: OnceLock::new(),
            }),
        };
        Some(Self(Arc::new(Facts {
            peer_addr,
            peer,
            channel_binding,
            visitor: Visitor::default(),
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

    /// SHA-256 of that certificate, over its DER.
    #[must_use]
    pub fn peer_certificate_sha256(&self) -> Option<[u8; 32]> {
        self.0.peer.as_ref().map(|peer| peer.sha256)
    }

    /// The client's certificate as an X.509-SVID of one of these trust domains, if
    /// it is one and has not expired. All requests of a connection ask for the same
    /// trust domains.
    #[must_use]
    pub fn peer_svid(&self, domains: &TrustDomains, now_s: impl Fn() -> u64) -> Option<&Svid> {
        let peer = self.0.peer.as_ref()?;
        let svid = peer.svid.get_or_init(|| domains.svid(&peer.chain, now_s()));
        svid.as_ref().filter(|svid| now_s() < svid.expires_at_s())
    }

    /// What the listener's room remembers of it.
    #[must_use]
    pub(crate) fn visitor(&self) -> &Visitor {
        &self.0.visitor
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
