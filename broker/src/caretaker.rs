//! Tends grants over time: those that nobody uses fall asleep, and tenants are told of reviews that are due.

use std::sync::Arc;
use std::time::Duration;

use crate::events;
use crate::shell::Shell;

/// How long nothing is looked at, at most: the clock of the host may have gone ahead.
const LONGEST: Duration = Duration::from_secs(60);

/// How long nothing is looked at, at least.
const SHORTEST: Duration = Duration::from_secs(1);

/// Tends grants until it is stopped.
pub async fn tend(shell: Arc<Shell>) {
    let mut changes = shell.changes.subscribe();
    loop {
        changes.borrow_and_update();
        tend_all(&shell).await;
        let due_in_s = shell.enclave.tend_in_s(&shell.clock.now());
        let due_in = due_in_s.map_or(LONGEST, Duration::from_secs);
        let pause = tokio::time::sleep(due_in.clamp(SHORTEST, LONGEST));
        tokio::select! {
            () = pause => {}
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                // Many changes are one.
                tokio::time::sleep(SHORTEST).await;
            }
        }
    }
}

/// All that is due. What can't be written down is tried again with the next look.
async fn tend_all(shell: &Arc<Shell>) {
    loop {
        let tended = match shell.enclave.tend(&shell.clock.now()) {
            Ok(None) => return,
            Ok(Some(pending)) => shell.settle(pending).await,
            Err(error) => return events::not_tended(&error.to_string()),
        };
        match tended {
            Ok(()) => events::tended(),
            Err(refusal) => return events::not_tended(&refusal.message),
        }
    }
}
