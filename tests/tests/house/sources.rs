//! What a source file may look like and what it may touch.

use crate::tree::{Source, files};

/// Before its tests a file has at most this many lines.
const MAX_PRODUCT_LINES: usize = 600;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 4] = ["utils", "common", "helpers", "misc"];

/// A word that product code of some places must not hold, but in the files named.
struct Ban {
    /// The words.
    words: &'static [&'static str],
    /// Paths that begin so are looked at.
    places: &'static [&'static str],
    /// The files that may.
    but: &'static [&'static str],
    /// Why.
    reason: &'static str,
}

const BANS: [Ban; 5] = [
    Ban {
        words: &["SystemTime::now", "Instant::now"],
        places: &[
            "proto/",
            "attestation/",
            "jose/",
            "tlog/",
            "profiles/",
            "policy/",
            "enclave/",
            "broker/",
            "client/",
        ],
        but: &["broker/src/clock.rs", "client/src/clock.rs"],
        reason: "a clock is read in one file; time is an argument elsewhere",
    },
    Ban {
        words: &[
            ".expose()",
            "::expose(",
            ".expose_secret()",
            "::expose_secret(",
        ],
        places: &["broker/"],
        but: &["broker/src/upstream/reveal.rs", "broker/src/root/chip.rs"],
        reason: "one file of the shell exposes secrets, to send them upstream; another hands the TEE-derived key \
                 to the enclave's envelope",
    },
    Ban {
        words: &["debug_assertions", "feature ="],
        places: &[
            "proto/",
            "attestation/",
            "jose/",
            "tlog/",
            "enclave/",
            "broker/",
            "client/",
        ],
        but: &[],
        reason: "the product is one: what scripts/no-emulator-in-release.sh does not find in the debug binaries is in no \
                 release either",
    },
    Ban {
        words: &["UpstreamBody", "CredentialHeader"],
        places: &["broker/src/grpc", "broker/src/public", "broker/src/gateway"],
        but: &[],
        reason: "what is sent upstream comes near no door",
    },
    Ban {
        words: &[
            "std::fs",
            "std::env",
            "std::process",
            "std::os",
            "File::",
            "io::std",
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "ToSocketAddrs",
            "thread::",
            "tokio",
        ],
        places: &[
            "jose/src/",
            "tlog/src/",
            "profiles/src/",
            "policy/src/",
            "enclave/src/",
        ],
        but: &[],
        reason: "the core is fed bytes and time: it has no files, sockets, environment or threads",
    },
];

/// The places at which `source` breaks the ban.
fn breaches(ban: &Ban, source: &Source) -> Vec<String> {
    let looked_at = ban
        .places
        .iter()
        .any(|place| source.path.starts_with(place))
        && !ban.but.contains(&source.path.as_str());
    if !looked_at || source.is_test() {
        return Vec::new();
    }
    source
        .code_lines()
        .filter_map(|(number, line)| {
            let word = ban.words.iter().find(|word| line.contains(**word))?;
            Some(format!("{}:{number}: {word}", source.path))
        })
        .collect()
}

fn has_empty_name(path: &str) -> bool {
    path.split('/')
        .any(|part| EMPTY_NAMES.contains(&part.strip_suffix(".rs").unwrap_or(part)))
}

#[test]
fn files_touch_only_what_is_theirs() {
    let sources = files("rs");
    for ban in &BANS {
        let found: Vec<String> = sources
            .iter()
            .flat_map(|source| breaches(ban, source))
            .collect();
        assert_eq!(found, Vec::<String>::new(), "{}", ban.reason);
    }
}

#[test]
fn exceptions_of_the_bans_are_needed() {
    let sources = files("rs");
    for ban in &BANS {
        for path in ban.but {
            let source = sources.iter().find(|source| source.path == *path);
            let source = source.unwrap_or_else(|| panic!("{path} is named but not there"));
            let needed = source
                .code_lines()
                .any(|(_, line)| ban.words.iter().any(|word| line.contains(word)));
            assert!(needed, "{path} needs no exception");
        }
    }
}

#[test]
fn a_breach_is_found_in_product_code_only() {
    let text = "//! A file.\n// Instant::now in a comment\nfn f() { Instant::now(); }\n\n#[cfg(test)]\nmod tests {\n    \
                fn g() { Instant::now(); }\n}\n";
    let rows: [(&str, &[&str]); 5] = [
        (
            "enclave/src/new.rs",
            &["enclave/src/new.rs:3: Instant::now"],
        ),
        ("broker/src/clock.rs", &[]),
        ("enclave/src/new/tests.rs", &[]),
        ("enclave/tests/new.rs", &[]),
        ("testkit/src/new.rs", &[]),
    ];
    for (path, expected) in rows {
        let source = Source {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        assert_eq!(breaches(&BANS[0], &source), expected, "{path}");
    }
}

#[test]
fn no_file_is_long() {
    let long: Vec<String> = files("rs")
        .iter()
        .filter(|source| !source.is_test())
        .filter_map(|source| {
            let lines = source.product_lines().count();
            (lines > MAX_PRODUCT_LINES).then(|| format!("{}: {lines} lines", source.path))
        })
        .collect();
    assert_eq!(long, Vec::<String>::new(), "split them");
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> = files("rs")
        .into_iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.path)
        .collect();
    assert_eq!(
        silent,
        Vec::<String>::new(),
        "the first line must begin with //!"
    );
}

#[test]
fn no_module_has_an_empty_name() {
    let empty: Vec<String> = files("rs")
        .into_iter()
        .filter(|source| has_empty_name(&source.path))
        .map(|source| source.path)
        .collect();
    assert_eq!(empty, Vec::<String>::new(), "name the thing itself");
    for (path, expected) in [
        ("enclave/src/utils.rs", true),
        ("enclave/src/common/mod.rs", true),
        ("enclave/src/commons.rs", false),
    ] {
        assert_eq!(has_empty_name(path), expected, "{path}");
    }
}

#[test]
fn contents_pages_hold_no_logic() {
    let busy: Vec<String> = files("rs")
        .iter()
        .filter(|source| source.path.ends_with("/src/lib.rs"))
        .flat_map(|source| {
            source
                .code_lines()
                .filter(|(_, line)| {
                    let line = line.trim_start().trim_start_matches("pub ");
                    ["fn ", "impl ", "impl<", "struct ", "enum ", "trait "]
                        .iter()
                        .any(|word| line.starts_with(word))
                })
                .map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(busy, Vec::<String>::new(), "lib.rs is a contents page");
}
