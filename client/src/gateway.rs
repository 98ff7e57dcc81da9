//! Calls an API through the enclave's gateway, with a token and a proof of its own for each attempt.

mod bodies;

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use jose::dpop::{ProofParams, random_jti};
use jose::signing_key::SigningKeyError;
use ring::rand::SystemRandom;
use tokio::time::timeout;
use tonic::body::Body;
use zeroize::Zeroizing;

use crate::access_token::AccessToken;
use crate::channel::{AttestedChannel, ConnectError};
use crate::dpop_key::SignerError;
use crate::nonce_cache::{NonceCache, Role};
use crate::origin::Origin;
use crate::resource_url::{ResourceUrl, ResourceUrlError};
use crate::token_client::{TokenClient, TokenError, TokenRequest};
use crate::transport::{Transport, TransportError};
use bodies::{Opening, open};

pub use bodies::AnswerBody;

/// How long an answer may be silent before it is given up.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A body up to this size is held in memory, so that the request can be sent again with another nonce or token; a
/// longer one streams, and is sent once.
pub const REPLAY_BYTES: usize = 256 << 10;

/// After this time without an answer a nonce is asked for before a body is sent that can't be sent again, in
/// milliseconds. The gateway takes nonces for some minutes.
const NONCE_FRESH_MS: u64 = 60_000;

const DPOP: HeaderName = HeaderName::from_static("dpop");
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// Headers that this client sets itself, or that belong to a connection [RFC 9110 §7.6.1].
const RESERVED: [HeaderName; 12] = [
    header::AUTHORIZATION,
    DPOP,
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
];

/// What is to be called.
#[derive(Debug, Clone)]
pub struct GatewayRequest {
    /// The method.
    pub method: Method,
    /// `{gateway}/g/{grant}/{target}` and what follows.
    pub url: String,
    /// Headers for the API; the gateway lets pass what its allow-list has.
    pub headers: HeaderMap,
    /// The body, whole, because an attempt may have to be repeated.
    pub body: Bytes,
    /// The scopes that the token is to carry; none for all of the grant.
    pub scopes: Vec<String>,
}

/// What is to be called, but for its body.
#[derive(Debug, Clone)]
pub struct GatewayHead {
    /// The method.
    pub method: Method,
    /// `{gateway}/g/{grant}/{target}` and what follows.
    pub url: String,
    /// Headers for the API; the gateway lets pass what its allow-list has.
    pub headers: HeaderMap,
    /// The scopes that the token is to carry; none for all of the grant.
    pub scopes: Vec<String>,
}

