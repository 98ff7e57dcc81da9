//! The policy file.

use attestation::policy::MAX_POLICY_BYTES;
use attestation::{FieldFault, FieldProblem, Policy, Tier};

use crate::{fault, invalid};

const SAMPLE: &str = include_str!("../../samples/policy.toml");

fn faults(text: &str) -> Vec<FieldFault> {
    Policy::from_toml(text.as_bytes())
        .err()
        .map(|error| error.faults)
        .unwrap_or_default()
}

#[test]
fn the_documented_sample_is_a_policy() {
    assert_eq!(
        Policy::from_toml(SAMPLE.as_bytes()).unwrap().tiers(),
        [Tier::Hardware]
    );
}

#[test]
fn every_field_that_the_sample_comments_out_is_known() {
    let shown = SAMPLE
        .replace("# mitigations_required", "mitigations_required")
        .replace("# launch_mitigations", "launch_mitigations")
        .replace("# current_mitigations", "current_mitigations")
        .replace("# author_vouches", "author_vouches")
        .replace(
            "# family_ids = [\"...\"]",
            &format!("family_ids = [\"{}\"]", "00".repeat(16)),
        )
        .replace(
            "# image_ids = [\"...\"]",
            &format!("image_ids = [\"{}\"]", "00".repeat(16)),
        )
        .replace(
            "# id_keys = [\"...\"]",
            &format!("id_keys = [\"{}\"]", "00".repeat(48)),
        )
        .replace(
            "# author_keys = [\"...\"]",
            &format!("author_keys = [\"{}\"]", "00".repeat(48)),
        )
        .replace(
            "# chip_ids = [\"...\"]",
            &format!("chip_ids = [\"{}\"]", "00".repeat(64)),
        );
    let shown = ["mr_seams", "service_tds", "owners", "owner_configs"]
        .into_iter()
        .map(|key| (key, 48))
        .chain([("ppids", 16), ("piids", 16)])
        .chain([("report_ids", 32), ("report_ids_ma", 32)])
        .fold(shown, |shown, (key, bytes)| {
            shown.replace(
                &format!("# {key} = [\"...\"]"),
                &format!("{key} = [\"{}\"]", "00".repeat(bytes)),
            )
        });
    assert!(!shown.contains("\"...\""));
    assert_eq!(faults(&shown), []);
}

#[test]
fn a_policy_without_tiers_accepts_hardware_only() {
    let policy = Policy::from_toml(b"version = 1\n[snp]\n").unwrap();
    assert_eq!(policy.tiers(), [Tier::Hardware]);
}

