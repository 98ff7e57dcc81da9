//! Appraisal of authentic TDX evidence: fixed rules first, then what the policy asks for.

use super::{
    CheckName, NOT_ASKED, Tier, Trail, at_least, one_of, settle_platform, settle_report_data,
};
use crate::evidence::Platform;
use crate::policy::{Image, Policy, TdxPolicy};
use crate::snp::describe_bits;
use crate::tdx::{SgxType, TcbStatus, TdAttributes, TdBody, TdxPlatform, TdxVerified, Xfam};
use crate::time::UnixTime;

/// Runs every check and yields the tier.
pub(super) fn appraise(
    verified: &TdxVerified,
    policy: Option<&Policy>,
    report_data: Option<&[u8; 64]>,
    trail: &mut Trail,
) -> Tier {
    let tdx = policy.and_then(Policy::tdx);
    if policy.is_some() {
        settle_platform(Platform::Tdx, tdx.is_some(), trail);
    }
    let body = verified.quote.body();
    settle_report_data(report_data, &body.report_data, trail);
    guest_rules(body, tdx, trail);
    platform_rules(&verified.platform, tdx, trail);
    if let Some(tdx) = tdx {
        reference_values(verified, tdx, trail);
        bits(body, tdx, trail);
        collateral(verified, tdx, trail);
        tcb_age(verified, tdx, trail);
        crl_numbers(&verified.platform, tdx, trail);
        sgx_type(&verified.platform, tdx, trail);
        one_of(CheckName::Owner, &tdx.owners, &body.mr_owner, trail);
        one_of(
            CheckName::OwnerConfig,
            &tdx.owner_configs,
            &body.mr_owner_config,
            trail,
        );
        allowed_platform(&verified.platform, tdx, trail);
        allowed_instance(&verified.platform, tdx, trail);
    }
    if verified.emulated {
        Tier::Emulated
    } else {
        Tier::Hardware
    }
}

/// What holds of the TD with any policy and without one.
fn guest_rules(body: &TdBody, policy: Option<&TdxPolicy>, trail: &mut Trail) {
    let attributes = body.td_attributes;
    let found = describe_bits(attributes.bits(), &TdAttributes::NAMES);
    trail.settle(
        CheckName::Debug,
        !attributes.debug(),
        "debug not allowed",
        found.clone(),
    );
    trail.settle(
        CheckName::Profiling,
        !attributes.profiling(),
        "profiling not allowed",
        found.clone(),
    );
    service_td(body, policy, trail);
    tdx_module(body, policy, trail);
    let unknown = body.xfam.unknown_bits();
    trail.settle(
        CheckName::XfamKnownBits,
        unknown == 0,
        "no unknown bits",
        format!("{unknown:#x} unknown"),
    );
}

/// A service TD may migrate or change the TD: every hash that is not zero must be one of those allowed.
fn service_td(body: &TdBody, policy: Option<&TdxPolicy>, trail: &mut Trail) {
    let allowed = policy.map_or(&[][..], |policy| &policy.service_tds);
    let later = body.service_tds.iter();
    let bound: Vec<[u8; 48]> = body
        .td15
        .iter()
        .map(|td15| td15.mr_service_td)
        .chain(later.flat_map(|tds| [tds.at_launch, tds.current]))
        .filter(|hash| *hash != [0; 48])
        .collect();
    // With SERVTD_EXT one may be bound after launch; only an extended body says which.
    let unnamed = body.td_attributes.servtd_ext() && body.service_tds.is_none();
    let expected = if allowed.is_empty() {
        "none".to_owned()
    } else {
        allowed
            .iter()
            .map(hex::encode)
            .collect::<Vec<_>>()
            .join(" or ")
    };
    let mut found: Vec<String> = bound.iter().map(hex::encode).collect();
    if unnamed {
        found.push("others may be bound later".to_owned());
    }
    let holds = !unnamed && bound.iter().all(|hash| allowed.contains(hash));
    let found = if found.is_empty() {
        "none".to_owned()
    } else {
        found.join(", ")
    };
    trail.settle(CheckName::ServiceTd, holds, expected, found);
}

