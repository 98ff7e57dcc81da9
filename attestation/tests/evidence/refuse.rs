//! What is refused, as tables: one valid case, one change a row, the exact faults.

use attestation::snp::CertificateRole::{Ark, Ask, Vek};
use attestation::snp::{
    CertificateProblem, Cpuid, ExtensionProblem, Line, Product as Processor, SigningKey,
    VekKind as Kind,
};
use attestation::{
    Appraisal, CheckName, Evidence, Expected, Outcome, Policy, Roots, RootsError, Tier, UnixTime,
    Verdict, VerifyFault, assess, verify,
};
use testkit::snp::{
    AmdExtension, Chain, DevelopmentKey, Extension, Firmware, Name, Product, PublicKey,
    ReportFields, SnpPlatform, VekKind,
};

use crate::emulated::{
    MEASUREMENT, NOW, REPORT_DATA, SIGNER, endorsements, evidence, fields, platform, platform_of,
    policy, policy_with, roots,
};

fn faults(evidence: &Evidence, roots: &Roots) -> Vec<VerifyFault> {
    verify(evidence, roots, NOW)
        .err()
        .map(|error| error.faults().to_vec())
        .unwrap_or_default()
}

/// The faults of evidence whose chain was changed before it was signed.
fn chain_faults(platform: &SnpPlatform, change: impl FnOnce(&mut Chain)) -> Vec<VerifyFault> {
    let mut chain = platform.chain().clone();
    change(&mut chain);
    let report = platform.report(&fields(platform)).unwrap();
    let evidence = Evidence::snp(report, endorsements(&chain.sign().unwrap()));
    faults(&evidence, &roots(platform))
}

fn position(chain: &Chain, extension: &AmdExtension) -> usize {
    let oid = extension.encode().oid;
    chain
        .vek
        .extensions
        .iter()
        .position(|extension| extension.oid == oid)
        .unwrap()
}

fn remove(chain: &mut Chain, extension: &AmdExtension) {
    let at = position(chain, extension);
    chain.vek.extensions.remove(at);
}

fn replace(chain: &mut Chain, extension: AmdExtension) {
    let at = position(chain, &extension);
    chain.vek.extensions[at] = extension.encode();
}

fn add(chain: &mut Chain, extension: AmdExtension) {
    chain.vek.extensions.push(extension.encode());
}

fn set_value(chain: &mut Chain, extension: &AmdExtension, value: &[u8]) {
    let at = position(chain, extension);
    chain.vek.extensions[at].value = value.to_vec();
}

type Change = Box<dyn FnOnce(&mut Chain)>;

fn change(change: impl FnOnce(&mut Chain) + 'static) -> Change {
    Box::new(change)
}

