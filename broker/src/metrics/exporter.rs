//! The listener for whoever collects the numbers: `GET /metrics` over plain HTTP/1.1, and nothing else.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::counter::Counter;
use super::page::page;
use super::readings::Sources;
use super::text;
use crate::clock::Stopwatch;
use crate::events;
use crate::listener::ShutdownSignal;

/// The path.
pub const PATH: &str = "/metrics";

/// Connections at a time; more are closed as they arrive.
const MAX_CONNECTIONS: usize = 8;

/// How long a request's head may take, the wait for it included.
const HEAD: Duration = Duration::from_secs(10);

/// For so long a page is told again: making one walks through what there is.
const KEPT_US: u64 = 1_000_000;

/// How long a connection may last.
const AGE: Duration = Duration::from_secs(600);

/// Bytes of a request's head: the least that hyper takes.
const MAX_HEAD_BYTES: usize = 8 * 1024;

/// How long the loop waits when the system has no descriptor to give.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The listener can't begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the listener for metrics can't have {addr} ({kind}): name another under [metrics] in host.toml"
)]
pub struct BindError {
    /// The address.
    pub addr: SocketAddr,
    /// The kind of the failure.
    pub kind: io::ErrorKind,
}

/// The listener.
#[derive(Debug)]
pub struct Exporter {
    listener: TcpListener,
}

impl Exporter {
    /// Takes an address, and begins to measure.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(addr: SocketAddr) -> Result<Self, BindError> {
        let failed = |error: io::Error| BindError {
            addr,
            kind: error.kind(),
        };
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let taken = listener.local_addr().map_err(failed)?;
        super::switch_on();
        events::metrics_started(taken);
        Ok(Self { listener })
    }

    /// Answers until the service stops.
    pub async fn serve(self, sources: Sources, mut stop: ShutdownSignal) {
        let pages = Arc::new(Pages {
            sources,
            last: Mutex::new(None),
        });
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(MAX_HEAD_BYTES);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.begun() => return,
                Some(_done) = connections.join_next() => {}
                arrived = self.listener.accept() => {
                    let Ok((stream, _peer)) = arrived else {
                        sleep(ACCEPT_RETRY).await;
                        continue;
                    };
                    let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                        continue;
                    };
                    let pages = Arc::clone(&pages);
                    let answer = service_fn(move |request| {
                        let pages = Arc::clone(&pages);
                        async move { Ok::<_, Infallible>(answer(&request, &pages).await) }
                    });
                    let connection = http.serve_connection(TokioIo::new(stream), answer);
                    connections.spawn(async move {
                        // How a connection ends is its peer's affair.
                        drop(timeout(AGE, connection).await);
                        drop(permit);
                    });
                }
            }
        }
    }
}

/// Pages that were made.
pub static PAGES: Counter = Counter::new();

/// The page, made anew once a second at most.
struct Pages {
    sources: Sources,
    last: Mutex<Option<(Stopwatch, Bytes)>>,
}

impl Pages {
    /// The page; none if it could not be made.
    async fn page(&self) -> Option<Bytes> {
        let mut last = self.last.lock().await;
        if let Some((made, page)) = &*last
            && made.elapsed_us() < KEPT_US
        {
            return Some(page.clone());
        }
        let sources = self.sources.clone();
        // It takes locks and reads files: not where requests are served.
        PAGES.one();
        let made = tokio::task::spawn_blocking(move || Bytes::from(page(&sources.read())));
        let page = made.await.ok()?;
        *last = Some((Stopwatch::start(), page.clone()));
        Some(page)
    }
}

async fn answer(request: &Request<Incoming>, pages: &Pages) -> Response<Full<Bytes>> {
    let plain = |status, text: &'static str| {
        let mut answer = Response::new(Full::from(text));
        *answer.status_mut() = status;
        answer
    };
    if request.uri().path() != PATH {
        return plain(StatusCode::NOT_FOUND, "the numbers are at /metrics\n");
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        answer.headers_mut().insert(ALLOW, allowed);
        return answer;
    }
    let Some(page) = pages.page().await else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "no numbers\n");
    };
    let mut answer = Response::new(Full::from(page));
    let kind = HeaderValue::from_static(text::CONTENT_TYPE);
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}
