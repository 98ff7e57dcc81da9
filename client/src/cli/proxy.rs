//! `proxy`: a local listener that adds token and proof.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use tokenkeep::proxy::{Place, Proxy, ProxyError};
use tokenkeep::{AttestedChannel, DpopKey, GatewayClient, TokenClient};
use tokio::signal::unix::{SignalKind, signal};

use super::exit::Exit;
use super::failure::Failure;
use super::output::Output;
use super::record::Record;

#[derive(Debug, Args)]
pub(crate) struct ProxyArgs {
    /// Where programs connect: a loopback ADDRESS:PORT, or unix:PATH; port 0 takes a free one and prints it
    #[arg(long, value_name = "PLACE", default_value = "127.0.0.1:0")]
    listen: Place,
    /// The grant that calls draw on
    #[arg(long)]
    grant: String,
    /// The target that calls go to
    #[arg(long)]
    target: String,
    /// The key that tokens are bound to
    #[arg(long, value_name = "FILE")]
    dpop_key: PathBuf,
    /// A scope that tokens are to carry; repeat for more [default: all of the grant]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
}

/// Serves until SIGINT or SIGTERM, then lets requests finish.
pub(crate) async fn run(
    args: ProxyArgs,
    channel: &AttestedChannel,
    output: Output,
) -> Result<(), Failure> {
    let ProxyArgs {
        listen,
        grant,
        target,
        dpop_key,
        scopes,
    } = args;
    let no_signals = |error: std::io::Error| {
        Failure::usage(format!("signals can't be heard: {error}"), "try again")
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let key = Arc::new(DpopKey::from_file(&dpop_key)?);
    let gateway = GatewayClient::new(channel, Arc::new(TokenClient::new(channel, key)))?;
    let proxy = Proxy::new(gateway, &grant, &target, scopes);
    let resource = proxy.resource().to_owned();
    let listening = proxy
        .listen(&listen)
        .await
        .map_err(|error| failed(&error))?;
    output.record(&Record::new([
        ("listening", json!(listening.place())),
        ("resource", json!(resource)),
    ]))?;
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    Box::pin(listening.serve(stop)).await;
    Ok(())
}

fn failed(error: &ProxyError) -> Failure {
    match error {
        ProxyError::NotLoopback(_) => Failure::usage(
            error.to_string(),
            "listen on 127.0.0.1 or [::1]: whoever reaches the proxy uses the grant",
        ),
        ProxyError::Listen { error: cause, .. } => Failure::new(
            Exit::Usage,
            format!("{error}: {cause}"),
            "name another place with --listen",
        ),
    }
}
