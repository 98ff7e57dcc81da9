//! Appraisal of authentic SEV-SNP evidence: fixed rules first, then what the policy asks for.

use super::{CheckName, Tier, Trail, settle_platform, settle_report_data};
use super::{NOT_ASKED, at_least, one_of};
use crate::evidence::Platform;
use crate::policy::{Policy, SnpPolicy, TcbFloor, TcbFloors};
use crate::snp::{FirmwareVersion, GuestPolicy, Line, PlatformInfo, SnpVerified, Tcb, TcbParts};
use crate::snp::{Holder, describe_bits};

/// Runs every check and yields the tier.
pub(super) fn appraise(
    verified: &SnpVerified,
    policy: Option<&Policy>,
    report_data: Option<&[u8; 64]>,
    trail: &mut Trail,
) -> Tier {
    let snp = policy.and_then(Policy::snp);
    if policy.is_some() {
        settle_platform(Platform::Snp, snp.is_some(), trail);
    }
    fixed_rules(verified, snp, report_data, trail);
    if let Some(snp) = snp {
        reference_values(verified, snp, trail);
        bits(verified, snp, trail);
        versions(verified, snp, trail);
        tcb(verified, snp.tcb(), trail);
        identities(verified, snp, trail);
    }
    let csp_ids = snp.map_or(&[][..], |snp| &snp.csp_ids);
    tier(verified.emulated, verified.line, &verified.holder, csp_ids)
}

/// Milan and a VLEK of an unnamed provider are reduced; a chip allow-list narrows and never raises.
fn tier(emulated: bool, line: Line, holder: &Holder, csp_ids: &[String]) -> Tier {
    if emulated {
        return Tier::Emulated;
    }
    let named = match holder {
        Holder::Chip(_) => true,
        Holder::Provider(provider) => csp_ids.contains(provider),
    };
    match line {
        Line::Genoa | Line::Turin if named => Tier::Hardware,
        Line::Genoa | Line::Turin | Line::Milan => Tier::Reduced,
    }
}

/// What holds with any policy and without one.
fn fixed_rules(
    verified: &SnpVerified,
    policy: Option<&SnpPolicy>,
    report_data: Option<&[u8; 64]>,
    trail: &mut Trail,
) {
    let report = &verified.report;
    settle_report_data(report_data, report.report_data(), trail);
    let vmpl = policy.map_or(0, |policy| policy.vmpl);
    trail.settle(
        CheckName::Vmpl,
        report.vmpl() == vmpl,
        vmpl.to_string(),
        report.vmpl().to_string(),
    );
    let found = describe_bits(report.policy().bits(), &GuestPolicy::NAMES);
    trail.settle(
        CheckName::Debug,
        !report.policy().debug(),
        "debug not allowed",
        found.clone(),
    );
    let migration = policy.is_some_and(|policy| policy.allow_migration_agent);
    if migration {
        trail.not_applicable(
            CheckName::MigrationAgent,
            "",
            "the policy allows a migration agent",
        );
    } else {
        let holds = !report.policy().migrate_ma();
        trail.settle(
            CheckName::MigrationAgent,
            holds,
            "no migration agent",
            found.clone(),
        );
    }
    let unknown = report.policy().unknown_bits();
    trail.settle(
        CheckName::PolicyKnownBits,
        unknown == 0,
        "no unknown bits",
        format!("{unknown:#x} unknown"),
    );
}

