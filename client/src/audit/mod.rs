//! Audit: the service's logs, verified from their tiles alone, by whoever wants to.
//!
//! | module | holds |
//! | --- | --- |
//! | [`name`] | the logs, their origins and keys |
//! | [`leaf`] | the schema of leaves |
//! | [`numbers`] | the sequence numbers of each tenant |
//! | [`steps`] | what is read of a log, and in which order |
//! | [`check`] | one log, checked as it is read |
//! | [`verify`] | all logs of a service |
//! | [`report`] | what came of it |
//! | [`source`], [`web`] | where tiles come from: a folder, the public listener, memory |
//! | [`kept`] | the checkpoints that the auditor keeps |
//! | [`receipt`] | receipts and their proofs |
//! | [`export`] | a copy of the logs in a folder |

pub mod check;
pub mod export;
pub mod kept;
pub mod leaf;
pub mod name;
pub mod numbers;
pub mod receipt;
pub mod report;
pub mod source;
pub mod steps;
pub mod verify;
pub mod web;

pub use kept::Kept;
pub use name::{LogKeys, LogName};
pub use receipt::Receipt;
pub use report::{Fault, Finding, LogReport, Report};
pub use source::Source;
pub use verify::{Auditor, Witnesses};
