//! `call`: one request to an API through the gateway.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::json;
use tokenkeep::{
    AttestedChannel, DpopKey, GatewayClient, GatewayRequest, TokenClient, private_file,
};

use super::exit::Exit;
use super::failure::Failure;
use super::output::Output;

/// The longest body that is sent, bytes; it is held in memory, because an attempt may have to be repeated.
const MAX_BODY_BYTES: usize = 16 << 20;

#[derive(Debug, Args)]
pub(crate) struct CallArgs {
    /// The method, such as GET
    #[arg(value_parser = method)]
    method: Method,
    /// {gateway}/g/{grant}/{target} and what follows
    url: String,
    /// The body: @FILE, - for standard input, or the text itself (no secrets)
    #[arg(long, value_name = "@FILE|-|TEXT", allow_hyphen_values = true)]
    data: Option<String>,
    /// A header for the API, as 'Name: value'; repeat for more
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = parse_header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The key that the token is bound to
    #[arg(long, value_name = "FILE")]
    dpop_key: PathBuf,
    /// A scope that the token is to carry; repeat for more [default: all of the grant]
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
}

/// Streams the answer's body to standard output; the exit code says whether its status is 2xx.
pub(crate) async fn run(
    args: CallArgs,
    channel: &AttestedChannel,
    output: Output,
) -> Result<Exit, Failure> {
    let CallArgs {
        method,
        url,
        data,
        headers,
        dpop_key,
        scopes,
    } = args;
    let key = Arc::new(DpopKey::from_file(&dpop_key)?);
    let gateway = GatewayClient::new(channel, Arc::new(TokenClient::new(channel, key)))?;
    let request = GatewayRequest {
        method,
        url,
        headers: headers
            .into_iter()
            .fold(HeaderMap::new(), |mut all, (name, value)| {
                all.append(name, value);
                all
            }),
        body: body(data.as_deref())?,
        scopes,
    };
    let mut answer = Box::pin(gateway.call(&request)).await?;
    let status = answer.status();
    let text = match answer.challenge() {
        Some(error) => format!("{status} ({error})"),
        None => status.to_string(),
    };
    output.status(
        &text,
        &json!({"status": status.as_u16(), "challenge": answer.challenge()}),
    );
    while let Some(piece) = Box::pin(answer.chunk()).await? {
        if !output.bytes(&piece)? {
            break;
        }
    }
    Ok(if status.is_success() {
        Exit::Ok
    } else {
        Exit::Refused
    })
}

fn body(data: Option<&str>) -> Result<Bytes, Failure> {
    let read = match data {
        None => return Ok(Bytes::new()),
        Some("-") => {
            let name = Path::new("standard input");
            private_file::read_bounded(name, io::stdin().lock(), MAX_BODY_BYTES)?
        }
        Some(text) => match text.strip_prefix('@') {
            Some(path) => private_file::read_public(Path::new(path), MAX_BODY_BYTES)?,
            None => return Ok(Bytes::copy_from_slice(text.as_bytes())),
        },
    };
    Ok(Bytes::copy_from_slice(&read))
}

fn method(text: &str) -> Result<Method, String> {
    if !text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Err("must be in capital letters, such as GET".to_owned());
    }
    Method::from_bytes(text.as_bytes()).map_err(|_| "is no method".to_owned())
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("must be 'Name: value'")?;
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "has no valid name")?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| "has no valid value")?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_name_and_a_value() {
        let (name, value) = parse_header("Content-Type: application/json").unwrap();
        assert_eq!(
            (name.as_str(), value.as_bytes()),
            ("content-type", &b"application/json"[..])
        );
        assert_eq!(parse_header("X:a:b").unwrap().1, "a:b");
        assert_eq!(parse_header("X:").unwrap().1, "");
        for (text, error) in [
            ("X", "must be 'Name: value'"),
            (": v", "has no valid name"),
            ("a b: v", "has no valid name"),
            ("X: a\nb", "has no valid value"),
        ] {
            assert_eq!(parse_header(text), Err(error.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn a_method_is_in_capital_letters() {
        assert_eq!(method("PATCH"), Ok(Method::PATCH));
        assert_eq!(
            method("get"),
            Err("must be in capital letters, such as GET".to_owned())
        );
        assert_eq!(method(""), Err("is no method".to_owned()));
    }

    #[test]
    fn a_body_comes_from_the_text_or_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("body");
        std::fs::write(&path, "from file").unwrap();
        let at_file = format!("@{}", path.display());
        assert_eq!(body(None).unwrap(), "");
        assert_eq!(body(Some("text")).unwrap(), "text");
        assert_eq!(body(Some(&at_file)).unwrap(), "from file");
        assert_eq!(
            body(Some("@/nowhere/at/all")).unwrap_err().exit(),
            Exit::Usage
        );
    }
}
