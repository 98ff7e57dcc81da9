//! The logs for whoever audits them, as tiles [C2SP tlog-tiles]: `/log/control/…` and `/log/issuance/<boot>/…`.
//!
//! Nothing here needs a caller's name: what is private in a leaf is sealed to its tenant.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use enclave::log::{LogError, LogName};
use tlog::tile::Resource;
use tokio::sync::Semaphore;

use crate::events;
use crate::log::LogReadError;
use crate::shell::Shell;

/// Tiles that are made at a time; other requests wait for their turn.
const MAX_AT_A_TIME: usize = 16;

/// A checkpoint is good until the log grows.
const CHECKPOINT_AGE: &str = "public, max-age=1";

/// A partial tile never changes either, but the log need not keep it.
const PARTIAL_AGE: &str = "public, max-age=60";

/// A full tile never changes.
const FULL_AGE: &str = "public, max-age=31536000, immutable";

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";

struct Desk {
    shell: Arc<Shell>,
    turns: Semaphore,
}

/// The logs' routes.
pub(super) fn router(shell: &Arc<Shell>) -> Router {
    let desk = Desk {
        shell: Arc::clone(shell),
        turns: Semaphore::new(MAX_AT_A_TIME),
    };
    Router::new()
        .route("/log/{*path}", get(answer))
        .with_state(Arc::new(desk))
}

async fn answer(State(desk): State<Arc<Desk>>, Path(path): Path<String>) -> Response {
    let (name, resource) = match parse(&path) {
        Ok(asked) => asked,
        Err(why) => return text(StatusCode::NOT_FOUND, why),
    };
    match desk.read(name, resource).await {
        Ok(answer) => answer,
        Err(error) => refusal(&error),
    }
}

/// What a path behind `/log/` names.
fn parse(path: &str) -> Result<(LogName, Resource), &'static str> {
    let (name, rest) = match path.split_once('/') {
        Some(("control", rest)) => (LogName::Control, rest),
        Some(("issuance", rest)) => {
            let boot = rest.split_once('/').and_then(|(boot, rest)| {
                let boot = boot.parse().ok()?;
                Some((LogName::Issuance(boot), rest))
            });
            boot.ok_or(
                "issuance logs are at /log/issuance/<boot>/, the boot in 64 lowercase hex digits",
            )?
        }
        Some(_) | None => return Err("the logs are at /log/control/ and /log/issuance/<boot>/"),
    };
    let resource = Resource::parse(rest);
    resource
        .map(|resource| (name, resource))
        .map_err(|_| "a log has checkpoint, tile/<level>/<index>[.p/<width>] and tile/entries/<index>[.p/<width>]")
}

impl Desk {
    async fn read(&self, name: LogName, resource: Resource) -> Result<Response, LogReadError> {
        // Never closed.
        let _turn = self.turns.acquire().await;
        let (kind, age, body) = match resource {
            Resource::Checkpoint => {
                let note = self.shell.public_checkpoint(name).await?;
                (TEXT, CHECKPOINT_AGE, note.into_bytes())
            }
            Resource::Tile(id) => {
                let tile = self.shell.log_tile(name, id).await?;
                (BYTES, age(id.is_full()), tile.encode())
            }
            Resource::Entries(id) => {
                let entries = self.shell.log_entries(name, id).await?;
                (BYTES, age(id.is_full()), entries.encode())
            }
        };
        Ok(([(CONTENT_TYPE, kind), (CACHE_CONTROL, age)], body).into_response())
    }
}

const fn age(is_full: bool) -> &'static str {
    if is_full { FULL_AGE } else { PARTIAL_AGE }
}

fn text(status: StatusCode, why: impl Display) -> Response {
    let headers = [(CONTENT_TYPE, TEXT), (CACHE_CONTROL, "no-store")];
    (status, headers, format!("{why}\n")).into_response()
}

