//! What a listener grants its peers.

use std::time::Duration;

/// Bounds of one listener. [`Limits::default`] is what ships.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; more are closed as they arrive.
    pub max_connections: usize,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How long the first request's head may take, and with HTTP/1 each one's.
    pub head_timeout: Duration,
    /// After this a connection is asked to go and gets no new requests.
    pub connection_age: Duration,
    /// How long requests may go on after a connection was asked to go.
    pub drain: Duration,
    /// Concurrent HTTP/2 streams of one connection.
    pub max_streams: u32,
    /// Bytes of a request's head.
    pub max_head_bytes: u32,
    /// How long a peer may take nothing of an answer.
    pub unread: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 4_096,
            handshake_timeout: Duration::from_secs(5),
            head_timeout: Duration::from_secs(10),
            connection_age: Duration::from_secs(3_600),
            drain: Duration::from_secs(30),
            max_streams: 128,
            max_head_bytes: 16 * 1024,
            unread: Duration::from_secs(15),
        }
    }
}
