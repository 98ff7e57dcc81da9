//! The enclave and what the shell gives it: a store and the time.

use std::sync::Arc;

use enclave::Enclave;
use enclave::pending::Pending;

use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::status::Refusal;
use crate::store::EmbeddedStore;

/// What every service works with.
#[derive(Debug)]
pub struct Shell {
    /// The trusted core.
    pub enclave: Enclave,
    /// Where its records and leaves become durable.
    pub store: Arc<EmbeddedStore>,
    /// The time.
    pub clock: Clock,
    /// What is written when an answer has left; waited for at the end.
    pub afterwards: TaskTracker,
}

impl Shell {
    /// Commits an administrator's change and gives its answer out.
    ///
    /// # Errors
    /// [`Refusal`] if the store did not take it.
    pub async fn settle<T>(&self, pending: Pending<T>) -> Result<T, Refusal> {
        let durable = pending
            .commit(&*self.store)
            .await
            .map_err(|error| Refusal::from(&error))?;
        self.enclave
            .release(durable)
            .map_err(|denied| Refusal::from(&denied))
    }
}