fn refusal(error: &LogReadError) -> Response {
    match error {
        LogReadError::Log(error @ (LogError::Unknown | LogError::Beyond { .. })) => {
            text(StatusCode::NOT_FOUND, error)
        }
        LogReadError::Log(
            LogError::Reversed
            | LogError::Leaf { .. }
            | LogError::Missing
            | LogError::Gap { .. }
            | LogError::Leaves
            | LogError::Read
            | LogError::Full
            | LogError::Origin
            | LogError::Key,
        ) => {
            events::log_not_read(error);
            text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the log can't be read; the service's own log says why",
            )
        }
        LogReadError::Store(_) => {
            events::log_not_read(error);
            let after = Duration::from_secs(1).as_secs();
            let mut answer = text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the log can't be read at the moment",
            );
            answer.headers_mut().insert(RETRY_AFTER, after.into());
            answer
        }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeSet;

    use enclave::store::{Batch, Leaf, Log, Store};
    use tlog::tile::{BundleId, EntryBundle, HashTile, TileId};
    use tlog::{MemoryTree, VerifiedCheckpoint, VerifierKey};

    use super::super::tests::{Answer, Door};
    use super::*;

    fn kept(answer: &Answer) -> (&str, &str) {
        let header = |name| answer.headers.get(name).unwrap().to_str().unwrap();
        (header(CONTENT_TYPE), header(CACHE_CONTROL))
    }

    async fn checkpoint(door: &Door, name: LogName) -> VerifiedCheckpoint {
        let logs = door.shell.enclave.logs();
        let answer = door.get(&format!("/{}/checkpoint", name.path())).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(kept(&answer), (TEXT, "public, max-age=1"));
        let origin = logs.origin(name).unwrap();
        let keys = door.shell.enclave.keys();
        let public = keys.log_public().as_bytes();
        let key = VerifierKey::new(origin.as_str().parse().unwrap(), public.try_into().unwrap());
        VerifiedCheckpoint::open(&answer.body, &origin, &[key]).unwrap()
    }

    /// Reads all of a log as an auditor does, and gives its entries.
    async fn read(door: &Door, name: LogName) -> Vec<Vec<u8>> {
        let head = checkpoint(door, name).await.head();
        let prefix = name.path();
        let mut tree = MemoryTree::new();
        let mut entries = Vec::new();
        let mut index = 0;
        while let Some(id) = BundleId::at(index, head.size) {
            let answer = door.get(&format!("/{prefix}/{}", id.path())).await;
            let age = if id.is_full() { FULL_AGE } else { PARTIAL_AGE };
            assert_eq!(
                (answer.status, kept(&answer)),
                (StatusCode::OK, (BYTES, age))
            );
            let bundle = EntryBundle::decode(id, &answer.body).unwrap();
            tree.extend(bundle.leaf_hashes());
            entries.extend(bundle.entries().map(<[u8]>::to_vec));
            index += 1;
        }
        assert_eq!(tree.head(), head);
        for level in 0..3 {
            let mut index = 0;
            while let Some(id) = TileId::at(level, index, head.size) {
                let answer = door.get(&format!("/{prefix}/{}", id.path())).await;
                let age = if id.is_full() { FULL_AGE } else { PARTIAL_AGE };
                assert_eq!(
                    (answer.status, kept(&answer)),
                    (StatusCode::OK, (BYTES, age))
                );
                let tile = HashTile::decode(id, &answer.body).unwrap();
                assert_eq!(tile, HashTile::from_reader(&tree, id).unwrap());
                index += 1;
            }
        }
        entries
    }

    #[tokio::test]
    async fn both_logs_are_read_whole_from_their_tiles() {
        let door = Door::open().await;
        let answer = door.ask(door.good()).await;
        assert_eq!(answer.status, StatusCode::OK);
        let kinds = |entries: &[Vec<u8>]| -> BTreeSet<String> {
            let kind = |entry: &Vec<u8>| {
                let leaf: serde_json::Value = serde_json::from_slice(entry).unwrap();
                leaf["kind"].as_str().unwrap().to_owned()
            };
            entries.iter().map(kind).collect()
        };
        let control = read(&door, LogName::Control).await;
        assert!(
            kinds(&control).is_superset(&["registered", "deposited"].map(str::to_owned).into())
        );
        let issuance = LogName::Issuance(door.shell.enclave.logs().boot());
        let issued = read(&door, issuance).await;
        assert_eq!(kinds(&issued), ["token_issued".to_owned()].into());

        // Grown by more than two full tiles it reads the same way.
        for _ in 0..3 {
            let leaf = |n: u32| {
                let leaf = serde_json::json!({"v": 1, "n": n});
                Leaf::new(Log::Issuance, leaf.to_string().into_bytes())
            };
            let batch = Batch {
                writes: Vec::new(),
                leaves: (0..200).map(leaf).collect(),
            };
            let _receipt = door.shell.store.commit(batch).await.unwrap();
        }
        let head = door.shell.checkpoint(issuance, 601).await.unwrap().head();
        assert_eq!(head.size, 601);
        assert_eq!(read(&door, issuance).await.len(), 601);
    }

    #[tokio::test]
    async fn what_no_log_has_is_not_found_and_said_so() {
        let door = Door::open().await;
        let size = checkpoint(&door, LogName::Control).await.head().size;
        let beyond = format!("the log has {size} leaves\n");
        let logs = "the logs are at /log/control/ and /log/issuance/<boot>/\n";
        let boots =
            "issuance logs are at /log/issuance/<boot>/, the boot in 64 lowercase hex digits\n";
        let paths = "a log has checkpoint, tile/<level>/<index>[.p/<width>] and tile/entries/<index>[.p/<width>]\n";
        let zeros = "00".repeat(32);
        let rows = [
            ("/log/other/checkpoint".to_owned(), logs),
            ("/log/control".to_owned(), logs),
            ("/log/issuance/checkpoint".to_owned(), boots),
            (format!("/log/issuance/{}/checkpoint", &zeros[1..]), boots),
            (
                format!("/log/issuance/{zeros}/checkpoint"),
                "there is no such log\n",
            ),
            ("/log/control/".to_owned(), paths),
            ("/log/control/checkpoint/".to_owned(), paths),
            ("/log/control/tile/64/000".to_owned(), paths),
            ("/log/control/tile/0/0".to_owned(), paths),
            ("/log/control/tile/0/000.p/256".to_owned(), paths),
            ("/log/control/tile/../checkpoint".to_owned(), paths),
            ("/log/control/tile/0/000".to_owned(), &beyond),
            ("/log/control/tile/entries/001".to_owned(), &beyond),
            ("/log/control/tile/1/000.p/1".to_owned(), &beyond),
            (format!("/log/control/tile/0/000.p/{}", size + 1), &beyond),
        ];
        for (path, expected) in rows {
            let answer = door.get(&path).await;
            let body = String::from_utf8(answer.body.clone()).unwrap();
            assert_eq!(
                (answer.status, body.as_str()),
                (StatusCode::NOT_FOUND, expected),
                "{path}"
            );
            assert_eq!(kept(&answer), (TEXT, "no-store"), "{path}");
        }
    }
}
