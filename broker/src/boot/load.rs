//! Loading: brings the store's records into the enclave.
//!
//! As many threads as there are processors open them; the caller's takes in what they opened.

use std::num::NonZero;
use std::sync::mpsc::sync_channel;
use std::thread;

use enclave::boot::{Boot, BootError, Opened, Opener, Reading};
use enclave::record::RecordError;
use enclave::store::Record;
use parking_lot::Mutex;

use super::StartError;
use crate::store::EmbeddedStore;

/// Records that a thread opens at a time.
const RECORDS_AT_A_TIME: usize = 1_024;

/// Brings all records in.
pub(super) fn load(boot: &mut Boot, store: &EmbeddedStore) -> Result<(), StartError> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let opener = boot.opener();
    let records = Records {
        store,
        next: Mutex::new(0),
    };
    thread::scope(|scope| {
        // What is opened and not yet taken in is bounded.
        let (sender, opened) = sync_channel(threads.saturating_mul(2));
        for _ in 0..threads {
            let (sender, opener, records) = (sender.clone(), &opener, &records);
            scope.spawn(move || {
                while let Some(next) = records.next().transpose() {
                    let opened = next.and_then(|next| open_all(opener, store, &next));
                    let failed = opened.is_err();
                    // After a failure nobody listens.
                    if sender.send(opened).is_err() || failed {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for opened in opened {
            for opened in opened? {
                boot.take_in(opened);
            }
        }
        Ok(())
    })
}

/// The records of a store, some at a time.
struct Records<'a> {
    store: &'a EmbeddedStore,
    /// Where those begin that were not given yet.
    next: Mutex<usize>,
}

impl Records<'_> {
    fn next(&self) -> Result<Option<Vec<Record>>, StartError> {
        let mut next = self.next.lock();
        let (records, after) = self.store.sweep(*next, RECORDS_AT_A_TIME)?;
        *next = after;
        Ok((!records.is_empty()).then_some(records))
    }
}

fn open_all(
    opener: &Opener,
    store: &EmbeddedStore,
    records: &[Record],
) -> Result<Vec<Opened>, StartError> {
    let mut all = Vec::with_capacity(records.len());
    for record in records {
        match opener.open(record)? {
            Reading::Opened(opened) => all.push(opened),
            Reading::NeedsFirst(key, erasure) => {
                let first = match store.record(&key)? {
                    Some(first) => Some(first),
                    None => store.record(&erasure)?,
                };
                all.push(open(opener, &first.ok_or(NO_REALM_KEY)?)?);
                all.push(open(opener, record)?);
            }
        }
    }
    Ok(all)
}

const NO_REALM_KEY: BootError = BootError::Record(RecordError::NoRealmKey);

fn open(opener: &Opener, record: &Record) -> Result<Opened, BootError> {
    match opener.open(record)? {
        Reading::Opened(opened) => Ok(opened),
        Reading::NeedsFirst(..) => Err(NO_REALM_KEY),
    }
}
