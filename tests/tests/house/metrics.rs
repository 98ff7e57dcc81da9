//! The metrics that the service tells are the ones that the page about them explains and the dashboard shows.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::tree::root;

const PAGE: &str = "broker/src/metrics/page.rs";
const EXPLAINED: &str = "docs/observability.md";
const DASHBOARD: &str = "docs/grafana/tokenkeep.json";

/// What Prometheus makes of a histogram.
const ENDINGS: [&str; 3] = ["_bucket", "_sum", "_count"];

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect("a file")
}

/// The words of a text that begin as names of metrics do.
fn names(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("tokenkeep_") || word.starts_with("process_"))
        .filter(|word| word.len() > "tokenkeep_".len())
        .map(str::to_owned)
        .collect()
}

/// The names that the source gives to families.
fn told() -> BTreeSet<String> {
    let source = read(PAGE);
    let quoted = source.split('"').skip(1).step_by(2);
    quoted
        .filter(|text| names(text).contains(*text))
        .map(str::to_owned)
        .collect()
}

/// The families that a dashboard's queries name, and the queries.
fn shown(dashboard: &Value) -> (BTreeSet<String>, usize) {
    fn walk(value: &Value, queries: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    match field.as_str() {
                        Some(text) if name == "expr" || name == "query" => {
                            queries.push(text.to_owned())
                        }
                        _ => walk(field, queries),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, queries)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut queries = Vec::new();
    walk(dashboard, &mut queries);
    let families = queries.iter().flat_map(|query| names(query));
    let families = families.map(|name| {
        let ending = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending));
        ending.map_or_else(|| name.clone(), str::to_owned)
    });
    (families.collect(), queries.len())
}

#[test]
fn every_metric_that_is_told_is_explained() {
    let page = read(EXPLAINED);
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let explained: BTreeSet<String> = rows
        .filter_map(|row| row.split('`').nth(1))
        .flat_map(names)
        .collect();
    let told = told();
    assert!(told.contains("tokenkeep_rpc_seconds"), "{told:?}");
    assert_eq!(explained, told);
}

#[test]
fn the_dashboard_shows_metrics_that_there_are() {
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    let (shown, queries) = shown(&dashboard);
    assert!(queries > 10, "{queries}");
    let told = told();
    let unknown: Vec<_> = shown.difference(&told).collect();
    assert_eq!(unknown, Vec::<&String>::new());
    assert!(shown.len() > 10, "{shown:?}");
}

#[test]
fn a_name_that_is_not_there_is_found() {
    let dashboard = serde_json::json!({
        "panels": [{ "targets": [{ "expr": "rate(tokenkeep_rpc_seconds_bucket[5m]) / tokenkeep_no_such" }] }],
    });
    let (shown, queries) = shown(&dashboard);
    assert_eq!(queries, 1);
    let expected = ["tokenkeep_no_such", "tokenkeep_rpc_seconds"].map(str::to_owned);
    assert_eq!(shown, BTreeSet::from(expected));
}
