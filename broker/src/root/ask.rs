//! One request to one keyholder: its nonce, our evidence over nonce and request, its answer.

use std::sync::Arc;
use std::time::Duration;

use attestation::keyholder::{
    AnswerError, Call, Operation, Released, Request, WireAnswer, WireError,
};
use attestation::{Attester, AttesterError, DepositPrivateKey};
use http::{Method, StatusCode};
use ring::rand::SystemRandom;
use rustls::ClientConfig;
use thiserror::Error;
use url::Url;

use crate::exchange::{Bounds, NoAnswer, send};

/// The longest that a keyholder is waited for, each time, and the longest answer.
const BOUNDS: Bounds = Bounds {
    deadline: Duration::from_secs(10),
    max_bytes: attestation::keyholder::MAX_ANSWER_BYTES,
};

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// For logs.
    pub name: String,
    /// Where it answers.
    pub url: String,
    /// Its public key.
    pub key: [u8; 32],
}

/// Why a keyholder did not do what was asked.
#[derive(Debug, Error)]
pub enum AskFault {
    /// There is no whole answer.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// It refused.
    #[error("refused: {reason}: {message}")]
    Refused {
        /// The stable reason.
        reason: String,
        /// In words.
        message: String,
    },
    /// What came is no answer of a keyholder.
    #[error("status {status}, and no answer of a keyholder: {error}")]
    Wire {
        /// The HTTP status.
        status: u16,
        /// Why it is none.
        error: WireError,
    },
    /// It answered something else than was asked.
    #[error("another answer than was asked for")]
    Other,
    /// The answer is not the keyholder's, or not to this request.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// There is no evidence to ask with.
    #[error("the platform gave no evidence: {0}")]
    Platform(#[from] AttesterError),
    /// A key or a call can't be made.
    #[error("no request can be made")]
    Request,
}

impl AskFault {
    /// Whether it was refused for this stable reason.
    #[must_use]
    pub fn is_refused(&self, reason: &str) -> bool {
        matches!(self, Self::Refused { reason: found, .. } if found == reason)
    }
}

/// What all requests have in common.
pub struct Asker {
    pub(super) attester: Arc<dyn Attester>,
    pub(super) issuer: String,
    pub(super) manifest_digest: [u8; 32],
    pub(super) manifest: String,
    pub(super) manifest_signature: String,
    pub(super) tls: Arc<ClientConfig>,
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asker").finish_non_exhaustive()
    }
}

impl Asker {
    /// Asks one keyholder for one operation on a share of a state.
    ///
    /// # Errors
    /// [`AskFault`].
    pub async fn ask(
        &self,
        target: &Target,
        operation: Operation,
        state: [u8; 16],
        share: [u8; 16],
    ) -> Result<Released, AskFault> {
        let url: Url = target.url.parse().map_err(|_| AskFault::Request)?;
        let WireAnswer::Nonce(nonce) = self.post(&url, "challenge", String::new()).await? else {
            return Err(AskFault::Other);
        };
        // A key for this one answer.
        let recipient = DepositPrivateKey::generate(&SystemRandom::new());
        let recipient = recipient.map_err(|_| AskFault::Request)?;
        let request = Request {
            operation,
            keyholder: target.key,
            issuer: self.issuer.clone(),
            state,
            share,
            recipient: *recipient.public(),
            manifest: self.manifest_digest,
        };
        let data = request.report_data(&nonce).map_err(|_| AskFault::Request)?;
        let attester = Arc::clone(&self.attester);
        // The platform may take its time: it is asked on a thread that may wait.
        let evidence = tokio::task::spawn_blocking(move || attester.evidence(&data)).await;
        let call = Call {
            nonce,
            request,
            evidence: evidence.map_err(|_| AskFault::Request)??,
            manifest: self.manifest.clone(),
            manifest_signature: self.manifest_signature.clone(),
        };
        let json = call.to_json().map_err(|_| AskFault::Request)?;
        match self.post(&url, "ask", json).await? {
            WireAnswer::Answer(answer) => Ok(answer.open(&call.request, &recipient)?),
            WireAnswer::Refused { .. } | WireAnswer::Nonce(_) => Err(AskFault::Other),
        }
    }

    async fn post(
        &self,
        url: &Url,
        path: &'static str,
        body: String,
    ) -> Result<WireAnswer, AskFault> {
        let sent = send(url, &self.tls, BOUNDS, (Method::POST, path, body));
        let (parts, body) = sent.await?.into_parts();
        let status = parts.status.as_u16();
        match WireAnswer::from_json(&body) {
            Ok(WireAnswer::Refused { reason, message }) => {
                Err(AskFault::Refused { reason, message })
            }
            Ok(answer) if status == StatusCode::OK.as_u16() => Ok(answer),
            Ok(_) => Err(AskFault::Other),
            Err(error) => Err(AskFault::Wire { status, error }),
        }
    }
}
