//! A thief with an ordinary HTTPS client, and the log file that it stole from.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jose::Thumbprint;
use jose::dpop::ProofParams;
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokenkeep::dpop_key::SignerError;
use tokenkeep::{DpopKey, Signer};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long one try may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// A DPoP key whose newest proof ends up in a careless log.
#[derive(Debug)]
pub struct CarelessSigner {
    key: DpopKey,
    newest: Mutex<Option<String>>,
}

impl CarelessSigner {
    /// Signs with `key`.
    #[must_use]
    pub const fn new(key: DpopKey) -> Self {
        Self {
            key,
            newest: Mutex::new(None),
        }
    }

    /// The newest proof that went with a token.
    #[must_use]
    pub fn newest_proof(&self) -> Option<String> {
        self.newest.lock().clone()
    }
}

impl Signer for CarelessSigner {
    fn jkt(&self) -> Thumbprint {
        self.key.jkt()
    }

    fn proof(&self, params: &ProofParams<'_>) -> Result<String, SignerError> {
        let proof = self.key.proof(params)?;
        if params.access_token.is_some() {
            *self.newest.lock() = Some(proof.clone());
        }
        Ok(proof)
    }
}

/// Tries what was stolen at the gateway.
#[derive(Debug)]
pub struct Thief {
    tls: Arc<ClientConfig>,
}

/// What the gateway answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The problem's stable word, if there is one.
    pub reason: String,
    /// What the problem says to people.
    pub detail: String,
    /// The nonce for the next proof.
    pub nonce: Option<String>,
}

/// Why a try had no answer.
#[derive(Debug, thiserror::Error)]
pub enum ThiefError {
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The URL has no host and port.
    #[error("{url} has no host and port")]
    Url {
        /// The URL.
        url: String,
    },
    /// The request cannot be written.
    #[error("the request cannot be written")]
    Request(#[from] http::Error),
    /// The gateway was not reached.
    #[error("the gateway was not reached")]
    Connect(#[source] io::Error),
    /// No answer came.
    #[error("the gateway gave no answer")]
    Exchange(#[from] hyper::Error),
    /// The answer is too long or breaks off.
    #[error("the gateway's answer cannot be read")]
    Body,
    /// It took too long.
    #[error("the gateway gave no answer within {} s", PATIENCE.as_secs())]
    Timeout,
}

impl Thief {
    /// A thief that trusts the same CA as everyone.
    ///
    /// # Errors
    /// [`ThiefError::Tls`].
    pub fn new(enclave_ca_der: &[u8]) -> Result<Self, ThiefError> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(enclave_ca_der))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: Arc::new(tls) })
    }

    /// `GET url` with a stolen token, and a proof if there is one.
    ///
    /// # Errors
    /// [`ThiefError`]. A refusal is an answer.
    pub async fn get(
        &self,
        url: &str,
        token: &str,
        proof: Option<&str>,
    ) -> Result<Answer, ThiefError> {
        timeout(PATIENCE, Box::pin(self.exchange(url, token, proof)))
            .await
            .map_err(|_elapsed| ThiefError::Timeout)?
    }

    async fn exchange(
        &self,
        url: &str,
        token: &str,
        proof: Option<&str>,
    ) -> Result<Answer, ThiefError> {
        let bad_url = || ThiefError::Url {
            url: url.to_owned(),
        };
        let uri: Uri = url.parse().map_err(|_| bad_url())?;
        let authority = uri.authority().ok_or_else(bad_url)?;
        let port = authority.port_u16().ok_or_else(bad_url)?;
        let host = authority.host();
        let name = ServerName::try_from(host.to_owned()).map_err(|_| bad_url())?;

        let tcp = TcpStream::connect((host, port))
            .await
            .map_err(ThiefError::Connect)?;
        let tls = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, tcp)
            .await
            .map_err(ThiefError::Connect)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
        let connection = tokio::spawn(connection);

        let mut request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
            .header(header::HOST, authority.as_str())
            .header(header::AUTHORIZATION, format!("DPoP {token}"));
        if let Some(proof) = proof {
            request = request.header("dpop", proof);
        }
        let request = request.body(Empty::<Bytes>::new())?;
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|_| ThiefError::Body)?
            .to_bytes();
        connection.abort();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let member = |name: &str| {
            let text = problem.get(name).and_then(serde_json::Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let nonce = head.headers.get("dpop-nonce");
        Ok(Answer {
            status: head.status,
            reason: member("reason"),
            detail: member("detail"),
            nonce: nonce
                .and_then(|nonce| nonce.to_str().ok())
                .map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proofs_of_calls_are_kept_and_those_of_token_requests_are_not() {
        let signer = CarelessSigner::new(DpopKey::generate().unwrap());
        let mut params = ProofParams {
            htm: "POST",
            htu: "https://127.0.0.1:1/x",
            iat_s: 1,
            jti: "a",
            nonce: None,
            access_token: None,
        };
        signer.proof(&params).unwrap();
        assert_eq!(signer.newest_proof(), None);
        params.access_token = Some("token");
        let proof = signer.proof(&params).unwrap();
        assert_eq!(signer.newest_proof(), Some(proof));
    }
}
