//! A keyholder's directory, mode 0700; its files have mode 0600 and are whole after a crash at any point.
//!
//! | file | holds |
//! | --- | --- |
//! | `seed` | the Ed25519 seed, 32 bytes |
//! | `deployments/SHA-256 OF ISSUER/issuer` | the issuer |
//! | `…/policy.toml` | the reference values that its evidence must match |
//! | `…/sequence` | the highest sequence number of its manifests |
//! | `…/shares/STATE-SHARE` | a share, 32 bytes, in clear: whoever reads this disk has it |
//! | `…/destroyed/STATE-SHARE` | that a share was here, and is not any more |
//! | `recovery/SET` | the private key of a recovery set that was combined here |
//! | `audit.log` | a line for each release, and for each refusal to an enclave that was appraised |
//! | `refused.log` | a line for each refusal before; begun anew when it is full |

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use attestation::Policy;
use attestation::keyholder::Request;
use attestation::policy::MAX_POLICY_BYTES;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::Ed25519KeyPair;
use serde_json::{Value, json};
use thiserror::Error;
use zeroize::Zeroizing;

use super::judge::Asking;
use super::refusal::Refusal;
use crate::private_file::{
    FileError, create_private, read_private, read_public, replace_private, sync_folder,
};

const SEED: &str = "seed";
const DEPLOYMENTS: &str = "deployments";
const RECOVERY: &str = "recovery";
const AUDIT: &str = "audit.log";
const REFUSED: &str = "refused.log";
const ISSUER: &str = "issuer";
const POLICY: &str = "policy.toml";
const SEQUENCE: &str = "sequence";
const SHARES: &str = "shares";
const DESTROYED: &str = "destroyed";
/// Most shares of one deployment.
pub const MAX_SHARES: usize = 64;
/// Most deployments.
pub const MAX_DEPLOYMENTS: usize = 1_000;
/// The longest issuer.
const MAX_ISSUER_BYTES: usize = 512;
/// When `refused.log` begins anew; one old one is kept.
const MAX_REFUSED_BYTES: u64 = 4 << 20;

/// Why a keyholder's directory cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file does not hold what it should.
    #[error("{}: {what}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl StateError {
    pub(super) fn damaged(path: &Path, what: &'static str) -> Self {
        let path = path.to_owned();
        Self::Damaged { path, what }
    }
}

/// The directory.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

/// One deployment.
#[derive(Debug)]
pub struct Deployment {
    path: PathBuf,
}

fn folder(path: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| io_error(path, "written", error))
}

fn io_error(path: &Path, action: &'static str, error: io::Error) -> FileError {
    FileError::Io {
        path: path.to_owned(),
        action,
        error,
    }
}

/// Whether a path is there; one that cannot be looked for is an error, never absent.
fn is_there(path: &Path) -> Result<bool, FileError> {
    path.try_exists()
        .map_err(|error| io_error(path, "read", error))
}

fn names(path: &Path) -> Result<Vec<String>, FileError> {
    let failed = |error| io_error(path, "read", error);
    let entries = fs::read_dir(path).map_err(failed)?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.collect::<io::Result<_>>().map_err(failed)?;
    // What a crash left half written.
    names.retain(|name| !name.ends_with(".new"));
    names.sort();
    Ok(names)
}

impl Directory {
    pub(super) fn init(path: &Path) -> Result<(), StateError> {
        folder(&path.join(DEPLOYMENTS))?;
        folder(&path.join(RECOVERY))?;
        let mut seed = Zeroizing::new([0; 32]);
        SystemRandom::new()
            .fill(&mut *seed)
            .map_err(|_| StateError::damaged(path, "the system gives no random bytes"))?;
        create_private(&path.join(SEED), &*seed)?;
        sync_folder(path)?;
        Ok(())
    }

    pub(super) fn open(path: &Path) -> Result<(Self, Ed25519KeyPair), StateError> {
        let seed_path = path.join(SEED);
        let seed = read_private(&seed_path, 32)?;
        let key = Ed25519KeyPair::from_seed_unchecked(&seed)
            .map_err(|_| StateError::damaged(&seed_path, "is no seed of 32 bytes"))?;
        let path = path.to_owned();
        Ok((Self { path }, key))
    }

    fn deployment_path(&self, issuer: &str) -> PathBuf {
        let name = hex::encode(digest(&SHA256, issuer.as_bytes()).as_ref());
        self.path.join(DEPLOYMENTS).join(name)
    }

