//! Time as the enclave sees it: an interval that the wall clock lies in, and the
//! monotonic clock of this boot.

/// The moment of a decision, read once at the edge and passed in.
///
/// The host's wall clock is not trusted, so the wall time is an interval:
/// expiry is checked against `hi_s`, lifetimes start at `lo_s`. What must not
/// hang on the host (nonces, replay, leases) is timed by `mono_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The earliest the wall time may be, Unix time in seconds.
    pub lo_s: u64,
    /// The latest the wall time may be, Unix time in seconds.
    pub hi_s: u64,
    /// Milliseconds on the monotonic clock since an arbitrary start.
    pub mono_ms: u64,
}