#[test]
fn each_fault_is_named_with_its_path() {
    let number = |found| FieldProblem::WrongType {
        expected: "a whole number",
        found,
    };
    let rows: Vec<(String, Vec<FieldFault>)> = vec![
        (
            "".into(),
            vec![
                fault("version", FieldProblem::Missing),
                fault("snp", FieldProblem::Missing),
            ],
        ),
        (
            "version = 2\n[snp]".into(),
            vec![invalid("version", "must be 1")],
        ),
        (
            "version = \"1\"\n[snp]".into(),
            vec![fault("version", number("string"))],
        ),
        (
            "version = -1\n[snp]".into(),
            vec![invalid("version", "must not be negative")],
        ),
        (
            "version = 1\ntier = []\n[snp]".into(),
            vec![fault("tier", FieldProblem::Unknown)],
        ),
        (
            "version = 1\ntiers = []\n[snp]".into(),
            vec![invalid("tiers", "must name a tier")],
        ),
        (
            "version = 1\ntiers = [\"hardware\", \"any\"]\n[snp]".into(),
            vec![invalid("tiers[1]", "must be hardware, reduced or emulated")],
        ),
        (
            "version = 1\nsnp = 1".into(),
            vec![fault(
                "snp",
                FieldProblem::WrongType {
                    expected: "a table",
                    found: "integer",
                },
            )],
        ),
        (
            "version = 1\n[snp]\n[sgx]".into(),
            vec![fault("sgx", FieldProblem::Unknown)],
        ),
        snp(
            "debug = true",
            vec![fault("snp.debug", FieldProblem::Unknown)],
        ),
        snp("vmpl = 4", vec![invalid("snp.vmpl", "must be 0 to 3")]),
        snp(
            "vmpl = 5000000000",
            vec![invalid("snp.vmpl", "must fit 32 bits")],
        ),
        snp(
            "allow_migration_agent = 1",
            vec![fault(
                "snp.allow_migration_agent",
                FieldProblem::WrongType {
                    expected: "true or false",
                    found: "integer",
                },
            )],
        ),
        snp(
            "measurements = [\"00\"]",
            vec![invalid("snp.measurements[0]", "must be 96 hex digits")],
        ),
        snp(
            "measurements = [\"zz\"]",
            vec![invalid("snp.measurements[0]", "must be 96 hex digits")],
        ),
        snp(
            "measurements = [{ label = \"x\" }]",
            vec![fault("snp.measurements[0].value", FieldProblem::Missing)],
        ),
        snp(
            &format!(
                "measurements = [{{ value = \"{}\", not_before = 2, not_after = 1 }}]",
                "00".repeat(48)
            ),
            vec![invalid(
                "snp.measurements[0].not_after",
                "must not be before not_before",
            )],
        ),
        snp(
            &format!(
                "measurements = [{{ value = \"{}\", until = 1 }}]",
                "00".repeat(48)
            ),
            vec![fault("snp.measurements[0].until", FieldProblem::Unknown)],
        ),
        snp(
            "measurements = \"00\"",
            vec![fault(
                "snp.measurements",
                FieldProblem::WrongType {
                    expected: "a list",
                    found: "string",
                },
            )],
        ),
        snp(
            "manifest_signers = [\"00\"]",
            vec![invalid("snp.manifest_signers[0]", "must be 64 hex digits")],
        ),
        snp(
            "policy_required = [\"smt\"]",
            vec![invalid("snp.policy_required[0]", "no such bit")],
        ),
        snp(
            "platform_forbidden = [\"smt\"]",
            vec![invalid("snp.platform_forbidden[0]", "no such bit")],
        ),
        snp(
            "policy_required = [\"smt_allowed\"]\npolicy_forbidden = [\"smt_allowed\"]",
            vec![invalid(
                "snp.policy_forbidden",
                "forbids a bit that is also required",
            )],
        ),
        snp(
            "products = [\"rome\"]",
            vec![invalid(
                "snp.products[0]",
                "must be milan, genoa, bergamo-siena or turin",
            )],
        ),
        snp(
            "minimum_firmware = \"1.55\"",
            vec![invalid("snp.minimum_firmware", "must be major.minor.build")],
        ),
        snp(
            "minimum_policy_abi = \"1\"",
            vec![invalid("snp.minimum_policy_abi", "must be major.minor")],
        ),
        snp(
            "minimum_policy_abi = \"0.256\"",
            vec![invalid("snp.minimum_policy_abi", "must be major.minor")],
        ),
        snp(
            "author_vouches_for_id_key = true",
            vec![invalid(
                "snp.author_vouches_for_id_key",
                "needs author_keys",
            )],
        ),
        snp(
            "report_ids = [\"00\"]",
            vec![invalid("snp.report_ids[0]", "must be 64 hex digits")],
        ),
        snp(
            "family_ids = [\"\"]",
            vec![invalid("snp.family_ids[0]", "must be 32 hex digits")],
        ),
        snp(
            "chip_ids = [\"\"]",
            vec![invalid("snp.chip_ids[0]", "must be 128 hex digits")],
        ),
        snp(
            "[[snp.tcb]]\nfamily = 0x19\nmodel_first = 2\nmodel_last = 1\nreported = { ucode = 1, snp = 256 }",
            vec![
                invalid("snp.tcb[0].reported.snp", "must be at most 255"),
                fault("snp.tcb[0].reported.ucode", FieldProblem::Unknown),
                invalid("snp.tcb[0].model_last", "must not be below model_first"),
            ],
        ),
        snp(
            "[[snp.tcb]]\nmodel_first = 2",
            vec![
                fault("snp.tcb[0].family", FieldProblem::Missing),
                fault("snp.tcb[0].model_last", FieldProblem::Missing),
            ],
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(faults(&text), expected, "{text}");
    }
}

fn snp(lines: &str, faults: Vec<FieldFault>) -> (String, Vec<FieldFault>) {
    (format!("version = 1\n[snp]\n{lines}\n"), faults)
}

#[test]
fn all_faults_are_named_at_once() {
    let text = "version = 2\ntiers = [\"x\"]\nextra = 1\n[snp]\nvmpl = 9\nmeasurements = [\"0\", \"1\"]\nmanifest_signers = 1\n";
    let paths: Vec<String> = faults(text).into_iter().map(|fault| fault.path).collect();
    assert_eq!(
        paths,
        [
            "version",
            "tiers[0]",
            "snp.measurements[0]",
            "snp.measurements[1]",
            "snp.manifest_signers",
            "snp.vmpl",
            "extra",
        ]
    );
}

#[test]
fn a_file_that_is_too_large_or_no_toml_is_refused_whole() {
    let large = " ".repeat(MAX_POLICY_BYTES + 1);
    assert_eq!(
        faults(&large),
        [fault(
            "",
            FieldProblem::TooLarge {
                max_bytes: MAX_POLICY_BYTES
            }
        )]
    );
    let error = Policy::from_toml(&[0xFF]).unwrap_err();
    assert_eq!(
        error.faults,
        [fault("", FieldProblem::Syntax("not UTF-8".to_owned()))]
    );
    assert!(matches!(
        faults("version = ").as_slice(),
        [FieldFault {
            problem: FieldProblem::Syntax(_),
            ..
        }]
    ));
    // A field twice is a fault of syntax, never the first or the last of the two.
    let twice = faults("version = 1\nversion = 1\n[snp]");
    assert!(matches!(
        twice.as_slice(),
        [FieldFault {
            problem: FieldProblem::Syntax(_),
            ..
        }]
    ));
    let deep = format!("version = {}1{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(matches!(
        faults(&deep).as_slice(),
        [FieldFault {
            problem: FieldProblem::Syntax(_),
            ..
        }]
    ));
}

