//! The Node side of the tests as processes of their own: oidc-provider, and the independent judge.
//!
//! `scripts/node.sh` sets them up and prints the two variables that [`NodeEnv::from_env`] reads.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::fetch::{self, FetchError};

/// Names the `node` binary.
pub const NODE_VARIABLE: &str = "TOKENKEEP_TEST_NODE";
/// Names the directory with the scripts and their `node_modules`.
pub const DIR_VARIABLE: &str = "TOKENKEEP_TEST_NODE_DIR";

/// How long Node may take over a start or an answer on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// Why the Node side does not answer.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A variable is not set: the tests must not pass by doing nothing.
    #[error(
        "{0} is not set: run `eval \"$(scripts/node.sh --export; scripts/python.sh --export)\"` first"
    )]
    NotSetUp(&'static str),
    /// The process does not start.
    #[error("cannot start Node")]
    Start(#[source] io::Error),
    /// The process cannot be spoken with.
    #[error("cannot speak with Node")]
    Talk(#[source] io::Error),
    /// The process ended.
    #[error("Node ended without an answer")]
    Ended,
    /// The process did not answer in time.
    #[error("Node did not answer in time")]
    Slow,
    /// The process answered with something else.
    #[error("Node's answer is not the expected JSON")]
    Json(#[source] serde_json::Error),
    /// The provider did not answer over HTTP.
    #[error("the provider did not answer")]
    Http(#[from] FetchError),
    /// The provider refused.
    #[error("the provider refused with status {0}")]
    Refused(u16),
}

/// Where Node and the scripts are.
#[derive(Debug, Clone)]
pub struct NodeEnv {
    /// The `node` binary.
    pub node: PathBuf,
    /// The directory with the scripts and their `node_modules`.
    pub dir: PathBuf,
}

impl NodeEnv {
    /// What `scripts/node.sh` exported.
    ///
    /// # Errors
    /// [`NodeError::NotSetUp`] names the variable that is missing.
    pub fn from_env() -> Result<Self, NodeError> {
        Ok(Self {
            node: variable(NODE_VARIABLE)?.into(),
            dir: variable(DIR_VARIABLE)?.into(),
        })
    }

    fn spawn(&self, script: &str) -> Result<Process, NodeError> {
        Process::start(&self.node, script, &self.dir)
    }

    /// Runs an ordinary OAuth client once, which trusts the CA in the file `ca` beside those that Node knows; `given`
    /// is described at the head of `oauth-client.mjs`.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn oauth_client(&self, ca: &Path, given: &Value) -> Result<Value, NodeError> {
        let trusts = [("NODE_EXTRA_CA_CERTS", ca)];
        let process = Process::start_with(&self.node, "oauth-client.mjs", &self.dir, &trusts)?;
        serde_json::from_str(&process.only(given).await?).map_err(NodeError::Json)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test harness, not the product, is told by its environment where Node is"
)]
pub(crate) fn variable(name: &'static str) -> Result<OsString, NodeError> {
    std::env::var_os(name).ok_or(NodeError::NotSetUp(name))
}

/// A script that answers JSON lines with JSON lines. Killed on drop; it also ends by itself when
/// its input closes.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    pub(crate) fn start(program: &Path, script: &str, dir: &Path) -> Result<Self, NodeError> {
        Self::start_with(program, script, dir, &[])
    }

    fn start_with(
        program: &Path,
        script: &str,
        dir: &Path,
        variables: &[(&str, &Path)],
    ) -> Result<Self, NodeError> {
        let mut child = Command::new(program)
            .arg(script)
            .current_dir(dir)
            .env("NODE_ENV", "production")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(NodeError::Start)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(NodeError::Ended);
        };
        Ok(Self {
            child,
            input,
            output: BufReader::new(output).lines(),
        })
    }

    pub(crate) async fn ask(&mut self, question: &Value) -> Result<String, NodeError> {
        let mut line = question.to_string();
        line.push('\n');
        let asked = async {
            self.input.write_all(line.as_bytes()).await?;
            self.input.flush().await?;
            self.output.next_line().await
        };
        match timeout(DEADLINE, asked).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => Err(NodeError::Ended),
            Ok(Err(error)) => Err(NodeError::Talk(error)),
            Err(_) => Err(NodeError::Slow),
        }
    }

    /// Asks one thing, of a script that reads its input to the end.
    pub(crate) async fn only(self, question: &Value) -> Result<String, NodeError> {
        let Self {
            child: _child,
            mut input,
            mut output,
        } = self;
        let asked = async {
            input.write_all(question.to_string().as_bytes()).await?;
            drop(input);
            output.next_line().await
        };
        match timeout(DEADLINE, asked).await {
            Ok(Ok(Some(answer))) => Ok(answer),
            Ok(Ok(None)) => Err(NodeError::Ended),
            Ok(Err(error)) => Err(NodeError::Talk(error)),
            Err(_) => Err(NodeError::Slow),
        }
    }

    pub(crate) async fn stop(self) -> Result<(), NodeError> {
        let Self {
            mut child,
            input,
            output: _,
        } = self;
        drop(input);
        match timeout(DEADLINE, child.wait()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(NodeError::Talk(error)),
            Err(_) => Err(NodeError::Slow),
        }
    }
}

