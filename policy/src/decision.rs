//! What a policy decides, and which of its policies made it.

use cedar_policy::{AuthorizationError, Authorizer, Decision as Verdict};

use crate::Compiled;
use crate::question::Question;

/// What a policy of a set does when it applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It permits, unless one forbids.
    Permit,
    /// It forbids.
    Forbid,
}

impl Effect {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Forbid => "forbid",
        }
    }
}

impl From<cedar_policy::Effect> for Effect {
    fn from(effect: cedar_policy::Effect) -> Self {
        match effect {
            cedar_policy::Effect::Permit => Self::Permit,
            cedar_policy::Effect::Forbid => Self::Forbid,
        }
    }
}

/// A decision. Nothing that no policy permits passes, and one that forbids wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it passes.
    pub permitted: bool,
    /// The policies that made it, by id: those that permit, or those that forbid; none if nothing permits.
    pub policies: Vec<String>,
    /// The policies that could not be evaluated. One of them that forbids denies.
    pub failed: Vec<String>,
}

/// What one policy of a set says of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Its id.
    pub id: String,
    /// What it does when it applies.
    pub effect: Effect,
    /// Where it begins, from 1.
    pub line: usize,
    /// Whether it applies.
    pub applies: bool,
    /// Whether it could not be evaluated.
    pub failed: bool,
}

impl Compiled {
    /// Decides.
    #[must_use]
    pub fn decide(&self, question: &Question) -> Decision {
        let Some((request, entities)) = question.put() else {
            return Decision {
                permitted: false,
                policies: Vec::new(),
                failed: self.ids().map(str::to_owned).collect(),
            };
        };
        let policies = self.about(question);
        let response = Authorizer::new().is_authorized(&request, policies, &entities);
        let diagnostics = response.diagnostics();
        let mut made: Vec<String> = diagnostics.reason().map(ToString::to_string).collect();
        made.sort_unstable();
        let mut failed: Vec<String> = diagnostics
            .errors()
            .map(|AuthorizationError::PolicyEvaluationError(error)| error.policy_id().to_string())
            .collect();
        failed.sort_unstable();
        // Cedar passes over a policy that fails; one that should forbid must not be passed over.
        let forbids = |id: &String| {
            self.member(id)
                .is_none_or(|member| member.effect == Effect::Forbid)
        };
        let unheard = failed.iter().any(forbids);
        let permitted = match response.decision() {
            Verdict::Allow => !unheard,
            Verdict::Deny => false,
        };
        if unheard && response.decision() == Verdict::Allow {
            made.clear();
        }
        Decision {
            permitted,
            policies: made,
            failed,
        }
    }

    /// What each of its policies says of a question, in their order.
    #[must_use]
    pub fn explain(&self, question: &Question) -> Vec<Explained> {
        let named = crate::compiled::read(self.text()).unwrap_or_default();
        let put = question.put();
        let each = self.members().iter().map(|member| {
            let policy = named.iter().find(|(other, _)| other.id == member.id);
            let alone = policy.and_then(|(_, policy)| crate::compiled::set_of([policy]).ok());
            let (applies, failed) = match (&put, alone) {
                (Some((request, entities)), Some(alone)) => {
                    let response = Authorizer::new().is_authorized(request, &alone, entities);
                    let diagnostics = response.diagnostics();
                    let applies = diagnostics.reason().next().is_some();
                    (applies, diagnostics.errors().next().is_some())
                }
                (None, _) | (_, None) => (false, true),
            };
            Explained {
                id: member.id.clone(),
                effect: member.effect,
                line: member.line,
                applies,
                failed,
            }
        });
        each.collect()
    }
}
