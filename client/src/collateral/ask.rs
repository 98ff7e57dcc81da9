//! One question to a service that hands out collateral: bounded in time and size, no redirect, nothing tried twice.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, RETRY_AFTER};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

use super::CollateralError;

/// The longest body that is read, bytes.
pub(super) const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// How long one request may take, look-up and handshakes included.
const DEADLINE: Duration = Duration::from_secs(20);

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// The host of an endpoint, for messages.
pub(super) fn host_of(endpoint: &str) -> String {
    let url = Url::parse(endpoint).ok();
    let host = url.as_ref().and_then(Url::host_str);
    host.unwrap_or(endpoint).to_owned()
}

/// Gets `target`, path and query, behind the path of an endpoint.
pub(super) async fn get(endpoint: &str, target: &str) -> Result<Answer, CollateralError> {
    let malformed = || CollateralError::Url {
        url: endpoint.to_owned(),
    };
    let base = Url::parse(endpoint).map_err(|_| malformed())?;
    if !matches!(base.scheme(), "http" | "https") {
        return Err(malformed());
    }
    let host = base.host_str().ok_or_else(malformed)?.to_owned();
    let port = base.port_or_known_default().ok_or_else(malformed)?;
    let path = format!("{}{target}", base.path().trim_end_matches('/'));
    let path = if path.is_empty() { "/" } else { &path };
    let request = Request::get(path)
        .header(HOST, format!("{host}:{port}"))
        .body(Empty::<Bytes>::new())
        .map_err(|_| malformed())?;
    let asked = async {
        let unreached = |why: String| CollateralError::Unreached {
            host: host.clone(),
            why,
        };
        let tcp = TcpStream::connect((host.trim_matches(['[', ']']), port))
            .await
            .map_err(|error| unreached(error.to_string()))?;
        if base.scheme() == "http" {
            return ask(tcp, request, &host).await;
        }
        let name = ServerName::try_from(host.clone()).map_err(|_| malformed())?;
        let tls = tls().map_err(|error| unreached(error.to_string()))?;
        let tls = TlsConnector::from(Arc::new(tls))
            .connect(name, tcp)
            .await
            .map_err(|error| unreached(error.to_string()))?;
        ask(tls, request, &host).await
    };
    timeout(DEADLINE, asked)
        .await
        .unwrap_or_else(|_elapsed| Err(CollateralError::Timeout { host: host.clone() }))
}

async fn ask(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Empty<Bytes>>,
    host: &str,
) -> Result<Answer, CollateralError> {
    let unreached = |why: String| CollateralError::Unreached {
        host: host.to_owned(),
        why,
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(io))
        .await
        .map_err(|error| unreached(error.to_string()))?;
    // Ends with the connection; how it ended, the request on it learns.
    tokio::spawn(async move { connection.await.unwrap_or_default() });
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| unreached(error.to_string()))?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::TOO_MANY_REQUESTS => {
            let value = answer.headers().get(RETRY_AFTER);
            let text = value.and_then(|value| value.to_str().ok());
            return Err(CollateralError::Busy {
                host: host.to_owned(),
                retry_after_s: text.and_then(|text| text.parse().ok()),
            });
        }
        status => {
            return Err(CollateralError::Status {
                host: host.to_owned(),
                status: status.as_u16(),
            });
        }
    }
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, MAX_ANSWER_BYTES)
        .collect()
        .await
        .map_err(|error| unreached(error.to_string()))?;
    Ok(Answer {
        headers: parts.headers,
        body: body.to_bytes().to_vec(),
    })
}

fn tls() -> Result<ClientConfig, rustls::Error> {
    let roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
