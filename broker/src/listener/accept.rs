//! Accepts TCP connections, secures them and serves HTTP on them until told to
//! stop.

use bytes::Bytes;
use futures_util::future::Either;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::Service as HyperService;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::future::{Future, Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::answers::Answers;
use super::connection::Connection;
use super::gathered::{Driven, Gathered, driven};
use super::leash::{Leashes, Watched, bodiless, watched};
use super::limits::Limits;
use super::shutdown::ShutdownSignal;
use super::turnstile::Turnstile;
use crate::events;
use crate::metrics::Watch;
use crate::metrics::doors::{self, Door};

/// HTTP/2 flow-control window of a connection. Wide, because h2 closes a
/// connection on which more than half of it is taken by small frames: 64 KiB
/// trips at about 130 concurrent small answers.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// HTTP/2 flow-control window of a stream.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;

/// Streams that a peer reset and that were not yet seen as such; more close the
/// connection (rapid reset, CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 32;

/// Streams that were reset because of the peer's errors; more close the
/// connection.
const MAX_ERROR_RESETS: usize = 64;

/// How often an idle HTTP/2 peer is asked whether it is there, and how long it
/// may take to answer.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the loop waits when the system has no descriptor to give.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Which listener speaks, in logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// gRPC.
    Grpc,
    /// Issuer, connect pages, logs.
    Public,
    /// The gateway to provider APIs.
    Gateway,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grpc => "grpc",
            Self::Public => "public",
            Self::Gateway => "gateway",
        })
    }
}

/// Why a listener could not begin.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ListenError {
    /// The address can't be had.
    #[error("the {name} listener can't have {addr} ({kind})")]
    Bind {
        /// Which listener.
        name: Name,
        /// The address.
        addr: SocketAddr,
        /// The kind of the failure.
        kind: io::ErrorKind,
    },
}

/// How a listener ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still open at the drain's deadline and were cut.
    pub cut: usize,
}

/// Takes an address; port 0 takes any free port.
///
/// # Errors
/// [`ListenError::Bind`].
pub async fn bind(name: Name, addr: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(addr)
        .await
        .map_err(|error| ListenError::Bind {
            name,
            addr,
            kind: error.kind(),
        })
}

/// Serves connections until shutdown begins, then lets their requests finish,
/// at most for [`Limits::drain`]. Each request carries its [`Connection`].
pub async fn serve<S, B>(
    name: Name,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    limits: Limits,
    service: S,
    mut stop: ShutdownSignal,
) -> Drained
where
    S: Answers<Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let served = Served {
        name,
        http2_alone: tls.alpn_protocols == [b"h2"],
        tls: TlsAcceptor::from(tls),
        handshakes: Turnstile::new(),
        limits,
        stop: stop.clone(),
        service,
    };
    let room = Arc::new(Semaphore::new(served.limits.max_connections));
    let mut tasks = JoinSet::new();
    let mut accepted: u32 = 0;
    let door = doors::of(name);
    loop {
        tokio::select! {
            biased;
            () = stop.begun() => break,
            Some(_done) = tasks.join_next() => {}
            arrived = listener.accept() => match arrived {
                Ok((stream, peer_addr)) => {
                    let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                        events::connection_refused(name, peer_addr);
                        continue;
                    };
                    accepted = accepted.wrapping_add(1);
                    door.accepted.one();
                    let served = served.clone();
                    let number = accepted;
                    tasks.spawn(async move {
                        let inside = door.open.enter();
                        let ended = served.connection(stream, peer_addr, number).await;
                        drop((inside, permit));
                        ended
                    });
                }
                Err(error) => {
                    events::accept_failed(name, error.kind());
                    sleep(ACCEPT_RETRY).await;
                }
            },
        }
    }
    drop(listener);
    let mut cut: usize = 0;
    // Each connection keeps the drain's deadline by itself.
    while let Some(ended) = tasks.join_next().await {
        if let Ok(Ended::Cut) = ended {
            cut = cut.saturating_add(1);
        }
    }
    Drained { cut }
}

/// How a connection ended.
enum Ended {
    /// By its peer, by a time-out before it spoke, or drained.
    Done,
    /// With requests that did not finish in time.
    Cut,
}

/// HTTP as all listeners speak it.
fn http(name: Name, limits: &Limits, leashes: Leashes) -> auto::Builder<Leashes> {
    let mut builder = auto::Builder::new(leashes);
    let max_head_bytes = usize::try_from(limits.max_head_bytes).unwrap_or(usize::MAX);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        // hyper panics below 8 KiB.
        .max_buf_size(max_head_bytes.max(8 * 1024))
        .http2()
        .timer(TokioTimer::new())
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(limits.max_head_bytes)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        // Nobody looks for it in an answer over gRPC.
        .auto_date_header(name != Name::Grpc);
    builder
}

/// A connection that is served.
type Serving<S> = Driven<Http<S>, TlsStream<TcpStream>>;

/// The same as HTTP sees it.
type Http<S> =
    auto::Connection<'static, TokioIo<Gathered<TlsStream<TcpStream>>>, WithConnection<S>, Leashes>;

/// What each connection of a listener is served with.
#[derive(Clone)]
struct Served<S> {
    name: Name,
    http2_alone: bool,
    tls: TlsAcceptor,
    handshakes: Turnstile,
    limits: Limits,
    stop: ShutdownSignal,
    service: S,
}

