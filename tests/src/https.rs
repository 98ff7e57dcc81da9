//! A plain HTTPS client that sends what it is told to, sane or not.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a request that cannot be made fails the test"
)]

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::wait::PATIENCE;

/// The longest answer that is read, bytes.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Connects over TLS 1.3, trusting one CA.
#[derive(Debug, Clone)]
pub struct Https {
    tls: Arc<ClientConfig>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// An answer whose body still comes. Its connection closes when it is dropped.
#[derive(Debug)]
pub struct Streaming {
    /// The answer.
    pub response: Response<Incoming>,
    connection: AbortHandle,
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Reply {
    /// The body as JSON; null if it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The problem's stable word; empty if there is none.
    #[must_use]
    pub fn reason(&self) -> String {
        let problem = self.json();
        let reason = problem.get("reason").and_then(Value::as_str);
        reason.unwrap_or_default().to_owned()
    }

    /// Status and stable word, which say what was refused.
    #[must_use]
    pub fn refusal(&self) -> (u16, String) {
        (self.status.as_u16(), self.reason())
    }

    /// A header as text; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

impl Https {
    /// Trusts the enclave's CA.
    ///
    /// # Panics
    /// It is no certificate.
    #[must_use]
    pub fn trusting(ca_der: &[u8]) -> Self {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(ca_der))
            .expect("a CA certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { tls: Arc::new(tls) }
    }

    /// The same with a client certificate, both PEM.
    ///
    /// # Panics
    /// They are none.
    #[must_use]
    pub fn with_certificate(ca_der: &[u8], certificate: &[u8], key: &[u8]) -> Self {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(ca_der))
            .expect("a CA certificate");
        let chain = CertificateDer::from_pem_slice(certificate).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(key).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![chain], key)
            .expect("a certificate and its key");
        Self { tls: Arc::new(tls) }
    }

    /// A connection to the server of a URL.
    ///
    /// # Errors
    /// No connection, or no TLS.
    pub async fn connect(&self, url: &str) -> io::Result<TlsStream<TcpStream>> {
        self.connect_by(Arc::clone(&self.tls), url).await
    }

    /// As [`Self::connect`], but the protocol of the application is HTTP/2.
    ///
    /// # Errors
    /// No connection, no TLS, or another protocol.
    pub async fn connect_h2(&self, url: &str) -> io::Result<TlsStream<TcpStream>> {
        let mut tls = ClientConfig::clone(&self.tls);
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let stream = self.connect_by(Arc::new(tls), url).await?;
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Ok(stream),
            _ => Err(io::Error::other("the server does not speak HTTP/2")),
        }
    }

    async fn connect_by(
        &self,
        tls: Arc<ClientConfig>,
        url: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        let uri: Uri = url.parse().expect("a URL");
        let (host, port) = (uri.host().expect("a host"), uri.port_u16().expect("a port"));
        // Names below localhost are loopback and never looked up [RFC 6761 §6.3].
        let address = if host.ends_with(".localhost") {
            "127.0.0.1"
        } else {
            host
        };
        let tcp = TcpStream::connect((address, port)).await?;
        // Else a request waits until the end of the handshake is acknowledged, up to 40 ms later.
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(host.to_owned()).expect("a server name");
        TlsConnector::from(tls).connect(name, tcp).await
    }

    /// Sends a request and gives the answer as soon as its head is there.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn open(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> io::Result<Streaming> {
        let uri: Uri = url.parse().expect("a URL");
        let stream = self.connect(url).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let connection = tokio::spawn(connection).abort_handle();
        let mut request = Request::builder()
            .method(method)
            .uri(uri.path_and_query().map_or("/", |target| target.as_str()))
            .header(
                header::HOST,
                uri.authority().expect("an authority").as_str(),
            );
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        let response = timeout(PATIENCE, sender.send_request(request))
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)?;
        Ok(Streaming {
            response,
            connection,
        })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// There is no whole answer.
    pub async fn try_send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> io::Result<Reply> {
        let mut answer = Box::pin(self.open(method, url, headers, body)).await?;
        let body = Limited::new(answer.response.body_mut(), MAX_ANSWER_BYTES).collect();
        let body = timeout(PATIENCE, body)
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)?
            .to_bytes();
        Ok(Reply {
            status: answer.response.status(),
            headers: answer.response.headers().clone(),
            body,
        })
    }

    /// As [`Self::try_send`].
    ///
    /// # Panics
    /// There is no whole answer.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        Box::pin(self.try_send(method, url, headers, body))
            .await
            .unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    /// `GET url` without anything else.
    pub async fn get(&self, url: &str) -> Reply {
        self.send(Method::GET, url, &[], Bytes::new()).await
    }

    /// Writes raw bytes to the server of a URL and reads until it closes: all that came back.
    ///
    /// # Panics
    /// There is no connection, or it does not end in time.
    pub async fn raw(&self, url: &str, bytes: &[u8]) -> String {
        let mut stream = self.connect(url).await.expect("a connection");
        stream.write_all(bytes).await.expect("the bytes to leave");
        let mut read = Vec::new();
        // A peer that cuts the connection has said what it says.
        let whole = timeout(PATIENCE, stream.read_to_end(&mut read)).await;
        drop(whole.expect("the connection to end in time"));
        String::from_utf8_lossy(&read).into_owned()
    }
}
