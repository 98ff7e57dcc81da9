//! From a policy file to a checked policy, with all faults at once.

use toml::Value;

use super::{MAX_POLICY_BYTES, Policy, ReferenceMeasurement, SnpPolicy, TcbFloor, TcbFloors, tdx};
use crate::appraisal::Tier;
use crate::fields::{Faults, FieldFault, Fields, FromField, Hex, document};
use crate::snp::{FirmwareVersion, GuestPolicy, PlatformInfo, Product, TcbParts};
use crate::time::UnixTime;

/// The version of the schema.
const VERSION: u64 = 1;

pub(super) fn policy(text: &[u8]) -> Result<Policy, Vec<FieldFault>> {
    let mut faults = Faults::default();
    let policy = document(text, MAX_POLICY_BYTES, &mut faults).map(|mut top| {
        if top
            .required::<u64>("version", &mut faults)
            .is_some_and(|version| version != VERSION)
        {
            faults.invalid("version", "must be 1");
        }
        let tiers = top
            .optional("tiers", &mut faults)
            .unwrap_or_else(|| vec![Tier::Hardware]);
        if tiers.is_empty() {
            faults.invalid("tiers", "must name a tier");
        }
        let tdx = top
            .optional::<Fields>("tdx", &mut faults)
            .map(|fields| tdx::read(fields, &mut faults));
        // A policy names a platform or two; one that names none says nothing.
        let snp = if tdx.is_some() {
            top.optional::<Fields>("snp", &mut faults)
        } else {
            top.required::<Fields>("snp", &mut faults)
        }
        .map(|fields| snp(fields, &mut faults));
        top.finish(&mut faults);
        Policy { tiers, snp, tdx }
    });
    faults.settle(policy)
}

fn snp(mut fields: Fields, faults: &mut Faults) -> SnpPolicy {
    let policy_required = mask(&mut fields, "policy_required", &GuestPolicy::NAMES, faults);
    let policy_forbidden = mask(&mut fields, "policy_forbidden", &GuestPolicy::NAMES, faults);
    let platform_required = mask(
        &mut fields,
        "platform_required",
        &PlatformInfo::NAMES,
        faults,
    );
    let platform_forbidden = mask(
        &mut fields,
        "platform_forbidden",
        &PlatformInfo::NAMES,
        faults,
    );
    for (key, required, forbidden) in [
        ("policy_forbidden", policy_required, policy_forbidden),
        ("platform_forbidden", platform_required, platform_forbidden),
    ] {
        if required & forbidden != 0 {
            faults.invalid(fields.path(key), "forbids a bit that is also required");
        }
    }
    let mut mitigations = |key| fields.optional::<u64>(key, faults).unwrap_or(0);
    let both = mitigations("mitigations_required");
    let launch_mitigations_required = both | mitigations("launch_mitigations_required");
    let current_mitigations_required = both | mitigations("current_mitigations_required");
    let policy = SnpPolicy {
        measurements: fields.optional("measurements", faults).unwrap_or_default(),
        manifest_signers: hex_list(&mut fields, "manifest_signers", faults),
        vmpl: vmpl(&mut fields, faults),
        allow_migration_agent: fields
            .optional("allow_migration_agent", faults)
            .unwrap_or(false),
        policy_required,
        policy_forbidden,
        minimum_policy_abi: fields
            .optional("minimum_policy_abi", faults)
            .map(|Abi(major, minor)| (major, minor)),
        platform_required,
        platform_forbidden,
        products: fields.optional("products", faults).unwrap_or_default(),
        minimum_report_version: fields.optional("minimum_report_version", faults),
        minimum_guest_svn: fields.optional("minimum_guest_svn", faults),
        minimum_firmware: fields.optional("minimum_firmware", faults),
        refuse_provisional_firmware: fields
            .optional("refuse_provisional_firmware", faults)
            .unwrap_or(false),
        launch_mitigations_required,
        current_mitigations_required,
        family_ids: hex_list(&mut fields, "family_ids", faults),
        image_ids: hex_list(&mut fields, "image_ids", faults),
        id_keys: hex_list(&mut fields, "id_keys", faults),
        author_keys: hex_list(&mut fields, "author_keys", faults),
        author_vouches_for_id_key: fields
            .optional("author_vouches_for_id_key", faults)
            .unwrap_or(false),
        report_ids: hex_list(&mut fields, "report_ids", faults),
        report_ids_ma: hex_list(&mut fields, "report_ids_ma", faults),
        csp_ids: fields.optional("csp_ids", faults).unwrap_or_default(),
        chip_ids: hex_list(&mut fields, "chip_ids", faults),
        tcb: fields.optional("tcb", faults).unwrap_or_default(),
    };
    if policy.author_vouches_for_id_key && policy.author_keys.is_empty() {
        faults.invalid(
            fields.path("author_vouches_for_id_key"),
            "needs author_keys",
        );
    }
    fields.finish(faults);
    policy
}

