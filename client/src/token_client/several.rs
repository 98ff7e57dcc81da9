//! Several tokens for one proof.

use std::sync::Arc;

use proto::v1::token_answer::Answer;
use proto::v1::token_service_client::TokenServiceClient;
use proto::v1::{IssueTokensRequest, IssueTokensResponse, TokenAnswer, TokenAsk};
use tonic::{Code, Request, Status};

use super::{Again, DPOP, Issuer, TokenClient, TokenError, TokenRequest};
use crate::access_token::AccessToken;
use crate::channel::uri;
use crate::rpc_error::{self, RpcError};
use crate::token_cache::Held;

/// The most tokens that the service gives for one proof.
pub(crate) const MAX_ASKS: usize = 16;

/// A token, or why there is none.
type Answered = Result<Arc<AccessToken>, TokenError>;

impl TokenClient {
    /// As [`token`](Self::token), several tokens in as few calls as can be: one proof is good for sixteen. The answers
    /// are in the order of the requests; what one is refused for does not touch the others. Each of the provider's own
    /// tokens takes a call of its own.
    ///
    /// When the service can't be reached, what is still good serves, as with [`token`](Self::token).
    ///
    /// # Errors
    /// [`TokenError`] if a call is refused as a whole. What came with earlier calls is at hand for the next.
    pub async fn tokens(&self, requests: &[TokenRequest]) -> Result<Vec<Answered>, TokenError> {
        let now_ms = self.issuer.clock.monotonic_ms();
        let mut answers = Vec::with_capacity(requests.len());
        let mut missing = Vec::new();
        for (place, request) in requests.iter().enumerate() {
            let held = self.cache.slot(request, now_ms).held();
            let fresh = held.filter(|held| held.is_fresh(now_ms));
            answers.push(match fresh {
                Some(held) => Some(Ok(held.token)),
                None if request.upstream_bound => Some(Box::pin(self.token(request)).await),
                None => {
                    missing.push((place, request));
                    None
                }
            });
        }
        let mut unreached: Option<RpcError> = None;
        for some in missing.chunks(MAX_ASKS) {
            let wanted: Vec<_> = some.iter().map(|(_, request)| *request).collect();
            let asked_at_ms = self.issuer.clock.monotonic_ms();
            let asked = match &unreached {
                // It need not be waited for once more.
                Some(error) => Err(error.clone().into()),
                None => Box::pin(self.issuer.issue_several(&wanted)).await,
            };
            let found = match asked {
                Ok(found) => found,
                // As for one: what is still good serves until the service can be reached.
                Err(TokenError::Rpc(error)) if error.is_unavailable() => {
                    let error = unreached.insert(error);
                    let answers = wanted.iter().map(|_| Err(error.clone().into()));
                    answers.collect()
                }
                Err(error) => {
                    // As for one: a refusal ends what was kept, too. A want of room is none.
                    if let TokenError::Rpc(refused) = &error
                        && refused.code() != Code::ResourceExhausted
                    {
                        wanted.iter().for_each(|one| self.cache.forget(one));
                    }
                    return Err(error);
                }
            };
            for ((place, request), found) in some.iter().zip(found) {
                let answer = self.keep(request, found, asked_at_ms);
                if let Some(slot) = answers.get_mut(*place) {
                    *slot = Some(answer);
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Keeps what came, and forgets what was kept if it is a refusal: the grant may be frozen.
    fn keep(
        &self,
        request: &TokenRequest,
        found: Result<AccessToken, TokenError>,
        asked_at_ms: u64,
    ) -> Answered {
        match found {
            Ok(token) => {
                let held = Held::new(token, asked_at_ms);
                let token = Arc::clone(&held.token);
                self.cache.slot(request, asked_at_ms).put(held);
                Ok(token)
            }
            Err(TokenError::Rpc(error)) if error.is_unavailable() => {
                let now_ms = self.issuer.clock.monotonic_ms();
                let held = self.cache.slot(request, now_ms).held();
                held.filter(|held| held.is_usable(now_ms))
                    .map(|held| held.token)
                    .ok_or(TokenError::Rpc(error))
            }
            Err(error) => {
                self.cache.forget(request);
                Err(error)
            }
        }
    }
}

impl Issuer {
    /// Asks for at most [`MAX_ASKS`], again as [`issue`](Self::issue) does.
    async fn issue_several(
        &self,
        requests: &[&TokenRequest],
    ) -> Result<Vec<Result<AccessToken, TokenError>>, TokenError> {
        let mut again = Again::default();
        loop {
            let refused = match self.attempt_several(requests).await? {
                Ok(IssueTokensResponse { answers }) if answers.len() == requests.len() => {
                    let answers = requests.iter().zip(answers);
                    return Ok(answers
                        .map(|(request, answer)| taken(request, answer))
                        .collect());
                }
                Ok(IssueTokensResponse { answers }) => {
                    return Err(TokenError::Answers {
                        asked: requests.len(),
                        found: answers.len(),
                    });
                }
                Err(refused) => refused,
            };
            let has_new_nonce = self.learn(refused.metadata());
            let error = RpcError::from(refused);
            if !self.may_ask_again(&error, has_new_nonce, &mut again) {
                return Err(error.into());
            }
        }
    }

    /// One attempt, with a proof of its own.
    async fn attempt_several(
        &self,
        requests: &[&TokenRequest],
    ) -> Result<Result<IssueTokensResponse, Status>, TokenError> {
        let asks = requests.iter().map(|request| TokenAsk {
            grant: request.grant.clone(),
            resource: request.resource.clone(),
            scopes: request.scopes.clone(),
            actors: request.actors.clone(),
        });
        let mut message = Request::new(IssueTokensRequest {
            tokens: asks.collect(),
            ..Default::default()
        });
        message
            .metadata_mut()
            .insert(DPOP, self.proof(&self.several_htu)?);
        let mut client =
            TokenServiceClient::with_origin(self.transport.clone(), uri(&self.transport));
        match rpc_error::raw_answer(client.issue_tokens(message)).await {
            Ok(answer) => {
                self.learn(answer.metadata());
                Ok(Ok(answer.into_inner()))
            }
            Err(refused) => Ok(Err(refused)),
        }
    }
}

/// The token of one answer.
fn taken(request: &TokenRequest, answer: TokenAnswer) -> Result<AccessToken, TokenError> {
    match answer.answer {
        Some(Answer::Issued(issued)) => {
            let token = AccessToken::from_answer(issued, &request.resource, request.mode())?;
            Ok(token)
        }
        Some(Answer::Refused(refused)) => Err(RpcError::from(refused).into()),
        // A kind of answer that this program does not know.
        None => Err(TokenError::Answers { asked: 1, found: 0 }),
    }
}
