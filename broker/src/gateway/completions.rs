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
#[derive(Debug)]
pub(super) struct Completions {
    waiting: Mutex<Waiting>,
    /// Where they are written down.
    runtime: Handle,
}

#[derive(Debug, Default)]
struct Waiting {
    calls: Vec<CompletedCall>,
    /// Somebody writes them down.
    is_written: bool,
}

/// Calls that were taken to be written down and are not yet. Dropped, it says how many are lost.
struct Unwritten(usize);

impl Drop for Unwritten {
    fn drop(&mut self) {
        if self.0 > 0 {
            events::completions_not_written(self.0);
        }
    }
}

/// Who writes them down. Whatever ends it, somebody else may.
struct Writing {
    completions: Arc<Completions>,
    is_over: bool,
}

impl Writing {
    async fn run(mut self, shell: Arc<Shell>) {
        loop {
            sleep(GATHERING).await;
            {
                let mut waiting = self.completions.waiting.lock();
                if waiting.calls.is_empty() {
                    waiting.is_written = false;
                    self.is_over = true;
                    return;
                }
            }
            self.completions.write(&shell).await;
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.is_over {
            self.completions.waiting.lock().is_written = false;
        }
    }
}

impl Completions {
    /// They are written down by tasks of this runtime.
    pub(super) fn on(runtime: Handle) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            runtime,
        })
    }

    /// Takes a call that is over.
    pub(super) fn add(self: &Arc<Self>, shell: &Arc<Shell>, call: CompletedCall) {
        let is_written = {
            let mut waiting = self.waiting.lock();
            if waiting.calls.len() < MOST {
                waiting.calls.push(call);
                mem::replace(&mut waiting.is_written, true)
            } else {
                drop(waiting);
                return events::completions_not_written(1);
            }
        };
        if !is_written {
            let writing = Writing {
                completions: Arc::clone(self),
                is_over: false,
            };
            let task = writing.run(Arc::clone(shell));
            shell.afterwards.spawn_on(task, &self.runtime);
        }
    }

    /// Writes down those that wait.
    pub(super) async fn write(&self, shell: &Shell) {
        let calls = mem::take(&mut self.waiting.lock().calls);
        let mut unwritten = Unwritten(calls.len());
        for calls in calls.chunks(OF_COMMIT) {
            let written = match shell.enclave.complete_calls(calls, &shell.clock.now()) {
                Ok(pending) => pending.commit(&*shell.store).await.is_ok(),
                Err(_) => false,
            };
            if !written {
                events::completions_not_written(calls.len());
            }
            unwritten.0 = unwritten.0.saturating_sub(calls.len());
        }
    }
}
