//! Tests of the witness over HTTP and across restarts.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a failed test may panic"
)]

use std::sync::Arc;

use ring::signature::Ed25519KeyPair;
use tlog::{
    Checkpoint, ConsistencyProof, MemoryTree, NoteSignature, NoteSigner, Origin, leaf_hash,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::clock::SystemClock;

const ORIGIN: &str = "keep.example/control";

struct Log {
    signer: NoteSigner,
    origin: Origin,
    tree: MemoryTree,
}

impl Log {
    fn new(origin: &str, seed: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        Self {
            signer: NoteSigner::new(origin.parse().unwrap(), pair).unwrap(),
            origin: origin.parse().unwrap(),
            tree: MemoryTree::new(),
        }
    }

    fn grow(&mut self, leaves: u8) -> &mut Self {
        for leaf in 0..leaves {
            self.tree.append(leaf_hash(&[leaf]));
        }
        self
    }

    fn checkpoint(&self) -> VerifiedCheckpoint {
        let checkpoint = Checkpoint::new(self.origin.clone(), self.tree.head()).unwrap();
        let note = checkpoint.sign(&self.signer).unwrap().to_string();
        let keys = [self.signer.verifier_key().clone()];
        VerifiedCheckpoint::open(note.as_bytes(), &self.origin, &keys).unwrap()
    }

    fn request(&self, old_size: u64) -> String {
        let proof = ConsistencyProof::prove(&self.tree, old_size, self.tree.size()).unwrap();
        AddCheckpoint::new(old_size, proof, &self.checkpoint()).to_string()
    }
}

fn witness(path: &Path, logs: &[&Log]) -> Witness {
    drop(Witness::init(path, &"witness.example/1".parse().unwrap()).unwrap());
    for log in logs {
        Directory::add_log(path, log.signer.verifier_key()).unwrap();
    }
    Witness::open(path).unwrap()
}

fn refused(witness: &Witness, body: &str) -> Refused {
    match witness.add_checkpoint(body.as_bytes(), 7).unwrap_err() {
        WitnessError::Refused(refused) => refused,
        WitnessError::State(error) => panic!("{error}"),
    }
}

#[test]
fn what_was_cosigned_is_remembered_across_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w");
    let mut log = Log::new(ORIGIN, 1);
    log.grow(3);
    let mut other = Log::new("other.example/log", 2);
    other.grow(9);
    let first = witness(&path, &[&log, &other]);
    first.add_checkpoint(log.request(0).as_bytes(), 7).unwrap();
    first
        .add_checkpoint(other.request(0).as_bytes(), 7)
        .unwrap();
    drop(first);

    let mut fork = Log::new(ORIGIN, 1);
    fork.grow(2);
    fork.tree.append(leaf_hash(b"another"));
    log.grow(4);
    let again = Witness::open(&path).unwrap();
    // Behind what was seen, aside of it, and in front of it.
    assert_eq!(
        refused(&again, &log.request(0)),
        Refused::Conflict { size: 3 }
    );
    assert_eq!(refused(&again, &fork.request(3)).status(), 422);
    let line = again.add_checkpoint(log.request(3).as_bytes(), 9).unwrap();
    let cosigned = log.checkpoint().verify_cosignature(again.key(), &line);
    assert_eq!(cosigned.unwrap().timestamp_s(), 9);
    assert_eq!(again.logs().len(), 2);
    assert_eq!(again.logs()[&log.origin].head(), Some(log.tree.head()));
}

#[test]
fn a_witness_whose_memory_was_changed_does_not_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w");
    let mut log = Log::new(ORIGIN, 1);
    log.grow(3);
    let first = witness(&path, &[&log]);
    first.add_checkpoint(log.request(0).as_bytes(), 7).unwrap();
    let seen = path
        .join("seen")
        .join(hex::encode(state::sha256(&log.origin)));
    let good = std::fs::read_to_string(&seen).unwrap();
    log.grow(1);
    let foreign = log.checkpoint().note().note().to_string();
    let without = good.lines().take(5).map(|line| format!("{line}\n"));
    for changed in [
        String::new(),
        good.replacen("\n3\n", "\n2\n", 1),
        // Signed by the log, and never cosigned here.
        foreign,
        without.collect(),
    ] {
        std::fs::write(&seen, &changed).unwrap();
        let opened = Witness::open(&path);
        assert!(
            matches!(opened, Err(StateError::Damaged { .. })),
            "{changed}"
        );
    }
    std::fs::write(&seen, &good).unwrap();
    assert!(Witness::open(&path).is_ok());
    let again = Witness::init(&path, &"other".parse().unwrap());
    let exists = matches!(
        again,
        Err(StateError::File(
            crate::private_file::FileError::Exists { .. }
        ))
    );
    assert!(exists);
}

