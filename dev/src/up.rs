//! `up`: the stack, kept running, with commands to try.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use attestation::Platform;
use serde::Serialize;

use crate::lab;
use crate::names::{
    APP, CLIENT, GRANT, OAUTH_CLIENT_ID, PROVIDER, SCOPES, TARGET, TENANT, USER, VENDOR,
};
use crate::stack::{Logs, Stack, StackError};
use crate::stop::StopSignals;

/// Why the stack did not run.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// The stack.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// No temporary directory.
    #[error("no temporary directory can be made: name one with --state")]
    Directory(#[source] io::Error),
    /// The signals cannot be heard.
    #[error("the signals to stop cannot be heard")]
    Signals(#[source] io::Error),
}

/// What a program needs to drive the stack: one JSON object on one line. Paths are absolute.
#[derive(Debug, Clone, Serialize)]
pub struct Ready {
    grpc_url: String,
    issuer: String,
    gateway_url: String,
    provider_url: String,
    ca_file: PathBuf,
    root_file: PathBuf,
    policy_file: PathBuf,
    client_cert: PathBuf,
    client_key: PathBuf,
    admin_cert: PathBuf,
    admin_key: PathBuf,
    dpop_key: PathBuf,
    tenant: &'static str,
    vendor: &'static str,
    client: &'static str,
    provider: &'static str,
    app: &'static str,
    grant: &'static str,
    resource: String,
    state_dir: PathBuf,
    pid: u32,
}

impl Ready {
    /// Of a furnished stack.
    #[must_use]
    pub fn of(stack: &Stack) -> Self {
        let files = stack.files();
        let urls = stack.urls().clone();
        Self {
            grpc_url: urls.grpc,
            issuer: urls.issuer,
            gateway_url: urls.gateway,
            provider_url: stack.provider().base_url().to_owned(),
            ca_file: files.path(lab::CA),
            root_file: files.path(lab::ROOT),
            policy_file: files.path(lab::POLICY),
            client_cert: files.path(lab::CLIENT_CERT),
            client_key: files.path(lab::CLIENT_KEY),
            admin_cert: files.path(lab::ADMIN_CERT),
            admin_key: files.path(lab::ADMIN_KEY),
            dpop_key: files.path(lab::DPOP_KEY),
            tenant: TENANT,
            vendor: VENDOR,
            client: CLIENT,
            provider: PROVIDER,
            app: APP,
            grant: GRANT,
            resource: stack.resource(),
            state_dir: files.dir().to_owned(),
            pid: std::process::id(),
        }
    }
}

/// Runs the stack until SIGTERM or SIGINT. Without a `state` directory everything is forgotten at the end.
/// `tokenkeep` is how the command line is to be called.
///
/// # Errors
/// [`UpError`].
pub async fn up(
    state: Option<&Path>,
    platform: Option<Platform>,
    json: bool,
    tokenkeep: &str,
) -> Result<(), UpError> {
    let mut signals = StopSignals::listen().map_err(UpError::Signals)?;
    let folder = match state {
        Some(_) => None,
        None => Some(temporary().map_err(UpError::Directory)?),
    };
    let dir = folder.as_ref().map(tempfile::TempDir::path).or(state);
    let dir = dir.unwrap_or(Path::new("."));
    let mut stack = tokio::select! {
        started = Box::pin(Stack::start_on(dir, platform, Logs::ToFile)) => started?,
        () = signals.asked() => return Ok(()),
    };
    let ran = tokio::select! {
        ran = Box::pin(keep(&mut stack, state.is_some(), json, tokenkeep)) => ran,
        () = signals.asked() => Ok(()),
    };
    let stopped = match ran {
        Ok(()) => stack.stop().await,
        Err(error) => Err(error),
    };
    if let Some(folder) = folder {
        folder.close().map_err(UpError::Directory)?;
    }
    Ok(stopped?)
}

/// A directory of mode 0700 that goes when it is dropped.
pub(crate) fn temporary() -> io::Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt as _;
    tempfile::Builder::new()
        .prefix("tokenkeep-")
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
}

async fn keep(
    stack: &mut Stack,
    kept: bool,
    json: bool,
    tokenkeep: &str,
) -> Result<(), StackError> {
    stack.furnish().await?;
    let ready = Ready::of(stack);
    let text = if json {
        format!("{}\n", serde_json::to_string(&ready).unwrap_or_default())
    } else {
        commands(&ready, kept, tokenkeep)
    };
    {
        let mut out = io::stdout().lock();
        // The reader may be gone: the stack runs all the same.
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .unwrap_or_default();
    }
    stack.ended().await
}