#[test]
fn a_chain_with_one_thing_wrong_is_refused_for_that_thing() {
    let platform = platform();
    let another = |common_name: &str| Name {
        organization: platform.chain().ark.subject.organization.clone(),
        common_name: common_name.to_owned(),
    };
    let (vlek, stranger) = (another("SEV-VLEK"), another("SEV-Stranger"));
    let sev_milan = another("SEV-Milan");
    let ark_milan = another("ARK-Milan");
    let not_signed = |certificate| VerifyFault::CertificateSignature { certificate };
    let problem = |certificate, problem| VerifyFault::Certificate {
        certificate,
        problem,
    };
    let rows: Vec<(&str, Change, Vec<VerifyFault>)> = vec![
        ("nothing", change(|_| {}), vec![]),
        (
            "the ASK signed by itself",
            change(|chain| chain.ask_signer = DevelopmentKey::Ask),
            vec![not_signed(Ask)],
        ),
        (
            "the VEK signed by the root",
            change(|chain| chain.vek_signer = DevelopmentKey::Ark),
            vec![not_signed(Vek)],
        ),
        (
            "another root key under the root's name",
            change(|chain| chain.ark.key = DevelopmentKey::Ask.public().unwrap()),
            vec![VerifyFault::RootNotPinned],
        ),
        (
            "an unknown root",
            change({
                let ark_milan = ark_milan.clone();
                move |chain| {
                    chain.ark.subject = ark_milan.clone();
                    chain.ask.issuer = ark_milan;
                }
            }),
            vec![VerifyFault::RootNotPinned],
        ),
        (
            "the ARK of another line",
            change(move |chain| chain.ark.subject = ark_milan),
            vec![VerifyFault::RootNotPinned],
        ),
        (
            "an ASK of another line",
            change(move |chain| {
                chain.ask.subject = sev_milan.clone();
                chain.vek.issuer = sev_milan;
            }),
            vec![VerifyFault::CommonName {
                certificate: Ask,
                found: "SEV-Milan".to_owned(),
            }],
        ),
        (
            "a VEK issued by another",
            change(move |chain| chain.vek.issuer = stranger),
            vec![VerifyFault::IssuerMismatch { certificate: Vek }],
        ),
        (
            "a VLEK's name under the ASK",
            change(move |chain| chain.vek.subject = vlek),
            vec![VerifyFault::CommonName {
                certificate: Vek,
                found: "SEV-VLEK".to_owned(),
            }],
        ),
        (
            "an ASK that is no authority",
            change(|chain| chain.ask.extensions[1] = Extension::basic_constraints(false, None)),
            vec![VerifyFault::NotAnAuthority { certificate: Ask }],
        ),
        (
            "an ASK without basic constraints",
            change(|chain| {
                chain.ask.extensions.remove(1);
            }),
            vec![VerifyFault::NotAnAuthority { certificate: Ask }],
        ),
        (
            "an ASK that may not sign certificates",
            change(|chain| chain.ask.extensions[0] = Extension::key_usage(false, true)),
            vec![VerifyFault::NotAnAuthority { certificate: Ask }],
        ),
        (
            "an ASK without key usage",
            change(|chain| {
                chain.ask.extensions.remove(0);
            }),
            vec![VerifyFault::NotAnAuthority { certificate: Ask }],
        ),
        (
            "a VEK that is an authority",
            change(|chain| {
                chain
                    .vek
                    .extensions
                    .push(Extension::basic_constraints(true, None))
            }),
            vec![VerifyFault::VekIsAuthority],
        ),
        (
            "a VEK that may sign certificates",
            change(|chain| chain.vek.extensions.push(Extension::key_usage(true, false))),
            vec![VerifyFault::VekIsAuthority],
        ),
        (
            "an unknown critical extension in the VEK",
            change(|chain| {
                chain.vek.extensions.push(Extension {
                    oid: "1.2.3.4".to_owned(),
                    critical: true,
                    value: vec![5, 0],
                });
            }),
            vec![problem(
                Vek,
                CertificateProblem::CriticalExtension {
                    oid: "1.2.3.4".to_owned(),
                },
            )],
        ),
        (
            "an unknown extension in the VEK",
            change(|chain| {
                chain.vek.extensions.push(Extension {
                    oid: "1.2.3.4".to_owned(),
                    critical: false,
                    value: vec![5, 0],
                });
            }),
            vec![],
        ),
        (
            "an expired ASK",
            change(|chain| chain.ask.not_after = "250101000000Z".to_owned()),
            vec![VerifyFault::Expired { certificate: Ask }],
        ),
        (
            "an ASK that is not yet valid",
            change(|chain| chain.ask.not_before = "270101000000Z".to_owned()),
            vec![VerifyFault::NotYetValid { certificate: Ask }],
        ),
        (
            "an expired VEK",
            change(|chain| chain.vek.not_after = "261121235959Z".to_owned()),
            vec![VerifyFault::Expired { certificate: Vek }],
        ),
        (
            "a VEK that expires this second",
            change(|chain| chain.vek.not_after = "261122000000Z".to_owned()),
            vec![],
        ),
        (
            "a VEK that is not yet valid",
            change(|chain| chain.vek.not_before = "261122000001Z".to_owned()),
            vec![VerifyFault::NotYetValid { certificate: Vek }],
        ),
        (
            "a VEK that is valid from this second",
            change(|chain| chain.vek.not_before = "261122000000Z".to_owned()),
            vec![],
        ),
        (
            "a certificate of version 1",
            change(|chain| chain.vek.version = 0),
            vec![problem(Vek, CertificateProblem::Version)],
        ),
        (
            "another salt in the signed part",
            change(|chain| chain.vek.stated_salt_bytes = 32),
            vec![problem(Vek, CertificateProblem::SignatureAlgorithm)],
        ),
        (
            "a P-256 key",
            change(|chain| chain.vek.key = PublicKey::P256(vec![4; 65])),
            vec![problem(Vek, CertificateProblem::KeyType)],
        ),
        (
            "a compressed point",
            change(|chain| chain.vek.key = PublicKey::P384(vec![2; 49])),
            vec![problem(Vek, CertificateProblem::KeyType)],
        ),
        (
            "a short RSA key as the ASK",
            change(|chain| chain.ask.key = PublicKey::Rsa(vec![0x30, 6, 2, 1, 3, 2, 1, 3])),
            vec![problem(Ask, CertificateProblem::KeyType)],
        ),
    ];
    for (name, change, expected) in rows {
        assert_eq!(chain_faults(&platform, change), expected, "{name}");
    }
}

#[test]
fn a_vek_that_is_an_rsa_key_signs_no_report() {
    let platform = platform();
    let faults = chain_faults(&platform, |chain| {
        chain.vek.key = DevelopmentKey::Ask.public().unwrap()
    });
    assert_eq!(faults, [VerifyFault::KeyType { certificate: Vek }]);
}

#[test]
fn an_ask_with_an_elliptic_key_signs_no_vek() {
    let platform = platform();
    let point = platform.chain().vek.key.clone();
    let faults = chain_faults(&platform, |chain| chain.ask.key = point);
    assert_eq!(
        faults,
        [
            VerifyFault::CertificateSignature { certificate: Vek },
            VerifyFault::KeyType { certificate: Ask }
        ]
    );
}

