//! `freeze`, `thaw`, `freezes`: stop what a subject touches, and see what is stopped.

use clap::{Args, ValueEnum};
use proto::v1;
use proto::v1::freeze_subject::Subject;
use serde_json::json;
use tokenkeep::AttestedChannel;
use tokenkeep::rpc_error::answer;

use super::failure::Failure;
use super::output::Output;
use super::record::Record;

/// What can be frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A registered workload
    Client,
    /// A tenant's consent to an app
    Grant,
    /// A vendor's registration at a provider
    App,
    /// All clients and apps of a vendor
    Vendor,
    /// All grants of a tenant
    Tenant,
    /// All grants at a provider
    Provider,
    /// A DPoP key, by its thumbprint
    Key,
}

#[derive(Debug, Args)]
pub(crate) struct FreezeArgs {
    /// What to stop
    kind: Kind,
    /// Its id; for a key its RFC 7638 thumbprint
    id: String,
    /// Stop it for this tenant's grants only [default: for all tenants, as operator]
    #[arg(long)]
    tenant: Option<String>,
    /// Why; it is shown to those who look and kept in the log
    #[arg(long)]
    reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct ThawArgs {
    /// What was stopped
    kind: Kind,
    /// Its id; for a key its RFC 7638 thumbprint
    id: String,
    /// The tenant that the freeze was for [default: all tenants, as operator]
    #[arg(long)]
    tenant: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct FreezesArgs {
    /// Freezes for this tenant [default: those for all tenants, as operator]
    #[arg(long)]
    tenant: Option<String>,
}

impl Kind {
    fn subject(self, id: String) -> Option<v1::FreezeSubject> {
        let subject = match self {
            Self::Client => Subject::Client(id),
            Self::Grant => Subject::Grant(id),
            Self::App => Subject::App(id),
            Self::Vendor => Subject::Vendor(id),
            Self::Tenant => Subject::Tenant(id),
            Self::Provider => Subject::Provider(id),
            Self::Key => Subject::Jkt(id),
        };
        Some(v1::FreezeSubject {
            subject: Some(subject),
        })
    }
}

/// Returns when the stop is durable and nothing is issued against it any more.
pub(crate) async fn freeze(
    args: FreezeArgs,
    channel: &AttestedChannel,
    output: Output,
) -> Result<(), Failure> {
    let FreezeArgs {
        kind,
        id,
        tenant,
        reason,
    } = args;
    let request = v1::FreezeRequest {
        subject: kind.subject(id),
        reason,
        tenant: tenant.unwrap_or_default(),
    };
    let done = answer(channel.grants().freeze(request)).await?.into_inner();
    let freeze = done
        .freeze
        .ok_or_else(|| Failure::answer("the answer has no freeze"))?;
    let [kind, id, tenant, reason, since_s, by] = fields(freeze);
    output.record(&Record::new([
        kind,
        id,
        tenant,
        reason,
        since_s,
        by,
        ("epoch", json!(done.epoch)),
    ]))
}

pub(crate) async fn thaw(
    args: ThawArgs,
    channel: &AttestedChannel,
    output: Output,
) -> Result<(), Failure> {
    let ThawArgs { kind, id, tenant } = args;
    let request = v1::ThawRequest {
        subject: kind.subject(id),
        tenant: tenant.unwrap_or_default(),
    };
    let done = answer(channel.grants().thaw(request)).await?.into_inner();
    output.record(&Record::new([("epoch", json!(done.epoch))]))
}

pub(crate) async fn freezes(
    args: FreezesArgs,
    channel: &AttestedChannel,
    output: Output,
) -> Result<(), Failure> {
    let request = v1::ListFreezesRequest {
        tenant: args.tenant.unwrap_or_default(),
    };
    let found = answer(channel.grants().list_freezes(request)).await?;
    let freezes = found.into_inner().freezes.into_iter();
    let records: Vec<Record> = freezes.map(|freeze| Record::new(fields(freeze))).collect();
    output.records("freezes", &records)
}

fn fields(freeze: v1::Freeze) -> [(&'static str, serde_json::Value); 6] {
    let v1::Freeze {
        subject,
        reason,
        since_s,
        by,
        tenant,
    } = freeze;
    let (kind, id) = match subject.and_then(|subject| subject.subject) {
        Some(Subject::Client(id)) => ("client", id),
        Some(Subject::Grant(id)) => ("grant", id),
        Some(Subject::App(id)) => ("app", id),
        Some(Subject::Vendor(id)) => ("vendor", id),
        Some(Subject::Tenant(id)) => ("tenant", id),
        Some(Subject::Provider(id)) => ("provider", id),
        Some(Subject::Jkt(id)) => ("key", id),
        None => ("unknown", String::new()),
    };
    [
        ("kind", json!(kind)),
        ("id", json!(id)),
        ("tenant", json!(tenant)),
        ("reason", json!(reason)),
        ("since_s", json!(since_s)),
        ("by", json!(by)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_subject_is_sent_and_shown_as_itself() {
        for kind in Kind::value_variants() {
            let subject = kind.subject("x1".to_owned());
            let freeze = v1::Freeze {
                subject,
                ..Default::default()
            };
            let [shown, id, ..] = fields(freeze);
            let name = kind.to_possible_value().unwrap();
            assert_eq!(shown, ("kind", json!(name.get_name())));
            assert_eq!(id, ("id", json!("x1")));
        }
    }
}
