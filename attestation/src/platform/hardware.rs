//! The hardware attester: takes what the machine has, and says what it has not.

use std::path::{Path, PathBuf};

use super::certificate_table::CertificateTable;
use super::sev_guest::{Ceiling, GuestDevice, SEV_GUEST_DEVICE, SevGuest, SevGuestError, derive};
use super::tsm::{CONFIGFS_TSM, KernelFiles, Provider, ReportFiles, Tsm, TsmError};
use super::{Attester, AttesterError, DerivedKey, SealingFields};
use crate::evidence::{Endorsements, Evidence, Platform};
use crate::snp::{Report, SigningKey};

/// Where `report_data` stands in a SEV-SNP report.
const SNP_REPORT_DATA: std::ops::Range<usize> = 0x050..0x090;

/// Where HOST_DATA stands.
const SNP_HOST_DATA: std::ops::Range<usize> = 0x0C0..0x0E0;

/// No way to evidence was found on this machine.
#[derive(Debug, thiserror::Error)]
#[error(
    "this machine gives no evidence of confidential hardware\n  \
     looked for configfs-tsm at {}: {}\n  \
     looked for {SEV_GUEST_DEVICE}: {}\n  \
     what to do: run inside a SEV-SNP guest with Linux 6.7 or later, as root or with access to both, with configfs \
     mounted (mount -t configfs none /sys/kernel/config) and the module sev-guest loaded (modprobe sev-guest); to \
     try the service without such hardware use tokenkeep-dev",
    .base.display(), causes(.tsm), causes(.device)
)]
pub struct NoHardware {
    base: PathBuf,
    tsm: Missing,
    device: SevGuestError,
}

/// Why configfs-tsm is of no use.
#[derive(Debug, thiserror::Error)]
enum Missing {
    #[error("it is not usable")]
    Tsm(#[source] TsmError),
    #[error(
        "it gives TDX quotes, but TDX derives no keys, which this version needs to open its state"
    )]
    Tdx,
}

/// An error with its causes.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// How reports come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportSource {
    /// By configfs-tsm, with certificates.
    ConfigfsTsm,
    /// By `/dev/sev-guest`, without.
    SevGuest,
}

impl ReportSource {
    /// Its name for people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigfsTsm => "configfs-tsm",
            Self::SevGuest => SEV_GUEST_DEVICE,
        }
    }
}

/// Evidence and keys from a SEV-SNP guest's own hardware.
pub struct HardwareAttester<F = KernelFiles> {
    tsm: Option<Tsm<F>>,
    device: Result<Box<dyn GuestDevice>, SevGuestError>,
}

impl HardwareAttester {
    /// What this machine has.
    ///
    /// # Errors
    /// [`NoHardware`], which says what was looked for.
    pub fn detect() -> Result<Self, NoHardware> {
        let device = SevGuest::open().map(|device| Box::new(device) as Box<dyn GuestDevice>);
        Self::with(Path::new(CONFIGFS_TSM), KernelFiles, device)
    }
}

impl<F: ReportFiles> HardwareAttester<F> {
    /// With configfs-tsm at `base`, if it is there, and a device, if it is there.
    ///
    /// # Errors
    /// [`NoHardware`] if neither gives SEV-SNP reports.
    pub fn with(
        base: &Path,
        files: F,
        device: Result<Box<dyn GuestDevice>, SevGuestError>,
    ) -> Result<Self, NoHardware> {
        let missing = match Tsm::open(base, files) {
            Ok(tsm) => match tsm.provider() {
                Provider::SevGuest => {
                    return Ok(Self {
                        tsm: Some(tsm),
                        device,
                    });
                }
                Provider::TdxGuest => Missing::Tdx,
            },
            Err(error) => Missing::Tsm(error),
        };
        match device {
            Ok(device) => Ok(Self {
                tsm: None,
                device: Ok(device),
            }),
            Err(device) => Err(NoHardware {
                base: base.to_owned(),
                tsm: missing,
                device,
            }),
        }
    }

    /// How reports come.
    #[must_use]
    pub const fn report_source(&self) -> ReportSource {
        if self.tsm.is_some() {
            ReportSource::ConfigfsTsm
        } else {
            ReportSource::SevGuest
        }
    }

    /// The device, or why there is none.
    fn device(&self) -> Result<&dyn GuestDevice, AttesterError> {
        match &self.device {
            Ok(device) => Ok(device.as_ref()),
            Err(_) => Err(AttesterError::NoDerivedKey),
        }
    }

    /// A report that the hardware made for `report_data`, checked to be that.
    fn checked(&self, report_data: &[u8; 64]) -> Result<(Report, CertificateTable), AttesterError> {
        let (bytes, table) = match &self.tsm {
            Some(tsm) => {
                let answer = tsm.report(report_data)?;
                let table = CertificateTable::parse(answer.auxblob.as_deref().unwrap_or_default())?;
                (answer.outblob, table)
            }
            None => (
                self.device()?.report(report_data)?,
                CertificateTable::default(),
            ),
        };
        let report = Report::parse(&bytes).map_err(|_| AttesterError::Answer {
            what: "no attestation report of a known version",
        })?;
        if report.raw().get(SNP_REPORT_DATA) != Some(report_data.as_slice()) {
            return Err(AttesterError::Answer {
                what: "a report over other data than asked for",
            });
        }
        Ok((report, table))
    }

    /// A report that stays here.
    fn own_report(&self) -> Result<Report, AttesterError> {
        self.checked(&[0; 64]).map(|(report, _table)| report)
    }
}

impl<F: ReportFiles> Attester for HardwareAttester<F> {
    fn platform(&self) -> Platform {
        Platform::Snp
    }

    fn is_emulated(&self) -> bool {
        false
    }

    fn host_data(&self) -> Result<[u8; 32], AttesterError> {
        let report = self.own_report()?;
        let bytes = report.raw().get(SNP_HOST_DATA);
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(AttesterError::Answer {
                what: "the report is cut short",
            })
    }

    fn evidence(&self, report_data: &[u8; 64]) -> Result<Evidence, AttesterError> {
        let (report, table) = self.checked(report_data)?;
        let CertificateTable {
            vcek,
            vlek,
            ask,
            ark,
        } = table;
        let vek = match report.key_info().signing_key() {
            SigningKey::Vcek => vcek,
            SigningKey::Vlek => vlek,
            SigningKey::None | SigningKey::Reserved(_) => None,
        };
        let endorsements = Endorsements { vek, ask, ark };
        Ok(Evidence::snp(report.raw().to_vec(), endorsements))
    }

    fn sealing_fields(&self) -> Result<SealingFields, AttesterError> {
        let _device = self.device()?;
        Ok(Ceiling::of(self.own_report()?.raw())?.fields)
    }

    fn derived_key(&self, fields: &SealingFields) -> Result<DerivedKey, AttesterError> {
        let device = self.device()?;
        let ceiling = Ceiling::of(self.own_report()?.raw())?;
        derive(device, &ceiling, fields)
    }
}

impl<F> std::fmt::Debug for HardwareAttester<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HardwareAttester")
            .field("configfs_tsm", &self.tsm.is_some())
            .field("device", &self.device.is_ok())
            .finish()
    }
}

#[cfg(test)]
#[path = "hardware_tests.rs"]
mod tests;
