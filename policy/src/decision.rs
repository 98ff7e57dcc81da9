//! What a policy decides, and which of its policies made it.

use cedar_policy::{AuthorizationError, Authorizer, Decision as Verdict};

use crate::Compiled;
use crate::looks::Looks;
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
        self.decide_by(question, &self.about(question).looks)
    }

    fn decide_by(&self, question: &Question, looks: &Looks) -> Decision {
        let Some((request, entities)) = question.put(looks) else {
            return Decision {
                permitted: false,
                policies: Vec::new(),
                failed: self.ids().map(str::to_owned).collect(),
            };
        };
        let policies = &self.about(question).policies;
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
        let put = question.put(&Looks::everywhere());
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

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "small numbers")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Ask, Binding};

    const HEADS: [&str; 10] = [
        "principal, action, resource",
        "principal == Client::\"worker\", action, resource",
        "principal is Client, action, resource is Grant",
        "principal in Vendor::\"crm-sync\", action, resource",
        "principal is Client in Vendor::\"other\", action, resource",
        "principal, action in [Action::\"issue\", Action::\"call\"], resource",
        "principal, action, resource == Grant::\"contacts\"",
        "principal, action, resource in App::\"crm-app\"",
        "principal, action, resource in Provider::\"other\"",
        "principal, action, resource is Grant in Provider::\"crm\"",
    ];

    const CONDITIONS: [&str; 26] = [
        "context.now < datetime(\"2026-01-01\")",
        "context.now.toTime() > duration(\"9h\")",
        "context.weekday < 6",
        "context.key == \"one\"",
        "context.binding == \"dpop\"",
        "context.tier == \"hardware\"",
        "context.target == \"api\"",
        "context.scopes.contains(\"read\")",
        "context.scopes.isEmpty()",
        "resource.scopes.containsAll(context.scopes)",
        "context has address",
        "context has address && context.address.isInRange(ip(\"192.0.2.0/24\"))",
        "context has audience && context.audience like \"*api\"",
        "context has operation && context.operation == \"people-get\"",
        "context has method && [\"GET\", \"HEAD\"].contains(context.method)",
        "resource.scopes.contains(\"write\")",
        "resource.targets.contains(context.target)",
        "resource[\"scopes\"] == [\"read\"]",
        "principal == Client::\"worker\"",
        "principal in Vendor::\"crm-sync\"",
        "resource in [App::\"other\", App::\"crm-app\"]",
        "Grant::\"contacts\" == resource && Grant::\"contacts\".scopes.contains(\"read\")",
        // These may fail.
        "Grant::\"files\".scopes.contains(\"read\")",
        "Client::\"worker\" in Vendor::\"crm-sync\"",
        "9223372036854775807 + context.weekday > 0",
        "(if context.weekday == 1 then context.key else context.tier) == \"one\"",
    ];

    fn question(number: u16, at_s: u64) -> Question {
        let one = |bit: u16, yes: &str, no: &str| {
            let set = number & (1 << bit) != 0;
            if set { yes } else { no }.to_owned()
        };
        Question {
            client: one(0, "worker", "other"),
            vendor: one(1, "crm-sync", "other"),
            grant: one(2, "contacts", "files"),
            app: one(3, "crm-app", "other"),
            provider: one(4, "crm", "other"),
            grant_scopes: vec!["read".to_owned(), one(5, "write", "read")],
            grant_targets: vec![one(6, "api", "files")],
            target: one(7, "api", "files"),
            scopes: Vec::from_iter((number & (1 << 8) != 0).then(|| one(9, "read", "write"))),
            key: one(10, "one", "two"),
            binding: match number & (1 << 11) {
                0 => Binding::Dpop,
                _ => Binding::Mtls,
            },
            tier: one(12, "hardware", "emulated"),
            address: (number & (1 << 13) != 0).then(|| "192.0.2.7".parse().unwrap()),
            at_s,
            ask: match number & (1 << 14) {
                0 => Ask::Call {
                    operation: one(15, "people-list", "people-get"),
                    method: one(15, "GET", "POST"),
                },
                _ => Ask::Issue {
                    audience: one(15, "https://g.example/api", "https://g.example/other"),
                },
            },
        }
    }

    proptest! {
        #[test]
        fn what_is_not_looked_at_decides_nothing(
            statements in prop::collection::vec(
                (any::<bool>(), 0..HEADS.len(), any::<bool>(), 0..CONDITIONS.len()),
                1..5,
            ),
            asked in prop::collection::vec((any::<u16>(), 0..9_u64), 16),
        ) {
            let each = statements.iter().enumerate().map(|(number, (permits, head, when, condition))| {
                let effect = if *permits { "permit" } else { "forbid" };
                let (head, condition) = (HEADS[*head], CONDITIONS[*condition]);
                let word = if *when { "when" } else { "unless" };
                format!("@id(\"s{number}\") {effect}({head}) {word} {{ {condition} }};\n")
            });
            let text: String = each.collect();
            let compiled = Compiled::new(text.as_bytes());
            prop_assert!(compiled.is_ok(), "{} {:?}", text, compiled.err());
            let compiled = compiled.unwrap();
            for (number, day) in asked {
                // The days about the end of 2025.
                let question = question(number, 1_766_880_000 + day * 86_400);
                let whole = compiled.decide_by(&question, &Looks::everywhere());
                prop_assert_eq!(compiled.decide(&question), whole, "{} {:?}", text, question);
            }
        }
    }
}
