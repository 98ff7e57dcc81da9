//! Exchanges a token that was deposited, so that a copy of it that was left elsewhere is of no use.

use std::sync::Arc;
use std::time::Duration;

use enclave::admin::{Administrator, GrantView};
use enclave::custody::Exposure;
use enclave::refresh::RefreshError;
use proto::v1;

use crate::gateway::reason_of_refresh;
use crate::grpc::convert;
use crate::refresher::Refresher;
use crate::shell::Shell;

/// How long a deposit's answer waits for the exchange, within the deadline of a request. What takes longer goes on by
/// itself.
const WITHIN: Duration = Duration::from_secs(11);

/// The longest wait for a provider's patience between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What an exchange of a deposited token needs.
#[derive(Debug)]
pub(super) struct Rotating {
    pub(super) shell: Arc<Shell>,
    pub(super) refresher: Arc<Refresher>,
}

/// What became of a deposit.
#[derive(Debug)]
pub(super) struct Deposited {
    view: GrantView,
    rotation: v1::DepositRotation,
    pending_reason: &'static str,
}

impl Deposited {
    /// The token was to be left as it is.
    pub(super) const fn left(view: GrantView) -> Self {
        Self {
            view,
            rotation: v1::DepositRotation::Left,
            pending_reason: "",
        }
    }

    pub(super) fn into_message(self) -> v1::DepositGrantResponse {
        v1::DepositGrantResponse {
            grant: Some(convert::grant_message(self.view)),
            rotation: self.rotation.into(),
            pending_reason: self.pending_reason.to_owned(),
        }
    }
}

impl Rotating {
    /// Exchanges it, as far as that can be done in the time of a request. What can't is due with the grants that are
    /// used by themselves.
    pub(super) async fn run(self, by: Administrator, deposited: GrantView) -> Deposited {
        let failed = match tokio::time::timeout(WITHIN, self.exchange(&deposited)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(reason_of_refresh(&error)),
            Err(_elapsed) => Some("UNDER_WAY"),
        };
        // What custody says is the truth, whatever an exchange made of its access token.
        let view = self.shell.enclave.grant(&by, &deposited.grant.id);
        let view = view.unwrap_or(deposited);
        let (rotation, pending_reason) = match (view.needs_consent, view.exposure) {
            (Some(_), _) => (v1::DepositRotation::Refused, ""),
            (None, Exposure::None) => (v1::DepositRotation::Rotated, ""),
            (None, Exposure::BeforeDeposit) => (v1::DepositRotation::Exposed, ""),
            // An exchange of what was there before the deposit may have been the one that ended.
            (None, Exposure::ToBeRotated) => {
                (v1::DepositRotation::Pending, failed.unwrap_or("UNDER_WAY"))
            }
        };
        Deposited {
            view,
            rotation,
            pending_reason,
        }
    }

    async fn exchange(&self, deposited: &GrantView) -> Result<(), RefreshError> {
        let id = &deposited.grant.id;
        loop {
            let wanted = self.shell.enclave.whole_grant(id);
            let wanted = wanted.ok_or(RefreshError::NoSuchGrant)?;
            let error = match self.refresher.access(id, &wanted).await {
                Ok(_access) => return Ok(()),
                Err(error) => error,
            };
            let pause = match &error {
                RefreshError::RateLimited { retry_after_s }
                | RefreshError::ProviderPaused { retry_after_s } => {
                    Duration::from_secs(*retry_after_s)
                }
                RefreshError::Limit(limit) => Duration::from_millis(limit.retry_after_ms()),
                // The exchange is over, or what stands in its way is not over in a moment.
                RefreshError::NoSuchGrant
                | RefreshError::Frozen { .. }
                | RefreshError::NotWitnessed
                | RefreshError::Revoked
                | RefreshError::NeedsConsent { .. }
                | RefreshError::ProviderUnreachable
                | RefreshError::ProviderUnclear
                | RefreshError::ProviderRefused { .. }
                | RefreshError::RefusedWithProof
                | RefreshError::ProofNonce { .. }
                | RefreshError::TooManyKeys { .. }
                | RefreshError::Quiet { .. }
                | RefreshError::UnusableToken(_)
                | RefreshError::Store(_)
                | RefreshError::Record(_) => return Err(error),
            };
            if pause > LONGEST_PAUSE {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }
}
