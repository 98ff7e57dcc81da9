//! Asks for tokens: a proof for each attempt, nonces and the service's clock learned, tokens kept until they are due.

mod several;

use std::mem::replace;
use std::sync::Arc;

use jose::dpop::{ProofParams, random_jti};
use jose::signing_key::SigningKeyError;
use proto::v1::token_service_client::TokenServiceClient;
use proto::v1::{IssueTokenRequest, IssueTokenResponse, TokenMode};
use ring::rand::SystemRandom;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Request, Status};

use crate::access_token::{AccessToken, AccessTokenError};
use crate::channel::{AttestedChannel, uri};
use crate::clock::Clock;
use crate::dpop_key::{Signer, SignerError};
use crate::nonce_cache::{NonceCache, Role};
use crate::rpc_error::{self, RpcError};
use crate::server_clock::ServerClock;
use crate::token_cache::{Held, TokenCache};
use crate::transport::Transport;
use crate::upstream_challenge::UpstreamChallenge;

/// The method that tokens come from; with the origin it is the `htu` of proofs.
const ISSUE_TOKEN: &str = "/tokenkeep.v1.TokenService/IssueToken";

/// The method for several at a time.
const ISSUE_TOKENS: &str = "/tokenkeep.v1.TokenService/IssueTokens";

/// The metadata with the proof, and the one with the server's nonce.
const DPOP: &str = "dpop";
const DPOP_NONCE: &str = "dpop-nonce";

/// The reason that asks for another nonce.
const USE_DPOP_NONCE: &str = "USE_DPOP_NONCE";

/// The reason that may tell the service's time, and the detail that does.
const INVALID_DPOP_PROOF: &str = "INVALID_DPOP_PROOF";
const SERVER_TIME_S: &str = "server_time_s";

/// The same for the proof that goes on to the provider.
const INVALID_UPSTREAM_PROOF: &str = "INVALID_UPSTREAM_PROOF";

/// So often a proof for the provider is made for one request: the service says where it is to be used, then it or the
/// provider asks for another nonce.
const UPSTREAM_PROOFS: u32 = 4;

/// What a token is wanted for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TokenRequest {
    grant: String,
    resource: String,
    /// Sorted, each once.
    scopes: Vec<String>,
    /// The one who acts now first.
    actors: Vec<String>,
    upstream_bound: bool,
}

impl TokenRequest {
    /// A token for `resource`, a resource indicator [RFC 8707] that `grant` names, with all the scopes that
    /// the grant has.
    #[must_use]
    pub fn new(grant: impl Into<String>, resource: impl Into<String>) -> Self {
        Self {
            grant: grant.into(),
            resource: resource.into(),
            scopes: Vec::new(),
            actors: Vec::new(),
            upstream_bound: false,
        }
    }

    /// The same, but for the provider's own token, bound to the key of the client's signer, if the grant lets such
    /// tokens out. It is used at the provider's API itself.
    #[must_use]
    pub const fn upstream_bound(mut self) -> Self {
        self.upstream_bound = true;
        self
    }

    /// The same with these scopes only; none asks for all.
    #[must_use]
    pub fn with_scopes(mut self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.scopes = scopes.into_iter().map(Into::into).collect();
        self.scopes.sort();
        self.scopes.dedup();
        self
    }

    /// The same on behalf of these actors, the one who acts now first [RFC 8693 §4.1].
    #[must_use]
    pub fn on_behalf_of(mut self, actors: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.actors = actors.into_iter().map(Into::into).collect();
        self
    }

    /// The grant.
    #[must_use]
    pub fn grant(&self) -> &str {
        &self.grant
    }

    /// The resource.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The scopes, sorted; empty for all of the grant.
    #[must_use]
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// Whether the provider's own token is wanted.
    #[must_use]
    pub const fn is_upstream_bound(&self) -> bool {
        self.upstream_bound
    }

