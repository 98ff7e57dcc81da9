//! The state of a platform's TCB, in Intel's words.

use std::str::FromStr;

/// The merged status of platform, TDX module and quoting enclave. `Revoked` is not among them: it is never verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TcbStatus {
    /// All components are at the latest level.
    UpToDate,
    /// Up to date, if the software in the TD is hardened.
    SwHardeningNeeded,
    /// Up to date, if the platform is configured as an advisory asks.
    ConfigurationNeeded,
    /// Both.
    ConfigurationAndSwHardeningNeeded,
    /// Known faults are not mended.
    OutOfDate,
    /// Known faults are not mended, and the configuration is open too.
    OutOfDateConfigurationNeeded,
    /// The module was updated under the TD: it should be launched anew.
    TdRelaunchAdvised,
    /// The same, and the configuration is open too.
    TdRelaunchAdvisedConfigurationNeeded,
}

/// Text that names no status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a TCB status of Intel's other than Revoked")]
pub struct UnknownTcbStatus;

impl TcbStatus {
    const ALL: [Self; 8] = [
        Self::UpToDate,
        Self::SwHardeningNeeded,
        Self::ConfigurationNeeded,
        Self::ConfigurationAndSwHardeningNeeded,
        Self::OutOfDate,
        Self::OutOfDateConfigurationNeeded,
        Self::TdRelaunchAdvised,
        Self::TdRelaunchAdvisedConfigurationNeeded,
    ];

    /// Intel's name, in results and policies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpToDate => "UpToDate",
            Self::SwHardeningNeeded => "SWHardeningNeeded",
            Self::ConfigurationNeeded => "ConfigurationNeeded",
            Self::ConfigurationAndSwHardeningNeeded => "ConfigurationAndSWHardeningNeeded",
            Self::OutOfDate => "OutOfDate",
            Self::OutOfDateConfigurationNeeded => "OutOfDateConfigurationNeeded",
            Self::TdRelaunchAdvised => "TDRelaunchAdvised",
            Self::TdRelaunchAdvisedConfigurationNeeded => "TDRelaunchAdvisedConfigurationNeeded",
        }
    }

    /// Whether Intel has published something newer against a known flaw.
    pub(crate) const fn is_out_of_date(self) -> bool {
        match self {
            Self::OutOfDate | Self::OutOfDateConfigurationNeeded => true,
            Self::UpToDate
            | Self::SwHardeningNeeded
            | Self::ConfigurationNeeded
            | Self::ConfigurationAndSwHardeningNeeded
            | Self::TdRelaunchAdvised
            | Self::TdRelaunchAdvisedConfigurationNeeded => false,
        }
    }

    /// Whether the platform was updated after the TD was launched.
    pub(crate) const fn is_relaunch_advised(self) -> bool {
        match self {
            Self::TdRelaunchAdvised | Self::TdRelaunchAdvisedConfigurationNeeded => true,
            Self::UpToDate
            | Self::SwHardeningNeeded
            | Self::ConfigurationNeeded
            | Self::ConfigurationAndSwHardeningNeeded
            | Self::OutOfDate
            | Self::OutOfDateConfigurationNeeded => false,
        }
    }

    /// From the verification library's; none for `Revoked`, which it refuses itself.
    pub(super) const fn from_dcap(status: dcap_qvl::TcbStatus) -> Option<Self> {
        use dcap_qvl::TcbStatus as Dcap;
        match status {
            Dcap::UpToDate => Some(Self::UpToDate),
            Dcap::SWHardeningNeeded => Some(Self::SwHardeningNeeded),
            Dcap::ConfigurationNeeded => Some(Self::ConfigurationNeeded),
            Dcap::ConfigurationAndSWHardeningNeeded => {
                Some(Self::ConfigurationAndSwHardeningNeeded)
            }
            Dcap::OutOfDate => Some(Self::OutOfDate),
            Dcap::OutOfDateConfigurationNeeded => Some(Self::OutOfDateConfigurationNeeded),
            Dcap::TDRelaunchAdvised => Some(Self::TdRelaunchAdvised),
            Dcap::TDRelaunchAdvisedConfigurationNeeded => {
                Some(Self::TdRelaunchAdvisedConfigurationNeeded)
            }
            Dcap::Revoked => None,
        }
    }
}

impl FromStr for TcbStatus {
    type Err = UnknownTcbStatus;

    fn from_str(text: &str) -> Result<Self, UnknownTcbStatus> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or(UnknownTcbStatus)
    }
}

impl std::fmt::Display for TcbStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
