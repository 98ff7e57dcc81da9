//! What happens to a consent next, for whoever began it.

use std::pin::pin;
use std::time::Duration;

use enclave::admin::Administrator;
use enclave::connect::Awaited;
use proto::v1;
use proto::v1::ConnectProgress;
use tokio::time::timeout;

use crate::consents::Outcome;
use crate::grpc::administrator::refuse;
use crate::grpc::convert;
use crate::shell::Shell;
use crate::status::Refusal;

/// How long an answer waits for something to happen, within the deadline of a request.
const WITHIN: Duration = Duration::from_secs(8);

/// Waits for the next thing that happens.
pub(super) async fn awaited(
    shell: &Shell,
    by: &Administrator,
    handle: &str,
) -> Result<v1::AwaitConnectResponse, Refusal> {
    let happened = async {
        match shell.consents.device(handle, by) {
            Some(outcome) => device(outcome).await,
            None => browser(shell, by, handle).await,
        }
    };
    match timeout(WITHIN, happened).await {
        Ok(answer) => answer,
        Err(_elapsed) => Ok(progress(ConnectProgress::Pending)),
    }
}

async fn device(mut outcome: Outcome) -> Result<v1::AwaitConnectResponse, Refusal> {
    let over = match outcome.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone(),
        // Its task was torn down with the service.
        Err(_) => None,
    };
    let view = over.ok_or_else(Refusal::internal)??;
    Ok(v1::AwaitConnectResponse {
        progress: ConnectProgress::Done.into(),
        grant: Some(convert::grant_message(view)),
    })
}

async fn browser(
    shell: &Shell,
    by: &Administrator,
    state: &str,
) -> Result<v1::AwaitConnectResponse, Refusal> {
    loop {
        // Listened for before it is looked at, so that nothing is missed in between.
        let mut came = pin!(shell.consents.came().notified());
        came.as_mut().enable();
        let now = shell.clock.now();
        let found = shell.enclave.awaited_connect(by, state, &now);
        match found.map_err(refuse)? {
            Awaited::Came => return Ok(progress(ConnectProgress::CameBack)),
            Awaited::Pending => came.await,
        }
    }
}

fn progress(progress: ConnectProgress) -> v1::AwaitConnectResponse {
    v1::AwaitConnectResponse {
        progress: progress.into(),
        grant: None,
    }
}
