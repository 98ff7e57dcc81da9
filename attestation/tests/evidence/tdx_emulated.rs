//! TDX evidence of the emulated platform: what no recorded quote shows, under a whole chain of its own.

use attestation::tdx::{StatementError, TdxFault, TdxStep};
use attestation::{
    Appraisal, CheckName, Evidence, Expected, Outcome, Policy, Roots, Tier, Verdict, VerifyFault,
    assess, verify,
};
use testkit::tdx::{TdFields, TdxPlatform};

use crate::emulated::NOW;

const REPORT_DATA: [u8; 64] = [0x44; 64];

pub(crate) fn fields() -> TdFields {
    let mut mr_config_id = [0; 48];
    mr_config_id[..32].fill(0x51);
    TdFields {
        mr_config_id,
        report_data: REPORT_DATA,
        ..TdFields::default()
    }
}

fn policy() -> Policy {
    let hex = |byte: u8, bytes: usize| hex::encode(vec![byte; bytes]);
    let text = format!(
        "version = 1\ntiers = [\"emulated\"]\n[tdx]\nmanifest_signers = [\"{}\"]\nppids = [\"{}\"]\n[[tdx.images]]\nmrtd = \"{}\"\nrtmr1 = \"{}\"\nrtmr2 = \"{}\"\n",
        hex(0x51, 32),
        hex(0x99, 16),
        hex(0x4D, 48),
        hex(0x11, 48),
        hex(0x12, 48)
    );
    Policy::from_toml(text.as_bytes()).unwrap()
}

pub(crate) fn appraisal(fields: &TdFields) -> Appraisal {
    let platform = TdxPlatform::new().unwrap();
    let minted = platform.evidence(fields).unwrap();
    assess(
        &Evidence::tdx(minted.quote, Some(minted.collateral)),
        &Roots::with_emulated(platform.root_pem()).unwrap(),
        NOW,
        Some(&policy()),
        &Expected::report_data(REPORT_DATA),
    )
}

fn failed(appraisal: &Appraisal) -> Vec<CheckName> {
    let checks = appraisal.checks().iter();
    checks
        .filter(|check| check.outcome == Outcome::Fail)
        .map(|check| check.name)
        .collect()
}

#[test]
fn a_fresh_quote_of_the_pinned_image_is_accepted_in_each_form() {
    for body_type in [None, Some(2), Some(3), Some(4)] {
        let appraisal = appraisal(&TdFields {
            body_type,
            ..fields()
        });
        assert_eq!(
            appraisal.verdict(),
            Verdict::Accept,
            "{body_type:?} {:#?}",
            appraisal.checks()
        );
        assert_eq!(appraisal.tier(), Some(Tier::Emulated));
        let root = appraisal.check(CheckName::PinnedRoot).unwrap();
        assert_eq!(root.found, "a development root");
        let accepted = appraisal.accepted().unwrap();
        assert_eq!(accepted.appraised().host_data(), &[0x51; 32]);
        assert_eq!(accepted.appraised().report_data(), &REPORT_DATA);
    }
}

