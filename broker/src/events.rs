//! Every event that this crate logs: its name and its typed fields. What is counted of them is counted here, too.
//!
//! Nothing else in the crate calls `tracing`. Fields are numbers, kinds and
//! names that the operator chose; never bodies, headers, tokens or whole errors
//! of peers.

use std::io;
use std::net::SocketAddr;
use tracing::{debug, error, info, warn};

use attestation::keyholder::Operation;
use enclave::gateway::Admitted;
use enclave::ids::{GrantId, TenantId, WebhookId};
use enclave::issue::Issued;
use enclave::refresh::RefreshError;
use enclave::registry::Grant;
use enclave::store::StoreError;
use std::path::Path;

use crate::collateral::SupplyFault;
use crate::event_feed::EventsError;
use crate::evidence::EvidenceError;
use crate::evidence_bundle::BundleError;
use crate::gateway::{CallError, reason_of_refresh};
use crate::hygiene::{Hardened, Locked};
use crate::listener::Name;
use crate::log::LogReadError;
use crate::metrics::{doors, refusals, rpc, upstream};
use crate::root::ask::AskFault;
use crate::root::keeper::RotateError;
use crate::status::Refusal;
use crate::store::{Compacted, OpenReport, TornTail};
use crate::throttle::Throttle;
use crate::traces;
use crate::upstream::UpstreamError;
use crate::webhooks::NotTaken;
use crate::witness::ask::Fault;

/// Lines that callers can cause as often as they like.
static TOKENS_REFUSED: Throttle = Throttle::new(200);
static CALLS_REFUSED: Throttle = Throttle::new(200);
static COMPLETIONS_LOST: Throttle = Throttle::new(20);
/// Far more: whoever tries administrators' services is to be seen, and no flood of others hides it.
static ADMINISTRATION_REFUSED: Throttle = Throttle::new(2_000);
static CONNECTIONS: Throttle = Throttle::new(20);
static SHED: Throttle = Throttle::new(1);
static EVIDENCE_FAILED: Throttle = Throttle::new(20);
static LOGS_NOT_READ: Throttle = Throttle::new(20);

/// Core dumps and debuggers are off. Says whether memory is kept out of the
/// swap.
pub fn process_hardened(hardened: Hardened) {
    match hardened.locked {
        Locked::All => info!(event = "process_hardened", memory_locked = true),
        Locked::NotAllowed => warn!(
            event = "process_hardened",
            memory_locked = false,
            "memory is not locked: give the service CAP_IPC_LOCK or an unlimited RLIMIT_MEMLOCK, or turn swap off"
        ),
        Locked::Refused(kind) => {
            warn!(event = "process_hardened", memory_locked = false, %kind, "memory is not locked");
        }
    }
}

/// Keyholders are waited for: so many have released their shares, or made new ones.
pub fn keyholders_awaited(found: usize, needed: usize) {
    warn!(event = "keyholders_awaited", found, needed);
}

/// A keyholder did not do what it was asked.
pub fn keyholder_fault(keyholder: &str, operation: Operation, fault: &AskFault) {
    warn!(event = "keyholder_fault", keyholder, %operation, %fault);
}

/// The shares are there, but this chip is another: a recovery set could open the state.
pub fn recovery_awaited() {
    warn!(
        event = "recovery_awaited",
        "this chip does not open the state with its keyholders' shares, and the manifest has off_chip = false: combine a recovery set"
    );
}

/// A new state has its root key.
pub fn root_created() {
    info!(event = "root_created");
}

/// The root key is open; which recipient of the envelope opened it.
pub fn root_opened(by: &'static str) {
    info!(event = "root_opened", by);
}

/// The root key was wrapped anew, for this chip and the manifest's keyholders.
pub fn root_rewrapped() {
    info!(event = "root_rewrapped");
}

/// A new root has taken over.
pub fn root_replaced() {
    info!(event = "root_replaced");
}

/// A keyholder confirmed that it destroyed a share of an earlier root.
pub fn share_destroyed(keyholder: &str) {
    info!(event = "share_destroyed", keyholder);
}

/// An erasure is done: nothing opens what older copies of the disk hold of the tenant.
pub fn erased() {
    warn!(event = "erased");
}

/// An administrator erased a tenant; it is done when `erased` is told.
pub fn erasure_begun(by: &str) {
    warn!(event = "erasure_begun", by);
}

