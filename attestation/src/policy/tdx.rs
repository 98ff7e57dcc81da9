//! The part of a policy about TDX, and how it is read.

use toml::Value;

use super::read::{hex_list, mask};
use crate::fields::{Faults, Fields, FromField, Hex};
use crate::tdx::{Rtmrs, SgxType, TcbStatus, TdAttributes, Xfam};
use crate::time::UnixTime;

/// What is required of TDX evidence. An empty list or a zero mask asks for nothing, but without images and manifest
/// signers nothing is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TdxPolicy {
    pub(crate) images: Vec<Image>,
    pub(crate) manifest_signers: Vec<[u8; 32]>,
    pub(crate) statuses: Vec<TcbStatus>,
    pub(crate) platform_grace_s: Option<u64>,
    pub(crate) qe_grace_s: Option<u64>,
    pub(crate) refused_advisories: Vec<String>,
    pub(crate) minimum_evaluation_number: Option<u32>,
    pub(crate) maximum_collateral_age_s: Option<u64>,
    pub(crate) minimum_root_crl_number: Option<u32>,
    pub(crate) minimum_pck_crl_number: Option<u32>,
    pub(crate) attributes_required: u64,
    pub(crate) attributes_forbidden: u64,
    pub(crate) xfam_required: u64,
    pub(crate) xfam_forbidden: u64,
    pub(crate) allow_dynamic_platform: bool,
    pub(crate) allow_cached_keys: bool,
    pub(crate) allow_smt: bool,
    pub(crate) sgx_types: Vec<SgxType>,
    pub(crate) mr_seams: Vec<[u8; 48]>,
    pub(crate) service_tds: Vec<[u8; 48]>,
    pub(crate) owners: Vec<[u8; 48]>,
    pub(crate) owner_configs: Vec<[u8; 48]>,
    pub(crate) ppids: Vec<[u8; 16]>,
    pub(crate) piids: Vec<[u8; 16]>,
}

/// An image that is accepted, from and until when: its firmware (MRTD) and what that loaded (RTMR1 and RTMR2), as one,
/// so that parts of two releases do not make a third.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) mrtd: [u8; 48],
    /// RTMR0 depends on the machine's shape and RTMR3 on the application: they may be left open.
    pub(crate) rtmrs: [Option<[u8; 48]>; 4],
    pub(crate) not_before: Option<UnixTime>,
    pub(crate) not_after: Option<UnixTime>,
}

impl Image {
    /// Whether its firmware is this one and its window, both ends inclusive, is open.
    pub(crate) fn admits_firmware(&self, mrtd: &[u8; 48], at: UnixTime) -> bool {
        self.mrtd == *mrtd
            && self.not_before.is_none_or(|not_before| at >= not_before)
            && self.not_after.is_none_or(|not_after| at <= not_after)
    }

    /// Whether what was loaded is what it names.
    pub(crate) fn admits_rtmrs(&self, rtmrs: &Rtmrs) -> bool {
        self.rtmrs
            .iter()
            .zip(rtmrs)
            .all(|(expected, found)| expected.is_none_or(|expected| expected == *found))
    }
}

