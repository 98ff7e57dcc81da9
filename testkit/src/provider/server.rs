//! The provider as a running server: sockets, faults on the wire, start and stop.

use std::{
    collections::HashMap,
    convert::Infallible,
    fs, io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Extension, Router,
    body::Body,
    extract::{DefaultBodyLimit, Request, State as Shared},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::{body::Body as _, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot, watch},
    task::{JoinHandle, JoinSet},
};
use tower::ServiceExt as _;

use super::{
    admin, api,
    clock::Clock,
    config::Config,
    endpoints,
    fault::{Answer, Endpoint, Fault, FaultReport, Schedule},
    ledger::{Event, Ledger, LedgerPage, RevokedBy},
    oauth_error::OAuthError,
    state::{Consent, ConsentError, GrantState, Granted, State},
    state_file,
};

/// Connections served at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1_024;
/// Largest request body, in bytes.
const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// How long a client may take over a request's headers.
const HEADER_DEADLINE: Duration = Duration::from_secs(30);
/// How long a stop waits for open exchanges before it cuts them.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Why a provider does not start.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// No socket.
    #[error("cannot listen on loopback")]
    Listen(#[source] io::Error),
    /// The ledger file cannot be opened.
    #[error("cannot open the ledger file")]
    LedgerFile(#[source] io::Error),
    /// The state file cannot be read or is ill-formed.
    #[error("cannot read the state file")]
    StateFile(#[source] io::Error),
    /// The consent that a start was to give is refused.
    #[error("the consent is refused")]
    Consent(#[from] ConsentError),
}

/// A provider: what it knows, and the doors into it that need no HTTP. Clones are the same provider.
#[derive(Debug, Clone)]
pub struct Provider {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    base_url: String,
    random: SystemRandom,
    state: Mutex<State>,
    ledger: Mutex<Ledger>,
    faults: Mutex<Schedule>,
    contacts: api::Contacts,
    open: Mutex<HashMap<String, u32>>,
}

impl Provider {
    /// A provider that will answer at `base_url` (scheme, host and port; no final slash).
    ///
    /// # Errors
    /// The ledger or state file cannot be opened.
    pub fn new(config: Config, base_url: &str) -> Result<Self, ProviderError> {
        let state = match &config.state_file {
            Some(path) => state_file::load(path).map_err(ProviderError::StateFile)?,
            None => State::default(),
        };
        let file = config
            .ledger_file
            .as_ref()
            .map(|path| fs::OpenOptions::new().append(true).create(true).open(path))
            .transpose()
            .map_err(ProviderError::LedgerFile)?;
        Ok(Self {
            inner: Arc::new(Inner {
                ledger: Mutex::new(Ledger::new(config.max_ledger_entries, file)),
                base_url: base_url.to_owned(),
                random: SystemRandom::new(),
                state: Mutex::new(state),
                faults: Mutex::new(Schedule::default()),
                contacts: api::Contacts::default(),
                open: Mutex::new(HashMap::new()),
                config,
            }),
        })
    }

    /// Starts a provider on a free loopback port, in this process.
    ///
    /// # Errors
    /// No socket, or the provider's files cannot be opened.
    pub async fn spawn(config: Config) -> Result<Running, ProviderError> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))
            .await
            .map_err(ProviderError::Listen)?;
        Self::spawn_on(listener, config)
    }

    /// Starts a provider on `listener`, in this process.
    ///
    /// # Errors
    /// The listener has no address, or the provider's files cannot be opened.
    pub fn spawn_on(listener: TcpListener, config: Config) -> Result<Running, ProviderError> {
        let address = listener.local_addr().map_err(ProviderError::Listen)?;
        let provider = Self::new(config, &format!("http://{address}"))?;
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve(listener, provider.clone(), async move {
            // The sender is dropped, never used: either way it is time to stop.
            drop(stopped.await);
        }));
        Ok(Running {
            provider,
            address,
            stop,
            task,
        })
    }

    /// Scheme, host and port; also the issuer.
    #[must_use]
    pub fn base_url(&self) -> &str {
        &self.inner.base_url
    }

    /// The provider's clock; advance it to make tokens expire.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.inner.config.clock
    }

    /// A user consents; gives the first refresh token.
    ///
    /// # Errors
    /// Unknown client or scope, or too many grants.
    pub fn consent(&self, consent: &Consent) -> Result<Granted, ConsentError> {
        let now_ms = self.now_ms();
        self.change(|state, log| {
            state.consent(&self.inner.config, &self.inner.random, consent, now_ms, log)
        })
        .map_err(|_| ConsentError::Failed)?
    }

    /// The user takes the consent back; false if there is no such live grant.
    ///
    /// # Errors
    /// The provider's files cannot be written.
    pub fn revoke_grant(&self, grant: &str) -> io::Result<bool> {
        self.change(|state, log| state.revoke(grant, RevokedBy::User, log))
    }

    /// What the provider thinks of one grant.
    #[must_use]
    pub fn grant(&self, grant: &str) -> Option<GrantState> {
        self.inner.state.lock().grant(grant)
    }

    /// What the provider thinks of all grants.
    #[must_use]
    pub fn grants(&self) -> Vec<GrantState> {
        self.inner.state.lock().grants()
    }

    /// The whole ledger that is in memory.
    #[must_use]
    pub fn ledger(&self) -> LedgerPage {
        self.ledger_since(0, usize::MAX)
    }

    /// At most `limit` ledger entries from `since_seq` on.
    #[must_use]
    pub fn ledger_since(&self, since_seq: u64, limit: usize) -> LedgerPage {
        self.inner.ledger.lock().page(since_seq, limit)
    }

    /// Arranges a fault.
    ///
    /// # Errors
    /// The rule that the fault breaks.
    pub fn fault(&self, fault: Fault) -> Result<(), FaultRefused> {
        self.inner.faults.lock().add(fault).map_err(FaultRefused)
    }

    /// Forgets the faults that wait.
    pub fn clear_faults(&self) {
        self.inner.faults.lock().clear();
    }

    /// Which faults wait, and how many struck.
    #[must_use]
    pub fn faults(&self) -> FaultReport {
        self.inner.faults.lock().report()
    }

    pub(super) fn config(&self) -> &Config {
        &self.inner.config
    }

    pub(super) fn random(&self) -> &SystemRandom {
        &self.inner.random
    }

    pub(super) fn contacts(&self) -> &api::Contacts {
        &self.inner.contacts
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.inner.config.clock.now_ms()
    }

    pub(super) fn look<T>(&self, at: impl FnOnce(&State) -> T) -> T {
        at(&self.inner.state.lock())
    }

    /// One step: changes the state, writes the ledger and then the state file, all under one lock,
    /// so that the ledger's order is the order of events.
    pub(super) fn change<T>(
        &self,
        step: impl FnOnce(&mut State, &mut Vec<Event>) -> T,
    ) -> io::Result<T> {
        let mut state = self.inner.state.lock();
        let mut log = Vec::new();
        let done = step(&mut state, &mut log);
        let changed = log.iter().any(|event| match event {
            Event::Consented { .. } | Event::Presented { .. } | Event::Revoked { .. } => true,
            Event::Faulted { .. } | Event::ApiCall { .. } => false,
        });
        let now_ms = self.now_ms();
        {
            let mut ledger = self.inner.ledger.lock();
            for event in log {
                ledger.record(now_ms, event)?;
            }
        }
        if changed && let Some(path) = &self.inner.config.state_file {
            state_file::save(path, &state)?;
        }
        Ok(done)
    }

    /// Counts a presentation as open until the guard is dropped.
    pub(super) fn open(&self, grant: Option<&str>) -> OpenPresentation {
        let mut open = self.inner.open.lock();
        let before = grant.map_or(0, |grant| {
            let count = open.entry(grant.to_owned()).or_insert(0);
            let before = *count;
            *count = count.saturating_add(1);
            before
        });
        OpenPresentation(Arc::new(Open {
            provider: self.clone(),
            grant: grant.map(str::to_owned),
            before,
        }))
    }

    fn router(&self) -> Router {
        Router::new()
            .merge(endpoints::routes())
            .merge(api::routes())
            .layer(from_fn_with_state(self.clone(), inject))
            .merge(admin::routes())
            .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
            .with_state(self.clone())
    }
}