#[test]
fn a_signed_quote_that_nobody_should_trust_is_refused_by_one_check() {
    let sept = 1u64 << 28;
    let mut config = fields().mr_config_id;
    config[47] = 1;
    let rows = [
        (fields(), vec![]),
        (
            TdFields {
                td_attributes: sept | 1 << 29,
                ..fields()
            },
            vec![CheckName::Migratable],
        ),
        (
            TdFields {
                td_attributes: sept | 1 << 4,
                ..fields()
            },
            vec![CheckName::Profiling],
        ),
        (
            TdFields {
                td_attributes: sept | 1,
                ..fields()
            },
            vec![CheckName::Debug],
        ),
        (
            TdFields {
                td_attributes: sept | 1 << 40,
                ..fields()
            },
            vec![CheckName::ReservedAttributes],
        ),
        (
            TdFields {
                td_attributes: 0,
                ..fields()
            },
            vec![CheckName::SeptVeDisable],
        ),
        (
            TdFields {
                xfam: 0x600E7 | 1 << 40,
                ..fields()
            },
            vec![CheckName::XfamKnownBits],
        ),
        (
            TdFields {
                tcb_status: "ConfigurationNeeded".to_owned(),
                ..fields()
            },
            vec![CheckName::TcbStatus],
        ),
        (
            TdFields {
                tcb_status: "Revoked".to_owned(),
                ..fields()
            },
            vec![CheckName::TcbLevel],
        ),
        (
            TdFields {
                pck_revoked: true,
                ..fields()
            },
            vec![CheckName::Revocation],
        ),
        (
            TdFields {
                qe_mr_signer: [0xDD; 32],
                ..fields()
            },
            vec![CheckName::QeReport],
        ),
        (
            TdFields {
                qe_isv_prod_id: 1,
                ..fields()
            },
            vec![CheckName::QeReport],
        ),
        (
            TdFields {
                qe_isv_svn: 1,
                ..fields()
            },
            vec![CheckName::QeReport],
        ),
        (
            TdFields {
                qe_isv_svn: 3,
                ..fields()
            },
            vec![CheckName::TcbStatus],
        ),
        (
            TdFields {
                qe_id: "QE".to_owned(),
                ..fields()
            },
            vec![CheckName::QeIdentity],
        ),
        (
            TdFields {
                mr_signer_seam: [1; 48],
                ..fields()
            },
            vec![CheckName::TcbLevel],
        ),
        (
            TdFields {
                seam_attributes: [0, 0, 0, 0, 0, 0, 0, 1],
                ..fields()
            },
            vec![CheckName::TcbLevel],
        ),
        (
            TdFields {
                body_type: Some(3),
                mr_service_td: [5; 48],
                ..fields()
            },
            vec![CheckName::ServiceTd],
        ),
        // A module of version 3 is judged by the identity of that version.
        (
            TdFields {
                tee_tcb_svn: module(4),
                module_level: Some((4, "UpToDate".to_owned())),
                ..fields()
            },
            vec![],
        ),
        (
            TdFields {
                tee_tcb_svn: module(4),
                module_level: Some((4, "OutOfDate".to_owned())),
                ..fields()
            },
            vec![CheckName::TcbStatus],
        ),
        (
            TdFields {
                tee_tcb_svn: module(4),
                module_level: Some((4, "Revoked".to_owned())),
                ..fields()
            },
            vec![CheckName::TcbLevel],
        ),
        (
            TdFields {
                tee_tcb_svn: module(3),
                module_level: Some((4, "UpToDate".to_owned())),
                ..fields()
            },
            vec![CheckName::TcbLevel],
        ),
        (
            TdFields {
                tee_tcb_svn: module(4),
                ..fields()
            },
            vec![CheckName::TcbLevel],
        ),
        (
            TdFields {
                mr_config_id: config,
                ..fields()
            },
            vec![CheckName::ManifestSigner],
        ),
        (
            TdFields {
                report_data: [0; 64],
                ..fields()
            },
            vec![CheckName::ReportData],
        ),
    ];
    for (fields, expected) in rows {
        assert_eq!(failed(&appraisal(&fields)), expected, "{fields:?}");
    }
}

/// SVNs of a module of major version 3.
fn module(isv_svn: u8) -> [u8; 16] {
    let mut svns = [0; 16];
    svns[0] = isv_svn;
    svns[1] = 3;
    svns
}

#[test]
fn a_td_that_was_launched_before_an_update_is_advised_to_launch_anew() {
    let mut better = [0; 16];
    better[2] = 7;
    let launched = TdFields {
        body_type: Some(3),
        tcb_status: "OutOfDate".to_owned(),
        better_level: Some(better),
        ..fields()
    };
    let rows = [
        // Neither then nor now.
        (launched.clone(), "OutOfDate"),
        // Now, but not when it was launched.
        (
            TdFields {
                tee_tcb_svn2: better,
                ..launched.clone()
            },
            "TDRelaunchAdvised",
        ),
        // Then and now.
        (
            TdFields {
                tee_tcb_svn: better,
                tee_tcb_svn2: better,
                ..launched
            },
            "UpToDate",
        ),
    ];
    for (fields, status) in rows {
        let appraisal = appraisal(&fields);
        let check = appraisal.check(CheckName::TcbStatus).unwrap();
        assert_eq!(check.found, status);
        assert_eq!(check.outcome == Outcome::Pass, status == "UpToDate");
    }
}

