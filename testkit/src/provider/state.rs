//! Grants, families of refresh tokens and access tokens: what the provider knows and decides.
//!
//! No I/O and no clock: each step takes the time and says what the ledger must record.

use std::collections::{BTreeSet, HashMap, VecDeque};

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::rand::SecureRandom;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{
    config::Config,
    digest::TokenDigest,
    ledger::{Event, RevokedBy, Standing},
    refresh::Presentation,
};

/// Random bytes in a token.
const TOKEN_BYTES: usize = 32;

/// A user's consent, without a browser.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// The client that the user consents to.
    pub client_id: String,
    /// Scopes, separated by spaces.
    pub scope: String,
    /// Who consents.
    #[serde(default = "alice")]
    pub user: String,
}

fn alice() -> String {
    "alice".to_owned()
}

impl Consent {
    /// A consent of `user` to `client_id`.
    #[must_use]
    pub fn of(client_id: &str, scope: &str, user: &str) -> Self {
        Self {
            client_id: client_id.to_owned(),
            scope: scope.to_owned(),
            user: user.to_owned(),
        }
    }
}

/// What a consent gave: the first refresh token, to be deposited.
#[derive(Debug, Clone)]
pub struct Granted {
    /// The grant's id, as the ledger names it.
    pub grant: String,
    /// The first refresh token.
    pub refresh_token: SecretString,
}

/// Why a consent is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConsentError {
    /// No such client.
    #[error("the client is not registered")]
    UnknownClient,
    /// No scope, or one that this provider does not have.
    #[error("the scope is empty or unknown")]
    UnknownScope,
    /// [`Config::max_grants`] is reached.
    #[error("the provider keeps no more grants")]
    Full,
    /// The random source or the provider's own files failed.
    #[error("the provider failed")]
    Failed,
}

/// What the provider thinks of one grant: the oracle that a broker's store is held against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantState {
    /// The grant.
    pub grant: String,
    /// Whose it is.
    pub client_id: String,
    /// Who consented.
    pub user: String,
    /// The newest refresh token.
    pub current: TokenDigest,
    /// The newest refresh token's place in the family, from 0.
    pub generation: u64,
    /// Whether and why it is dead.
    pub revoked: Option<RevokedBy>,
}

/// A grant and the newest token of its family.
#[derive(Debug, Clone)]
pub(super) struct Family {
    pub(super) client_id: String,
    pub(super) user: String,
    pub(super) scope: BTreeSet<String>,
    pub(super) current: SecretString,
    pub(super) generation: u64,
    pub(super) revoked: Option<RevokedBy>,
}

/// A refresh token, kept by its digest after it is used so that a reuse is seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RefreshRecord {
    pub(super) grant: String,
    pub(super) generation: u64,
    pub(super) used_last_ms: u64,
    pub(super) superseded_at_ms: Option<u64>,
    /// The generation that took its place.
    pub(super) successor: Option<u64>,
}

/// An access token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct AccessRecord {
    pub(super) grant: String,
    pub(super) scope: BTreeSet<String>,
    pub(super) expires_at_ms: u64,
}

/// A good access token, seen by the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) grant: String,
    pub(crate) client_id: String,
    pub(crate) user: String,
    pub(crate) scope: BTreeSet<String>,
    pub(crate) expires_at_ms: u64,
}

/// Everything that the provider knows, bounded.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(super) families: HashMap<String, Family>,
    pub(super) refresh: HashMap<TokenDigest, RefreshRecord>,
    pub(super) refresh_order: VecDeque<TokenDigest>,
    pub(super) access: HashMap<TokenDigest, AccessRecord>,
    pub(super) access_order: VecDeque<TokenDigest>,
}

impl State {
    /// Opens a grant.
    pub(crate) fn consent(
        &mut self,
        config: &Config,
        random: &dyn SecureRandom,
        consent: &Consent,
        now_ms: u64,
        log: &mut Vec<Event>,
    ) -> Result<Granted, ConsentError> {
        let Consent {
            client_id,
            scope,
            user,
        } = consent;
        if !config.clients.iter().any(|client| client.id == *client_id) {
            return Err(ConsentError::UnknownClient);
        }
        let scope = parse_scope(scope);
        if scope.is_empty() || !scope.iter().all(|one| config.scopes.contains(one)) {
            return Err(ConsentError::UnknownScope);
        }
        if self.families.len() >= config.max_grants {
            return Err(ConsentError::Full);
        }
        let grant = mint(random, "g_").map_err(|OutOfRandom| ConsentError::Failed)?;
        let grant = grant.expose_secret().to_owned();
        let token = mint(random, &format!("{}rt_", config.token_marker))
            .map_err(|OutOfRandom| ConsentError::Failed)?;
        let digest = TokenDigest::of(token.expose_secret());
        self.families.insert(
            grant.clone(),
            Family {
                client_id: client_id.clone(),
                user: user.clone(),
                scope,
                current: token.clone(),
                generation: 0,
                revoked: None,
            },
        );
        self.keep_refresh(config, digest, &grant, 0, now_ms);
        log.push(Event::Consented {
            grant: grant.clone(),
            client_id: client_id.clone(),
            user: user.clone(),
            token: digest,
        });
        Ok(Granted {
            grant,
            refresh_token: token,
        })
    }