    /// Lets a deployment enrol, or gives it another policy.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn add(&self, issuer: &str, policy: &[u8]) -> Result<(), StateError> {
        let path = self.deployment_path(issuer);
        if !is_there(&path)? && names(&self.path.join(DEPLOYMENTS))?.len() >= MAX_DEPLOYMENTS {
            return Err(StateError::damaged(&path, "there are too many deployments"));
        }
        folder(&path.join(SHARES))?;
        folder(&path.join(DESTROYED))?;
        replace_private(&path.join(POLICY), policy)?;
        // Last: without it there is no deployment.
        replace_private(&path.join(ISSUER), issuer.as_bytes())?;
        sync_folder(&self.path.join(DEPLOYMENTS))?;
        Ok(())
    }

    /// A deployment that was added.
    ///
    /// # Errors
    /// [`Refusal::UnknownDeployment`], [`Refusal::State`].
    pub fn deployment(&self, issuer: &str) -> Result<Deployment, Refusal> {
        let path = self.deployment_path(issuer);
        if !is_there(&path.join(ISSUER)).map_err(StateError::from)? {
            return Err(Refusal::UnknownDeployment);
        }
        Ok(Deployment { path })
    }

    /// All deployments.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn deployments(&self) -> Result<Vec<Deployment>, StateError> {
        let folder = self.path.join(DEPLOYMENTS);
        let mut found = Vec::new();
        for name in names(&folder)? {
            let path = folder.join(name);
            if is_there(&path.join(ISSUER))? {
                found.push(Deployment { path });
            }
        }
        Ok(found)
    }

    /// Keeps the private key of a recovery set, for enclaves that ask for it.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn keep_recovery_key(&self, set: &[u8; 8], private: &[u8; 32]) -> Result<(), StateError> {
        let folder = self.path.join(RECOVERY);
        replace_private(&folder.join(hex::encode(set)), private)?;
        Ok(())
    }

    /// Takes the private key of a recovery set away. Gives whether it was there.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn drop_recovery_key(&self, set: &[u8; 8]) -> Result<bool, StateError> {
        Ok(wipe(&self.path.join(RECOVERY).join(hex::encode(set)))?)
    }

    /// The recovery sets whose keys are here, by id.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn recovery_sets(&self) -> Result<Vec<String>, StateError> {
        Ok(names(&self.path.join(RECOVERY))?)
    }

    pub(super) fn recovery_key(&self, share: &[u8; 16]) -> Result<Zeroizing<[u8; 32]>, Refusal> {
        let (set, zeros) = share.split_at(8);
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(Refusal::NoRecoveryKey);
        }
        let path = self.path.join(RECOVERY).join(hex::encode(set));
        if !is_there(&path).map_err(StateError::from)? {
            return Err(Refusal::NoRecoveryKey);
        }
        Ok(read_32(&path)?)
    }

    /// Writes down what an appraised enclave was given or refused. Durable before anything leaves.
    pub(super) fn note(
        &self,
        request: &Request,
        asking: &Asking,
        refused: Option<&Refusal>,
        now_s: u64,
    ) -> Result<(), StateError> {
        let mut line = line(request, refused, now_s);
        if let Value::Object(line) = &mut line {
            line.insert("measurement".into(), hex::encode(asking.measurement).into());
            line.insert("evidence_id".into(), hex::encode(asking.evidence_id).into());
            line.insert("tier".into(), asking.tier.as_str().into());
            line.insert("manifest_sequence".into(), asking.sequence.into());
        }
        let path = self.path.join(AUDIT);
        append(&path, &line)
            .and_then(|file| file.sync_all())
            .map_err(|error| io_error(&path, "written", error))?;
        Ok(())
    }

    /// Writes down a refusal to whoever it was. Best effort, and bounded: what is lost is a stranger's refusal.
    pub(super) fn note_refusal(&self, request: &Request, refused: &Refusal, now_s: u64) {
        let path = self.path.join(REFUSED);
        let full = fs::metadata(&path).is_ok_and(|found| found.len() > MAX_REFUSED_BYTES);
        if full {
            drop(fs::rename(&path, path.with_extension("log.1")));
        }
        drop(append(&path, &line(request, Some(refused), now_s)));
    }
}

fn line(request: &Request, refused: Option<&Refusal>, now_s: u64) -> Value {
    json!({
        "at_s": now_s,
        "operation": request.operation.as_str(),
        "issuer": request.issuer,
        "state": hex::encode(request.state),
        "share": hex::encode(request.share),
        "refused": refused.map(Refusal::reason),
        "message": refused.map(Refusal::message),
    })
}

fn append(path: &Path, line: &Value) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    Ok(file)
}

fn read_32(path: &Path) -> Result<Zeroizing<[u8; 32]>, StateError> {
    let bytes = read_private(path, 32)?;
    let mut key = Zeroizing::new([0; 32]);
    if bytes.len() != key.len() {
        return Err(StateError::damaged(path, "has not 32 bytes"));
    }
    key.copy_from_slice(&bytes);
    Ok(key)
}

