//! What a caller learns of a chain of actors that is refused.

use enclave::actor::ActorError;
use tonic::Code;

use super::Refusal;

/// The stable reason for a chain that a grant does not allow.
pub(crate) const NOT_ALLOWED: &str = "ACTOR_CHAIN_NOT_ALLOWED";

/// What to tell a person of a chain that a grant does not allow.
#[must_use]
pub(crate) fn not_allowed(error: &ActorError) -> String {
    format!("{error}: ask the owner of the grant")
}

impl From<&ActorError> for Refusal {
    fn from(error: &ActorError) -> Self {
        match error {
            ActorError::TooMany | ActorError::Name => Self::argument("actors", error.to_string()),
            ActorError::TooDeep { .. } => {
                Self::new(Code::PermissionDenied, NOT_ALLOWED, not_allowed(error))
                    .oauth("access_denied")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use enclave::issue::IssueError;

    use super::*;

    #[test]
    fn each_refusal_of_a_chain_has_its_code_and_reason() {
        let rows = [
            (
                ActorError::TooMany,
                Code::InvalidArgument,
                "INVALID_REQUEST",
                "actors: at most 8",
            ),
            (
                ActorError::Name,
                Code::InvalidArgument,
                "INVALID_REQUEST",
                "actors: each 1 to 256 bytes, no control characters",
            ),
            (
                ActorError::TooDeep { allowed: 0 },
                Code::PermissionDenied,
                "ACTOR_CHAIN_NOT_ALLOWED",
                "the grant allows a chain of 0 actors: ask the owner of the grant",
            ),
        ];
        for (error, code, reason, message) in rows {
            let refusal = Refusal::from(&IssueError::from(error));
            assert_eq!((refusal.code, refusal.reason), (code, reason));
            assert_eq!(refusal.message, message);
        }
    }
}
