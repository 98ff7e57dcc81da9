//! `TokenService`: access tokens for clients.

use std::sync::Arc;

use enclave::actor;
use enclave::authenticate::{Credentials, Peer};
use enclave::issue::{Binding, Door, IssueRequest, Issued, SeveralRequest, TokenAsk};
use enclave::log::Receipt;
use enclave::mint::Confirmation;
use enclave::nonce::Role;
use proto::v1;
use proto::v1::token_answer::Answer;
use proto::v1::token_service_server::TokenService;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Request, Response, Status};

use crate::grpc::audit::receipt_message;
use crate::listener::Connection;
use crate::refresher::Refresher;
use crate::shell::Shell;
use crate::status::Refusal;
use crate::upstream_bound;

/// The metadata with the proof.
const DPOP: &str = "dpop";

/// The metadata with the nonce to use next.
const DPOP_NONCE: &str = "dpop-nonce";

/// The metadata with the client's assertion.
const CLIENT_ASSERTION: &str = "client-assertion";

/// The metadata with a challenge, as over HTTP [RFC 9449 §7.1].
const WWW_AUTHENTICATE: &str = "www-authenticate";

/// The metadata with what a proof for the provider must carry.
const UPSTREAM_HTU: &str = "upstream-htu";
const UPSTREAM_DPOP_NONCE: &str = "upstream-dpop-nonce";

/// The service.
#[derive(Debug)]
pub struct Token {
    /// The enclave and what it needs.
    pub shell: Arc<Shell>,
    /// Exchanges with providers.
    pub refresher: Arc<Refresher>,
}

fn values<'a>(metadata: &'a MetadataMap, key: &str) -> Vec<&'a [u8]> {
    metadata
        .get_all(key)
        .iter()
        .map(AsciiMetadataValue::as_encoded_bytes)
        .collect()
}

fn credentials(peer: Peer, metadata: &MetadataMap) -> Credentials<'_> {
    Credentials {
        peer,
        assertions: values(metadata, CLIENT_ASSERTION),
        client_id: None,
    }
}

impl Token {
    /// The nonce for the next proof. It is base64url, so always a metadata value.
    fn nonce(&self) -> Option<AsciiMetadataValue> {
        let now = self.shell.clock.now();
        let nonce = self.shell.enclave.dpop_nonce(Role::Token, &now);
        AsciiMetadataValue::try_from(nonce).ok()
    }

    fn answer(
        &self,
        issued: Issued,
        receipt: Option<Receipt>,
        mode: v1::TokenMode,
    ) -> v1::IssueTokenResponse {
        v1::IssueTokenResponse {
            access_token: issued.access_token,
            token_type: issued.token_type.to_owned(),
            expires_in_s: u32::try_from(issued.expires_in_s).unwrap_or(u32::MAX),
            scopes: issued.scopes.into(),
            resource: issued.resource,
            mode: mode.into(),
            receipt: receipt
                .and_then(|receipt| receipt_message(self.shell.enclave.logs(), &receipt)),
        }
    }

    /// A good answer; with the nonce to use next, if the request had a proof.
    fn given<M>(&self, message: M, proved: bool) -> Response<M> {
        let mut response = Response::new(message);
        if let Some(nonce) = proved.then(|| self.nonce()).flatten() {
            response.metadata_mut().insert(DPOP_NONCE, nonce);
        }
        response
    }

    fn refuse(&self, refusal: &Refusal) -> Status {
        let mut status = refusal.status();
        let metadata = status.metadata_mut();
        if let Some(challenge) = challenge(refusal) {
            metadata.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(nonce) = self.nonce() {
            metadata.insert(DPOP_NONCE, nonce);
        }
        if let Some(upstream) = &refusal.upstream {
            let nonce = upstream.nonce.as_deref();
            for (name, value) in [
                (UPSTREAM_HTU, Some(upstream.htu.as_str())),
                (UPSTREAM_DPOP_NONCE, nonce),
            ] {
                let value = value.and_then(|value| AsciiMetadataValue::try_from(value).ok());
                value.map(|value| metadata.insert(name, value));
            }
        }
        status
    }
}

/// One of several tokens.
fn token_ask(ask: &v1::TokenAsk) -> TokenAsk<'_> {
    TokenAsk {
        grant: Some(&ask.grant),
        resource: &ask.resource,
        scopes: &ask.scopes,
        actors: &ask.actors,
    }
}

/// What the token is to be bound to. An unknown value is never taken for another.
fn binding(wanted: i32, proofs: Vec<&[u8]>) -> Result<Binding<'_>, Refusal> {
    match v1::TokenBinding::try_from(wanted) {
        Ok(v1::TokenBinding::Unspecified | v1::TokenBinding::Dpop) => Ok(Binding::Proof(proofs)),
        Ok(v1::TokenBinding::Certificate) if proofs.is_empty() => Ok(Binding::Certificate),
        Ok(v1::TokenBinding::Certificate) => Err(Refusal::argument(
            "binding",
            "a token is bound to one thing: send no dpop metadata with CERTIFICATE",
        )),
        Err(_) => Err(Refusal::argument("binding", "unknown value")),
    }
}

/// What to answer with, and the proof for the provider that goes with it. An unknown value is never taken for another.
fn mode(wanted: i32, upstream_proof: &str) -> Result<v1::TokenMode, Refusal> {
    match v1::TokenMode::try_from(wanted) {
        Ok(v1::TokenMode::Unspecified | v1::TokenMode::Minted) if upstream_proof.is_empty() => {
            Ok(v1::TokenMode::Minted)
        }
        Ok(v1::TokenMode::Unspecified | v1::TokenMode::Minted) => Err(Refusal::argument(
            "upstream_proof",
            "only with the mode UPSTREAM_BOUND",
        )),
        Ok(v1::TokenMode::UpstreamBound) => Ok(v1::TokenMode::UpstreamBound),
        Err(_) => Err(Refusal::argument("mode", "unknown value")),
    }
}

