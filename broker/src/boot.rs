//! Boot: opens the envelope and the store, and brings the enclave up.

use std::io;
use std::path::{Path, PathBuf};

use attestation::{Attester, AttesterError, Platform, SealingFields};
use enclave::Enclave;
use enclave::boot::{Boot, BootError};
use enclave::config::Config;
use enclave::frame::FrameCipher;
use enclave::keys::envelope::{self, EnvelopeError, LocalSecret, MAX_ENVELOPE_BYTES};
use enclave::keys::root::RootKey;
use enclave::log::Image;
use enclave::seal::SealError;
use enclave::store::{Log, Store, StoreError};
use enclave::time::Now;
use ring::rand::SystemRandom;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::events;
use crate::files::{FileError, read_bounded};
use crate::store::{EmbeddedStore, FILE_NAME, OpenError, create_or_replace};

/// The file with the wrapped root key, beside the store's.
pub const ENVELOPE_NAME: &str = "root.envelope";

/// The longest share in bytes.
const MAX_SHARE_BYTES: usize = 4 * 1024;

/// Records that are read from the store at a time.
const SCAN: usize = 1_024;

/// Why the service did not come up.
#[derive(Debug, Error)]
pub enum StartError {
    /// A file can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// No share is configured.
    #[error("host.toml names no share_file, and without a share the root key does not open")]
    NoShare,
    /// The platform's report does not say which image runs.
    #[error("the platform's report does not say which image runs")]
    Image,
    /// The platform gave no key.
    #[error("the platform gave no key to open the root key with")]
    Platform(#[from] AttesterError),
    /// The root key can't be wrapped or unwrapped.
    #[error("{path}: {source}")]
    Envelope {
        /// The envelope's file.
        path: PathBuf,
        /// Why.
        source: EnvelopeError,
    },
    /// There is a store, but not the key to it.
    #[error(
        "{store} is there but {envelope} is not: put it back, or move the store away to begin with a new identity"
    )]
    NoEnvelope {
        /// The store's file.
        store: PathBuf,
        /// The envelope's file.
        envelope: PathBuf,
    },
    /// The store does not open.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The store failed while it was read.
    #[error(transparent)]
    Read(#[from] StoreError),
    /// The enclave did not come up.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A key can't be derived.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// The enclave and its store.
#[derive(Debug)]
pub struct Booted {
    /// The trusted core.
    pub enclave: Enclave,
    /// Its store.
    pub store: EmbeddedStore,
}

/// Brings the enclave up from the state directory, or begins a new state there.
///
/// # Errors
/// [`StartError`].
pub async fn boot(
    config: Config,
    state_dir: &Path,
    share_file: Option<&Path>,
    attester: &dyn Attester,
    now: &Now,
) -> Result<Booted, StartError> {
    let rng = SystemRandom::new();
    make_dir(state_dir)?;
    let root = open_root(state_dir, share_file, attester, &rng)?;
    let cipher = FrameCipher::new(root.frame_key()?);
    let (store, report) = EmbeddedStore::open(state_dir, cipher, rng.clone(), Box::new(end))?;
    events::store_opened(&report);

    let mut boot = Boot::new(config, &root, Box::new(rng))?;
    let mut after = None;
    loop {
        let records = store.scan(after.as_ref(), SCAN).await?;
        let Some(last) = records.last() else {
            break;
        };
        after = Some(last.key);
        for record in records {
            boot.load(record)?;
        }
    }
    load_leaves(&mut boot, &store)?;
    if let Some(batch) = boot.create_keys(now)? {
        let _receipt = store.commit(batch).await?;
    }
    let enclave = boot.finish()?;
    // Before anything is answered, the log says who answers.
    let booted = enclave.booted(&image(attester)?, now)?;
    let durable = booted.commit(&store).await?;
    // A boot touches nothing that can be frozen.
    drop(enclave.release(durable, now));
    Ok(Booted { enclave, store })
}

/// Brings the leaves of earlier boots in.
fn load_leaves(boot: &mut Boot, store: &EmbeddedStore) -> Result<(), StartError> {
    for log in [Log::Control, Log::Issuance] {
        let count = store.leaf_count(log)?;
        let mut from: u64 = 0;
        while from < count {
            let leaves = store.leaves(log, from, SCAN)?;
            if leaves.is_empty() {
                break;
            }
            for leaf in leaves {
                boot.load_leaf(log, &leaf)?;
                from = from.saturating_add(1);
            }
        }
    }
    Ok(())
}

/// The image that runs, by the platform's own word.
fn image(attester: &dyn Attester) -> Result<Image, StartError> {
    let evidence = attester.evidence(&[0; 64])?;
    let (platform, claims) = match evidence.platform {
        Platform::Snp => {
            let report = attestation::snp::Report::parse(&evidence.report);
            let report = report.map_err(|_| StartError::Image)?;
            ("snp", report.claims_for_display(None))
        }
        Platform::Tdx => {
            let quote = attestation::tdx::Quote::parse(&evidence.report);
            let quote = quote.map_err(|_| StartError::Image)?;
            ("tdx", quote.claims_for_display())
        }
    };
    // A report of our own: nobody need verify it to us.
    let measurement = claims
        .into_iter()
        .find(|(name, _)| matches!(*name, "measurement" | "mrtd"))
        .ok_or(StartError::Image)?;
    Ok(Image {
        platform: platform.to_owned(),
        measurement: measurement.1,
    })
}

/// What a failed sync leads to: nothing is known of the last writes, so nothing
/// more may be said.
#[expect(
    clippy::exit,
    reason = "a failed sync ends the process: what is on the disk is not known"
)]
fn end(kind: io::ErrorKind) {
    events::store_sync_failed(kind);
    std::process::exit(70);
}

