//! One HTTP/2 connection at a time to one origin, made anew when it ends.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::body::Body;

use crate::connection_proof::{self, ProofError, Prover};
use crate::origin::{Endpoint, Origin};
use crate::rpc_error::transport_status;

/// How long a connection may take to be made, from the look-up of the name to the end of the handshakes.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the head of an answer may take.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Windows for one answer and for all of a connection, bytes. Set here because h2 takes a connection with
/// many small frames in a small window for an attack.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// The most that the headers of an answer may take, bytes.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// A silent connection is asked for a sign of life after this time, and given up after as long again.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// The most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Why no answer came over the wire.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The host of the origin can be no name of a certificate.
    #[error("the host of {origin} is no server name")]
    ServerName {
        /// The origin.
        origin: Origin,
    },
    /// Its name has no address.
    #[error("no address found for {origin}")]
    Lookup {
        /// The origin.
        origin: Origin,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// No address answered.
    #[error("no connection to {origin}")]
    Connect {
        /// The origin.
        origin: Origin,
        /// Why the last one did not.
        #[source]
        error: io::Error,
    },
    /// TLS failed: the certificate is not one of the enclave's, or the peer speaks something else.
    #[error("no TLS connection to {origin}")]
    Tls {
        /// The origin.
        origin: Origin,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// HTTP/2 failed.
    #[error("the connection to {origin} broke")]
    Http {
        /// The origin.
        origin: Origin,
        /// Why.
        #[source]
        error: hyper::Error,
    },
    /// The peer did not prove that the connection ends inside the enclave: nothing was sent on it.
    #[error("the connection to {origin} is not proved to end inside the enclave")]
    Unproved {
        /// The origin.
        origin: Origin,
        /// Why.
        #[source]
        error: Box<ProofError>,
    },
    /// It took too long.
    #[error("no answer from {origin} within {} s", .after.as_secs())]
    Timeout {
        /// The origin.
        origin: Origin,
        /// How long was waited.
        after: Duration,
    },
}

impl TransportError {
    /// Whether the peer was reached and is not whom the certificate must name: not a matter of trying again.
    #[must_use]
    pub fn is_untrusted_peer(&self) -> bool {
        match self {
            Self::Tls { error, .. } => error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>())
                .is_some_and(|error| matches!(error, rustls::Error::InvalidCertificate(_))),
            Self::Unproved { error, .. } => !error.is_unavailable(),
            Self::ServerName { .. }
            | Self::Lookup { .. }
            | Self::Connect { .. }
            | Self::Http { .. }
            | Self::Timeout { .. } => false,
        }
    }
}

/// Sends requests to one origin. Clones share the connection.
#[derive(Clone)]
pub struct Transport {
    shared: Arc<Shared>,
}

struct Shared {
    origin: Origin,
    name: ServerName<'static>,
    tls: TlsConnector,
    prover: Option<Prover>,
    live: Mutex<Option<SendRequest<Body>>>,
}

impl Transport {
    /// A transport that connects when it is first used, to a peer that proves nothing but its certificate.
    ///
    /// # Errors
    /// [`TransportError::ServerName`].
    pub(crate) fn new(origin: Origin, tls: ClientConfig) -> Result<Self, TransportError> {
        Self::with(origin, tls, None)
    }

    /// A transport that connects when it is first used. Each of its connections is proved by `prover` before
    /// it carries a request, the first one and those after it.
    ///
    /// # Errors
    /// [`TransportError::ServerName`].
    pub(crate) fn proved(
        origin: Origin,
        tls: ClientConfig,
        prover: Prover,
    ) -> Result<Self, TransportError> {
        Self::with(origin, tls, Some(prover))
    }

    fn with(
        origin: Origin,
        tls: ClientConfig,
        prover: Option<Prover>,
    ) -> Result<Self, TransportError> {
        let Some(name) = origin.server_name() else {
            return Err(TransportError::ServerName { origin });
        };
        Ok(Self {
            shared: Arc::new(Shared {
                origin,
                name,
                tls: TlsConnector::from(Arc::new(tls)),
                prover,
                live: Mutex::new(None),
            }),
        })
    }

