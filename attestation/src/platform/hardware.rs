//! The hardware attester: takes what the machine has, and says what it has not.

use std::path::{Path, PathBuf};

use super::certificate_table::CertificateTable;
use super::sev_guest::{Ceiling, GuestDevice, SEV_GUEST_DEVICE, SevGuest, SevGuestError, derive};
use super::tsm::{CONFIGFS_TSM, KernelFiles, Provider, ReportFiles, Tsm, TsmError};
use super::{Attester, AttesterError, DerivedKey, SealingFields};
use crate::evidence::{Endorsements, Evidence, Platform};
use crate::snp::{Report, SigningKey};
use crate::tdx::Quote;

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
     what to do: run inside a SEV-SNP or TDX guest with Linux 6.7 or later, as root or with access to both, with \
     configfs mounted (mount -t configfs none /sys/kernel/config) and the module sev-guest or tdx-guest loaded \
     (modprobe sev-guest); to try the service without such hardware use tokenkeep-dev",
    .base.display(), causes(.tsm), causes(.device)
)]
pub struct NoHardware {
    base: PathBuf,
    tsm: TsmError,
    device: SevGuestError,
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

/// Evidence from a guest's own hardware, and in a SEV-SNP guest keys.
pub struct HardwareAttester<F = KernelFiles>(Hardware<F>);

enum Hardware<F> {
    Snp {
        tsm: Option<Tsm<F>>,
        device: Result<Box<dyn GuestDevice>, SevGuestError>,
    },
    /// A TDX guest: quotes by configfs-tsm, and no derived keys.
    Tdx(Tsm<F>),
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
    /// [`NoHardware`] if neither gives reports or quotes.
    pub fn with(
        base: &Path,
        files: F,
        device: Result<Box<dyn GuestDevice>, SevGuestError>,
    ) -> Result<Self, NoHardware> {
        let hardware = match (Tsm::open(base, files), device) {
            (Ok(tsm), device) => match tsm.provider() {
                Provider::SevGuest => Hardware::Snp {
                    tsm: Some(tsm),
                    device,
                },
                Provider::TdxGuest => Hardware::Tdx(tsm),
            },
            (Err(_), Ok(device)) => Hardware::Snp {
                tsm: None,
                device: Ok(device),
            },
            (Err(tsm), Err(device)) => {
                return Err(NoHardware {
                    base: base.to_owned(),
                    tsm,
                    device,
                });
            }
        };
        Ok(Self(hardware))
    }

    /// How reports come.
    #[must_use]
    pub const fn report_source(&self) -> ReportSource {
        match &self.0 {
            Hardware::Snp { tsm: Some(_), .. } | Hardware::Tdx(_) => ReportSource::ConfigfsTsm,
            Hardware::Snp { tsm: None, .. } => ReportSource::SevGuest,
        }
    }

    /// The device that derives keys, or why there is none.
    fn device(&self) -> Result<&dyn GuestDevice, AttesterError> {
        match &self.0 {
            Hardware::Snp {
                device: Ok(device), ..
            } => Ok(device.as_ref()),
            Hardware::Snp { device: Err(_), .. } | Hardware::Tdx(_) => {
                Err(AttesterError::NoDerivedKey)
            }
        }
    }

    /// A report that the hardware made for `report_data`, checked to be that.
    fn checked(
        &self,
        tsm: Option<&Tsm<F>>,
        report_data: &[u8; 64],
    ) -> Result<(Report, CertificateTable), AttesterError> {
        let (bytes, table) = match tsm {
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
            return Err(OTHER_DATA);
        }
        Ok((report, table))
    }

    /// A report of a SEV-SNP guest that stays here.
    fn own_report(&self) -> Result<Report, AttesterError> {
        let tsm = match &self.0 {
            Hardware::Snp { tsm, .. } => tsm.as_ref(),
            Hardware::Tdx(_) => return Err(AttesterError::NoDerivedKey),
        };
        self.checked(tsm, &[0; 64]).map(|(report, _table)| report)
    }
}

const OTHER_DATA: AttesterError = AttesterError::Answer {
    what: "a report over other data than asked for",
};

/// A quote that the hardware made for `report_data`, checked to be that.
fn checked_quote<F: ReportFiles>(
    tsm: &Tsm<F>,
    report_data: &[u8; 64],
) -> Result<Quote, AttesterError> {
    let answer = tsm.report(report_data)?;
    let quote = Quote::parse(&answer.outblob).map_err(|_| AttesterError::Answer {
        what: "no TDX quote of a known version",
    })?;
    if quote.body().report_data != *report_data {
        return Err(OTHER_DATA);
    }
    Ok(quote)
}

impl<F: ReportFiles> Attester for HardwareAttester<F> {
    fn platform(&self) -> Platform {
        match &self.0 {
            Hardware::Snp { .. } => Platform::Snp,
            Hardware::Tdx(_) => Platform::Tdx,
        }
    }

    fn is_emulated(&self) -> bool {
        false
    }

    fn host_data(&self) -> Result<[u8; 32], AttesterError> {
        if let Hardware::Tdx(tsm) = &self.0 {
            // MRCONFIGID: the digest and 16 zeros; nobody's digest is all zero.
            let signer = checked_quote(tsm, &[0; 64])?.body().manifest_signer();
            return if signer == [0; 32] {
                Err(AttesterError::Answer {
                    what: "MRCONFIGID binds no manifest signer",
                })
            } else {
                Ok(signer)
            };
        }
        let report = self.own_report()?;
        let bytes = report.raw().get(SNP_HOST_DATA);
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(AttesterError::Answer {
                what: "the report is cut short",
            })
    }

    fn evidence(&self, report_data: &[u8; 64]) -> Result<Evidence, AttesterError> {
        let tsm = match &self.0 {
            Hardware::Snp { tsm, .. } => tsm.as_ref(),
            Hardware::Tdx(tsm) => {
                // Intel's statements do not come with a quote: the service adds them, or a verifier has its own.
                let quote = checked_quote(tsm, report_data)?;
                return Ok(Evidence::tdx(quote.raw().to_vec(), None));
            }
        };
        let (report, table) = self.checked(tsm, report_data)?;
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
        let mut shown = f.debug_struct("HardwareAttester");
        match &self.0 {
            Hardware::Snp { tsm, device } => shown
                .field("configfs_tsm", &tsm.is_some())
                .field("device", &device.is_ok()),
            Hardware::Tdx(_) => shown.field("tdx", &true),
        };
        shown.finish()
    }
}

#[cfg(test)]
#[path = "hardware_tests.rs"]
mod tests;
