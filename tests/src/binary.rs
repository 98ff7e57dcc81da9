//! Where the programs under test lie: beside the test's own executable.
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test without its program has failed"
)]

use std::path::PathBuf;

/// The same program as it ships: of the release profile, which `make soak-NAME` builds first.
///
/// # Panics
/// It was not built.
#[must_use]
pub fn release_binary(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("a test knows its own path");
    // …/debug/deps/NAME-HASH
    let target = this.ancestors().nth(3).expect("a target directory");
    let path = target.join("release").join(name);
    assert!(
        path.is_file(),
        "{} is not there: build it with --release",
        path.display()
    );
    path
}

/// The path of one of the workspace's programs, such as `tokenkeepd`.
///
/// # Panics
/// It was not built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("a test knows its own path");
    let path = this
        .ancestors()
        .skip(1)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    match path {
        Some(path) => path,
        None => panic!(
            "{name} is not built beside {}: run `cargo build --workspace --bins`, or the tests with --workspace",
            this.display()
        ),
    }
}