/// The API's answer, or the gateway's refusal: its head, and a body that streams.
#[derive(Debug)]
pub struct GatewayResponse {
    status: StatusCode,
    headers: HeaderMap,
    body: Incoming,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The URL is none of the gateway's.
    #[error(transparent)]
    Url(#[from] ResourceUrlError),
    /// A header that the caller may not set.
    #[error("the header {name} cannot be set")]
    Header {
        /// Which.
        name: HeaderName,
    },
    /// There is no token for it.
    #[error("no token for this URL")]
    Token(#[from] TokenError),
    /// The proof could not be signed.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// Token, proof or URL cannot be put into a request.
    #[error("the request cannot be written")]
    Request(#[from] http::Error),
    /// The gateway was not reached.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The body of the request could not be read.
    #[error("the request's body broke off")]
    RequestBody(#[source] Box<dyn StdError + Send + Sync>),
    /// The answer broke off.
    #[error("the answer broke off")]
    Body(#[source] hyper::Error),
    /// The answer fell silent.
    #[error("the answer was silent for {} s", IDLE_TIMEOUT.as_secs())]
    Idle,
}

impl From<SigningKeyError> for CallError {
    fn from(error: SigningKeyError) -> Self {
        Self::Signer(error.into())
    }
}

/// Calls APIs through the gateway of an attested enclave.
pub struct GatewayClient {
    transport: Transport,
    gateway_origin: String,
    tokens: Arc<TokenClient>,
    nonces: NonceCache,
    /// When the newest nonce came.
    learned_ms: AtomicU64,
}

impl GatewayClient {
    /// A client that uses the tokens of `tokens`, which must be made from the same channel. The connection is
    /// held to the enclave's CA.
    ///
    /// # Errors
    /// [`ConnectError::Url`] if the bundle's gateway is no origin, [`ConnectError::Tls`],
    /// [`ConnectError::Transport`].
    pub fn new(channel: &AttestedChannel, tokens: Arc<TokenClient>) -> Result<Self, ConnectError> {
        let gateway_origin = channel.bundle().gateway_origin.clone();
        let transport = channel.transport_to(Origin::parse(&gateway_origin)?)?;
        Ok(Self::over(transport, gateway_origin, tokens))
    }

    /// Over a transport that the caller vouches for.
    pub(crate) fn over(
        transport: Transport,
        gateway_origin: String,
        tokens: Arc<TokenClient>,
    ) -> Self {
        Self {
            transport,
            gateway_origin,
            tokens,
            nonces: NonceCache::default(),
            learned_ms: AtomicU64::new(0),
        }
    }

    /// The origin of the enclave's gateway, with which the URLs of its resources begin.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.gateway_origin
    }

    /// Sends a request; once more, with a new proof, if the gateway asks for another nonce.
    ///
    /// # Errors
    /// [`CallError`]. A refusal by gateway or API is an answer, not an error.
    pub async fn call(&self, request: &GatewayRequest) -> Result<GatewayResponse, CallError> {
        let GatewayRequest {
            method,
            url,
            headers,
            body,
            scopes,
        } = request;
        let head = GatewayHead {
            method: method.clone(),
            url: url.clone(),
            headers: headers.clone(),
            scopes: scopes.clone(),
        };
        let (url, wanted) = self.wanted(&head)?;
        let whole = || Body::new(Full::new(body.clone()));
        Ok(self.repeated(&head, &url, &wanted, whole).await?.into())
    }

    /// Sends a request whose body streams. As long as the body is short, this is [`Self::call`], and a token that
    /// the gateway does not take any more is replaced once. A longer body is passed on as it comes, and sent once: a
    /// refusal of token or proof is then an answer.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn forward<B>(
        &self,
        head: &GatewayHead,
        body: B,
    ) -> Result<GatewayResponse, CallError>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let (url, wanted) = self.wanted(head)?;
        let body = match open(body, REPLAY_BYTES)
            .await
            .map_err(CallError::RequestBody)?
        {
            Opening::Whole(body) => {
                let whole = || Body::new(Full::new(body.clone()));
                let answer = self.repeated(head, &url, &wanted, whole).await?;
                let answer = match challenge(&answer).as_deref() {
                    Some("invalid_token") => self.repeated(head, &url, &wanted, whole).await?,
                    Some(_) | None => answer,
                };
                return Ok(answer.into());
            }
            Opening::More(body) => body,
        };
        self.fresh_nonce(&url).await?;
        let token = Box::pin(self.tokens.token(&wanted)).await?;
        let sent = body.sent();
        let message = self.message(head, &url, &token, Body::new(body))?;
        let answer = self.transport.send_streaming(message, &sent).await?;
        self.learn(&answer);
        if challenge(&answer).as_deref() == Some("invalid_token") {
            self.tokens.forget(&wanted);
        }
        Ok(answer.into())
    }

    /// The URL taken apart, and the token that is wanted for it.
    fn wanted(&self, head: &GatewayHead) -> Result<(ResourceUrl, TokenRequest), CallError> {
        let url = ResourceUrl::parse(&head.url, &self.gateway_origin)?;
        if let Some(name) = head.headers.keys().find(|name| RESERVED.contains(name)) {
            return Err(CallError::Header { name: name.clone() });
        }
        let wanted = TokenRequest::new(url.grant(), url.resource()).with_scopes(&head.scopes);
        Ok((url, wanted))
    }

    /// Sends what can be sent again; once more if the gateway asks for another nonce.
    async fn repeated(
        &self,
        head: &GatewayHead,
        url: &ResourceUrl,
        wanted: &TokenRequest,
        body: impl Fn() -> Body,
    ) -> Result<http::Response<Incoming>, CallError> {
        let token = Box::pin(self.tokens.token(wanted)).await?;
        let attempt = || self.message(head, url, &token, body());
        let mut answer = self.transport.send(attempt()?).await?;
        if self.learn(&answer) && challenge(&answer).as_deref() == Some("use_dpop_nonce") {
            answer = self.transport.send(attempt()?).await?;
            self.learn(&answer);
        }
        if challenge(&answer).as_deref() == Some("invalid_token") {
            self.tokens.forget(wanted);
        }
        Ok(answer)
    }

    /// Sees to it that the next proof has a nonce that the gateway takes: any refusal carries one.
    async fn fresh_nonce(&self, url: &ResourceUrl) -> Result<(), CallError> {
        let since = self
            .tokens
            .monotonic_ms()
            .saturating_sub(self.learned_ms.load(Ordering::Relaxed));
        let known = self
            .nonces
            .newest(self.transport.origin(), Role::Gateway)
            .is_some();
        if known && since < NONCE_FRESH_MS {
            return Ok(());
        }
        let message = http::Request::builder()
            .method(Method::HEAD)
            .uri(format!(
                "{}{}",
                self.transport.origin(),
                url.path_and_query()
            ))
            .version(Version::HTTP_2)
            .body(Body::empty())?;
        let answer = self.transport.send(message).await?;
        self.learn(&answer);
        Ok(())
    }

    /// One attempt, with a proof of its own.
    fn message(
        &self,
        head: &GatewayHead,
        url: &ResourceUrl,
        token: &AccessToken,
        body: Body,
    ) -> Result<http::Request<Body>, CallError> {
        let nonce = self.nonces.newest(self.transport.origin(), Role::Gateway);
        let jti = random_jti(&SystemRandom::new())?;
        let proof = self.tokens.signer().proof(&ProofParams {
            htm: head.method.as_str(),
            htu: url.htu(),
            iat_s: self.tokens.proof_time_s(),
            jti: &jti,
            nonce: nonce.as_deref(),
            access_token: Some(token.expose_secret()),
        })?;
        let authorization = Zeroizing::new(format!("DPoP {}", token.expose_secret()));
        let mut authorization = HeaderValue::from_str(&authorization).map_err(http::Error::from)?;
        authorization.set_sensitive(true);
        let uri = format!("{}{}", self.transport.origin(), url.path_and_query());
        let mut message = http::Request::builder()
            .method(head.method.clone())
            .uri(uri)
            .version(Version::HTTP_2)
            .body(body)?;
        let headers = message.headers_mut();
        *headers = head.headers.clone();
        headers.insert(header::AUTHORIZATION, authorization);
        headers.insert(
            DPOP,
            HeaderValue::from_str(&proof).map_err(http::Error::from)?,
        );
        Ok(message)
    }

    /// Keeps the nonce that came with an answer; says whether there was one, exactly one.
    fn learn(&self, answer: &http::Response<Incoming>) -> bool {
        let mut values = answer.headers().get_all(DPOP_NONCE).iter();
        match (values.next().map(HeaderValue::to_str), values.next()) {
            (Some(Ok(nonce)), None) => {
                self.learned_ms
                    .store(self.tokens.monotonic_ms(), Ordering::Relaxed);
                self.nonces
                    .learn(self.transport.origin(), Role::Gateway, nonce)
            }
            (Some(Ok(_) | Err(_)) | None, _) => false,
        }
    }
}

impl std::fmt::Debug for GatewayClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatewayClient")
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

impl From<http::Response<Incoming>> for GatewayResponse {
    fn from(answer: http::Response<Incoming>) -> Self {
        let (head, body) = answer.into_parts();
        Self {
            status: head.status,
            headers: head.headers,
            body,
        }
    }
}

impl GatewayResponse {
    /// Status, headers, and the body as one that another HTTP library can stream on.
    #[must_use]
    pub fn into_parts(self) -> (StatusCode, HeaderMap, AnswerBody) {
        (self.status, self.headers, AnswerBody::new(self.body))
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers.
    #[must_use]
    pub const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// What the gateway says is wrong with token or proof, such as `invalid_token`, if it refused them.
    #[must_use]
    pub fn challenge(&self) -> Option<String> {
        challenge_of(self.status, &self.headers)
    }

    /// The next piece of the body; none at its end.
    ///
    /// # Errors
    /// [`CallError::Body`], [`CallError::Idle`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            let frame = timeout(IDLE_TIMEOUT, self.body.frame())
                .await
                .map_err(|_elapsed| CallError::Idle)?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(CallError::Body(error)),
                // A frame that is no data is one of trailers.
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

fn challenge(answer: &http::Response<Incoming>) -> Option<String> {
    challenge_of(answer.status(), answer.headers())
}

/// The `error` of the DPoP challenge of a 401 [RFC 9449 §7.1, §9].
fn challenge_of(status: StatusCode, headers: &HeaderMap) -> Option<String> {
    if status != StatusCode::UNAUTHORIZED {
        return None;
    }
    headers
        .get_all(header::WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find_map(dpop_error)
}

/// The `error` parameter of `DPoP …`, a challenge of auth-params [RFC 9110 §11.3].
fn dpop_error(challenge: &str) -> Option<String> {
    let (scheme, params) = challenge.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("DPoP") {
        return None;
    }
    let mut rest = params;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', '\t', ',']);
        let (value, after) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        if name.eq_ignore_ascii_case("error") {
            return Some(value.trim().to_owned());
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests;
