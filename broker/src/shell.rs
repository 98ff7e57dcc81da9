//! The enclave and what the shell gives it: a store and the time.

use std::sync::Arc;

use enclave::Enclave;
use enclave::authenticate::Peer;
use enclave::freeze::Touched;
use enclave::log::Receipt;
use enclave::pending::Pending;
use enclave::policy::Denied;
use enclave::store::StoreError;
use http::Extensions;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::consents::Consents;
use crate::listener::Connection;
use crate::metrics::stages;
use crate::outlasting::Outlasting;
use crate::root::keeper::RootKeeper;
use crate::status::Refusal;
use crate::store::{EmbeddedStore, Folder, StateDir};
use crate::svid::TrustDomains;
use crate::witness::{NotCosigned, Witnessing};

/// What every service works with: a store in a directory, or on a disk that a test
/// simulates.
#[derive(Debug)]
pub struct Shell<F: Folder = StateDir> {
    /// The trusted core.
    pub enclave: Enclave,
    /// Where its records and leaves become durable.
    pub store: Arc<EmbeddedStore<F>>,
    /// The time.
    pub clock: Clock,
    /// By whose SVIDs clients may authenticate.
    pub trust_domains: TrustDomains,
    /// Tells whoever sends something out over time that administrators changed
    /// something.
    pub changes: watch::Sender<u64>,
    /// The root key, to be replaced when something is erased; none where a test has no files for it.
    pub root: Option<Arc<RootKeeper>>,
    /// Where a change waits for its cosignatures, if there are witnesses.
    pub witnessing: Option<Arc<Witnessing>>,
    /// What is written when an answer has left; waited for at the end.
    pub afterwards: TaskTracker,
    /// Whoever waits for an owner's consent.
    pub consents: Consents,
}

impl Shell {
    /// What the connection of a request proved about the peer.
    #[must_use]
    pub fn peer(&self, extensions: &Extensions) -> Peer {
        let Some(connection) = extensions.get::<Connection>() else {
            return Peer::default();
        };
        let address = Some(connection.peer_addr().ip().to_canonical());
        let svid = connection.peer_svid(&self.trust_domains, || self.clock.now().hi_s);
        Peer {
            spki_sha256: connection.peer_spki_sha256(),
            certificate_sha256: connection.peer_certificate_sha256(),
            spiffe_id: svid.map(|svid| svid.id().clone()),
            address,
        }
    }

    /// Commits an administrator's change and gives its answer out.
    ///
    /// # Errors
    /// [`Refusal`] if the store did not take it.
    pub async fn settle<T: Send + 'static>(
        self: &Arc<Self>,
        pending: Pending<T>,
    ) -> Result<T, Refusal> {
        let settled = self.settle_with_receipt(pending).await;
        settled.map(|(value, _receipt)| value)
    }

    /// As [`settle`](Self::settle), with the receipt of the answer's leaf.
    ///
    /// # Errors
    /// [`Refusal`] if the store did not take it.
    pub fn settle_with_receipt<T: Send + 'static>(
        self: &Arc<Self>,
        pending: Pending<T>,
    ) -> impl Future<Output = Result<(T, Option<Receipt>), Refusal>> + Send {
        let control = pending.is_control();
        let concluding = self.conclude(pending);
        async move {
            let concluded = concluding.await;
            let (released, receipt) = concluded.map_err(|error| Refusal::from(&error))?;
            if control {
                self.cosigned().await?;
            }
            let value = released.map_err(|denied| Refusal::from(&denied))?;
            Ok((value, receipt))
        }
    }

    /// Makes a batch durable, then shows what it changes and gives its answer out, with the receipt of the answer's
    /// leaf. A caller that hangs up does not stop it half way: what is durable is in force, and no leaf's number is
    /// lost.
    ///
    /// What is to be done goes into its own place at once: a future of this function's would carry it there in steps.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub fn conclude<T: Send + 'static>(
        self: &Arc<Self>,
        pending: Pending<T>,
    ) -> impl Future<Output = Result<(Result<T, Denied>, Option<Receipt>), StoreError>> + Send + use<T>
    {
        let shell = Arc::clone(self);
        Outlasting::new(async move {
            let control = pending.is_control();
            let begun = stages::COMMIT.begin();
            let durable = pending.commit(&*shell.store).await?;
            begun.passed();
            let receipt = shell.enclave.receipt(&durable);
            let released = shell.enclave.release(durable, &shell.clock.now());
            if control {
                shell.changed();
            }
            Ok((released, receipt))
        })
    }

    /// Waits until witnesses have seen all that is durable, if there are any.
    ///
    /// # Errors
    /// [`Refusal`]: what was changed is in force here, and was not seen in time.
    pub async fn cosigned(&self) -> Result<(), Refusal> {
        match &self.witnessing {
            Some(witnessing) => witnessing
                .covered()
                .await
                .map_err(|NotCosigned| Refusal::not_cosigned()),
            None => Ok(()),
        }
    }

    /// Makes all that goes out over time look again whether it may go on.
    pub fn changed(&self) {
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Ends when something that is touched is stopped: frozen, or its grant is
    /// revoked or deleted.
    pub async fn stopped(self: Arc<Self>, touched: Touched) -> Denied {
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(denied) = self.enclave.stopped(&touched, &self.clock.now()) {
                return denied;
            }
            if changes.changed().await.is_err() {
                // Not while the shell is there, and it is.
                std::future::pending::<()>().await;
            }
        }
    }
}
