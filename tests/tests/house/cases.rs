//! Every case of the OAuth rules is a row of a test.

use std::collections::{BTreeMap, BTreeSet};

use crate::tree::files;

const CASES: &str = include_str!("../../cases/oauth.tsv");

/// Where the rows stand.
const TABLES: [&str; 4] = ["jose/", "enclave/", "broker/", "tests/tests/security/"];

/// How many of each kind there are.
const COUNTS: [(char, usize); 3] = [('N', 174), ('A', 64), ('C', 42)];

/// The ids in a text: a letter and two or three digits, alone.
fn ids(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| {
            let digits = word.strip_prefix(['N', 'A', 'C']).unwrap_or_default();
            (2..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
        })
        .collect()
}

#[test]
fn every_case_of_the_oauth_rules_is_a_row_of_a_test() {
    let cases: BTreeMap<&str, &str> = CASES
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (id, rest) = line.split_once('\t').expect("an id");
            let (what, verdict) = rest.split_once('\t').expect("a verdict");
            assert!(!what.is_empty(), "{line}");
            assert!(["accept", "refuse"].contains(&verdict), "{line}");
            (id, verdict)
        })
        .collect();
    for (kind, count) in COUNTS {
        let found = cases.keys().filter(|id| id.starts_with(kind)).count();
        assert_eq!(found, count, "cases of {kind}");
    }
    let sources = files("rs");
    let tested: BTreeSet<&str> = sources
        .iter()
        .filter(|source| TABLES.iter().any(|table| source.path.starts_with(table)))
        .filter(|source| source.path.contains("tests"))
        .flat_map(|source| ids(&source.text))
        .collect();
    let missing: Vec<&str> = cases
        .into_keys()
        .filter(|id| !tested.contains(id))
        .collect();
    assert_eq!(missing, Vec::<&str>::new(), "cases without a row");
}

#[test]
fn ids_are_found_in_rows_and_comments() {
    let found = ids("(\"N001 valid\", // A13, C7 C24: x_N002 N0012 (N003) NB12");
    assert_eq!(found, BTreeSet::from(["N001", "A13", "C24", "N003"]));
}