    const fn mode(&self) -> TokenMode {
        if self.upstream_bound {
            TokenMode::UpstreamBound
        } else {
            TokenMode::Minted
        }
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The service refused or was not reached.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The proof could not be signed.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The proof is no metadata value: the signer made none.
    #[error("the signer made no proof")]
    Proof,
    /// The answer holds no usable token.
    #[error(transparent)]
    Answer(#[from] AccessTokenError),
    /// The service answered more or fewer requests than were made.
    #[error("the service gave {found} answers to {asked} requests")]
    Answers {
        /// So many were made.
        asked: usize,
        /// So many answers came.
        found: usize,
    },
}

impl From<SigningKeyError> for TokenError {
    fn from(error: SigningKeyError) -> Self {
        Self::Signer(error.into())
    }
}

/// Gets tokens over an attested channel and keeps them until 80 % of their life. One of any number of
/// callers asks, the others wait for it or take what is still good.
pub struct TokenClient {
    issuer: Issuer,
    cache: TokenCache,
}

/// The one who asks.
struct Issuer {
    transport: Transport,
    htu: String,
    /// That of the method for several tokens.
    several_htu: String,
    signer: Arc<dyn Signer>,
    nonces: NonceCache,
    clock: ServerClock,
}

/// What was tried once more already.
#[derive(Default)]
struct Again {
    nonce: bool,
    clock: bool,
}

impl TokenClient {
    /// A client that binds its tokens to the key of `signer`.
    #[must_use]
    pub fn new(channel: &AttestedChannel, signer: Arc<dyn Signer>) -> Self {
        // The origin as the enclave itself spells it.
        let origin = &channel.bundle().grpc_origin;
        Self::over(
            channel.transport().clone(),
            origin,
            signer,
            channel.clock().clone(),
        )
    }

    /// Over a transport that the caller vouches for.
    pub(crate) fn over(
        transport: Transport,
        grpc_origin: &str,
        signer: Arc<dyn Signer>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let htu = |method: &str| format!("{}{method}", grpc_origin.trim_end_matches('/'));
        Self {
            issuer: Issuer {
                transport,
                htu: htu(ISSUE_TOKEN),
                several_htu: htu(ISSUE_TOKENS),
                signer,
                nonces: NonceCache::default(),
                clock: ServerClock::new(clock),
            },
            cache: TokenCache::default(),
        }
    }

    /// A token that is good for at least a fifth of its life, or for what is left of it when the service
    /// cannot be reached to renew it.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn token(&self, request: &TokenRequest) -> Result<Arc<AccessToken>, TokenError> {
        let clock = &self.issuer.clock;
        let slot = self.cache.slot(request, clock.monotonic_ms());
        let at_hand = |held: &Held| held.token.clone();
        if let Some(held) = slot
            .held()
            .filter(|held| held.is_fresh(clock.monotonic_ms()))
        {
            return Ok(at_hand(&held));
        }
        let _renewing = match slot.renewing.try_lock() {
            Ok(renewing) => renewing,
            Err(_taken) => {
                // Someone renews. What is still good serves meanwhile.
                let usable = |held: &Held| held.is_usable(clock.monotonic_ms());
                if let Some(held) = slot.held().filter(usable) {
                    return Ok(at_hand(&held));
                }
                slot.renewing.lock().await
            }
        };
        // It may have been renewed while this caller waited.
        let old = slot.held();
        if let Some(held) = old
            .as_ref()
            .filter(|held| held.is_fresh(clock.monotonic_ms()))
        {
            return Ok(at_hand(held));
        }
        let asked_at_ms = clock.monotonic_ms();
        match Box::pin(self.issuer.issue(request)).await {
            Ok(token) => {
                let held = Held::new(token, asked_at_ms);
                let token = at_hand(&held);
                slot.put(held);
                Ok(token)
            }
            Err(TokenError::Rpc(error)) if error.is_unavailable() => old
                .filter(|held| held.is_usable(clock.monotonic_ms()))
                .map(|held| at_hand(&held))
                .ok_or(TokenError::Rpc(error)),
            Err(error) => {
                // A refusal ends what was kept too: the grant may be frozen.
                self.cache.forget(request);
                Err(error)
            }
        }
    }

    /// Drops the token of a request, so that the next call asks for a new one: a server has refused it.
    pub fn forget(&self, request: &TokenRequest) {
        self.cache.forget(request);
    }

    /// The time that proofs are dated by, seconds since 1970: the client's, mended by what the service said of its own.
    pub(crate) fn proof_time_s(&self) -> u64 {
        self.issuer.clock.unix_time_s()
    }

    /// See [`Clock::monotonic_ms`].
    pub(crate) fn monotonic_ms(&self) -> u64 {
        self.issuer.clock.monotonic_ms()
    }

    /// What signs the proofs.
    #[must_use]
    pub fn signer(&self) -> &Arc<dyn Signer> {
        &self.issuer.signer
    }
}

impl std::fmt::Debug for TokenClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenClient")
            .field("transport", &self.issuer.transport)
            .field("jkt", &self.issuer.signer.jkt())
            .finish_non_exhaustive()
    }
}

