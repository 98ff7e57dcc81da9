//! The files people write: policy and manifest, their samples, and every fault that a reader must name.

#![expect(
    clippy::unwrap_used,
    reason = "a test that fails is a test that panics"
)]

mod manifest;
mod policy;

use attestation::{FieldFault, FieldProblem};

/// A fault by a broken rule.
fn invalid(path: &str, rule: &'static str) -> FieldFault {
    fault(path, FieldProblem::Invalid { rule })
}

fn fault(path: &str, problem: FieldProblem) -> FieldFault {
    FieldFault {
        path: path.to_owned(),
        problem,
    }
}