    /// A good access token's bearer.
    pub(crate) fn bearer(&self, access_token: &str, now_ms: u64) -> Option<Bearer> {
        let record = self.access.get(&TokenDigest::of(access_token))?;
        let family = self.families.get(&record.grant)?;
        if record.expires_at_ms <= now_ms || family.revoked.is_some() {
            return None;
        }
        Some(Bearer {
            grant: record.grant.clone(),
            client_id: family.client_id.clone(),
            user: family.user.clone(),
            scope: record.scope.clone(),
            expires_at_ms: record.expires_at_ms,
        })
    }

    /// A good refresh token's grant, without using it up [RFC 7662].
    pub(crate) fn live_refresh(
        &self,
        config: &Config,
        client_id: &str,
        refresh_token: &str,
        now_ms: u64,
    ) -> Option<GrantState> {
        let record = self.refresh.get(&TokenDigest::of(refresh_token))?;
        let presentation = Presentation {
            client_id,
            refresh_token,
            scope: None,
            concurrent: 0,
            now_ms,
        };
        (self.standing(config, Some(record), presentation) == Standing::Current)
            .then(|| self.grant(&record.grant))
            .flatten()
    }

    /// Revocation by the client [RFC 7009 §2]: a refresh token takes its grant along, an access
    /// token only itself; another client's token, or an unknown one, changes nothing.
    pub(crate) fn revoke_token(&mut self, client_id: &str, token: &str, log: &mut Vec<Event>) {
        let digest = TokenDigest::of(token);
        let owns = |families: &HashMap<String, Family>, grant: &str| {
            families
                .get(grant)
                .is_some_and(|family| family.client_id == client_id)
        };
        if let Some(record) = self.refresh.get(&digest) {
            let grant = record.grant.clone();
            if owns(&self.families, &grant) {
                self.revoke(&grant, RevokedBy::Client, log);
            }
        } else if self
            .access
            .get(&digest)
            .is_some_and(|record| owns(&self.families, &record.grant))
        {
            self.access.remove(&digest);
        }
    }

    /// Kills a grant and all its tokens; false if there is no such live grant.
    pub(crate) fn revoke(&mut self, grant: &str, by: RevokedBy, log: &mut Vec<Event>) -> bool {
        let Some(family) = self.families.get_mut(grant) else {
            return false;
        };
        if family.revoked.is_some() {
            return false;
        }
        family.revoked = Some(by);
        log.push(Event::Revoked {
            grant: grant.to_owned(),
            by,
        });
        true
    }

    /// What the provider thinks of one grant.
    pub(crate) fn grant(&self, grant: &str) -> Option<GrantState> {
        self.families.get(grant).map(|family| GrantState {
            grant: grant.to_owned(),
            client_id: family.client_id.clone(),
            user: family.user.clone(),
            current: TokenDigest::of(family.current.expose_secret()),
            generation: family.generation,
            revoked: family.revoked,
        })
    }

    /// The grant that a refresh token is of, dead or alive.
    pub(crate) fn grant_of(&self, refresh_token: &str) -> Option<&str> {
        self.refresh
            .get(&TokenDigest::of(refresh_token))
            .map(|record| record.grant.as_str())
    }

    /// All grants, by id.
    pub(crate) fn grants(&self) -> Vec<GrantState> {
        let mut grants: Vec<GrantState> = self
            .families
            .keys()
            .filter_map(|grant| self.grant(grant))
            .collect();
        grants.sort_by(|a, b| a.grant.cmp(&b.grant));
        grants
    }

    pub(super) fn keep_refresh(
        &mut self,
        config: &Config,
        digest: TokenDigest,
        grant: &str,
        generation: u64,
        now_ms: u64,
    ) {
        self.refresh.insert(
            digest,
            RefreshRecord {
                grant: grant.to_owned(),
                generation,
                used_last_ms: now_ms,
                superseded_at_ms: None,
                successor: None,
            },
        );
        self.refresh_order.push_back(digest);
        // Only used tokens are forgotten; a current one goes to the back. There are at most
        // `max_grants` of those, so one round is enough.
        let mut spared = 0;
        while self.refresh_order.len() > config.max_tokens && spared <= config.max_grants {
            let Some(oldest) = self.refresh_order.pop_front() else {
                break;
            };
            let current = self
                .refresh
                .get(&oldest)
                .is_some_and(|record| record.superseded_at_ms.is_none());
            if current {
                self.refresh_order.push_back(oldest);
                spared = spared.saturating_add(1);
            } else {
                self.refresh.remove(&oldest);
            }
        }
    }

    pub(super) fn keep_access(
        &mut self,
        config: &Config,
        digest: TokenDigest,
        record: AccessRecord,
        now_ms: u64,
    ) {
        self.access.insert(digest, record);
        self.access_order.push_back(digest);
        while let Some(oldest) = self.access_order.front() {
            let expired = self
                .access
                .get(oldest)
                .is_none_or(|record| record.expires_at_ms <= now_ms);
            if !expired && self.access_order.len() <= config.max_tokens {
                break;
            }
            if let Some(oldest) = self.access_order.pop_front() {
                self.access.remove(&oldest);
            }
        }
    }
}

/// The random source failed.
#[derive(Debug)]
pub(super) struct OutOfRandom;

pub(super) fn mint(random: &dyn SecureRandom, prefix: &str) -> Result<SecretString, OutOfRandom> {
    let mut bytes = [0; TOKEN_BYTES];
    random.fill(&mut bytes).map_err(|_| OutOfRandom)?;
    Ok(SecretString::from(format!(
        "{prefix}{}",
        Base64UrlUnpadded::encode_string(&bytes)
    )))
}

pub(super) fn parse_scope(text: &str) -> BTreeSet<String> {
    text.split(' ')
        .filter(|one| !one.is_empty())
        .map(str::to_owned)
        .collect()
}
