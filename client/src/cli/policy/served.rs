//! A tenant's policy in the service: shown, set, removed.

use attestation::manifest::MAX_SIGNATURE_BYTES;
use proto::v1;
use serde_json::{Value, json};
use tenant_policy::{Compiled, PolicyChange, compare};
use tokenkeep::AttestedChannel;
use tokenkeep::private_file::read_public;
use tokenkeep::rpc_error::answer;

use super::SetArgs;
use super::offline::{change_lines, signature, wanted};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::record::Record;
use crate::cli::session::Global;

async fn in_force(channel: &AttestedChannel, tenant: &str) -> Result<v1::Policy, Failure> {
    let request = v1::GetPolicyRequest {
        tenant: tenant.to_owned(),
    };
    let found = answer(channel.grants().get_policy(request)).await?;
    found
        .into_inner()
        .policy
        .ok_or_else(|| Failure::answer("the answer has no policy"))
}

pub(super) async fn show(tenant: String, global: &Global, output: Output) -> Result<(), Failure> {
    let policy = in_force(&global.channel().await?, &tenant).await?;
    if output.is_json() {
        let [a, b, c, d, e, f, g] = fields(&policy);
        let text = ("text", json!(policy.text));
        return output.record(&Record::new([a, b, c, d, e, f, g, text]));
    }
    // The text alone is the result, so that it can be kept as it is.
    for line in facts(&policy).lines() {
        output.note(&line)?;
    }
    output.bytes(policy.text.as_bytes()).map(|_open| ())
}

pub(super) async fn set(args: &SetArgs, global: &Global, output: Output) -> Result<(), Failure> {
    let SetArgs {
        wanted: want,
        tenant,
        sequence,
        signature: signature_file,
        owner_key,
    } = args;
    let new = wanted(want)?;
    let channel = global.channel().await?;
    let current = in_force(&channel, tenant).await?;
    // One that this program can't read counts as there; whether it loosens says the service.
    let old = Compiled::new(current.text.as_bytes()).ok();
    let found = compare(old.as_ref(), new.as_ref());
    let unread = old.is_none() && !current.text.is_empty();
    for line in change_lines(&found) {
        output.note(&line)?;
    }
    let sequence = sequence.unwrap_or(current.sequence);
    let signed = match (signature_file, owner_key) {
        (Some(path), _) => read_public(path, MAX_SIGNATURE_BYTES)?.to_vec(),
        (None, Some(key)) if unread || !found.loosens.is_empty() => {
            let issuer = issuer(global).await?;
            let change = PolicyChange {
                issuer: &issuer,
                tenant,
                sequence: sequence.saturating_add(1),
                before: current.sha256.as_slice().try_into().ok(),
                after: new.as_ref().map(|compiled| *compiled.sha256()),
            };
            signature(&change, key)?.into_bytes()
        }
        (None, _) => Vec::new(),
    };
    let request = v1::SetPolicyRequest {
        tenant: tenant.clone(),
        text: new
            .as_ref()
            .map(Compiled::text)
            .unwrap_or_default()
            .to_owned(),
        remove: want.remove,
        sequence,
        signature: signed,
    };
    let done = answer(channel.grants().set_policy(request)).await?;
    let policy = done
        .into_inner()
        .policy
        .ok_or_else(|| Failure::answer("the answer has no policy"))?;
    output.record(&facts(&policy))
}

/// The issuer that the verified manifest names.
async fn issuer(global: &Global) -> Result<String, Failure> {
    let inspection = global.inspect().await?;
    let manifest = global.bound_manifest(&inspection).await?;
    let manifest = manifest.map_err(|why| {
        Failure::new(
            Exit::Refused,
            format!("the service's issuer is not known: {why}"),
            "sign with `tokenkeep policy sign --issuer`",
        )
    })?;
    Ok(manifest.issuer().to_string())
}

fn fields(policy: &v1::Policy) -> [(&'static str, Value); 7] {
    let v1::Policy {
        tenant,
        sequence,
        text: _,
        sha256,
        set_at_s,
        by,
        signer_sha256,
        unusable,
    } = policy;
    [
        ("tenant", json!(tenant)),
        ("sequence", json!(sequence)),
        ("sha256", json!(hex::encode(sha256))),
        ("set_at_s", json!(set_at_s)),
        ("by", json!(by)),
        ("signer_sha256", json!(hex::encode(signer_sha256))),
        ("unusable", json!(unusable)),
    ]
}

fn facts(policy: &v1::Policy) -> Record {
    Record::new(fields(policy))
}
