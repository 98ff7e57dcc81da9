//! The attester over an emulated chip behind a fake configfs and a fake device.

use super::super::certificate_table::tests::all_four;
use super::*;
use crate::platform::CertificateTableFault;
use std::io;
use std::sync::{Arc, Mutex};
use testkit::snp::SnpPlatform;
use testkit::tdx::{TdFields, TdxPlatform};

/// A guest's kernel: what it would say, in memory.
struct Guest {
    chip: SnpPlatform,
    provider: &'static str,
    auxblob: Option<Vec<u8>>,
    /// Done to each report before it is given out.
    change: fn(&mut Vec<u8>),
    inblob: Mutex<Option<[u8; 64]>>,
}

impl Guest {
    fn new() -> Self {
        let chip = SnpPlatform::development([3; 32]).unwrap();
        let certificates = chip.certificates();
        let auxblob = all_four(&certificates.vek, &certificates.ask, &certificates.ark);
        Self {
            chip,
            provider: "sev_guest\n",
            auxblob: Some(auxblob),
            change: |_| {},
            inblob: Mutex::new(None),
        }
    }

    fn make(&self, report_data: &[u8; 64]) -> Vec<u8> {
        let mut fields = self.chip.fields();
        fields.report_data = *report_data;
        fields.host_data = [0x48; 32];
        let mut report = self.chip.report(&fields).unwrap();
        (self.change)(&mut report);
        report
    }
}

#[derive(Clone)]
struct Kernel(Arc<Guest>);

