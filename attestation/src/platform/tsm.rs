//! Reports by the kernel's configfs-tsm: a directory a report, made and removed for each one.
//!
//! [Documentation/ABI/testing/configfs-tsm, Linux 6.7]

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the kernel has it.
pub const CONFIGFS_TSM: &str = "/sys/kernel/config/tsm/report";

/// How often a report is asked for before giving up, each time in a new directory. Only what can pass by itself is
/// tried again: a busy platform, or somebody else's write to our directory.
pub const MAX_ATTEMPTS: u32 = 5;

/// The longest report, quote or certificate table that is read, bytes. The kernel's own limit is 32 KiB.
pub const MAX_BLOB_BYTES: usize = 64 * 1024;

/// The longest short attribute that is read, bytes.
const MAX_WORD_BYTES: usize = 64;

/// Who makes the reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// AMD SEV-SNP: `sev_guest`.
    SevGuest,
    /// Intel TDX: `tdx_guest`.
    TdxGuest,
}

impl Provider {
    /// The name that the kernel uses.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SevGuest => "sev_guest",
            Self::TdxGuest => "tdx_guest",
        }
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum TsmError {
    /// A step failed in the kernel.
    #[error("configfs-tsm does not {step}")]
    Kernel {
        /// Which.
        step: Step,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Each attempt met a busy platform or another writer.
    #[error("configfs-tsm was busy or disturbed {MAX_ATTEMPTS} times in a row, last at: {step}")]
    Disturbed {
        /// Where the last attempt was given up.
        step: Step,
    },
    /// The platform's report is too long for the kernel (EFBIG).
    #[error("the kernel refuses a blob as too long at: {step}")]
    TooLarge {
        /// Where.
        step: Step,
    },
    /// Longer than [`MAX_BLOB_BYTES`].
    #[error("more than {MAX_BLOB_BYTES} bytes at: {step}")]
    Unbounded {
        /// Where.
        step: Step,
    },
    /// An attribute is not of its form.
    #[error("an attribute cannot be read at: {step}")]
    Malformed {
        /// Where.
        step: Step,
    },
    /// Reports are made by something that this program does not know.
    #[error("the provider {found:?} is unknown, not sev_guest or tdx_guest")]
    Provider {
        /// Its name.
        found: String,
    },
    /// Reports are made by something else than a moment ago.
    #[error("the provider is {}, not {}", .found.as_str(), .expected.as_str())]
    OtherProvider {
        /// Who was found first.
        expected: Provider,
        /// Who is there now.
        found: Provider,
    },
}

/// A step of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Make the directory.
    Create,
    /// Read `provider`.
    Provider,
    /// Read `generation`.
    Generation,
    /// Write `inblob`.
    Inblob,
    /// Read `outblob`.
    Outblob,
    /// Read `auxblob`.
    Auxblob,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Create => "make a directory",
            Self::Provider => "read provider",
            Self::Generation => "read generation",
            Self::Inblob => "write inblob",
            Self::Outblob => "read outblob",
            Self::Auxblob => "read auxblob",
        })
    }
}

/// What the kernel gave for one `inblob`. Not checked beyond that: the report data is compared by the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TsmReport {
    /// Report or quote.
    pub outblob: Vec<u8>,
    /// What came with it: for SEV-SNP the certificate table.
    pub auxblob: Option<Vec<u8>>,
}

/// The file operations that a request takes.
pub trait ReportFiles: Send + Sync {
    /// Makes one directory, which must not be there.
    ///
    /// # Errors
    /// Those of the system.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Reads an attribute, at most `max_bytes` and one more.
    ///
    /// # Errors
    /// Those of the system.
    fn read(&self, file: &Path, max_bytes: usize) -> io::Result<Vec<u8>>;

    /// Writes an attribute, all of it in one call.
    ///
    /// # Errors
    /// Those of the system.
    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Removes a directory with its attributes, as configfs does.
    ///
    /// # Errors
    /// Those of the system.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
}

/// The kernel's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct KernelFiles;

impl ReportFiles for KernelFiles {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::create_dir(dir)
    }

    fn read(&self, file: &Path, max_bytes: usize) -> io::Result<Vec<u8>> {
        let limit = u64::try_from(max_bytes)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        let mut bytes = Vec::new();
        let _read = OpenOptions::new()
            .read(true)
            .open(file)?
            .take(limit)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        // The kernel takes the blob when the file is closed; a partial write would be a shorter blob.
        let written = OpenOptions::new().write(true).open(file)?.write(bytes)?;
        if written == bytes.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        std::fs::remove_dir(dir)
    }
}

/// The kernel's reports.
#[derive(Debug)]
pub struct Tsm<F = KernelFiles> {
    base: PathBuf,
    provider: Provider,
    files: F,
}

