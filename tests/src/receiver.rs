//! A receiver of webhooks: TLS on loopback, one posting a connection, answered as the test says.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a receiver that can't be made fails the test"
)]

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// More than any posting has.
const MAX_BYTES: usize = 256 * 1024;

/// What was posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// The request line.
    pub line: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body, byte for byte.
    pub body: Vec<u8>,
}

impl Posting {
    /// A header's value.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or_else(|| panic!("no {name}: {self:?}"), |(_, value)| value)
    }

    /// The event.
    ///
    /// # Panics
    /// It is no JSON.
    #[must_use]
    pub fn event(&self) -> Value {
        serde_json::from_slice(&self.body).expect("an event")
    }
}

/// The receiver.
#[derive(Debug)]
pub struct Receiver {
    /// Where it is.
    pub url: String,
    /// Its certificate, PEM.
    pub certificate: String,
    status: Arc<Mutex<u16>>,
    postings: Arc<Mutex<Vec<Posting>>>,
}

impl Receiver {
    /// One that answers 204.
    pub async fn start() -> Self {
        let made = testkit::pki::server_certificate(Ipv4Addr::LOCALHOST.into());
        let (certificate, key) = made.expect("a certificate");
        let chain = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes()).expect("PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)
            .expect("a certificate with its key");
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("its number");
        let status = Arc::new(Mutex::new(204));
        let postings = Arc::<Mutex<Vec<Posting>>>::default();
        let (answers, kept) = (Arc::clone(&status), Arc::clone(&postings));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answers) = (acceptor.clone(), Arc::clone(&answers));
                let kept = Arc::clone(&kept);
                tokio::spawn(async move {
                    // The service may be killed in the middle of it.
                    drop(take(stream, &acceptor, &answers, &kept).await);
                });
            }
        });
        Self {
            url: format!("https://{address}/hook"),
            certificate,
            status,
            postings,
        }
    }

    /// How postings are answered from now on.
    pub fn answer(&self, status: u16) {
        *self.status.lock() = status;
    }

    /// All that was posted, whatever was answered.
    #[must_use]
    pub fn postings(&self) -> Vec<Posting> {
        self.postings.lock().clone()
    }
}

async fn take(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
    answers: &Mutex<u16>,
    kept: &Mutex<Vec<Posting>>,
) -> io::Result<()> {
    let mut stream = BufReader::new(acceptor.accept(stream).await?);
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let mut headers = Vec::new();
    let mut length = 0_usize;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await?;
        let Some((name, value)) = header.trim_end().split_once(':') else {
            break;
        };
        let (name, value) = (name.to_lowercase(), value.trim().to_owned());
        if name == "content-length" {
            length = value.parse().unwrap_or(MAX_BYTES);
        }
        headers.push((name, value));
    }
    let mut body = vec![0; length.min(MAX_BYTES)];
    stream.read_exact(&mut body).await?;
    let line = line.trim_end().to_owned();
    kept.lock().push(Posting {
        line,
        headers,
        body,
    });
    let status = *answers.lock();
    let answer = format!(
        "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nlocation: https://127.0.0.1:1/\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}
