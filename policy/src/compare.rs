//! Whether a change of a policy loosens.
//!
//! The rule is one that needs no proof about what policies mean: a change tightens if each policy that permits was there
//! before, and each that forbade is still there, word by word but for comments, white space and annotations. Anything
//! else may permit what was denied, and counts as loosening. That a policy can't be evaluated changes nothing: one that
//! permits is passed over then, and one that forbids denies.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::Policy;

use crate::Compiled;
use crate::compiled::read;
use crate::decision::Effect;

/// What a change does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The ids of policies that were not there.
    pub added: Vec<String>,
    /// The ids of policies that are not there any more.
    pub removed: Vec<String>,
    /// The ids of policies that say something else than before.
    pub changed: Vec<String>,
    /// Why it loosens; empty if it does not.
    pub loosens: Vec<String>,
}

/// One policy, without its name.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Said {
    permits: bool,
    /// As Cedar's JSON without annotations; none where that could not be made, which equals nothing.
    json: Option<String>,
}

/// Compares a tenant's policy before a change with the one after it. Where there is none, all passes that the grants
/// allow.
#[must_use]
pub fn compare(before: Option<&Compiled>, after: Option<&Compiled>) -> Comparison {
    let (old, new) = (said(before), said(after));
    let mut found = Comparison::default();
    for (id, one) in &new {
        match old.get(id) {
            None => found.added.push(id.clone()),
            Some(before) if before != one || one.json.is_none() => found.changed.push(id.clone()),
            Some(_) => {}
        }
    }
    let gone = old.keys().filter(|id| !new.contains_key(*id));
    found.removed.extend(gone.cloned());
    if before.is_none() {
        return found;
    }
    if after.is_none() {
        let why = "without a policy, all passes that the grants allow".to_owned();
        found.loosens.push(why);
        return found;
    }
    let known: BTreeSet<&Said> = old.values().collect();
    let kept: BTreeSet<&Said> = new.values().collect();
    let is_in = |all: &BTreeSet<&Said>, one: &Said| one.json.is_some() && all.contains(one);
    for (id, one) in &new {
        if one.permits && !is_in(&known, one) {
            found
                .loosens
                .push(format!("{id} permits and is new or says something else"));
        }
    }
    for (id, one) in &old {
        if !one.permits && !is_in(&kept, one) {
            found
                .loosens
                .push(format!("{id} forbids and is gone or says something else"));
        }
    }
    found
}

fn said(policy: Option<&Compiled>) -> BTreeMap<String, Said> {
    let named = policy.map(|policy| read(policy.text()).unwrap_or_default());
    let all = named.unwrap_or_default().into_iter();
    all.map(|(member, policy)| {
        let said = Said {
            permits: member.effect == Effect::Permit,
            json: without_annotations(&policy),
        };
        (member.id, said)
    })
    .collect()
}

fn without_annotations(policy: &Policy) -> Option<String> {
    let mut json = policy.to_json().ok()?;
    json.as_object_mut()?.remove("annotations");
    Some(json.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compiled(text: &str) -> Compiled {
        Compiled::new(text.as_bytes()).unwrap()
    }

    const READ: &str = "@id(\"read\") permit(principal, action, resource) when { context.scopes.contains(\"r\") };\n";
    const WRITE: &str = "@id(\"write\") permit(principal, action, resource) when { context.scopes.contains(\"w\") };\n";
    const NIGHT: &str =
        "@id(\"night\") forbid(principal, action, resource) when { context.weekday > 5 };\n";
    const KEY: &str =
        "@id(\"key\") forbid(principal, action, resource) unless { context.key == \"k\" };\n";

    #[test]
    fn only_what_adds_a_forbid_or_takes_a_permit_does_not_loosen() {
        let all = [READ, WRITE, NIGHT, KEY].concat();
        let rows: [(&str, String, bool); 12] = [
            ("the same", all.clone(), false),
            ("another order", [KEY, NIGHT, WRITE, READ].concat(), false),
            ("a comment", format!("// why\n{all}"), false),
            ("other white space", all.replace(' ', "\n "), false),
            ("another id", all.replace("\"read\"", "\"reading\""), false),
            (
                "one annotation more",
                all.replace("@id(\"read\")", "@id(\"read\") @why(\"x\")"),
                false,
            ),
            ("a permit less", [READ, NIGHT, KEY].concat(), false),
            (
                "a forbid more",
                format!("{all}{}", NIGHT.replace("night", "n2").replace('5', "4")),
                false,
            ),
            (
                "a permit more",
                format!(
                    "{all}{}",
                    READ.replace("read", "r2").replace("\"r\"", "\"x\"")
                ),
                true,
            ),
            ("a forbid less", [READ, WRITE, NIGHT].concat(), true),
            ("another permit", all.replace("\"r\"", "\"admin\""), true),
            ("a weaker forbid", all.replace("> 5", "> 6"), true),
        ];
        let before = compiled(&all);
        for (what, after, loosens) in rows {
            let found = compare(Some(&before), Some(&compiled(&after)));
            assert_eq!(!found.loosens.is_empty(), loosens, "{what}: {found:?}");
        }
    }

    #[test]
    fn the_names_of_what_changed_are_told() {
        let before = compiled(&[READ, NIGHT].concat());
        let after = compiled(&[&NIGHT.replace('5', "6"), WRITE].concat());
        assert_eq!(
            compare(Some(&before), Some(&after)),
            Comparison {
                added: vec!["write".into()],
                removed: vec!["read".into()],
                changed: vec!["night".into()],
                loosens: vec![
                    "write permits and is new or says something else".into(),
                    "night forbids and is gone or says something else".into(),
                ],
            }
        );
        let first = compare(None, Some(&after));
        assert_eq!((first.loosens.len(), first.added.len()), (0, 2));
        let last = compare(Some(&before), None);
        assert_eq!((last.loosens.len(), last.removed.len()), (1, 2));
        assert_eq!(compare(None, None), Comparison::default());
    }

    #[test]
    fn a_permit_under_the_name_of_a_forbid_loosens() {
        let before = compiled(&[READ, NIGHT].concat());
        let swapped = NIGHT.replace("forbid", "permit");
        let found = compare(Some(&before), Some(&compiled(&[READ, &swapped].concat())));
        assert_eq!(found.loosens.len(), 2, "{found:?}");
    }
}