/// Measurement and manifest signer: without them nothing is accepted.
fn reference_values(verified: &SnpVerified, policy: &SnpPolicy, trail: &mut Trail) {
    let report = &verified.report;
    if policy.measurements.is_empty() {
        trail.not_run(CheckName::Measurement, "", "the policy pins no measurement");
    } else {
        let holds = policy
            .measurements
            .iter()
            .any(|reference| reference.admits(report.measurement(), verified.at));
        let expected = policy
            .measurements
            .iter()
            .map(|reference| hex::encode(reference.value))
            .collect::<Vec<_>>()
            .join(" or ");
        trail.settle(
            CheckName::Measurement,
            holds,
            expected,
            hex::encode(report.measurement()),
        );
    }
    if policy.manifest_signers.is_empty() {
        trail.not_run(
            CheckName::ManifestSigner,
            "",
            "the policy pins no manifest signer",
        );
    } else {
        one_of(
            CheckName::ManifestSigner,
            &policy.manifest_signers,
            report.host_data(),
            trail,
        );
    }
}

/// Required and forbidden bits of guest policy and platform, and the ABI that the guest asked for.
fn bits(verified: &SnpVerified, policy: &SnpPolicy, trail: &mut Trail) {
    let guest = verified.report.policy().bits();
    let platform = verified.report.platform_info().bits();
    let guest_names = &GuestPolicy::NAMES[..];
    let platform_names = &PlatformInfo::NAMES[..];
    let masks = [
        (
            CheckName::PolicyRequired,
            guest,
            policy.policy_required,
            true,
            guest_names,
        ),
        (
            CheckName::PolicyForbidden,
            guest,
            policy.policy_forbidden,
            false,
            guest_names,
        ),
        (
            CheckName::PlatformRequired,
            platform,
            policy.platform_required,
            true,
            platform_names,
        ),
        (
            CheckName::PlatformForbidden,
            platform,
            policy.platform_forbidden,
            false,
            platform_names,
        ),
    ];
    for (name, bits, mask, set, names) in masks {
        if mask == 0 {
            trail.not_applicable(name, "", NOT_ASKED);
            continue;
        }
        let holds = bits & mask == if set { mask } else { 0 };
        trail.settle(
            name,
            holds,
            describe_bits(mask, names),
            describe_bits(bits, names),
        );
    }
    policy_abi(verified.report.policy(), policy.minimum_policy_abi, trail);
}

/// The ABI version in the guest policy: firmware below it does not launch the guest.
fn policy_abi(found: GuestPolicy, floor: Option<(u8, u8)>, trail: &mut Trail) {
    let Some((major, minor)) = floor else {
        trail.not_applicable(CheckName::PolicyAbi, "", NOT_ASKED);
        return;
    };
    let (found_major, found_minor) = found.abi();
    trail.settle(
        CheckName::PolicyAbi,
        (found_major, found_minor) >= (major, minor),
        format!("at least {major}.{minor}"),
        format!("{found_major}.{found_minor}"),
    );
}

/// What runs is committed: firmware that is not yet can be taken back by the host.
fn provisional_firmware(verified: &SnpVerified, policy: &SnpPolicy, trail: &mut Trail) {
    if !policy.refuse_provisional_firmware {
        trail.not_applicable(CheckName::ProvisionalFirmware, "", NOT_ASKED);
        return;
    }
    let (report, line) = (&verified.report, verified.line);
    let describe = |tcb: Tcb, firmware: FirmwareVersion| format!("{}, {firmware}", tcb.parts());
    let (current, committed) = (report.current_tcb(line), report.committed_tcb(line));
    trail.settle(
        CheckName::ProvisionalFirmware,
        current == committed && report.current_firmware() == report.committed_firmware(),
        describe(committed, report.committed_firmware()),
        describe(current, report.current_firmware()),
    );
}

/// Mitigations that must have been on at launch, and must be on now.
fn mitigations(verified: &SnpVerified, policy: &SnpPolicy, trail: &mut Trail) {
    let name = CheckName::Mitigations;
    let at_launch = policy.launch_mitigations_required;
    let now = policy.current_mitigations_required;
    if at_launch | now == 0 {
        trail.not_applicable(name, "", NOT_ASKED);
        return;
    }
    let found = verified.report.mitigations();
    let holds = found
        .is_some_and(|(launch, current)| launch & at_launch == at_launch && current & now == now);
    let found = found.map_or_else(
        || "not in this version".to_owned(),
        |(launch, current)| format!("{launch:#x} at launch, {current:#x} now"),
    );
    trail.settle(
        name,
        holds,
        format!("{at_launch:#x} at launch, {now:#x} now"),
        found,
    );
}

