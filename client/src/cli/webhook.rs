//! `webhook`: where a tenant's events are posted to, and what receivers verify postings with.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use proto::v1;
use serde_json::{Value, json};
use tokenkeep::private_file::read_public;
use tokenkeep::rpc_error::answer;
use tokenkeep::webhook::{self, MAX_BODY_BYTES, MAX_JWKS_BYTES, Posted, Receiver};
use tokenkeep::{AttestedChannel, Clock as _, SystemClock};

use super::events::{Kind, word};
use super::exit::{Exit, manual};
use super::failure::Failure;
use super::output::Output;
use super::record::Record;
use super::session::Global;

const VERIFY_MANUAL: &str = "\
Examples:
  tokenkeep webhook verify --jwks jwks.json --body body.json --id siem-4711 \\
      --timestamp 1793500000 --signature \"$TOKENKEEP_SIGNATURE\" --tenant acme

Exit codes:
  0  the service posted it, to this tenant's webhook, a short while ago
  1  it is not to be believed
  2  wrong usage, or a file cannot be read
  3  never: nothing is half believed
  4  never: no server is asked";

/// A tenant's webhooks
#[derive(Debug, Subcommand)]
pub(crate) enum WebhookCommand {
    /// Have a tenant's events posted to a URL, signed
    ///
    /// Needs the owner's role: whoever answers at the URL reads the events. The gateway's rules for addresses hold: no
    /// private network is reached. Events are posted in their order, at least once, until they are answered with 2xx.
    #[command(after_long_help = manual!("  tokenkeep webhook create siem --tenant acme --url https://siem.example/tokenkeep\n  tokenkeep webhook create pager --tenant acme --url https://pager.example/hook \\\n      --kind freeze --kind loss --since 4711"))]
    Create(CreateArgs),
    /// List a tenant's webhooks
    #[command(after_long_help = manual!("  tokenkeep webhook list --tenant acme\n  tokenkeep --json webhook list --tenant acme"))]
    List {
        /// The tenant
        #[arg(long)]
        tenant: String,
    },
    /// Show a webhook: how far it was served, and since when it takes nothing
    #[command(after_long_help = manual!("  tokenkeep webhook show siem --tenant acme"))]
    Show(Which),
    /// Delete a webhook
    #[command(after_long_help = manual!("  tokenkeep webhook delete siem --tenant acme"))]
    Delete(Which),
    /// Post a signed test to a webhook, once, and say what was answered
    #[command(after_long_help = manual!("  tokenkeep webhook test siem --tenant acme"))]
    Test(Which),
    /// Verify what was posted, without a network, by the service's JWKS
    ///
    /// For receivers, and to try one out. `tokenkeep jwks export --verified > jwks.json` gives the keys.
    #[command(after_long_help = VERIFY_MANUAL)]
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Its id, among the tenant's
    id: String,
    /// The tenant
    #[arg(long)]
    tenant: String,
    /// Where to: an https URL
    #[arg(long)]
    url: String,
    /// Only events of this kind; repeat for more [default: all]
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<Kind>,
    /// From what follows the event at this position [default: only what is still to come]
    #[arg(long, value_name = "POSITION")]
    since: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The webhook's id
    id: String,
    /// The tenant
    #[arg(long)]
    tenant: String,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The service's JWKS
    #[arg(long, value_name = "FILE")]
    jwks: PathBuf,
    /// The body, byte for byte
    #[arg(long, value_name = "FILE")]
    body: PathBuf,
    /// The header webhook-id
    #[arg(long)]
    id: String,
    /// The header webhook-timestamp
    #[arg(long)]
    timestamp: String,
    /// The header tokenkeep-signature
    #[arg(long)]
    signature: String,
    /// The tenant whose events are expected
    #[arg(long)]
    tenant: Option<String>,
    /// The webhook that they are expected of
    #[arg(long)]
    webhook: Option<String>,
    /// The service's issuer that is expected
    #[arg(long)]
    issuer: Option<String>,
    /// How old it may be
    #[arg(long, value_name = "SECONDS", default_value_t = webhook::DEFAULT_MAX_AGE_S)]
    max_age_s: u64,
    /// Verify as of this time, in seconds since 1970; without it, now
    #[arg(long, value_name = "UNIX_TIME")]
    at: Option<u64>,
}

pub(crate) async fn run(
    command: WebhookCommand,
    global: &Global,
    output: Output,
) -> Result<Exit, Failure> {
    match command {
        WebhookCommand::Verify(args) => return verify(&args, output),
        WebhookCommand::Create(args) => create(args, &global.channel().await?, output).await?,
        WebhookCommand::List { tenant } => list(tenant, &global.channel().await?, output).await?,
        WebhookCommand::Show(which) => show(which, &global.channel().await?, output).await?,
        WebhookCommand::Delete(which) => delete(which, &global.channel().await?, output).await?,
        WebhookCommand::Test(which) => test(which, &global.channel().await?, output).await?,
    }
    Ok(Exit::Ok)
}