/// The challenge for a proof that is missing or refused.
fn challenge(refusal: &Refusal) -> Option<AsciiMetadataValue> {
    match refusal.oauth_error {
        Some("use_dpop_nonce") => Some(AsciiMetadataValue::from_static(
            "DPoP error=\"use_dpop_nonce\", algs=\"ES256 EdDSA\"",
        )),
        Some("invalid_dpop_proof") => Some(AsciiMetadataValue::from_static(
            "DPoP error=\"invalid_dpop_proof\", algs=\"ES256 EdDSA\"",
        )),
        Some(_) | None => None,
    }
}

#[tonic::async_trait]
impl TokenService for Token {
    async fn issue_token(
        &self,
        request: Request<v1::IssueTokenRequest>,
    ) -> Result<Response<v1::IssueTokenResponse>, Status> {
        let peer = self.shell.peer(request.extensions());
        let (metadata, extensions, message) = request.into_parts();
        let binding = binding(message.binding, values(&metadata, DPOP))
            .map_err(|refusal| self.refuse(&refusal))?;
        let mode =
            mode(message.mode, &message.upstream_proof).map_err(|refusal| self.refuse(&refusal))?;
        let proved = matches!(binding, Binding::Proof(_));
        let asked = IssueRequest {
            door: Door::Grpc,
            credentials: credentials(peer, &metadata),
            binding,
            grant: Some(&message.grant),
            resource: &message.resource,
            scopes: &message.scopes,
            actors: &message.actors,
        };
        let issued = if mode == v1::TokenMode::UpstreamBound {
            let proof = Some(message.upstream_proof.as_bytes()).filter(|proof| !proof.is_empty());
            // In a box: seldom asked for, and larger than all the rest of an answer that waits.
            let issuing =
                upstream_bound::issue(&self.shell, &self.refresher, &asked, proof, &extensions);
            Box::pin(issuing).await
        } else {
            self.shell.issue(&asked).await
        };
        let (issued, receipt) = issued.map_err(|refusal| self.refuse(&refusal))?;
        if let Some(connection) = extensions.get::<Connection>() {
            connection.visitor().vouch(&issued.client);
        }
        Ok(self.given(self.answer(issued, receipt, mode), proved))
    }

    async fn issue_tokens(
        &self,
        request: Request<v1::IssueTokensRequest>,
    ) -> Result<Response<v1::IssueTokensResponse>, Status> {
        let peer = self.shell.peer(request.extensions());
        let (metadata, extensions, message) = request.into_parts();
        let binding = binding(message.binding, values(&metadata, DPOP))
            .map_err(|refusal| self.refuse(&refusal))?;
        let proved = matches!(binding, Binding::Proof(_));
        let asked = SeveralRequest {
            credentials: credentials(peer, &metadata),
            binding,
            asks: message.tokens.iter().map(token_ask).collect(),
        };
        let answers = self.shell.issue_several(&asked).await;
        let answers = answers.map_err(|refusal| self.refuse(&refusal))?;
        let issued = answers.iter().flatten().next();
        if let (Some(connection), Some((issued, _))) = (extensions.get::<Connection>(), issued) {
            connection.visitor().vouch(&issued.client);
        }
        let answers = answers.into_iter().map(|answer| {
            let answer = match answer {
                Ok((issued, receipt)) => {
                    Answer::Issued(self.answer(issued, receipt, v1::TokenMode::Minted))
                }
                Err(refusal) => Answer::Refused(refusal.into()),
            };
            v1::TokenAnswer {
                answer: Some(answer),
            }
        });
        let message = v1::IssueTokensResponse {
            answers: answers.collect(),
        };
        Ok(self.given(message, proved))
    }

    async fn introspect_token(
        &self,
        request: Request<v1::IntrospectTokenRequest>,
    ) -> Result<Response<v1::IntrospectTokenResponse>, Status> {
        let peer = self.shell.peer(request.extensions());
        let (metadata, _, message) = request.into_parts();
        let claims = self
            .shell
            .introspect(&credentials(peer, &metadata), &message.token)?;
        let answer = claims.map_or_else(v1::IntrospectTokenResponse::default, |claims| {
            let (jkt, x5t_s256) = match claims.cnf {
                Confirmation::Jkt(jkt) => (jkt, String::new()),
                Confirmation::X5tS256(x5t_s256) => (String::new(), x5t_s256),
            };
            v1::IntrospectTokenResponse {
                active: true,
                client_id: claims.client_id.into(),
                resource: claims.aud,
                scopes: claims
                    .scope
                    .split(' ')
                    .filter(|scope| !scope.is_empty())
                    .map(str::to_owned)
                    .collect(),
                issued_at_s: claims.iat,
                expires_at_s: claims.exp,
                jti: claims.jti,
                jkt,
                grant: claims.grant.into(),
                x5t_s256,
                actors: actor::names(claims.act.as_deref())
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
            }
        });
        Ok(Response::new(answer))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        let peer = self.shell.peer(request.extensions());
        let (metadata, _, message) = request.into_parts();
        self.shell
            .revoke(&credentials(peer, &metadata), &message.token)
            .await?;
        Ok(Response::new(v1::RevokeTokenResponse {}))
    }
}