#[test]
fn a_development_root_of_tdx_is_trusted_only_where_it_was_handed_in() {
    let (platform, other) = (TdxPlatform::new().unwrap(), TdxPlatform::new().unwrap());
    let minted = platform.evidence(&fields()).unwrap();
    let evidence = Evidence::tdx(minted.quote, Some(minted.collateral));
    let error = verify(&evidence, &Roots::amd().unwrap(), NOW).unwrap_err();
    assert_eq!(error.faults(), [VerifyFault::Tdx(TdxFault::RootNotPinned)]);
    // Another root of the same name has another key.
    let others = Roots::with_emulated(other.root_pem()).unwrap();
    let error = verify(&evidence, &others, NOW).unwrap_err();
    assert!(
        matches!(
            error.faults(),
            [VerifyFault::Tdx(TdxFault::Step {
                step: TdxStep::Revocation,
                ..
            })]
        ),
        "{error}"
    );
}

#[test]
fn the_verifiers_own_collateral_stands_in_for_what_is_older_or_missing() {
    let platform = TdxPlatform::new().unwrap();
    let mint = |fields: &TdFields| platform.evidence(fields).unwrap();
    let of = |evaluation_number: u32, tcb_status: &str| TdFields {
        evaluation_number,
        tcb_status: tcb_status.to_owned(),
        ..fields()
    };
    let revoked = TdFields {
        pck_revoked: true,
        crl_number: 8,
        ..fields()
    };
    let good = of(20, "UpToDate");
    let known_flaw = of(21, "OutOfDate");
    let garbage = Some(b"{}".to_vec());
    let supplied = |fields: &TdFields| Some(mint(fields).collateral);
    let status = vec![CheckName::TcbStatus];
    let rows = [
        (&good, supplied(&good), vec![]),
        (&good, None, vec![]),
        (&good, garbage.clone(), vec![]),
        // Newer than the verifier's: it counts, to the better and to the worse.
        (&good, supplied(&known_flaw), status.clone()),
        (&known_flaw, supplied(&of(22, "UpToDate")), vec![]),
        // Older: it does not, though it would still be valid.
        (&known_flaw, supplied(&good), status.clone()),
        (&known_flaw, None, status),
        (&revoked, supplied(&good), vec![CheckName::Revocation]),
    ];
    let quote = mint(&good).quote;
    for (own, collateral, expected) in rows {
        let mut roots = Roots::with_emulated(platform.root_pem()).unwrap();
        roots.add_collateral(&mint(own).collateral).unwrap();
        let appraisal = assess(
            &Evidence::tdx(quote.clone(), collateral),
            &roots,
            NOW,
            Some(&policy()),
            &Expected::report_data(REPORT_DATA),
        );
        assert_eq!(failed(&appraisal), expected, "{own:?}");
    }
    // Without a store, the same garbage is what it is.
    let roots = Roots::with_emulated(platform.root_pem()).unwrap();
    let error = verify(&Evidence::tdx(quote, garbage), &roots, NOW).unwrap_err();
    assert!(matches!(
        error.faults(),
        [VerifyFault::Tdx(TdxFault::Collateral(_))]
    ));
}

