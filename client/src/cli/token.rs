//! `token`: one access token.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use tokenkeep::audit::Receipt;
use tokenkeep::private_file::create_private;
use tokenkeep::token_client::TokenError;
use tokenkeep::{AccessToken, AttestedChannel, DpopKey, TokenClient, TokenRequest};

use super::failure::Failure;
use super::output::Output;

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// The grant to draw on
    #[arg(long)]
    grant: String,
    /// Where the token is to be used, as `grant show` lists it; repeat for a token for each, with one proof
    #[arg(long = "resource", value_name = "URL", required = true)]
    resources: Vec<String>,
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
        resources,
        scopes,
        actors,
        dpop_key,
        receipt: file,
        upstream_bound,
    } = args;
    if file.is_some() && resources.len() > 1 {
        return Err(Failure::usage(
            "--receipt is for one token, and several are asked for",
            "ask for them one at a time, or take the receipts from --json",
        ));
    }
    let tokens = TokenClient::new(channel, Arc::new(DpopKey::from_file(&dpop_key)?));
    let wanted = |resource: &String| {
        let request = TokenRequest::new(&grant, resource)
            .with_scopes(&scopes)
            .on_behalf_of(&actors);
        if upstream_bound {
            request.upstream_bound()
        } else {
            request
        }
    };
    let wanted: Vec<_> = resources.iter().map(wanted).collect();
    match wanted.as_slice() {
        [request] => {
            let token = Box::pin(tokens.token(request)).await?;
            one(&token, request, file.as_deref(), output)
        }
        several => all(several, Box::pin(tokens.tokens(several)).await?, output),
    }
}

/// Tells one token.
fn one(
    token: &AccessToken,
    request: &TokenRequest,
    file: Option<&Path>,
    output: Output,
) -> Result<(), Failure> {
    let receipt = token.receipt().map(Receipt::to_json);
    match (file, &receipt) {
        (Some(file), Some(receipt)) => create_private(file, receipt.to_string().as_bytes())?,
        (Some(_), None) => return Err(Failure::answer("the service gave no receipt")),
        (None, _) => {}
    }
    if output.is_json() {
        return output.json(&described(token, request));
    }
    output.line(token.expose_secret())
}

/// Tells each of several tokens; fails behind that if one was refused.
fn all(
    requests: &[TokenRequest],
    answers: Vec<Result<Arc<AccessToken>, TokenError>>,
    output: Output,
) -> Result<(), Failure> {
    let mut told = Vec::new();
    let mut failed = None;
    for (request, answer) in requests.iter().zip(answers) {
        let resource = request.resource();
        match answer {
            Ok(token) if output.is_json() => told.push(described(&token, request)),
            Ok(token) => output.line(&format!("{resource} {}", token.expose_secret()))?,
            Err(error) => {
                let failure = Failure::from(error);
                let mut refused = failure.to_json();
                if let Some(refused) = refused.as_object_mut() {
                    refused.insert("resource".to_owned(), resource.into());
                }
                told.push(refused);
                failed.get_or_insert(failure);
            }
        }
    }
    if output.is_json() {
        output.json(&json!({ "tokens": told }))?;
    }
    failed.map_or(Ok(()), Err)
}

fn described(token: &AccessToken, request: &TokenRequest) -> Value {
    let upstream_bound = request.is_upstream_bound();
    json!({
        "access_token": token.expose_secret(),
        "token_type": "DPoP",
        "expires_in_s": token.expires_in_s(),
        "scopes": token.scopes(),
        "resource": token.resource(),
        "mode": if upstream_bound { "upstream_bound" } else { "minted" },
        "receipt": token.receipt().map(Receipt::to_json),
    })
}
