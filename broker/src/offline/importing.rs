//! `store import`: into a folder of its own, which takes the state's place when all of it is authentic and durable.
//!
//! A service that starts in between finds no state, or a store without its
//! envelope, which it refuses: never half of one.

use enclave::frame::{FrameCipher, FrameError};
use serde_json::json;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::command::{Import, Told};
use super::exporting::{remove, say};
use super::ground::{Ground, OfflineError, exists};
use crate::boot::make_dir;
use crate::files::FileError;
use crate::root::{ENVELOPE_NAME, NEXT_ENVELOPE_NAME};
use crate::store::{
    Behind, Corruption, ExportHeader, FILE_NAME, FileMedium, Medium as _, StateDir, TransferError,
    create_or_replace, import as import_frames, sync_dir,
};

/// Where a state is brought together.
const STAGING: &str = "import";

pub(super) async fn import(
    mut ground: Ground<'_>,
    from: &Import,
    told: &mut Told<'_>,
) -> Result<bool, OfflineError> {
    let failed = |action: &'static str, path: &Path, error: &io::Error| {
        OfflineError::from(FileError::new(action, path, error))
    };
    let dir = ground.host.state_dir.clone();
    make_dir(&dir)?;
    let locked = StateDir::lock(&dir)?;
    let staging = dir.join(STAGING);
    let (store, envelope) = (dir.join(FILE_NAME), dir.join(ENVELOPE_NAME));
    let (new_store, new_envelope) = (staging.join(FILE_NAME), staging.join(ENVELOPE_NAME));
    // Between the two renames at the end of an import that was interrupted there is a store alone.
    let renamed = exists(&store)? && exists(&new_envelope)? && !exists(&new_store)?;
    for path in [&store, &envelope, &ground.path(NEXT_ENVELOPE_NAME)] {
        if exists(path)? && !(renamed && path == &store) {
            return Err(OfflineError::NotEmpty { path: path.clone() });
        }
    }
    if from.restart && !renamed {
        for path in [&new_store, &new_envelope] {
            remove(path)?;
        }
    }
    let file =
        FileMedium::open_to_read(&from.file).map_err(|error| failed("open", &from.file, &error))?;
    let (header, store_begins) = ExportHeader::read(&file, &from.file)?;
    make_dir(&staging)?;
    let to_path: PathBuf = if renamed {
        store.clone()
    } else {
        new_store.clone()
    };
    let to =
        FileMedium::open_or_create(&to_path).map_err(|error| failed("create", &to_path, &error))?;
    let there = to
        .length_bytes()
        .map_err(|error| failed("read", &to_path, &error))?;
    if there == 0 || !exists(&new_envelope)? {
        create_or_replace(&staging, ENVELOPE_NAME, &header.envelope)
            .map_err(|error| failed("write", &new_envelope, &error))?;
    }
    // As the service would: it is wrapped anew for this chip and the manifest's keyholders.
    let root = ground.root(&staging)?;
    let Some(keeper) = Box::pin(root.open(&mut ground.stop)).await? else {
        return Ok(false);
    };
    let cipher = FrameCipher::new(keeper.keys().state.frame_key()?);
    let (mut last, stop) = (None, ground.stop.clone());
    let bytes = import_frames(
        &header,
        (&Behind::new(file, store_begins), &from.file),
        (&to, &to_path),
        &cipher,
        &mut |progress| {
            say(told.progress, "imported", "bytes", &mut last, progress);
            !stop.has_begun()
        },
    )
    .map_err(|error| hint(error, there > 0, &staging))?;
    let finish = || {
        sync_dir(&staging)?;
        if !renamed {
            fs::rename(&new_store, &store)?;
            sync_dir(&dir)?;
        }
        fs::rename(&new_envelope, &envelope)?;
        sync_dir(&dir)?;
        fs::remove_dir(&staging)
    };
    finish().map_err(|error| failed("name the files in", &dir, &error))?;
    drop(locked);
    if from.json {
        let line = json!({ "ok": true, "state_dir": dir, "bytes": bytes });
        writeln!(told.out, "{line}").map_err(OfflineError::Told)?;
    } else {
        writeln!(
            told.out,
            "{} holds the state: {bytes} bytes, all authentic. Start the service.",
            dir.display()
        )
        .map_err(OfflineError::Told)?;
    }
    Ok(true)
}

/// A store that does not open under the envelope that an earlier run left: it was another export's.
fn hint(error: TransferError, resumed: bool, staging: &Path) -> OfflineError {
    let other_key = matches!(
        error,
        TransferError::Corrupt {
            what: Corruption::Frame(FrameError::FileHeader),
            ..
        }
    );
    if resumed && other_key {
        let path = staging.to_path_buf();
        return TransferError::OfAnother { path }.into();
    }
    error.into()
}
