//! Tiles from the public listener, or a mirror: few connections that stay open, each answer bounded in size and time.
//!
//! What is read here is signed, and verified by whoever reads it. TLS keeps it from others' eyes, no more.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

/// Connections at a time.
pub const MAX_CONNECTIONS: usize = 8;

/// How long one request may take, handshakes included.
const DEADLINE: Duration = Duration::from_secs(30);

/// How often a request is tried: a connection that stayed open may have been closed meanwhile.
const TRIES: usize = 3;

/// Why a listener's answer is of no use.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WebError {
    /// Not a URL that can be asked.
    #[error("{url:?} is not an http or https URL")]
    Url {
        /// What was given.
        url: String,
    },
    /// The certificates can't be read.
    #[error("the CA's certificate can't be used")]
    Certificates,
    /// It was not reached, or hung up.
    #[error("{host} was not reached: {why}")]
    Unreached {
        /// The host.
        host: String,
        /// Why.
        why: String,
    },
    /// It took too long.
    #[error("{host} did not answer in time")]
    Timeout {
        /// The host.
        host: String,
    },
    /// It answered with another status than 200 or 404.
    #[error("{host} answered {status} to {path}")]
    Status {
        /// The host.
        host: String,
        /// The status.
        status: u16,
        /// What was asked for.
        path: String,
    },
}

/// A listener.
#[derive(Debug)]
pub struct Web {
    host: String,
    port: u16,
    /// What stands before the logs' paths, with slashes at both ends.
    prefix: String,
    tls: Option<Arc<ClientConfig>>,
    idle: Mutex<Vec<SendRequest<Empty<Bytes>>>>,
}

/// Whom TLS trusts.
#[derive(Debug, Clone)]
pub enum Trust {
    /// The web's roots.
    Web,
    /// Certificates in PEM alone.
    Pem(Vec<u8>),
    /// One certificate in DER alone.
    Der(Vec<u8>),
}

impl Web {
    /// A listener, by the URL below which `log/control/checkpoint` is.
    ///
    /// # Errors
    /// [`WebError::Url`], [`WebError::Certificates`].
    pub fn new(url: &str, trust: &Trust) -> Result<Self, WebError> {
        let malformed = || WebError::Url {
            url: url.to_owned(),
        };
        let parsed = Url::parse(url).map_err(|_| malformed())?;
        let tls = match parsed.scheme() {
            "http" => None,
            "https" => Some(Arc::new(tls(trust)?)),
            _ => return Err(malformed()),
        };
        if parsed.query().is_some() || parsed.fragment().is_some() || !parsed.username().is_empty()
        {
            return Err(malformed());
        }
        let path = parsed.path().trim_end_matches('/');
        Ok(Self {
            host: parsed.host_str().ok_or_else(malformed)?.to_owned(),
            port: parsed.port_or_known_default().ok_or_else(malformed)?,
            prefix: format!("{path}/"),
            tls,
            idle: Mutex::new(Vec::new()),
        })
    }

    fn unreached(&self, why: impl ToString) -> WebError {
        WebError::Unreached {
            host: self.host.clone(),
            why: why.to_string(),
        }
    }

    /// Gets something; none for what is not there.
    ///
    /// # Errors
    /// [`WebError`].
    pub(super) async fn get(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, WebError> {
        let mut last = self.unreached("not tried");
        for _ in 0..TRIES {
            let host = self.host.clone();
            let asked = timeout(DEADLINE, self.ask(path, most)).await;
            match asked.unwrap_or(Err(WebError::Timeout { host })) {
                Err(error @ WebError::Unreached { .. }) => last = error,
                answer => return answer,
            }
        }
        Err(last)
    }

    async fn ask(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, WebError> {
        let idle = self.idle.lock().pop();
        let mut sender = match idle {
            Some(sender) if !sender.is_closed() => sender,
            Some(_) | None => self.connect().await?,
        };
        let request = Request::get(format!("{}{path}", self.prefix))
            .header(HOST, format!("{}:{}", self.host, self.port))
            .body(Empty::<Bytes>::new())
            .map_err(|error| self.unreached(error))?;
        sender
            .ready()
            .await
            .map_err(|error| self.unreached(error))?;
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|error| self.unreached(error))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), most).collect().await;
        let body = body.map_err(|error| self.unreached(error))?.to_bytes();
        let mut idle = self.idle.lock();
        if idle.len() < MAX_CONNECTIONS {
            idle.push(sender);
        }
        drop(idle);
        match status {
            StatusCode::OK => Ok(Some(body.to_vec())),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(WebError::Status {
                host: self.host.clone(),
                status: status.as_u16(),
                path: path.to_owned(),
            }),
        }
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, WebError> {
        let host = self.host.trim_matches(['[', ']']);
        let tcp = TcpStream::connect((host, self.port)).await;
        let tcp = tcp.map_err(|error| self.unreached(error))?;
        tcp.set_nodelay(true)
            .map_err(|error| self.unreached(error))?;
        let Some(tls) = &self.tls else {
            let (sender, connection) = http1::handshake(TokioIo::new(tcp))
                .await
                .map_err(|error| self.unreached(error))?;
            // Ends with the connection; how it ended, the request on it learns.
            tokio::spawn(async move { connection.await.unwrap_or_default() });
            return Ok(sender);
        };
        let name = ServerName::try_from(host.to_owned()).map_err(|error| self.unreached(error))?;
        let tls = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await;
        let tls = tls.map_err(|error| self.unreached(error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(tls))
            .await
            .map_err(|error| self.unreached(error))?;
        tokio::spawn(async move { connection.await.unwrap_or_default() });
        Ok(sender)
    }
}

fn tls(trust: &Trust) -> Result<ClientConfig, WebError> {
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::Web => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Trust::Pem(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| WebError::Certificates)?;
                roots.add(certificate).map_err(|_| WebError::Certificates)?;
            }
        }
        Trust::Der(der) => {
            let certificate = CertificateDer::from(der.as_slice());
            roots.add(certificate).map_err(|_| WebError::Certificates)?;
        }
    }
    if roots.is_empty() {
        return Err(WebError::Certificates);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| WebError::Certificates)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_named_by_its_url() {
        let web = Web::new("https://keep.example:8444/mirror/", &Trust::Web).unwrap();
        assert_eq!((web.host.as_str(), web.port), ("keep.example", 8444));
        assert_eq!(web.prefix, "/mirror/");
        assert_eq!(
            Web::new("http://[::1]:80", &Trust::Web).unwrap().prefix,
            "/"
        );
        for url in [
            "keep.example",
            "ftp://keep.example",
            "https://k.example/?a=b",
            "https://u@k.example/",
        ] {
            let refused = Web::new(url, &Trust::Web).unwrap_err();
            assert_eq!(refused, WebError::Url { url: url.into() });
        }
        for trust in [
            Trust::Pem(Vec::new()),
            Trust::Pem(b"x".to_vec()),
            Trust::Der(vec![1]),
        ] {
            let refused = Web::new("https://keep.example", &trust).unwrap_err();
            assert_eq!(refused, WebError::Certificates);
        }
    }
}