#[test]
fn amds_extensions_are_all_there_once_and_nothing_else_is() {
    let platform = platform();
    let chip_id = platform.fields().chip_id;
    let absent = |name| vec![VerifyFault::Extension(ExtensionProblem::Absent { name })];
    let foreign = |name| vec![VerifyFault::Extension(ExtensionProblem::Foreign { name })];
    let malformed = |name| {
        vec![VerifyFault::Certificate {
            certificate: Vek,
            problem: CertificateProblem::Extension(ExtensionProblem::Malformed { name }),
        }]
    };
    let level = |number| AmdExtension::PatchLevel(number, 0);
    let hardware_id = AmdExtension::HardwareId(vec![]);
    let product_name = |name: &str| AmdExtension::ProductName(name.to_owned());
    let wrong_line = vec![VerifyFault::Extension(ExtensionProblem::ProductName {
        line: Line::Genoa,
    })];
    let tcb = |certificate: [u8; 8]| {
        vec![VerifyFault::ReportedTcb {
            report: [10, 0, 0, 0, 0, 0, 25, 84],
            certificate,
        }]
    };
    let removed: Vec<(AmdExtension, &str)> = vec![
        (AmdExtension::StructVersion(0), "structVersion"),
        (product_name(""), "productName"),
        (level(1), "blSPL"),
        (level(2), "teeSPL"),
        (level(3), "snpSPL"),
        (level(4), "spl4"),
        (level(5), "spl5"),
        (level(6), "spl6"),
        (level(7), "spl7"),
        (level(8), "ucodeSPL"),
        (hardware_id.clone(), "hwID"),
    ];
    for (extension, name) in removed {
        let faults = chain_faults(&platform, |chain| remove(chain, &extension));
        assert_eq!(faults, absent(name), "{name}");
        let oid = extension.encode().oid;
        let faults = chain_faults(&platform, |chain| {
            let at = position(chain, &extension);
            let twice = chain.vek.extensions[at].clone();
            chain.vek.extensions.push(twice);
        });
        let problem = CertificateProblem::DuplicateExtension { oid };
        assert_eq!(
            faults,
            [VerifyFault::Certificate {
                certificate: Vek,
                problem
            }],
            "{name}"
        );
    }
    let rows: Vec<(&str, Change, Vec<VerifyFault>)> = vec![
        (
            "a CSP id on a VCEK",
            change(|c| add(c, AmdExtension::CspId("CN=x".to_owned()))),
            foreign("cspID"),
        ),
        (
            "a Turin patch level on Genoa",
            change(|c| add(c, AmdExtension::PatchLevel(9, 0))),
            foreign("fmcSPL"),
        ),
        (
            "a structure version of the future",
            change(|c| replace(c, AmdExtension::StructVersion(2))),
            vec![VerifyFault::Extension(ExtensionProblem::StructVersion {
                found: 2,
            })],
        ),
        (
            "a product of another line",
            change(move |c| replace(c, product_name("Milan-B0"))),
            wrong_line.clone(),
        ),
        (
            "a product that only begins so",
            change(move |c| replace(c, product_name("Genoa2"))),
            wrong_line,
        ),
        (
            "a product of the same line",
            change(move |c| replace(c, product_name("Siena-A0"))),
            vec![],
        ),
        (
            "a wrapped hardware id",
            change(move |c| replace(c, AmdExtension::WrappedHardwareId(chip_id.to_vec()))),
            vec![],
        ),
        (
            "the hardware id of another chip",
            change(|c| replace(c, AmdExtension::HardwareId(vec![1; 64]))),
            vec![VerifyFault::ChipId],
        ),
        (
            "the beginning of the hardware id",
            change(move |c| replace(c, AmdExtension::HardwareId(chip_id[..8].to_vec()))),
            vec![VerifyFault::Extension(ExtensionProblem::Malformed {
                name: "hwID",
            })],
        ),
        (
            "a lower boot loader",
            change(|c| replace(c, AmdExtension::PatchLevel(1, 9))),
            tcb([9, 0, 0, 0, 0, 0, 25, 84]),
        ),
        (
            "a higher TEE",
            change(|c| replace(c, AmdExtension::PatchLevel(2, 1))),
            tcb([10, 1, 0, 0, 0, 0, 25, 84]),
        ),
        (
            "a higher SNP",
            change(|c| replace(c, AmdExtension::PatchLevel(3, 26))),
            tcb([10, 0, 0, 0, 0, 0, 26, 84]),
        ),
        (
            "a reserved level",
            change(|c| replace(c, AmdExtension::PatchLevel(4, 1))),
            tcb([10, 0, 1, 0, 0, 0, 25, 84]),
        ),
        (
            "a higher microcode",
            change(|c| replace(c, AmdExtension::PatchLevel(8, 200))),
            tcb([10, 0, 0, 0, 0, 0, 25, 200]),
        ),
        (
            "a patch level of two bytes",
            change(|c| set_value(c, &AmdExtension::PatchLevel(1, 0), &[2, 2, 1, 0])),
            malformed("blSPL"),
        ),
        (
            "a product name that is no IA5String",
            change(|c| {
                set_value(
                    c,
                    &AmdExtension::ProductName(String::new()),
                    &[0x0C, 1, b'x'],
                )
            }),
            malformed("productName"),
        ),
    ];
    for (name, change, expected) in rows {
        assert_eq!(chain_faults(&platform, change), expected, "{name}");
    }
}

#[test]
fn a_vlek_names_a_provider_and_no_chip() {
    let platform = platform_of(Product::Genoa, VekKind::Vlek);
    let rows: Vec<(Change, ExtensionProblem)> = vec![
        (
            change(|chain| remove(chain, &AmdExtension::CspId(String::new()))),
            ExtensionProblem::Absent { name: "cspID" },
        ),
        (
            change(|chain| add(chain, AmdExtension::HardwareId(vec![0; 64]))),
            ExtensionProblem::Foreign { name: "hwID" },
        ),
    ];
    for (change, problem) in rows {
        assert_eq!(
            chain_faults(&platform, change),
            [VerifyFault::Extension(problem)]
        );
    }
}

