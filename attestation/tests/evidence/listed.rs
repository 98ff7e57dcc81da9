//! Everything that an appraisal says, as a person reads it: each check with its outcome, what it expected and found.
//!
//! The listings are in `listed/`. With `TOKENKEEP_BLESS=1` the test writes them anew; read the difference then.

use std::fmt::Write as _;
use std::path::Path;

use attestation::tdx::Quote;
use attestation::{
    Appraisal, CheckName, Endorsements, Evidence, Expected, Outcome, Policy, Roots, Verdict,
    assess, overview, verify,
};
use ring::digest::{SHA256, digest};
use testkit::snp::{Product, ReportFields, VekKind};
use testkit::tdx::TdFields;

use crate::emulated::{self, NOW, REPORT_DATA};
use crate::{tdx, tdx_emulated, vectors};

fn listing(appraisal: &Appraisal) -> String {
    let verdict = appraisal.verdict();
    let tier = appraisal.tier().map(|tier| tier.as_str());
    let mut text = format!("{verdict:?} {}\n", tier.unwrap_or("no tier"));
    for check in appraisal.checks() {
        let (name, outcome) = (check.name, check.outcome.as_str());
        let reason = check.reason.as_deref().unwrap_or_default();
        let (expected, found) = (&check.expected, &check.found);
        let line = format!("{name}: {outcome}: [{expected}] [{found}] {reason}");
        writeln!(text, "{}", line.trim_end()).unwrap();
    }
    text
}

fn is_listed(name: &str, appraisal: &Appraisal) {
    is_written(&format!("{name}.txt"), &listing(appraisal));
}

