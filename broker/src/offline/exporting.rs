//! `store export`.

use enclave::keys::envelope::MAX_ENVELOPE_BYTES;
use serde_json::json;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::command::{Export, Told};
use super::ground::{Found, Ground, OfflineError, exists};
use crate::files::{FileError, read_bounded};
use crate::root::ENVELOPE_NAME;
use crate::store::{ExportHeader, FileMedium, OpenError, Progress, Source, sync_dir};

pub(super) async fn export(
    mut ground: Ground<'_>,
    to: &Export,
    told: &mut Told<'_>,
) -> Result<bool, OfflineError> {
    let path = &to.file;
    if exists(path)? {
        return Err(OfflineError::Exists { path: path.clone() });
    }
    let Some(found) = ground.open().await? else {
        return Ok(false);
    };
    ground.expect_one_root()?;
    let header = ExportHeader {
        envelope: read_bounded(&ground.path(ENVELOPE_NAME), MAX_ENVELOPE_BYTES)?,
    };
    let Found { dir, cipher, store } = found;
    let medium = FileMedium::open_to_read(&store).map_err(|error| OpenError::Io {
        action: "open",
        path: store.clone(),
        kind: error.kind(),
    })?;
    let source = Source::open(medium, &store, cipher)?;
    let part_path = with_part(path);
    let failed = |action: &'static str, path: &Path, error: &io::Error| {
        OfflineError::from(FileError::new(action, path, error))
    };
    if to.restart {
        remove(&part_path)?;
    }
    let part = FileMedium::open_or_create(&part_path)
        .map_err(|error| failed("create", &part_path, &error))?;
    let mut last = None;
    let stop = ground.stop.clone();
    let bytes = source.export(&header, part, &part_path, &mut |progress| {
        say(told.progress, "exported", "entries", &mut last, progress);
        !stop.has_begun()
    })?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    fs::rename(&part_path, path)
        .and_then(|()| sync_dir(folder))
        .map_err(|error| failed("name", path, &error))?;
    drop(dir);
    if to.json {
        let line = json!({ "ok": true, "file": path, "bytes": bytes });
        writeln!(told.out, "{line}").map_err(OfflineError::Told)?;
    } else {
        writeln!(told.out, "{} is whole: {bytes} bytes", path.display())
            .map_err(OfflineError::Told)?;
    }
    Ok(true)
}

/// What a file is called until it is whole.
fn with_part(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

pub(super) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(FileError::new("remove", path, &error)),
        Ok(()) => Ok(()),
    }
}

/// Says at each twentieth how far it is.
pub(super) fn say(
    to: &mut dyn Write,
    what: &str,
    unit: &str,
    last: &mut Option<u64>,
    progress: Progress,
) {
    let Progress { done, of } = progress;
    let part = done.saturating_mul(20).checked_div(of).unwrap_or(20);
    if *last == Some(part) {
        return;
    }
    *last = Some(part);
    // Whoever doesn't want to know has closed it.
    drop(writeln!(
        to,
        "{what} {done} of {of} {unit} ({} %)",
        part.saturating_mul(5)
    ));
}