/// A fault breaks this rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FaultRefused(pub &'static str);

/// A presentation that is not answered yet; rides in the response's extensions.
#[derive(Debug, Clone)]
pub(super) struct OpenPresentation(Arc<Open>);

#[derive(Debug)]
struct Open {
    provider: Provider,
    grant: Option<String>,
    before: u32,
}

impl OpenPresentation {
    /// How many others were open for the grant.
    pub(super) fn concurrent(&self) -> u32 {
        self.0.before
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(grant) = &self.grant else { return };
        let mut open = self.provider.inner.open.lock();
        if let Some(count) = open.get_mut(grant) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(grant);
            }
        }
    }
}

/// A provider that runs in this process; dropping it stops it without waiting.
#[derive(Debug)]
pub struct Running {
    provider: Provider,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    /// The provider itself.
    #[must_use]
    pub fn provider(&self) -> &Provider {
        &self.provider
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Scheme, host and port; also the issuer.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.provider.base_url()
    }

    /// Where refresh tokens go.
    #[must_use]
    pub fn token_endpoint(&self) -> String {
        format!("{}/token", self.base_url())
    }

    /// Finishes open exchanges for a moment, then cuts them.
    pub async fn stop(self) {
        let Self {
            provider: _,
            address: _,
            stop,
            task,
        } = self;
        drop(stop);
        // A panic in the task has been printed; there is nothing left to stop.
        drop(task.await);
    }
}