fn vmpl(fields: &mut Fields, faults: &mut Faults) -> u32 {
    let vmpl: u32 = fields.optional("vmpl", faults).unwrap_or(0);
    if vmpl > 3 {
        faults.invalid(fields.path("vmpl"), "must be 0 to 3");
    }
    vmpl
}

pub(super) fn hex_list<const N: usize>(
    fields: &mut Fields,
    key: &str,
    faults: &mut Faults,
) -> Vec<[u8; N]> {
    let list: Vec<Hex<N>> = fields.optional(key, faults).unwrap_or_default();
    list.into_iter().map(|Hex(bytes)| bytes).collect()
}

/// A list of bit names as a mask.
pub(super) fn mask(
    fields: &mut Fields,
    key: &str,
    names: &[(&str, u64)],
    faults: &mut Faults,
) -> u64 {
    let list: Vec<String> = fields.optional(key, faults).unwrap_or_default();
    let mut mask = 0;
    for (i, wanted) in list.iter().enumerate() {
        match names.iter().find(|(name, _)| name == wanted) {
            Some((_, bit)) => mask |= bit,
            None => faults.invalid(format!("{}[{i}]", fields.path(key)), "no such bit"),
        }
    }
    mask
}

impl FromField for Tier {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        let text = String::read(value, path, faults)?;
        text.parse().ok().or_else(|| {
            faults.invalid(path, "must be hardware, reduced or emulated");
            None
        })
    }
}

impl FromField for Product {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        match String::read(value, path, faults)?.as_str() {
            "milan" => Some(Self::Milan),
            "genoa" => Some(Self::Genoa),
            "bergamo-siena" => Some(Self::BergamoSiena),
            "turin" => Some(Self::Turin),
            _ => {
                faults.invalid(path, "must be milan, genoa, bergamo-siena or turin");
                None
            }
        }
    }
}

impl FromField for FirmwareVersion {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        let text = String::read(value, path, faults)?;
        let numbers: Option<Vec<u8>> = text.split('.').map(|part| part.parse().ok()).collect();
        match numbers.as_deref() {
            Some([major, minor, build]) => Some(Self {
                major: *major,
                minor: *minor,
                build: *build,
            }),
            Some(_) | None => {
                faults.invalid(path, "must be major.minor.build");
                None
            }
        }
    }
}

/// An ABI version, `major.minor`.
struct Abi(u8, u8);

impl FromField for Abi {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        let text = String::read(value, path, faults)?;
        let numbers = text
            .split_once('.')
            .and_then(|(major, minor)| Some(Self(major.parse().ok()?, minor.parse().ok()?)));
        if numbers.is_none() {
            faults.invalid(path, "must be major.minor");
        }
        numbers
    }
}

/// Either the hex digits alone or a table with a window.
impl FromField for ReferenceMeasurement {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        if value.is_str() {
            return Hex::read(value, path, faults).map(|Hex(value)| Self {
                value,
                not_before: None,
                not_after: None,
            });
        }
        let mut fields = Fields::read(value, path, faults)?;
        let value = fields.required("value", faults);
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
        value.map(|Hex(value)| Self {
            value,
            not_before,
            not_after,
        })
    }
}

impl FromField for TcbFloors {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        let mut fields = Fields::read(value, path, faults)?;
        let family = fields.required("family", faults);
        let model_first = fields.required("model_first", faults);
        let model_last = fields.required("model_last", faults);
        let reported = fields.optional("reported", faults);
        let committed = fields.optional("committed", faults);
        let launch = fields.optional("launch", faults);
        if let (Some(first), Some(last)) = (model_first, model_last)
            && first > last
        {
            faults.invalid(fields.path("model_last"), "must not be below model_first");
        }
        fields.finish(faults);
        Some(Self {
            family: family?,
            model_first: model_first?,
            model_last: model_last?,
            reported,
            committed,
            launch,
        })
    }
}

impl FromField for TcbFloor {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        let mut fields = Fields::read(value, path, faults)?;
        let mut part = |key| fields.optional::<u8>(key, faults);
        let fmc = part("fmc");
        let bootloader = part("bootloader").unwrap_or(0);
        let tee = part("tee").unwrap_or(0);
        let snp = part("snp").unwrap_or(0);
        let microcode = part("microcode").unwrap_or(0);
        fields.finish(faults);
        Some(Self(TcbParts {
            fmc,
            bootloader,
            tee,
            snp,
            microcode,
        }))
    }
}
