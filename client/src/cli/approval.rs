//! `approval`: calls that a person of the tenant must agree to.

use clap::Subcommand;
use proto::v1;
use serde_json::json;
use tokenkeep::AttestedChannel;
use tokenkeep::rpc_error::answer;

use super::exit::manual;
use super::failure::Failure;
use super::output::Output;
use super::record::Record;

/// Calls that a person of the tenant must agree to
#[derive(Debug, Subcommand)]
pub(crate) enum ApprovalCommand {
    /// List the calls that wait for a decision or are decided, the oldest first
    #[command(after_long_help = manual!("  tokenkeep approval list --tenant acme\n  tokenkeep --json approval list --tenant acme"))]
    List {
        /// The tenant
        #[arg(long)]
        tenant: String,
    },
    /// Let a call be made: once, by the same client, within ten minutes
    ///
    /// It covers method, path and query, not the body.
    #[command(after_long_help = manual!("  tokenkeep approval approve 3q2-7w --reason 'agreed by phone'"))]
    Approve {
        /// The approval, as the refused client was told and `list` shows it
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// Why, for the log
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let a call not be made; an approval that was not used yet is taken back
    #[command(after_long_help = manual!("  tokenkeep approval deny 3q2-7w --reason 'nobody asked for that'"))]
    Deny {
        /// The approval
        #[arg(allow_hyphen_values = true)]
        id: String,
        /// Why, for the log
        #[arg(long, default_value = "")]
        reason: String,
    },
}

pub(crate) async fn run(
    command: ApprovalCommand,
    channel: &AttestedChannel,
    output: Output,
) -> Result<(), Failure> {
    let mut grants = channel.grants();
    let (id, reason, decision) = match command {
        ApprovalCommand::List { tenant } => {
            let request = v1::ListApprovalsRequest { tenant };
            let found = answer(grants.list_approvals(request)).await?.into_inner();
            let records: Vec<Record> = found.approvals.into_iter().map(record).collect();
            return output.records("approvals", &records);
        }
        ApprovalCommand::Approve { id, reason } => (id, reason, v1::ApprovalDecision::Approve),
        ApprovalCommand::Deny { id, reason } => (id, reason, v1::ApprovalDecision::Deny),
    };
    let request = v1::DecideApprovalRequest {
        id,
        decision: decision.into(),
        reason,
    };
    let decided = answer(grants.decide_approval(request)).await?.into_inner();
    let approval = decided.approval;
    output.record(&record(
        approval.ok_or_else(|| Failure::answer("the answer has no approval"))?,
    ))
}

fn record(approval: v1::Approval) -> Record {
    let v1::Approval {
        id,
        tenant: _,
        grant,
        client,
        operation,
        method,
        path_and_query,
        actors,
        asked_at_s,
        state: number,
        by,
        ends_in_s,
    } = approval;
    Record::new([
        ("id", json!(id)),
        ("state", json!(state(number))),
        ("grant", json!(grant)),
        ("client", json!(client)),
        ("actors", json!(actors)),
        ("operation", json!(operation)),
        ("method", json!(method)),
        ("path", json!(path_and_query)),
        ("asked_at_s", json!(asked_at_s)),
        ("ends_in_s", json!(ends_in_s)),
        ("by", json!(by)),
    ])
}

fn state(number: i32) -> String {
    match v1::ApprovalState::try_from(number) {
        Ok(v1::ApprovalState::Waiting) => "waiting".to_owned(),
        Ok(v1::ApprovalState::Approved) => "approved".to_owned(),
        Ok(v1::ApprovalState::Denied) => "denied".to_owned(),
        Ok(v1::ApprovalState::Unspecified) | Err(_) => format!("unknown ({number})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_state_is_never_shown_as_approved() {
        assert_eq!(state(v1::ApprovalState::Approved.into()), "approved");
        assert_eq!(state(0), "unknown (0)");
        assert_eq!(state(99), "unknown (99)");
    }
}
