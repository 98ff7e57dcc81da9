//! What a provider is told before it starts.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{clock::Clock, flaky::Flaky};

/// A provider's configuration. [`Config::default`] is a strict provider with one client.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who may use the token endpoint.
    pub clients: Vec<Client>,
    /// What may be granted.
    pub scopes: Vec<String>,
    /// What happens to a refresh token that is used.
    pub rotation: Rotation,
    /// Life of an access token, in seconds.
    pub expires_in_s: u64,
    /// Life of an unused refresh token, in seconds; `None` is for ever.
    pub refresh_idle_s: Option<u64>,
    /// Begins every minted token, so that a test can search for all of them at once; characters of
    /// [RFC 6750 §2.1] `b68token`.
    pub token_marker: String,
    /// Grants kept at most; consent is refused beyond.
    pub max_grants: usize,
    /// Refresh and access tokens kept at most, each; the oldest are forgotten first.
    pub max_tokens: usize,
    /// Ledger entries kept in memory at most; the oldest are dropped first and counted.
    pub max_ledger_entries: usize,
    /// Also append every ledger entry to this file, a JSON object a line, before the answer leaves.
    pub ledger_file: Option<PathBuf>,
    /// Keep grants and tokens here over restarts. Written whole at each change: for a developer's few
    /// grants, not for load.
    pub state_file: Option<PathBuf>,
    /// Misbehave by itself now and then.
    pub flaky: Option<Flaky>,
    /// The provider's clock.
    pub clock: Clock,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            clients: vec![Client::confidential(
                "tokenkeep",
                ClientAuth::SecretBasic(SecretString::from("a-secret-for-tests-only-0123456789")),
            )],
            scopes: vec!["contacts.read".to_owned(), "contacts.write".to_owned()],
            rotation: Rotation::Strict,
            expires_in_s: 300,
            refresh_idle_s: None,
            token_marker: String::new(),
            max_grants: 10_000,
            max_tokens: 200_000,
            max_ledger_entries: 200_000,
            ledger_file: None,
            state_file: None,
            flaky: None,
            clock: Clock::system(),
        }
    }
}

/// A registered client [RFC 6749 §2].
#[derive(Debug, Clone)]
pub struct Client {
    /// `client_id`.
    pub id: String,
    /// How it must authenticate.
    pub auth: ClientAuth,
}

impl Client {
    /// A client that has to authenticate.
    #[must_use]
    pub fn confidential(id: &str, auth: ClientAuth) -> Self {
        Self {
            id: id.to_owned(),
            auth,
        }
    }

    /// A client that cannot keep a secret.
    #[must_use]
    pub fn public(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            auth: ClientAuth::None,
        }
    }
}

/// A client's one authentication method [RFC 6749 §2.3].
#[derive(Debug, Clone)]
pub enum ClientAuth {
    /// `client_secret_basic`.
    SecretBasic(SecretString),
    /// `client_secret_post`.
    SecretPost(SecretString),
    /// `none`: a public client, named by `client_id` in the body.
    None,
}

/// What happens to a refresh token that is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rotation {
    /// The token stays and the answer has no `refresh_token`.
    Never,
    /// Single use; a reuse is refused and revokes the grant's whole family.
    Strict,
    /// Single use; a reuse is refused and nothing else happens.
    NoGrace,
    /// Single use, except that a token just superseded still works for a while; after that a reuse
    /// revokes the family.
    Grace {
        /// For how long after its first use.
        window_ms: u64,
        /// What a reuse within the window gets.
        successor: Successor,
    },
}

/// What a reuse within the grace window gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Successor {
    /// The same successor again, while that one is unused.
    Same,
    /// A new successor; the one given before is superseded.
    NewestWins,
}