/// Products and versions.
fn versions(verified: &SnpVerified, policy: &SnpPolicy, trail: &mut Trail) {
    let report = &verified.report;
    if policy.products.is_empty() {
        trail.not_applicable(CheckName::AllowedProduct, "", NOT_ASKED);
    } else {
        // A report of version 2 does not say which product of its line it comes from: it is none of those named.
        let product = report.cpuid().and_then(|cpuid| cpuid.product());
        let holds = product.is_some_and(|product| policy.products.contains(&product));
        trail.settle(
            CheckName::AllowedProduct,
            holds,
            format!("{:?}", policy.products),
            product.map_or_else(|| "not named".to_owned(), |product| format!("{product:?}")),
        );
    }
    at_least(
        CheckName::ReportVersion,
        policy.minimum_report_version,
        report.version(),
        trail,
    );
    at_least(
        CheckName::GuestSvn,
        policy.minimum_guest_svn,
        report.guest_svn(),
        trail,
    );
    match policy.minimum_firmware {
        // The committed one: the firmware cannot go below it.
        Some(floor) => {
            let found = report.committed_firmware();
            trail.settle(
                CheckName::Firmware,
                found >= floor,
                format!("at least {floor}"),
                found.to_string(),
            );
        }
        None => trail.not_applicable(CheckName::Firmware, "", NOT_ASKED),
    }
    provisional_firmware(verified, policy, trail);
    mitigations(verified, policy, trail);
}

/// Floors by processor family and model.
fn tcb(verified: &SnpVerified, floors: &[TcbFloors], trail: &mut Trail) {
    type Floor = fn(&TcbFloors) -> Option<&TcbFloor>;
    let report = &verified.report;
    let line = verified.line;
    let kinds: [(CheckName, TcbParts, Floor); 3] = [
        (
            CheckName::ReportedTcb,
            report.reported_tcb(line).parts(),
            |entry| entry.reported.as_ref(),
        ),
        (
            CheckName::CommittedTcb,
            report.committed_tcb(line).parts(),
            |entry| entry.committed.as_ref(),
        ),
        (
            CheckName::LaunchTcb,
            report.launch_tcb(line).parts(),
            |entry| entry.launch.as_ref(),
        ),
    ];
    // Several entries may cover a processor: all of them hold. None: the policy does not know it, and it fails.
    let covers = |entry: &&TcbFloors| report.cpuid().is_some_and(|cpuid| entry.covers(cpuid));
    let entries: Vec<&TcbFloors> = floors.iter().filter(covers).collect();
    for (name, found, floor) in kinds {
        if floors.is_empty() {
            trail.not_applicable(name, "", NOT_ASKED);
        } else if entries.is_empty() {
            trail.fail(name, "a floor for this processor", "the policy has none");
        } else {
            let wanted: Vec<&TcbFloor> = entries.iter().filter_map(|entry| floor(entry)).collect();
            settle_floor(name, &wanted, &found, trail);
        }
    }
}

fn settle_floor(name: CheckName, floors: &[&TcbFloor], found: &TcbParts, trail: &mut Trail) {
    if floors.is_empty() {
        trail.not_applicable(name, "", NOT_ASKED);
        return;
    }
    let holds = floors.iter().all(|floor| found.meets(&floor.0));
    let expected = floors
        .iter()
        .map(|floor| format!("at least {}", floor.0))
        .collect::<Vec<_>>()
        .join(" and ");
    trail.settle(name, holds, expected, found.to_string());
}