impl<S, B> Served<S>
where
    S: Answers<Response = Response<B>> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    /// The version comes from ALPN: waiting for a preface has no deadline.
    fn speaks_http2(&self, stream: &TlsStream<TcpStream>) -> bool {
        self.http2_alone || stream.get_ref().1.alpn_protocol() == Some(b"h2")
    }

    /// Serves a connection, in memory of its own: moved about in a future it would take its place several times.
    fn serving(
        &self,
        stream: TlsStream<TcpStream>,
        connection: Connection,
        leashes: &Leashes,
        spoke: &Arc<AtomicBool>,
    ) -> Serving<S> {
        let http = http(self.name, &self.limits, leashes.clone());
        let http = match self.speaks_http2(&stream) {
            true => http.http2_only(),
            false => http.http1_only(),
        };
        let service = WithConnection {
            door: doors::of(self.name),
            connection,
            spoke: Arc::clone(spoke),
            leashes: leashes.clone(),
            inner: self.service.clone(),
        };
        driven(stream, |stream| {
            http.serve_connection(TokioIo::new(stream), service)
                .into_owned()
        })
    }

    async fn connection(mut self, stream: TcpStream, peer_addr: SocketAddr, number: u32) -> Ended {
        // Small answers must not wait for an acknowledgement (Nagle); if the
        // socket is gone already, the handshake says so.
        drop(stream.set_nodelay(true));
        let door = doors::of(self.name);
        let watch = Watch::start();
        // In memory of its own, which is free when it is over: what waits longest is the connection.
        let handshake = Box::pin(timeout(
            self.limits.handshake_timeout,
            self.handshakes.pass(self.tls.accept(stream)),
        ));
        let leashes = Leashes::new(self.limits.unread);
        let spoke = Arc::new(AtomicBool::new(false));
        // In a block, so that what is named in it has no place beside the connection.
        let (mut serving, http2) = {
            let stream = tokio::select! {
                biased;
                () = self.stop.begun() => return Ended::Done,
                done = handshake => match done {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => return self.no_handshake(peer_addr, error.kind()),
                    Err(_elapsed) => return self.no_handshake(peer_addr, io::ErrorKind::TimedOut),
                },
            };
            let Some(connection) = Connection::of(&stream, peer_addr) else {
                return self.no_handshake(peer_addr, io::ErrorKind::InvalidData);
            };
            watch.stop(&door.handshakes);
            let http2 = self.speaks_http2(&stream);
            (self.serving(stream, connection, &leashes, &spoke), http2)
        };

        let mut silent = pin!(sleep(self.limits.head_timeout));
        let mut old = pin!(sleep(age(self.limits.connection_age, number)));
        let mut unread = pin!(leashes.unread());
        let mut waits_for_head = true;
        loop {
            tokio::select! {
                biased;
                // How a connection ends is the peer's affair.
                _ended = &mut serving => return Ended::Done,
                () = self.stop.begun() => break,
                () = old.as_mut() => break,
                // With HTTP/2 each answer has a task that ends it.
                () = unread.as_mut(), if !http2 => return Ended::Cut,
                () = silent.as_mut(), if waits_for_head => {
                    if !spoke.load(Ordering::Relaxed) {
                        return Ended::Done;
                    }
                    waits_for_head = false;
                }
            }
        }
        serving.connection().graceful_shutdown();
        match timeout(self.limits.drain, serving).await {
            Ok(_ended) => Ended::Done,
            Err(_elapsed) => Ended::Cut,
        }
    }

    fn no_handshake(&self, peer_addr: SocketAddr, kind: io::ErrorKind) -> Ended {
        events::handshake_failed(self.name, peer_addr, kind);
        Ended::Done
    }
}

/// The age at which the `number`th connection goes: up to a tenth later, so that
/// clients that came together do not return together.
fn age(base: Duration, number: u32) -> Duration {
    let tenth = base.checked_div(10).unwrap_or_default();
    let part = tenth.saturating_mul(number.wrapping_mul(7) % 16);
    base.saturating_add(part.checked_div(16).unwrap_or_default())
}

/// Puts the connection into each request.
struct WithConnection<S> {
    door: &'static Door,
    connection: Connection,
    spoke: Arc<AtomicBool>,
    leashes: Leashes,
    inner: S,
}

impl<S, B> HyperService<Request<Incoming>> for WithConnection<S>
where
    S: Answers<Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Watched<B>>;
    type Error = Infallible;
    type Future = Either<
        Ready<Result<Self::Response, Infallible>>,
        Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>,
    >;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.spoke.store(true, Ordering::Relaxed);
        self.door.requests.one();
        request.extensions_mut().insert(self.connection.clone());
        let answer = match self.inner.clone().answer(request) {
            Either::Left(answer) if answer.body().is_end_stream() => {
                self.leashes.at_once();
                return Either::Left(ready(Ok(bodiless(answer))));
            }
            Either::Left(answer) => Either::Left(ready(Ok(answer))),
            Either::Right(making) => Either::Right(making),
        };
        let leash = self.leashes.begin();
        Either::Right(Box::pin(async move { Ok(watched(answer.await?, leash)) }))
    }
}
