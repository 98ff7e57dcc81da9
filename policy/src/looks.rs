//! What of a question policies look at. The rest need not be put to Cedar, and a decision can't depend on it.

use std::collections::BTreeSet;

use cedar_policy::Policy;
use serde_json::Value;

/// What the context says of the time.
const OF_TIME: [&str; 2] = ["now", "weekday"];

/// What of a question some policies may look at: at least what they do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Looks {
    /// At the context as a whole.
    whole_context: bool,
    /// At these attributes of the context.
    context: BTreeSet<String>,
    /// At what entities hold.
    pub(crate) attributes: bool,
    /// At what is above them.
    pub(crate) above: bool,
}

impl Looks {
    /// At all of it.
    pub(crate) fn everywhere() -> Self {
        Self {
            whole_context: true,
            context: BTreeSet::new(),
            attributes: true,
            above: true,
        }
    }

    pub(crate) fn of<'a>(policies: impl Iterator<Item = &'a Policy>) -> Self {
        let mut looks = Self::default();
        for policy in policies {
            match policy.to_json() {
                // No action is above another, so that the head's `action in [...]` looks at no entity.
                Ok(Value::Object(parts)) => parts
                    .iter()
                    .filter(|(name, _)| *name != "action")
                    .for_each(|(_, part)| looks.add(part)),
                Ok(_) | Err(_) => return Self::everywhere(),
            }
        }
        looks
    }

    /// Whether at an attribute of the context.
    pub(crate) fn at(&self, attribute: &str) -> bool {
        self.whole_context || self.context.contains(attribute)
    }

    /// Whether at the time.
    pub(crate) fn at_time(&self) -> bool {
        OF_TIME.iter().any(|attribute| self.at(attribute))
    }

    /// By Cedar's JSON format: an access is `{".": {"left": …, "attr": …}}`, and the context `{"Var": "context"}`; a
    /// head says `{"op": "in", …}`, or `{"op": "is", "in": …}`, and a condition `{"in": …}`.
    fn add(&mut self, tree: &Value) {
        match tree {
            Value::Object(fields) => fields.iter().for_each(|(name, of)| {
                match (name.as_str(), of) {
                    ("Var", Value::String(variable)) => self.whole_context |= variable == "context",
                    ("." | "has", of) => {
                        if let Some(attribute) = attribute_of_context(of) {
                            self.context.insert(attribute.to_owned());
                            return;
                        }
                        self.attributes = true;
                    }
                    ("hasTag" | "getTag", _) => self.attributes = true,
                    ("in", _) => self.above = true,
                    ("op", Value::String(operator)) => self.above |= operator == "in",
                    _ => {}
                }
                self.add(of);
            }),
            Value::Array(all) => all.iter().for_each(|of| self.add(of)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

fn attribute_of_context(access: &Value) -> Option<&str> {
    let left = access.get("left")?.as_object()?;
    let is_context = left.len() == 1 && left.get("Var")?.as_str()? == "context";
    access.get("attr")?.as_str().filter(|_| is_context)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn whatever_can_see_the_time_is_found() {
        for (condition, expected) in [
            ("true", false),
            ("context.tier == \"hardware\"", false),
            ("context[\"tier\"] == \"hardware\"", false),
            ("context has address && context.address.isLoopback()", false),
            ("context.scopes.containsAll(resource.scopes)", false),
            (
                "context.tier == \"now\" || context.tier == \"context.now\"",
                false,
            ),
            ("context.now < datetime(\"2026-01-01\")", true),
            ("context[\"now\"] < datetime(\"2026-01-01\")", true),
            ("context[\"\\u{6e}ow\"] < datetime(\"2026-01-01\")", true),
            ("context.now.toTime() > duration(\"9h\")", true),
            ("context.weekday < 6", true),
            (
                "!(if context.tier == \"x\" then context.weekday == 7 else false)",
                true,
            ),
            ("{ at: context.now } == { at: context.now }", true),
            ("[context.weekday].contains(6)", true),
            // The context whole.
            ("context == { tier: \"hardware\" }", true),
            ("{ \"Var\": context } == { \"Var\": context }", true),
            ("{ \".\": context } == { \".\": context }", true),
            ("(if true then context else context).tier == \"x\"", true),
            (
                "{ \"Var\": \"context\" } == { \"Var\": \"context\" }",
                false,
            ),
        ] {
            for head in ["permit", "forbid"] {
                for word in ["when", "unless"] {
                    let text =
                        format!("{head}(principal, action, resource) {word} {{ {condition} }};");
                    let policy = Policy::from_str(&text).unwrap();
                    assert_eq!(
                        Looks::of([&policy].into_iter()).at_time(),
                        expected,
                        "{text}"
                    );
                }
            }
        }
    }

    #[test]
    fn whatever_can_see_an_entity_is_found() {
        let of = |text: &str| {
            let looks = Looks::of([&Policy::from_str(text).unwrap()].into_iter());
            (looks.attributes, looks.above)
        };
        let (neither, attributes, above) = ((false, false), (true, false), (false, true));
        for (head, expected) in [
            ("principal, action, resource", neither),
            (
                "principal == Client::\"a\", action, resource == Grant::\"b\"",
                neither,
            ),
            (
                "principal is Client, action == Action::\"call\", resource is Grant",
                neither,
            ),
            (
                "principal, action in [Action::\"issue\", Action::\"call\"], resource",
                neither,
            ),
            ("principal in Vendor::\"a\", action, resource", above),
            (
                "principal is Client in Vendor::\"a\", action, resource",
                above,
            ),
            ("principal, action, resource in App::\"a\"", above),
            (
                "principal, action, resource is Grant in Provider::\"a\"",
                above,
            ),
        ] {
            let text = format!("permit({head});");
            assert_eq!(of(&text), expected, "{text}");
        }
        for (condition, expected) in [
            ("true", neither),
            ("context.key == \"resource.scopes\"", neither),
            ("principal == Client::\"a\"", neither),
            ("resource is Grant", neither),
            ("context.scopes.contains(\"in\")", neither),
            ("context.now < datetime(\"2026-01-01\")", neither),
            ("resource.scopes.contains(\"a\")", attributes),
            ("resource[\"scopes\"].contains(\"a\")", attributes),
            ("resource has scopes", attributes),
            ("Grant::\"a\".scopes.contains(\"a\")", attributes),
            (
                "(if true then resource else resource).scopes == []",
                attributes,
            ),
            ("principal in Vendor::\"a\"", above),
            ("[principal in Vendor::\"a\"].contains(true)", above),
            ("resource is Grant in App::\"a\"", above),
            (
                "{ action: resource in App::\"a\" } has action",
                (true, true),
            ),
            ("resource.hasTag(\"a\")", attributes),
            ("resource.getTag(\"a\") == \"b\"", attributes),
        ] {
            let text = format!("permit(principal, action, resource) when {{ {condition} }};");
            assert_eq!(of(&text), expected, "{text}");
        }
    }
}
