//! Every event that this crate logs: its name and its typed fields.
//!
//! Nothing else in the crate calls `tracing`. Fields are numbers, kinds and
//! names that the operator chose; never bodies, headers, tokens or whole errors
//! of peers.

use std::io;
use std::net::SocketAddr;
use tracing::{debug, error, info, warn};

use crate::listener::Name;
use crate::store::{OpenReport, TornTail};

/// A listener accepts connections.
pub fn listener_started(listener: Name, addr: SocketAddr) {
    info!(event = "listener_started", %listener, %addr);
}

/// A listener has drained; `cut` connections were closed at the deadline.
pub fn listener_stopped(listener: Name, cut: usize) {
    info!(event = "listener_stopped", %listener, cut);
}

/// A connection was closed at once, because the listener holds as many as it
/// may.
pub fn connection_refused(listener: Name, peer: SocketAddr) {
    warn!(event = "connection_refused", %listener, %peer);
}

/// The system gave no connection.
pub fn accept_failed(listener: Name, kind: io::ErrorKind) {
    error!(event = "accept_failed", %listener, %kind);
}

/// A peer did not complete the TLS handshake.
pub fn handshake_failed(listener: Name, peer: SocketAddr, kind: io::ErrorKind) {
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
