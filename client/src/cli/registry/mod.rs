//! Registry commands: who takes part.

mod app;
mod client;
mod operations;
mod party;
mod profile;
mod provider;

pub(crate) use app::AppCommand;
pub(crate) use client::ClientCommand;
pub(crate) use party::{TenantCommand, VendorCommand, run_tenant, run_vendor};
pub(crate) use provider::ProviderCommand;

use super::failure::Failure;

/// An answer without what it is about.
fn missing(what: &str) -> Failure {
    Failure::answer(format!("the answer has no {what}"))
}

/// What an administrator asked for and nobody registered.
fn not_found(what: &str, id: &str) -> Failure {
    Failure::new(
        super::exit::Exit::Refused,
        format!("no {what} {id:?}"),
        "check the id; what you may not know about is answered in the same way",
    )
}