/// npm's `oidc-provider` on loopback: rotating refresh tokens, a reuse revokes the grant.
#[derive(Debug)]
pub struct OidcProvider {
    process: Process,
    endpoints: OidcEndpoints,
}

/// What the provider says when it is ready. All are URLs on loopback.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OidcEndpoints {
    /// Its issuer identifier.
    pub issuer: String,
    /// Where refresh tokens go.
    pub token_endpoint: String,
    /// [RFC 7009].
    pub revocation_endpoint: String,
    /// [RFC 7662].
    pub introspection_endpoint: String,
    /// `GET` needs a bearer token with `contacts.read`.
    pub api_url: String,
    /// Gives a first refresh token without a person.
    pub consent_url: String,
    /// Registers a client.
    pub client_url: String,
    /// Lets token requests wait.
    pub hold_url: String,
    /// Counts what happened.
    pub ledger_url: String,
    /// The registered clients' ids.
    pub clients: Vec<String>,
    /// Its process.
    pub pid: u32,
}

/// What oidc-provider counted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OidcLedger {
    /// Token requests that had to wait.
    pub held: u64,
    /// Refreshes that gave tokens.
    pub refresh_ok: u64,
    /// Token requests that were refused.
    pub refresh_refused: u64,
    /// Refresh tokens used up.
    pub refresh_tokens_consumed: u64,
    /// Token requests that were asked for a nonce.
    pub nonce_challenges: u64,
    /// API calls that were asked for a nonce.
    pub api_nonce_challenges: u64,
    /// API calls with a token that is bound to a key, and a good proof.
    pub api_bound_calls_ok: u64,
    /// Grants that died, for reuse or by revocation.
    pub grants_revoked: u64,
    /// API calls with a good token.
    pub api_calls_ok: u64,
    /// API calls without one.
    pub api_calls_refused: u64,
    /// How often each refresh token came, by the SHA-256 of the token in hex.
    pub presentations: std::collections::BTreeMap<String, u64>,
}

/// A first refresh token.
#[derive(Debug, Clone)]
pub struct OidcGrant {
    /// The provider's id of the grant.
    pub grant_id: String,
    /// The first refresh token.
    pub refresh_token: SecretString,
}

#[derive(Deserialize)]
struct ConsentAnswer {
    grant_id: String,
    refresh_token: String,
}

impl OidcProvider {
    /// The client that is registered unless the configuration says otherwise.
    pub const CLIENT_ID: &str = "tokenkeep";
    /// Its secret, for `client_secret_basic`.
    pub const CLIENT_SECRET: &str = "a-secret-for-tests-only-0123456789";

