//! A provider's own token for a client, bound to the client's key: ask the enclave, exchange with the client's proof,
//! make durable, give out.

use std::sync::Arc;

use enclave::issue::{IssueRequest, Issued};
use enclave::log::Receipt;
use enclave::pending::Pending;
use enclave::upstream_bound::{Seeking, UpstreamBoundError};

use crate::events;
use crate::refresher::Refresher;
use crate::shell::Shell;
use crate::status::Refusal;

/// Gives a client a provider's token, which leaves when its leaf is durable, with the leaf's receipt.
///
/// # Errors
/// [`Refusal`].
pub async fn issue(
    shell: &Arc<Shell>,
    refresher: &Arc<Refresher>,
    request: &IssueRequest<'_>,
    upstream_proof: Option<&[u8]>,
) -> Result<(Issued, Option<Receipt>), Refusal> {
    let pending = seek(shell, refresher, request, upstream_proof).await;
    let issued = match pending {
        Ok(pending) => shell.settle_with_receipt(pending).await,
        Err(error) => Err(Refusal::from(&error)),
    };
    match &issued {
        Ok((issued, _receipt)) => events::upstream_token_released(issued),
        Err(refusal) => events::token_refused(refusal),
    }
    issued
}

async fn seek(
    shell: &Arc<Shell>,
    refresher: &Arc<Refresher>,
    request: &IssueRequest<'_>,
    upstream_proof: Option<&[u8]>,
) -> Result<Pending<Issued>, UpstreamBoundError> {
    let (enclave, now) = (&shell.enclave, || shell.clock.now());
    let (sought, access) = match enclave.seek_upstream(request, upstream_proof, &now())? {
        Seeking::Refused(refusal) => return Ok(refusal),
        Seeking::Held(sought, access) => (sought, access),
        Seeking::Exchange(sought, proof) => {
            let exchanged = refresher.relay(&sought.grant, &sought.wanted, proof).await;
            match exchanged {
                Ok(access) => (sought, access),
                Err(error) => return Err(sought.refused(error)),
            }
        }
    };
    enclave.give_upstream(sought, &access, &now())
}
