//! Connections that do nothing: what each of them takes of the service's memory.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use proto::v1::IntrospectTokenRequest;
use proto::v1::token_service_client::TokenServiceClient;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::caller::{Target, channel};
use crate::machine;
use crate::report::progress;
use crate::rows::{Bar, Row};
use crate::server::{self, Lab, Terms};
use crate::stats::{median, whole};

/// Connections, if the system allows so many files.
const CONNECTIONS: u64 = 10_000;
/// Files for everything else.
const SPARE: u64 = 512;
/// Handshakes at a time.
const AT_A_TIME: usize = 64;

/// Lets this process and those that it starts hold as many files as they may. Says how many.
///
/// # Errors
/// The limit can't be set.
pub(crate) fn raise_limit() -> anyhow::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).context("the limit on open files can't be raised")?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// As many connections as are wanted and fit.
pub(crate) fn fit(wanted: u64, files: u64) -> u64 {
    wanted.min(files.saturating_sub(SPARE))
}

/// Connects so many times and makes one empty call on each.
///
/// # Errors
/// A connection is refused.
pub(crate) async fn hold(target: &Target, connections: u64) -> anyhow::Result<Vec<Channel>> {
    let target = Arc::new(target.clone());
    let mut held = Vec::new();
    let mut opening = JoinSet::new();
    for _ in 0..connections {
        if opening.len() >= AT_A_TIME
            && let Some(opened) = opening.join_next().await
        {
            held.push(opened??);
        }
        let target = Arc::clone(&target);
        opening.spawn(async move {
            let channel = channel(&target).await?;
            let mut client = TokenServiceClient::new(channel.clone());
            let empty = IntrospectTokenRequest::default();
            client.introspect_token(empty).await?;
            anyhow::Ok(channel)
        });
    }
    while let Some(opened) = opening.join_next().await {
        held.push(opened??);
    }
    Ok(held)
}

/// Measures the memory of an idle connection, each time in a service that has just started.
///
/// # Errors
/// The service can't be measured, or too few files may be open.
pub(crate) async fn measure(dev: &Path, rounds: u32, files: u64) -> anyhow::Result<Vec<Row>> {
    let connections = fit(CONNECTIONS, files);
    if connections < 100 {
        bail!("only {files} files may be open: raise `ulimit -n`");
    }
    let mut kib = Vec::new();
    for round in 1..=rounds {
        let lab = Lab::new(Terms::default())?;
        let server = server::ours(dev, &lab, None).await?;
        // What the first connections take once is not theirs.
        drop(hold(&server.target, 64).await?);
        let before = machine::memory(server.target.pid)?.rss_kib;
        let held = hold(&server.target, connections).await?;
        let after = machine::memory(server.target.pid)?.rss_kib;
        drop(held);
        server.stop().await?;
        let each = whole(after.saturating_sub(before)) / whole(connections);
        progress(&format!(
            "idle {round} of {rounds}: {connections} connections, {each:.1} KiB each"
        ));
        kib.push(each);
    }
    let runs = kib.len();
    Ok(vec![
        Row::against(
            "idle_mtls_conn_kib",
            median(&kib),
            "KiB",
            Bar::AtMost(48.0),
            runs,
        ),
        Row::plain("idle_mtls_connections", whole(connections), "count", runs),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit_the_limit() {
        assert_eq!(fit(10_000, 20_000), 10_000);
        assert_eq!(fit(10_000, 1_024), 512);
        assert_eq!(fit(10_000, 100), 0);
    }

    #[test]
    fn the_limit_is_raised_to_the_most() {
        let files = raise_limit().unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(limit.current.unwrap_or(u64::MAX), files);
    }
}
