//! The root while the service runs: replaced when something is to be destroyed for good, and what of the roots before
//! is not yet destroyed.
//!
//! A new root goes through files in an order that survives a crash at each step: the new envelope is written beside
//! the old one; tenants' keys are wrapped anew in the store; the new envelope takes the old one's name; those who can
//! open the old one are asked to destroy what they have, until each has confirmed it. A start that finds both
//! envelopes goes on where it stopped.

use std::sync::Arc;
use std::time::Duration;

use attestation::keyholder::{Operation, Released};
use attestation::manifest::recovery_set;
use enclave::keys::envelope::{Custody, Hex, QuorumSecret, Retired};
use enclave::keys::root::{RootKey, Unlocked};
use enclave::pending::Pending;
use enclave::rewrap::OldRoot;
use enclave::store::StoreError;
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use thiserror::Error;
use tokio::sync::Notify;

use super::enrol::EnrolError;
use super::open::shares_of;
use super::{ENVELOPE_NAME, Ground, NEXT_ENVELOPE_NAME};
use crate::boot::StartError;
use crate::events;
use crate::files::FileError;
use crate::shell::Shell;
use crate::store::sync_dir;

/// Between looks at whether the old root is still needed.
const LOOK: Duration = Duration::from_millis(10);

/// The root in use, and who can open it.
pub(super) struct Current {
    pub(super) keys: Arc<Unlocked>,
    pub(super) state: [u8; 16],
    pub(super) custody: Custody,
    pub(super) quorum: QuorumSecret,
    pub(super) retired: Vec<Retired>,
}

/// A root that was begun and has not taken the old one's name yet.
struct Begun {
    next: Current,
    old: Option<OldRoot>,
}

/// Why there is no new root.
#[derive(Debug, Error)]
pub enum RotateError {
    /// Not all keyholders made a new share: nothing was changed.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// An envelope can't be written.
    #[error(transparent)]
    Envelope(#[from] StartError),
    /// The store does not take the wraps. What was begun is taken up by the next attempt, or by the next start.
    #[error("the keys can't be wrapped anew")]
    Store(#[source] StoreError),
    /// Sealing failed, for want of randomness.
    #[error("the keys can't be wrapped anew: no randomness")]
    Seal,
}

/// Keeps the root.
pub struct RootKeeper {
    ground: Ground,
    current: Mutex<Arc<Unlocked>>,
    /// One change at a time.
    turn: tokio::sync::Mutex<Turn>,
    retiring: Mutex<Option<Arc<RootKey>>>,
    wanted: Notify,
    /// What the current envelope says is to be destroyed, for whoever asks while it is being done.
    pending: Mutex<Vec<Retired>>,
}

struct Turn {
    current: Current,
    begun: Option<Begun>,
}

impl std::fmt::Debug for RootKeeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RootKeeper").finish_non_exhaustive()
    }
}

impl RootKeeper {
    pub(super) fn new(ground: Ground, current: Current, retiring: Option<RootKey>) -> Self {
        let keys = Mutex::new(Arc::clone(&current.keys));
        let pending = Mutex::new(current.retired.clone());
        Self {
            ground,
            current: keys,
            turn: tokio::sync::Mutex::new(Turn {
                current,
                begun: None,
            }),
            retiring: Mutex::new(retiring.map(Arc::new)),
            wanted: Notify::new(),
            pending,
        }
    }

    /// Something is to be destroyed now.
    pub fn wake(&self) {
        self.wanted.notify_one();
    }

    /// Waits for [`wake`](Self::wake).
    pub(super) async fn woken(&self) {
        self.wanted.notified().await;
    }

    /// The keys, to open the store with.
    #[must_use]
    pub fn keys(&self) -> Arc<Unlocked> {
        Arc::clone(&self.current.lock())
    }

    /// The root that a start found half replaced.
    #[must_use]
    pub fn retiring(&self) -> Option<Arc<RootKey>> {
        self.retiring.lock().clone()
    }

