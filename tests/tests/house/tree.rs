//! The repository's files, as the tests of the house read them.

use std::fs;
use std::path::{Path, PathBuf};

/// A text file of the repository.
pub(crate) struct Source {
    /// Its path from the repository's root, with `/`.
    pub(crate) path: String,
    /// What it holds.
    pub(crate) text: String,
}

/// Directories that hold nothing of ours.
const FOREIGN: [&str; 5] = [".git", "target", "node_modules", "corpus", "artifacts"];

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the repository")
        .to_owned()
}

/// All files whose names end in `extension`, sorted by path.
pub(crate) fn files(extension: &str) -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    let mut waiting = vec![root.clone()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_str().expect("names are UTF-8");
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                // A target directory may have any name, but cargo marks it.
                if !FOREIGN.contains(&name) && !path.join("CACHEDIR.TAG").exists() {
                    waiting.push(path);
                }
            } else if kind.is_file() && path.extension().is_some_and(|found| found == extension) {
                found.push(Source {
                    path: path
                        .strip_prefix(&root)
                        .unwrap()
                        .to_str()
                        .expect("names are UTF-8")
                        .to_owned(),
                    text: fs::read_to_string(&path).unwrap(),
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no file ends in .{extension}");
    found
}

impl Source {
    /// Whether the whole file is code that no product runs: a crate's `tests` or `benches`, or a module compiled for
    /// tests only.
    pub(crate) fn is_test(&self) -> bool {
        let in_tests_dir = self
            .path
            .split('/')
            .skip(1)
            .any(|part| part == "tests" || part == "benches");
        let named_tests = self.path.ends_with("/tests.rs");
        in_tests_dir || named_tests || self.crate_name() == "tests" || self.is_declared_for_tests()
    }

    /// The top directory: one a crate.
    pub(crate) fn crate_name(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }

    /// The lines before the first `#[cfg(test)]` that opens a block of tests, numbered from 1.
    pub(crate) fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let end = lines
            .windows(2)
            .position(|pair| {
                pair[0].trim() == "#[cfg(test)]"
                    && pair[1].trim_start().starts_with("mod ")
                    && pair[1].trim_end().ends_with('{')
            })
            .unwrap_or(lines.len());
        lines
            .into_iter()
            .take(end)
            .enumerate()
            .map(|(at, line)| (at.saturating_add(1), line))
    }

    /// The product lines that are code: comments are left out.
    pub(crate) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.product_lines()
            .filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Whether a parent declares this file's module under `#[cfg(test)]`.
    fn is_declared_for_tests(&self) -> bool {
        let path = Path::new(&self.path);
        let (Some(stem), Some(dir)) = (path.file_stem().and_then(|s| s.to_str()), path.parent())
        else {
            return false;
        };
        let root = root();
        let declared = format!("#[cfg(test)]\nmod {stem};");
        ["lib.rs", "main.rs", "mod.rs"]
            .map(|parent| root.join(dir).join(parent))
            .into_iter()
            .chain([root.join(dir).with_extension("rs")])
            .filter_map(|parent| fs::read_to_string(parent).ok())
            .any(|text| text.contains(&declared))
    }
}
