//! `audit list`, `audit tail` and `audit logs`: leaves for administrators.

use clap::Args;
use proto::v1;
use serde_json::{Value, json};
use tokenkeep::AttestedChannel;
use tokenkeep::rpc_error::{RpcError, answer};

use super::super::failure::Failure;
use super::super::members::members;
use super::super::output::Output;
use super::super::record::Record;

/// Leaves a page.
const PAGE: u32 = 100;

/// Which leaves.
#[derive(Debug, Args)]
struct Which {
    /// The log's origin, as `audit logs` lists it [default: the control log]
    #[arg(long, value_name = "ORIGIN", conflicts_with = "issuance")]
    log: Option<String>,
    /// The issuance log of the boot that runs
    #[arg(long)]
    issuance: bool,
    /// Only leaves of this tenant
    #[arg(long)]
    tenant: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    which: Which,
    /// The index to begin at
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    from: u64,
    /// At most this many leaves [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    which: Which,
    /// The index to begin at [default: the end of the log]
    #[arg(long, value_name = "INDEX")]
    from: Option<u64>,
}

impl Which {
    async fn log(&self, channel: &AttestedChannel) -> Result<String, Failure> {
        match (&self.log, self.issuance) {
            (Some(log), _) => Ok(log.clone()),
            (None, false) => Ok(String::new()),
            (None, true) => {
                let open = all_logs(channel)
                    .await?
                    .into_iter()
                    .rfind(|log| log.is_open);
                let open = open.ok_or_else(|| Failure::answer("the service has no open log"))?;
                Ok(open.origin)
            }
        }
    }

    fn tenant(&self) -> String {
        self.tenant.clone().unwrap_or_default()
    }
}

async fn all_logs(channel: &AttestedChannel) -> Result<Vec<v1::LogSummary>, Failure> {
    let mut logs = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListLogsRequest {
            page_size: 0,
            page_token,
        };
        let page = answer(channel.audit().list_logs(request))
            .await?
            .into_inner();
        logs.extend(page.logs);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(logs);
        }
    }
}

pub(crate) async fn logs(channel: &AttestedChannel, output: Output) -> Result<(), Failure> {
    let logs = all_logs(channel).await?;
    let records: Vec<Record> = logs
        .into_iter()
        .map(|log| {
            Record::new([
                ("origin", json!(log.origin)),
                ("size", json!(log.size)),
                ("open", json!(log.is_open)),
            ])
        })
        .collect();
    output.records("logs", &records)
}

pub(crate) async fn list(
    args: ListArgs,
    channel: &AttestedChannel,
    output: Output,
) -> Result<(), Failure> {
    let ListArgs { which, from, limit } = args;
    let log = which.log(channel).await?;
    let (mut from, mut rest) = (from, limit.unwrap_or(u64::MAX));
    while rest > 0 {
        let request = v1::ListLeavesRequest {
            log: log.clone(),
            from,
            page_size: u32::try_from(rest).unwrap_or(PAGE).min(PAGE),
            tenant: which.tenant(),
        };
        let page = answer(channel.audit().list_leaves(request))
            .await?
            .into_inner();
        if page.next <= from && !page.at_end {
            return Err(Failure::answer("the list does not go on"));
        }
        for leaf in &page.leaves {
            if !tell(leaf, output)? {
                return Ok(());
            }
            rest = rest.saturating_sub(1);
        }
        if page.at_end {
            return Ok(());
        }
        from = page.next;
    }
    Ok(())
}

pub(crate) async fn tail(
    args: TailArgs,
    channel: &AttestedChannel,
    output: Output,
) -> Result<(), Failure> {
    let TailArgs { which, from } = args;
    let log = which.log(channel).await?;
    let from = match from {
        Some(from) => from,
        None => end(channel, &log).await?,
    };
    let request = v1::TailLeavesRequest {
        log,
        from,
        tenant: which.tenant(),
    };
    let mut stream = answer(channel.audit().tail_leaves(request))
        .await?
        .into_inner();
    while let Some(message) = stream.message().await.map_err(RpcError::from)? {
        for leaf in &message.leaves {
            if !tell(leaf, output)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// How many leaves a log has.
async fn end(channel: &AttestedChannel, log: &str) -> Result<u64, Failure> {
    let mut logs = all_logs(channel).await?.into_iter();
    let found = if log.is_empty() {
        logs.next()
    } else {
        logs.find(|known| known.origin == log)
    };
    // Of a log that is not there the service says so itself.
    Ok(found.map_or(0, |found| found.size))
}

/// One leaf a line. False if nobody reads any more.
fn tell(leaf: &v1::Leaf, output: Output) -> Result<bool, Failure> {
    let v1::Leaf {
        index,
        entry,
        tenant,
        event,
    } = leaf;
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
    let (shown, happened) = (parse(entry), parse(event));
    if output.is_json() {
        let line = json!({
            "index": index, "tenant": tenant, "leaf": shown, "event": happened,
        });
        return output.bytes(format!("{line}\n").as_bytes());
    }
    let kind = shown
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or("unreadable");
    let at_s = shown.get("at_s").and_then(Value::as_u64).unwrap_or(0);
    let number = shown.get("seq").and_then(Value::as_u64).unwrap_or(0);
    let mut line = format!("{index:>8}  {at_s}  {kind:<17}");
    if event.is_empty() {
        line.push_str("  (private)");
    } else {
        line.push_str(&format!("  {tenant} #{number}  {}", members(&happened)));
    }
    let open = output.line(&line);
    open.map(|()| true)
}