    /// Starts the provider. `config` is described at the head of `oidc-provider.mjs`; `json!({})`
    /// has one client and the scopes `contacts.read` and `contacts.write`.
    ///
    /// # Errors
    /// Node does not start or does not come up in time.
    pub async fn spawn(node: &NodeEnv, config: &Value) -> Result<Self, NodeError> {
        let mut process = node.spawn("oidc-provider.mjs")?;
        let ready = process.ask(config).await?;
        let endpoints = serde_json::from_str(&ready).map_err(NodeError::Json)?;
        Ok(Self { process, endpoints })
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoints(&self) -> &OidcEndpoints {
        &self.endpoints
    }

    /// A user's consent without a person: the provider's own models mint the grant.
    ///
    /// # Errors
    /// Unknown client, or the provider does not answer.
    pub async fn consent(
        &self,
        client_id: &str,
        scope: &str,
        user: &str,
    ) -> Result<OidcGrant, NodeError> {
        let body = json!({ "client_id": client_id, "scope": scope, "user": user });
        self.granted(&body).await
    }

    /// The same, for one resource [RFC 8707].
    ///
    /// # Errors
    /// Unknown client, or the provider does not answer.
    pub async fn consent_for(
        &self,
        client_id: &str,
        scope: &str,
        user: &str,
        resource: &str,
    ) -> Result<OidcGrant, NodeError> {
        let body = json!({
            "client_id": client_id, "scope": scope, "user": user, "resource": resource,
        });
        self.granted(&body).await
    }

    async fn granted(&self, body: &Value) -> Result<OidcGrant, NodeError> {
        let answer = fetch::post_json(&self.endpoints.consent_url, body).await?;
        if !answer.status.is_success() {
            return Err(NodeError::Refused(answer.status.as_u16()));
        }
        let ConsentAnswer {
            grant_id,
            refresh_token,
        } = answer.json()?;
        Ok(OidcGrant {
            grant_id,
            refresh_token: SecretString::from(refresh_token),
        })
    }

    /// Registers a client by its metadata [RFC 7591], anew if it is there.
    ///
    /// # Errors
    /// The metadata is refused, or the provider does not answer.
    pub async fn register(&self, client: &Value) -> Result<(), NodeError> {
        let answer = fetch::post_json(&self.endpoints.client_url, client).await?;
        if answer.status.is_success() {
            Ok(())
        } else {
            Err(NodeError::Refused(answer.status.as_u16()))
        }
    }

    /// Lets token requests wait before the provider looks at them, or go on.
    ///
    /// # Errors
    /// The provider does not answer.
    pub async fn hold(&self, held: bool) -> Result<(), NodeError> {
        let answer = fetch::post_json(&self.endpoints.hold_url, &json!({ "held": held })).await?;
        if answer.status.is_success() {
            Ok(())
        } else {
            Err(NodeError::Refused(answer.status.as_u16()))
        }
    }

    /// What the provider counted so far.
    ///
    /// # Errors
    /// The provider does not answer.
    pub async fn ledger(&self) -> Result<OidcLedger, NodeError> {
        Ok(fetch::get(&self.endpoints.ledger_url, &[]).await?.json()?)
    }

    /// Stops it and waits for its end.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn stop(self) -> Result<(), NodeError> {
        self.process.stop().await
    }
}

/// An independent resource server: `oauth4webapi` and `jose` judge tokens and proofs.
#[derive(Debug)]
pub struct Judge {
    process: Process,
}

/// What the judge said.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Verdict {
    /// Whether both libraries accept.
    pub ok: bool,
    /// The token's claims, if accepted.
    pub claims: Option<Value>,
    /// Why not, in the words of the first library that refused.
    pub error: Option<String>,
    /// The whole resource-server check.
    pub oauth4webapi: Option<Opinion>,
    /// Signature, thumbprint and `ath` once more.
    pub jose: Option<Opinion>,
}

/// What one library said.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Opinion {
    /// Whether it accepts.
    pub ok: bool,
    /// Why not.
    pub error: Option<String>,
    /// The library's own code for it.
    pub code: Option<String>,
}

