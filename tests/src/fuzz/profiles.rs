//! Profiles of providers, as an administrator sends them.

use std::collections::BTreeMap;

use ::profiles::template::fill;

use super::Target;

pub(super) const DOCUMENT: Target = Target {
    name: "profiles_document",
    run: document,
    seeds: document_seeds,
};

/// What is good stays good with its own examples, and its templates come to URLs.
fn document(input: &[u8]) -> bool {
    let Ok(document) = ::profiles::read(input) else {
        return false;
    };
    let examples = document.parameters.iter();
    let examples: BTreeMap<String, String> = examples
        .map(|(name, parameter)| (name.clone(), parameter.example.clone()))
        .collect();
    let values = document.with_parameters(&examples).expect("its examples");
    let token = fill(&document.endpoints.token, &values);
    url::Url::parse(&token).expect("a URL");
    true
}

fn document_seeds() -> Vec<Vec<u8>> {
    let all = ::profiles::shipped::ALL.iter();
    all.map(|shipped| shipped.toml.as_bytes().to_vec())
        .collect()
}