/// Overwrites a small file, and takes its name away. A disk that keeps old blocks keeps them: see `docs/keys.md`.
fn wipe(path: &Path) -> Result<bool, FileError> {
    if !is_there(path)? {
        return Ok(false);
    }
    let failed = |error| io_error(path, "written", error);
    let mut file = OpenOptions::new().write(true).open(path).map_err(failed)?;
    file.write_all(&[0; 32])
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    fs::remove_file(path).map_err(failed)?;
    sync_folder(path.parent().unwrap_or(Path::new(".")))?;
    Ok(true)
}

fn share_name(state: &[u8; 16], share: &[u8; 16]) -> String {
    format!("{}-{}", hex::encode(state), hex::encode(share))
}

impl Deployment {
    /// The issuer.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn issuer(&self) -> Result<String, StateError> {
        let bytes = read_public(&self.path.join(ISSUER), MAX_ISSUER_BYTES)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The reference values.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn policy(&self) -> Result<Policy, StateError> {
        let path = self.path.join(POLICY);
        let text = read_public(&path, MAX_POLICY_BYTES)?;
        Policy::from_toml(&text).map_err(|_| StateError::damaged(&path, "is no policy"))
    }

    /// The highest sequence number of its manifests; 0 before the first.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn sequence(&self) -> Result<u64, StateError> {
        let path = self.path.join(SEQUENCE);
        if !is_there(&path)? {
            return Ok(0);
        }
        let text = read_public(&path, 32)?;
        let text = String::from_utf8_lossy(&text);
        text.trim_end()
            .parse()
            .map_err(|_| StateError::damaged(&path, "is no number"))
    }

    pub(super) fn raise_sequence(&self, found: u64) -> Result<(), Refusal> {
        let seen = self.sequence()?;
        if found < seen {
            return Err(Refusal::ManifestLower { found, seen });
        }
        if found > seen {
            let text = format!("{found}\n");
            replace_private(&self.path.join(SEQUENCE), text.as_bytes())
                .map_err(StateError::from)?;
        }
        Ok(())
    }

    /// The shares that are here, each `STATE-SHARE`.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn shares(&self) -> Result<Vec<String>, StateError> {
        Ok(names(&self.path.join(SHARES))?)
    }

    /// How many were destroyed.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn destroyed(&self) -> Result<usize, StateError> {
        Ok(names(&self.path.join(DESTROYED))?.len())
    }

    fn is_destroyed(&self, name: &str) -> Result<bool, Refusal> {
        let path = self.path.join(DESTROYED).join(name);
        Ok(is_there(&path).map_err(StateError::from)?)
    }

    pub(super) fn enrol(
        &self,
        state: &[u8; 16],
        share: &[u8; 16],
    ) -> Result<Zeroizing<[u8; 32]>, Refusal> {
        let name = share_name(state, share);
        if self.is_destroyed(&name)? {
            return Err(Refusal::Destroyed);
        }
        let path = self.path.join(SHARES).join(&name);
        // Asked again after an answer that was lost.
        if is_there(&path).map_err(StateError::from)? {
            return Ok(read_32(&path)?);
        }
        if self.shares()?.len() >= MAX_SHARES {
            return Err(Refusal::TooManyShares);
        }
        let mut secret = Zeroizing::new([0; 32]);
        SystemRandom::new()
            .fill(&mut *secret)
            .map_err(|_| StateError::damaged(&path, "the system gives no random bytes"))?;
        replace_private(&path, &*secret).map_err(StateError::from)?;
        Ok(secret)
    }

    pub(super) fn share(
        &self,
        state: &[u8; 16],
        share: &[u8; 16],
    ) -> Result<Zeroizing<[u8; 32]>, Refusal> {
        let name = share_name(state, share);
        if self.is_destroyed(&name)? {
            return Err(Refusal::Destroyed);
        }
        let path = self.path.join(SHARES).join(&name);
        if !is_there(&path).map_err(StateError::from)? {
            return Err(Refusal::UnknownShare);
        }
        Ok(read_32(&path)?)
    }

    pub(super) fn destroy(&self, state: &[u8; 16], share: &[u8; 16]) -> Result<(), Refusal> {
        self.destroy_named(&share_name(state, share))
    }

    /// Destroys a share by the name that [`shares`](Self::shares) gives it.
    ///
    /// # Errors
    /// [`Refusal::UnknownShare`] if it never was here.
    pub fn destroy_named(&self, name: &str) -> Result<(), Refusal> {
        let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        if !is_name(name) {
            return Err(Refusal::UnknownShare);
        }
        let path = self.path.join(SHARES).join(name);
        let known = is_there(&path).map_err(StateError::from)?;
        if !known && !self.is_destroyed(name)? {
            return Err(Refusal::UnknownShare);
        }
        // The mark first: after a crash in between the share is not released, and this is asked again.
        let mark = self.path.join(DESTROYED).join(name);
        replace_private(&mark, b"").map_err(StateError::from)?;
        wipe(&path).map_err(StateError::from)?;
        Ok(())
    }
}