#[test]
fn turin_has_its_own_extensions() {
    let platform = platform_of(Product::Turin, VekKind::Vcek);
    let rows: Vec<(Change, ExtensionProblem)> = vec![
        (
            change(|chain| remove(chain, &AmdExtension::PatchLevel(9, 0))),
            ExtensionProblem::Absent { name: "fmcSPL" },
        ),
        (
            change(|chain| add(chain, AmdExtension::PatchLevel(4, 0))),
            ExtensionProblem::Foreign { name: "spl4" },
        ),
        (
            change(|chain| replace(chain, AmdExtension::HardwareId(vec![0; 64]))),
            ExtensionProblem::Malformed { name: "hwID" },
        ),
    ];
    for (change, problem) in rows {
        assert_eq!(
            chain_faults(&platform, change),
            [VerifyFault::Extension(problem)]
        );
    }
}

#[test]
fn a_signed_report_that_contradicts_its_certificate_is_refused() {
    let platform = platform();
    let base = fields(&platform);
    let mut beyond = base.chip_id;
    beyond[63] ^= 1;
    let kind = |report| {
        vec![VerifyFault::KeyKind {
            report,
            certificate: Kind::Vcek,
        }]
    };
    let cpuid = |family, model| Cpuid {
        family,
        model,
        stepping: 1,
    };
    let rows = [
        (
            ReportFields {
                key_info: 1 << 2,
                ..base.clone()
            },
            kind(SigningKey::Vlek),
        ),
        (
            ReportFields {
                key_info: 7 << 2,
                ..base.clone()
            },
            kind(SigningKey::None),
        ),
        (
            ReportFields {
                key_info: 3 << 2,
                ..base.clone()
            },
            kind(SigningKey::Reserved(3)),
        ),
        (
            ReportFields {
                chip_id: [0; 64],
                ..base.clone()
            },
            vec![VerifyFault::ChipId],
        ),
        (
            ReportFields {
                chip_id: beyond,
                ..base.clone()
            },
            vec![VerifyFault::ChipId],
        ),
        (
            ReportFields {
                cpuid: [0x19, 0x01, 1],
                ..base.clone()
            },
            vec![VerifyFault::ProductMismatch {
                product: Processor::Milan,
                line: Line::Genoa,
            }],
        ),
        (
            ReportFields {
                cpuid: [0x1A, 0x02, 1],
                ..base.clone()
            },
            vec![VerifyFault::ProductMismatch {
                product: Processor::Turin,
                line: Line::Genoa,
            }],
        ),
        (
            ReportFields {
                cpuid: [0x1A, 0x50, 1],
                ..base.clone()
            },
            vec![VerifyFault::UnknownProduct {
                cpuid: cpuid(0x1A, 0x50),
            }],
        ),
        (
            ReportFields {
                cpuid: [0x19, 0x20, 1],
                ..base.clone()
            },
            vec![VerifyFault::UnknownProduct {
                cpuid: cpuid(0x19, 0x20),
            }],
        ),
        (
            ReportFields {
                cpuid: [0x19, 0xAF, 1],
                ..base.clone()
            },
            vec![],
        ),
        (
            ReportFields {
                signature_algorithm: 2,
                ..base.clone()
            },
            vec![VerifyFault::SignatureAlgorithm { found: 2 }],
        ),
        (
            // The host lowered the reported TCB and shows the key of the higher one.
            ReportFields {
                reported_tcb: [9, 0, 0, 0, 0, 0, 25, 84],
                ..base.clone()
            },
            vec![VerifyFault::ReportedTcb {
                report: [9, 0, 0, 0, 0, 0, 25, 84],
                certificate: [10, 0, 0, 0, 0, 0, 25, 84],
            }],
        ),
        (
            ReportFields {
                reported_tcb: [10, 0, 0, 0, 1, 0, 25, 84],
                ..base.clone()
            },
            vec![VerifyFault::ReportedTcb {
                report: [10, 0, 0, 0, 1, 0, 25, 84],
                certificate: [10, 0, 0, 0, 0, 0, 25, 84],
            }],
        ),
    ];
    for (fields, expected) in rows {
        assert_eq!(
            faults(&evidence(&platform, &fields), &roots(&platform)),
            expected,
            "{fields:?}"
        );
    }
}

#[test]
fn turins_chip_id_ends_after_eight_bytes() {
    let platform = platform_of(Product::Turin, VekKind::Vcek);
    let mut chip_id = platform.fields().chip_id;
    chip_id[8] = 1;
    let evidence = evidence(
        &platform,
        &ReportFields {
            chip_id,
            ..fields(&platform)
        },
    );
    assert_eq!(faults(&evidence, &roots(&platform)), [VerifyFault::ChipId]);
}

#[test]
fn the_report_of_one_chip_under_the_certificate_of_another_is_refused() {
    let (one, other) = (platform(), SnpPlatform::development([8; 32]).unwrap());
    let evidence = Evidence::snp(
        one.report(&fields(&one)).unwrap(),
        endorsements(other.certificates()),
    );
    assert_eq!(
        faults(&evidence, &roots(&one)),
        [VerifyFault::ReportSignature, VerifyFault::ChipId]
    );
}