#[expect(
    clippy::disallowed_methods,
    reason = "whoever changed what is said writes it down anew"
)]
fn is_written(name: &str, found: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/evidence/listed")
        .join(name);
    if std::env::var_os("TOKENKEEP_BLESS").is_some() {
        std::fs::write(&file, found).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(expected == found, "{name} says now:\n{found}");
}

fn policy(text: &str) -> Policy {
    let text = format!("version = 1\ntiers = [\"hardware\", \"reduced\", \"emulated\"]\n{text}");
    Policy::from_toml(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn snp(name: &str, part: Option<&str>) -> Appraisal {
    let vector = vectors::all()
        .into_iter()
        .find(|vector| vector.name == name)
        .unwrap();
    let policy = part.map(policy);
    let roots = Roots::amd().unwrap();
    assess(
        &vector.evidence,
        &roots,
        vector.at,
        policy.as_ref(),
        &Expected::saved(),
    )
}

/// All that a policy can ask of the report `genoa-v5-oak`, and what that report has.
const GENOA_HAS: &str = r#"
[snp]
measurements = ["c57729018b0a6fb90dc17bb138b0aa35e4401004283ff4a2c24d3739ff3750f52384370e77b7032862a08c440a9bc4dc", { value = "5feee30d6d7e1a29f403d70a4198237ddfb13051a2d6976439487c609388ed7f98189887920ab2fa0096903a0c23fca1", label = "another" }]
vmpl = 0
policy_required = ["smt_allowed"]
policy_forbidden = ["migrate_ma", "cxl_allowed"]
minimum_policy_abi = "0.0"
platform_required = ["smt_enabled", "alias_check_complete"]
platform_forbidden = ["tsme_enabled", "rapl_disabled"]
products = ["genoa", "turin"]
minimum_report_version = 5
minimum_guest_svn = 0
minimum_firmware = "1.55.43"
refuse_provisional_firmware = true
mitigations_required = 0x1
family_ids = ["00000000000000000000000000000000"]
image_ids = ["00000000000000000000000000000000"]
id_keys = ["000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"]
csp_ids = ["CN=cloud.example"]
chip_ids = ["d2421d976f95ce0ba849b7cc5c789122f1e59c77a037272c137ae4d188bb102adbc7c53d0302bff82a432c94a305dec7a7a270ceb19a10f04a83316c6486968d"]
[[snp.tcb]]
family = 0x19
model_first = 0x10
model_last = 0x11
reported = { bootloader = 10, tee = 0, snp = 25, microcode = 84 }
committed = { bootloader = 10, tee = 0, snp = 25, microcode = 84 }
[[snp.tcb]]
family = 0x19
model_first = 0x11
model_last = 0x1f
reported = { bootloader = 9, tee = 0, snp = 24, microcode = 80 }
"#;

/// The same, asked for what the report does not have.
const GENOA_HAS_NOT: &str = r#"
[snp]
measurements = ["5feee30d6d7e1a29f403d70a4198237ddfb13051a2d6976439487c609388ed7f98189887920ab2fa0096903a0c23fca1"]
manifest_signers = ["4f4448c67f3c8dfc8de8a5e37125d807dadcc41f06cf23f615dbd52eec777d10"]
vmpl = 3
policy_required = ["single_socket", "mem_aes_256_xts"]
policy_forbidden = ["smt_allowed", "migrate_ma"]
minimum_policy_abi = "0.1"
platform_required = ["smt_enabled", "tsme_enabled"]
platform_forbidden = ["alias_check_complete", "rapl_disabled"]
products = ["bergamo-siena", "turin"]
minimum_report_version = 6
minimum_guest_svn = 1
minimum_firmware = "1.55.44"
mitigations_required = 0x3
family_ids = ["11111111111111111111111111111111"]
image_ids = ["11111111111111111111111111111111"]
id_keys = ["111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111"]
author_keys = ["111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111"]
author_vouches_for_id_key = true
report_ids = ["1111111111111111111111111111111111111111111111111111111111111111"]
report_ids_ma = ["1111111111111111111111111111111111111111111111111111111111111111"]
chip_ids = ["11111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111"]
[[snp.tcb]]
family = 0x19
model_first = 0x10
model_last = 0x1f
reported = { bootloader = 10, tee = 0, snp = 25, microcode = 85 }
committed = { bootloader = 10, tee = 1, snp = 25, microcode = 84 }
launch = { bootloader = 11, tee = 0, snp = 25, microcode = 84 }
"#;

#[test]
fn every_check_of_a_report_is_listed_with_what_it_expected_and_found() {
    let genoa = "genoa-v5-oak";
    is_listed("snp-no-policy", &snp(genoa, None));
    is_listed("snp-not-in-the-policy", &snp(genoa, Some("[tdx]\n")));
    is_listed("snp-asked-for-nothing", &snp(genoa, Some("[snp]\n")));
    is_listed("snp-has", &snp(genoa, Some(GENOA_HAS)));
    is_listed("snp-has-not", &snp(genoa, Some(GENOA_HAS_NOT)));
    is_listed(
        "snp-vlek",
        &snp(
            "milan-v3-vlek-vmpl1",
            Some("[snp]\nvmpl = 1\ncsp_ids = [\"CN=cc-us-east-2.amazonaws.com\"]\n"),
        ),
    );
    is_listed(
        "snp-vlek-of-another",
        &snp(
            "milan-v3-vlek-vmpl1",
            Some(
                "[snp]\nvmpl = 1\ncsp_ids = [\"CN=other\"]\nrefuse_provisional_firmware = true\nallow_migration_agent = true\n",
            ),
        ),
    );
    is_listed(
        "snp-version-2",
        &snp(
            "milan-v2-clean",
            Some(
                "[snp]\nproducts = [\"milan\"]\nmitigations_required = 1\n[[snp.tcb]]\nfamily = 0x19\nmodel_first = 0\nmodel_last = 0x1f\nlaunch = { bootloader = 0, tee = 0, snp = 0, microcode = 0 }\n",
            ),
        ),
    );
    is_listed("snp-no-certificate", &snp("milan-v2-vmpl2-novek", None));
}

/// The value of a quote's field, as hex.
fn claim(quote: &[u8], name: &str) -> String {
    let claims = Quote::parse(quote).unwrap().claims_for_display();
    let found = claims.into_iter().find(|(claim, _)| *claim == name);
    found.unwrap_or_else(|| panic!("{name}")).1
}

#[test]
fn every_check_of_a_quote_is_listed_with_what_it_expected_and_found() {
    let gcp = tdx::named("v4-uptodate-gcp-flashbots");
    let quote = gcp.evidence().report;
    let with = |text: &str| gcp.with_policy(Some(&policy(text)));
    is_listed("tdx-no-policy", &gcp.with_policy(None));
    is_listed("tdx-not-in-the-policy", &with("[snp]\n"));
    is_listed("tdx-asked-for-nothing", &with("[tdx]\n"));
    let [mr_seam, owner, owner_config] =
        ["mr_seam", "mr_owner", "mr_owner_config"].map(|name| claim(&quote, name));
    let other = "11".repeat(48);
    let plain = gcp.with_policy(Some(&policy("[tdx]\nppids = [\"11111111111111111111111111111111\"]\npiids = [\"11111111111111111111111111111111\"]\n")));
    let found = |name: CheckName| plain.check(name).unwrap().found.clone();
    let ppid = found(CheckName::AllowedChip)[..32].to_owned();
    let piid = found(CheckName::AllowedInstance);
    let has = tdx::pinned(
        &gcp,
        &format!(
            r#"
statuses = ["UpToDate", "SWHardeningNeeded"]
platform_grace_s = 0
qe_grace_s = 0
refused_advisories = ["INTEL-SA-01036", "INTEL-SA-00837"]
minimum_evaluation_number = 19
minimum_root_crl_number = 1
attributes_required = ["sept_ve_disable"]
attributes_forbidden = ["perfmon", "pks"]
xfam_required = ["x87", "sse"]
xfam_forbidden = ["pt"]
sgx_types = ["scalable", "scalable-with-integrity"]
mr_seams = ["{mr_seam}", "{other}"]
owners = ["{owner}", "{other}"]
owner_configs = ["{owner_config}"]
ppids = ["{ppid}"]
piids = ["{piid}", "22222222222222222222222222222222"]
"#
        ),
        "",
    );
    is_listed("tdx-has", &gcp.with_policy(Some(&has)));
    let signer = "4f4448c67f3c8dfc8de8a5e37125d807dadcc41f06cf23f615dbd52eec777d10";
    let has_not = tdx::pinned(
        &gcp,
        &format!(
            r#"
manifest_signers = ["{signer}"]
minimum_evaluation_number = 20
maximum_collateral_age_s = 1
minimum_pck_crl_number = 10_000
attributes_required = ["pks"]
attributes_forbidden = ["sept_ve_disable"]
xfam_required = ["x87", "pt"]
xfam_forbidden = ["sse"]
allow_dynamic_platform = false
allow_cached_keys = false
allow_smt = false
sgx_types = ["standard"]
mr_seams = ["{other}"]
service_tds = ["{other}", "{mr_seam}"]
owners = ["{other}"]
owner_configs = ["{other}"]
ppids = ["11111111111111111111111111111111"]
piids = ["11111111111111111111111111111111"]
"#
        ),
        &format!("[[tdx.images]]\nmrtd = \"{other}\"\nrtmr1 = \"{other}\"\nrtmr2 = \"{other}\"\n"),
    );
    is_listed("tdx-has-not", &gcp.with_policy(Some(&has_not)));

    is_listed("tdx-sgx", &tdx::named("sgx-v3-not-tdx").with_policy(None));
    let out_of_date = tdx::named("v4-padded8000-google-2026");
    let lines = "statuses = [\"OutOfDate\"]\nplatform_grace_s = 1\nqe_grace_s = 1\nrefused_advisories = [\"INTEL-SA-00001\", \"intel-sa-01036\"]\n";
    let asked = tdx::pinned(&out_of_date, lines, "");
    is_listed("tdx-out-of-date", &out_of_date.with_policy(Some(&asked)));

    let served = tdx::named("v5-servicetd-alibaba");
    is_listed("tdx-service-td", &served.with_policy(None));
    let hash = claim(&served.evidence().report, "mr_service_td");
    let lines = format!("statuses = [\"OutOfDate\"]\nservice_tds = [\"{hash}\", \"{other}\"]\n");
    let asked = tdx::pinned(&served, &lines, "");
    is_listed("tdx-service-td-allowed", &served.with_policy(Some(&asked)));
}

/// The number in what a check found, behind `word`.
fn number(found: &str, word: &str) -> u64 {
    let (_, rest) = found
        .split_once(word)
        .unwrap_or_else(|| panic!("{word} in {found}"));
    let digits: String = rest
        .trim_start()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().unwrap()
}

#[test]
fn a_bound_of_a_policy_is_met_by_what_is_equal_to_it() {
    let quote = tdx::named("v4-padded8000-google-2026");
    let outcome = |lines: &str, name: CheckName| {
        let policy = tdx::pinned(&quote, &format!("statuses = [\"OutOfDate\"]\n{lines}"), "");
        let appraisal = quote.with_policy(Some(&policy));
        let check = appraisal.check(name).unwrap();
        (check.outcome, check.found.clone())
    };
    // By how much the bound moves until what was found breaks it.
    let rows = [
        ("maximum_collateral_age_s", CheckName::CollateralAge, "", -1),
        (
            "platform_grace_s",
            CheckName::TcbAge,
            "platform out of date for",
            -1,
        ),
        (
            "minimum_evaluation_number",
            CheckName::EvaluationNumber,
            "",
            1,
        ),
        ("minimum_root_crl_number", CheckName::CrlNumbers, "root", 1),
        ("minimum_pck_crl_number", CheckName::CrlNumbers, "PCK", 1),
    ];
    for (key, name, word, step) in rows {
        let found = number(&outcome(&format!("{key} = 1"), name).1, word);
        for (moved, expected) in [
            (0, Outcome::Pass),
            (step, Outcome::Fail),
            (-step, Outcome::Pass),
        ] {
            let bound = found.checked_add_signed(moved).unwrap();
            let (outcome, text) = outcome(&format!("{key} = {bound}"), name);
            assert_eq!(outcome, expected, "{key} = {bound}: {text}");
        }
    }
    // Without a case, and no other advisory.
    for (advisory, expected) in [
        ("intel-sa-01036", Outcome::Fail),
        ("INTEL-SA-01036", Outcome::Fail),
        ("INTEL-SA-0103", Outcome::Pass),
        ("INTEL-SA-010366", Outcome::Pass),
    ] {
        let lines = format!("refused_advisories = [\"{advisory}\"]");
        assert_eq!(
            outcome(&lines, CheckName::Advisories).0,
            expected,
            "{advisory}"
        );
    }
}

#[test]
fn a_td_to_which_others_may_be_bound_later_is_refused_unless_its_body_names_them() {
    // SERVTD_EXT.
    let td_attributes = 1 << 28 | 1 << 17;
    let level = (CheckName::TcbLevel, "SERVTD_EXT is enabled");
    let service = (CheckName::ServiceTd, "others may be bound later");
    for (body_type, (name, found)) in [(None, level), (Some(2), level), (Some(3), service)] {
        let fields = TdFields {
            td_attributes,
            body_type,
            ..tdx_emulated::fields()
        };
        let appraisal = tdx_emulated::appraisal(&fields);
        let check = appraisal.check(name).unwrap();
        assert_eq!(check.outcome, Outcome::Fail, "{body_type:?}");
        assert_eq!(check.found, found, "{body_type:?}");
    }
    // An extended body names them: none are.
    let fields = TdFields {
        td_attributes,
        body_type: Some(4),
        ..tdx_emulated::fields()
    };
    let appraisal = tdx_emulated::appraisal(&fields);
    assert_eq!(
        appraisal.verdict(),
        Verdict::Accept,
        "{}",
        listing(&appraisal)
    );
}

#[test]
fn mitigations_are_asked_for_bit_by_bit_at_launch_and_now() {
    let platform = emulated::platform();
    let outcome = |launch: u64, current: u64, lines: &str| {
        let fields = ReportFields {
            version: 5,
            launch_mitigations: launch,
            current_mitigations: current,
            ..emulated::fields(&platform)
        };
        let evidence = emulated::evidence(&platform, &fields);
        let policy = emulated::policy_with(lines);
        let expected = Expected::report_data(REPORT_DATA);
        let appraisal = assess(
            &evidence,
            &emulated::roots(&platform),
            NOW,
            Some(&policy),
            &expected,
        );
        appraisal.check(CheckName::Mitigations).unwrap().outcome
    };
    let both = "mitigations_required = 0x5";
    let launch = "launch_mitigations_required = 0x4";
    let now = "current_mitigations_required = 0x4";
    for (at_launch, current, lines, expected) in [
        (0x5, 0x5, both, Outcome::Pass),
        (0x7, 0xf, both, Outcome::Pass),
        (0x1, 0x5, both, Outcome::Fail),
        (0x5, 0x4, both, Outcome::Fail),
        (0x2, 0x5, both, Outcome::Fail),
        (0x4, 0x0, launch, Outcome::Pass),
        (0x3, 0x4, launch, Outcome::Fail),
        (0x0, 0x4, now, Outcome::Pass),
        (0x4, 0x3, now, Outcome::Fail),
    ] {
        assert_eq!(
            outcome(at_launch, current, lines),
            expected,
            "{at_launch:#x} {current:#x} {lines}"
        );
    }
}

#[test]
fn an_author_vouches_for_an_id_key_only_where_the_report_says_that_it_signed() {
    let platform = emulated::platform();
    let author = [0xAA; 48];
    let lines = format!(
        "author_keys = [\"{}\"]\nauthor_vouches_for_id_key = true\nid_keys = [\"{}\"]\n",
        hex::encode(author),
        "22".repeat(48)
    );
    let fields = |author_key_enabled: bool| ReportFields {
        id_key_digest: [0x33; 48],
        author_key_digest: author,
        key_info: u32::from(author_key_enabled),
        ..emulated::fields(&platform)
    };
    for enabled in [true, false] {
        let evidence = emulated::evidence(&platform, &fields(enabled));
        let policy = emulated::policy_with(&lines);
        let expected = Expected::report_data(REPORT_DATA);
        let appraisal = assess(
            &evidence,
            &emulated::roots(&platform),
            NOW,
            Some(&policy),
            &expected,
        );
        let check = appraisal.check(CheckName::IdKey).unwrap();
        let author_check = appraisal.check(CheckName::AuthorKey).unwrap();
        assert_eq!(check.outcome == Outcome::Pass, enabled);
        assert_eq!(author_check.outcome == Outcome::Pass, enabled);
        assert_eq!(check.found, "33".repeat(48));
        if enabled {
            assert_eq!(check.expected, "signed by an author key of the policy");
        }
    }
}

#[test]
fn what_was_verified_and_accepted_names_its_evidence_and_what_it_says() {
    let platform = emulated::platform_of(Product::Genoa, VekKind::Vcek);
    let fields = emulated::fields(&platform);
    let evidence = emulated::evidence(&platform, &fields);
    let roots = emulated::roots(&platform);
    let verified = verify(&evidence, &roots, NOW).unwrap();
    let id = verified.evidence_id();
    let signed = &evidence.report[..0x2A0];
    assert_eq!(id.as_slice(), digest(&SHA256, signed).as_ref());
    assert!(verified.is_emulated() && verified.quote().is_none());
    assert_eq!(verified.verified_at(), NOW);
    let line = verified.line();
    assert_eq!(line.map(|line| line.as_str()), Some("Genoa"));
    let expected = Expected::report_data(REPORT_DATA);
    let accepted = assess(&evidence, &roots, NOW, Some(&emulated::policy()), &expected);
    assert_eq!(
        accepted.verdict(),
        Verdict::Accept,
        "{}",
        listing(&accepted)
    );
    let accepted = accepted.accepted().unwrap();
    let snp = accepted.appraised();
    assert_eq!(
        (snp.evidence_id(), snp.line(), snp.appraised_at()),
        (id, line, NOW)
    );
    assert!(snp.report().is_some() && snp.quote().is_none() && snp.rtmrs().is_none());
    assert!(snp.collateral_expires_at().is_none());
    let says = |claims: Vec<(&'static str, String)>, name: &str| {
        let found = claims.into_iter().find(|(claim, _)| *claim == name);
        found.map(|(_, value)| value)
    };
    let measurement = Some(hex::encode(emulated::MEASUREMENT));
    assert_eq!(says(snp.claims_for_display(), "measurement"), measurement);

    // A real chip's is not emulated.
    let vector = vectors::accepting().remove(0);
    let verified = verify(&vector.evidence, &Roots::amd().unwrap(), vector.at).unwrap();
    assert!(!verified.is_emulated());

    let gcp = tdx::named("v4-uptodate-gcp-flashbots");
    let evidence: Evidence = gcp.evidence();
    let verified = verify(&evidence, &Roots::amd().unwrap(), gcp.at).unwrap();
    let id = verified.evidence_id();
    assert!(verified.report().is_none() && verified.line().is_none());
    assert!(verified.quote().is_some() && !verified.is_emulated());
    let signed = digest(&SHA256, &evidence.report[..48 + 584]);
    assert_eq!(id.as_slice(), signed.as_ref());
    let authentic = gcp.with_policy(None);
    let tdx = authentic.appraised().unwrap();
    assert_eq!(tdx.evidence_id(), id);
    assert_ne!(id, [0; 32]);
    assert!(tdx.report().is_none() && tdx.quote().is_some() && tdx.line().is_none());
    assert_eq!(
        tdx.collateral_expires_at().map(|end| end.secs()),
        Some(1_785_398_027)
    );
    let mrtd = claim(&evidence.report, "mrtd");
    assert_eq!(says(tdx.claims_for_display(), "mrtd"), Some(mrtd));
}

#[test]
fn every_field_of_recorded_evidence_is_shown() {
    let json = |evidence: &Evidence| {
        let mut text = serde_json::to_string_pretty(&overview(evidence)).unwrap();
        text.push('\n');
        text
    };
    for vector in vectors::all() {
        // Where the folder says it, it says the same.
        let shown = overview(&vector.evidence);
        let same = vector
            .meta
            .as_object()
            .unwrap()
            .iter()
            .filter(|(key, value)| {
                let found = shown.get(*key);
                assert!(
                    found.is_none_or(|found| found == *value),
                    "{} {key}",
                    vector.name
                );
                found.is_some()
            });
        assert!(same.count() >= 25, "{}", vector.name);
        is_written(
            &format!("overview-snp-{}.json", vector.name),
            &json(&vector.evidence),
        );
    }
    for vector in tdx::all() {
        let name = format!("overview-tdx-{}.json", vector.name);
        is_written(&name, &json(&vector.evidence()));
    }
}

#[test]
fn fields_at_the_edge_of_a_form_are_shown_as_they_are() {
    let shown = |report: &[u8], vek: Option<Vec<u8>>| {
        let endorsements = Endorsements {
            vek,
            ask: None,
            ark: None,
        };
        overview(&Evidence::snp(report.to_vec(), endorsements))
    };
    // Version 2, or later with a processor that has no name; microcode at its place in the current TCB.
    let vector = vectors::all()
        .into_iter()
        .find(|vector| vector.name == "milan-v2-vmpl2-novek")
        .unwrap();
    for (version, microcode, generation) in [
        (2, 0xC0, serde_json::json!("Milan")),
        (2, 0xBF, serde_json::Value::Null),
        (3, 0xC0, serde_json::Value::Null),
    ] {
        let mut report = vector.evidence.report.clone();
        report[0] = version;
        report[0x38 + 7] = microcode;
        assert_eq!(
            shown(&report, None)["generation"],
            generation,
            "{version} {microcode}"
        );
    }
    // Half of the order is not high, and one more is.
    let half = hex::decode(
        "7fffffffffffffffffffffffffffffffffffffffffffffffe3b1a6c0fa1b96efac0d06d9245853bd76760cb5666294b9",
    );
    for (more, high) in [(0, false), (1, true)] {
        let mut s = half.clone().unwrap();
        s.reverse();
        s[0] += more;
        let mut report = vector.evidence.report.clone();
        report[0x2A0 + 72..0x2A0 + 144].fill(0);
        report[0x2A0 + 72..0x2A0 + 72 + 48].copy_from_slice(&s);
        assert_eq!(shown(&report, None)["s_is_high"], high);
    }
    // A hardware id that begins as an OCTET STRING does; a name of another length than it says.
    let platform = emulated::platform();
    let report = platform.report(&emulated::fields(&platform)).unwrap();
    let with = |arc: &str, value: Vec<u8>| {
        let mut chain = platform.chain().clone();
        let extensions = chain.vek.extensions.iter_mut();
        for extension in extensions.filter(|extension| extension.oid.ends_with(arc)) {
            extension.value = value.clone();
        }
        shown(&report, Some(chain.sign().unwrap().vek))
    };
    let mut raw = vec![7; 64];
    raw[..2].copy_from_slice(&[4, 61]);
    for (value, bytes) in [
        (raw, 64),
        ([&[4, 64][..], &[7; 64]].concat(), 64),
        ([&[4, 8][..], &[7; 8]].concat(), 8),
    ] {
        assert_eq!(with(".3704.1.4", value)["vek_hwid_len"], bytes);
    }
    for (value, product) in [
        (&b"\x16\x05Genoa"[..], serde_json::json!("Genoa")),
        (b"\x16\x04Genoa", serde_json::Value::Null),
    ] {
        assert_eq!(with(".3704.1.2", value.to_vec())["vek_product"], product);
    }
}
