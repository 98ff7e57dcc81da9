//! What was refused, by its stable reason.

use super::reasons::Reasons;

/// Requests for tokens, and about tokens.
pub static TOKENS: Reasons = Reasons::new();

/// Requests of administrators.
pub static ADMINISTRATION: Reasons = Reasons::new();

/// Calls through the gateway.
pub static CALLS: Reasons = Reasons::new();
