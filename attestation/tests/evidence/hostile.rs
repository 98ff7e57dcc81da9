//! Arbitrary bytes: whatever a peer sends, the answer is an error and never a panic.

use attestation::manifest::EnclaveKind;
use attestation::{
    DepositEnvelope, Endorsements, Evidence, Expected, KeyBundle, MAX_PATH, Manifest, NoncePath,
    Policy, Roots, Verdict, assess,
};
use proptest::prelude::*;

use crate::emulated::{NOW, evidence, fields, platform, policy, roots};

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_evidence_is_rejected(report in bytes(1300), vek in bytes(600), ask in bytes(600), ark in bytes(600)) {
        let endorsements = Endorsements { vek: Some(vek), ask: Some(ask), ark: Some(ark) };
        let appraisal =
            assess(&Evidence::snp(report, endorsements), &Roots::amd().unwrap(), NOW, None, &Expected::saved());
        prop_assert_eq!(appraisal.verdict(), Verdict::Reject);
    }

    #[test]
    fn arbitrary_files_are_read_or_refused(file in bytes(2000)) {
        drop(Evidence::from_json(&file));
        drop(Policy::from_toml(&file));
        drop(KeyBundle::decode(&file));
        drop(Manifest::check(&file, EnclaveKind::Hardware));
        drop(Manifest::open(&file, &file, &[0; 32], EnclaveKind::Emulated));
        drop(DepositEnvelope::from_parts(&file, file.clone()));
        drop(Roots::with_emulated(&String::from_utf8_lossy(&file)));
    }

    #[test]
    fn an_arbitrary_path_leads_somewhere_or_is_refused(index: u32, size in 0u32..70_000, siblings in 0usize..20) {
        if let Ok(path) = NoncePath::new(index % size.max(1), size, vec![[1; 32]; siblings]) {
            prop_assert!(path.siblings().len() <= MAX_PATH);
            prop_assert_ne!(path.root(&[2; 32]), [0; 32]);
        }
    }
}

#[test]
fn no_byte_of_a_chain_can_be_changed() {
    let platform = platform();
    let (roots, policy) = (roots(&platform), policy());
    let expected = Expected::report_data(crate::emulated::REPORT_DATA);
    let good = evidence(&platform, &fields(&platform));
    let parts: [fn(&mut Evidence) -> &mut Vec<u8>; 2] = [
        |evidence| evidence.endorsements.vek.as_mut().unwrap(),
        |evidence| evidence.endorsements.ask.as_mut().unwrap(),
    ];
    for part in parts {
        let length = part(&mut good.clone()).len();
        for at in 0..length {
            let mut evidence = good.clone();
            part(&mut evidence)[at] ^= 1;
            let verdict = assess(&evidence, &roots, NOW, Some(&policy), &expected).verdict();
            assert_eq!(verdict, Verdict::Reject, "{at}");
        }
    }
}
