//! Evidence on demand: the nonces that wait while a report is being made share
//! the next one, so that many verifiers cost one report.

use std::sync::Arc;

use attestation::{
    Attester, AttesterError, Evidence, Nonce, NoncePath, NonceTree, Purpose, report_data,
};
use enclave::Bundle;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::collateral::Supply;

/// Nonces that may wait; more are refused.
const QUEUE: usize = 1_024;

/// Nonces that share a report at most.
const BATCH: usize = 1_024;

/// Evidence for one verifier.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The evidence, shared by the batch.
    pub evidence: Arc<Evidence>,
    /// From the verifier's nonce to the root in the evidence.
    pub path: NoncePath,
    /// The key bundle that the evidence binds.
    pub bundle: Arc<Bundle>,
}

/// Why there is no evidence.
#[derive(Debug, Error)]
pub enum EvidenceError {
    /// More verifiers wait than may.
    #[error("too many verifiers wait for evidence")]
    Busy,
    /// The platform gave none.
    #[error("the platform gave no evidence")]
    Platform(#[source] Arc<AttesterError>),
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopped,
}

struct Wanted {
    nonce: Nonce,
    purpose: Purpose,
    reply: oneshot::Sender<Result<Answer, EvidenceError>>,
}

/// Gives evidence.
#[derive(Clone, Debug)]
pub struct EvidenceDesk {
    queue: mpsc::Sender<Wanted>,
}

impl EvidenceDesk {
    /// Starts the task that asks the platform. It ends when all desks are gone.
    /// What the platform does not give beside its reports, `supply` adds.
    /// `bundle` gives the key bundle of now.
    pub fn start(
        attester: Arc<dyn Attester>,
        bundle: impl Fn() -> Arc<Bundle> + Send + Sync + 'static,
        supply: Supply,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(serve(attester, bundle, supply, waiting));
        Self { queue }
    }

    /// Verifiers that wait for the next report, and how many may.
    #[must_use]
    pub fn waiting(&self) -> (usize, usize) {
        (QUEUE.saturating_sub(self.queue.capacity()), QUEUE)
    }

    /// Evidence over a nonce.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub async fn evidence(&self, nonce: Nonce, purpose: Purpose) -> Result<Answer, EvidenceError> {
        let (reply, answer) = oneshot::channel();
        let wanted = Wanted {
            nonce,
            purpose,
            reply,
        };
        self.queue.try_send(wanted).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => EvidenceError::Busy,
            mpsc::error::TrySendError::Closed(_) => EvidenceError::Stopped,
        })?;
        answer.await.map_err(|_| EvidenceError::Stopped)?
    }
}

async fn serve(
    attester: Arc<dyn Attester>,
    bundle: impl Fn() -> Arc<Bundle> + Send + Sync + 'static,
    supply: Supply,
    mut waiting: mpsc::Receiver<Wanted>,
) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let mut rest = std::mem::take(&mut batch);
        // A report has one purpose.
        while let Some(purpose) = rest.first().map(|wanted| wanted.purpose) {
            let (of_purpose, others) = rest.into_iter().partition(|w| w.purpose == purpose);
            answer(&attester, bundle(), &supply, purpose, of_purpose).await;
            rest = others;
        }
    }
}

async fn answer(
    attester: &Arc<dyn Attester>,
    bundle: Arc<Bundle>,
    supply: &Supply,
    purpose: Purpose,
    batch: Vec<Wanted>,
) {
    let nonces: Vec<Nonce> = batch.iter().map(|wanted| wanted.nonce).collect();
    let Ok(tree) = NonceTree::new(&nonces) else {
        return;
    };
    let data = report_data(purpose, &tree.root(), &bundle.digest);
    let attester = Arc::clone(attester);
    // The platform may take its time: it is asked on a thread that may wait.
    let made = tokio::task::spawn_blocking(move || attester.evidence(&data)).await;
    let made = match made {
        Ok(Ok(evidence)) => Ok(Arc::new(supply.endorsed(evidence))),
        Ok(Err(error)) => Err(Arc::new(error)),
        Err(_) => return,
    };
    for (index, wanted) in batch.into_iter().enumerate() {
        let path = u32::try_from(index).ok().and_then(|i| tree.path(i).ok());
        let result = match (&made, path) {
            (Ok(evidence), Some(path)) => Ok(Answer {
                evidence: Arc::clone(evidence),
                path,
                bundle: Arc::clone(&bundle),
            }),
            (Err(error), _) => Err(EvidenceError::Platform(Arc::clone(error))),
            (Ok(_), None) => Err(EvidenceError::Stopped),
        };
        // A verifier that went away misses nothing.
        drop(wanted.reply.send(result));
    }
}
