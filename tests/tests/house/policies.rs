//! That the examples of docs/policy.md are good policies, meet the tests beside them, and name operations that there are.

use std::collections::BTreeSet;
use std::fs;

use tenant_policy::cases::Cases;
use tenant_policy::{Ask, Compiled};

use crate::tree::root;

/// The fenced blocks of a language, in their order.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let after = page.split(fence.as_str()).skip(1);
    after
        .map(|rest| rest.split("```").next().unwrap())
        .collect()
}

/// The operations of a shipped profile as the gateway calls them.
fn operations(profile: &str) -> BTreeSet<String> {
    let document = profiles::shipped::find(profile)
        .unwrap()
        .document()
        .unwrap();
    let ids = document.operations.iter();
    ids.map(|operation| operation.id.replace(['.', '_'], "-"))
        .collect()
}

#[test]
fn every_example_is_a_good_policy_and_meets_its_tests() {
    let page = fs::read_to_string(root().join("docs/policy.md")).unwrap();
    let (_, examples) = page.split_once("## Examples").unwrap();
    let sections: Vec<&str> = examples.split("\n### ").skip(1).collect();
    let mut names = Vec::new();
    for section in sections {
        let name = section.lines().next().unwrap();
        let policies = blocks(section, "cedar");
        let tests = blocks(section, "toml");
        assert_eq!((policies.len(), tests.len()), (1, 1), "{name}");
        let policy = Compiled::new(policies[0].as_bytes());
        let policy = policy.unwrap_or_else(|faults| panic!("{name}: {faults}"));
        let cases =
            Cases::read(tests[0].as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let known = operations(&name.to_lowercase());
        for case in cases.iter() {
            let outcome = case.run(&policy);
            assert!(outcome.met, "{name}: {}: {:?}", case.name, outcome.decision);
            if let Ask::Call { operation, .. } = &case.question.ask {
                assert!(
                    known.contains(operation),
                    "{name}: {operation} is no operation"
                );
            }
        }
        let both = [true, false].map(|permit| cases.iter().any(|case| case.permit == permit));
        assert_eq!(both, [true; 2], "{name}");
        names.push(name);
    }
    assert_eq!(names, ["Salesforce", "Google", "Slack"]);
}
