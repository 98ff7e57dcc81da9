//! The terms of a grant: what its tenant may set anew.

use clap::Args;
use proto::v1;
use tokenkeep::AttestedChannel;
use tokenkeep::rpc_error::answer;

use super::{no_grant, record};
use crate::cli::date;
use crate::cli::failure::Failure;
use crate::cli::limits::{self, LimitChange, TargetLimitChange};
use crate::cli::output::Output;

/// What is set of a grant's terms.
#[derive(Debug, Args)]
pub(super) struct TermsArgs {
    /// Who of the tenant answers for the grant, for people; empty for nobody
    #[arg(long)]
    owner: Option<String>,
    /// What the grant is for, for people; empty for nothing
    #[arg(long)]
    purpose: Option<String>,
    /// When to look at the grant again: a day, or none; the log tells when it has come
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = review)]
    review: Option<u64>,
    /// Let the grant fall asleep after so long without use, as 30d or 12h; none for never
    #[arg(long, value_name = "TIME", value_parser = idle)]
    sleep_after: Option<u64>,
    /// How many actors a token may be asked for on behalf of: at most 8 [default: none]
    #[arg(long, value_name = "NUMBER")]
    max_actor_depth: Option<u32>,
    /// An operation whose calls each need a person's approval, as api/contacts-delete, or none for no operation; repeat
    /// for more: together they replace those that there are
    #[arg(long = "approve-operation", value_name = "TARGET/OPERATION")]
    approval_operations: Vec<String>,
    /// What may be done with the grant: tokens, calls, bytes or exchanges, as calls=10/s:20, bytes=5G/d or
    /// calls=none; repeat for more
    #[arg(long = "limit", value_name = limits::FORM, value_parser = limits::limit_change)]
    limits: Vec<LimitChange>,
    /// The same for one of its targets, as api:calls=10/s; repeat for more
    #[arg(long = "target-limit", value_name = "TARGET:LIMIT", value_parser = limits::target_limit_change)]
    target_limits: Vec<TargetLimitChange>,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// The grant
    id: String,
    #[command(flatten)]
    terms: TermsArgs,
}

fn review(text: &str) -> Result<u64, String> {
    match text {
        "none" => Ok(0),
        day => date::parse(day),
    }
}

fn idle(text: &str) -> Result<u64, String> {
    match text {
        "none" => Ok(0),
        time => date::duration(time),
    }
}

impl TermsArgs {
    /// Whether nothing is set.
    fn is_empty(&self) -> bool {
        let Self {
            owner,
            purpose,
            review,
            sleep_after,
            max_actor_depth,
            approval_operations,
            limits,
            target_limits,
        } = self;
        let texts = [owner, purpose].into_iter().all(Option::is_none);
        let times = [review, sleep_after].into_iter().all(Option::is_none);
        let lists = approval_operations.is_empty() && limits.is_empty();
        texts && times && max_actor_depth.is_none() && lists && target_limits.is_empty()
    }

    /// Sets what is set, and leaves the rest.
    fn apply(self, terms: &mut v1::GrantTerms) {
        let Self {
            owner,
            purpose,
            review,
            sleep_after,
            max_actor_depth,
            approval_operations,
            limits: own,
            target_limits,
        } = self;
        terms.owner = owner.unwrap_or_else(|| std::mem::take(&mut terms.owner));
        terms.purpose = purpose.unwrap_or_else(|| std::mem::take(&mut terms.purpose));
        terms.review_at_s = review.unwrap_or(terms.review_at_s);
        terms.sleep_after_idle_s = sleep_after.unwrap_or(terms.sleep_after_idle_s);
        terms.max_actor_depth = max_actor_depth.unwrap_or(terms.max_actor_depth);
        if !approval_operations.is_empty() {
            let named = approval_operations
                .into_iter()
                .filter(|name| name != "none");
            terms.approval_operations = named.collect();
        }
        limits::apply(own, &mut terms.limits);
        limits::apply_at_targets(target_limits, &mut terms.target_limits);
    }

    /// The terms of a grant that is to be made; none if nothing is set.
    pub(super) fn wire(self) -> Option<v1::GrantTerms> {
        if self.is_empty() {
            return None;
        }
        let mut terms = v1::GrantTerms::default();
        self.apply(&mut terms);
        Some(terms)
    }
}

impl UpdateArgs {
    pub(super) async fn run(
        self,
        channel: &AttestedChannel,
        output: Output,
    ) -> Result<(), Failure> {
        let Self { id, terms: change } = self;
        if change.is_empty() {
            return Err(Failure::usage(
                "nothing is to be changed",
                "say what: see `tokenkeep grant update --help`",
            ));
        }
        let mut grants = channel.grants();
        let request = v1::GetGrantRequest { id: id.clone() };
        let found = answer(grants.get_grant(request)).await?.into_inner().grant;
        let mut terms = found.ok_or_else(no_grant)?.terms.unwrap_or_default();
        change.apply(&mut terms);
        let request = v1::UpdateGrantRequest {
            id,
            terms: Some(terms),
        };
        let made = answer(grants.update_grant(request)).await?.into_inner();
        output.record(&record(made.grant.ok_or_else(no_grant)?))
    }
}
