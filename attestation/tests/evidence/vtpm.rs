//! What a cloud's virtual TPM hands out in place of a report: never evidence of ours.
//!
//! There the report's data are the hash of the TPM's keys, chosen by the cloud's paravisor; a verifier's nonce is in a
//! TPM quote beside it, which would have to be verified as well (selection of registers, hash algorithm, user data).

use attestation::{CheckName, Evidence, Expected, Purpose, Roots, Verdict, assess, report_data};

use crate::vectors::{all, failed, folder};

#[test]
fn evidence_of_a_virtual_tpm_is_refused_whole_and_in_parts() {
    let hcl = std::fs::read(folder().join("azure/snp_hcl-report.bin")).unwrap();
    assert!(hcl.starts_with(b"HCLA"));
    let roots = Roots::amd().unwrap();
    let vector = all()
        .into_iter()
        .find(|vector| vector.name == "milan-v2-azure-hcl")
        .unwrap();
    let judge = |report: &[u8], expected: &Expected| {
        let evidence = Evidence::snp(report.to_vec(), vector.evidence.endorsements.clone());
        assess(&evidence, &roots, vector.at, None, expected)
    };

    // The whole, as it lies in the TPM.
    let whole = judge(&hcl, &Expected::saved());
    assert_eq!(whole.verdict(), Verdict::Reject);
    assert_eq!(failed(&whole), [CheckName::ReportForm]);

    // The report in it is AMD's. What it was made for is the TPM's key, and no verifier's nonce stands in it.
    let report = &hcl[32..32 + 1184];
    assert_eq!(
        judge(report, &Expected::saved()).verdict(),
        Verdict::Authentic
    );
    let asked = report_data(Purpose::Server, &[7; 32], &[9; 32]);
    let live = judge(report, &Expected::report_data(asked));
    assert_eq!(live.verdict(), Verdict::Reject);
    assert_eq!(failed(&live), [CheckName::ReportData]);

    // Nor does the hash that does stand there become an answer, in its half or in its place.
    let data = <[u8; 64]>::try_from(&report[0x50..0x90]).unwrap();
    assert_eq!(data[32..], [0; 32]);
    for purpose in [
        Purpose::Server,
        Purpose::Deposit,
        Purpose::Peer,
        Purpose::Keyholder,
    ] {
        let key = <[u8; 32]>::try_from(&data[..32]).unwrap();
        for (root, bundle) in [(key, [0; 32]), ([0; 32], key), (key, key)] {
            let expected = Expected::report_data(report_data(purpose, &root, &bundle));
            assert_eq!(failed(&judge(report, &expected)), [CheckName::ReportData]);
        }
    }
}
