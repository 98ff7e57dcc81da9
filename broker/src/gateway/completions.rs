//! What is written down of calls when they are over: together, a little later.
//!
//! Nobody waits for it, so that many calls cost one commit. What a crash takes is the completion of the calls of a
//! moment; their decisions were durable before the first byte went upstream.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use enclave::gateway::CompletedCall;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::events;
use crate::shell::Shell;

/// How long the first waits for others.
const GATHERING: Duration = Duration::from_millis(20);

/// Calls of one commit.
const OF_COMMIT: usize = 256;

/// Calls that wait, at most: where the store stands still, others are lost, and that is said.
const MOST: usize = 16_384;

/// Calls that are over and not written down.
#[derive(Debug, Default)]
pub(super) struct Completions(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    calls: Vec<CompletedCall>,
    /// Somebody writes them down.
    is_written: bool,
}

impl Completions {
    /// Takes a call that is over. Somebody writes it down, unless there is no runtime any more.
    pub(super) fn add(self: &Arc<Self>, shell: &Arc<Shell>, call: CompletedCall) {
        let mut waiting = self.0.lock();
        if waiting.calls.len() >= MOST || Handle::try_current().is_err() {
            return events::completion_not_written(call.grant());
        }
        waiting.calls.push(call);
        if !mem::replace(&mut waiting.is_written, true) {
            drop(waiting);
            let writing = Arc::clone(self).write(Arc::clone(shell));
            shell.afterwards.spawn(writing);
        }
    }

    async fn write(self: Arc<Self>, shell: Arc<Shell>) {
        loop {
            sleep(GATHERING).await;
            let calls = {
                let mut waiting = self.0.lock();
                if waiting.calls.is_empty() {
                    waiting.is_written = false;
                    return;
                }
                mem::take(&mut waiting.calls)
            };
            for calls in calls.chunks(OF_COMMIT) {
                let written = match shell.enclave.complete_calls(calls) {
                    Ok(pending) => pending.commit(&*shell.store).await.is_ok(),
                    Err(_) => false,
                };
                if !written {
                    for call in calls {
                        events::completion_not_written(call.grant());
                    }
                }
            }
        }
    }
}
