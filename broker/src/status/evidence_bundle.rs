//! What an auditor learns when there is no evidence bundle.

use std::time::Duration;

use tonic::Code;

use super::Refusal;
use crate::evidence_bundle::BundleError;

impl From<&BundleError> for Refusal {
    fn from(error: &BundleError) -> Self {
        match error {
            BundleError::Admin(error) => error.into(),
            BundleError::Evidence(error) => error.into(),
            BundleError::Log(error) => error.into(),
            BundleError::TooLarge { .. } => Self::new(
                Code::ResourceExhausted,
                "BUNDLE_TOO_LARGE",
                error.to_string(),
            ),
            BundleError::Saved(_) | BundleError::Sign(_) => Self::internal(),
        }
    }
}

impl Refusal {
    /// A tenant with more grants than one inventory lists.
    pub(super) fn inventory_too_large(rule: String) -> Self {
        Self::new(Code::ResourceExhausted, "INVENTORY_TOO_LARGE", rule)
    }

    /// A bundle whose reader does not read on.
    #[must_use]
    pub fn slow_bundle_reader() -> Self {
        Self::new(
            Code::ResourceExhausted,
            "SLOW_CONSUMER",
            "the evidence bundle waited too long to be read: ask for it again",
        )
        .retry(Duration::from_secs(5))
    }

    /// More bundles at a time than are made.
    #[must_use]
    pub fn too_many_bundles() -> Self {
        Self::new(
            Code::ResourceExhausted,
            "TOO_MANY_BUNDLES",
            "other evidence bundles are being made: try again",
        )
        .retry(Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use attestation::SavedEvidenceError;
    use enclave::admin::AdminError;
    use enclave::keys::instance::SignStatementError;
    use enclave::log::LogError;

    use super::*;
    use crate::evidence::EvidenceError;
    use crate::log::LogReadError;

    #[test]
    fn each_error_has_its_code_and_reason() {
        let rows = [
            (
                BundleError::Admin(AdminError::Forbidden),
                Code::PermissionDenied,
                "FORBIDDEN",
            ),
            (
                BundleError::Admin(AdminError::InventoryTooLarge),
                Code::ResourceExhausted,
                "INVENTORY_TOO_LARGE",
            ),
            (
                BundleError::Evidence(EvidenceError::Busy),
                Code::ResourceExhausted,
                "EVIDENCE_BUSY",
            ),
            (
                BundleError::Log(LogReadError::Log(LogError::Key)),
                Code::Internal,
                "INTERNAL",
            ),
            (
                BundleError::TooLarge { found_bytes: 1 },
                Code::ResourceExhausted,
                "BUNDLE_TOO_LARGE",
            ),
            (
                BundleError::Saved(SavedEvidenceError::Base64 { field: "report" }),
                Code::Internal,
                "INTERNAL",
            ),
            (
                BundleError::Sign(SignStatementError::OtherBundle),
                Code::Internal,
                "INTERNAL",
            ),
        ];
        for (error, code, reason) in rows {
            let refusal = Refusal::from(&error);
            assert_eq!((refusal.code, refusal.reason), (code, reason), "{error}");
        }
        let busy = Refusal::too_many_bundles();
        assert_eq!(busy.reason, "TOO_MANY_BUNDLES");
        assert_eq!(busy.retry_after, Some(Duration::from_secs(5)));
        let slow = Refusal::slow_bundle_reader();
        assert_eq!(
            (slow.code, slow.reason),
            (Code::ResourceExhausted, "SLOW_CONSUMER")
        );
    }
}