#[test]
fn a_development_root_is_trusted_only_where_it_was_handed_in() {
    let platform = platform();
    let evidence = evidence(&platform, &fields(&platform));
    assert_eq!(
        faults(&evidence, &Roots::amd().unwrap()),
        [VerifyFault::RootNotPinned]
    );
    let other_line = platform_of(Product::Milan, VekKind::Vcek);
    assert_eq!(
        faults(&evidence, &roots(&other_line)),
        [VerifyFault::RootNotPinned]
    );
    // Without its ASK the evidence cannot be traced to any root: AMD's signing keys have other names.
    let mut without = evidence;
    without.endorsements.ask = None;
    assert_eq!(
        faults(&without, &roots(&platform)),
        [VerifyFault::AskMissing]
    );
    without.endorsements.ask = platform
        .chain()
        .sign()
        .ok()
        .map(|certificates| certificates.ask);
    without.endorsements.ark = None;
    assert_eq!(faults(&without, &roots(&platform)), []);
}

#[test]
fn certificates_that_are_none_are_refused() {
    let platform = platform();
    let good = evidence(&platform, &fields(&platform));
    let der = |certificate| VerifyFault::Certificate {
        certificate,
        problem: CertificateProblem::Der,
    };
    let too_large = |certificate| VerifyFault::Certificate {
        certificate,
        problem: CertificateProblem::TooLarge { found_bytes: 8_193 },
    };
    let mut trailing = platform.certificates().clone();
    for der in [&mut trailing.ark, &mut trailing.ask, &mut trailing.vek] {
        der.push(0);
    }
    let large = || Some(vec![0x30; 8_193]);
    let with = |vek: Option<Vec<u8>>, ask: Option<Vec<u8>>, ark: Option<Vec<u8>>| {
        let mut evidence = good.clone();
        if vek.is_some() {
            evidence.endorsements.vek = vek;
        }
        if ask.is_some() {
            evidence.endorsements.ask = ask;
        }
        if ark.is_some() {
            evidence.endorsements.ark = ark;
        }
        faults(&evidence, &roots(&platform))
    };
    assert_eq!(with(Some(trailing.vek), None, None), [der(Vek)]);
    assert_eq!(with(None, Some(trailing.ask), None), [der(Ask)]);
    assert_eq!(with(None, None, Some(trailing.ark)), [der(Ark)]);
    assert_eq!(with(large(), None, None), [too_large(Vek)]);
    assert_eq!(with(None, large(), None), [too_large(Ask)]);
    assert_eq!(with(None, None, large()), [too_large(Ark)]);
    // The longest that is read at all.
    assert_eq!(with(Some(vec![0x30; 8_192]), None, None), [der(Vek)]);
    assert_eq!(with(None, Some(vec![]), None), [der(Ask)]);
}

fn pem(der: &[u8]) -> String {
    use base64ct::{Base64, Encoding};
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        Base64::encode_string(der)
    )
}

#[test]
fn what_is_no_development_root_does_not_enter_a_root_set() {
    let platform = platform();
    let changed = |change: &dyn Fn(&mut Chain)| {
        let mut chain = platform.chain().clone();
        change(&mut chain);
        pem(&chain.sign().unwrap().ark)
    };
    let good = platform.root_pem().to_owned();
    assert!(Roots::with_emulated(&good).is_ok());
    let rename = |chain: &mut Chain, organization: &str| {
        chain.ark.subject.organization = organization.to_owned();
        chain.ark.issuer.organization = organization.to_owned();
    };
    let rows = [
        (String::new(), RootsError::Pem),
        ("not PEM".to_owned(), RootsError::Pem),
        (good.repeat(9), RootsError::Pem),
        (" ".repeat(65_537), RootsError::Pem),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
            RootsError::Certificate(CertificateProblem::Der),
        ),
        (
            changed(&|chain| rename(chain, "Advanced Micro Devices")),
            RootsError::NotMarked,
        ),
        (
            changed(&|chain| rename(chain, "Tokenkeep")),
            RootsError::NotMarked,
        ),
        (
            changed(&|chain| chain.ark.subject.common_name = "ARK-Rome".to_owned()),
            RootsError::NotARoot,
        ),
        (
            changed(&|chain| chain.ark.issuer.common_name = "ARK-Milan".to_owned()),
            RootsError::NotARoot,
        ),
        (
            changed(&|chain| chain.ark_signer = DevelopmentKey::Ask),
            RootsError::NotARoot,
        ),
        (
            changed(&|chain| chain.ark.extensions[1] = Extension::basic_constraints(false, None)),
            RootsError::NotARoot,
        ),
        (
            changed(&|chain| chain.ark.extensions[0] = Extension::key_usage(false, true)),
            RootsError::NotARoot,
        ),
    ];
    for (file, error) in rows {
        assert_eq!(Roots::with_emulated(&file).err(), Some(error));
    }
}

#[test]
fn a_root_that_allows_no_signing_key_below_it_vouches_for_nothing() {
    let platform = platform();
    let mut chain = platform.chain().clone();
    chain.ark.extensions[1] = Extension::basic_constraints(true, Some(0));
    let certificates = chain.sign().unwrap();
    let roots = Roots::with_emulated(&pem(&certificates.ark)).unwrap();
    let evidence = Evidence::snp(
        platform.report(&fields(&platform)).unwrap(),
        endorsements(&certificates),
    );
    assert_eq!(
        faults(&evidence, &roots),
        [VerifyFault::NotAnAuthority { certificate: Ark }]
    );
}

