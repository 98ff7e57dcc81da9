//! The HTTP interface of a witness [C2SP tlog-witness]: `POST /add-checkpoint`, `GET /SHA-256 OF ORIGIN/checkpoint`.
//!
//! Plain HTTP, or TLS: requests are authenticated by the log's signature, answers by the witness's.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tlog::witness::{MAX_REQUEST_BYTES, Refused, SIZE_MEDIA_TYPE};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{Witness, WitnessError};
use crate::clock::Clock;

/// Connections at a time; more wait.
const MAX_CONNECTIONS: usize = 256;
/// How long a handshake, a request's head and a request's body may take, each.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failed `accept`.
const PAUSE: Duration = Duration::from_millis(100);

type Answer = Response<Full<Bytes>>;

/// Serves until the task is dropped.
pub async fn serve(
    witness: Arc<Witness>,
    clock: Arc<dyn Clock>,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let tls = tls.map(TlsAcceptor::from);
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let Ok((socket, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let (witness, clock, tls) = (Arc::clone(&witness), Arc::clone(&clock), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => connection(socket, witness, clock).await,
                Some(tls) => {
                    if let Ok(Ok(socket)) = timeout(PATIENCE, tls.accept(socket)).await {
                        connection(socket, witness, clock).await;
                    }
                }
            }
            drop(place);
        });
    }
}

async fn connection(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    witness: Arc<Witness>,
    clock: Arc<dyn Clock>,
) {
    let service = service_fn(move |request| {
        let (witness, clock) = (Arc::clone(&witness), Arc::clone(&clock));
        async move { Ok::<_, Infallible>(answer(witness, &*clock, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(socket), service);
    // How a connection ends is its client's matter.
    drop(served.await);
}

async fn answer(witness: Arc<Witness>, clock: &dyn Clock, request: Request<Incoming>) -> Answer {
    let path = request.uri().path();
    if path == "/add-checkpoint" {
        if request.method() != Method::POST {
            return not_allowed("POST");
        }
        return add_checkpoint(witness, clock, request).await;
    }
    let origin = path
        .strip_prefix('/')
        .and_then(|path| path.strip_suffix("/checkpoint"))
        .filter(|hash| !hash.bytes().any(|byte| byte.is_ascii_uppercase()))
        .and_then(|hash| hex::decode(hash).ok());
    let Some(origin) = origin else {
        return text(StatusCode::NOT_FOUND, "no such path\n".to_owned());
    };
    if request.method() != Method::GET {
        return not_allowed("GET");
    }
    match witness.latest(&origin) {
        Some(checkpoint) => text(StatusCode::OK, checkpoint.note().note().to_string()),
        None => text(
            StatusCode::NOT_FOUND,
            "nothing of such a log was cosigned\n".to_owned(),
        ),
    }
}

async fn add_checkpoint(
    witness: Arc<Witness>,
    clock: &dyn Clock,
    request: Request<Incoming>,
) -> Answer {
    let body = Limited::new(request.into_body(), MAX_REQUEST_BYTES).collect();
    let body = match timeout(PATIENCE, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            let what = "the body is too long or broke off\n";
            return text(StatusCode::PAYLOAD_TOO_LARGE, what.to_owned());
        }
        Err(_) => {
            let what = "the body did not come in time\n";
            return text(StatusCode::REQUEST_TIMEOUT, what.to_owned());
        }
    };
    let now_s = clock.unix_time_s();
    let judged = tokio::task::spawn_blocking(move || witness.add_checkpoint(&body, now_s)).await;
    match judged {
        Ok(Ok(cosignature)) => text(StatusCode::OK, format!("{cosignature}\n")),
        Ok(Err(WitnessError::Refused(refused))) => refusal(&refused),
        Ok(Err(WitnessError::State(_))) | Err(_) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "what was seen could not be kept, so it was not cosigned\n".to_owned(),
        ),
    }
}

fn refusal(refused: &Refused) -> Answer {
    let status = StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::BAD_REQUEST);
    if let Refused::Conflict { size } = refused {
        let mut answer = text(status, format!("{size}\n"));
        let media_type = HeaderValue::from_static(SIZE_MEDIA_TYPE);
        answer.headers_mut().insert(CONTENT_TYPE, media_type);
        return answer;
    }
    text(status, format!("{refused}\n"))
}

fn not_allowed(allowed: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, String::new());
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn text(status: StatusCode, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
