//! The leaves that the enclave writes are the ones that an auditor reads, and the page about them names them all.

use std::collections::BTreeSet;
use std::fs;

use tokenkeep::audit::leaf::Kind;

use crate::tree::root;

/// The words between quotation marks in a part of a source.
fn words(source: &str, from: &str, to: &str) -> BTreeSet<String> {
    let (_, rest) = source.split_once(from).expect("its beginning");
    let (part, _) = rest.split_once(to).expect("its end");
    let words = part.split('"').skip(1).step_by(2);
    words.map(str::to_owned).collect()
}

#[test]
fn every_kind_of_leaf_that_is_written_is_read_by_auditors_and_documented() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("a file");
    let source = read("enclave/src/audit/kinds.rs");
    let written = words(&source, "\nkinds! {", "\n}");
    let known: BTreeSet<String> = Kind::ALL
        .iter()
        .map(|kind| kind.word().to_owned())
        .collect();
    assert_eq!(written, known);
    let page = read("docs/audit.md");
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| issuance | `") || line.starts_with("| control | `"));
    let documented: BTreeSet<String> = rows
        .flat_map(|row| row.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect();
    assert_eq!(documented, known);
}
