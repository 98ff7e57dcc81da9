//! The log of a real boot, replayed to the registers of the quote of the same boot.

use std::fs;

use attestation::eventlog::{EventLog, EventLogError, MAX_EVENT_LOG_BYTES, Payload, ReplayError};
use attestation::{Evidence, Expected, Roots, UnixTime, assess};
use ring::digest::{SHA384, digest};

use crate::vectors::folder;

fn file(name: &str) -> Vec<u8> {
    fs::read(folder().join("eventlog").join(name)).unwrap()
}

fn log() -> Vec<u8> {
    file("gcp_cos113_ccel_data.dat")
}

/// The registers of the quote, appraised.
fn rtmrs() -> [[u8; 48]; 4] {
    let collateral =
        fs::read(folder().join("tdx/v4-padded8000-google-2025/collateral.json")).unwrap();
    let evidence = Evidence::tdx(file("gcp_cos113_cos-113-tdx-quote.dat"), Some(collateral));
    let nonce: [u8; 64] = file("gcp_cos113_nonce.dat").try_into().unwrap();
    let appraisal = assess(
        &evidence,
        &Roots::amd().unwrap(),
        UnixTime::from_secs(1_740_714_290),
        None,
        &Expected::report_data(nonce),
    );
    *appraisal.appraised().unwrap().rtmrs().unwrap()
}

#[test]
fn the_log_of_a_boot_yields_the_registers_of_its_quote() {
    let log = EventLog::parse(&log()).unwrap();
    assert_eq!(log.events().len(), 43);
    let replayed = log.replay(&rtmrs()).unwrap();
    let count = |payload| {
        let events = replayed.events().iter();
        events.filter(|event| event.payload == payload).count()
    };
    assert_eq!(
        (
            count(Payload::Measured),
            count(Payload::Label),
            count(Payload::Mismatch)
        ),
        (31, 12, 0)
    );
}

/// The offset of the first event: after the header's event.
const FIRST: usize = 65;

#[test]
fn a_log_that_differs_in_one_digest_is_not_of_this_boot() {
    let rtmrs = rtmrs();
    let mut changed = log();
    changed[FIRST + 14] ^= 1;
    let error = EventLog::parse(&changed)
        .unwrap()
        .replay(&rtmrs)
        .unwrap_err();
    assert!(
        matches!(error, ReplayError::Register { rtmr: 0, .. }),
        "{error:?}"
    );
}

#[test]
fn text_that_was_not_measured_is_refused() {
    let rtmrs = rtmrs();
    let bytes = log();
    let text = b"kernel_cmdline: /syslinux";
    let at = bytes
        .windows(text.len())
        .position(|window| window == text)
        .unwrap();
    let mut changed = bytes;
    changed[at + 20] ^= 1;
    assert_eq!(
        EventLog::parse(&changed).unwrap().replay(&rtmrs),
        Err(ReplayError::Payload { index: 40 })
    );
}

/// A log with one algorithm and the events given: register, type, data.
fn written(algorithms: &[(u16, u16)], events: &[(u32, u32, &[u8])]) -> Vec<u8> {
    let mut header = b"Spec ID Event03\0".to_vec();
    header.extend([0; 8]);
    header.extend(u32::try_from(algorithms.len()).unwrap().to_le_bytes());
    for (id, bytes) in algorithms {
        header.extend(id.to_le_bytes());
        header.extend(bytes.to_le_bytes());
    }
    header.push(0);
    let mut log = [1u32.to_le_bytes(), 3u32.to_le_bytes()].concat();
    log.extend([0; 20]);
    log.extend(u32::try_from(header.len()).unwrap().to_le_bytes());
    log.extend(header);
    for (register, event_type, data) in events {
        log.extend(register.to_le_bytes());
        log.extend(event_type.to_le_bytes());
        log.extend(1u32.to_le_bytes());
        log.extend(12u16.to_le_bytes());
        log.extend(digest(&SHA384, data).as_ref());
        log.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        log.extend(*data);
    }
    log
}

