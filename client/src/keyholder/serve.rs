//! The HTTP interface of a keyholder: `POST /challenge` gives a nonce, `POST /ask` does what an enclave asks.
//!
//! Plain HTTP, or TLS: calls are bound by evidence, answers are sealed and signed.

use std::collections::hash_map::RandomState;
use std::convert::Infallible;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use attestation::keyholder::{MAX_CALL_BYTES, WireAnswer};
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Keyholder;
use super::refusal::Refusal;
use crate::clock::Clock;

/// Connections at a time; more wait.
const MAX_CONNECTIONS: usize = 128;
/// Calls that are judged at a time; more are refused.
const MAX_JUDGED: usize = 4;
/// How long a handshake, a request's head, a request's body and a whole connection may take.
const PATIENCE: Duration = Duration::from_secs(10);
const CONNECTION: Duration = Duration::from_secs(60);
/// After a failed `accept`.
const PAUSE: Duration = Duration::from_millis(100);
/// Calls that one address may make at once, and in the long run in a second.
const BURST: u32 = 40;
const PER_S: u32 = 10;
/// Addresses share this many counters.
const COUNTERS: usize = 1_024;

type Answer = Response<Full<Bytes>>;

/// How often is often enough, by address, in constant memory.
#[derive(Debug)]
struct Rates {
    hasher: RandomState,
    /// Tokens in thousandths, and when they were counted.
    counters: Mutex<Vec<(u32, u64)>>,
}

impl Rates {
    fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            counters: Mutex::new(vec![(BURST.saturating_mul(1_000), 0); COUNTERS]),
        }
    }

    fn admits(&self, peer: IpAddr, mono_ms: u64) -> bool {
        let hash = self.hasher.hash_one(peer);
        let at = usize::try_from(hash).unwrap_or(0).checked_rem(COUNTERS);
        let mut counters = self.counters.lock();
        let Some((tokens, since_ms)) = at.and_then(|at| counters.get_mut(at)) else {
            return false;
        };
        let passed_ms = u32::try_from(mono_ms.saturating_sub(*since_ms)).unwrap_or(u32::MAX);
        *since_ms = mono_ms;
        *tokens = tokens
            .saturating_add(passed_ms.saturating_mul(PER_S))
            .min(BURST.saturating_mul(1_000));
        match tokens.checked_sub(1_000) {
            Some(left) => {
                *tokens = left;
                true
            }
            None => false,
        }
    }
}

struct Service {
    keyholder: Arc<Keyholder>,
    clock: Arc<dyn Clock>,
    rates: Rates,
    judged: Arc<Semaphore>,
}

/// Serves until the task is dropped.
pub async fn serve(
    keyholder: Arc<Keyholder>,
    clock: Arc<dyn Clock>,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let tls = tls.map(TlsAcceptor::from);
    let service = Arc::new(Service {
        keyholder,
        clock,
        rates: Rates::new(),
        judged: Arc::new(Semaphore::new(MAX_JUDGED)),
    });
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let Ok((socket, peer)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let (service, tls) = (Arc::clone(&service), tls.clone());
        tokio::spawn(async move {
            let served = async {
                match tls {
                    None => connection(socket, service, peer.ip()).await,
                    Some(tls) => {
                        if let Ok(Ok(socket)) = timeout(PATIENCE, tls.accept(socket)).await {
                            connection(socket, service, peer.ip()).await;
                        }
                    }
                }
            };
            // How a connection ends is its client's matter.
            drop(timeout(CONNECTION, Box::pin(served)).await);
            drop(place);
        });
    }
}

async fn connection(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    service: Arc<Service>,
    peer: IpAddr,
) {
    let handler = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(answer(&service, peer, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(socket), handler);
    drop(served.await);
}

async fn answer(service: &Service, peer: IpAddr, request: Request<Incoming>) -> Answer {
    // Whatever prefix the keyholder stands behind.
    let path = request.uri().path();
    let asked = path.ends_with("/ask");
    if !asked && !path.ends_with("/challenge") {
        return plain(StatusCode::NOT_FOUND, "no such path\n");
    }
    if request.method() != Method::POST {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "");
        let post = HeaderValue::from_static("POST");
        answer.headers_mut().insert(ALLOW, post);
        return answer;
    }
    if !service.rates.admits(peer, service.clock.monotonic_ms()) {
        return refusal(&Refusal::Busy);
    }
    if !asked {
        return match service.keyholder.challenge(service.clock.unix_time_s()) {
            Some(nonce) => json(StatusCode::OK, &WireAnswer::Nonce(nonce)),
            None => refusal(&Refusal::Busy),
        };
    }
    let Ok(place) = Arc::clone(&service.judged).try_acquire_owned() else {
        return refusal(&Refusal::Busy);
    };
    let body = Limited::new(request.into_body(), MAX_CALL_BYTES).collect();
    let body = match timeout(PATIENCE, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            let what = "the body is too long or broke off".to_owned();
            return refusal(&Refusal::Malformed(what));
        }
        Err(_) => return refusal(&Refusal::Malformed("the body did not come in time".into())),
    };
    let keyholder = Arc::clone(&service.keyholder);
    let now_s = service.clock.unix_time_s();
    let judged = tokio::task::spawn_blocking(move || keyholder.ask(&body, now_s)).await;
    drop(place);
    match judged {
        Ok(Ok(answer)) => json(StatusCode::OK, &WireAnswer::Answer(answer)),
        Ok(Err(refused)) => refusal(&refused),
        Err(_) => refusal(&Refusal::Busy),
    }
}

fn refusal(refused: &Refusal) -> Answer {
    let status = StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let answer = WireAnswer::Refused {
        reason: refused.reason().to_owned(),
        message: refused.message(),
    };
    json(status, &answer)
}

fn json(status: StatusCode, answer: &WireAnswer) -> Answer {
    let Ok(text) = answer.to_json() else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "");
    };
    with_type(status, Bytes::from(text), "application/json")
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    let body = Bytes::from_static(text.as_bytes());
    with_type(status, body, "text/plain; charset=utf-8")
}

fn with_type(status: StatusCode, body: Bytes, media_type: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_held_to_its_rate() {
        let rates = Rates::new();
        let peer = IpAddr::from([192, 0, 2, 1]);
        let admitted = (0..100).filter(|_| rates.admits(peer, 1)).count();
        assert_eq!(admitted, 40);
        assert!(rates.admits(peer, 101));
        assert!(!rates.admits(peer, 101));
        assert!(rates.admits(peer, 1_000_000_000_000));
    }
}
