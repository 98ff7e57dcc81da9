//! A local listener for programs that know nothing of tokens: it adds token and proof to each request and sends it
//! through the enclave's gateway.
//!
//! Whoever reaches the listener can call what the grant allows. It stands on a Unix socket of the user's own, or on
//! loopback; what a web page in a browser on the same machine sends is refused, as it comes from somebody else.

mod answer;
mod request;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::gateway::GatewayClient;
use answer::LocalBody;

/// Connections at a time; more wait.
const MAX_CONNECTIONS: usize = 256;

/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest head of a request, bytes.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// After a failed `accept`.
const PAUSE: Duration = Duration::from_millis(100);

/// How long requests may go on after the proxy was told to stop.
pub const DRAIN: Duration = Duration::from_secs(30);

/// Where a proxy listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On loopback.
    Tcp(SocketAddr),
    /// On a Unix socket, which only its owner may connect to.
    Unix(PathBuf),
}

/// Why a proxy does not listen.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// The address is not loopback: others on the network could use the grant.
    #[error("{0} is not a loopback address")]
    NotLoopback(SocketAddr),
    /// The address or path can't be had.
    #[error("can't listen on {place}")]
    Listen {
        /// Where.
        place: String,
        /// Why.
        #[source]
        error: io::Error,
    },
}

impl std::str::FromStr for Place {
    type Err = &'static str;

    /// `ADDRESS:PORT`, or `unix:PATH`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some("") => Err("must be unix:PATH"),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| "must be ADDRESS:PORT, such as 127.0.0.1:8080, or unix:PATH"),
        }
    }
}

/// A proxy to one target of one grant.
#[derive(Debug)]
pub struct Proxy {
    gateway: GatewayClient,
    /// `{gateway}/g/{grant}/{target}`.
    resource: String,
    scopes: Vec<String>,
}

/// A proxy that listens.
#[derive(Debug)]
pub struct Listening {
    proxy: Arc<Proxy>,
    listener: Listener,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, SocketFile),
}

/// A socket's file, removed when the proxy ends.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever removed it already has done what is to be done.
        std::fs::remove_file(&self.0).unwrap_or_default();
    }
}

/// The other side of a connection is to be a program on this machine that means this proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    /// Loopback on this port: any program of this machine, a browser included.
    Loopback(u16),
    /// A Unix socket: no browser speaks to one.
    Socket,
}

impl Proxy {
    /// Calls go to a target of a grant, with tokens of these scopes; none for all of the grant.
    #[must_use]
    pub fn new(gateway: GatewayClient, grant: &str, target: &str, scopes: Vec<String>) -> Self {
        let origin = gateway.origin().trim_end_matches('/');
        Self {
            resource: format!("{origin}/g/{grant}/{target}"),
            gateway,
            scopes,
        }
    }

    /// The resource that requests are sent to.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// Listens. A Unix socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub async fn listen(self, place: &Place) -> Result<Listening, ProxyError> {
        let failed = |place: String| move |error| ProxyError::Listen { place, error };
        let listener = match place {
            Place::Tcp(address) if !address.ip().is_loopback() => {
                return Err(ProxyError::NotLoopback(*address));
            }
            Place::Tcp(address) => {
                let listener = TcpListener::bind(address)
                    .await
                    .map_err(failed(address.to_string()))?;
                let address = listener.local_addr().map_err(failed(address.to_string()))?;
                Listener::Tcp(listener, address)
            }
            Place::Unix(path) => {
                let listener = unix(path)
                    .await
                    .map_err(failed(path.display().to_string()))?;
                Listener::Unix(listener, SocketFile(path.clone()))
            }
        };
        Ok(Listening {
            proxy: Arc::new(self),
            listener,
        })
    }

    async fn answer(&self, door: Door, request: Request<Incoming>) -> Response<LocalBody> {
        let (head, body) = request.into_parts();
        let head = match request::head(&self.resource, &self.scopes, door, &head) {
            Ok(head) => head,
            Err(refused) => return answer::refused(refused),
        };
        match Box::pin(self.gateway.forward(&head, body)).await {
            Ok(response) => answer::passed_on(&self.resource, response),
            Err(error) => answer::failed(&error),
        }
    }
}

async fn unix(path: &Path) -> io::Result<UnixListener> {
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            // A socket of one that ended without removing it.
            let connected = tokio::net::UnixStream::connect(path).await;
            match connected {
                Err(gone) if gone.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path)?;
                    UnixListener::bind(path)?
                }
                Ok(_) | Err(_) => return Err(error),
            }
        }
        other => other?,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

impl Listening {
    /// What programs are told: a base URL, or the path of a socket.
    #[must_use]
    pub fn place(&self) -> String {
        match &self.listener {
            Listener::Tcp(_, address) => format!("http://{address}"),
            Listener::Unix(_, SocketFile(path)) => format!("unix:{}", path.display()),
        }
    }

    /// Serves until `stop` is done, then lets requests finish, for [`DRAIN`] at most.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let Self { proxy, listener } = self;
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let (stopping, told) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            let accepted = async {
                let place = Arc::clone(&room).acquire_owned().await;
                (listener.accept().await, place)
            };
            tokio::select! {
                biased;
                () = stop.as_mut() => break,
                Some(_ended) = connections.join_next() => {}
                (accepted, place) = accepted => match accepted {
                    Err(_) => sleep(PAUSE).await,
                    Ok((stream, door)) => {
                        let (proxy, told) = (Arc::clone(&proxy), told.clone());
                        connections.spawn(async move {
                            connection(proxy, stream, door, told).await;
                            drop(place);
                        });
                    }
                },
            }
        }
        drop(listener);
        stopping.send_replace(true);
        let drained = async { while connections.join_next().await.is_some() {} };
        // What has not ended by then is cut.
        drop(timeout(DRAIN, drained).await);
    }
}

/// A byte stream to a program.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Listener {
    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Door)> {
        match self {
            Self::Tcp(listener, address) => {
                let (stream, _peer) = listener.accept().await?;
                // Small answers must not wait.
                stream.set_nodelay(true).unwrap_or_default();
                Ok((Box::new(stream), Door::Loopback(address.port())))
            }
            Self::Unix(listener, _) => {
                let (stream, _peer) = listener.accept().await?;
                Ok((Box::new(stream), Door::Socket))
            }
        }
    }
}

async fn connection(
    proxy: Arc<Proxy>,
    stream: Box<dyn Stream>,
    door: Door,
    mut told: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| {
        let proxy = Arc::clone(&proxy);
        async move { Ok::<_, Infallible>(proxy.answer(door, request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES);
    let mut serving = pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // How a connection ends is the program's affair.
        _ended = serving.as_mut() => return,
        _told = told.wait_for(|stopping| *stopping) => {}
    }
    serving.as_mut().graceful_shutdown();
    drop(serving.await);
}

#[cfg(test)]
mod tests;
