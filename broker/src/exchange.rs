//! HTTP to witnesses, keyholders, collectors of traces and those who hand out collateral: one request a connection, bounded in time and size.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

/// There is no whole answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer: {0}")]
pub struct NoAnswer(String);

impl From<io::Error> for NoAnswer {
    fn from(error: io::Error) -> Self {
        Self(error.kind().to_string())
    }
}

/// How long an answer may be, and how long it may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) deadline: Duration,
    pub(crate) max_bytes: usize,
}

/// Sends one request to `path` behind a prefix.
pub(crate) async fn send(
    prefix: &Url,
    tls: &Arc<ClientConfig>,
    bounds: Bounds,
    request: (Method, &str, String),
) -> Result<Response<Bytes>, NoAnswer> {
    send_as(prefix, tls, bounds, None, request).await
}

/// As [`send`], with the body's media type.
pub(crate) async fn send_as(
    prefix: &Url,
    tls: &Arc<ClientConfig>,
    bounds: Bounds,
    kind: Option<&'static str>,
    request: (Method, &str, String),
) -> Result<Response<Bytes>, NoAnswer> {
    let sent = Box::pin(exchange(prefix, tls, bounds.max_bytes, kind, request));
    match tokio::time::timeout(bounds.deadline, sent).await {
        Ok(answer) => answer,
        Err(_) => Err(NoAnswer("not in time".to_owned())),
    }
}

async fn exchange(
    prefix: &Url,
    tls: &Arc<ClientConfig>,
    max_bytes: usize,
    kind: Option<&'static str>,
    (method, path, body): (Method, &str, String),
) -> Result<Response<Bytes>, NoAnswer> {
    let wrong = |what: &str| NoAnswer(what.to_owned());
    let host = prefix.host_str().ok_or_else(|| wrong("no host"))?;
    let port = prefix
        .port_or_known_default()
        .ok_or_else(|| wrong("no port"))?;
    let mut target = prefix.path().trim_end_matches('/').to_owned();
    if !path.is_empty() || target.is_empty() {
        target.push('/');
        target.push_str(path);
    }
    let name = host.trim_matches(['[', ']']);
    let socket = TcpStream::connect((name, port)).await?;
    drop(socket.set_nodelay(true));
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, format!("{host}:{port}"))
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))
        .map_err(|_| wrong("the URL makes no request"))?;
    if let Some(kind) = kind {
        let kind = HeaderValue::from_static(kind);
        request.headers_mut().insert(CONTENT_TYPE, kind);
    }
    if prefix.scheme() != "https" {
        return over(socket, request, max_bytes).await;
    }
    let name = ServerName::try_from(name.to_owned()).map_err(|_| wrong("no server name"))?;
    let connector = TlsConnector::from(Arc::clone(tls));
    over(connector.connect(name, socket).await?, request, max_bytes).await
}

async fn over(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
    max_bytes: usize,
) -> Result<Response<Bytes>, NoAnswer> {
    let broken = |error: hyper::Error| NoAnswer(error.to_string());
    let handshake = http1::handshake(TokioIo::new(socket)).await;
    let (mut sender, connection) = handshake.map_err(broken)?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let answer = sender.send_request(request).await.map_err(broken)?;
        let (parts, body) = answer.into_parts();
        let body = Limited::new(body, max_bytes).collect();
        let body = body.await.map_err(|error| NoAnswer(error.to_string()))?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    let answer = answer.await;
    connection.abort();
    answer
}
