//! The reference policy: what a relying party requires of evidence, from one TOML file.

mod read;
mod tdx;
mod write;

pub(crate) use tdx::{Image, TdxPolicy};
pub use write::{pinned, pinned_tdx};

use crate::appraisal::Tier;
use crate::fields::FieldFault;
use crate::snp::{Cpuid, FirmwareVersion, Product, TcbParts};
use crate::time::UnixTime;

/// The most a policy file may have.
pub const MAX_POLICY_BYTES: usize = 256 * 1024;

/// A checked policy. `attestation/samples/policy.toml` describes the file, field by field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    tiers: Vec<Tier>,
    snp: Option<SnpPolicy>,
    tdx: Option<TdxPolicy>,
}

/// A policy file with faults: all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the policy has {} fault(s): {}", .faults.len(), .faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct PolicyError {
    /// Every fault, with its path.
    pub faults: Vec<FieldFault>,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// [`PolicyError`] with every fault of the file.
    pub fn from_toml(text: &[u8]) -> Result<Self, PolicyError> {
        read::policy(text).map_err(|faults| PolicyError { faults })
    }

    /// The tiers that are accepted.
    #[must_use]
    pub fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    pub(crate) const fn snp(&self) -> Option<&SnpPolicy> {
        self.snp.as_ref()
    }

    pub(crate) const fn tdx(&self) -> Option<&TdxPolicy> {
        self.tdx.as_ref()
    }
}

/// The part about SEV-SNP. An empty list or a zero mask asks for nothing, but without measurements and manifest
/// signers nothing is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SnpPolicy {
    pub(crate) measurements: Vec<ReferenceMeasurement>,
    pub(crate) manifest_signers: Vec<[u8; 32]>,
    pub(crate) vmpl: u32,
    pub(crate) allow_migration_agent: bool,
    pub(crate) policy_required: u64,
    pub(crate) policy_forbidden: u64,
    pub(crate) minimum_policy_abi: Option<(u8, u8)>,
    pub(crate) platform_required: u64,
    pub(crate) platform_forbidden: u64,
    pub(crate) products: Vec<Product>,
    pub(crate) minimum_report_version: Option<u32>,
    pub(crate) minimum_guest_svn: Option<u32>,
    pub(crate) minimum_firmware: Option<FirmwareVersion>,
    pub(crate) refuse_provisional_firmware: bool,
    pub(crate) launch_mitigations_required: u64,
    pub(crate) current_mitigations_required: u64,
    pub(crate) family_ids: Vec<[u8; 16]>,
    pub(crate) image_ids: Vec<[u8; 16]>,
    pub(crate) id_keys: Vec<[u8; 48]>,
    pub(crate) author_keys: Vec<[u8; 48]>,
    pub(crate) author_vouches_for_id_key: bool,
    pub(crate) report_ids: Vec<[u8; 32]>,
    pub(crate) report_ids_ma: Vec<[u8; 32]>,
    pub(crate) csp_ids: Vec<String>,
    pub(crate) chip_ids: Vec<[u8; 64]>,
    tcb: Vec<TcbFloors>,
}

impl SnpPolicy {
    pub(crate) fn tcb(&self) -> &[TcbFloors] {
        &self.tcb
    }
}

/// A launch measurement that is accepted, from and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReferenceMeasurement {
    pub(crate) value: [u8; 48],
    pub(crate) not_before: Option<UnixTime>,
    pub(crate) not_after: Option<UnixTime>,
}

impl ReferenceMeasurement {
    /// Whether this is the measurement and its window, both ends inclusive, is open.
    pub(crate) fn admits(&self, measurement: &[u8; 48], at: UnixTime) -> bool {
        let Self {
            value,
            not_before,
            not_after,
        } = self;
        value == measurement
            && not_before.is_none_or(|not_before| at >= not_before)
            && not_after.is_none_or(|not_after| at <= not_after)
    }
}

/// Least patch levels of one kind of TCB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TcbFloor(pub(crate) TcbParts);

/// Floors for the processors of a family and a range of models. Patch levels of Bergamo and Genoa are not
/// comparable although one line endorses both, so floors go by model, not by line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TcbFloors {
    pub(crate) family: u8,
    pub(crate) model_first: u8,
    pub(crate) model_last: u8,
    pub(crate) reported: Option<TcbFloor>,
    pub(crate) committed: Option<TcbFloor>,
    pub(crate) launch: Option<TcbFloor>,
}

impl TcbFloors {
    pub(crate) const fn covers(&self, cpuid: Cpuid) -> bool {
        let Cpuid {
            family,
            model,
            stepping: _,
        } = cpuid;
        family == self.family && self.model_first <= model && model <= self.model_last
    }
}