#[test]
fn an_expired_development_root_vouches_for_nothing() {
    let platform = platform();
    let late = UnixTime::from_secs(NOW.secs() + 30 * 366 * 86_400);
    let error = verify(
        &evidence(&platform, &fields(&platform)),
        &roots(&platform),
        late,
    )
    .unwrap_err();
    let expired = [Ark, Ask, Vek].map(|certificate| VerifyFault::Expired { certificate });
    assert_eq!(error.faults(), expired);
}

fn appraised(platform: &SnpPlatform, fields: &ReportFields, policy: Option<&Policy>) -> Appraisal {
    assess(
        &evidence(platform, fields),
        &roots(platform),
        NOW,
        policy,
        &Expected::report_data(REPORT_DATA),
    )
}

fn failed(appraisal: &Appraisal) -> Vec<CheckName> {
    appraisal
        .checks()
        .iter()
        .filter(|check| check.outcome == Outcome::Fail)
        .map(|check| check.name)
        .collect()
}

#[test]
fn an_authentic_report_that_the_policy_does_not_want_is_refused_by_one_check() {
    let platform = platform();
    let base = fields(&platform);
    let with = |lines: &str| policy_with(lines);
    let plain = policy();
    let floors = |kind: &str, part: &str| {
        with(&format!(
            "[[snp.tcb]]\nfamily = 0x19\nmodel_first = 0x10\nmodel_last = 0x1f\n{kind} = {{ {part} }}\n"
        ))
    };
    let older = Firmware {
        major: 1,
        minor: 54,
        build: 99,
    };
    let rows: Vec<(ReportFields, Policy, CheckName)> = vec![
        (
            ReportFields {
                report_data: [0; 64],
                ..base.clone()
            },
            plain.clone(),
            CheckName::ReportData,
        ),
        (
            ReportFields {
                vmpl: 1,
                ..base.clone()
            },
            plain.clone(),
            CheckName::Vmpl,
        ),
        (
            ReportFields {
                vmpl: u32::MAX,
                ..base.clone()
            },
            plain.clone(),
            CheckName::Vmpl,
        ),
        (base.clone(), with("vmpl = 2"), CheckName::Vmpl),
        (
            ReportFields {
                policy: base.policy | (1 << 19),
                ..base.clone()
            },
            plain.clone(),
            CheckName::Debug,
        ),
        (
            ReportFields {
                policy: base.policy | (1 << 18),
                ..base.clone()
            },
            plain.clone(),
            CheckName::MigrationAgent,
        ),
        (
            ReportFields {
                policy: base.policy | (1 << 26),
                ..base.clone()
            },
            plain.clone(),
            CheckName::PolicyKnownBits,
        ),
        (
            ReportFields {
                policy: base.policy | (1 << 63),
                ..base.clone()
            },
            plain.clone(),
            CheckName::PolicyKnownBits,
        ),
        (
            base.clone(),
            with("policy_required = [\"smt_allowed\", \"ciphertext_hiding\"]"),
            CheckName::PolicyRequired,
        ),
        (
            base.clone(),
            with("policy_forbidden = [\"smt_allowed\"]"),
            CheckName::PolicyForbidden,
        ),
        (
            ReportFields {
                platform_info: 0x05,
                ..base.clone()
            },
            with("platform_required = [\"alias_check_complete\"]"),
            CheckName::PlatformRequired,
        ),
        (
            base.clone(),
            with("platform_forbidden = [\"smt_enabled\"]"),
            CheckName::PlatformForbidden,
        ),
        (
            base.clone(),
            with("products = [\"turin\", \"bergamo-siena\"]"),
            CheckName::AllowedProduct,
        ),
        (
            ReportFields {
                version: 2,
                ..base.clone()
            },
            with("products = [\"genoa\"]"),
            CheckName::AllowedProduct,
        ),
        (
            ReportFields {
                version: 3,
                ..base.clone()
            },
            with("minimum_report_version = 4"),
            CheckName::ReportVersion,
        ),
        (
            base.clone(),
            with("minimum_guest_svn = 1"),
            CheckName::GuestSvn,
        ),
        (
            base.clone(),
            floors("reported", "microcode = 85"),
            CheckName::ReportedTcb,
        ),
        (
            base.clone(),
            floors("committed", "snp = 26"),
            CheckName::CommittedTcb,
        ),
        (
            ReportFields {
                committed_tcb: [9, 0, 0, 0, 0, 0, 25, 84],
                ..base.clone()
            },
            floors("committed", "bootloader = 10"),
            CheckName::CommittedTcb,
        ),
        (
            ReportFields {
                launch_tcb: [10, 0, 0, 0, 0, 0, 22, 84],
                ..base.clone()
            },
            floors("launch", "snp = 23"),
            CheckName::LaunchTcb,
        ),
        (
            base.clone(),
            floors("launch", "fmc = 0"),
            CheckName::LaunchTcb,
        ),
        (
            ReportFields {
                committed_firmware: older,
                ..base.clone()
            },
            with("minimum_firmware = \"1.55.0\""),
            CheckName::Firmware,
        ),
        (
            ReportFields {
                committed_firmware: older,
                ..base.clone()
            },
            with("refuse_provisional_firmware = true"),
            CheckName::ProvisionalFirmware,
        ),
        (
            ReportFields {
                committed_tcb: [9, 0, 0, 0, 0, 0, 25, 84],
                ..base.clone()
            },
            with("refuse_provisional_firmware = true"),
            CheckName::ProvisionalFirmware,
        ),
        (
            base.clone(),
            with("minimum_policy_abi = \"0.32\""),
            CheckName::PolicyAbi,
        ),
        (
            base.clone(),
            with("minimum_policy_abi = \"1.0\""),
            CheckName::PolicyAbi,
        ),
        (
            ReportFields {
                launch_mitigations: 0x1F,
                ..base.clone()
            },
            with("launch_mitigations_required = 0x20"),
            CheckName::Mitigations,
        ),
        (
            ReportFields {
                current_mitigations: 0x1F,
                ..base.clone()
            },
            with("current_mitigations_required = 0x20"),
            CheckName::Mitigations,
        ),
        (
            ReportFields {
                launch_mitigations: 0x1F,
                ..base.clone()
            },
            with("mitigations_required = 0x20"),
            CheckName::Mitigations,
        ),
        (
            ReportFields {
                current_mitigations: 0x1F,
                ..base.clone()
            },
            with("mitigations_required = 0x20"),
            CheckName::Mitigations,
        ),
        (
            ReportFields {
                version: 4,
                ..base.clone()
            },
            with("mitigations_required = 0x01"),
            CheckName::Mitigations,
        ),
        (
            ReportFields {
                measurement: [0; 48],
                ..base.clone()
            },
            plain.clone(),
            CheckName::Measurement,
        ),
        (
            ReportFields {
                host_data: [0; 32],
                ..base.clone()
            },
            plain.clone(),
            CheckName::ManifestSigner,
        ),
        (
            base.clone(),
            with(&format!("family_ids = [\"{}\"]", "01".repeat(16))),
            CheckName::FamilyId,
        ),
        (
            base.clone(),
            with(&format!("image_ids = [\"{}\"]", "01".repeat(16))),
            CheckName::ImageId,
        ),
        (
            base.clone(),
            with(&format!("id_keys = [\"{}\"]", "01".repeat(48))),
            CheckName::IdKey,
        ),
        (
            base.clone(),
            with(&format!("author_keys = [\"{}\"]", "01".repeat(48))),
            CheckName::AuthorKey,
        ),
        (
            base.clone(),
            with(&format!("report_ids = [\"{}\"]", "01".repeat(32))),
            CheckName::ReportId,
        ),
        (
            base.clone(),
            with(&format!("report_ids_ma = [\"{}\"]", "01".repeat(32))),
            CheckName::ReportIdMa,
        ),
        (
            // The digest alone means nothing while the report does not say that an author key was used.
            ReportFields {
                author_key_digest: [1; 48],
                ..base.clone()
            },
            with(&format!("author_keys = [\"{}\"]", "01".repeat(48))),
            CheckName::AuthorKey,
        ),
        (
            base.clone(),
            with(&format!("chip_ids = [\"{}\"]", "01".repeat(64))),
            CheckName::AllowedChip,
        ),
        (base.clone(), hardware_only(), CheckName::Tier),
    ];
    for (fields, policy, check) in rows {
        let appraisal = appraised(&platform, &fields, Some(&policy));
        assert_eq!(failed(&appraisal), [check]);
        assert_eq!(appraisal.verdict(), Verdict::Reject);
        assert!(appraisal.appraised().is_none() && appraisal.accepted().is_none());
    }
}

