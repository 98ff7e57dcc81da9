//! `AuditService`: the logs' leaves, checkpoints and proofs.

use std::pin::Pin;
use std::sync::Arc;

use enclave::admin::{AdminError, ReadLeaf};
use enclave::log::{LogName, Logs, Receipt};
use futures_util::Stream;
use proto::v1;
use proto::v1::audit_service_server::AuditService;
use tlog::Hash;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tonic::{Request, Response, Status};

use crate::audit::{Followed, Leaves, LogSummary, MAX_TAILS, PlacedLeaf, Scan};
use crate::events;
use crate::evidence_bundle::{BundleError, Bundler};
use crate::grpc::administrator::{caller, refuse};
use crate::grpc::bundling::{self, BundleStream};
use crate::grpc::convert;
use crate::listener::ShutdownSignal;
use crate::log::LogReadError;
use crate::places::Places;
use crate::shell::Shell;
use crate::status::Refusal;

/// Logs a page if the caller does not say, and the most there may be.
const PAGE_LOGS: (usize, usize) = (100, 1_000);

/// Proofs that are made at a time; other requests wait for their turn.
const MAX_PROOFS_AT_A_TIME: usize = 16;

/// Evidence bundles at a time, made or on their way: of one tenant, and in all. Each may have some 10 MB in memory.
const BUNDLES: (usize, usize) = (1, 2);

/// Messages of a stream that may wait for a slow reader.
const QUEUE_MESSAGES: usize = 2;

/// The service.
#[derive(Debug)]
pub struct Audit {
    shell: Arc<Shell>,
    /// Ends the streams.
    stop: ShutdownSignal,
    turns: Semaphore,
    tails: Arc<Semaphore>,
    bundler: Bundler,
    bundles: Arc<Places>,
}

impl Audit {
    /// The service, whose streams end at `stop`.
    #[must_use]
    pub fn new(bundler: Bundler, stop: ShutdownSignal) -> Self {
        Self {
            shell: Arc::clone(&bundler.shell),
            stop,
            turns: Semaphore::new(MAX_PROOFS_AT_A_TIME),
            tails: Arc::new(Semaphore::new(MAX_TAILS)),
            bundler,
            bundles: Places::new(BUNDLES.0, BUNDLES.1),
        }
    }

    fn name(&self, origin: &str) -> Result<LogName, Refusal> {
        if origin.is_empty() {
            return Ok(LogName::Control);
        }
        let found = self.shell.enclave.logs().find(origin);
        found.map_err(|error| Refusal::from(&LogReadError::from(error)))
    }

    /// What a caller who administers may read of the leaves of a log.
    fn scan<T>(&self, request: &Request<T>, log: &str, tenant: &str) -> Result<Scan, Refusal> {
        let by = caller(&self.shell, request)?;
        let tenant = convert::optional_tenant("tenant", tenant).map_err(refuse)?;
        let reader = self.shell.enclave.leaf_reader(by, tenant.as_ref());
        Ok(Scan {
            name: self.name(log)?,
            reader: reader.map_err(refuse)?,
        })
    }
}

fn read(error: LogReadError) -> Refusal {
    Refusal::from(&error)
}

fn messages(leaves: &mut Leaves) -> Vec<v1::Leaf> {
    let leaves = std::mem::take(&mut leaves.leaves).into_iter();
    leaves.map(leaf_message).collect()
}

fn leaf_message(leaf: PlacedLeaf) -> v1::Leaf {
    let PlacedLeaf {
        index,
        entry,
        read: ReadLeaf { tenant, event },
    } = leaf;
    v1::Leaf {
        index,
        // Leaves are JSON.
        entry: String::from_utf8_lossy(&entry).into_owned(),
        tenant: tenant.map(Into::into).unwrap_or_default(),
        event: event.unwrap_or_default(),
    }
}

fn log_message(log: LogSummary) -> v1::LogSummary {
    let LogSummary {
        origin,
        size,
        is_open,
    } = log;
    v1::LogSummary {
        origin,
        size,
        is_open,
    }
}

