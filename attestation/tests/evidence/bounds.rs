//! Bounds that are just met and just broken, and the second of two conditions that mostly hold together.

use attestation::snp::CertificateRole;
use attestation::tdx::{
    CollateralProblem, EncodingProblem, PckCa, PlatformModel, Quote, QuoteProblem, TdxFault,
    TdxStep,
};
use attestation::{
    CheckName, Endorsements, Evidence, Expected, Outcome, Policy, RevocationError, Roots,
    RootsError, VerifyFault, assess, overview, verify,
};
use base64ct::{Base64, Encoding as _};
use testkit::snp::{DevelopmentKey, Extension, RevocationListSpec, SnpPlatform};
use testkit::tdx::{TdFields, TdxPlatform};

use crate::emulated::{self, NOW, REPORT_DATA};
use crate::{tdx, tdx_emulated};

const LIST_BYTES: usize = 64 * 1024;
const ROOTS_BYTES: usize = 64 * 1024;
const COLLATERAL_BYTES: usize = 128 * 1024;
const QUOTE_BYTES: usize = 16 * 1024;

#[test]
fn a_bound_of_size_is_met_by_what_has_just_that_size() {
    let platform = emulated::platform();
    let mut roots = emulated::roots(&platform);
    let found_bytes = LIST_BYTES + 1;
    assert_eq!(
        roots.add_revocation_list(&vec![0; LIST_BYTES]),
        Err(RevocationError::Der)
    );
    assert_eq!(
        roots.add_revocation_list(&vec![0; found_bytes]),
        Err(RevocationError::TooLarge { found_bytes })
    );

    let mut pem = platform.root_pem().to_owned();
    let filled = |pem: &str, bytes: usize| format!("{pem}{}", "\n".repeat(bytes - pem.len()));
    assert!(Roots::with_emulated(&filled(&pem, ROOTS_BYTES)).is_ok());
    let error = Roots::with_emulated(&filled(&pem, ROOTS_BYTES + 1)).unwrap_err();
    assert_eq!(error, RootsError::Pem);
    pem = pem.repeat(8);
    assert!(Roots::with_emulated(&pem).is_ok());
    pem.push_str(platform.root_pem());
    assert_eq!(Roots::with_emulated(&pem).unwrap_err(), RootsError::Pem);

    let vector = tdx::named("v4-padded8000-google-2025");
    let padded = |bytes: usize| {
        let mut quote = vector.evidence().report;
        quote.resize(bytes, 0);
        quote
    };
    let (fits, over) = (padded(QUOTE_BYTES), padded(QUOTE_BYTES + 1));
    assert!(Quote::parse(&fits).is_ok() && PlatformModel::of_quote(&fits).is_some());
    let found_bytes = QUOTE_BYTES + 1;
    assert_eq!(
        Quote::parse(&over).unwrap_err(),
        QuoteProblem::TooLarge { found_bytes }
    );
    assert_eq!(PlatformModel::of_quote(&over), None);
    let shown = |quote: &[u8]| overview(&Evidence::tdx(quote.to_vec(), None))["quote"].clone();
    assert_eq!(shown(&fits)["len"], QUOTE_BYTES);
    assert_eq!(shown(&over).get("len"), None);

    let with = |bytes: usize| {
        let evidence = Evidence::tdx(vector.evidence().report, Some(vec![b' '; bytes]));
        let error = verify(&evidence, &Roots::amd().unwrap(), vector.at).unwrap_err();
        error.faults().to_vec()
    };
    let fault = |problem| vec![VerifyFault::Tdx(TdxFault::Collateral(problem))];
    let found_bytes = COLLATERAL_BYTES + 1;
    assert_eq!(with(COLLATERAL_BYTES), fault(CollateralProblem::Json));
    assert_eq!(
        with(found_bytes),
        fault(CollateralProblem::TooLarge { found_bytes })
    );
}

#[test]
fn the_model_of_a_platform_is_read_from_each_form_of_a_quote() {
    for (name, fmspc) in [
        ("v4-padded8000-google-2025", "00806f050000"),
        ("v5-td15-svn2-google", "90c06f000000"),
    ] {
        let model = PlatformModel::of_quote(&tdx::named(name).evidence().report).unwrap();
        assert_eq!(
            (hex::encode(model.fmspc).as_str(), model.ca),
            (fmspc, PckCa::Platform)
        );
    }
    // The form of SGX is not that of TDX, and its quotes are refused.
    assert_eq!(
        PlatformModel::of_quote(&tdx::named("sgx-v3-not-tdx").evidence().report),
        None
    );
}

fn list(platform: &SnpPlatform) -> RevocationListSpec {
    RevocationListSpec {
        issuer: platform.chain().ark.subject.clone(),
        number: Some(vec![7]),
        this_update: "261101000000Z".to_owned(),
        next_update: Some("261201000000Z".to_owned()),
        revoked: vec![vec![9, 9]],
        extensions: vec![],
    }
}