/// What to try, ready to be copied.
fn commands(ready: &Ready, kept: bool, tokenkeep: &str) -> String {
    let Ready {
        grpc_url,
        issuer,
        gateway_url,
        provider_url,
        ca_file,
        root_file,
        policy_file,
        client_cert,
        client_key,
        admin_cert,
        admin_key,
        dpop_key,
        tenant,
        vendor: _,
        client,
        provider: _,
        app,
        grant,
        resource,
        state_dir,
        pid: _,
    } = ready;
    let [
        ca_file,
        root_file,
        policy_file,
        client_cert,
        client_key,
        admin_cert,
        admin_key,
        dpop_key,
        state_dir,
    ] = [
        ca_file,
        root_file,
        policy_file,
        client_cert,
        client_key,
        admin_cert,
        admin_key,
        dpop_key,
        state_dir,
    ]
    .map(|path| quoted(&path.display().to_string()));
    let scopes = SCOPES.map(|scope| format!(" --scope {scope}")).concat();
    let consent = serde_json::json!({
        "client_id": OAUTH_CLIENT_ID,
        "scope": SCOPES.join(" "),
        "user": USER,
    });
    let ends = if kept {
        "Stop with Ctrl-C; the same --state brings it all back."
    } else {
        "Stop with Ctrl-C; all of it is forgotten then (--state DIR keeps it)."
    };
    format!(
        "\
Tokenkeep is up. The enclave is emulated and protects nothing; everything listens on loopback.

  gRPC      {grpc_url}
  issuer    {issuer}
  gateway   {gateway_url}
  provider  {provider_url}
  files     {state_dir}

In another terminal, first:

  export TOKENKEEP_SERVER={grpc_url}
  export TOKENKEEP_POLICY={policy_file}
  export TOKENKEEP_ALLOW_EMULATED={root_file}

Security team: is it the enclave it claims to be?

  {tokenkeep} verify
  {tokenkeep} trust

Integration: a token that is of no use to a thief, and a call with it.

  export TOKENKEEP_CERT={client_cert} TOKENKEEP_KEY={client_key}
  {tokenkeep} token --grant {grant} --resource {resource} --dpop-key {dpop_key}
  {tokenkeep} call GET {resource}/contacts --dpop-key {dpop_key}

Tenant's administrator: look, deposit, stop, go on.

  export TOKENKEEP_CERT={admin_cert} TOKENKEEP_KEY={admin_key}
  {tokenkeep} grant show {grant}
  curl -s {provider_url}/_testkit/consent -H 'content-type: application/json' -d '{consent}' | sed 's/.*\"refresh_token\":\"//; s/\".*//' | {tokenkeep} grant deposit --tenant {tenant} --app {app} --grant {grant} --client {client} --target {TARGET}{scopes}
  {tokenkeep} freeze client {client} --tenant {tenant} --reason 'trying it out'
  {tokenkeep} thaw client {client} --tenant {tenant}

Any other client trusts the verified enclave's CA:

  curl -sS --cacert {ca_file} {issuer}/.well-known/oauth-authorization-server

{ends}
"
    )
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Ready {
        let path = |name: &str| PathBuf::from("/tmp/my lab").join(name);
        Ready {
            grpc_url: "https://127.0.0.1:1".to_owned(),
            issuer: "https://127.0.0.1:2".to_owned(),
            gateway_url: "https://127.0.0.1:3".to_owned(),
            provider_url: "http://127.0.0.1:4".to_owned(),
            ca_file: path("ca.pem"),
            root_file: path("root.pem"),
            policy_file: path("policy.toml"),
            client_cert: path("client.pem"),
            client_key: path("client.key"),
            admin_cert: path("admin.pem"),
            admin_key: path("admin.key"),
            dpop_key: path("dpop.key"),
            tenant: TENANT,
            vendor: VENDOR,
            client: CLIENT,
            provider: PROVIDER,
            app: APP,
            grant: GRANT,
            resource: "https://127.0.0.1:3/g/acme-crm/api".to_owned(),
            state_dir: path(""),
            pid: 7,
        }
    }

    #[test]
    fn the_ready_line_has_these_keys_on_one_line() {
        let json = serde_json::to_string(&ready()).unwrap();
        assert!(!json.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let mut keys: Vec<&str> = value
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut expected = [
            "grpc_url",
            "issuer",
            "gateway_url",
            "provider_url",
            "ca_file",
            "root_file",
            "policy_file",
            "client_cert",
            "client_key",
            "admin_cert",
            "admin_key",
            "dpop_key",
            "tenant",
            "vendor",
            "client",
            "provider",
            "app",
            "grant",
            "resource",
            "state_dir",
            "pid",
        ];
        keys.sort_unstable();
        expected.sort_unstable();
        assert_eq!(keys, expected);
    }

    #[test]
    fn a_temporary_directory_is_the_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = temporary().unwrap();
        let mode = std::fs::metadata(folder.path())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn paths_with_spaces_are_quoted() {
        let text = commands(&ready(), true, "tokenkeep");
        assert!(
            text.contains("TOKENKEEP_POLICY='/tmp/my lab/policy.toml'"),
            "{text}"
        );
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted("/a-b/c.pem"), "/a-b/c.pem");
        assert_eq!(quoted(""), "''");
    }
}