/// Intel's module has a signer of zeros and no attributes; which one it is, the TCB level and the policy say.
fn tdx_module(body: &TdBody, policy: Option<&TdxPolicy>, trail: &mut Trail) {
    let allowed = policy.map_or(&[][..], |policy| &policy.mr_seams);
    let intels = body.mr_signer_seam == [0; 48] && body.seam_attributes == [0; 8];
    let holds = intels && (allowed.is_empty() || allowed.contains(&body.mr_seam));
    let mut expected = "signer and attributes of zeros".to_owned();
    if !allowed.is_empty() {
        expected.push_str(", MRSEAM ");
        expected.push_str(
            &allowed
                .iter()
                .map(hex::encode)
                .collect::<Vec<_>>()
                .join(" or "),
        );
    }
    let found = format!(
        "signer {}, attributes {}, MRSEAM {}",
        hex::encode(body.mr_signer_seam),
        hex::encode(body.seam_attributes),
        hex::encode(body.mr_seam)
    );
    trail.settle(CheckName::TdxModule, holds, expected, found);
}

/// What holds of the platform with any policy and without one.
fn platform_rules(platform: &TdxPlatform, policy: Option<&TdxPolicy>, trail: &mut Trail) {
    let statuses = policy.map_or(&[TcbStatus::UpToDate][..], |policy| &policy.statuses);
    let expected = statuses
        .iter()
        .map(|status| status.as_str())
        .collect::<Vec<_>>()
        .join(" or ");
    let mut found = platform.status.as_str().to_owned();
    if !platform.advisories.is_empty() {
        found.push_str(": ");
        found.push_str(&platform.advisories.join(", "));
    }
    trail.settle(
        CheckName::TcbStatus,
        statuses.contains(&platform.status),
        expected,
        found,
    );
    let flags = [
        (
            "dynamic platform",
            platform.dynamic_platform,
            policy.is_none_or(|policy| policy.allow_dynamic_platform),
        ),
        (
            "cached keys",
            platform.cached_keys,
            policy.is_none_or(|policy| policy.allow_cached_keys),
        ),
        (
            "SMT",
            platform.smt_enabled,
            policy.is_none_or(|policy| policy.allow_smt),
        ),
    ];
    let names = |keep: &dyn Fn(Option<bool>, bool) -> bool| -> String {
        let kept: Vec<&str> = flags
            .iter()
            .filter(|(_, flag, allowed)| keep(*flag, *allowed))
            .map(|(name, _, _)| *name)
            .collect();
        if kept.is_empty() {
            "none".to_owned()
        } else {
            kept.join(", ")
        }
    };
    // What the certificate does not state is not known to be off: only a processor's own CA leaves it out.
    let holds = flags
        .iter()
        .all(|(_, flag, allowed)| *allowed || *flag == Some(false));
    trail.settle(
        CheckName::PlatformFlags,
        holds,
        format!("at most: {}", names(&|_, allowed| allowed)),
        format!(
            "{}; not stated: {}",
            names(&|flag, _| flag == Some(true)),
            names(&|flag, _| flag.is_none())
        ),
    );
}