    /// Where it goes.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.shared.origin
    }

    /// Connects now, if there is no connection.
    ///
    /// # Errors
    /// [`TransportError`].
    pub async fn connect(&self) -> Result<(), TransportError> {
        Box::pin(self.shared.sender()).await.map(|_sender| ())
    }

    /// As if the connection had broken.
    #[cfg(test)]
    pub(crate) async fn break_connection(&self) {
        *self.shared.live.lock().await = None;
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// A request is sent at most once: it goes to a second connection only if it never left on the first.
    ///
    /// # Errors
    /// [`TransportError`].
    pub async fn send(
        &self,
        request: http::Request<Body>,
    ) -> Result<http::Response<Incoming>, TransportError> {
        let shared = &self.shared;
        let within = timeout(ANSWER_TIMEOUT, Box::pin(shared.send(request)));
        within.await.unwrap_or_else(|_elapsed| {
            Err(TransportError::Timeout {
                origin: shared.origin.clone(),
                after: ANSWER_TIMEOUT,
            })
        })
    }

    /// Sends a request whose body streams and waits for the head of its answer, as long as `sent`, the bytes of the
    /// body that were taken, rises.
    ///
    /// # Errors
    /// [`TransportError`].
    pub(crate) async fn send_streaming(
        &self,
        request: http::Request<Body>,
        sent: &AtomicU64,
    ) -> Result<http::Response<Incoming>, TransportError> {
        let shared = &self.shared;
        let mut sending = Box::pin(shared.send(request));
        loop {
            let before = sent.load(Ordering::Relaxed);
            match timeout(ANSWER_TIMEOUT, sending.as_mut()).await {
                Ok(answer) => return answer,
                Err(_elapsed) if sent.load(Ordering::Relaxed) != before => {}
                Err(_elapsed) => {
                    return Err(TransportError::Timeout {
                        origin: shared.origin.clone(),
                        after: ANSWER_TIMEOUT,
                    });
                }
            }
        }
    }
}

impl Shared {
    async fn send(
        &self,
        request: http::Request<Body>,
    ) -> Result<http::Response<Incoming>, TransportError> {
        let broke = |error| TransportError::Http {
            origin: self.origin.clone(),
            error,
        };
        let mut sender = self.sender().await?;
        match sender.try_send_request(request).await {
            Ok(answer) => Ok(answer),
            Err(mut failed) => match failed.take_message() {
                Some(unsent) => {
                    self.forget_closed().await;
                    let mut sender = self.sender().await?;
                    sender.send_request(unsent).await.map_err(broke)
                }
                None => Err(broke(failed.into_error())),
            },
        }
    }

    /// The live connection, or a new one.
    async fn sender(&self) -> Result<SendRequest<Body>, TransportError> {
        let mut live = self.live.lock().await;
        if let Some(sender) = live.as_mut()
            && sender.ready().await.is_ok()
        {
            return Ok(sender.clone());
        }
        let connecting = timeout(CONNECT_TIMEOUT, Box::pin(self.connect()));
        let sender = connecting.await.unwrap_or_else(|_elapsed| {
            Err(TransportError::Timeout {
                origin: self.origin.clone(),
                after: CONNECT_TIMEOUT,
            })
        })?;
        *live = Some(sender.clone());
        Ok(sender)
    }

    async fn forget_closed(&self) {
        let mut live = self.live.lock().await;
        if live.as_ref().is_some_and(SendRequest::is_closed) {
            *live = None;
        }
    }

    /// TCP, TLS, HTTP/2, proof: no other way leads to a connection.
    async fn connect(&self) -> Result<SendRequest<Body>, TransportError> {
        let origin = || self.origin.clone();
        let tcp = self.tcp().await?;
        let tls = self
            .tls
            .connect(self.name.clone(), tcp)
            .await
            .map_err(|error| TransportError::Tls {
                origin: origin(),
                error,
            })?;
        let unproved = |error| TransportError::Unproved {
            origin: origin(),
            error: Box::new(error),
        };
        let proof = match &self.prover {
            Some(prover) => {
                let (_tcp, session) = tls.get_ref();
                Some((
                    prover,
                    connection_proof::exporter(session).map_err(unproved)?,
                ))
            }
            None => None,
        };
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(MAX_HEADER_BYTES)
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .handshake(TokioIo::new(tls))
            .await
            .map_err(|error| TransportError::Http {
                origin: origin(),
                error,
            })?;
        // Ends with the connection; how it ended, the requests on it learn.
        tokio::spawn(async move { connection.await.unwrap_or_default() });
        if let Some((prover, exporter)) = proof {
            let demanded = prover.demand(&exporter, &self.origin, sender.clone());
            Box::pin(demanded).await.map_err(unproved)?;
        }
        Ok(sender)
    }

    async fn tcp(&self) -> Result<TcpStream, TransportError> {
        let addresses = match self.origin.endpoint() {
            Endpoint::Addresses(addresses) => addresses,
            Endpoint::Name(name, port) => tokio::net::lookup_host((name, port))
                .await
                .map_err(|error| TransportError::Lookup {
                    origin: self.origin.clone(),
                    error,
                })?
                .take(MAX_ADDRESSES)
                .collect(),
        };
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(tcp) => {
                    // Small requests wait for answers: nothing is gained by holding them back. A socket
                    // without the option works too.
                    tcp.set_nodelay(true).unwrap_or_default();
                    return Ok(tcp);
                }
                Err(error) => last = error,
            }
        }
        Err(TransportError::Connect {
            origin: self.origin.clone(),
            error: last,
        })
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport")
            .field("origin", &self.shared.origin)
            .finish_non_exhaustive()
    }
}

impl tower::Service<http::Request<Body>> for Transport {
    type Response = http::Response<Incoming>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let transport = self.clone();
        Box::pin(async move { transport.send(request).await.map_err(transport_status) })
    }
}
