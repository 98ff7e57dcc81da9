//! What a caller learns of a request for several tokens, as a whole and of each.

use std::time::Duration;

use enclave::issue::SeveralError;
use proto::v1;

use super::Refusal;

impl From<&SeveralError> for Refusal {
    fn from(error: &SeveralError) -> Self {
        match error {
            SeveralError::Count { .. } => Self::argument("tokens", error.to_string()),
            SeveralError::Issue(error) => error.into(),
        }
    }
}

impl From<Refusal> for v1::TokenRefusal {
    fn from(refusal: Refusal) -> Self {
        let after_ms = |after: Duration| u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        Self {
            code: refusal.code.into(),
            reason: refusal.reason.to_owned(),
            message: refusal.message,
            oauth_error: refusal.oauth_error.unwrap_or_default().to_owned(),
            retry_after_ms: refusal.retry_after.map_or(0, after_ms),
        }
    }
}