/// Ids of the id block, the provider and the chip.
fn identities(verified: &SnpVerified, policy: &SnpPolicy, trail: &mut Trail) {
    let report = &verified.report;
    one_of(
        CheckName::FamilyId,
        &policy.family_ids,
        report.family_id(),
        trail,
    );
    one_of(
        CheckName::ImageId,
        &policy.image_ids,
        report.image_id(),
        trail,
    );
    for (name, allowed, found) in [
        (CheckName::ReportId, &policy.report_ids, report.report_id()),
        (
            CheckName::ReportIdMa,
            &policy.report_ids_ma,
            report.report_id_ma(),
        ),
    ] {
        one_of(name, allowed, found, trail);
    }
    // The digest means nothing unless the report says that an author key was used.
    let author_listed = report.key_info().author_key_enabled()
        && policy.author_keys.contains(report.author_key_digest());
    if policy.author_vouches_for_id_key && author_listed {
        // The firmware verified at launch that the author signed the id key.
        let found = hex::encode(report.id_key_digest());
        trail.pass(
            CheckName::IdKey,
            "signed by an author key of the policy",
            found,
        );
    } else {
        one_of(
            CheckName::IdKey,
            &policy.id_keys,
            report.id_key_digest(),
            trail,
        );
    }
    if policy.author_keys.is_empty() {
        trail.not_applicable(CheckName::AuthorKey, "", NOT_ASKED);
    } else {
        let expected = policy
            .author_keys
            .iter()
            .map(hex::encode)
            .collect::<Vec<_>>()
            .join(" or ");
        trail.settle(
            CheckName::AuthorKey,
            author_listed,
            expected,
            hex::encode(report.author_key_digest()),
        );
    }
    match &verified.holder {
        Holder::Provider(provider) if !policy.csp_ids.is_empty() => {
            let holds = policy.csp_ids.contains(provider);
            trail.settle(
                CheckName::CspId,
                holds,
                policy.csp_ids.join(" or "),
                provider.clone(),
            );
        }
        Holder::Provider(_) => trail.not_applicable(CheckName::CspId, "", NOT_ASKED),
        Holder::Chip(_) => {
            trail.not_applicable(CheckName::CspId, "", "the key is a VCEK: it names a chip")
        }
    }
    if policy.chip_ids.is_empty() {
        trail.not_applicable(CheckName::AllowedChip, "", NOT_ASKED);
    } else {
        // A masked id is all zero: it names no chip, whatever the list says.
        let chip_id = report.chip_id();
        let holds = chip_id.iter().any(|byte| *byte != 0) && policy.chip_ids.contains(chip_id);
        let expected = format!("one of {} chips", policy.chip_ids.len());
        trail.settle(
            CheckName::AllowedChip,
            holds,
            expected,
            hex::encode(chip_id),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_follows_from_root_line_and_holder() {
        let chip = Holder::Chip(vec![1; 64]);
        let cloud = Holder::Provider("CN=cloud".to_owned());
        let named = ["CN=cloud".to_owned()];
        let other = ["CN=other".to_owned()];
        let rows = [
            (false, Line::Milan, &chip, &[][..], Tier::Reduced),
            (false, Line::Genoa, &chip, &[], Tier::Hardware),
            (false, Line::Turin, &chip, &[], Tier::Hardware),
            (false, Line::Milan, &cloud, &named, Tier::Reduced),
            (false, Line::Genoa, &cloud, &[], Tier::Reduced),
            (false, Line::Genoa, &cloud, &other, Tier::Reduced),
            (false, Line::Genoa, &cloud, &named, Tier::Hardware),
            (false, Line::Turin, &cloud, &[], Tier::Reduced),
            (true, Line::Genoa, &chip, &[], Tier::Emulated),
            (true, Line::Milan, &cloud, &named, Tier::Emulated),
        ];
        for (emulated, line, holder, csp_ids, expected) in rows {
            assert_eq!(
                tier(emulated, line, holder, csp_ids),
                expected,
                "{line} {holder:?} {csp_ids:?}"
            );
        }
    }
}