pub(super) fn read(mut fields: Fields, faults: &mut Faults) -> TdxPolicy {
    let attributes = &TdAttributes::NAMES;
    let policy = TdxPolicy {
        images: fields.optional("images", faults).unwrap_or_default(),
        manifest_signers: hex_list(&mut fields, "manifest_signers", faults),
        statuses: fields
            .optional("statuses", faults)
            .unwrap_or_else(|| vec![TcbStatus::UpToDate]),
        platform_grace_s: fields.optional("platform_grace_s", faults),
        qe_grace_s: fields.optional("qe_grace_s", faults),
        refused_advisories: fields
            .optional("refused_advisories", faults)
            .unwrap_or_default(),
        minimum_evaluation_number: fields.optional("minimum_evaluation_number", faults),
        maximum_collateral_age_s: fields.optional("maximum_collateral_age_s", faults),
        minimum_root_crl_number: fields.optional("minimum_root_crl_number", faults),
        minimum_pck_crl_number: fields.optional("minimum_pck_crl_number", faults),
        attributes_required: mask(&mut fields, "attributes_required", attributes, faults),
        attributes_forbidden: mask(&mut fields, "attributes_forbidden", attributes, faults),
        xfam_required: mask(&mut fields, "xfam_required", &Xfam::NAMES, faults),
        xfam_forbidden: mask(&mut fields, "xfam_forbidden", &Xfam::NAMES, faults),
        allow_dynamic_platform: allowed(&mut fields, "allow_dynamic_platform", faults),
        allow_cached_keys: allowed(&mut fields, "allow_cached_keys", faults),
        allow_smt: allowed(&mut fields, "allow_smt", faults),
        sgx_types: fields.optional("sgx_types", faults).unwrap_or_default(),
        mr_seams: hex_list(&mut fields, "mr_seams", faults),
        service_tds: hex_list(&mut fields, "service_tds", faults),
        owners: hex_list(&mut fields, "owners", faults),
        owner_configs: hex_list(&mut fields, "owner_configs", faults),
        ppids: hex_list(&mut fields, "ppids", faults),
        piids: hex_list(&mut fields, "piids", faults),
    };
    if policy.statuses.is_empty() {
        faults.invalid(fields.path("statuses"), "must name a status");
    }
    for (key, required, forbidden) in [
        (
            "attributes_forbidden",
            policy.attributes_required,
            policy.attributes_forbidden,
        ),
        (
            "xfam_forbidden",
            policy.xfam_required,
            policy.xfam_forbidden,
        ),
    ] {
        if required & forbidden != 0 {
            faults.invalid(fields.path(key), "forbids a bit that is also required");
        }
    }
    fields.finish(faults);
    policy
}

/// Every multi-socket machine of a cloud is a dynamic platform with cached keys and SMT: allowed unless refused.
fn allowed(fields: &mut Fields, key: &str, faults: &mut Faults) -> bool {
    fields.optional(key, faults).unwrap_or(true)
}

impl FromField for TcbStatus {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        let text = String::read(value, path, faults)?;
        text.parse().ok().or_else(|| {
            faults.invalid(path, "must be a TCB status of Intel's other than Revoked");
            None
        })
    }
}

impl FromField for SgxType {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        let text = String::read(value, path, faults)?;
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        if found.is_none() {
            faults.invalid(
                path,
                "must be standard, scalable or scalable-with-integrity",
            );
        }
        found
    }
}

impl FromField for Image {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        let mut fields = Fields::read(value, path, faults)?;
        let mrtd: Option<Hex<48>> = fields.required("mrtd", faults);
        let rtmr0: Option<Hex<48>> = fields.optional("rtmr0", faults);
        let rtmr1: Option<Hex<48>> = fields.required("rtmr1", faults);
        let rtmr2: Option<Hex<48>> = fields.required("rtmr2", faults);
        let rtmr3: Option<Hex<48>> = fields.optional("rtmr3", faults);
        // The label is for the people who keep the file.
        let _label: Option<String> = fields.optional("label", faults);
        let not_before = fields
            .optional("not_before", faults)
            .map(UnixTime::from_secs);
        let not_after = fields
            .optional("not_after", faults)
            .map(UnixTime::from_secs);
        if let (Some(not_before), Some(not_after)) = (not_before, not_after)
            && not_before > not_after
        {
            faults.invalid(fields.path("not_after"), "must not be before not_before");
        }
        fields.finish(faults);
        let (Hex(mrtd), Hex(rtmr1), Hex(rtmr2)) = (mrtd?, rtmr1?, rtmr2?);
        Some(Self {
            mrtd,
            rtmrs: [
                rtmr0.map(|Hex(value)| value),
                Some(rtmr1),
                Some(rtmr2),
                rtmr3.map(|Hex(value)| value),
            ],
            not_before,
            not_after,
        })
    }
}