fn hardware_only() -> Policy {
    let text = format!(
        "version = 1\n[snp]\nmeasurements = [\"{}\"]\nmanifest_signers = [\"{}\"]\n",
        hex::encode(MEASUREMENT),
        hex::encode(SIGNER)
    );
    Policy::from_toml(text.as_bytes()).unwrap()
}

#[test]
fn a_processor_without_a_floor_fails_a_policy_with_floors() {
    let genoa_floor = policy_with(
        "[[snp.tcb]]\nfamily = 0x19\nmodel_first = 0x10\nmodel_last = 0x1f\nreported = { microcode = 84 }\n",
    );
    let all = [
        CheckName::ReportedTcb,
        CheckName::CommittedTcb,
        CheckName::LaunchTcb,
    ];
    // Bergamo is endorsed by Genoa's line, but its patch levels are its own.
    let bergamo = platform_of(Product::Bergamo, VekKind::Vcek);
    assert_eq!(
        failed(&appraised(&bergamo, &fields(&bergamo), Some(&genoa_floor))),
        all
    );
    // Version 2 does not name the processor.
    let genoa = platform();
    let unnamed = ReportFields {
        version: 2,
        ..fields(&genoa)
    };
    assert_eq!(
        failed(&appraised(&genoa, &unnamed, Some(&genoa_floor))),
        all
    );
}

#[test]
fn of_several_floors_for_a_processor_all_hold() {
    let platform = platform();
    let two = |first: u8, second: u8| {
        let entry = |microcode| {
            format!(
                "[[snp.tcb]]\nfamily = 0x19\nmodel_first = 0x10\nmodel_last = 0x1f\nreported = {{ microcode = {microcode} }}\n"
            )
        };
        let policy = policy_with(&format!("{}{}", entry(first), entry(second)));
        failed(&appraised(&platform, &fields(&platform), Some(&policy)))
    };
    assert_eq!(two(83, 84), []);
    assert_eq!(two(84, 85), [CheckName::ReportedTcb]);
    assert_eq!(two(85, 84), [CheckName::ReportedTcb]);
}