#[test]
fn of_two_requests_at_once_none_takes_the_other_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w");
    let mut log = Log::new(ORIGIN, 1);
    log.grow(1);
    let shared = witness(&path, &[&log]);
    shared.add_checkpoint(log.request(0).as_bytes(), 7).unwrap();
    let bodies: Vec<String> = (0..8).map(|_| log.grow(1).request(1)).collect();
    let cosigned = std::thread::scope(|scope| {
        let tries: Vec<_> = bodies
            .iter()
            .map(|body| scope.spawn(|| shared.add_checkpoint(body.as_bytes(), 8).is_ok()))
            .collect();
        tries
            .into_iter()
            .filter(|_| true)
            .map(|one| one.join().unwrap())
            .filter(|ok| *ok)
            .count()
    });
    assert_eq!(cosigned, 1, "each began from the same size");
}

/// Sends bytes, reads until the connection is closed; gives status, media type and body.
async fn send(
    address: std::net::SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, String, String) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: w\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    // A server that has enough may close before all is sent.
    let _sent = socket.write_all(body.as_bytes()).await;
    let mut answer = Vec::new();
    let _read = socket.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let media_type = head
        .lines()
        .find_map(|line| line.strip_prefix("content-type: "));
    (
        status,
        media_type.unwrap_or_default().to_owned(),
        body.to_owned(),
    )
}

#[tokio::test]
async fn each_request_over_http_gets_its_status() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w");
    let mut log = Log::new(ORIGIN, 1);
    log.grow(5);
    let served = Arc::new(witness(&path, &[&log]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let clock = Arc::new(SystemClock);
    let server = tokio::spawn(serve::serve(Arc::clone(&served), clock, listener, None));

    let add = "/add-checkpoint";
    let monitor = format!("/{}/checkpoint", hex::encode(state::sha256(&log.origin)));
    let first = log.request(0);
    let mut forked = Log::new(ORIGIN, 1);
    forked.grow(4).tree.append(leaf_hash(b"x"));
    let mut stranger = Log::new("stranger.example", 3);
    stranger.grow(1);
    let mut impostor = Log::new(ORIGIN, 4);
    impostor.grow(6);
    let plain = "text/plain; charset=utf-8";
    let rows = [
        ("GET", monitor.as_str(), String::new(), 404, plain),
        ("POST", add, String::new(), 400, plain),
        ("POST", add, stranger.request(0), 404, plain),
        ("POST", add, impostor.request(0), 403, plain),
        ("POST", add, first.clone(), 200, plain),
        ("POST", add, first.clone(), 409, SIZE_MEDIA),
        ("POST", add, forked.request(5), 422, plain),
        ("POST", add, log.request(5), 200, plain),
        ("POST", add, "x".repeat(200_000), 413, plain),
        ("GET", add, String::new(), 405, plain),
        ("POST", monitor.as_str(), String::new(), 405, plain),
        ("GET", monitor.as_str(), String::new(), 200, plain),
        ("GET", "/", String::new(), 404, plain),
        ("GET", "/zz/checkpoint", String::new(), 404, plain),
    ];
    for (number, (method, path, body, status, media_type)) in rows.iter().enumerate() {
        let found = send(address, method, path, body).await;
        let what = format!("{number}: {method} {path}: {found:?}");
        assert_eq!(
            (found.0, found.1.as_str()),
            (*status, *media_type),
            "{what}"
        );
        if *status == 409 {
            assert_eq!(found.2, "5\n", "{what}");
        }
        if *status == 200 && *path == add {
            let line: NoteSignature = found.2.trim_end().parse().unwrap();
            let checkpoint = log.checkpoint();
            assert!(checkpoint.verify_cosignature(served.key(), &line).is_ok());
        }
    }
    // A monitor gets the log's signature and the cosignature.
    let (_, _, note) = send(address, "GET", &monitor, "").await;
    let keys = [log.signer.verifier_key().clone()];
    let seen = VerifiedCheckpoint::open(note.as_bytes(), &log.origin, &keys).unwrap();
    assert_eq!(
        seen.cosignature(served.key()).unwrap().head(),
        log.tree.head()
    );
    // A log that is added is known at once.
    Directory::add_log(&path, stranger.signer.verifier_key()).unwrap();
    let found = send(address, "POST", add, &stranger.request(0)).await;
    assert_eq!(found.0, 200, "{found:?}");
    server.abort();
}

const SIZE_MEDIA: &str = tlog::witness::SIZE_MEDIA_TYPE;
