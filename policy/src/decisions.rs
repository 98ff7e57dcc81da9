//! Decisions that were made before: the same question to the same policy has the same answer, unless the policy looks
//! at the time.
//!
//! What a decision is looked up by is all that it is a function of: the policy's digest and the whole question. So
//! nothing need be told when a policy, a grant or a client changes; the next question is another one. Freezes are no
//! matter of policies.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;

use crate::{Compiled, Decision, Question};

/// Parts with a lock each.
const PARTS: usize = 16;

/// Decisions that a part keeps: those that were asked for last.
const OF_PART: NonZeroUsize = NonZeroUsize::new(512).unwrap();

/// Questions that take more are decided each time.
const MAX_QUESTION_BYTES: usize = 4 * 1024;

/// Decisions that were made, at most 8,192. Whoever asks ever other questions drives others' out, and gains nothing:
/// they are made again.
pub struct Decisions {
    parts: [Mutex<LruCache<Key, Decision>>; PARTS],
    hasher: RandomState,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    sha256: [u8; 32],
    /// With its time left out.
    question: Question,
}

impl Default for Decisions {
    fn default() -> Self {
        Self {
            parts: std::array::from_fn(|_| Mutex::new(LruCache::new(OF_PART))),
            hasher: RandomState::new(),
        }
    }
}

impl Decisions {
    /// Decides as [`Compiled::decide`] does, by what was decided before where that is the same question.
    #[must_use]
    pub fn decide(&self, policy: &Compiled, question: Question) -> Decision {
        if policy.about(&question).looks.at_time()
            || !question.is_in_calendar()
            || question.text_bytes() > MAX_QUESTION_BYTES
        {
            return policy.decide(&question);
        }
        let Some(part) = self.part(&question) else {
            return policy.decide(&question);
        };
        let key = Key {
            sha256: *policy.sha256(),
            question: Question {
                at_s: 0,
                ..question
            },
        };
        if let Some(found) = part.lock().get(&key) {
            return found.clone();
        }
        let decision = policy.decide(&key.question);
        part.lock().put(key, decision.clone());
        decision
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        for part in &self.parts {
            part.lock().clear();
        }
    }

    fn part(&self, question: &Question) -> Option<&Mutex<LruCache<Key, Decision>>> {
        let place = self
            .hasher
            .hash_one(&question.grant)
            .checked_rem(PARTS as u64)?;
        self.parts.get(usize::try_from(place).ok()?)
    }
}

impl std::fmt::Debug for Decisions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decisions").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "small numbers")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Ask, Binding};

    fn question(number: u8, at_s: u64) -> Question {
        let one = |bit: u8, yes: &str, no: &str| {
            let set = number & (1 << bit) != 0;
            if set { yes } else { no }.to_owned()
        };
        Question {
            client: one(0, "worker", "other"),
            vendor: "crm-sync".to_owned(),
            grant: one(1, "contacts", "files"),
            app: "crm-app".to_owned(),
            provider: "crm".to_owned(),
            grant_scopes: vec!["read".to_owned(), one(2, "write", "list")],
            grant_targets: vec!["api".to_owned()],
            target: "api".to_owned(),
            scopes: vec![one(3, "read", "write")],
            key: one(4, "one", "two"),
            binding: Binding::Dpop,
            tier: "hardware".to_owned(),
            address: (number & 32 != 0).then(|| "192.0.2.7".parse().unwrap()),
            at_s,
            ask: if number & 64 != 0 {
                Ask::Issue {
                    audience: "a".to_owned(),
                }
            } else {
                Ask::Call {
                    operation: one(7, "people-list", "people-get"),
                    method: "GET".to_owned(),
                }
            },
        }
    }

    fn policies() -> Vec<Compiled> {
        [
            "@id(\"all\") permit(principal, action, resource);",
            "@id(\"who\") permit(principal == Client::\"worker\", action, resource);
             @id(\"where\") forbid(principal, action, resource) unless { context has address };",
            "@id(\"what\") permit(principal, action, resource) when { resource.scopes.contains(\"write\") };
             @id(\"calls\") forbid(principal, action == Action::\"call\", resource) when { context.operation == \"people-get\" };",
            "@id(\"key\") permit(principal, action, resource) when { context.key == \"one\" };
             @id(\"hours\") permit(principal, action, resource == Grant::\"contacts\") when { context.weekday < 6 };",
            "@id(\"until\") permit(principal, action, resource) when { context.now < datetime(\"2026-01-01\") };",
        ]
        .map(|text| Compiled::new(text.as_bytes()).unwrap())
        .into()
    }

    proptest! {
        #[test]
        fn what_was_decided_before_is_what_would_be_decided(
            asked in prop::collection::vec((0..5_usize, any::<u8>(), 0..9_u64), 1..200),
        ) {
            let (policies, decisions) = (policies(), Decisions::default());
            for (policy, number, day) in asked {
                let policy = &policies[policy];
                // The days about the end of 2025.
                let question = question(number, 1_766_880_000 + day * 86_400);
                let expected = policy.decide(&question);
                prop_assert_eq!(decisions.decide(policy, question), expected);
            }
        }
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for_and_what_is_asked_for_stays() {
        let (policy, decisions) = (&policies()[0], Decisions::default());
        let numbered = |number: usize| Question {
            key: number.to_string(),
            ..question(0, 0)
        };
        let kept = || {
            let parts = decisions.parts.iter().map(Mutex::lock);
            parts.map(|part| part.len()).sum::<usize>()
        };
        for number in 0..10 * OF_PART.get() {
            assert!(decisions.decide(policy, numbered(number)).permitted);
            assert!(decisions.decide(policy, numbered(0)).permitted);
            // All are of one grant, and so in one part.
            assert!(kept() <= OF_PART.get(), "{}", kept());
        }
        let has = |number| {
            let key = Key {
                sha256: *policy.sha256(),
                question: numbered(number),
            };
            let part = decisions.part(&key.question).unwrap().lock();
            part.contains(&key)
        };
        assert!(has(0) && !has(1));
        let long = Question {
            key: "k".repeat(MAX_QUESTION_BYTES),
            ..question(0, 0)
        };
        let before = kept();
        assert!(decisions.decide(policy, long).permitted);
        assert_eq!(kept(), before);
        decisions.clear();
        assert_eq!(kept(), 0);
    }

    #[test]
    fn a_time_beyond_the_calendar_is_denied_each_time() {
        let (policy, decisions) = (&policies()[0], Decisions::default());
        for (at_s, permitted) in [(0, true), (u64::MAX, false), (0, true)] {
            assert_eq!(
                decisions.decide(policy, question(0, at_s)).permitted,
                permitted
            );
        }
    }
}
