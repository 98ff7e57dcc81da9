//! Whether what a policy says can depend on the time.

use cedar_policy::Policy;
use serde_json::Value;

/// What the context says of the time.
const OF_TIME: [&str; 2] = ["now", "weekday"];

/// Whether a policy may look at the time. One that takes the context whole may.
pub(crate) fn looks_at_time(policy: &Policy) -> bool {
    policy.to_json().map_or(true, |tree| is_timed(&tree))
}

/// By Cedar's JSON format: an access is `{".": {"left": …, "attr": …}}`, and the context `{"Var": "context"}`.
fn is_timed(tree: &Value) -> bool {
    match tree {
        Value::Object(fields) => fields.iter().any(|(name, of)| match (name.as_str(), of) {
            ("Var", Value::String(variable)) => variable == "context",
            ("." | "has", of) => match attribute_of_context(of) {
                Some(attribute) => OF_TIME.contains(&attribute),
                None => is_timed(of),
            },
            _ => is_timed(of),
        }),
        Value::Array(all) => all.iter().any(is_timed),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
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
                    assert_eq!(looks_at_time(&policy), expected, "{text}");
                }
            }
        }
    }
}
