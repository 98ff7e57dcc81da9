//! The store of collateral: what is in it only gets newer.

use std::path::{Path, PathBuf};

use attestation::Roots;
use attestation::snp::{Line, RevocationSummary};
use attestation::tdx::{CollateralSummary, MAX_COLLATERAL_BYTES, PlatformModel, StatementError};

use super::CollateralError;
use super::ask::MAX_ANSWER_BYTES;
use crate::private_file::{FileError, create_private, read_public};

/// The most models of Intel's platforms that a store may have.
pub const MAX_MODELS: usize = 256;

/// A folder with one list a line, `amd-milan.crl` and so on, and one file of Intel's statements a model,
/// `intel-00806f050000-platform.json` and so on: also the form in which both are carried to a machine without a
/// network.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// The store in a folder that exists.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// The lists that are there, DER, unverified.
    ///
    /// # Errors
    /// [`FileError`] for a file that is there and cannot be read.
    pub fn lists(&self) -> Result<Vec<(Line, Vec<u8>)>, FileError> {
        let mut lists = Vec::new();
        for line in Line::ALL {
            let path = self.path(line);
            if path.exists() {
                lists.push((line, read_public(&path, MAX_ANSWER_BYTES)?.to_vec()));
            }
        }
        Ok(lists)
    }

    /// Keeps a list: one that a root of the set signed, of this line, and not older than the one that is there.
    ///
    /// # Errors
    /// [`CollateralError`]; the store is then as it was.
    pub fn keep(
        &self,
        line: Line,
        der: &[u8],
        roots: &Roots,
    ) -> Result<RevocationSummary, CollateralError> {
        let summary = roots.read_revocation_list(der)?;
        if summary.line != line {
            return Err(CollateralError::Line {
                expected: line,
                found: summary.line,
            });
        }
        let mut known = roots.clone();
        for (_, der) in self.lists()? {
            known.add_revocation_list(&der)?;
        }
        known.add_revocation_list(der)?;
        replace(&self.path(line), der)?;
        Ok(summary)
    }

    /// Intel's statements that are there, JSON, unverified, in the order of their names.
    ///
    /// # Errors
    /// [`CollateralError`] for a folder or file that cannot be read.
    pub fn statements(&self) -> Result<Vec<(PlatformModel, Vec<u8>)>, CollateralError> {
        let folder = |source| CollateralError::Folder {
            path: self.folder.clone(),
            source,
        };
        let mut models = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(folder)? {
            let name = entry.map_err(folder)?.file_name();
            let model = name
                .to_str()
                .and_then(|name| name.strip_prefix("intel-")?.strip_suffix(".json"))
                .and_then(PlatformModel::named);
            // Under any other spelling of its name a file is not the store's.
            models.extend(model.filter(|model| self.model_path(model).ends_with(&name)));
            if models.len() > MAX_MODELS {
                return Err(CollateralError::TooMany);
            }
        }
        models.sort();
        let read = |model: PlatformModel| {
            let json = read_public(&self.model_path(&model), MAX_COLLATERAL_BYTES)?;
            Ok((model, json.to_vec()))
        };
        models.into_iter().map(read).collect()
    }

    /// Keeps statements: those that a root of the set signed, about this model, and in no part older than those that
    /// are there.
    ///
    /// # Errors
    /// [`CollateralError`]; the store is then as it was.
    pub fn keep_statements(
        &self,
        model: &PlatformModel,
        json: &[u8],
        roots: &Roots,
    ) -> Result<CollateralSummary, CollateralError> {
        let summary = roots.read_collateral(json)?;
        if summary.model != *model {
            return Err(CollateralError::Model {
                expected: model.name(),
                found: summary.model.name(),
            });
        }
        let path = self.model_path(model);
        if path.exists() {
            let known = read_public(&path, MAX_COLLATERAL_BYTES)?;
            let known = roots.read_collateral(&known)?;
            if let Some(part) = summary.older_than(&known) {
                return Err(StatementError::Older { part }.into());
            }
        }
        replace(&path, json)?;
        Ok(summary)
    }

    /// Takes everything that is there into a set of roots.
    ///
    /// # Errors
    /// [`CollateralError`] for what cannot be read, or is not signed by a root of the set.
    pub fn load(&self, roots: &mut Roots) -> Result<(), CollateralError> {
        for (_, der) in self.lists()? {
            roots.add_revocation_list(&der)?;
        }
        for (_, json) in self.statements()? {
            roots.add_collateral(&json)?;
        }
        Ok(())
    }

    fn model_path(&self, model: &PlatformModel) -> PathBuf {
        self.folder.join(format!("intel-{}.json", model.name()))
    }

    fn path(&self, line: Line) -> PathBuf {
        let name = line.as_str().to_lowercase();
        self.folder.join(format!("amd-{name}.crl"))
    }
}

/// Puts bytes in the place of a file, whole or not at all.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), CollateralError> {
    let new = path.with_extension("new");
    let replaced = |source| CollateralError::Replace {
        path: path.to_owned(),
        source,
    };
    if new.exists() {
        // What an earlier run left when it was cut off.
        std::fs::remove_file(&new).map_err(replaced)?;
    }
    create_private(&new, bytes)?;
    std::fs::rename(&new, path).map_err(replaced)
}