impl ReportFiles for Kernel {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.starts_with("/absent") {
            return Err(io::ErrorKind::NotFound.into());
        }
        *self.0.inblob.lock().unwrap() = None;
        Ok(())
    }

    fn read(&self, file: &Path, _max_bytes: usize) -> io::Result<Vec<u8>> {
        let inblob = *self.0.inblob.lock().unwrap();
        match file.file_name().unwrap().to_str().unwrap() {
            "provider" => Ok(self.0.provider.into()),
            "generation" => Ok(if inblob.is_some() { "1\n" } else { "0\n" }.into()),
            "outblob" => Ok(self.0.make(&inblob.unwrap())),
            "auxblob" => self
                .0
                .auxblob
                .clone()
                .ok_or_else(|| io::ErrorKind::NotFound.into()),
            other => panic!("{other}"),
        }
    }

    fn write(&self, _file: &Path, bytes: &[u8]) -> io::Result<()> {
        *self.0.inblob.lock().unwrap() = Some(bytes.try_into().unwrap());
        Ok(())
    }

    fn remove_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl GuestDevice for Kernel {
    fn report(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, SevGuestError> {
        Ok(self.0.make(report_data))
    }

    fn derived_key(
        &self,
        fields: &SealingFields,
        vmpl: u32,
        key: &mut [u8; 32],
    ) -> Result<(), SevGuestError> {
        assert_eq!(vmpl, 0);
        key[..8].copy_from_slice(&fields.tcb_version);
        key[8] = 1;
        Ok(())
    }
}

const BASE: &str = "/base";

fn no_device() -> Result<Box<dyn GuestDevice>, SevGuestError> {
    Err(SevGuestError::Open(io::ErrorKind::NotFound.into()))
}

fn device(guest: &Arc<Guest>) -> Result<Box<dyn GuestDevice>, SevGuestError> {
    Ok(Box::new(Kernel(guest.clone())))
}

fn attester(guest: Guest) -> HardwareAttester<Kernel> {
    let guest = Arc::new(guest);
    let device = device(&guest);
    HardwareAttester::with(Path::new(BASE), Kernel(guest), device).unwrap()
}

#[test]
fn evidence_is_the_report_with_the_certificates_of_the_table() {
    let guest = Guest::new();
    let certificates = guest.chip.certificates().clone();
    let attester = attester(guest);
    assert_eq!(attester.report_source(), ReportSource::ConfigfsTsm);
    assert!(!attester.is_emulated());
    assert_eq!(attester.host_data().unwrap(), [0x48; 32]);
    let evidence = attester.evidence(&[0xA5; 64]).unwrap();
    let expected = Endorsements {
        vek: Some(certificates.vek),
        ask: Some(certificates.ask),
        ark: Some(certificates.ark),
    };
    assert_eq!(evidence.endorsements, expected);
    assert_eq!(evidence.report[SNP_REPORT_DATA], [0xA5; 64]);

    let fields = attester.sealing_fields().unwrap();
    let key = attester.derived_key(&fields).unwrap();
    assert!(key.is_same(&attester.derived_key(&fields).unwrap()));
    let above = SealingFields {
        guest_svn: fields.guest_svn.saturating_add(1),
        ..fields
    };
    assert!(matches!(
        attester.derived_key(&above),
        Err(AttesterError::FieldsRefused)
    ));
}

#[test]
fn an_answer_that_is_not_what_was_asked_for_is_no_evidence() {
    let answer = |change: fn(&mut Vec<u8>)| {
        let mut guest = Guest::new();
        guest.change = change;
        attester(guest).evidence(&[0xA5; 64]).unwrap_err()
    };
    for (error, expected) in [
        (
            answer(|report| report[0x50] ^= 1),
            "a report over other data than asked for",
        ),
        (
            answer(|report| report[0x8F] ^= 1),
            "a report over other data than asked for",
        ),
        (
            answer(|report| report[0] = 6),
            "no attestation report of a known version",
        ),
        (
            answer(Vec::clear),
            "no attestation report of a known version",
        ),
        (
            answer(|report| report.push(0)),
            "no attestation report of a known version",
        ),
    ] {
        let AttesterError::Answer { what } = error else {
            panic!("{error:?}");
        };
        assert_eq!(what, expected);
    }
    let mut guest = Guest::new();
    guest.auxblob = Some(vec![1; 30]);
    match attester(guest).evidence(&[0xA5; 64]) {
        Err(AttesterError::Certificates(fault)) => {
            assert_eq!(fault, CertificateTableFault::NoEnd);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_device_stands_in_for_configfs_and_has_no_certificates() {
    let guest = Arc::new(Guest::new());
    let absent = Path::new("/absent");
    let attester = HardwareAttester::with(absent, Kernel(guest.clone()), device(&guest)).unwrap();
    assert_eq!(attester.report_source(), ReportSource::SevGuest);
    let evidence = attester.evidence(&[1; 64]).unwrap();
    assert_eq!(evidence.endorsements, Endorsements::default());
    assert!(attester.sealing_fields().is_ok());
}

#[test]
fn without_the_device_there_is_evidence_but_no_key() {
    let attester =
        HardwareAttester::with(Path::new(BASE), Kernel(Arc::new(Guest::new())), no_device())
            .unwrap();
    assert!(attester.evidence(&[1; 64]).is_ok());
    assert!(matches!(
        attester.sealing_fields(),
        Err(AttesterError::NoDerivedKey)
    ));
}

#[test]
fn a_machine_without_either_is_told_what_was_looked_for_and_what_to_do() {
    let error = HardwareAttester::with(
        Path::new("/absent"),
        Kernel(Arc::new(Guest::new())),
        no_device(),
    )
    .unwrap_err()
    .to_string();
    for part in [
        "/absent: configfs-tsm does not make a directory: entity not found",
        "/dev/sev-guest: /dev/sev-guest cannot be opened: entity not found",
        "modprobe sev-guest",
        "tokenkeep-dev",
    ] {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
}

/// A TDX guest's kernel.
#[derive(Clone)]
struct TdxKernel(Arc<TdxGuest>);

struct TdxGuest {
    platform: TdxPlatform,
    fields: TdFields,
    change: fn(&mut Vec<u8>),
    inblob: Mutex<Option<[u8; 64]>>,
}

impl ReportFiles for TdxKernel {
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        *self.0.inblob.lock().unwrap() = None;
        Ok(())
    }

    fn read(&self, file: &Path, _max_bytes: usize) -> io::Result<Vec<u8>> {
        let inblob = *self.0.inblob.lock().unwrap();
        match file.file_name().unwrap().to_str().unwrap() {
            "provider" => Ok("tdx_guest\n".into()),
            "generation" => Ok(if inblob.is_some() { "1\n" } else { "0\n" }.into()),
            "outblob" => {
                let fields = TdFields {
                    report_data: inblob.unwrap(),
                    ..self.0.fields.clone()
                };
                let mut quote = self.0.platform.evidence(&fields).unwrap().quote;
                (self.0.change)(&mut quote);
                Ok(quote)
            }
            // A quote comes alone.
            "auxblob" => Err(io::ErrorKind::NotFound.into()),
            other => panic!("{other}"),
        }
    }

    fn write(&self, _file: &Path, bytes: &[u8]) -> io::Result<()> {
        *self.0.inblob.lock().unwrap() = Some(bytes.try_into().unwrap());
        Ok(())
    }

    fn remove_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
}

fn tdx(bound: [u8; 48], change: fn(&mut Vec<u8>)) -> HardwareAttester<TdxKernel> {
    let guest = TdxGuest {
        platform: TdxPlatform::new().unwrap(),
        fields: TdFields {
            mr_config_id: bound,
            ..TdFields::default()
        },
        change,
        inblob: Mutex::new(None),
    };
    let kernel = TdxKernel(Arc::new(guest));
    HardwareAttester::with(Path::new(BASE), kernel, no_device()).unwrap()
}

fn bound(signer: [u8; 32]) -> [u8; 48] {
    let mut bound = [0; 48];
    bound[..32].copy_from_slice(&signer);
    bound
}

#[test]
fn a_tdx_guest_gives_quotes_and_no_keys() {
    let attester = tdx(bound([0x48; 32]), |_| {});
    assert_eq!(attester.platform(), Platform::Tdx);
    assert_eq!(attester.report_source(), ReportSource::ConfigfsTsm);
    assert!(!attester.is_emulated());
    assert_eq!(attester.host_data().unwrap(), [0x48; 32]);
    let evidence = attester.evidence(&[0xA5; 64]).unwrap();
    assert_eq!(evidence.platform, Platform::Tdx);
    assert_eq!(evidence.collateral, None);
    let quote = Quote::parse(&evidence.report).unwrap();
    assert_eq!(quote.body().report_data, [0xA5; 64]);
    let fields = SealingFields {
        guest_svn: 0,
        tcb_version: [0; 8],
    };
    for none in [
        attester.sealing_fields().map(|_| ()),
        attester.derived_key(&fields).map(|_| ()),
    ] {
        assert!(matches!(none, Err(AttesterError::NoDerivedKey)));
    }
}

#[test]
fn a_quote_that_is_not_what_was_asked_for_is_no_evidence() {
    // Where report data stand in a quote of version 4: at the end of the body of 584 bytes behind the header of 48.
    const DATA: usize = 48 + 584 - 64;
    type Row = (fn(&mut Vec<u8>), &'static str);
    let rows: [Row; 4] = [
        (
            |quote| quote[DATA] ^= 1,
            "a report over other data than asked for",
        ),
        (
            |quote| quote[DATA + 63] ^= 1,
            "a report over other data than asked for",
        ),
        (|quote| quote[0] = 3, "no TDX quote of a known version"),
        (
            |quote| quote.truncate(600),
            "no TDX quote of a known version",
        ),
    ];
    for (change, expected) in rows {
        match tdx(bound([1; 32]), change).evidence(&[0xA5; 64]) {
            Err(AttesterError::Answer { what }) => assert_eq!(what, expected),
            other => panic!("{other:?}"),
        }
    }
    let mut longer = bound([1; 32]);
    longer[40] = 1;
    for config in [[0; 48], longer] {
        match tdx(config, |_| {}).host_data() {
            Err(AttesterError::Answer { what }) => {
                assert_eq!(what, "MRCONFIGID binds no manifest signer");
            }
            other => panic!("{other:?}"),
        }
    }
}