/// So much that could open an earlier root is not yet known to be destroyed.
pub fn destruction_pending(count: usize) {
    info!(event = "destruction_pending", count);
}

/// The envelope could not be written.
pub fn root_not_kept(error: &RotateError) {
    error!(event = "root_not_kept", %error);
}

/// A provider was told that a grant was revoked, or there is no way to tell it.
pub fn provider_told(grant: &GrantId, outcome: &'static str) {
    info!(event = "provider_told", %grant, outcome);
}

/// No witness watches over the state.
pub fn no_witnesses() {
    warn!(
        event = "no_witnesses",
        "the manifest names no witnesses: a disk that was put back to an older state is not found out"
    );
}

/// Nothing is served until a quorum of witnesses has cosigned the control log.
pub fn witnesses_awaited(log_key: &str, witnesses: usize, quorum: usize) {
    info!(event = "witnesses_awaited", log_key, witnesses, quorum);
}

/// A quorum of witnesses has cosigned this boot.
pub fn witnessed() {
    info!(event = "witnessed");
}

/// A witness did not cosign.
pub fn not_cosigned(witness: &str, fault: &Fault) {
    warn!(event = "not_cosigned", witness, %fault);
}

/// No quorum has cosigned for as long as a lease lasts: nothing is issued.
pub fn lease_ended() {
    error!(event = "lease_ended");
}

/// What vouches for evidence was renewed; says for how long it holds.
pub fn collateral_kept(what: &str, days_left: u64) {
    info!(event = "collateral_kept", what, days_left);
}

/// What vouches for evidence could not be renewed. What is there goes on being served.
pub fn collateral_not_renewed(fault: &SupplyFault, days_left: Option<u64>) {
    warn!(event = "collateral_not_renewed", %fault, days_left);
}

/// What vouches for evidence ends soon: verifiers that have none of their own will then refuse it.
pub fn collateral_ends(days_left: u64) {
    error!(event = "collateral_ends", days_left);
}

/// A listener accepts connections.
pub fn listener_started(listener: Name, addr: SocketAddr) {
    info!(event = "listener_started", %listener, %addr);
}

/// The listener for metrics answers.
pub fn metrics_started(addr: SocketAddr) {
    info!(event = "metrics_started", %addr);
}

/// Traces go to a collector.
pub fn traces_started(one_in: u64) {
    info!(event = "traces_started", one_in);
}

/// A collector did not take traces, which are lost.
pub fn traces_not_taken(fault: &traces::collector::Fault) {
    warn!(event = "traces_not_taken", %fault);
}

/// A listener has drained; `cut` connections were closed at the deadline.
pub fn listener_stopped(listener: Name, cut: usize) {
    info!(event = "listener_stopped", %listener, cut);
}

/// A connection was closed at once, because the listener holds as many as it
/// may.
pub fn connection_refused(listener: Name, peer: SocketAddr) {
    doors::of(listener).refused.one();
    if let Some(kept_back) = CONNECTIONS.pass() {
        warn!(event = "connection_refused", %listener, %peer, kept_back);
    }
}

/// Requests were turned away, because as many are under way as may be. Once a second at most.
pub fn requests_shed(why: &'static str) {
    rpc::SHED.one(why);
    if let Some(kept_back) = SHED.pass() {
        warn!(event = "requests_shed", why, kept_back);
    }
}

/// The system gave no connection.
pub fn accept_failed(listener: Name, kind: io::ErrorKind) {
    error!(event = "accept_failed", %listener, %kind);
}

/// A peer did not complete the TLS handshake.
pub fn handshake_failed(listener: Name, peer: SocketAddr, kind: io::ErrorKind) {
    doors::of(listener).unsecured.one();
    debug!(event = "handshake_failed", %listener, %peer, %kind);
}

/// The store is open.
pub fn store_opened(report: &OpenReport) {
    let OpenReport {
        created,
        frames,
        records,
        file_bytes,
        torn,
    } = *report;
    info!(event = "store_opened", created, frames, records, file_bytes);
    if let Some(TornTail { offset, bytes }) = torn {
        warn!(event = "store_torn_write_dropped", offset, bytes);
    }
}

/// A sync failed: nothing is known of the last writes, and the process ends.
pub fn store_sync_failed(kind: io::ErrorKind) {
    error!(event = "store_sync_failed", %kind);
}

/// The service was told to stop.
pub fn shutdown_began() {
    info!(event = "shutdown_began");
}

