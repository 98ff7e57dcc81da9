//! Erasures to their end: a new root for what was begun, the destruction of whatever opens the old one, and the word
//! that it is done. What can't be done now is tried again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use enclave::admin::{Erasure, ErasurePhase};
use enclave::ids::TenantId;
use enclave::keys::envelope::Retired;
use enclave::pending::Pending;
use enclave::store::{Store as _, StoreError};

use super::keeper::{RootKeeper, RotateError};
use crate::events;
use crate::listener::ShutdownSignal;
use crate::shell::Shell;

/// The shortest and the longest pause between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Records that are looked at at a time.
const SCAN: usize = 1_000;

/// What an erasure waits for, in words.
#[must_use]
pub fn waits_for(erasure: &Erasure, pending: &[Retired]) -> Vec<String> {
    match &erasure.phase {
        ErasurePhase::Begun {} => {
            vec!["a new root key: every keyholder must make a new share".to_owned()]
        }
        ErasurePhase::Waiting { retired } => {
            let still = retired.iter().filter(|one| pending.contains(one));
            still.map(name).collect()
        }
        ErasurePhase::Done { .. } => Vec::new(),
    }
}

fn name(retired: &Retired) -> String {
    match retired {
        Retired::Share { name, share, .. } => format!("keyholder {name}, share {share:?}"),
        Retired::Recovery { set } => format!("recovery set {set:?}"),
    }
}

/// Brings erasures to their end.
#[derive(Debug)]
pub struct Eraser {
    shell: Arc<Shell>,
    root: Arc<RootKeeper>,
    /// Those whose records were taken out of the store since this process began.
    swept: BTreeSet<TenantId>,
}

impl Eraser {
    /// For the erasures of this service.
    #[must_use]
    pub const fn new(shell: Arc<Shell>, root: Arc<RootKeeper>) -> Self {
        Self {
            shell,
            root,
            swept: BTreeSet::new(),
        }
    }

    /// Until the service stops.
    pub async fn keep(mut self, mut stop: ShutdownSignal) {
        let mut pause = PAUSES.0;
        loop {
            match Box::pin(self.step()).await {
                Ok(true) => pause = PAUSES.0,
                Ok(false) => pause = pause.saturating_mul(2).min(PAUSES.1),
                Err(error) => {
                    events::root_not_kept(&error);
                    pause = pause.saturating_mul(2).min(PAUSES.1);
                }
            }
            tokio::select! {
                () = stop.begun() => return,
                () = self.root.woken() => pause = PAUSES.0,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One attempt at all that is open. Gives whether nothing is.
    async fn step(&mut self) -> Result<bool, RotateError> {
        let open = self.shell.enclave.open_erasures();
        let begun: Vec<TenantId> = open
            .iter()
            .filter(|erasure| matches!(erasure.phase, ErasurePhase::Begun {}))
            .map(|erasure| erasure.tenant.clone())
            .collect();
        self.sweep(&open).await?;
        if !begun.is_empty() {
            // What was begun before this is under no root that is left when it returns.
            let retired = Box::pin(self.root.replace(&self.shell)).await?;
            let replaced = self.shell.enclave.root_replaced(&begun, &retired);
            self.settle(replaced.map_err(|_| RotateError::Seal)?)
                .await?;
        }
        let still = Box::pin(self.root.destroy()).await?;
        let now = self.shell.clock.now();
        let settled = self.shell.enclave.settle_erasures(&still, &now);
        let settled = settled.map_err(|_| RotateError::Seal)?;
        if settled.is_some() {
            // What was on its way to the store when the tenant was erased is there by now.
            self.swept.clear();
            self.sweep(&open).await?;
            self.settle(settled).await?;
            events::erased();
        }
        Ok(still.is_empty() && self.shell.enclave.open_erasures().is_empty())
    }

    async fn settle(&self, pending: Option<Pending<()>>) -> Result<(), RotateError> {
        let Some(pending) = pending else {
            return Ok(());
        };
        let durable = pending.commit(&*self.shell.store).await;
        let durable = durable.map_err(RotateError::Store)?;
        // An erasure's own record touches nothing that can be frozen.
        drop(self.shell.enclave.release(durable, &self.shell.clock.now()));
        self.shell.changed();
        Ok(())
    }

    /// Takes the tenants' records out of the store.
    async fn sweep(&mut self, open: &[Erasure]) -> Result<(), RotateError> {
        let all: BTreeSet<TenantId> = open.iter().map(|erasure| erasure.tenant.clone()).collect();
        if all.is_subset(&self.swept) {
            return Ok(());
        }
        let mut after = None;
        loop {
            let scan = self.shell.store.scan(after.as_ref(), SCAN).await;
            let records = scan.map_err(RotateError::Store)?;
            let Some(last) = records.last() else {
                break;
            };
            after = Some(last.key);
            let swept = self.shell.enclave.sweep(&records);
            let Some(pending) = swept.map_err(|_| RotateError::Seal)? else {
                continue;
            };
            match pending.commit(&*self.shell.store).await {
                Ok(durable) => drop(self.shell.enclave.release(durable, &self.shell.clock.now())),
                // Written meanwhile by what was under way: the sweep at the end takes it.
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(RotateError::Store(error)),
            }
        }
        self.swept.extend(all);
        Ok(())
    }
}
