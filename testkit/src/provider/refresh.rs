//! The refresh grant: rotation, grace and the detection of reuse.

use ring::rand::SecureRandom;
use secrecy::{ExposeSecret, SecretString};

use super::{
    config::{Config, Rotation, Successor},
    digest::TokenDigest,
    ledger::{Event, Outcome, RevokedBy, Standing},
    oauth_error::OAuthError,
    state::{AccessRecord, Family, OutOfRandom, RefreshRecord, State, mint, parse_scope},
};

/// Tokens for a successful refresh.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) access_token: SecretString,
    pub(crate) refresh_token: Option<SecretString>,
    pub(crate) expires_in_s: u64,
    pub(crate) scope: String,
}

/// One presentation of a refresh token by an authenticated client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Presentation<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) refresh_token: &'a str,
    pub(crate) scope: Option<&'a str>,
    pub(crate) concurrent: u32,
    pub(crate) now_ms: u64,
}

impl State {
    /// The refresh grant [RFC 6749 §6]; with `commit` false it only looks and writes down.
    pub(crate) fn refresh(
        &mut self,
        config: &Config,
        random: &dyn SecureRandom,
        presentation: Presentation<'_>,
        commit: bool,
        log: &mut Vec<Event>,
    ) -> Result<Issued, OAuthError> {
        let digest = TokenDigest::of(presentation.refresh_token);
        let record = self.refresh.get(&digest).cloned();
        let standing = self.standing(config, record.as_ref(), presentation);
        let place = log.len();
        let decided = if commit {
            self.decide(
                config,
                random,
                presentation,
                digest,
                record.as_ref(),
                standing,
                log,
            )
        } else {
            Decided::refused(Outcome::NotProcessed, OAuthError::Server)
        };
        let issued = decided.issued.as_ref().ok();
        log.insert(
            place,
            Event::Presented {
                token: digest,
                grant: record.as_ref().map(|record| record.grant.clone()),
                generation: record.as_ref().map(|record| record.generation),
                client_id: presentation.client_id.to_owned(),
                standing,
                concurrent: presentation.concurrent,
                outcome: decided.outcome,
                successor: issued
                    .and_then(|issued| issued.refresh_token.as_ref())
                    .map(|token| TokenDigest::of(token.expose_secret())),
                access_token: issued
                    .map(|issued| TokenDigest::of(issued.access_token.expose_secret())),
            },
        );
        decided.issued
    }

