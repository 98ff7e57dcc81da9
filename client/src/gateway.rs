//! Calls an API through the enclave's gateway, with a token and a proof of its own for each attempt.

use std::sync::Arc;
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

/// How long an answer may be silent before it is given up.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

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
        }
    }

    /// Sends a request; once more, with a new proof, if the gateway asks for another nonce.
    ///
    /// # Errors
    /// [`CallError`]. A refusal by gateway or API is an answer, not an error.
    pub async fn call(&self, request: &GatewayRequest) -> Result<GatewayResponse, CallError> {
        let GatewayRequest {
            method: _,
            url,
            headers,
            body: _,
            scopes,
        } = request;
        let url = ResourceUrl::parse(url, &self.gateway_origin)?;
        if let Some(name) = headers.keys().find(|name| RESERVED.contains(name)) {
            return Err(CallError::Header { name: name.clone() });
        }
        let wanted = TokenRequest::new(url.grant(), url.resource()).with_scopes(scopes);
        let token = Box::pin(self.tokens.token(&wanted)).await?;
        let mut answer = self.attempt(request, &url, &token).await?;
        if self.learn(&answer) && challenge(&answer).as_deref() == Some("use_dpop_nonce") {
            answer = self.attempt(request, &url, &token).await?;
            self.learn(&answer);
        }
        if challenge(&answer).as_deref() == Some("invalid_token") {
            self.tokens.forget(&wanted);
        }
        let (head, body) = answer.into_parts();
        Ok(GatewayResponse {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    /// One attempt, with a proof of its own.
    async fn attempt(
        &self,
        request: &GatewayRequest,
        url: &ResourceUrl,
        token: &AccessToken,
    ) -> Result<http::Response<Incoming>, CallError> {
        let nonce = self.nonces.newest(self.transport.origin(), Role::Gateway);
        let jti = random_jti(&SystemRandom::new())?;
        let proof = self.tokens.signer().proof(&ProofParams {
            htm: request.method.as_str(),
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
            .method(request.method.clone())
            .uri(uri)
            .version(Version::HTTP_2)
            .body(Body::new(Full::new(request.body.clone())))?;
        let headers = message.headers_mut();
        *headers = request.headers.clone();
        headers.insert(header::AUTHORIZATION, authorization);
        headers.insert(
            DPOP,
            HeaderValue::from_str(&proof).map_err(http::Error::from)?,
        );
        Ok(self.transport.send(message).await?)
    }

    /// Keeps the nonce that came with an answer; says whether there was one, exactly one.
    fn learn(&self, answer: &http::Response<Incoming>) -> bool {
        let mut values = answer.headers().get_all(DPOP_NONCE).iter();
        match (values.next().map(HeaderValue::to_str), values.next()) {
            (Some(Ok(nonce)), None) => {
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

impl GatewayResponse {
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