#[test]
fn a_revocation_list_names_its_algorithm_twice_and_may_say_more_that_is_not_critical() {
    let platform = emulated::platform();
    let add = |der: &[u8]| emulated::roots(&platform).add_revocation_list(der);
    let good = list(&platform).sign(DevelopmentKey::Ark).unwrap();
    // id-RSASSA-PSS, within what is signed and outside of it.
    let pss = [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0A];
    let places: Vec<usize> = (0..good.len() - pss.len())
        .filter(|at| good[*at..].starts_with(&pss))
        .collect();
    assert_eq!(places.len(), 2);
    for at in places {
        let mut edited = good.clone();
        edited[at + pss.len() - 1] = 0x0B;
        assert_eq!(add(&edited), Err(RevocationError::SignatureAlgorithm));
    }
    let further = Extension {
        oid: "2.5.29.28".to_owned(),
        critical: false,
        value: vec![0x30, 0],
    };
    let spec = RevocationListSpec {
        extensions: vec![further],
        ..list(&platform)
    };
    assert_eq!(add(&spec.sign(DevelopmentKey::Ark).unwrap()), Ok(()));
}

#[test]
fn a_list_is_current_from_its_first_second_to_its_last() {
    let platform = emulated::platform();
    let evidence = emulated::evidence(&platform, &emulated::fields(&platform));
    for (this_update, next_update, outcome) in [
        ("261122000000Z", "261201000000Z", Outcome::Pass),
        ("261122000001Z", "261201000000Z", Outcome::NotRun),
        ("261101000000Z", "261122000000Z", Outcome::Pass),
        ("261101000000Z", "261121235959Z", Outcome::NotRun),
    ] {
        let spec = RevocationListSpec {
            this_update: this_update.to_owned(),
            next_update: Some(next_update.to_owned()),
            ..list(&platform)
        };
        let mut roots = emulated::roots(&platform);
        roots
            .add_revocation_list(&spec.sign(DevelopmentKey::Ark).unwrap())
            .unwrap();
        let expected = Expected::report_data(REPORT_DATA);
        let appraisal = assess(&evidence, &roots, NOW, Some(&emulated::policy()), &expected);
        let check = appraisal.check(CheckName::Revocation).unwrap();
        assert_eq!(check.outcome, outcome, "{this_update} {next_update}");
    }
}

#[test]
fn newer_collateral_takes_the_place_of_the_older_for_the_same_model() {
    let platform = TdxPlatform::new().unwrap();
    let mint = |evaluation_number: u32, tcb_status: &str| {
        let fields = TdFields {
            evaluation_number,
            tcb_status: tcb_status.to_owned(),
            ..tdx_emulated::fields()
        };
        platform.evidence(&fields).unwrap()
    };
    let good = mint(20, "UpToDate");
    let mut roots = Roots::with_emulated(platform.root_pem()).unwrap();
    roots.add_collateral(&good.collateral).unwrap();
    let evidence = Evidence::tdx(good.quote, None);
    let status = |roots: &Roots| {
        let appraisal = assess(&evidence, roots, NOW, None, &Expected::saved());
        appraisal.check(CheckName::TcbStatus).unwrap().found.clone()
    };
    assert_eq!(status(&roots), "UpToDate");
    let newer = mint(21, "OutOfDate").collateral;
    roots.add_collateral(&newer).unwrap();
    assert_eq!(status(&roots), "OutOfDate");
}

#[test]
fn a_quote_whose_model_cannot_be_read_does_not_lead_around_the_verifiers_own_collateral() {
    let platform = TdxPlatform::new().unwrap();
    let minted = platform.evidence(&tdx_emulated::fields()).unwrap();
    // The armour of the first certificate, which one reader needs and another may not.
    let mut quote = minted.quote.clone();
    let armour = b"-----BEGIN CERTIFICATE-----";
    let at = quote
        .windows(armour.len())
        .position(|bytes| bytes == armour)
        .unwrap();
    quote[at] = b'_';
    assert_eq!(PlatformModel::of_quote(&quote), None);
    let evidence = Evidence::tdx(quote, Some(minted.collateral.clone()));
    let faults = |roots: &Roots| verify(&evidence, roots, NOW).unwrap_err().faults().to_vec();
    let unread = VerifyFault::Tdx(TdxFault::Step {
        step: TdxStep::PckCertificate,
        reason: "the platform's model cannot be read".to_owned(),
    });
    let mut roots = Roots::with_emulated(platform.root_pem()).unwrap();
    assert!(!faults(&roots).contains(&unread));
    roots.add_collateral(&minted.collateral).unwrap();
    assert_eq!(faults(&roots), [unread]);
}

#[test]
fn intels_own_root_is_no_development_root() {
    let der = include_bytes!("../../roots/intel_sgx_root_ca.der");
    let base64 = Base64::encode_string(der);
    let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
    assert_eq!(
        Roots::with_emulated(&pem).unwrap_err(),
        RootsError::NotMarked
    );
}

