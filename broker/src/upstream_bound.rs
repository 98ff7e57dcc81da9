//! A provider's own token for a client, bound to the client's key: ask the enclave, exchange with the client's proof,
//! make durable, give out.

use std::sync::Arc;

use enclave::issue::{IssueRequest, Issued};
use enclave::log::Receipt;
use enclave::pending::Pending;
use enclave::upstream_bound::Seeking;
use http::Extensions;

use crate::events;
use crate::metrics::stages::Laps;
use crate::refresher::Refresher;
use crate::room::waits;
use crate::shell::Shell;
use crate::status::Refusal;

/// Gives a client a provider's token, which leaves when its leaf is durable, with the leaf's receipt. Where the provider is
/// waited for, the request that came with these extensions gives its place up.
///
/// # Errors
/// [`Refusal`].
pub async fn issue(
    shell: &Arc<Shell>,
    refresher: &Arc<Refresher>,
    request: &IssueRequest<'_>,
    upstream_proof: Option<&[u8]>,
    extensions: &Extensions,
) -> Result<(Issued, Option<Receipt>), Refusal> {
    let issued = match seek(shell, refresher, request, upstream_proof, extensions).await {
        Ok(pending) => shell.settle_with_receipt(pending).await,
        Err(refusal) => Err(refusal),
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
    extensions: &Extensions,
) -> Result<Pending<Issued>, Refusal> {
    let (enclave, now) = (&shell.enclave, || shell.clock.now());
    let seeking = {
        let laps = Laps::start();
        enclave
            .seek_upstream(request, upstream_proof, &now(), &laps)
            .map_err(|error| Refusal::from(&error))?
    };
    let (sought, access) = match seeking {
        Seeking::Refused(refusal) => return Ok(refusal),
        Seeking::Held(sought, access) => (sought, access),
        Seeking::Exchange(sought, proof) => {
            waits(extensions)?;
            let exchanged = refresher.relay(&sought.grant, &sought.wanted, proof).await;
            match exchanged {
                Ok(access) => (sought, access),
                Err(error) => return Err(Refusal::from(&sought.refused(error))),
            }
        }
    };
    let given = enclave.give_upstream(sought, &access, &now());
    given.map_err(|error| Refusal::from(&error))
}
