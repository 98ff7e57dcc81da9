//! One plain HTTP/1.1 request on loopback, on a connection of its own, with a bounded answer.

use std::io;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

/// Largest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not `http://HOST:PORT/…`.
    #[error("not an http URL with a host and a port")]
    Url,
    /// The headers or the method do not make a request.
    #[error("not a request")]
    Request(#[source] http::Error),
    /// No connection.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// The connection ended before an answer came.
    #[error("no answer")]
    Exchange(#[source] hyper::Error),
    /// The answer's body ended early; holds what had arrived.
    #[error("the answer ended after {} bytes", .0.len())]
    Truncated(Bytes),
    /// The answer's body is larger than this client reads.
    #[error("the answer is too large")]
    TooLarge,
    /// The answer is not the expected JSON.
    #[error("the answer is not the expected JSON")]
    Json(#[source] serde_json::Error),
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// [`FetchError::Json`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, FetchError> {
        serde_json::from_slice(&self.body).map_err(FetchError::Json)
    }
}

/// Sends one request and reads the whole answer. Follows no redirect, tries nothing twice.
///
/// # Errors
/// Every way in which no whole answer comes.
pub async fn fetch(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Answer, FetchError> {
    let (authority, target) = split(url).ok_or(FetchError::Url)?;
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, authority);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Full::new(body.into()))
        .map_err(FetchError::Request)?;
    let stream = TcpStream::connect(authority)
        .await
        .map_err(FetchError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(FetchError::Exchange)?;
    let connection = tokio::spawn(connection);
    let answer = async {
        let (parts, body) = sender
            .send_request(request)
            .await
            .map_err(FetchError::Exchange)?
            .into_parts();
        let mut body = Limited::new(body, MAX_ANSWER_BYTES);
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        read.extend_from_slice(&data);
                    }
                }
                Err(error) if error.is::<LengthLimitError>() => return Err(FetchError::TooLarge),
                Err(_) => return Err(FetchError::Truncated(Bytes::from(read))),
            }
        }
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: Bytes::from(read),
        })
    }
    .await;
    // The answer says all there is to say about the connection.
    connection.abort();
    answer
}

/// Posts form parameters.
///
/// # Errors
/// As [`fetch`].
pub async fn post_form(
    url: &str,
    headers: &[(&str, &str)],
    parameters: &[(&str, &str)],
) -> Result<Answer, FetchError> {
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(parameters)
        .finish();
    let mut all = vec![("content-type", "application/x-www-form-urlencoded")];
    all.extend_from_slice(headers);
    fetch(Method::POST, url, &all, body).await
}

/// Posts JSON.
///
/// # Errors
/// As [`fetch`].
pub async fn post_json(url: &str, body: &serde_json::Value) -> Result<Answer, FetchError> {
    let headers = [("content-type", "application/json")];
    fetch(Method::POST, url, &headers, body.to_string()).await
}

/// Gets a URL.
///
/// # Errors
/// As [`fetch`].
pub async fn get(url: &str, headers: &[(&str, &str)]) -> Result<Answer, FetchError> {
    fetch(Method::GET, url, headers, Bytes::new()).await
}

fn split(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at_checked(end)?;
    let (host, port) = authority.rsplit_once(':')?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return None;
    }
    Some((authority, if target.is_empty() { "/" } else { target }))
}