/// Image and manifest signer: without them nothing is accepted.
fn reference_values(verified: &TdxVerified, policy: &TdxPolicy, trail: &mut Trail) {
    let body = verified.quote.body();
    if policy.images.is_empty() {
        for name in [CheckName::Measurement, CheckName::Rtmrs] {
            trail.not_run(name, "", "the policy pins no image");
        }
    } else {
        let firmware: Vec<&Image> = policy
            .images
            .iter()
            .filter(|image| image.admits_firmware(&body.mrtd, verified.at))
            .collect();
        let expected = policy
            .images
            .iter()
            .map(|image| hex::encode(image.mrtd))
            .collect::<Vec<_>>()
            .join(" or ");
        trail.settle(
            CheckName::Measurement,
            !firmware.is_empty(),
            expected,
            hex::encode(body.mrtd),
        );
        // Those of an image with this firmware: parts of two images do not make a third.
        let expected = firmware
            .iter()
            .map(|image| describe_rtmrs(&image.rtmrs))
            .collect::<Vec<_>>()
            .join(" or ");
        trail.settle(
            CheckName::Rtmrs,
            firmware.iter().any(|image| image.admits_rtmrs(&body.rtmrs)),
            expected,
            describe_rtmrs(&body.rtmrs.map(Some)),
        );
    }
    if policy.manifest_signers.is_empty() {
        trail.not_run(
            CheckName::ManifestSigner,
            "",
            "the policy pins no manifest signer",
        );
    } else {
        // MRCONFIGID has 48 bytes: the signer's 32, then zeros.
        let signer = body.manifest_signer();
        let expected = policy
            .manifest_signers
            .iter()
            .map(|signer| format!("{}{}", hex::encode(signer), "00".repeat(16)))
            .collect::<Vec<_>>()
            .join(" or ");
        trail.settle(
            CheckName::ManifestSigner,
            signer != [0; 32] && policy.manifest_signers.contains(&signer),
            expected,
            hex::encode(body.mr_config_id),
        );
    }
}

