//! `token`: one access token.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use tokenkeep::audit::Receipt;
use tokenkeep::private_file::create_private;
use tokenkeep::{AttestedChannel, DpopKey, TokenClient, TokenRequest};

use super::failure::Failure;
use super::output::Output;

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// The grant to draw on
    #[arg(long)]
    grant: String,
    /// Where the token is to be used, as `grant show` lists it
    #[arg(long, value_name = "URL")]
    resource: String,
    /// A scope that the token is to carry; repeat for more [default: all of the grant]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// On whose behalf it is asked for: the one who acts now, then who acted before; repeat for more
    #[arg(long = "actor", value_name = "NAME")]
    actors: Vec<String>,
    /// The key that the token is bound to
    #[arg(long, value_name = "FILE")]
    dpop_key: PathBuf,
    /// Write the receipt, which says where the issuance stands in the log, to this new file
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// The provider's own token, bound to the DPoP key, to be used at its API itself; the grant must allow it
    #[arg(long)]
    upstream_bound: bool,
}

pub(crate) async fn run(
    args: TokenArgs,
    channel: &AttestedChannel,
    output: Output,
) -> Result<(), Failure> {
    let TokenArgs {
        grant,
        resource,
        scopes,
        actors,
        dpop_key,
        receipt: file,
        upstream_bound,
    } = args;
    let tokens = TokenClient::new(channel, Arc::new(DpopKey::from_file(&dpop_key)?));
    let mut request = TokenRequest::new(grant, resource)
        .with_scopes(scopes)
        .on_behalf_of(actors);
    if upstream_bound {
        request = request.upstream_bound();
    }
    let token = Box::pin(tokens.token(&request)).await?;
    let receipt = token.receipt().map(Receipt::to_json);
    match (&file, &receipt) {
        (Some(file), Some(receipt)) => create_private(file, receipt.to_string().as_bytes())?,
        (Some(_), None) => return Err(Failure::answer("the service gave no receipt")),
        (None, _) => {}
    }
    if output.is_json() {
        return output.json(&json!({
            "access_token": token.expose_secret(),
            "token_type": "DPoP",
            "expires_in_s": token.expires_in_s(),
            "scopes": token.scopes(),
            "resource": token.resource(),
            "mode": if upstream_bound { "upstream_bound" } else { "minted" },
            "receipt": receipt,
        }));
    }
    output.line(token.expose_secret())
}
