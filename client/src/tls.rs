//! TLS of a client: 1.3 only, on ring, with one door for a server that is not known yet.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring as rustls_ring, verify_tls13_signature};
use rustls::{
    ClientConfig, DigitallySignedStruct, PeerIncompatible, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::private_file::{self, FileError};

/// The most certificates that a server may show or an identity may have.
const MAX_CERTIFICATES: usize = 8;

/// The longest PEM file that is read, bytes.
const MAX_PEM_BYTES: usize = 64 * 1024;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// rustls refuses.
    #[error("TLS cannot be set up")]
    Rustls(#[from] rustls::Error),
    /// The enclave's CA certificate cannot be a trust anchor.
    #[error("the certificate of the enclave's CA cannot be used")]
    EnclaveCa(#[source] rustls::Error),
    /// No verifier can be built from it.
    #[error("the certificate of the enclave's CA cannot be used to verify")]
    Verifier(#[source] rustls::client::VerifierBuilderError),
}

/// Why there is no client identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The certificate file has no certificate, too many, or is not PEM.
    #[error("the certificate file is not PEM with 1 to {MAX_CERTIFICATES} certificates")]
    Certificates,
    /// The key file has no private key.
    #[error("the key file is not PEM with one private key")]
    Key,
}

/// A client certificate and its private key, with which a caller authenticates. `Debug` shows neither.
pub struct ClientIdentity {
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl ClientIdentity {
    /// From PEM texts: the certificate, with its issuers if there are any, and the private key.
    ///
    /// # Errors
    /// [`IdentityError::Certificates`], [`IdentityError::Key`].
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, IdentityError> {
        let certificates = CertificateDer::pem_slice_iter(certificates)
            .take(MAX_CERTIFICATES.saturating_add(1))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| IdentityError::Certificates)?;
        if certificates.is_empty() || certificates.len() > MAX_CERTIFICATES {
            return Err(IdentityError::Certificates);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| IdentityError::Key)?;
        Ok(Self { certificates, key })
    }

    /// From PEM files.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn from_pem_files(certificates: &Path, key: &Path) -> Result<Self, IdentityError> {
        let certificates = private_file::read_public(certificates, MAX_PEM_BYTES)?;
        let key = private_file::read_private(key, MAX_PEM_BYTES)?;
        Self::from_pem(&certificates, &key)
    }
}

impl Clone for ClientIdentity {
    fn clone(&self) -> Self {
        Self {
            certificates: self.certificates.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity(..)")
    }
}

/// The certificates that a server showed on a connection that trusts nobody.
#[derive(Debug, Clone, Default)]
pub(crate) struct ShownChain(Arc<Mutex<Vec<CertificateDer<'static>>>>);

impl ShownChain {
    /// The chain, the server's own certificate first.
    pub(crate) fn certificates(&self) -> Vec<CertificateDer<'static>> {
        self.0.lock().clone()
    }
}

/// TLS to a server that is not known yet: **any certificate is accepted**, and what was shown is kept.
///
/// The only use is to ask for evidence, which is worth the same over any channel: it is signed, fresh by
/// the caller's nonce, and names the keys that are trusted from then on. No identity is shown and nothing
/// secret is sent.
pub(crate) fn danger_accept_any_server() -> Result<(ClientConfig, ShownChain), TlsError> {
    let provider = provider();
    let shown = ShownChain::default();
    let verifier = DangerAcceptAny {
        shown: shown.clone(),
        provider: provider.clone(),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok((finish(config), shown))
}

/// TLS to the enclave: its CAs are the only trust anchors, names and dates are checked.
pub(crate) fn pinned(
    authorities: &[&[u8]],
    identity: Option<&ClientIdentity>,
) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(anchors(authorities)?);
    let config = match identity {
        Some(ClientIdentity { certificates, key }) => {
            builder.with_client_auth_cert(certificates.clone(), key.clone_key())?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(finish(config))
}

/// Checks that `chain` was issued by a CA of the enclave for `name` and is valid at `at`.
///
/// # Errors
/// [`TlsError`].
pub(crate) fn check_issued(
    authorities: &[&[u8]],
    chain: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    at: UnixTime,
) -> Result<(), TlsError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(anchors(authorities)?, provider())
        .build()
        .map_err(TlsError::Verifier)?;
    let (own, issuers) = chain
        .split_first()
        .ok_or(rustls::Error::NoCertificatesPresented)?;
    verifier.verify_server_cert(own, issuers, name, &[], at)?;
    Ok(())
}

fn anchors(authorities: &[&[u8]]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut anchors = RootCertStore::empty();
    for ca in authorities {
        anchors
            .add(CertificateDer::from(*ca))
            .map_err(TlsError::EnclaveCa)?;
    }
    Ok(Arc::new(anchors))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls_ring::default_provider())
}

fn finish(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Each connection shows its certificate anew.
    config.resumption = rustls::client::Resumption::disabled();
    config
}

/// See [`danger_accept_any_server`].
#[derive(Debug)]
struct DangerAcceptAny {
    shown: ShownChain,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for DangerAcceptAny {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        *self.shown.0.lock() = chain
            .take(MAX_CERTIFICATES)
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        Ok(ServerCertVerified::assertion())
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
        // Whoever shows the certificate must have its key: the chain is compared with the bundle afterwards.
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