#[test]
fn collateral_is_kept_only_if_each_part_is_intels_and_none_is_older() {
    let platform = TdxPlatform::new().unwrap();
    let mut roots = Roots::with_emulated(platform.root_pem()).unwrap();
    let mint = |fields: &TdFields| platform.evidence(fields).unwrap().collateral;
    let edited = |name: &str, value: &dyn Fn(&serde_json::Value) -> serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_slice(&mint(&fields())).unwrap();
        json[name] = value(&json);
        serde_json::to_vec(&json).unwrap()
    };
    let text = |from: &str, to: &str, name: &'static str| {
        let (from, to) = (from.to_owned(), to.to_owned());
        edited(name, &move |json| {
            json[name].as_str().unwrap().replace(&from, &to).into()
        })
    };
    let other = TdxPlatform::new().unwrap().evidence(&fields()).unwrap();
    let (tcb, qe) = ("the TCB info", "the QE identity");
    let rows = [
        (
            other.collateral,
            StatementError::Signature {
                part: "the root's revocation list",
            },
        ),
        (
            text("UpToDate", "OutOfDate", "tcb_info"),
            StatementError::Signature { part: tcb },
        ),
        (
            text("TD_QE", "QE", "qe_identity"),
            StatementError::Signature { part: qe },
        ),
        (
            edited("tcb_info_issuer_chain", &|json| {
                json["pck_crl_issuer_chain"].clone()
            }),
            StatementError::Signature { part: tcb },
        ),
        (
            edited("pck_crl_issuer_chain", &|json| {
                json["tcb_info_issuer_chain"].clone()
            }),
            StatementError::Form {
                part: "the issuer of PCK certificates",
            },
        ),
        (
            edited("pck_crl", &|json| json["root_ca_crl"].clone()),
            StatementError::Form {
                part: "the revocation list of PCK certificates",
            },
        ),
        (
            edited("qe_identity_issuer_chain", &|_| "".into()),
            StatementError::Form { part: qe },
        ),
        (
            mint(&TdFields {
                qe_id: "QE".to_owned(),
                ..fields()
            }),
            StatementError::Form { part: qe },
        ),
        (
            mint(&TdFields {
                signer_revoked: true,
                ..fields()
            }),
            StatementError::Revoked { part: tcb },
        ),
    ];
    for (json, expected) in rows {
        assert_eq!(roots.read_collateral(&json), Err(expected.clone()));
        assert_eq!(roots.add_collateral(&json), Err(expected));
    }
    // A CA and a signer of another root: each under its own name, and none of this root's.
    let mix = |names: &[&str], from: &[u8]| {
        let mut json: serde_json::Value = serde_json::from_slice(&mint(&fields())).unwrap();
        let from: serde_json::Value = serde_json::from_slice(from).unwrap();
        for name in names {
            json[*name] = from[*name].clone();
        }
        serde_json::to_vec(&json).unwrap()
    };
    let other = TdxPlatform::new().unwrap().evidence(&fields()).unwrap();
    let parts = ["pck_crl", "pck_crl_issuer_chain"];
    let part = "the issuer of PCK certificates";
    let foreign = mix(&parts, &other.collateral);
    assert_eq!(
        roots.add_collateral(&foreign),
        Err(StatementError::Signature { part })
    );
    let parts = ["tcb_info", "tcb_info_signature", "tcb_info_issuer_chain"];
    let foreign = mix(&parts, &other.collateral);
    assert_eq!(
        roots.add_collateral(&foreign),
        Err(StatementError::Signature { part: tcb })
    );
    let error = Roots::amd().unwrap().add_collateral(&mint(&fields()));
    assert_eq!(error, Err(StatementError::UnknownRoot));
    let summary = roots.add_collateral(&mint(&fields())).unwrap();
    assert_eq!(summary.expires_at.secs(), 1_796_083_200);
    // The same again is not older.
    assert!(roots.add_collateral(&mint(&fields())).is_ok());
    let older = mint(&TdFields {
        evaluation_number: 19,
        ..fields()
    });
    let parts = [
        "qe_identity",
        "qe_identity_signature",
        "qe_identity_issuer_chain",
    ];
    let part = qe;
    assert_eq!(
        roots.add_collateral(&mix(&parts, &older)),
        Err(StatementError::Older { part })
    );
    let part = tcb;
    assert_eq!(
        roots.add_collateral(&older),
        Err(StatementError::Older { part })
    );
}