fn hashes(hashes: &[Hash]) -> Vec<Vec<u8>> {
    hashes.iter().map(|hash| hash.as_bytes().to_vec()).collect()
}

/// The message for a receipt; none for a log that can't be named, which there is not.
#[must_use]
pub fn receipt_message(logs: &Logs, receipt: &Receipt) -> Option<v1::Receipt> {
    let Receipt {
        log,
        index,
        leaf_hash,
    } = receipt;
    Some(v1::Receipt {
        log: logs.origin(*log).ok()?.into(),
        index: *index,
        leaf_hash: leaf_hash.as_bytes().to_vec(),
    })
}

#[tonic::async_trait]
impl AuditService for Audit {
    async fn list_logs(
        &self,
        request: Request<v1::ListLogsRequest>,
    ) -> Result<Response<v1::ListLogsResponse>, Status> {
        let v1::ListLogsRequest {
            page_size,
            page_token,
        } = request.into_inner();
        let (default, most) = PAGE_LOGS;
        let size = match usize::try_from(page_size).unwrap_or(usize::MAX) {
            0 => default,
            size if size <= most => size,
            _ => return Err(Refusal::argument("page_size", "at most 1000").into()),
        };
        let from = match page_token.as_str() {
            "" => 0,
            token => token.parse::<usize>().map_err(|_| {
                Refusal::argument("page_token", "must be next_page_token of the page before")
            })?,
        };
        let logs = self.shell.log_summaries(from, size).await.map_err(read)?;
        let end = from.saturating_add(logs.entries.len());
        Ok(Response::new(v1::ListLogsResponse {
            logs: logs.entries.into_iter().map(log_message).collect(),
            next_page_token: if logs.is_last {
                String::new()
            } else {
                end.to_string()
            },
        }))
    }

    async fn get_checkpoint(
        &self,
        request: Request<v1::GetCheckpointRequest>,
    ) -> Result<Response<v1::GetCheckpointResponse>, Status> {
        let name = self.name(&request.get_ref().log)?;
        let checkpoint = self.shell.public_checkpoint(name).await.map_err(read)?;
        Ok(Response::new(v1::GetCheckpointResponse { checkpoint }))
    }

    async fn prove_inclusion(
        &self,
        request: Request<v1::ProveInclusionRequest>,
    ) -> Result<Response<v1::ProveInclusionResponse>, Status> {
        let v1::ProveInclusionRequest { log, index } = request.into_inner();
        let name = self.name(&log)?;
        let _turn = self.turns.acquire().await;
        let proved = self.shell.prove_inclusion(name, index).await;
        let proved = proved.map_err(read)?;
        Ok(Response::new(v1::ProveInclusionResponse {
            hashes: hashes(proved.proof.hashes()),
            checkpoint: proved.checkpoint,
            leaf_hash: proved.leaf_hash.as_bytes().to_vec(),
        }))
    }

    async fn prove_consistency(
        &self,
        request: Request<v1::ProveConsistencyRequest>,
    ) -> Result<Response<v1::ProveConsistencyResponse>, Status> {
        let v1::ProveConsistencyRequest {
            log,
            old_size,
            new_size,
        } = request.into_inner();
        let name = self.name(&log)?;
        let _turn = self.turns.acquire().await;
        let (checkpoint, new_size) = match new_size {
            0 => {
                let (note, head) = self.shell.public_head(name, 0).await.map_err(read)?;
                (note, head.size)
            }
            size => (String::new(), size),
        };
        let proof = self.shell.consistency_proof(name, old_size, new_size);
        let proof = proof.await.map_err(read)?;
        Ok(Response::new(v1::ProveConsistencyResponse {
            hashes: hashes(proof.hashes()),
            checkpoint,
        }))
    }