    pub(super) fn standing(
        &self,
        config: &Config,
        record: Option<&RefreshRecord>,
        presentation: Presentation<'_>,
    ) -> Standing {
        let Some(record) = record else {
            return Standing::Unknown;
        };
        let Some(family) = self.families.get(&record.grant) else {
            return Standing::Unknown;
        };
        let idle_ms = presentation.now_ms.saturating_sub(record.used_last_ms);
        if family.client_id != presentation.client_id {
            Standing::Foreign
        } else if family.revoked.is_some() {
            Standing::Revoked
        } else if record.superseded_at_ms.is_some() {
            Standing::Superseded
        } else if config
            .refresh_idle_s
            .is_some_and(|idle_s| idle_ms >= idle_s.saturating_mul(1_000))
        {
            Standing::Expired
        } else {
            Standing::Current
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one decision over all that was found"
    )]
    fn decide(
        &mut self,
        config: &Config,
        random: &dyn SecureRandom,
        presentation: Presentation<'_>,
        digest: TokenDigest,
        record: Option<&RefreshRecord>,
        standing: Standing,
        log: &mut Vec<Event>,
    ) -> Decided {
        let invalid_grant = |why| Decided::refused(Outcome::Refused, OAuthError::InvalidGrant(why));
        let Some(record) = record else {
            return invalid_grant("the refresh token is unknown");
        };
        match standing {
            Standing::Unknown => return invalid_grant("the refresh token is unknown"),
            Standing::Foreign => return invalid_grant("the refresh token is another client's"),
            Standing::Revoked => return invalid_grant("the grant is revoked"),
            Standing::Expired => return invalid_grant("the refresh token has expired"),
            Standing::Current | Standing::Superseded => {}
        }
        let graced = standing == Standing::Superseded;
        let mut same_successor = false;
        if graced {
            match self.grace(config.rotation, record, presentation.now_ms) {
                Reuse::Refuse => return invalid_grant("the refresh token was used before"),
                Reuse::RevokeFamily => {
                    self.revoke(&record.grant, RevokedBy::Reuse, log);
                    return Decided::refused(
                        Outcome::FamilyRevoked,
                        OAuthError::InvalidGrant("the refresh token was used before"),
                    );
                }
                Reuse::GiveSame => same_successor = true,
                Reuse::GiveNew => {}
            }
        }
        let Some(family) = self.families.get(&record.grant).cloned() else {
            return invalid_grant("the refresh token is unknown");
        };
        let scope = match presentation.scope {
            None => family.scope.clone(),
            Some(asked) => parse_scope(asked),
        };
        if scope.is_empty() || !scope.is_subset(&family.scope) {
            return Decided::refused(Outcome::ScopeRefused, OAuthError::InvalidScope);
        }

        // Mint before anything changes: a failing random source must not use a token up.
        let server = |OutOfRandom| Decided::refused(Outcome::NotProcessed, OAuthError::Server);
        let access_token = match mint(random, &format!("{}at_", config.token_marker)) {
            Ok(token) => token,
            Err(error) => return server(error),
        };
        let keeps = config.rotation == Rotation::Never || same_successor;
        let refresh_token = if keeps {
            family.current.clone()
        } else {
            match mint(random, &format!("{}rt_", config.token_marker)) {
                Ok(token) => token,
                Err(error) => return server(error),
            }
        };
        self.keep_access(
            config,
            TokenDigest::of(access_token.expose_secret()),
            AccessRecord {
                grant: record.grant.clone(),
                scope: scope.clone(),
                expires_at_ms: presentation
                    .now_ms
                    .saturating_add(config.expires_in_s.saturating_mul(1_000)),
            },
            presentation.now_ms,
        );
        if keeps {
            if let Some(kept) = self.refresh.get_mut(&digest) {
                kept.used_last_ms = presentation.now_ms;
            }
        } else {
            self.rotate(
                config,
                digest,
                record,
                &family,
                &refresh_token,
                presentation.now_ms,
            );
        }
        Decided {
            outcome: if graced {
                Outcome::Graced
            } else if keeps {
                Outcome::Kept
            } else {
                Outcome::Rotated
            },
            issued: Ok(Issued {
                access_token,
                refresh_token: (config.rotation != Rotation::Never).then_some(refresh_token),
                expires_in_s: config.expires_in_s,
                scope: scope.into_iter().collect::<Vec<_>>().join(" "),
            }),
        }
    }

    fn grace(&self, rotation: Rotation, record: &RefreshRecord, now_ms: u64) -> Reuse {
        let Rotation::Grace {
            window_ms,
            successor,
        } = rotation
        else {
            return match rotation {
                Rotation::Strict | Rotation::Grace { .. } => Reuse::RevokeFamily,
                Rotation::NoGrace | Rotation::Never => Reuse::Refuse,
            };
        };
        let within = record
            .superseded_at_ms
            .is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < window_ms);
        if !within {
            return Reuse::RevokeFamily;
        }
        match successor {
            Successor::NewestWins => Reuse::GiveNew,
            Successor::Same => {
                let current = self
                    .families
                    .get(&record.grant)
                    .map(|family| family.generation);
                if record.successor.is_some() && record.successor == current {
                    Reuse::GiveSame
                } else {
                    Reuse::RevokeFamily
                }
            }
        }
    }

    fn rotate(
        &mut self,
        config: &Config,
        presented: TokenDigest,
        record: &RefreshRecord,
        family: &Family,
        successor: &SecretString,
        now_ms: u64,
    ) {
        let generation = family.generation.saturating_add(1);
        let newest_before = TokenDigest::of(family.current.expose_secret());
        // Under "newest wins" the token that came is not the newest: both are superseded now.
        for digest in [presented, newest_before] {
            if let Some(old) = self.refresh.get_mut(&digest) {
                old.superseded_at_ms = old.superseded_at_ms.or(Some(now_ms));
                old.successor = old.successor.or(Some(generation));
            }
        }
        self.keep_refresh(
            config,
            TokenDigest::of(successor.expose_secret()),
            &record.grant,
            generation,
            now_ms,
        );
        if let Some(kept) = self.families.get_mut(&record.grant) {
            kept.current = successor.clone();
            kept.generation = generation;
        }
    }
}

/// What a superseded token gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reuse {
    Refuse,
    RevokeFamily,
    GiveSame,
    GiveNew,
}

/// What was done with a presentation, and its answer.
#[derive(Debug)]
struct Decided {
    outcome: Outcome,
    issued: Result<Issued, OAuthError>,
}

impl Decided {
    fn refused(outcome: Outcome, error: OAuthError) -> Self {
        Self {
            outcome,
            issued: Err(error),
        }
    }
}