impl Judge {
    /// Starts the judge.
    ///
    /// # Errors
    /// [`NodeError::Start`].
    pub fn spawn(node: &NodeEnv) -> Result<Self, NodeError> {
        Ok(Self {
            process: node.spawn("resource-server.mjs")?,
        })
    }

    /// Judges one request. `case` is described at the head of `resource-server.mjs`.
    ///
    /// # Errors
    /// Node does not answer.
    pub async fn judge(&mut self, case: &Value) -> Result<Verdict, NodeError> {
        let verdict = self.process.ask(case).await?;
        serde_json::from_str(&verdict).map_err(NodeError::Json)
    }
}

#[cfg(test)]
mod tests {
    use base64ct::{Base64, Encoding as _};
    use secrecy::ExposeSecret as _;

    use super::*;

    #[tokio::test]
    async fn the_provider_rotates_and_revokes_on_reuse_and_ends_with_its_input() {
        let node = NodeEnv::from_env().unwrap();
        let provider = OidcProvider::spawn(&node, &json!({})).await.unwrap();
        let granted = provider
            .consent(OidcProvider::CLIENT_ID, "contacts.read", "alice")
            .await
            .unwrap();
        let secret = format!(
            "{}:{}",
            OidcProvider::CLIENT_ID,
            OidcProvider::CLIENT_SECRET
        );
        let basic = format!("Basic {}", Base64::encode_string(secret.as_bytes()));
        let refresh = async |token: &str| {
            fetch::post_form(
                &provider.endpoints().token_endpoint,
                &[("authorization", &basic)],
                &[("grant_type", "refresh_token"), ("refresh_token", token)],
            )
            .await
            .unwrap()
        };
        let first = granted.refresh_token.expose_secret();
        let answer = refresh(first).await;
        assert_eq!(answer.status, 200);
        let issued: Value = answer.json().unwrap();
        let second = issued["refresh_token"].as_str().unwrap();
        assert_ne!(second, first);
        let bearer = format!("Bearer {}", issued["access_token"].as_str().unwrap());
        let call = async || {
            fetch::get(&provider.endpoints().api_url, &[("authorization", &bearer)])
                .await
                .unwrap()
                .status
        };
        assert_eq!(call().await, 200);

        let reuse = refresh(first).await;
        assert_eq!(reuse.status, 400);
        assert_eq!(reuse.json::<Value>().unwrap()["error"], "invalid_grant");
        assert_eq!(refresh(second).await.status, 400);
        assert_eq!(call().await, 401);

        let ledger = provider.ledger().await.unwrap();
        assert_eq!((ledger.refresh_ok, ledger.grants_revoked), (1, 1));
        let digest = crate::provider::TokenDigest::of(first).to_string();
        assert_eq!(ledger.presentations.get(&digest), Some(&2));
        let refused = provider.consent("nobody", "contacts.read", "alice").await;
        assert!(matches!(refused, Err(NodeError::Refused(400))));
        provider.stop().await.unwrap();
    }

    #[tokio::test]
    async fn the_judge_answers_each_case() {
        let node = NodeEnv::from_env().unwrap();
        let mut judge = Judge::spawn(&node).unwrap();
        for _ in 0..2 {
            let verdict = judge
                .judge(&json!({
                    "issuer": "https://issuer.example", "jwks": { "keys": [] },
                    "audience": "https://api.example", "method": "GET",
                    "url": "https://api.example/", "access_token": "a.b.c", "dpop_proof": "a.b.c",
                }))
                .await
                .unwrap();
            assert!(!verdict.ok);
            let opinion = verdict.oauth4webapi.unwrap();
            assert_eq!(opinion.code.as_deref(), Some("OAUTH_PARSE_ERROR"));
            assert_eq!(
                verdict.jose.unwrap().code.as_deref(),
                Some("ERR_JWS_INVALID")
            );
        }
    }
}
