//! The attester that a service is handed, here over the emulated platform: evidence, launch-bound data, derived keys.

use std::sync::Arc;

use attestation::{
    Attester, AttesterError, DerivedKey, Evidence, Expected, Platform, Purpose, SealingFields,
    Verdict, assess, report_data,
};
use testkit::snp::{ReportFields, SnpError, SnpPlatform};

use crate::emulated::{NOW, SIGNER, endorsements, fields, platform, policy, roots};

/// A guest that was launched on an emulated chip.
struct EmulatedGuest {
    chip: SnpPlatform,
    launched: ReportFields,
}

impl Attester for EmulatedGuest {
    fn platform(&self) -> Platform {
        Platform::Snp
    }

    fn is_emulated(&self) -> bool {
        true
    }

    fn host_data(&self) -> Result<[u8; 32], AttesterError> {
        Ok(self.launched.host_data)
    }

    fn evidence(&self, report_data: &[u8; 64]) -> Result<Evidence, AttesterError> {
        let fields = ReportFields {
            report_data: *report_data,
            ..self.launched.clone()
        };
        let report = self
            .chip
            .report(&fields)
            .map_err(|_| AttesterError::Answer { what: "no report" })?;
        Ok(Evidence::snp(
            report,
            endorsements(self.chip.certificates()),
        ))
    }

    fn sealing_fields(&self) -> Result<SealingFields, AttesterError> {
        let ReportFields {
            guest_svn,
            committed_tcb,
            ..
        } = &self.launched;
        Ok(SealingFields {
            guest_svn: *guest_svn,
            tcb_version: *committed_tcb,
        })
    }

    fn derived_key(&self, fields: &SealingFields) -> Result<DerivedKey, AttesterError> {
        let SealingFields {
            guest_svn,
            tcb_version,
        } = *fields;
        match self
            .chip
            .derived_key(&self.launched, guest_svn, tcb_version)
        {
            Ok(key) => Ok(DerivedKey::init_with(|place| *place = key)),
            Err(SnpError::FieldsAboveLaunch) => Err(AttesterError::FieldsRefused),
            Err(SnpError::Key | SnpError::Sign) => Err(AttesterError::Answer { what: "no key" }),
        }
    }
}

fn guest() -> Arc<dyn Attester> {
    let chip = platform();
    let launched = fields(&chip);
    Arc::new(EmulatedGuest { chip, launched })
}

#[test]
fn evidence_of_an_attester_binds_what_it_was_given() {
    let guest = guest();
    let data = report_data(Purpose::Deposit, &[1; 32], &[2; 32]);
    let evidence = guest.evidence(&data).unwrap();
    let appraisal = assess(
        &evidence,
        &roots(&platform()),
        NOW,
        Some(&policy()),
        &Expected::report_data(data),
    );
    assert_eq!(appraisal.verdict(), Verdict::Accept);
    assert_eq!(guest.host_data().unwrap(), SIGNER);
    assert!(guest.is_emulated());
}

#[test]
fn a_restarted_guest_derives_the_key_that_it_sealed_with() {
    let recorded = guest().sealing_fields().unwrap();
    let before = guest().derived_key(&recorded).unwrap();
    let after = guest().derived_key(&recorded).unwrap();
    assert_eq!(before.expose_secret(), after.expose_secret());
    let above = SealingFields {
        guest_svn: recorded.guest_svn + 1,
        ..recorded
    };
    assert!(matches!(
        guest().derived_key(&above),
        Err(AttesterError::FieldsRefused)
    ));
}