fn make_dir(dir: &Path) -> Result<(), FileError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| FileError::new("create", dir, &error))
}

fn open_root(
    dir: &Path,
    share_file: Option<&Path>,
    attester: &dyn Attester,
    rng: &SystemRandom,
) -> Result<RootKey, StartError> {
    let share_file = share_file.ok_or(StartError::NoShare)?;
    let share = Zeroizing::new(read_bounded(share_file, MAX_SHARE_BYTES)?);
    let envelope_path = dir.join(ENVELOPE_NAME);
    let store_path = dir.join(FILE_NAME);
    let exists = |path: &Path| {
        path.try_exists()
            .map_err(|error| FileError::new("look for", path, &error))
    };
    let failed = |source| StartError::Envelope {
        path: envelope_path.clone(),
        source,
    };
    match (exists(&envelope_path)?, exists(&store_path)?) {
        (true, store) => {
            if !store {
                // A crash of the first boot, or a host that took the store away:
                // the service begins empty, and whoever pinned its CA will see.
                events::store_absent(&store_path);
            }
            let file = read_bounded(&envelope_path, MAX_ENVELOPE_BYTES)?;
            let inputs = envelope::local_inputs(&file).map_err(failed)?;
            let fields = fields_from(&inputs).ok_or(EnvelopeError::Unreadable);
            let tee_key = attester.derived_key(&fields.map_err(failed)?)?;
            let local = LocalSecret {
                tee_key: tee_key.expose_secret(),
                tee_key_inputs: &inputs,
                share: &share,
            };
            envelope::open(&file, &local).map_err(failed)
        }
        (false, false) => {
            let fields = attester.sealing_fields()?;
            let inputs = fields_text(&fields);
            let tee_key = attester.derived_key(&fields)?;
            let local = LocalSecret {
                tee_key: tee_key.expose_secret(),
                tee_key_inputs: &inputs,
                share: &share,
            };
            let root = RootKey::generate(rng)?;
            let file = envelope::wrap(&root, &local, rng).map_err(failed)?;
            create_or_replace(dir, ENVELOPE_NAME, &file)
                .map_err(|error| FileError::new("write", &envelope_path, &error))?;
            Ok(root)
        }
        (false, true) => Err(StartError::NoEnvelope {
            store: store_path,
            envelope: envelope_path,
        }),
    }
}

/// What the derived key depends on, as the envelope's header records it.
fn fields_text(fields: &SealingFields) -> String {
    let tcb = u64::from_be_bytes(fields.tcb_version);
    format!("snp;policy;guest_svn={};tcb={tcb:016x}", fields.guest_svn)
}

fn fields_from(text: &str) -> Option<SealingFields> {
    let (guest_svn, tcb) = text
        .strip_prefix("snp;policy;guest_svn=")?
        .split_once(";tcb=")?;
    Some(SealingFields {
        guest_svn: guest_svn.parse().ok()?,
        tcb_version: u64::from_str_radix(tcb, 16).ok()?.to_be_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_the_derived_key_come_back_as_they_were() {
        let fields = SealingFields {
            guest_svn: 7,
            tcb_version: [3, 0, 0, 0, 0, 0, 8, 115],
        };
        let text = fields_text(&fields);
        assert_eq!(text, "snp;policy;guest_svn=7;tcb=0300000000000873");
        assert_eq!(fields_from(&text), Some(fields));
        assert_eq!(fields_from("snp;policy;guest_svn=x;tcb=0"), None);
    }
}
