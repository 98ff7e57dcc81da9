//! Exports: whole, or refused with exact words; interrupted anywhere, they go on.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "a failed test may panic"
)]

use std::path::{Path, PathBuf};

use broker::store::{
    Behind, Corruption, EmbeddedStore, ExportHeader, FILE_NAME, FilePolicy, Folder as _,
    HeaderError, Medium as _, OnSyncFailure, Progress, Source, TransferError, import,
};
use enclave::frame::{FrameCipher, FrameError};
use enclave::store::Store as _;
use ring::rand::SystemRandom;
use tests::disk::Disk;
use tests::life::{Findings, Ledger, cipher, step};
use zeroize::Zeroizing;

const EXPORT: &str = "state.tkexport";

fn open(disk: &Disk) -> EmbeddedStore<Disk> {
    let end: OnSyncFailure = Box::new(|kind| panic!("a sync failed: {kind}"));
    let policy = FilePolicy::default();
    let opened =
        EmbeddedStore::open_in(disk.clone(), cipher(), SystemRandom::new(), policy, end).unwrap();
    opened.0
}

/// A store that has lived, and what it must hold.
async fn lived(records: u64) -> (Vec<u8>, Ledger) {
    let (disk, mut ledger) = (Disk::default(), Ledger::default());
    let store = open(&disk);
    for generation in 0..2 {
        for n in 0..records {
            let _receipt = store.commit(step(n, generation)).await.unwrap();
            ledger.acknowledge(n, generation + 1);
        }
    }
    drop(store);
    (disk.contents(FILE_NAME).unwrap(), ledger)
}

fn header() -> ExportHeader {
    ExportHeader {
        envelope: b"an envelope".to_vec(),
    }
}

/// Goes on with an export that was begun; what the file holds then.
fn export_from(store: &[u8], begun: &[u8]) -> Result<Vec<u8>, TransferError> {
    export_until(store, begun, |_| true).0
}

/// As [`export_from`], as long as it is to go on. What the file holds either way.
fn export_until(
    store: &[u8],
    begun: &[u8],
    mut go_on: impl FnMut(Progress) -> bool,
) -> (Result<Vec<u8>, TransferError>, Vec<u8>) {
    let (from, to) = (Disk::with(FILE_NAME, store), Disk::with(EXPORT, begun));
    let source = Source::open(
        from.open(FILE_NAME).unwrap(),
        Path::new(FILE_NAME),
        cipher(),
    );
    let part = to.open(EXPORT).unwrap();
    let done = source
        .unwrap()
        .export(&header(), part, Path::new(EXPORT), &mut go_on);
    let there = to.contents(EXPORT).unwrap();
    let done = done.map(|bytes| {
        assert_eq!(bytes, there.len() as u64);
        there.clone()
    });
    (done, there)
}

/// Imports a file, going on with what is there; what the store's file holds then.
fn import_with(
    export: &[u8],
    begun: &[u8],
    cipher: &FrameCipher,
) -> Result<Vec<u8>, TransferError> {
    let (from, to) = (Disk::with(EXPORT, export), Disk::with(FILE_NAME, begun));
    let file = from.open(EXPORT).unwrap();
    let (header, store_begins) = ExportHeader::read(&file, Path::new(EXPORT))?;
    let store = to.open(FILE_NAME).unwrap();
    import(
        &header,
        (&Behind::new(file, store_begins), Path::new(EXPORT)),
        (&store, Path::new(FILE_NAME)),
        cipher,
        &mut |_| true,
    )?;
    assert_eq!(
        store.length_bytes().unwrap(),
        export.len() as u64 - store_begins
    );
    Ok(to.contents(FILE_NAME).unwrap())
}

fn import_from(export: &[u8], begun: &[u8]) -> Result<Vec<u8>, TransferError> {
    import_with(export, begun, &cipher())
}

async fn examine(store: &[u8], ledger: &Ledger) -> Findings {
    ledger.examine(&open(&Disk::with(FILE_NAME, store))).await
}

#[tokio::test]
async fn what_is_exported_is_imported_whole_and_goes_on() {
    let (store, ledger) = lived(300).await;
    let (mut told, none) = (Vec::new(), Vec::new());
    let (export, _) = export_until(&store, &none, |progress| {
        told.push(progress.done);
        assert_eq!(progress.of, 300 + 600);
        true
    });
    assert_eq!((told.first(), told.last()), (Some(&0), Some(&900)));
    let export = export.unwrap();
    let imported = import_from(&export, &none).unwrap();
    assert_eq!(examine(&imported, &ledger).await, Findings::default());
    // What was superseded stayed behind.
    assert!(imported.len() * 10 < store.len() * 9);
    let store = open(&Disk::with(FILE_NAME, &imported));
    let _receipt = store.commit(step(7, 2)).await.unwrap();
    let mut ledger = ledger;
    ledger.acknowledge(7, 3);
    assert_eq!(ledger.examine(&store).await, Findings::default());
}

#[tokio::test]
async fn an_empty_state_is_exported_too() {
    let (store, ledger) = lived(0).await;
    let imported = import_from(&export_from(&store, &[]).unwrap(), &[]).unwrap();
    assert_eq!(examine(&imported, &ledger).await, Findings::default());
}

#[tokio::test]
async fn an_export_that_was_cut_anywhere_goes_on() {
    let (store, ledger) = lived(600).await;
    let whole = export_from(&store, &[]).unwrap();
    let mut kept_something = 0;
    for cut in (0..whole.len()).step_by(9_973).chain([1, 20, whole.len()]) {
        let again = export_from(&store, &whole[..cut]).unwrap();
        kept_something += u32::from(again[..100] == whole[..100] && cut > 70_000);
        let imported = import_from(&again, &[]).unwrap();
        assert_eq!(
            examine(&imported, &ledger).await,
            Findings::default(),
            "{cut}"
        );
    }
    assert!(kept_something > 5, "{kept_something}");
}