    async fn list_leaves(
        &self,
        request: Request<v1::ListLeavesRequest>,
    ) -> Result<Response<v1::ListLeavesResponse>, Status> {
        let v1::ListLeavesRequest {
            log,
            from,
            page_size,
            tenant,
        } = request.get_ref();
        let limit = convert::page(*page_size, "").limit().map_err(refuse)?;
        let scan = self.scan(&request, log, tenant)?;
        let _turn = self.turns.acquire().await;
        let mut page = self.shell.leaves(&scan, *from, limit).await.map_err(read)?;
        Ok(Response::new(v1::ListLeavesResponse {
            leaves: messages(&mut page),
            next: page.next,
            at_end: page.at_end,
        }))
    }

    type TailLeavesStream =
        Pin<Box<dyn Stream<Item = Result<v1::TailLeavesResponse, Status>> + Send>>;

    async fn tail_leaves(
        &self,
        request: Request<v1::TailLeavesRequest>,
    ) -> Result<Response<Self::TailLeavesStream>, Status> {
        let v1::TailLeavesRequest { log, from, tenant } = request.get_ref();
        let scan = self.scan(&request, log, tenant)?;
        let place = Arc::clone(&self.tails).try_acquire_owned();
        let place = place.map_err(|_| Refusal::too_many_tails())?;
        let tail = Tail {
            shell: Arc::clone(&self.shell),
            scan,
            next: *from,
            _place: place,
        };
        let (sender, receiver) = mpsc::channel(QUEUE_MESSAGES);
        tokio::spawn(tail.run(sender, self.stop.clone()));
        let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|message| (message, receiver))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    type MakeEvidenceBundleStream = BundleStream;

    async fn make_evidence_bundle(
        &self,
        request: Request<v1::MakeEvidenceBundleRequest>,
    ) -> Result<Response<Self::MakeEvidenceBundleStream>, Status> {
        let by = caller(&self.shell, &request)?;
        let v1::MakeEvidenceBundleRequest { tenant, nonce } = request.get_ref();
        let tenant = convert::tenant_id("tenant", tenant).map_err(refuse)?;
        let nonce = <[u8; 32]>::try_from(nonce.as_slice())
            .map_err(|_| Refusal::argument("nonce", "must have 32 bytes"))?;
        // A place is the tenant's: who may not see it has none of it.
        if !by.sees_tenant(&tenant) {
            return Err(refuse(AdminError::Forbidden).into());
        }
        let place = self.bundles.enter(&tenant);
        let place = place.ok_or_else(Refusal::too_many_bundles)?;
        let made = self.bundler.make(by, &tenant, nonce).await;
        let made = made.map_err(|error| {
            let refusal = Refusal::from(&error);
            if matches!(error, BundleError::Admin(_)) {
                events::admin_refused(&refusal);
            } else {
                events::bundle_failed(&error);
            }
            refusal
        })?;
        let stop = self.stop.clone();
        Ok(Response::new(bundling::stream(made, place, stop)))
    }
}

/// One stream.
struct Tail {
    shell: Arc<Shell>,
    scan: Scan,
    next: u64,
    _place: OwnedSemaphorePermit,
}

type Sender = mpsc::Sender<Result<v1::TailLeavesResponse, Status>>;

impl Tail {
    async fn run(mut self, sender: Sender, mut stop: ShutdownSignal) {
        loop {
            let next = tokio::select! {
                () = stop.begun() => return,
                () = sender.closed() => return,
                next = self.shell.follow(&self.scan, self.next) => next,
            };
            let message = match next {
                Ok(Followed::Leaves(mut leaves)) => {
                    self.next = leaves.next;
                    Ok(v1::TailLeavesResponse {
                        leaves: messages(&mut leaves),
                        next: leaves.next,
                    })
                }
                Ok(Followed::Ended) => return,
                Err(error) => Err(Status::from(read(error))),
            };
            let is_over = message.is_err();
            let sent = tokio::select! {
                () = stop.begun() => return,
                sent = sender.send(message) => sent,
            };
            if sent.is_err() || is_over {
                return;
            }
        }
    }
}
