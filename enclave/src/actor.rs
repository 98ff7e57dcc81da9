//! Actors: on whose behalf a client asks for a token, and who stands behind those [RFC 8693 §4.1].

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest chain that a grant can allow.
pub const MAX_ACTOR_DEPTH: u32 = 8;

/// The longest name of an actor in bytes.
pub const MAX_ACTOR_BYTES: usize = 256;

/// The claim `act`: who acts, and who acted before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// The name of the one who acts.
    pub sub: String,
    /// Who acted before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Box<Act>>,
}

/// Why a token can't be asked for on behalf of these actors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ActorError {
    /// There are more than any grant can allow.
    #[error("at most 8")]
    TooMany,
    /// A name is empty, too long, or has a control character.
    #[error("each 1 to 256 bytes, no control characters")]
    Name,
    /// There are more than the grant allows.
    #[error("the grant allows a chain of {allowed} actors")]
    TooDeep {
        /// As many as it allows.
        allowed: u32,
    },
}

impl Act {
    /// Reads a chain, the one who acts now first; none if it is empty.
    ///
    /// # Errors
    /// [`ActorError::TooMany`], [`ActorError::Name`].
    pub fn parse(actors: &[String]) -> Result<Option<Box<Self>>, ActorError> {
        if depth(actors.len()) > MAX_ACTOR_DEPTH {
            return Err(ActorError::TooMany);
        }
        let mut chain = None;
        for sub in actors.iter().rev() {
            let fits = (1..=MAX_ACTOR_BYTES).contains(&sub.len());
            if !fits || sub.chars().any(char::is_control) {
                return Err(ActorError::Name);
            }
            let sub = sub.clone();
            chain = Some(Box::new(Self { sub, act: chain }));
        }
        Ok(chain)
    }
}

/// The names of a chain, the one who acts now first.
#[must_use]
pub fn names(act: Option<&Act>) -> Vec<&str> {
    let chain = std::iter::successors(act, |act| act.act.as_deref());
    chain.map(|act| act.sub.as_str()).collect()
}

/// Whether a grant allows a chain.
pub(crate) fn within(act: Option<&Act>, allowed: u32) -> Result<(), ActorError> {
    if depth(names(act).len()) > allowed {
        return Err(ActorError::TooDeep { allowed });
    }
    Ok(())
}

fn depth(actors: usize) -> u32 {
    u32::try_from(actors).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gateway::GatewayError;
    use crate::issue::IssueError;
    use crate::registry::Rotation;
    use crate::terms::GrantTerms;
    use crate::testing::{World, id};

    fn chain(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn each_bound_of_a_chain_refuses() {
        let long = "a".repeat(256);
        let many: Vec<String> = (0..8).map(|n| n.to_string()).collect();
        let too_many = [&many[..], &chain(&["8"])].concat();
        let rows = [
            (chain(&[]), Ok(0)),
            (chain(&["a"]), Ok(1)),
            (chain(&[&long]), Ok(1)),
            (chain(&["a b", "jürgen@example"]), Ok(2)),
            (many, Ok(8)),
            (too_many, Err(ActorError::TooMany)),
            (chain(&[""]), Err(ActorError::Name)),
            (chain(&["a", ""]), Err(ActorError::Name)),
            (chain(&["a\n"]), Err(ActorError::Name)),
            (chain(&[&format!("{long}a")]), Err(ActorError::Name)),
        ];
        for (actors, expected) in rows {
            let found = Act::parse(&actors);
            let found = found.map(|act| names(act.as_deref()).len());
            assert_eq!(found, expected, "{actors:?}");
        }
    }

    #[test]
    fn the_one_who_acts_now_stands_outside() {
        let act = Act::parse(&chain(&["assistant", "planner", "jane"])).unwrap();
        let claim = json!({"sub": "assistant", "act": {"sub": "planner", "act": {"sub": "jane"}}});
        assert_eq!(serde_json::to_value(&act).unwrap(), claim);
        assert_eq!(names(act.as_deref()), ["assistant", "planner", "jane"]);
    }

    #[test]
    fn a_grant_allows_no_actors_unless_its_tenant_says_how_many() {
        let world = World::new(Rotation::Strict);
        let ask = |actors: &[&str]| {
            let issued = world.ask(|ask| ask.actors = chain(actors));
            issued.map(|_| ())
        };
        let deep = |allowed| Err(IssueError::Actor(ActorError::TooDeep { allowed }));
        assert_eq!(ask(&["jane"]), deep(0));
        let terms = GrantTerms {
            max_actor_depth: 2,
            ..GrantTerms::default()
        };
        let (e, by) = (&world.enclave, world.admin());
        let updated = e.update_grant(by, &id("contacts"), terms, &world.now);
        drop(world.settle(updated.unwrap()));
        assert_eq!(ask(&[]), Ok(()));
        assert_eq!(ask(&["assistant", "jane"]), Ok(()));
        assert_eq!(ask(&["assistant", "planner", "jane"]), deep(2));
        assert_eq!(ask(&["assistant", ""]), Err(ActorError::Name.into()));
        let error = GatewayError::from(ActorError::TooDeep { allowed: 0 });
        assert_eq!(error.to_string(), "the grant allows a chain of 0 actors");
    }
}
