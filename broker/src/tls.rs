//! TLS of the three listeners and of outgoing connections: 1.3 only, on ring.

use arc_swap::ArcSwap;
use enclave::keys::ClientCertificate;
use ring::digest::{SHA256, digest};
use rustls::client::ResolvesClientCert;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring as rustls_ring, verify_tls13_signature,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, PeerIncompatible,
    RootCertStore, ServerConfig, SignatureAlgorithm, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// A client that sends more certificates than this is refused.
const MAX_CLIENT_CERTIFICATES: usize = 8;

/// Why TLS could not be set up.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum TlsError {
    /// rustls refuses the configuration.
    #[error("TLS can't be set up")]
    Config {
        /// Why.
        source: rustls::Error,
    },
}

/// The certificate that listeners show, with its key. It can be replaced while
/// they run; connections that stand keep the old one.
pub struct ServerCertificate {
    current: ArcSwap<CertifiedKey>,
}

impl ServerCertificate {
    /// Begins with a certificate chain and its key.
    #[must_use]
    pub fn new(first: CertifiedKey) -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwap::from_pointee(first),
        })
    }

    /// Shows another one from the next handshake on.
    pub fn replace(&self, next: CertifiedKey) {
        self.current.store(Arc::new(next));
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerCertificate([redacted])")
    }
}

/// TLS of the `grpc` listener: HTTP/2, and a client certificate is asked for but
/// not required.
///
/// Any certificate is accepted whose key signs the handshake. Its chain, names
/// and dates mean nothing here: who it is, is decided above by the SHA-256 of its
/// `SubjectPublicKeyInfo` [RFC 8705 §2.2], or by its trust domain.
///
/// # Errors
/// [`TlsError::Config`].
pub fn grpc_server(certificate: Arc<ServerCertificate>) -> Result<Arc<ServerConfig>, TlsError> {
    asking_server(certificate, &[b"h2"])
}

/// TLS of the `gateway` listener: HTTP/2 and 1.1, and a client certificate is
/// asked for as on the `grpc` listener: tokens may be bound to one [RFC 8705 §3].
///
/// # Errors
/// [`TlsError::Config`].
pub fn gateway_server(certificate: Arc<ServerCertificate>) -> Result<Arc<ServerConfig>, TlsError> {
    asking_server(certificate, &[b"h2", b"http/1.1"])
}

fn asking_server(
    certificate: Arc<ServerCertificate>,
    protocols: &[&[u8]],
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let verifier = Arc::new(AnyCertificate {
        algorithms: provider.signature_verification_algorithms,
    });
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|source| TlsError::Config { source })?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    Ok(finish(config, protocols))
}

/// TLS of the `public` listener: HTTP/2 and 1.1; a client certificate is never
/// asked for.
///
/// # Errors
/// [`TlsError::Config`].
pub fn http_server(certificate: Arc<ServerCertificate>) -> Result<Arc<ServerConfig>, TlsError> {
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|source| TlsError::Config { source })?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    Ok(finish(config, &[b"h2", b"http/1.1"]))
}

/// TLS towards APIs: as [`client`], but HTTP/2 as well.
///
/// # Errors
/// [`TlsError::Config`].
pub fn api_client(roots: RootCertStore) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::clone(&*client(roots)?);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// TLS towards providers: HTTP/1.1, their names checked against
/// `roots`; we show no certificate.
///
/// # Errors
/// [`TlsError::Config`].
pub fn client(roots: RootCertStore) -> Result<Arc<ClientConfig>, TlsError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|source| TlsError::Config { source })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A ticket would let a provider link the tenants of one process.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// TLS towards one provider, as [`client`] made it, that shows an app's certificate [RFC 8705 §2]. For one connection.
#[must_use]
pub fn with_certificate(base: &ClientConfig, shown: Box<ClientCertificate>) -> Arc<ClientConfig> {
    let mut config = base.clone();
    config.client_auth_cert_resolver = Arc::new(Shown(Arc::new(CertifiedKey::new(
        vec![shown.certificate().clone()],
        Arc::new(HandshakeKey(Arc::from(shown))),
    ))));
    Arc::new(config)
}

/// Shows its one certificate, whomever the server says it trusts.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A key that the enclave signs handshakes with.
#[derive(Debug)]
struct HandshakeKey(Arc<ClientCertificate>);

impl SigningKey for HandshakeKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SignatureScheme::ECDSA_NISTP256_SHA256)
            .then(|| Box::new(HandshakeKey(Arc::clone(&self.0))) as _)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for HandshakeKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let signature = self.0.sign(message);
        signature.ok_or(rustls::Error::FailedToGetRandomBytes)
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

/// SHA-256 of a certificate's `SubjectPublicKeyInfo`, DER; `None` if it is not a
/// certificate. Read by the parser that checked the handshake's signature.
#[must_use]
pub fn spki_sha256(certificate: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let spki = certificate.subject_public_key_info();
    digest(&SHA256, spki.as_ref()).as_ref().try_into().ok()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls_ring::default_provider())
}

fn finish(mut config: ServerConfig, protocols: &[&[u8]]) -> Arc<ServerConfig> {
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    // No resumption: each connection shows its certificate and proves its key.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Arc::new(config)
}

/// Accepts any client certificate whose key signs the handshake.
#[derive(Debug)]
struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if intermediates.len() >= MAX_CLIENT_CERTIFICATES {
            return Err(CertificateError::BadEncoding.into());
        }
        spki_sha256(end_entity)
            .map(|_readable| ClientCertVerified::assertion())
            .ok_or_else(|| CertificateError::BadEncoding.into())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