/// The host's clock went backward; the service goes on with the later time.
pub fn clock_went_backward(by_s: u64) {
    warn!(event = "clock_went_backward", by_s);
}

/// The store's file was replaced by one that begins with a snapshot.
pub fn store_compacted(compacted: &Compacted) {
    let Compacted {
        before_bytes,
        after_bytes,
        epoch,
    } = *compacted;
    info!(event = "store_compacted", before_bytes, after_bytes, epoch);
}

/// The store's file was not replaced. Commits go on in the old one, and it is tried again when that has grown.
pub fn store_not_compacted(error: &StoreError) {
    warn!(event = "store_not_compacted", %error);
}

/// There is a wrapped root key but no store: the service begins empty.
pub fn store_absent(path: &Path) {
    warn!(event = "store_absent", path = %path.display());
}

/// The service answers.
pub fn service_ready(issuer: &str, tier: &str) {
    info!(event = "service_ready", issuer, tier);
}

/// The enclave is emulated: nothing it holds is protected by hardware.
pub fn service_emulated() {
    warn!(event = "service_emulated");
}

/// The listeners have new certificates.
pub fn certificates_renewed() {
    info!(event = "certificates_renewed");
}

/// The listeners' certificates could not be renewed; the old ones are shown on.
pub fn certificates_not_renewed(error: &crate::key_watch::LeafError) {
    error!(event = "certificates_not_renewed", %error);
}

/// Overlaps of keys have ended, or a key was replaced for its age.
pub fn keys_turned(what: &'static str) {
    warn!(event = "keys_turned", what);
}

/// What is over of the keys could not be ended.
pub fn keys_not_turned(error: &enclave::admin::AdminError) {
    error!(event = "keys_not_turned", %error);
}

/// An administrator replaced a key.
pub fn key_rotated(key: &str, by: &str) {
    warn!(event = "key_rotated", key, by);
}

/// The platform gave no evidence, or too many wait for it.
pub fn evidence_failed(error: &EvidenceError) {
    if let Some(kept_back) = EVIDENCE_FAILED.pass() {
        warn!(event = "evidence_failed", %error, kept_back);
    }
}

/// An evidence bundle could not be made.
pub fn bundle_failed(error: &BundleError) {
    warn!(event = "bundle_failed", %error);
}

/// What tenants are to hear of could not be written down; it is tried again when there is more.
pub fn watchman_failed() {
    warn!(event = "watchman_failed");
}

/// An event was not taken by a webhook; it is posted again.
pub fn webhook_failed(tenant: &TenantId, webhook: &WebhookId, why: &NotTaken) {
    let why = why.word();
    info!(event = "webhook_failed", %tenant, %webhook, why);
}

/// A webhook's events could not be read; it is tried again.
pub fn webhook_not_read(tenant: &TenantId, webhook: &WebhookId, error: &EventsError) {
    warn!(event = "webhook_not_read", %tenant, %webhook, %error);
}

/// A webhook took nothing for too long, and is given up.
pub fn webhook_disabled(tenant: &TenantId, webhook: &WebhookId) {
    warn!(event = "webhook_disabled", %tenant, %webhook);
}

/// A token left. At `debug` only: its leaf says it to those whom it concerns, and a line for each token is a write for
/// each.
pub fn token_issued(issued: &Issued) {
    debug!(event = "token_issued", client = %issued.client, resource = %issued.resource);
}

/// A provider's token left, bound to a client's key.
pub fn upstream_token_released(issued: &Issued) {
    debug!(event = "upstream_token_released", client = %issued.client, resource = %issued.resource);
}

/// A token was refused.
pub fn token_refused(refusal: &Refusal) {
    refusals::TOKENS.one(refusal.reason);
    traces::reason(refusal.reason);
    if let Some(kept_back) = TOKENS_REFUSED.pass() {
        info!(event = "token_refused", reason = refusal.reason, kept_back);
    }
}

/// An administrator's request was refused.
pub fn admin_refused(refusal: &Refusal) {
    refusals::ADMINISTRATION.one(refusal.reason);
    traces::reason(refusal.reason);
    if let Some(kept_back) = ADMINISTRATION_REFUSED.pass() {
        info!(event = "admin_refused", reason = refusal.reason, kept_back);
    }
}

/// A refresh token came in.
pub fn grant_deposited(grant: &Grant, by: &str) {
    info!(event = "grant_deposited", grant = %grant.id, by);
}

