//! Sends requests out.

mod post;

use bytes::Bytes;
use enclave::keys::ClientCertificate;
use enclave::secret::{CredentialHeader, RawResponse, UpstreamBody};
use http::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use std::error::Error as StdError;
use std::fmt;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::{Sleep, sleep, timeout};
use url::Url;

use super::connect::{Connected, connect};
use super::counted::Counted;
use super::error::{Ambiguous, NotSent, UpstreamError};
use super::idle_body::{Connection, IdleBody};
use super::origin::Origin;
use super::pool::{ApiBody, Lease, Owner, Pool};
use super::reveal;
use crate::tls::{self, TlsError};

/// The header with a proof.
pub(crate) const DPOP: HeaderName = HeaderName::from_static("dpop");

/// HTTP/2 flow-control window: as much of an answer as is held for a client that
/// reads slowly.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// Whether this machine may be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loopback {
    /// As any private address: no.
    Refused,
    /// Besides public addresses, and without TLS too: for an emulated enclave,
    /// whose manifest says so.
    Allowed,
}

/// Bounds of outgoing requests. [`EgressLimits::default`] is what ships.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressLimits {
    /// From the start of a token request to the last byte of its answer; for the
    /// gateway, until it is connected.
    pub deadline: Duration,
    /// Bytes of a token endpoint's answer.
    pub token_answer_bytes: usize,
    /// Bytes of the head of any answer; at least 8 KiB.
    pub head_bytes: usize,
    /// How long the gateway waits for an answer's head, and for each part of its
    /// body.
    pub idle: Duration,
}

impl Default for EgressLimits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            token_answer_bytes: 64 * 1024,
            head_bytes: 64 * 1024,
            idle: Duration::from_secs(60),
        }
    }
}

/// A form posted to a provider's token or revocation endpoint.
#[derive(Debug)]
pub struct TokenRequest {
    /// The endpoint.
    pub url: Url,
    /// Headers that hold no secret, such as `DPoP`.
    pub headers: HeaderMap,
    /// The `Authorization` header, if the app authenticates with it.
    pub authorization: Option<CredentialHeader>,
    /// The certificate that is shown, if the app authenticates with one.
    pub certificate: Option<Box<ClientCertificate>>,
    /// The form, `application/x-www-form-urlencoded`.
    pub body: UpstreamBody,
    /// The deadline, instead of [`EgressLimits::deadline`].
    pub deadline: Option<Duration>,
}

/// A token endpoint's answer, whatever its status: redirects too, which are not
/// followed.
pub struct TokenAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, as far as it arrived.
    pub body: RawResponse,
    /// Why the body is not whole, if so.
    pub cut: Option<Ambiguous>,
}

impl fmt::Debug for TokenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenAnswer")
            .field("status", &self.status)
            .field("cut", &self.cut)
            .finish_non_exhaustive()
    }
}

/// Sends requests to providers and their APIs.
#[derive(Clone)]
pub struct Egress {
    /// Towards token endpoints.
    tls: Arc<ClientConfig>,
    /// Towards APIs.
    api_tls: Arc<ClientConfig>,
    loopback: Loopback,
    limits: EgressLimits,
    /// Connections to APIs that wait for another call.
    pool: Arc<Pool>,
}

