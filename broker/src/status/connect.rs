//! What an administrator learns when nothing came of a consent.

use std::time::Duration;

use enclave::connect::ConnectError;
use tonic::Code;

use super::Refusal;

impl From<&ConnectError> for Refusal {
    fn from(error: &ConnectError) -> Self {
        let (code, reason) = match error {
            ConnectError::NotUnderWay => (Code::FailedPrecondition, "CONNECT_NOT_UNDER_WAY"),
            ConnectError::Issuer => (Code::InvalidArgument, "CONNECT_OTHER_ISSUER"),
            ConnectError::NoIssuer => (Code::InvalidArgument, "CONNECT_NO_ISSUER"),
            ConnectError::Frozen => (Code::FailedPrecondition, "FROZEN"),
            ConnectError::NotWitnessed => (Code::Unavailable, "NOT_WITNESSED"),
            ConnectError::Unreachable => (Code::Unavailable, "PROVIDER_UNREACHABLE"),
            ConnectError::Unclear => (Code::Unavailable, "PROVIDER_NO_ANSWER"),
            ConnectError::Refused(_) => (Code::FailedPrecondition, "PROVIDER_REFUSED"),
            ConnectError::Unusable(_) => (Code::FailedPrecondition, "PROVIDER_TOKEN_REFUSED"),
            ConnectError::FewerScopes => (Code::FailedPrecondition, "CONNECT_FEWER_SCOPES"),
            ConnectError::Denied => (Code::FailedPrecondition, "CONNECT_DENIED"),
            ConnectError::Late => (Code::FailedPrecondition, "CONNECT_TOO_LATE"),
            ConnectError::Confirmation => (Code::InvalidArgument, "CONNECT_CONFIRMATION"),
            ConnectError::AnotherUser => (Code::FailedPrecondition, "CONNECT_ANOTHER_USER"),
        };
        let refusal = Self::new(code, reason, error.to_string());
        if *error == ConnectError::NotWitnessed {
            refusal.retry(Duration::from_secs(1))
        } else {
            refusal
        }
    }
}