fn record(webhook: &v1::Webhook) -> Record {
    let v1::Webhook {
        tenant,
        id,
        url,
        kinds,
        created_at_s,
        by,
        next,
        failing_since_s,
        disabled_at_s,
    } = webhook;
    let kinds: Vec<String> = kinds.iter().map(|kind| word(*kind)).collect();
    let state = match (disabled_at_s, failing_since_s) {
        (0, 0) => "served",
        (0, _) => "failing",
        (_, _) => "disabled",
    };
    Record::new([
        ("id", json!(id)),
        ("tenant", json!(tenant)),
        ("url", json!(url)),
        ("kinds", json!(kinds)),
        ("state", json!(state)),
        ("next", json!(next)),
        ("failing_since_s", json!(failing_since_s)),
        ("disabled_at_s", json!(disabled_at_s)),
        ("created_at_s", json!(created_at_s)),
        ("by", json!(by)),
    ])
}

fn present(webhook: Option<v1::Webhook>) -> Result<v1::Webhook, Failure> {
    webhook.ok_or_else(|| Failure::answer("the service's answer has no webhook"))
}

async fn create(
    args: CreateArgs,
    channel: &AttestedChannel,
    output: Output,
) -> Result<(), Failure> {
    let CreateArgs {
        id,
        tenant,
        url,
        kinds,
        since,
    } = args;
    let request = v1::CreateWebhookRequest {
        tenant,
        id,
        url,
        kinds: kinds.iter().map(|kind| kind.number().into()).collect(),
        from: since.map(|since| since.saturating_add(1)),
    };
    let made = answer(channel.events().create_webhook(request)).await?;
    output.record(&record(&present(made.into_inner().webhook)?))
}

async fn list(tenant: String, channel: &AttestedChannel, output: Output) -> Result<(), Failure> {
    let request = v1::ListWebhooksRequest { tenant };
    let found = answer(channel.events().list_webhooks(request)).await?;
    let records: Vec<Record> = found.into_inner().webhooks.iter().map(record).collect();
    output.records("webhooks", &records)
}

async fn show(which: Which, channel: &AttestedChannel, output: Output) -> Result<(), Failure> {
    let Which { id, tenant } = which;
    let request = v1::GetWebhookRequest { tenant, id };
    let found = answer(channel.events().get_webhook(request)).await?;
    output.record(&record(&present(found.into_inner().webhook)?))
}

async fn delete(which: Which, channel: &AttestedChannel, output: Output) -> Result<(), Failure> {
    let Which { id, tenant } = which;
    let request = v1::DeleteWebhookRequest {
        tenant,
        id: id.clone(),
    };
    answer(channel.events().delete_webhook(request)).await?;
    output.record(&Record::new([("deleted", json!(id))]))
}

async fn test(which: Which, channel: &AttestedChannel, output: Output) -> Result<(), Failure> {
    let Which { id, tenant } = which;
    let request = v1::TestWebhookRequest { tenant, id };
    let posted = answer(channel.events().test_webhook(request)).await?;
    let v1::TestWebhookResponse { event_id, status } = posted.into_inner();
    output.record(&Record::new([
        ("event_id", json!(event_id)),
        ("status", json!(status)),
    ]))
}

fn verify(args: &VerifyArgs, output: Output) -> Result<Exit, Failure> {
    let VerifyArgs {
        jwks,
        body,
        id,
        timestamp,
        signature,
        tenant,
        webhook: expected,
        issuer,
        max_age_s,
        at,
    } = args;
    let (jwks, body) = (
        read_public(jwks, MAX_JWKS_BYTES)?,
        read_public(body, MAX_BODY_BYTES)?,
    );
    let posted = Posted {
        id,
        timestamp,
        signature,
        body: &body,
    };
    let receiver = Receiver {
        jwks: &jwks,
        tenant: tenant.as_deref(),
        webhook: expected.as_deref(),
        issuer: issuer.as_deref(),
        at_s: at.unwrap_or_else(|| SystemClock.unix_time_s()),
        max_age_s: *max_age_s,
    };
    let verified = webhook::verify(&posted, &receiver).map_err(|error| {
        Failure::new(
            Exit::Refused,
            error.to_string(),
            "do not act on it; if the service has a new key, export its JWKS again",
        )
    })?;
    let event = verified.event();
    let text = |name: &str| event.get(name).cloned().unwrap_or(Value::Null);
    if output.is_json() {
        output.json(event)?;
    } else {
        output.record(&Record::new([
            ("verified", json!(true)),
            ("id", text("id")),
            ("kind", text("kind")),
            ("tenant", text("tenant")),
            ("position", text("position")),
            ("at_s", text("at_s")),
        ]))?;
    }
    Ok(Exit::Ok)
}