impl Egress {
    /// Servers are checked against `roots`.
    ///
    /// # Errors
    /// [`TlsError::Config`].
    pub fn new(
        roots: RootCertStore,
        loopback: Loopback,
        limits: EgressLimits,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            api_tls: tls::api_client(roots.clone())?,
            tls: tls::client(roots)?,
            loopback,
            limits,
            pool: Arc::default(),
        })
    }

    /// Posts a form and gives back the answer, or as much of it as came in time.
    ///
    /// # Errors
    /// [`UpstreamError::NotSent`] when the provider can't have seen it; else
    /// [`UpstreamError::Ambiguous`].
    pub async fn token_request(&self, request: TokenRequest) -> Result<TokenAnswer, UpstreamError> {
        let TokenRequest {
            url,
            mut headers,
            authorization,
            certificate,
            body,
            deadline,
        } = request;
        let origin = Origin::of(&url).map_err(|source| NotSent::Origin { source })?;
        // Without TLS nobody would see it, and the request would come from nobody.
        if certificate.is_some() && !origin.is_secure() {
            return Err(NotSent::PlainText.into());
        }
        let shows = certificate.map(|shown| tls::with_certificate(&self.tls, shown));
        let tls = shows.as_ref().unwrap_or(&self.tls);
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form);
        if !headers.contains_key(ACCEPT) {
            headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        }
        if let Some(secret) = authorization {
            let value = reveal::header(secret).ok_or(NotSent::Request)?;
            headers.insert(AUTHORIZATION, value);
        }
        let mut request = Request::new(reveal::body(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target(&url)?;
        *request.headers_mut() = headers;

        // Which side of the sending the deadline falls on decides what it means.
        let deadline = sleep(deadline.unwrap_or(self.limits.deadline));
        tokio::pin!(deadline);
        let mut stage = tokio::select! {
            opened = self.open(&origin, tls) => opened?,
            () = &mut deadline => return Err(NotSent::Deadline.into()),
        };
        stage.prepare(&origin, &mut request)?;
        // Nothing is asked there again.
        let close = HeaderValue::from_static("close");
        request.headers_mut().insert(CONNECTION, close);
        let answer = tokio::select! {
            answer = stage.sender.send_request(request) => {
                answer.map_err(|_broken| Ambiguous::NoAnswer)?
            }
            () = &mut deadline => return Err(Ambiguous::Deadline.into()),
        };
        Ok(self.collect(answer, deadline).await)
    }

    /// Forwards a request to an API and streams its answer back. Of the request's
    /// URI only path and query are used. The credential goes in last, over any
    /// header of its name.
    ///
    /// A `GET` or `HEAD` without a body may go over a connection that the owner's
    /// calls have used before. If that breaks before there is an answer, it is sent
    /// once more, over a new one, as such requests may be [RFC 9110 §9.2.2]. All
    /// others are sent once, over a new one; so is one with a proof, which no server
    /// takes twice [RFC 9449 §11.1].
    ///
    /// # Errors
    /// [`UpstreamError::NotSent`] when the API can't have seen it; else
    /// [`UpstreamError::Ambiguous`].
    pub async fn forward<B>(
        &self,
        owner: &Owner,
        origin: &Origin,
        mut request: Request<B>,
        credential: (HeaderName, CredentialHeader),
    ) -> Result<Response<IdleBody>, UpstreamError>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map(Uri::from).ok_or(NotSent::Request)?;
        let (name, secret) = credential;
        let value = reveal::header(secret).ok_or(NotSent::Request)?;
        request.headers_mut().insert(name, value);

        let sent = Arc::new(AtomicU64::new(0));
        let may_repeat = matches!(*request.method(), Method::GET | Method::HEAD)
            && request.body().is_end_stream()
            && !request.headers().contains_key(DPOP);
        let counter = Arc::clone(&sent);
        let mut request: Request<ApiBody> = request.map(|body| {
            let counted = Counted::new(body, counter);
            counted.map_err(Into::into).boxed_unsync()
        });
        let key = (owner.clone(), origin.clone());
        if may_repeat && let Some((stage, used)) = self.pool.take(&key) {
            let copy = without_body(&request);
            let lease = Lease::new(Arc::clone(&self.pool), key.clone(), stage, used);
            match self.ask(lease, origin, request, &sent).await {
                // It was closed while it waited.
                Err(UpstreamError::Ambiguous {
                    why: Ambiguous::NoAnswer,
                }) => request = copy,
                answer => return answer,
            }
        }
        let opened = self.open(origin, &self.api_tls);
        let stage = timeout(self.limits.deadline, opened)
            .await
            .map_err(|_elapsed| NotSent::Deadline)??;
        let used = self.pool.new_used();
        let lease = Lease::new(Arc::clone(&self.pool), key, stage, used);
        self.ask(lease, origin, request, &sent).await
    }

    /// Sends a request over a connection and waits for the answer's head.
    async fn ask(
        &self,
        mut lease: Lease,
        origin: &Origin,
        mut request: Request<ApiBody>,
        sent: &AtomicU64,
    ) -> Result<Response<IdleBody>, UpstreamError> {
        let idle = self.limits.idle;
        let stage = lease.stage();
        stage.prepare(origin, &mut request)?;
        let answer = {
            let mut answer = pin!(stage.sender.send_request(request));
            loop {
                let before = sent.load(Ordering::Relaxed);
                match timeout(idle, answer.as_mut()).await {
                    Ok(answer) => break answer.map_err(|_broken| Ambiguous::NoAnswer)?,
                    // The body is on its way: the API has nothing to answer yet.
                    Err(_elapsed) if sent.load(Ordering::Relaxed) != before => {}
                    Err(_elapsed) => return Err(Ambiguous::Deadline.into()),
                }
            }
        };
        Ok(answer.map(|body| IdleBody::new(body, idle, lease)))
    }

    /// Opens a connection.
    async fn open<B>(&self, origin: &Origin, tls: &Arc<ClientConfig>) -> Result<Stage<B>, NotSent>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let Connected { stream, http2 } = connect(origin, tls, self.loopback).await?;
        let failed = |_closed| NotSent::Connect {
            kind: std::io::ErrorKind::ConnectionAborted,
        };
        if http2 {
            let head_bytes = u32::try_from(self.limits.head_bytes).unwrap_or(u32::MAX);
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(STREAM_WINDOW_BYTES)
                .max_header_list_size(head_bytes)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(failed)?;
            let driver = tokio::spawn(async move { drop(connection.await) });
            return Ok(Stage {
                sender: Sender::Http2(sender),
                _connection: Connection(driver.abort_handle()),
            });
        }
        let (sender, connection) = http1::Builder::new()
            // hyper panics below 8 KiB.
            .max_buf_size(self.limits.head_bytes.max(8 * 1024))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        // How the connection ends is seen by whoever waits for the answer.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Stage {
            sender: Sender::Http1(sender),
            _connection: Connection(driver.abort_handle()),
        })
    }

    /// Reads the body until its end, its bound, its breaking off or the deadline.
    async fn collect(
        &self,
        answer: Response<Incoming>,
        mut deadline: Pin<&mut Sleep>,
    ) -> TokenAnswer {
        let (head, mut body) = answer.into_parts();
        let status = head.status;
        // Of its full size from the start: growing would leave copies behind.
        let mut bytes = Vec::with_capacity(self.limits.token_answer_bytes);
        let cut = loop {
            let frame = tokio::select! {
                frame = body.frame() => frame,
                () = &mut deadline => break Some(Ambiguous::Deadline),
            };
            let data = match frame.map(|frame| frame.map(Frame::into_data)) {
                None => break None,
                Some(Err(_broken)) => break Some(Ambiguous::Truncated { status }),
                Some(Ok(Err(_trailers))) => continue,
                Some(Ok(Ok(data))) => data,
            };
            let room = self.limits.token_answer_bytes.saturating_sub(bytes.len());
            if data.len() > room {
                bytes.extend_from_slice(data.get(..room).unwrap_or_default());
                break Some(Ambiguous::TooLarge { status });
            }
            bytes.extend_from_slice(&data);
        };
        TokenAnswer {
            status,
            headers: head.headers,
            body: RawResponse::new(bytes),
            cut,
        }
    }
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress")
            .field("loopback", &self.loopback)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// A connection that is ready for a request.
