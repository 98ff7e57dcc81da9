//! The rounds: a leaf, its head cosigned by a quorum, and so a lease. At boot, every third of the lease, and when an
//! administrator's change waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use enclave::log::{LogError, LogName};
use enclave::policy::Denied;
use futures_util::future::join_all;
use rustls::ClientConfig;
use thiserror::Error;
use tlog::{KeyName, Origin, VerifiedCheckpoint, VerifierKey};

use super::Witnessing;
use super::ask::{Cosigned, Fault, Known, Question, Superseded};
use crate::events;
use crate::listener::ShutdownSignal;
use crate::shell::Shell;

/// The longest that one witness is waited for.
const DEADLINE: Duration = Duration::from_secs(5);
/// The shortest and the longest pause after a round without a quorum.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Why a round came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RoundError {
    /// A witness proved that this state must not go on.
    #[error(transparent)]
    Superseded(Box<Superseded>),
    /// No quorum, for now.
    #[error("{found} of {needed} witnesses cosigned")]
    Missed {
        /// As many did.
        found: usize,
        /// As many must.
        needed: usize,
    },
    /// The round's leaf could not be made durable, or the log could not be read.
    #[error("the round's leaf could not be written")]
    NoLeaf,
}

/// Gets the control log cosigned.
#[derive(Debug)]
pub struct Keeper {
    shell: Arc<Shell>,
    witnessing: Arc<Witnessing>,
    witnesses: Vec<Known>,
    origin: Origin,
    name: KeyName,
    tls: Arc<ClientConfig>,
    lease_ms: u64,
    quorum: usize,
}

impl Keeper {
    /// For an enclave with witnesses; none for one without.
    ///
    /// # Errors
    /// [`LogError`] if the log can't be named.
    pub fn new(
        shell: &Arc<Shell>,
        witnesses: Vec<Known>,
        tls: Arc<ClientConfig>,
    ) -> Result<Option<Self>, LogError> {
        let (Some(policy), Some(witnessing)) = (shell.enclave.witness_policy(), &shell.witnessing)
        else {
            return Ok(None);
        };
        let origin = shell.enclave.logs().origin(LogName::Control)?;
        let name: KeyName = origin.as_str().parse().map_err(|_| LogError::Origin)?;
        Ok(Some(Self {
            shell: Arc::clone(shell),
            witnessing: Arc::clone(witnessing),
            witnesses,
            name,
            origin,
            tls,
            lease_ms: policy.lease_ms,
            quorum: policy.quorum,
        }))
    }

    /// The gate of the boot: returns when a quorum has cosigned this boot's own leaves behind all that they saw
    /// before. Witnesses that don't answer are waited for. Gives whether it did; not if the service is to stop.
    ///
    /// # Errors
    /// [`Superseded`].
    pub async fn gate(&self, stop: &mut ShutdownSignal) -> Result<bool, Box<Superseded>> {
        let log_key = self.log_keys().first().map(ToString::to_string);
        let log_key = log_key.unwrap_or_default();
        events::witnesses_awaited(&log_key, self.witnesses.len(), self.quorum);
        loop {
            let round = tokio::select! {
                biased;
                () = stop.begun() => return Ok(false),
                round = Box::pin(self.round()) => round,
            };
            match round {
                Ok(()) => return Ok(true),
                Err(RoundError::Superseded(proof)) => return Err(proof),
                Err(RoundError::Missed { .. } | RoundError::NoLeaf) => {
                    tokio::time::sleep(self.pause()).await;
                }
            }
        }
    }