#[test]
fn a_policy_may_be_for_tdx_alone() {
    assert_eq!(faults("version = 1\n[tdx]\n"), []);
}

#[test]
fn each_fault_of_the_tdx_part_is_named_with_its_path() {
    let image = |lines: &str| format!("version = 1\n[tdx]\n[[tdx.images]]\n{lines}");
    let line = |key: &str| format!("{key} = \"{}\"\n", "00".repeat(48));
    let whole = ["mrtd", "rtmr1", "rtmr2"].map(line).concat();
    let tdx = |line: &str| format!("version = 1\n[tdx]\n{line}\n");
    let rows: Vec<(String, Vec<FieldFault>)> = vec![
        (image(&whole), vec![]),
        (
            image(""),
            ["mrtd", "rtmr1", "rtmr2"]
                .map(|key| fault(&format!("tdx.images[0].{key}"), FieldProblem::Missing))
                .to_vec(),
        ),
        (
            image(&format!("{whole}not_before = 2\nnot_after = 1\n")),
            vec![invalid(
                "tdx.images[0].not_after",
                "must not be before not_before",
            )],
        ),
        (
            image(&format!("{whole}rtmr4 = 1\n")),
            vec![fault("tdx.images[0].rtmr4", FieldProblem::Unknown)],
        ),
        (
            tdx("statuses = []"),
            vec![invalid("tdx.statuses", "must name a status")],
        ),
        (
            tdx("statuses = [\"Revoked\"]"),
            vec![invalid(
                "tdx.statuses[0]",
                "must be a TCB status of Intel's other than Revoked",
            )],
        ),
        (
            tdx("attributes_required = [\"pks\"]\nattributes_forbidden = [\"pks\"]"),
            vec![invalid(
                "tdx.attributes_forbidden",
                "forbids a bit that is also required",
            )],
        ),
        (
            tdx("xfam_required = [\"avx\"]\nxfam_forbidden = [\"avx\"]"),
            vec![invalid(
                "tdx.xfam_forbidden",
                "forbids a bit that is also required",
            )],
        ),
        (
            tdx("xfam_required = [\"mmx\"]"),
            vec![invalid("tdx.xfam_required[0]", "no such bit")],
        ),
        (
            tdx("ppids = [\"00\"]"),
            vec![invalid("tdx.ppids[0]", "must be 32 hex digits")],
        ),
        (
            tdx("piids = [\"00\"]"),
            vec![invalid("tdx.piids[0]", "must be 32 hex digits")],
        ),
        (
            tdx("sgx_types = [\"client\"]"),
            vec![invalid(
                "tdx.sgx_types[0]",
                "must be standard, scalable or scalable-with-integrity",
            )],
        ),
        (
            tdx("minimum_evaluation_number = -1"),
            vec![invalid(
                "tdx.minimum_evaluation_number",
                "must not be negative",
            )],
        ),
        (
            tdx("measurements = []"),
            vec![fault("tdx.measurements", FieldProblem::Unknown)],
        ),
    ];
    for (text, expected) in rows {
        assert_eq!(faults(&text), expected, "{text}");
    }
}
