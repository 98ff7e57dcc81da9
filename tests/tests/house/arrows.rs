//! Which crate may depend on which, and what the product must not be linked with.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::tree::root;

/// The packages of the house and the packages of the house that each may name.
const ARROWS: [(&str, &[&str]); 13] = [
    ("tokenkeep-proto", &[]),
    ("tokenkeep-attestation", &[]),
    ("tokenkeep-jose", &[]),
    ("tokenkeep-tlog", &[]),
    ("tokenkeep-profiles", &[]),
    ("tokenkeep-policy", &[]),
    ("tokenkeep-testkit", &[]),
    (
        "tokenkeep-enclave",
        &[
            "tokenkeep-attestation",
            "tokenkeep-jose",
            "tokenkeep-policy",
            "tokenkeep-profiles",
            "tokenkeep-tlog",
        ],
    ),
    (
        "tokenkeep-broker",
        &[
            "tokenkeep-attestation",
            "tokenkeep-enclave",
            "tokenkeep-jose",
            "tokenkeep-profiles",
            "tokenkeep-proto",
            "tokenkeep-tlog",
        ],
    ),
    (
        "tokenkeep",
        &[
            "tokenkeep-attestation",
            "tokenkeep-jose",
            "tokenkeep-policy",
            "tokenkeep-profiles",
            "tokenkeep-proto",
            "tokenkeep-tlog",
        ],
    ),
    ("tokenkeep-dev", &ALL),
    ("tokenkeep-tests", &ALL),
    ("tokenkeep-bench", &ALL),
];

const ALL: [&str; 11] = [
    "tokenkeep",
    "tokenkeep-attestation",
    "tokenkeep-broker",
    "tokenkeep-dev",
    "tokenkeep-enclave",
    "tokenkeep-jose",
    "tokenkeep-policy",
    "tokenkeep-profiles",
    "tokenkeep-proto",
    "tokenkeep-testkit",
    "tokenkeep-tlog",
];

/// What any package of the house may name in its `[dev-dependencies]`, beside its own arrows.
const FOR_TESTS: &str = "tokenkeep-testkit";

/// Runs cargo in the repository, without the network.
fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--offline", "--locked"])
        .current_dir(root())
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "cargo {}: {errors}",
        arguments.join(" ")
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The names of all crates that a package is built from, itself among them: of its normal and build
/// dependencies, with the features that building that package alone gives.
fn built_from(package: &str) -> BTreeSet<String> {
    let tree = cargo(&[
        "tree",
        "--package",
        package,
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let names: BTreeSet<String> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect();
    assert!(names.contains(package), "{tree}");
    names
}

/// Each arrow that a description of the packages has and may not have.
fn forbidden_arrows(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<&str> = packages
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    let mut found = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let Some((_, may_name)) = ARROWS.iter().find(|(listed, _)| *listed == name) else {
            found.push(format!("{name} has no place in the house"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = dependency["name"].as_str().unwrap();
            let kind = dependency["kind"].as_str().unwrap_or("normal");
            let allowed = may_name.contains(&to) || (kind == "dev" && to == FOR_TESTS);
            if ours.contains(to) && !allowed {
                found.push(format!("{name} -> {to} ({kind})"));
            }
        }
    }
    found
}

#[test]
fn crates_depend_on_one_another_along_the_arrows_only() {
    let text = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(forbidden_arrows(&metadata), Vec::<String>::new());
    let found: BTreeSet<&str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    let listed: BTreeSet<&str> = ARROWS.into_iter().map(|(name, _)| name).collect();
    assert_eq!(found, listed);
}

#[test]
fn a_forbidden_arrow_is_found() {
    let with = |from: &str, to: &str, kind: Option<&str>| {
        let dependencies = vec![serde_json::json!({"name": to, "kind": kind})];
        serde_json::json!({"packages": [
            {"name": from, "dependencies": dependencies},
            {"name": to, "dependencies": []},
        ]})
    };
    let rows: [(&str, &str, Option<&str>, &[&str]); 8] = [
        ("tokenkeep-enclave", "tokenkeep-jose", None, &[]),
        ("tokenkeep-enclave", "tokenkeep-testkit", Some("dev"), &[]),
        (
            "tokenkeep-enclave",
            "tokenkeep-testkit",
            None,
            &["tokenkeep-enclave -> tokenkeep-testkit (normal)"],
        ),
        (
            "tokenkeep-proto",
            "tokenkeep-testkit",
            Some("build"),
            &["tokenkeep-proto -> tokenkeep-testkit (build)"],
        ),
        (
            "tokenkeep-enclave",
            "tokenkeep-broker",
            Some("dev"),
            &["tokenkeep-enclave -> tokenkeep-broker (dev)"],
        ),
        (
            "tokenkeep",
            "tokenkeep-enclave",
            None,
            &["tokenkeep -> tokenkeep-enclave (normal)"],
        ),
        ("tokenkeep-dev", "tokenkeep-testkit", None, &[]),
        (
            "tokenkeep-tlog",
            "tokenkeep-new",
            None,
            &[
                "tokenkeep-tlog -> tokenkeep-new (normal)",
                "tokenkeep-new has no place in the house",
            ],
        ),
    ];
    for (from, to, kind, expected) in rows {
        assert_eq!(
            forbidden_arrows(&with(from, to, kind)),
            expected,
            "{from} {to}"
        );
    }
}

#[test]
fn the_product_is_built_without_aws_lc_and_openssl() {
    let forbidden = [
        "aws-lc-rs",
        "aws-lc-sys",
        "aws-lc-fips-sys",
        "boring",
        "boring-sys",
        "native-tls",
        "openssl",
        "openssl-sys",
    ];
    for package in ["tokenkeep-broker", "tokenkeep"] {
        let names = built_from(package);
        assert!(names.contains("ring"), "{package} is built from {names:?}");
        for name in forbidden {
            assert!(!names.contains(name), "{package} is built from {name}");
        }
    }
}

#[test]
fn the_product_is_built_without_the_test_kit() {
    for package in ["tokenkeep-broker", "tokenkeep"] {
        let names = built_from(package);
        for name in [
            "tokenkeep-testkit",
            "tokenkeep-dev",
            "tokenkeep-tests",
            "tokenkeep-bench",
        ] {
            assert!(!names.contains(name), "{package} is built from {name}");
        }
    }
}

#[test]
fn verifiers_and_the_core_are_built_without_an_async_runtime() {
    for package in [
        "tokenkeep-attestation",
        "tokenkeep-jose",
        "tokenkeep-tlog",
        "tokenkeep-enclave",
    ] {
        let names = built_from(package);
        for name in ["tokio", "hyper", "async-std", "smol", "mio"] {
            assert!(!names.contains(name), "{package} is built from {name}");
        }
    }
}