    /// Keeps the lease until the service stops.
    ///
    /// # Errors
    /// [`Superseded`]: the enclave issues nothing any more, and the service must end.
    pub async fn keep(self, mut stop: ShutdownSignal) -> Result<(), Box<Superseded>> {
        let mut wanted = self.witnessing.wanted.subscribe();
        let mut pause = self.part(3);
        loop {
            let begun = self.witnessing.begun.load(Ordering::SeqCst);
            tokio::select! {
                () = stop.begun() => return Ok(()),
                // An error means that there is nobody to wait.
                _ = wanted.wait_for(|wanted| *wanted > begun) => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = match Box::pin(self.round()).await {
                Ok(()) => self.part(3),
                Err(RoundError::Superseded(proof)) => {
                    self.shell.enclave.end_lease();
                    self.shell.changed();
                    return Err(proof);
                }
                Err(RoundError::Missed { .. } | RoundError::NoLeaf) => self.pause(),
            };
            let now = self.shell.clock.now();
            if self.shell.enclave.check_fresh(&now) == Err(Denied::NotWitnessed) {
                events::lease_ended();
                // What streams is looked at once more.
                self.shell.changed();
            }
        }
    }

    /// By which keys checkpoints of the log are signed now, the current one first: a rotation changes them.
    fn log_keys(&self) -> Vec<VerifierKey> {
        let keys = self.shell.enclave.keys();
        let publics = keys.log_publics();
        let publics = publics.filter_map(|public| public.as_bytes().try_into().ok());
        publics
            .map(|public| VerifierKey::new(self.name.clone(), public))
            .collect()
    }

    /// The `n`th part of the lease.
    fn part(&self, n: u64) -> Duration {
        Duration::from_millis(self.lease_ms.checked_div(n).unwrap_or(0))
    }

    fn pause(&self) -> Duration {
        self.part(20).clamp(PAUSES.0, PAUSES.1)
    }

    async fn round(&self) -> Result<(), RoundError> {
        let number = self
            .witnessing
            .begun
            .fetch_add(1, Ordering::SeqCst)
            .saturating_add(1);
        let enclave = &self.shell.enclave;
        let no_leaf = RoundError::NoLeaf;
        let now = self.shell.clock.now();
        let begun = enclave.begin_round(&now).map_err(|_| no_leaf.clone())?;
        let begun = begun.commit(&*self.shell.store).await;
        let begun = begun.map_err(|_| no_leaf.clone())?;
        let now = self.shell.clock.now();
        let begun = enclave.release(begun, &now).map_err(|_| no_leaf.clone())?;
        let current = self.shell.current_head(LogName::Control).await;
        let at_least = current.map_err(|_| no_leaf.clone())?.size;
        let signed = self.shell.checkpoint(LogName::Control, at_least).await;
        let signed = signed.map_err(|_| no_leaf.clone())?;
        let keys = self.log_keys();
        let note = signed.note().to_string();
        let checkpoint = VerifiedCheckpoint::open(note.as_bytes(), &self.origin, &keys)
            .map_err(|_| no_leaf.clone())?;
        let round = enclave
            .round(begun, checkpoint.head())
            .map_err(|_| no_leaf)?;
        let question = Question {
            origin: self.origin.clone(),
            log_keys: keys,
            checkpoint,
            tls: Arc::clone(&self.tls),
            deadline: DEADLINE.min(self.part(2)),
        };
        let question = &question;
        let asked = self.witnesses.iter().map(|witness| async move {
            let answer = question.ask(&self.shell, witness).await;
            (witness, answer)
        });
        let (mut cosignatures, mut lines) = (Vec::new(), Vec::new());
        for (witness, answer) in join_all(asked).await {
            match answer {
                Ok(Cosigned { cosignature, line }) => {
                    cosignatures.push(cosignature);
                    lines.push(line);
                }
                Err(Fault::Superseded(proof)) => return Err(RoundError::Superseded(proof)),
                Err(fault) => events::not_cosigned(&witness.name, &fault),
            }
        }
        let (found, needed) = (cosignatures.len(), self.quorum);
        enclave
            .witnessed(&round, &cosignatures)
            .map_err(|_| RoundError::Missed { found, needed })?;
        // The manifest has fewer witnesses than a note has room for.
        if let Ok(note) = question.checkpoint.note_with_signatures(lines) {
            let head = question.checkpoint.head();
            *self.witnessing.cosigned.lock() = Some((note.to_string(), head));
        }
        self.witnessing.done.send_replace(number);
        Ok(())
    }
}