pub(super) struct Stage<B> {
    sender: Sender<B>,
    _connection: Connection,
}

impl<B> Stage<B> {
    /// Whether another request can be sent now.
    pub(super) fn is_ready(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender) => sender.is_ready(),
        }
    }

    /// Whether the server has closed it.
    pub(super) fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// Makes a request one of this connection's version of HTTP.
    fn prepare(&self, origin: &Origin, request: &mut Request<B>) -> Result<(), NotSent> {
        match &self.sender {
            Sender::Http1(_) => {
                let host = HeaderValue::try_from(origin.authority());
                let host = host.map_err(|_bad| NotSent::Request)?;
                request.headers_mut().insert(HOST, host);
            }
            Sender::Http2(_) => {
                // What HTTP/1.1 says in headers is in the request's target here [RFC 9113 §8.3.1].
                let path = request.uri().path_and_query().cloned();
                *request.uri_mut() = Uri::builder()
                    .scheme("https")
                    .authority(origin.authority())
                    .path_and_query(path.ok_or(NotSent::Request)?)
                    .build()
                    .map_err(|_bad| NotSent::Request)?;
                request.headers_mut().remove(HOST);
            }
        }
        Ok(())
    }
}

/// The same request, for one that has no body.
fn without_body(request: &Request<ApiBody>) -> Request<ApiBody> {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let mut copy = Request::new(body);
    request.method().clone_into(copy.method_mut());
    request.uri().clone_into(copy.uri_mut());
    request.headers().clone_into(copy.headers_mut());
    copy
}

/// Where the requests go.
enum Sender<B> {
    Http1(http1::SendRequest<B>),
    Http2(http2::SendRequest<B>),
}

impl<B> Sender<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    async fn send_request(
        &mut self,
        request: Request<B>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        match self {
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => sender.send_request(request).await,
        }
    }
}

/// Path and query of a URL.
fn target(url: &Url) -> Result<Uri, NotSent> {
    let text = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    Uri::try_from(text).map_err(|_bad| NotSent::Request)
}