impl Issuer {
    /// Asks; once more if the server wants another nonce, and once more if it tells that its clock is another. For a
    /// provider's token, with a proof for the provider as soon as the server says what that must carry.
    async fn issue(&self, request: &TokenRequest) -> Result<AccessToken, TokenError> {
        let mut again = Again::default();
        let (mut upstream, mut upstream_proofs) = (None, 0);
        loop {
            let refused = match self.attempt(request, upstream.as_ref()).await? {
                Ok(answer) => {
                    let (resource, mode) = (&request.resource, request.mode());
                    return Ok(AccessToken::from_answer(answer, resource, mode)?);
                }
                Err(refused) => refused,
            };
            let has_new_nonce = self.learn(refused.metadata());
            let error = RpcError::from(refused);
            if request.upstream_bound
                && upstream_proofs < UPSTREAM_PROOFS
                && let Some(challenge) = UpstreamChallenge::told_by(&error, &self.htu)
            {
                upstream = Some(challenge);
                upstream_proofs = upstream_proofs.saturating_add(1);
                continue;
            }
            if !self.may_ask_again(&error, has_new_nonce, &mut again) {
                return Err(error.into());
            }
        }
    }

    /// Whether another attempt can do better: once with another nonce, once with another clock.
    fn may_ask_again(&self, error: &RpcError, has_new_nonce: bool, again: &mut Again) -> bool {
        match error.reason() {
            Some(USE_DPOP_NONCE) => has_new_nonce && !replace(&mut again.nonce, true),
            Some(INVALID_DPOP_PROOF | INVALID_UPSTREAM_PROOF) => {
                self.learn_clock(error) && !replace(&mut again.clock, true)
            }
            Some(_) | None => false,
        }
    }

    /// Keeps the time that a refusal tells; says whether that is news.
    fn learn_clock(&self, refusal: &RpcError) -> bool {
        let told = refusal
            .details()
            .iter()
            .find(|(name, _)| name == SERVER_TIME_S);
        told.and_then(|(_, value)| value.parse().ok())
            .is_some_and(|server_s| self.clock.learn(server_s))
    }

    /// One attempt, with proofs of its own.
    async fn attempt(
        &self,
        request: &TokenRequest,
        upstream: Option<&UpstreamChallenge>,
    ) -> Result<Result<IssueTokenResponse, Status>, TokenError> {
        let TokenRequest {
            grant,
            resource,
            scopes,
            actors,
            upstream_bound,
        } = request;
        let upstream_proof = upstream
            .map(|challenge| self.sign(&challenge.htu, challenge.nonce.as_deref()))
            .transpose()?;
        let mut message = Request::new(IssueTokenRequest {
            grant: grant.clone(),
            resource: resource.clone(),
            scopes: scopes.clone(),
            actors: actors.clone(),
            mode: if *upstream_bound {
                request.mode().into()
            } else {
                // The default, as those know it who know no modes.
                TokenMode::Unspecified.into()
            },
            upstream_proof: upstream_proof.unwrap_or_default(),
            ..Default::default()
        });
        message.metadata_mut().insert(DPOP, self.proof(&self.htu)?);
        let mut client =
            TokenServiceClient::with_origin(self.transport.clone(), uri(&self.transport));
        match rpc_error::raw_answer(client.issue_token(message)).await {
            Ok(answer) => {
                self.learn(answer.metadata());
                Ok(Ok(answer.into_inner()))
            }
            Err(refused) => Ok(Err(refused)),
        }
    }

    fn proof(&self, htu: &str) -> Result<MetadataValue<Ascii>, TokenError> {
        let nonce = self.nonces.newest(self.transport.origin(), Role::Token);
        let proof = self.sign(htu, nonce.as_deref())?;
        proof.parse().map_err(|_| TokenError::Proof)
    }

    /// A proof for one request without a token.
    fn sign(&self, htu: &str, nonce: Option<&str>) -> Result<String, TokenError> {
        let jti = random_jti(&SystemRandom::new())?;
        let params = ProofParams {
            htm: "POST",
            htu,
            iat_s: self.clock.unix_time_s(),
            jti: &jti,
            nonce,
            access_token: None,
        };
        Ok(self.signer.proof(&params)?)
    }

    /// Keeps the nonce that came with an answer or refusal; says whether there was one, exactly one.
    fn learn(&self, metadata: &MetadataMap) -> bool {
        let mut values = metadata.get_all(DPOP_NONCE).iter();
        match (values.next().map(|value| value.to_str()), values.next()) {
            (Some(Ok(nonce)), None) => {
                self.nonces
                    .learn(self.transport.origin(), Role::Token, nonce)
            }
            (Some(Ok(_) | Err(_)) | None, _) => false,
        }
    }
}

#[cfg(test)]
mod tests;
