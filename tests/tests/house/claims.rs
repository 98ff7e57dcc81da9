//! A promise in the documents that names a test names one that exists.
//!
//! Documents write `test:NAME`, where NAME is the function's name, or its last part behind `::`. A name without a
//! lower-case letter stands for any.

use std::collections::BTreeSet;

use crate::tree::{Source, files};

const MARK: &str = "test:";

/// The tests that a document names.
fn named(text: &str) -> Vec<String> {
    text.match_indices(MARK)
        // `latest:1` names none.
        .filter(|(at, _)| {
            !text[..*at]
                .chars()
                .next_back()
                .is_some_and(|before| before.is_alphanumeric() || before == '_')
        })
        .filter_map(|(at, _)| {
            let name: String = text[at.saturating_add(MARK.len())..]
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'))
                .collect();
            let last = name.rsplit("::").next()?.trim_matches(':').to_owned();
            last.contains(|c: char| c.is_ascii_lowercase())
                .then_some(last)
        })
        .collect()
}

/// The functions of a source file that are tests.
fn tests_of(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let mut marked = false;
    for line in source.text.lines().map(str::trim_start) {
        if line.starts_with("#[") && (line.contains("test]") || line.contains("::test(")) {
            marked = true;
            continue;
        }
        let signature = line.trim_start_matches("pub ").trim_start_matches("async ");
        if let Some(rest) = signature.strip_prefix("fn ") {
            if marked {
                found.push(
                    rest.chars()
                        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                        .collect(),
                );
            }
            marked = false;
        }
    }
    found
}

#[test]
fn every_test_that_a_document_names_exists() {
    let tests: BTreeSet<String> = files("rs").iter().flat_map(tests_of).collect();
    assert!(tests.contains("every_test_that_a_document_names_exists"));
    let missing: Vec<String> = files("md")
        .iter()
        .flat_map(|document| {
            named(&document.text)
                .into_iter()
                .filter(|name| !tests.contains(name))
                .map(|name| format!("{}: {name}", document.path))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn names_are_found_in_documents_and_sources() {
    let document = "| x | `test:one_claim` | (test:house::claims::two_claims) latest:3 test: test:NAME |\ntest:three.";
    assert_eq!(named(document), ["one_claim", "two_claims", "three"]);
    let source = Source {
        path: "a/src/b.rs".to_owned(),
        text: "fn not_one() {}\n#[test]\nfn one() {}\nfn neither() {}\n#[tokio::test(start_paused = true)]\n\
               #[ignore = \"slow\"]\nasync fn two() {}\n"
            .to_owned(),
    };
    assert_eq!(tests_of(&source), ["one", "two"]);
}