/// Serves `provider` on `listener` until `shutdown` resolves; for a process of its own.
pub async fn serve(
    listener: TcpListener,
    provider: Provider,
    shutdown: impl Future<Output = ()> + Send,
) {
    let router = provider.router();
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
        };
        let (Ok(place), Ok((stream, _))) = accepted else {
            // Out of descriptors: yield, so that a connection can end and free one.
            tokio::task::yield_now().await;
            continue;
        };
        let router = router.clone();
        let stopping = stopping.clone();
        connections.spawn(async move {
            connection(stream, router, stopping).await;
            drop(place);
        });
    }
    drop(listener);
    stop.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_GRACE, drained).await.is_err() {
        connections.shutdown().await;
    }
}

async fn connection(stream: TcpStream, router: Router, mut stopping: watch::Receiver<bool>) {
    let reset = Arc::new(AtomicBool::new(false));
    let socket = Socket {
        stream,
        reset: Arc::clone(&reset),
    };
    let service = service_fn(move |request: http::Request<Incoming>| {
        let router = router.clone();
        let reset = Arc::clone(&reset);
        async move {
            let response = match router.oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            if response.extensions().get::<ResetConnection>().is_some() {
                reset.store(true, Ordering::SeqCst);
                return Err(Cut);
            }
            Ok(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .serve_connection(TokioIo::new(socket), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = stop_asked(&mut stopping) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // A client that went away, or one that a fault cut off: both are what tests do.
    drop(ended);
}

/// Resolves once a stop is asked for, or the server is gone.
async fn stop_asked(stopping: &mut watch::Receiver<bool>) {
    drop(stopping.wait_for(|stop| *stop).await);
}

/// The service's only error: a fault cuts the connection.
#[derive(Debug, thiserror::Error)]
#[error("a fault cut the connection")]
struct Cut;

/// Marks a response that must not be sent: the connection is reset instead.
#[derive(Debug, Clone, Copy)]
struct ResetConnection;

/// Marks a request that must be written down but not take effect.
#[derive(Debug, Clone, Copy)]
pub(super) struct NotProcessed;

/// Whether a request may take effect.
pub(super) fn takes_effect(marker: Option<Extension<NotProcessed>>) -> bool {
    marker.is_none()
}

/// A connection that can end in TCP RST instead of FIN.
#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.reset.load(Ordering::SeqCst) {
            // If the option cannot be set, the connection ends by FIN: still without an answer.
            drop(self.stream.set_zero_linger());
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Lets a waiting fault strike this request.
async fn inject(Shared(provider): Shared<Provider>, mut request: Request, next: Next) -> Response {
    let Some(endpoint) = Endpoint::of(request.uri().path()) else {
        return next.run(request).await;
    };
    let Some(fault) = provider.inner.faults.lock().take(endpoint) else {
        return next.run(request).await;
    };
    let Fault {
        endpoint,
        commit,
        delay_ms,
        answer,
        times: _,
    } = fault;
    let written = provider.change(|_, log| {
        log.push(Event::Faulted {
            endpoint: endpoint.name().to_owned(),
            answer: answer.name().to_owned(),
            commit,
        });
    });
    if written.is_err() {
        return OAuthError::Server.into_response();
    }
    let delay = Duration::from_millis(delay_ms);
    if !commit && answer == Answer::Honest {
        tokio::time::sleep(delay).await;
        return next.run(request).await;
    }
    if !commit {
        request.extensions_mut().insert(NotProcessed);
    }
    // Kept through the delay: the presentation is open until its answer leaves.
    let honest = next.run(request).await;
    tokio::time::sleep(delay).await;
    wrong(honest, &answer).await
}

async fn wrong(honest: Response, answer: &Answer) -> Response {
    match answer {
        Answer::Honest => honest,
        Answer::OAuthError { status, error } => (
            StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            axum::Json(json!({ "error": error })),
        )
            .into_response(),
        Answer::Status { status } => (
            StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            [(header::CONTENT_TYPE, "text/html")],
            "<html><body>The server met an unexpected condition.</body></html>",
        )
            .into_response(),
        Answer::RateLimited { retry_after_s } => (
            StatusCode::TOO_MANY_REQUESTS,
            [(header::RETRY_AFTER, retry_after_s.to_string())],
        )
            .into_response(),
        Answer::Garbage => (
            [(header::CONTENT_TYPE, "application/json")],
            &b"\x89\xff{\"access_token\": this is no JSON"[..],
        )
            .into_response(),
        Answer::Empty => {
            ([(header::CONTENT_TYPE, "application/json")], Body::empty()).into_response()
        }
        Answer::Truncated { at_byte } => truncated(honest, *at_byte),
        Answer::Oversize { bytes } => oversize(honest, *bytes).await,
        Answer::Reset => {
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(ResetConnection);
            response
        }
    }
}

/// The real answer, whose connection closes once `at_byte` bytes of the body have left.
fn truncated(honest: Response, at_byte: u64) -> Response {
    let (mut parts, body) = honest.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts
            .headers
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let cut = stream::unfold(
        (body.into_data_stream(), at_byte),
        |(mut data, left)| async move {
            if left == 0 {
                // Lets hyper flush what it has before the error closes the connection.
                tokio::task::yield_now().await;
                return Some((Err(Cut), (data, left)));
            }
            let mut chunk = data.next().await?.ok()?;
            chunk.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            let sent = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
            Some((Ok::<Bytes, Cut>(chunk), (data, left.saturating_sub(sent))))
        },
    );
    Response::from_parts(parts, Body::from_stream(cut))
}

/// The real answer behind enough white space to reach `bytes`.
async fn oversize(honest: Response, bytes: u64) -> Response {
    const BLANK: &[u8] = &[b' '; 16 * 1024];
    let (mut parts, body) = honest.into_parts();
    let Ok(real) = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
    else {
        return OAuthError::Server.into_response();
    };
    let length = u64::try_from(real.len()).unwrap_or(u64::MAX);
    let padding = bytes.saturating_sub(length);
    parts.headers.insert(
        header::CONTENT_LENGTH,
        HeaderValue::from(length.saturating_add(padding)),
    );
    let blanks = stream::unfold(padding, |left| async move {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(BLANK.len());
        let chunk = BLANK.get(..now).filter(|chunk| !chunk.is_empty())?;
        let left = left.saturating_sub(u64::try_from(now).unwrap_or(u64::MAX));
        Some((Ok::<Bytes, Infallible>(Bytes::from_static(chunk)), left))
    });
    let whole = blanks.chain(stream::once(async move { Ok(real) }));
    Response::from_parts(parts, Body::from_stream(whole))
}