#[test]
fn what_is_no_log_is_refused() {
    const SHA: &[(u16, u16)] = &[(12, 48)];
    let good = written(SHA, &[(1, 4, b"data")]);
    assert_eq!(EventLog::parse(&good).unwrap().events().len(), 1);
    let cut = |bytes: usize| good[..good.len() - bytes].to_vec();
    let edited = |at: usize, byte: u8| {
        let mut log = good.clone();
        log[at] = byte;
        log
    };
    let many = vec![(1, 4, &b"data"[..]); 4_097];
    let rows = [
        (
            vec![0; MAX_EVENT_LOG_BYTES + 1],
            EventLogError::TooLarge {
                found_bytes: MAX_EVENT_LOG_BYTES + 1,
            },
        ),
        (Vec::new(), EventLogError::Header),
        (edited(4, 4), EventLogError::Header),
        (edited(32, b's'), EventLogError::Header),
        (written(&[], &[]), EventLogError::Algorithms),
        (written(&[(11, 32)], &[]), EventLogError::Algorithms),
        (written(&[(12, 32)], &[]), EventLogError::Algorithms),
        (
            written(&[(12, 48), (12, 48)], &[]),
            EventLogError::Algorithms,
        ),
        (written(SHA, &many), EventLogError::TooManyEvents),
        (cut(1), EventLogError::Truncated { index: 0 }),
        (cut(60), EventLogError::Truncated { index: 0 }),
        (edited(FIRST + 8, 2), EventLogError::Digests { index: 0 }),
        (edited(FIRST + 12, 11), EventLogError::Digests { index: 0 }),
        (
            edited(FIRST, 0),
            EventLogError::Register { index: 0, found: 0 },
        ),
        (
            edited(FIRST, 5),
            EventLogError::Register { index: 0, found: 5 },
        ),
    ];
    for (log, error) in rows {
        assert_eq!(EventLog::parse(&log), Err(error));
    }
}

/// One event with these digests, behind a header with these algorithms.
fn digested(algorithms: &[(u16, u16)], register: u32, event_type: u32, ids: &[u16]) -> Vec<u8> {
    let mut log = written(algorithms, &[]);
    log.extend(register.to_le_bytes());
    log.extend(event_type.to_le_bytes());
    log.extend(u32::try_from(ids.len()).unwrap().to_le_bytes());
    for id in ids {
        log.extend(id.to_le_bytes());
        let bytes = if *id == 12 { 48 } else { 32 };
        log.extend(vec![u8::try_from(*id).unwrap(); bytes]);
    }
    log.extend(0u32.to_le_bytes());
    log
}

#[test]
fn each_algorithm_has_one_digest_and_that_of_sha384_counts() {
    const BOTH: &[(u16, u16)] = &[(11, 32), (12, 48)];
    for ids in [[11, 12], [12, 11]] {
        let log = EventLog::parse(&digested(BOTH, 1, 4, &ids)).unwrap();
        assert_eq!(log.events()[0].digest, [12; 48]);
    }
    let wrong = EventLogError::Digests { index: 0 };
    for ids in [
        &[12][..],
        &[11],
        &[12, 12],
        &[11, 11],
        &[11, 12, 12],
        &[11, 12, 11],
        &[],
    ] {
        assert_eq!(
            EventLog::parse(&digested(BOTH, 1, 4, ids)),
            Err(wrong.clone()),
            "{ids:?}"
        );
    }
}

#[test]
fn bounds_of_a_log_are_met_by_what_is_equal_to_them() {
    // What measures nothing belongs to no register.
    for register in [0, 1, 5] {
        let log = digested(&[(12, 48)], register, 3, &[12]);
        assert_eq!(EventLog::parse(&log).unwrap().events(), []);
    }
    let many = |count: u16| -> Vec<(u16, u16)> { (12..12 + count).map(|id| (id, 48)).collect() };
    assert!(EventLog::parse(&written(&many(8), &[])).is_ok());
    let error = EventLogError::Algorithms;
    assert_eq!(EventLog::parse(&written(&many(9), &[])), Err(error));
    // All ones end a log: what follows is not read, and counts by its size alone.
    let mut log = written(&[(12, 48)], &[(1, 4, b"data")]);
    log.resize(MAX_EVENT_LOG_BYTES, 0xFF);
    assert_eq!(EventLog::parse(&log).unwrap().events().len(), 1);
    let most = vec![(1, 4, &b"data"[..]); 4_096];
    assert_eq!(
        EventLog::parse(&written(&[(12, 48)], &most))
            .unwrap()
            .events()
            .len(),
        4_096
    );
}