/// Something was registered.
pub fn registered(what: &'static str, id: &str, by: &str) {
    info!(event = "registered", what, id, by);
}

/// An administrator replaced a client's keys.
pub fn client_changed(client: &str, by: &str) {
    warn!(event = "client_changed", client, by);
}

/// An administrator ended a grant for good.
pub fn grant_revoked(grant: &GrantId, by: &str) {
    warn!(event = "grant_revoked", %grant, by);
}

/// An administrator set a grant's terms anew.
pub fn grant_changed(grant: &GrantId, by: &str) {
    warn!(event = "grant_changed", %grant, by);
}

/// An administrator approved or denied a call.
pub fn approval_decided(grant: &GrantId, by: &str) {
    warn!(event = "approval_decided", %grant, by);
}

/// An administrator woke a grant.
pub fn grant_woken(grant: &GrantId, by: &str) {
    warn!(event = "grant_woken", %grant, by);
}

/// Grants fell asleep, or tenants were told of reviews.
pub fn tended() {
    info!(event = "tended");
}

/// What is due for grants could not be written down.
pub fn not_tended(why: &str) {
    error!(event = "not_tended", why);
}

/// A tenant's limits were set anew.
pub fn tenant_limits_set(by: &str) {
    warn!(event = "tenant_limits_set", by);
}

/// An administrator deleted a grant.
pub fn grant_deleted(grant: &GrantId, by: &str) {
    warn!(event = "grant_deleted", %grant, by);
}

/// Something was frozen.
pub fn frozen(by: &str) {
    warn!(event = "frozen", by);
}

/// A tenant's policy was set or removed.
pub fn policy_set(by: &str) {
    warn!(event = "policy_set", by);
}

/// A freeze was ended.
pub fn thawed(by: &str) {
    warn!(event = "thawed", by);
}

/// A grant's token was exchanged.
pub fn refreshed(grant: &GrantId) {
    upstream::EXCHANGES.one("REFRESHED");
    info!(event = "refreshed", %grant);
}

/// A grant's token could not be exchanged.
pub fn refresh_failed(grant: &GrantId, error: &RefreshError) {
    upstream::EXCHANGES.one(reason_of_refresh(error));
    warn!(event = "refresh_failed", %grant, %error);
}

/// A provider could not be reached, or did not answer.
pub fn provider_failed(error: &UpstreamError) {
    let why = std::error::Error::source(error).map(ToString::to_string);
    warn!(event = "provider_failed", %error, why);
}

/// An exchange that a crash had cut off is settled; `adopted` if the provider's
/// answer was in the journal.
pub fn exchange_resumed(grant: &GrantId, adopted: bool) {
    warn!(event = "exchange_resumed", %grant, adopted);
}

/// An API repeated the credential that it was called with; its answer was cut.
pub fn credential_echoed(admitted: &Admitted) {
    warn!(
        event = "credential_echoed",
        grant = %admitted.grant,
        target = %admitted.target,
        "the answer was cut and the upstream access token is not used again"
    );
}

/// The completion leaf of a call could not be written.
pub fn completions_not_written(calls: usize) {
    if let Some(kept_back) = COMPLETIONS_LOST.pass() {
        warn!(event = "completions_not_written", calls, kept_back);
    }
}

/// A call was forwarded.
pub fn call_forwarded(admitted: &Admitted) {
    debug!(
        event = "call_forwarded",
        client = %admitted.client,
        grant = %admitted.grant,
        target = %admitted.target,
    );
}

/// A call was not forwarded, or its answer did not come.
pub fn call_refused(error: &CallError) {
    let reason = error.reason();
    refusals::CALLS.one(reason);
    traces::reason(reason);
    if let Some(kept_back) = CALLS_REFUSED.pass() {
        info!(event = "call_refused", reason, kept_back);
    }
}

/// A call that the API answered by 401 was not sent again: there is no other upstream access token. The caller gets what
/// the API said.
pub fn call_not_repeated(error: &CallError) {
    let reason = error.reason();
    if let Some(kept_back) = CALLS_REFUSED.pass() {
        info!(event = "call_not_repeated", reason, kept_back);
    }
}

/// A log could not be read for somebody who asked.
pub fn log_not_read(error: &LogReadError) {
    if let Some(kept_back) = LOGS_NOT_READ.pass() {
        error!(event = "log_not_read", %error, kept_back);
    }
}
