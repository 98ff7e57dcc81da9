//! HTTP to witnesses and keyholders: one request a connection, bounded in time and size.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

/// The longest answer: a note.
const MAX_ANSWER_BYTES: usize = tlog::note::MAX_NOTE_BYTES;

/// There is no whole answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer: {0}")]
pub struct NoAnswer(String);

impl From<io::Error> for NoAnswer {
    fn from(error: io::Error) -> Self {
        Self(error.kind().to_string())
    }
}

/// Sends one request to `path` behind a prefix.
pub(crate) async fn send(
    prefix: &Url,
    tls: &Arc<ClientConfig>,
    deadline: Duration,
    (method, path, body): (Method, &str, String),
) -> Result<(StatusCode, Bytes), NoAnswer> {
    let sent = Box::pin(exchange(prefix, tls, method, path, body));
    match tokio::time::timeout(deadline, sent).await {
        Ok(answer) => answer,
        Err(_) => Err(NoAnswer("not in time".to_owned())),
    }
}

async fn exchange(
    prefix: &Url,
    tls: &Arc<ClientConfig>,
    method: Method,
    path: &str,
    body: String,
) -> Result<(StatusCode, Bytes), NoAnswer> {
    let wrong = |what: &str| NoAnswer(what.to_owned());
    let host = prefix.host_str().ok_or_else(|| wrong("no host"))?;
    let port = prefix
        .port_or_known_default()
        .ok_or_else(|| wrong("no port"))?;
    let target = format!("{}/{path}", prefix.path().trim_end_matches('/'));
    let name = host.trim_matches(['[', ']']);
    let socket = TcpStream::connect((name, port)).await?;
    drop(socket.set_nodelay(true));
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, format!("{host}:{port}"))
        .header(CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))
        .map_err(|_| wrong("the URL makes no request"))?;
    if prefix.scheme() != "https" {
        return over(socket, request).await;
    }
    let name = ServerName::try_from(name.to_owned()).map_err(|_| wrong("no server name"))?;
    let connector = TlsConnector::from(Arc::clone(tls));
    over(connector.connect(name, socket).await?, request).await
}

async fn over(
    socket: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), NoAnswer> {
    let broken = |error: hyper::Error| NoAnswer(error.to_string());
    let handshake = http1::handshake(TokioIo::new(socket)).await;
    let (mut sender, connection) = handshake.map_err(broken)?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect();
        let body = body.await.map_err(|error| NoAnswer(error.to_string()))?;
        Ok((status, body.to_bytes()))
    };
    let answer = answer.await;
    connection.abort();
    answer
}
