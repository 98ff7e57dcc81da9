//! The exchange of a code, and the grant that comes of it.

use super::{ConnectError, UnderWay, registered};
use crate::Enclave;
use crate::admin::{AdminError, Administrator, GrantView, Kept, Source};
use crate::pending::Pending;
use crate::refresh::{Consented, UpstreamAnswer, UpstreamRequest};
use crate::registry::{Grant, Provider};
use crate::secret::{AuthorizationCode, CodeVerifier, DpopPrivateKey};
use crate::time::Now;
use crate::upstream_dpop::{BoundKey, ProofFor, ServerKind};

/// Scopes that a provider may leave out of its answer: they are no power over an API.
const NOT_ECHOED: [&str; 2] = ["openid", "offline_access"];

/// A code that is being exchanged.
pub struct CodeExchange {
    by: Administrator,
    grant: Grant,
    redirect_uri: String,
    verifier: CodeVerifier,
    code: AuthorizationCode,
    dpop_key: Option<DpopPrivateKey>,
    /// Whether the provider asked for a nonce already.
    challenged: bool,
    consented: Option<Consented>,
}

impl std::fmt::Debug for CodeExchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CodeExchange({:?}, [redacted])", self.grant.id)
    }
}

/// What is to be done next.
#[derive(Debug)]
pub enum CodeStep {
    /// Send this, then [`Enclave::code_answered`].
    Send(Box<UpstreamRequest>),
    /// There is a refresh token: [`Enclave::keep_consent`].
    Keep,
}

impl CodeExchange {
    pub(super) fn new(by: &Administrator, under_way: UnderWay, code: AuthorizationCode) -> Self {
        let UnderWay {
            by: _,
            by_name: _,
            coming: _,
            grant,
            redirect_uri,
            verifier,
            dpop_key,
            until_ms: _,
        } = under_way;
        Self {
            by: by.clone(),
            grant,
            redirect_uri,
            verifier,
            code,
            dpop_key,
            challenged: false,
            consented: None,
        }
    }

    /// The administrator who began it.
    #[must_use]
    pub fn by(&self) -> &Administrator {
        &self.by
    }
}

impl Enclave {
    /// The request that exchanges the code. The freezes are looked at first.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn exchange_code(
        &self,
        exchange: &CodeExchange,
        now: &Now,
    ) -> Result<UpstreamRequest, AdminError> {
        let view = self.view.read();
        let author = self.author(&view, &exchange.grant, now)?;
        let provider = author.provider;
        let proof = self.token_proof(provider, exchange.dpop_key.as_ref(), now)?;
        let resource = super::url::first_resource(&exchange.grant, provider);
        let CodeExchange {
            code,
            redirect_uri,
            verifier,
            ..
        } = exchange;
        Ok(author.code(code, redirect_uri, verifier, resource, proof)?)
    }

    /// Takes in the provider's answer.
    ///
    /// # Errors
    /// [`AdminError::Connect`]: nothing came of it, and the code is of no use again.
    pub fn code_answered(
        &self,
        exchange: &mut CodeExchange,
        answer: UpstreamAnswer,
        now: &Now,
    ) -> Result<CodeStep, AdminError> {
        let (status, dpop_nonce, body) = match answer {
            UpstreamAnswer::NotSent => return Err(ConnectError::Unreachable.into()),
            UpstreamAnswer::Ambiguous | UpstreamAnswer::Cut { .. } => {
                return Err(ConnectError::Unclear.into());
            }
            UpstreamAnswer::Response {
                status,
                retry_after_s: _,
                dpop_nonce,
                body,
            } => (status, dpop_nonce, body),
        };
        let bound = exchange.dpop_key.is_some();
        if let Some(nonce) = &dpop_nonce {
            self.keep_token_nonce(&exchange.grant, nonce)?;
        }
        // Asked for before the code is looked at [RFC 9449 §8].
        if bound
            && dpop_nonce.is_some()
            && crate::refresh::asks_for_nonce(status, &body)
            && !exchange.challenged
        {
            exchange.challenged = true;
            let request = self.exchange_code(exchange, now)?;
            return Ok(CodeStep::Send(Box::new(request)));
        }
        let consented = crate::refresh::consented(status, &body, bound)?;
        self.check_consented(&exchange.grant, &consented)?;
        exchange.consented = Some(consented);
        Ok(CodeStep::Keep)
    }

    /// The batch that makes the grant, or gives it its new refresh token. If it meets a step of an exchange that is
    /// under way, ask again: what the provider gave is kept until then.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn keep_consent(
        &self,
        exchange: &CodeExchange,
        now: &Now,
    ) -> Result<Pending<GrantView>, AdminError> {
        let consented = exchange.consented.as_ref();
        let consented = consented.ok_or(ConnectError::NotUnderWay)?;
        let key = exchange.dpop_key.as_ref();
        self.keep_consented(&exchange.by, &exchange.grant, consented, key, now)
    }

    /// The proof for a request to the provider's token endpoint, if its tokens are bound to a key.
    pub(super) fn token_proof(
        &self,
        provider: &Provider,
        key: Option<&DpopPrivateKey>,
        now: &Now,
    ) -> Result<Option<String>, AdminError> {
        let Some(kept) = key else {
            return Ok(None);
        };
        let endpoint = &provider.token_endpoint;
        let kind = ServerKind::Authorization;
        let nonce = self.server_nonces.newest(kind, endpoint);
        let request = ProofFor {
            method: "POST",
            url: endpoint.as_str(),
            nonce: nonce.as_deref(),
            access_token: None,
        };
        let key = BoundKey::open(kept, &*self.rng)?;
        Ok(Some(key.proof(&request, now, &*self.rng)?))
    }

    pub(super) fn keep_token_nonce(&self, grant: &Grant, nonce: &str) -> Result<(), AdminError> {
        let view = self.view.read();
        let (_, provider) = registered(&view, grant)?;
        let kind = ServerKind::Authorization;
        self.server_nonces
            .keep(kind, &provider.token_endpoint, nonce);
        Ok(())
    }

    /// Whether the owner consented to all that the grant is to have.
    pub(super) fn check_consented(
        &self,
        grant: &Grant,
        consented: &Consented,
    ) -> Result<(), AdminError> {
        let Some(scopes) = &consented.scopes else {
            return Ok(());
        };
        let view = self.view.read();
        let (_, provider) = registered(&view, grant)?;
        let offline = provider
            .consent
            .as_ref()
            .map(|c| c.offline_scopes.as_slice());
        let offline = offline.unwrap_or_default();
        let lacks = |scope: &str| {
            !scopes.iter().any(|found| found == scope)
                && !NOT_ECHOED.contains(&scope)
                && !offline.iter().any(|own| own == scope)
        };
        if grant.scopes.iter().any(lacks) {
            return Err(ConnectError::FewerScopes.into());
        }
        Ok(())
    }

    /// The batch for what an owner consented to.
    pub(super) fn keep_consented(
        &self,
        by: &Administrator,
        grant: &Grant,
        consented: &Consented,
        dpop_key: Option<&DpopPrivateKey>,
        now: &Now,
    ) -> Result<Pending<GrantView>, AdminError> {
        let Consented {
            refresh_token,
            subject_sha256,
            scopes: _,
        } = consented;
        let kept = Kept {
            token: refresh_token,
            dpop_key,
            subject_sha256: *subject_sha256,
        };
        self.keep_grant(by, grant.clone(), &kept, Source::Consent, now)
    }
}