#[test]
fn a_report_signed_by_no_key_of_its_kind_is_refused_with_all_that_was_found() {
    let platform = emulated::platform();
    let fields = emulated::fields(&platform);
    let mut chain = platform.chain().clone();
    chain.vek.key = chain.ask.key.clone();
    let certificates = chain.sign().unwrap();
    let evidence = Evidence::snp(
        platform.report(&fields).unwrap(),
        Endorsements {
            vek: Some(certificates.vek),
            ask: Some(certificates.ask),
            ark: Some(certificates.ark),
        },
    );
    let error = verify(&evidence, &emulated::roots(&platform), NOW).unwrap_err();
    let of_vek =
        |fault: &VerifyFault| format!("{fault:?}").contains(&format!("{:?}", CertificateRole::Vek));
    assert!(error.faults().iter().any(of_vek), "{error}");
}

#[test]
fn an_extended_body_says_which_service_tds_are_bound() {
    let fields = TdFields {
        body_type: Some(4),
        ..tdx_emulated::fields()
    };
    let quote = TdxPlatform::new().unwrap().evidence(&fields).unwrap().quote;
    let parsed = Quote::parse(&quote).unwrap();
    let claims = parsed.claims_for_display();
    let says = |name: &str| {
        let found = claims.iter().find(|(claim, _)| *claim == name);
        found.map(|(_, value)| value.clone())
    };
    let none = Some("00".repeat(48));
    assert_eq!(says("init_service_td_hash"), none);
    assert_eq!(says("current_service_td_hash"), none);
    assert_eq!(says("evidence_id"), Some(hex::encode(parsed.evidence_id())));
    let shown = overview(&Evidence::tdx(quote, None));
    assert_eq!(shown["init_service_td_hash"], "00".repeat(48));
    assert_eq!(shown["current_service_td_hash"], "00".repeat(48));
}

#[test]
fn advisories_of_both_levels_of_a_td_are_named_once() {
    let mut better = [0; 16];
    better[2] = 7;
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
    let found = |tee_tcb_svn: [u8; 16], tee_tcb_svn2: [u8; 16]| {
        let fields = TdFields {
            body_type: Some(3),
            better_level: Some(better),
            advisories: [ids(&["SA-1"]), ids(&["SA-1", "SA-2"])],
            tee_tcb_svn,
            tee_tcb_svn2,
            ..tdx_emulated::fields()
        };
        let appraisal = tdx_emulated::appraisal(&fields);
        appraisal.check(CheckName::TcbStatus).unwrap().found.clone()
    };
    assert_eq!(found(better, better), "UpToDate: SA-1");
    // Launched at the better one, and below it now.
    assert_eq!(found(better, [0; 16]), "UpToDate: SA-1, SA-2");
}

#[test]
fn a_quoting_enclave_that_is_out_of_date_has_as_long_as_the_policy_gives_it() {
    let platform = TdxPlatform::new().unwrap();
    let fields = TdFields {
        qe_isv_svn: 3,
        ..tdx_emulated::fields()
    };
    let minted = platform.evidence(&fields).unwrap();
    let evidence = Evidence::tdx(minted.quote, Some(minted.collateral));
    let roots = Roots::with_emulated(platform.root_pem()).unwrap();
    // From the first of September to NOW.
    let age_s = NOW.secs() - 1_788_220_800;
    for (grace_s, outcome) in [(age_s, Outcome::Pass), (age_s - 1, Outcome::Fail)] {
        let text = format!(
            "version = 1\ntiers = [\"emulated\"]\n[tdx]\nstatuses = [\"OutOfDate\"]\nqe_grace_s = {grace_s}\n"
        );
        let policy = Policy::from_toml(text.as_bytes()).unwrap();
        let appraisal = assess(&evidence, &roots, NOW, Some(&policy), &Expected::saved());
        let check = appraisal.check(CheckName::TcbAge).unwrap();
        assert_eq!(
            check.found,
            format!("quoting enclave out of date for {age_s} s")
        );
        assert_eq!(check.outcome, outcome);
    }
}

#[test]
fn what_is_wrong_with_the_writing_of_a_quote_is_named() {
    let vector = tdx::named("v4-padded8000-google-2025");
    let mut quote = vector.evidence().report;
    let last = quote.len() - 1;
    quote[last] = 1;
    let evidence = Evidence::tdx(quote, Some(vector.collateral_json()));
    let appraisal = assess(
        &evidence,
        &Roots::amd().unwrap(),
        vector.at,
        None,
        &Expected::saved(),
    );
    let check = appraisal.check(CheckName::QuoteEncoding).unwrap();
    assert_eq!(check.outcome, Outcome::Fail);
    assert_eq!(check.found, EncodingProblem::Padding.to_string());
}
