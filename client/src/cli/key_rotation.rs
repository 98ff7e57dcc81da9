//! `key list` and `key rotate`: the keys that the enclave speaks with, and tenants' keys.

use clap::ValueEnum;
use proto::v1;
use serde_json::{Value, json};
use tokenkeep::AttestedChannel;
use tokenkeep::rpc_error::answer;

use super::failure::Failure;
use super::output::Output;
use super::record::Record;

/// A key that can be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindArg {
    /// Signs tokens
    Signing,
    /// The enclave CA
    Ca,
    /// Deposits are sealed to it
    Deposit,
    /// Signs checkpoints of the logs
    Log,
    /// A tenant's own
    Tenant,
}

impl From<KindArg> for v1::KeyKind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Signing => Self::Signing,
            KindArg::Ca => Self::Ca,
            KindArg::Deposit => Self::Deposit,
            KindArg::Log => Self::Log,
            KindArg::Tenant => Self::Tenant,
        }
    }
}

pub(crate) async fn list(
    tenant: Option<String>,
    channel: &AttestedChannel,
    output: Output,
) -> Result<(), Failure> {
    let request = v1::ListKeysRequest {
        tenant: tenant.unwrap_or_default(),
    };
    let found = answer(channel.keys().list_keys(request)).await?;
    print(found.into_inner().keys, output)
}

pub(crate) async fn rotate(
    kind: KindArg,
    tenant: Option<String>,
    overlap_s: Option<u64>,
    channel: &AttestedChannel,
    output: Output,
) -> Result<(), Failure> {
    let request = v1::RotateKeyRequest {
        kind: v1::KeyKind::from(kind).into(),
        tenant: tenant.unwrap_or_default(),
        overlap_s,
    };
    let done = answer(channel.keys().rotate_key(request)).await?;
    print(done.into_inner().keys, output)
}

fn print(keys: Vec<v1::Key>, output: Output) -> Result<(), Failure> {
    let records: Vec<Record> = keys.into_iter().map(record).collect();
    output.records("keys", &records)
}

fn record(key: v1::Key) -> Record {
    let kind = match key.kind() {
        v1::KeyKind::Unspecified => "unknown",
        v1::KeyKind::Signing => "signing",
        v1::KeyKind::Ca => "ca",
        v1::KeyKind::Deposit => "deposit",
        v1::KeyKind::Log => "log",
        v1::KeyKind::Tenant => "tenant",
    };
    let time = |s: u64| if s == 0 { Value::Null } else { json!(s) };
    Record::new([
        ("kind", json!(kind)),
        ("number", json!(key.number)),
        ("state", json!(key.state)),
        ("made_at_s", time(key.made_at_s)),
        ("until_s", time(key.until_s)),
        ("id", json!(key.id)),
    ])
}