/// Numbers the directories of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl<F: ReportFiles> Tsm<F> {
    /// Finds out who makes the reports under `base`.
    ///
    /// # Errors
    /// [`TsmError`].
    pub fn open(base: &Path, files: F) -> Result<Self, TsmError> {
        let entry = Entry::create(base, &files)?;
        let provider = entry.provider()?;
        drop(entry);
        Ok(Self {
            base: base.to_owned(),
            provider,
            files,
        })
    }

    /// Who makes the reports.
    #[must_use]
    pub const fn provider(&self) -> Provider {
        self.provider
    }

    /// A report over `inblob`. Its directory is gone afterwards, whatever happened.
    ///
    /// # Errors
    /// [`TsmError`].
    pub fn report(&self, inblob: &[u8; 64]) -> Result<TsmReport, TsmError> {
        let mut last = Step::Create;
        for _attempt in 0..MAX_ATTEMPTS {
            match self.attempt(inblob) {
                Ok(report) => return Ok(report),
                Err(Attempt::Disturbed(step)) => last = step,
                Err(Attempt::Failed(error)) => return Err(error),
            }
        }
        Err(TsmError::Disturbed { step: last })
    }

    fn attempt(&self, inblob: &[u8; 64]) -> Result<TsmReport, Attempt> {
        let entry = Entry::create(&self.base, &self.files)?;
        let found = entry.provider()?;
        if found != self.provider {
            let expected = self.provider;
            return Err(Attempt::Failed(TsmError::OtherProvider { expected, found }));
        }
        let before = entry.generation()?;
        entry
            .files
            .write(&entry.dir.join("inblob"), inblob)
            .map_err(|error| kernel(Step::Inblob, error))?;
        let outblob = entry.blob("outblob", Step::Outblob)?;
        let auxblob = match entry.blob("auxblob", Step::Auxblob) {
            Ok(blob) => Some(blob).filter(|blob| !blob.is_empty()),
            // A provider without the attribute, or a report without such data.
            Err(TsmError::Kernel { error, .. }) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        // One write, one step: anything else means that someone else wrote to our directory, and that what was
        // read may be an answer to him.
        if before.checked_add(1) != Some(entry.generation()?) {
            return Err(Attempt::Disturbed(Step::Generation));
        }
        Ok(TsmReport { outblob, auxblob })
    }
}

/// How an attempt ended without a report.
enum Attempt {
    /// It may be tried again.
    Disturbed(Step),
    Failed(TsmError),
}

impl From<TsmError> for Attempt {
    fn from(error: TsmError) -> Self {
        match error {
            TsmError::Kernel { step, error } if passes_by_itself(&error) => Self::Disturbed(step),
            TsmError::Kernel { .. }
            | TsmError::Disturbed { .. }
            | TsmError::TooLarge { .. }
            | TsmError::Unbounded { .. }
            | TsmError::Malformed { .. }
            | TsmError::Provider { .. }
            | TsmError::OtherProvider { .. } => Self::Failed(error),
        }
    }
}

/// EBUSY: the platform serves someone else. EWOULDBLOCK: `inblob` changed while the report was made. EEXIST: a
/// directory of this name is left from a process before us. EINTR.
fn passes_by_itself(error: &io::Error) -> bool {
    [
        io::ErrorKind::ResourceBusy,
        io::ErrorKind::WouldBlock,
        io::ErrorKind::AlreadyExists,
        io::ErrorKind::Interrupted,
    ]
    .contains(&error.kind())
}

fn kernel(step: Step, error: io::Error) -> TsmError {
    if error.kind() == io::ErrorKind::FileTooLarge {
        TsmError::TooLarge { step }
    } else {
        TsmError::Kernel { step, error }
    }
}

/// A directory of our own, removed when it goes out of scope.
struct Entry<'a, F: ReportFiles> {
    dir: PathBuf,
    files: &'a F,
}

impl<'a, F: ReportFiles> Entry<'a, F> {
    fn create(base: &Path, files: &'a F) -> Result<Self, TsmError> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = base.join(format!("tokenkeep-{}-{number}", std::process::id()));
        files
            .create_dir(&dir)
            .map_err(|error| kernel(Step::Create, error))?;
        Ok(Self { dir, files })
    }

    fn read(&self, name: &str, max_bytes: usize, step: Step) -> Result<Vec<u8>, TsmError> {
        let bytes = self
            .files
            .read(&self.dir.join(name), max_bytes)
            .map_err(|error| kernel(step, error))?;
        if bytes.len() > max_bytes {
            return Err(TsmError::Unbounded { step });
        }
        Ok(bytes)
    }

    fn blob(&self, name: &str, step: Step) -> Result<Vec<u8>, TsmError> {
        self.read(name, MAX_BLOB_BYTES, step)
    }

    fn word(&self, name: &str, step: Step) -> Result<String, TsmError> {
        let bytes = self.read(name, MAX_WORD_BYTES, step)?;
        let text = String::from_utf8(bytes).map_err(|_| TsmError::Malformed { step })?;
        Ok(text.trim_end_matches('\n').to_owned())
    }

    fn provider(&self) -> Result<Provider, TsmError> {
        match self.word("provider", Step::Provider)?.as_str() {
            "sev_guest" => Ok(Provider::SevGuest),
            "tdx_guest" => Ok(Provider::TdxGuest),
            other => Err(TsmError::Provider {
                found: other.to_owned(),
            }),
        }
    }

    fn generation(&self) -> Result<u64, TsmError> {
        let step = Step::Generation;
        self.word("generation", step)?
            .parse()
            .map_err(|_| TsmError::Malformed { step })
    }
}

impl<F: ReportFiles> Drop for Entry<'_, F> {
    fn drop(&mut self) {
        // A directory that stays costs the kernel some memory and hinders nothing: the next has another name.
        self.files.remove_dir(&self.dir).unwrap_or_default();
    }
}

#[cfg(test)]
#[path = "tsm_tests.rs"]
mod tests;
