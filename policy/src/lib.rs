//! Tenants' policies in Cedar: the published schema, what a policy may look like, what it decides, and whether a change
//! of it loosens.
//!
//! A policy narrows what a grant allows. It is compiled once and asked for each decision; the command line does the
//! same offline that the enclave does.

pub mod cases;
mod change;
mod compare;
mod compiled;
mod decision;
mod decisions;
mod fault;
mod looks;
mod question;
mod schema;
pub mod template;
mod text;

pub use change::PolicyChange;
pub use compare::{Comparison, compare};
pub use compiled::{Compiled, digest_of};
pub use decision::{Decision, Effect, Explained};
pub use decisions::Decisions;
pub use fault::{Fault, Faults, MAX_SHOWN_FAULTS};
pub use question::{Ask, Binding, Question};
pub use schema::SCHEMA;
pub use text::{MAX_DEPTH, MAX_POLICIES, MAX_POLICY_TOKENS, MAX_TEXT_BYTES};