fn describe_rtmrs(rtmrs: &[Option<[u8; 48]>; 4]) -> String {
    rtmrs
        .iter()
        .map(|rtmr| rtmr.map_or_else(|| "any".to_owned(), hex::encode))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Required and forbidden bits of attributes and extended features.
fn bits(body: &TdBody, policy: &TdxPolicy, trail: &mut Trail) {
    let attributes = body.td_attributes.bits();
    let xfam = body.xfam.bits();
    let attribute_names = &TdAttributes::NAMES[..];
    let xfam_names = &Xfam::NAMES[..];
    let masks = [
        (
            CheckName::AttributesRequired,
            attributes,
            policy.attributes_required,
            true,
            attribute_names,
        ),
        (
            CheckName::AttributesForbidden,
            attributes,
            policy.attributes_forbidden,
            false,
            attribute_names,
        ),
        (
            CheckName::XfamRequired,
            xfam,
            policy.xfam_required,
            true,
            xfam_names,
        ),
        (
            CheckName::XfamForbidden,
            xfam,
            policy.xfam_forbidden,
            false,
            xfam_names,
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
}

/// How new Intel's statements are, and which advisories are open.
fn collateral(verified: &TdxVerified, policy: &TdxPolicy, trail: &mut Trail) {
    let platform = &verified.platform;
    if policy.refused_advisories.is_empty() {
        trail.not_applicable(CheckName::Advisories, "", NOT_ASKED);
    } else {
        let holds = !platform.advisories.iter().any(|advisory| {
            policy
                .refused_advisories
                .iter()
                .any(|refused| refused.eq_ignore_ascii_case(advisory))
        });
        trail.settle(
            CheckName::Advisories,
            holds,
            format!("none of {}", policy.refused_advisories.join(", ")),
            platform.advisories.join(", "),
        );
    }
    at_least(
        CheckName::EvaluationNumber,
        policy.minimum_evaluation_number,
        platform.evaluation_number,
        trail,
    );
    match policy.maximum_collateral_age_s {
        Some(maximum_s) => {
            let age_s = verified.at.secs().saturating_sub(platform.issued_at.secs());
            trail.settle(
                CheckName::CollateralAge,
                age_s <= maximum_s,
                format!("at most {maximum_s} s"),
                format!("{age_s} s"),
            );
        }
        None => trail.not_applicable(CheckName::CollateralAge, "", NOT_ASKED),
    }
}

/// How long a platform or quoting enclave that is out of date may go on.
fn tcb_age(verified: &TdxVerified, policy: &TdxPolicy, trail: &mut Trail) {
    let platform = &verified.platform;
    let rows = [
        (
            "platform",
            platform.platform_outdated_at,
            policy.platform_grace_s,
        ),
        (
            "quoting enclave",
            platform.qe_outdated_at,
            policy.qe_grace_s,
        ),
    ];
    let asked: Vec<_> = rows
        .into_iter()
        .filter_map(|(what, since, grace_s)| Some((what, since, grace_s?)))
        .collect();
    if asked.is_empty() {
        trail.not_applicable(CheckName::TcbAge, "", NOT_ASKED);
        return;
    }
    let age_s = |since: UnixTime| verified.at.secs().saturating_sub(since.secs());
    let holds = asked
        .iter()
        .all(|(_, since, grace_s)| since.is_none_or(|since| age_s(since) <= *grace_s));
    let join = |texts: Vec<String>| texts.join(", ");
    let expected = asked
        .iter()
        .map(|(what, _, grace_s)| format!("{what} out of date for at most {grace_s} s"));
    let found = asked.iter().map(|(what, since, _)| match since {
        Some(since) => format!("{what} out of date for {} s", age_s(*since)),
        None => format!("{what} not out of date"),
    });
    trail.settle(
        CheckName::TcbAge,
        holds,
        join(expected.collect()),
        join(found.collect()),
    );
}

/// Least numbers of the lists: an older list may be current and yet not name a certificate.
fn crl_numbers(platform: &TdxPlatform, policy: &TdxPolicy, trail: &mut Trail) {
    let rows = [
        (
            "root",
            policy.minimum_root_crl_number,
            platform.root_crl_number,
        ),
        (
            "PCK",
            policy.minimum_pck_crl_number,
            platform.pck_crl_number,
        ),
    ];
    if rows.iter().all(|(_, floor, _)| floor.is_none()) {
        trail.not_applicable(CheckName::CrlNumbers, "", NOT_ASKED);
        return;
    }
    let describe = |(what, floor, _): &(&str, Option<u32>, u32)| {
        floor.map(|floor| format!("{what} at least {floor}"))
    };
    let expected: Vec<String> = rows.iter().filter_map(describe).collect();
    let found: Vec<String> = rows
        .iter()
        .map(|(what, _, found)| format!("{what} {found}"))
        .collect();
    trail.settle(
        CheckName::CrlNumbers,
        rows.iter()
            .all(|(_, floor, found)| floor.is_none_or(|floor| *found >= floor)),
        expected.join(", "),
        found.join(", "),
    );
}

/// What protects the memory.
fn sgx_type(platform: &TdxPlatform, policy: &TdxPolicy, trail: &mut Trail) {
    let allowed = &policy.sgx_types;
    if allowed.is_empty() {
        trail.not_applicable(CheckName::SgxType, "", NOT_ASKED);
        return;
    }
    let names: Vec<&str> = allowed.iter().map(|kind| kind.as_str()).collect();
    let found = platform.sgx_type;
    trail.settle(
        CheckName::SgxType,
        found.is_some_and(|found| allowed.contains(&found)),
        names.join(" or "),
        found.map_or("unknown", SgxType::as_str),
    );
}

/// The platform's instance id on the allow-list. It changes when the platform is registered anew.
fn allowed_instance(platform: &TdxPlatform, policy: &TdxPolicy, trail: &mut Trail) {
    let (name, found) = (CheckName::AllowedInstance, platform.platform_instance);
    if policy.piids.is_empty() {
        trail.not_applicable(name, "", NOT_ASKED);
    } else {
        // Zeros stand for a certificate that names no instance.
        let holds = found != [0; 16] && policy.piids.contains(&found);
        let expected = format!("one of {} instances", policy.piids.len());
        trail.settle(name, holds, expected, hex::encode(found));
    }
}

/// The platform's provisioning id on the allow-list.
fn allowed_platform(platform: &TdxPlatform, policy: &TdxPolicy, trail: &mut Trail) {
    if policy.ppids.is_empty() {
        trail.not_applicable(CheckName::AllowedChip, "", NOT_ASKED);
    } else {
        // An id of zeros names no platform, whatever the list says.
        let ppid = platform.ppid.as_slice();
        let holds = ppid.iter().any(|byte| *byte != 0)
            && policy.ppids.iter().any(|allowed| allowed == ppid);
        let expected = format!("one of {} platforms", policy.ppids.len());
        let found = format!(
            "{}, FMSPC {}",
            hex::encode(ppid),
            hex::encode(platform.fmspc)
        );
        trail.settle(CheckName::AllowedChip, holds, expected, found);
    }
}
