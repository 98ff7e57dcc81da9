//! New shares of all keyholders of the manifest, for a new quorum's secret.

use attestation::keyholder::{Operation, Released};
use attestation::manifest::Keyholder;
use enclave::keys::envelope::{Custody, EnvelopeError, NewHolder, QuorumSecret, share_out};
use futures_util::future::join_all;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::Ground;
use super::ask::Target;
use crate::boot::StartError;
use crate::events;

/// Why there are no new shares.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// Not all keyholders gave one; those that did have destroyed it again, or were asked to.
    #[error("{found} of {all} keyholders made a new share: all of them must")]
    Missing {
        /// As many did.
        found: usize,
        /// As many there are.
        all: usize,
    },
    /// They can't be used.
    #[error("the root key can't be shared among the keyholders")]
    Share(#[from] EnvelopeError),
    /// No random bytes.
    #[error(transparent)]
    Start(#[from] Box<StartError>),
}

impl From<StartError> for EnrolError {
    fn from(error: StartError) -> Self {
        Self::Start(Box::new(error))
    }
}

pub(super) fn target(keyholder: &Keyholder) -> Target {
    Target {
        name: keyholder.name.clone(),
        url: keyholder.url.clone(),
        key: keyholder.key,
    }
}

/// 16 random bytes: the id of a state or a share.
pub(super) fn new_id() -> Result<[u8; 16], StartError> {
    let mut id = [0; 16];
    SystemRandom::new()
        .fill(&mut id)
        .map_err(|_| StartError::Random)?;
    Ok(id)
}

impl Ground {
    /// A quorum's secret that nobody has yet, and who holds it: all keyholders make a share for it.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub(super) async fn enrol(
        &self,
        state: [u8; 16],
    ) -> Result<(Custody, QuorumSecret), EnrolError> {
        let table = &self.keyholders;
        let asked = table.keyholders.iter().map(|keyholder| async move {
            let target = target(keyholder);
            let share = new_id()?;
            match Box::pin(self.asker.ask(&target, Operation::Enrol, state, share)).await {
                Ok(Released::Share(secret)) => Ok(Some(NewHolder {
                    name: target.name,
                    url: target.url,
                    key: target.key,
                    share,
                    secret,
                })),
                Ok(Released::Destroyed) => Ok(None),
                Err(fault) => {
                    events::keyholder_fault(&target.name, Operation::Enrol, &fault);
                    Ok(None)
                }
            }
        });
        let answers: Result<Vec<_>, StartError> = join_all(asked).await.into_iter().collect();
        let holders: Vec<NewHolder> = answers?.into_iter().flatten().collect();
        let (found, all) = (holders.len(), table.keyholders.len());
        if found < all {
            self.take_back(state, &holders).await;
            return Err(EnrolError::Missing { found, all });
        }
        let rng = SystemRandom::new();
        let secret = QuorumSecret::generate(&rng).map_err(EnvelopeError::from)?;
        let custody = share_out(&secret, &state, table.quorum, &holders, &rng)?;
        Ok((custody, secret))
    }

    /// Has shares destroyed that nothing was wrapped with.
    async fn take_back(&self, state: [u8; 16], holders: &[NewHolder]) {
        let asked = holders.iter().map(|holder| async move {
            let target = Target {
                name: holder.name.clone(),
                url: holder.url.clone(),
                key: holder.key,
            };
            let destroy = Operation::Destroy;
            let asked = Box::pin(self.asker.ask(&target, destroy, state, holder.share));
            if let Err(fault) = asked.await {
                events::keyholder_fault(&target.name, destroy, &fault);
            }
        });
        join_all(asked).await;
    }
}