#[tokio::test]
async fn an_export_that_is_stopped_goes_on_where_it_stopped() {
    let (store, ledger) = lived(600).await;
    let (stopped, there) = export_until(&store, &[], |progress| progress.done < 600);
    assert_eq!(stopped.unwrap_err(), TransferError::Stopped);
    let mut first = None;
    let (export, _) = export_until(&store, &there, |progress| {
        first.get_or_insert(progress.done);
        true
    });
    assert!(first > Some(0), "it began anew");
    let imported = import_from(&export.unwrap(), &[]).unwrap();
    assert_eq!(examine(&imported, &ledger).await, Findings::default());
}

#[tokio::test]
async fn an_import_that_was_cut_anywhere_goes_on() {
    let (store, _) = lived(300).await;
    let export = export_from(&store, &[]).unwrap();
    let whole = import_from(&export, &[]).unwrap();
    for cut in (0..whole.len()).step_by(4_999).chain([1, 76, whole.len()]) {
        assert_eq!(import_from(&export, &whole[..cut]).unwrap(), whole, "{cut}");
    }
}

#[tokio::test]
async fn files_that_are_no_whole_export_of_this_state_are_refused() {
    let (store, _) = lived(300).await;
    let (other_store, _) = lived(300).await;
    let whole = export_from(&store, &[]).unwrap();
    let other = export_from(&other_store, &[]).unwrap();
    let begins = header().to_bytes().len();
    let export = || PathBuf::from(EXPORT);
    let bad_header = |source| TransferError::Header {
        path: export(),
        source,
    };
    let corrupt = |offset: usize, what| TransferError::Corrupt {
        path: export(),
        offset: offset as u64,
        what: Corruption::Frame(what),
    };
    let changed = |at: usize, bytes: &[u8]| {
        let mut changed = whole.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let too_large = 65_537_u32.to_be_bytes();
    let not_whole = TransferError::NotWhole { path: export() };
    let mixed = TransferError::Mixed { path: export() };
    let rows: [(&str, Vec<u8>, TransferError); 14] = [
        ("nothing", vec![], bad_header(HeaderError::Short)),
        (
            "another file",
            store.clone(),
            bad_header(HeaderError::Magic),
        ),
        (
            "another format",
            changed(11, &[2]),
            bad_header(HeaderError::Version { found: 2 }),
        ),
        (
            "half a header",
            whole[..13].to_vec(),
            bad_header(HeaderError::Short),
        ),
        (
            "half an envelope",
            whole[..20].to_vec(),
            bad_header(HeaderError::Short),
        ),
        (
            "an envelope over the bound",
            changed(12, &too_large),
            bad_header(HeaderError::EnvelopeTooLarge {
                found_bytes: 65_537,
            }),
        ),
        (
            "another envelope",
            changed(16, b"Another one"),
            mixed.clone(),
        ),
        (
            "a store that was never exported",
            [&whole[..begins], &store].concat(),
            mixed,
        ),
        (
            "a changed store header",
            changed(begins + 50, &[!whole[begins + 50]]),
            corrupt(0, FrameError::FileHeader),
        ),
        (
            "a changed frame",
            changed(begins + 200, &[!whole[begins + 200]]),
            corrupt(76, FrameError::Body),
        ),
        (
            "the frames of another export",
            [&whole[..begins + 76], &other[begins + 76..]].concat(),
            corrupt(76, FrameError::Header),
        ),
        ("no frame", whole[..begins + 76].to_vec(), not_whole.clone()),
        (
            "the end is missing",
            whole[..whole.len() - 1].to_vec(),
            not_whole.clone(),
        ),
        ("most is missing", whole[..begins + 100].to_vec(), not_whole),
    ];
    for (name, bytes, expected) in rows {
        assert_eq!(import_from(&bytes, &[]).unwrap_err(), expected, "{name}");
    }
    // A copy of it in the hands of another enclave.
    let thief = FrameCipher::new(Zeroizing::new([0x5b; 32]));
    assert_eq!(
        import_with(&whole, &[], &thief).unwrap_err(),
        corrupt(0, FrameError::FileHeader)
    );
    // What an interrupted run left of something else.
    let imported = import_from(&other, &[]).unwrap();
    for begun in [&imported[..], &imported[..100], b"x"] {
        assert_eq!(
            import_from(&whole, begun).unwrap_err(),
            TransferError::OfAnother {
                path: FILE_NAME.into()
            }
        );
    }
    for begun in [&other[..], &other[..80_000], &[7; 200]] {
        assert_eq!(
            export_from(&store, begun).unwrap_err(),
            TransferError::OfAnother { path: export() }
        );
    }
}

#[tokio::test]
async fn an_export_does_not_go_on_when_the_state_has_changed() {
    let (store, _) = lived(300).await;
    let begun = export_from(&store, &[]).unwrap();
    let disk = Disk::with(FILE_NAME, &store);
    let later = open(&disk);
    let _receipt = later.commit(step(900, 0)).await.unwrap();
    drop(later);
    let store = disk.contents(FILE_NAME).unwrap();
    assert_eq!(
        export_from(&store, &begun[..begun.len() - 50]).unwrap_err(),
        TransferError::OfAnother {
            path: EXPORT.into()
        }
    );
}