    /// Ends what a start found begun: wraps the rest anew, and drops the old envelope.
    ///
    /// # Errors
    /// [`RotateError`].
    pub async fn finish_begun(&self, shell: &Shell) -> Result<(), RotateError> {
        if self.retiring.lock().is_none() {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        rewrap(shell).await?;
        self.take_name()?;
        // It must not stay in memory.
        drop(self.retiring.lock().take());
        events::root_replaced();
        Ok(())
    }

    /// Replaces the root: new shares of all keyholders, all tenants' keys wrapped anew, and the old shares destroyed.
    /// What was deleted before this call can be read by nobody once nothing is [`pending`](Self::pending).
    ///
    /// Gives what is to be destroyed then: [`destroy`](Self::destroy) asks for it.
    ///
    /// # Errors
    /// [`RotateError`]. Call it again: what was begun is finished first.
    pub async fn replace(&self, shell: &Shell) -> Result<Vec<Retired>, RotateError> {
        let mut turn = self.turn.lock().await;
        self.finish(&mut turn, shell).await?;
        let state = turn.current.state;
        let (custody, quorum) = Box::pin(self.ground.enrol(state)).await?;
        let keys = turn.current.keys.under_new_root(&SystemRandom::new());
        let keys = Arc::new(keys.map_err(|_| RotateError::Seal)?);
        let mut retired = turn.current.retired.clone();
        let recovery = self.ground.recovery_key().map(|key| Retired::Recovery {
            set: Hex(recovery_set(&key)),
        });
        for one in shares_of(&turn.current.custody).into_iter().chain(recovery) {
            if !retired.contains(&one) {
                retired.push(one);
            }
        }
        let next = Current {
            keys,
            state,
            custody,
            quorum,
            retired,
        };
        self.ground.write(NEXT_ENVELOPE_NAME, &next)?;
        turn.begun = Some(Begun { next, old: None });
        self.finish(&mut turn, shell).await?;
        Ok(turn.current.retired.clone())
    }

    async fn finish(&self, turn: &mut Turn, shell: &Shell) -> Result<(), RotateError> {
        let Some(begun) = &mut turn.begun else {
            return Ok(());
        };
        if begun.old.is_none() {
            let old = shell.enclave.begin_root(&begun.next.keys.root);
            begun.old = Some(old.map_err(|_| RotateError::Seal)?);
        }
        loop {
            rewrap(shell).await?;
            // A new tenant may be on its way to the store, wrapped under the old root.
            if !begun.old.as_ref().is_some_and(OldRoot::is_needed) {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        self.take_name()?;
        events::root_replaced();
        if let Some(begun) = turn.begun.take() {
            *self.current.lock() = Arc::clone(&begun.next.keys);
            self.pending.lock().clone_from(&begun.next.retired);
            turn.current = begun.next;
        }
        Ok(())
    }

    /// What could open an earlier root and is not yet known to be destroyed. An erasure is complete when this is empty.
    #[must_use]
    pub fn pending(&self) -> Vec<Retired> {
        self.pending.lock().clone()
    }

    /// Asks for the destruction of what is pending. Gives what still is.
    ///
    /// # Errors
    /// [`RotateError::Envelope`] if a confirmation can't be written down.
    pub async fn destroy(&self) -> Result<Vec<Retired>, RotateError> {
        let mut turn = self.turn.lock().await;
        let before = turn.current.retired.clone();
        if before.is_empty() {
            return Ok(before);
        }
        let mut rest = Vec::new();
        for retired in &before {
            if !self.is_destroyed(turn.current.state, retired).await {
                rest.push(retired.clone());
            }
        }
        if rest.len() < before.len() {
            turn.current.retired.clone_from(&rest);
            self.ground.write(ENVELOPE_NAME, &turn.current)?;
            self.pending.lock().clone_from(&rest);
        }
        events::destruction_pending(rest.len());
        Ok(rest)
    }

    async fn is_destroyed(&self, state: [u8; 16], retired: &Retired) -> bool {
        match retired {
            Retired::Share {
                name,
                url,
                key,
                share,
            } => {
                let target = self.ground.target_of(name, url, key.0);
                let destroy = Operation::Destroy;
                let asked = self.ground.asker.ask(&target, destroy, state, share.0);
                match Box::pin(asked).await {
                    Ok(Released::Destroyed) => {
                        events::share_destroyed(&target.name);
                        true
                    }
                    Ok(Released::Share(_)) => false,
                    Err(fault) => {
                        events::keyholder_fault(&target.name, destroy, &fault);
                        false
                    }
                }
            }
            Retired::Recovery { set } => self
                .ground
                .recovery
                .as_ref()
                .is_some_and(|recovery| recovery.destroyed.contains(&set.0)),
        }
    }

    /// The new envelope takes the old one's name.
    fn take_name(&self) -> Result<(), RotateError> {
        let dir = &self.ground.state_dir;
        let (from, to) = (dir.join(NEXT_ENVELOPE_NAME), dir.join(ENVELOPE_NAME));
        std::fs::rename(&from, &to)
            .and_then(|()| sync_dir(dir))
            .map_err(|error| StartError::from(FileError::new("rename", &from, &error)))?;
        Ok(())
    }
}

/// Wraps under the enclave's root all that is not.
async fn rewrap(shell: &Shell) -> Result<(), RotateError> {
    loop {
        let pending: Option<Pending<()>> = shell.enclave.rewrap().map_err(|_| RotateError::Seal)?;
        let Some(pending) = pending else {
            return Ok(());
        };
        match pending.commit(&*shell.store).await {
            // A batch of wraps touches nothing that can be frozen.
            Ok(durable) => drop(shell.enclave.release(durable, &shell.clock.now())),
            // A key was erased in between: look again.
            Err(StoreError::Conflict { .. }) => tokio::time::sleep(LOOK).await,
            Err(error) => return Err(RotateError::Store(error)),
        }
    }
}
