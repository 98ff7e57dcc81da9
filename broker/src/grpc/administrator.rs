//! Who administers over gRPC, and what refused administrators learn.

use enclave::admin::{AdminError, Administrator};
use tonic::Request;

use crate::events;
use crate::shell::Shell;
use crate::status::Refusal;

/// The administrator whose certificate came with the connection.
pub(super) fn caller<'a, T>(
    shell: &'a Shell,
    request: &Request<T>,
) -> Result<&'a Administrator, Refusal> {
    shell
        .enclave
        .administrator(&shell.peer(request.extensions()))
        .map_err(|error| Refusal::from(&error))
}

/// Logs a refusal and gives what the caller learns.
pub(super) fn refuse(error: AdminError) -> Refusal {
    let refusal = Refusal::from(&error);
    events::admin_refused(&refusal);
    refusal
}