#[test]
fn a_measurement_counts_within_its_window_only() {
    let platform = platform();
    let window = |not_before: u64, not_after: u64| {
        let text = format!(
            "version = 1\ntiers = [\"emulated\"]\n[snp]\nmanifest_signers = [\"{}\"]\n\
             measurements = [{{ value = \"{}\", label = \"v1\", not_before = {not_before}, not_after = {not_after} }}]\n",
            hex::encode(SIGNER),
            hex::encode(MEASUREMENT)
        );
        let policy = Policy::from_toml(text.as_bytes()).unwrap();
        appraised(&platform, &fields(&platform), Some(&policy)).verdict()
    };
    let now = NOW.secs();
    assert_eq!(window(now, now), Verdict::Accept);
    assert_eq!(window(now + 1, now + 9), Verdict::Reject);
    assert_eq!(window(now - 9, now - 1), Verdict::Reject);
}

#[test]
fn a_migration_agent_is_allowed_only_where_the_policy_says_so() {
    let platform = platform();
    let fields = ReportFields {
        policy: 0x7_001F,
        ..fields(&platform)
    };
    assert_eq!(
        appraised(&platform, &fields, None).verdict(),
        Verdict::Reject
    );
    let policy = policy_with("allow_migration_agent = true");
    assert_eq!(
        appraised(&platform, &fields, Some(&policy)).verdict(),
        Verdict::Accept
    );
}

#[test]
fn debugging_is_refused_without_a_policy_too() {
    let platform = platform();
    let fields = ReportFields {
        policy: 0xB_001F,
        ..fields(&platform)
    };
    assert_eq!(
        failed(&appraised(&platform, &fields, None)),
        [CheckName::Debug]
    );
}

#[test]
fn a_mitigation_counts_at_the_time_that_the_policy_names() {
    let platform = platform();
    let late = ReportFields {
        launch_mitigations: 0x1F,
        current_mitigations: 0x3F,
        ..fields(&platform)
    };
    let both = "launch_mitigations_required = 0x1f\ncurrent_mitigations_required = 0x3f";
    let appraisal = appraised(&platform, &late, Some(&policy_with(both)));
    assert_eq!(failed(&appraisal), []);
}

#[test]
fn an_author_key_vouches_for_an_id_key_only_where_the_policy_says_so() {
    let platform = platform();
    let signed = ReportFields {
        id_key_digest: [0x1D; 48],
        author_key_digest: [0xAA; 48],
        key_info: 1,
        ..fields(&platform)
    };
    let id_keys = format!("id_keys = [\"{}\"]\n", "01".repeat(48));
    let author = |byte: &str| format!("author_keys = [\"{}\"]\n", byte.repeat(48));
    let vouches = "author_vouches_for_id_key = true\n";
    let (id, key) = (CheckName::IdKey, CheckName::AuthorKey);
    for (lines, expected) in [
        (format!("{id_keys}{}", author("aa")), vec![id]),
        (format!("{id_keys}{}{vouches}", author("aa")), vec![]),
        (format!("{id_keys}{}{vouches}", author("bb")), vec![id, key]),
    ] {
        let appraisal = appraised(&platform, &signed, Some(&policy_with(&lines)));
        assert_eq!(failed(&appraisal), expected, "{lines}");
    }
    // Without an author key in use, its digest vouches for nothing.
    let unused = ReportFields {
        key_info: 0,
        ..signed
    };
    let lines = format!("{id_keys}{}{vouches}", author("aa"));
    let appraisal = appraised(&platform, &unused, Some(&policy_with(&lines)));
    assert_eq!(failed(&appraisal), [id, key]);
}

#[test]
fn a_masked_chip_is_on_no_list() {
    let platform = platform_of(Product::Genoa, VekKind::Vlek);
    let policy = policy_with(&format!("chip_ids = [\"{}\"]", "00".repeat(64)));
    assert_eq!(
        failed(&appraised(&platform, &fields(&platform), Some(&policy))),
        [CheckName::AllowedChip]
    );
}

#[test]
fn a_provider_that_the_policy_does_not_name_is_refused() {
    let platform = platform_of(Product::Genoa, VekKind::Vlek);
    let fields = fields(&platform);
    let other = policy_with("csp_ids = [\"CN=other.example\"]");
    assert_eq!(
        failed(&appraised(&platform, &fields, Some(&other))),
        [CheckName::CspId]
    );
    let same = policy_with("csp_ids = [\"CN=emulated.tokenkeep.test\"]");
    assert_eq!(
        appraised(&platform, &fields, Some(&same)).verdict(),
        Verdict::Accept
    );
}

#[test]
fn a_tier_is_accepted_only_where_the_policy_names_it() {
    let platform = platform();
    let appraisal = appraised(&platform, &fields(&platform), Some(&hardware_only()));
    assert_eq!(
        (appraisal.verdict(), appraisal.tier()),
        (Verdict::Reject, Some(Tier::Emulated))
    );
    let appraisal = appraised(&platform, &fields(&platform), None);
    assert_eq!(
        (appraisal.verdict(), appraisal.tier()),
        (Verdict::Authentic, Some(Tier::Emulated))
    );
}
