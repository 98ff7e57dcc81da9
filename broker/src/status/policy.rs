//! What an administrator learns of a policy that is not set.

use enclave::admin::PolicyError;
use tonic::Code;

use super::Refusal;

impl From<&PolicyError> for Refusal {
    fn from(error: &PolicyError) -> Self {
        match error {
            PolicyError::Faults(faults) => Self::argument("text", faults.to_string()),
            PolicyError::Sequence { .. } => {
                Self::new(Code::Aborted, "POLICY_SEQUENCE", error.to_string())
            }
            PolicyError::Unsigned { .. } => Self::new(
                Code::FailedPrecondition,
                "POLICY_SIGNATURE_REQUIRED",
                error.to_string(),
            ),
            PolicyError::Signature(fault) => Self::argument("signature", fault.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use enclave::admin::{AdminError, PolicySignatureFault};

    use super::*;

    #[test]
    fn each_error_has_its_code_and_reason() {
        let rows = [
            (
                PolicyError::Sequence { current: 7 },
                Code::Aborted,
                "POLICY_SEQUENCE",
                "7",
            ),
            (
                PolicyError::Unsigned {
                    reasons: vec!["a is gone".into()],
                },
                Code::FailedPrecondition,
                "POLICY_SIGNATURE_REQUIRED",
                "a is gone",
            ),
            (
                PolicyError::Signature(PolicySignatureFault::NotAnOwner),
                Code::InvalidArgument,
                "INVALID_REQUEST",
                "owner",
            ),
        ];
        for (error, code, reason, word) in rows {
            let refusal = Refusal::from(&AdminError::from(error));
            assert_eq!((refusal.code, refusal.reason), (code, reason));
            assert!(refusal.message.contains(word), "{}", refusal.message);
        }
    }
}
