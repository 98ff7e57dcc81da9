//! The state on disk, so that a developer's stack finds its grants again after a restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::{
    digest::TokenDigest,
    ledger::RevokedBy,
    state::{AccessRecord, Family, RefreshRecord, State},
};

const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    families: BTreeMap<String, SavedFamily>,
    refresh: Vec<(TokenDigest, RefreshRecord)>,
    access: Vec<(TokenDigest, AccessRecord)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedFamily {
    client_id: String,
    user: String,
    scope: BTreeSet<String>,
    current: String,
    generation: u64,
    revoked: Option<RevokedBy>,
}

/// Writes the state beside `path` and moves it there, readable by its owner alone.
///
/// A killed process leaves the old state or the new one. A power failure may leave neither.
pub(crate) fn save(path: &Path, state: &State) -> io::Result<()> {
    let saved = Saved {
        version: VERSION,
        families: state
            .families
            .iter()
            .map(|(grant, family)| {
                let Family {
                    client_id,
                    user,
                    scope,
                    current,
                    generation,
                    revoked,
                } = family;
                let saved = SavedFamily {
                    client_id: client_id.clone(),
                    user: user.clone(),
                    scope: scope.clone(),
                    current: current.expose_secret().to_owned(),
                    generation: *generation,
                    revoked: *revoked,
                };
                (grant.clone(), saved)
            })
            .collect(),
        refresh: state
            .refresh_order
            .iter()
            .filter_map(|digest| Some((*digest, state.refresh.get(digest)?.clone())))
            .collect(),
        access: state
            .access_order
            .iter()
            .filter_map(|digest| Some((*digest, state.access.get(digest)?.clone())))
            .collect(),
    };
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(&serde_json::to_vec(&saved)?)?;
    fs::rename(&beside, path)
}

/// Reads a state back; an absent file is an empty state.
pub(crate) fn load(path: &Path) -> io::Result<State> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
        Err(error) => return Err(error),
    };
    let Saved {
        version,
        families,
        refresh,
        access,
    } = serde_json::from_slice(&bytes)?;
    if version != VERSION {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a state of an unknown version",
        ));
    }
    Ok(State {
        families: families
            .into_iter()
            .map(|(grant, saved)| {
                let family = Family {
                    client_id: saved.client_id,
                    user: saved.user,
                    scope: saved.scope,
                    current: SecretString::from(saved.current),
                    generation: saved.generation,
                    revoked: saved.revoked,
                };
                (grant, family)
            })
            .collect(),
        refresh_order: refresh.iter().map(|(digest, _)| *digest).collect(),
        refresh: refresh.into_iter().collect(),
        access_order: access.iter().map(|(digest, _)| *digest).collect(),
        access: access.into_iter().collect(),
    })
}
