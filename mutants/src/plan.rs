//! Which code is mutated, and which faults no test can notice.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::plant::Mutant;

/// `plan.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// By the name of the package.
    pub package: BTreeMap<String, Package>,
    /// What survives, and why that is right.
    #[serde(default)]
    pub explained: Vec<Explained>,
}

/// A package whose code is mutated, and tested by its own tests alone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its folder.
    pub folder: String,
    /// Files and folders below it.
    pub files: Vec<String>,
    /// Files below those that are not mutated.
    #[serde(default)]
    pub except: Vec<String>,
}

/// Faults that no test can notice.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explained {
    /// The file, from the repository's root.
    pub file: String,
    /// The function; empty for all of the file.
    pub function: String,
    /// What the fault's description contains; empty for all of the function.
    pub fault: String,
    /// Why.
    pub reason: String,
}

impl Plan {
    /// Reads the file.
    pub fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        Ok(toml::from_str(&text)?)
    }

    /// The survivors without a reason.
    pub fn unexplained<'a>(&self, survivors: &[&'a Mutant]) -> Vec<&'a Mutant> {
        let is_explained = |mutant: &Mutant| {
            self.explained.iter().any(|explained| {
                !explained.reason.is_empty()
                    && explained.file == mutant.file
                    && (explained.function.is_empty() || explained.function == mutant.function)
                    && mutant.fault.contains(&explained.fault)
            })
        };
        survivors
            .iter()
            .filter(|mutant| !is_explained(mutant))
            .copied()
            .collect()
    }
}
