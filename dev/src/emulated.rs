//! The attester without hardware: an emulated AMD chip whose secret is 32 bytes of a file.

use std::fmt;

use attestation::{
    Attester, AttesterError, DerivedKey, Endorsements, Evidence, Platform, SealingFields,
};
use ring::digest::{SHA384, digest};
use testkit::snp::{Certificates, ReportFields, SnpError, SnpPlatform};

/// What the emulated launch measurement is computed over, before the image's name.
const IMAGE_DOMAIN: &[u8] = b"tokenkeep-dev/image/v1\0";

/// An emulated guest: launched from an image on a chip, with the manifest signer's digest as HOST_DATA.
pub struct EmulatedAttester {
    chip: SnpPlatform,
    launched: ReportFields,
}

impl EmulatedAttester {
    /// Launches a guest. The same `chip_secret` is the same chip: it has the same id and derives the same keys.
    ///
    /// # Errors
    /// [`SnpError`] if the chip's keys cannot be made.
    pub fn launch(
        chip_secret: [u8; 32],
        image: &str,
        manifest_signer: [u8; 32],
    ) -> Result<Self, SnpError> {
        let chip = SnpPlatform::development(chip_secret)?;
        let launched = ReportFields {
            measurement: measurement(image),
            host_data: manifest_signer,
            ..chip.fields()
        };
        Ok(Self { chip, launched })
    }

    /// The development root, PEM: what verifiers must be handed to accept this chip.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        self.chip.root_pem()
    }

    /// The launch measurement.
    #[must_use]
    pub const fn measurement(&self) -> &[u8; 48] {
        &self.launched.measurement
    }
}

/// The launch measurement that stands for an image's name.
#[must_use]
pub fn measurement(image: &str) -> [u8; 48] {
    let mut measurement = [0; 48];
    let hash = digest(&SHA384, &[IMAGE_DOMAIN, image.as_bytes()].concat());
    // SHA-384 yields 48 bytes: the two slices have the same length.
    measurement.copy_from_slice(hash.as_ref());
    measurement
}

impl Attester for EmulatedAttester {
    fn platform(&self) -> Platform {
        Platform::Snp
    }

    fn is_emulated(&self) -> bool {
        true
    }

    fn development_root(&self) -> Option<String> {
        Some(self.root_pem().to_owned())
    }

    fn host_data(&self) -> Result<[u8; 32], AttesterError> {
        Ok(self.launched.host_data)
    }

    fn evidence(&self, report_data: &[u8; 64]) -> Result<Evidence, AttesterError> {
        let fields = ReportFields {
            report_data: *report_data,
            ..self.launched.clone()
        };
        let report = self.chip.report(&fields).map_err(failed)?;
        let Certificates { ark, ask, vek } = self.chip.certificates().clone();
        let endorsements = Endorsements {
            vek: Some(vek),
            ask: Some(ask),
            ark: Some(ark),
        };
        Ok(Evidence::snp(report, endorsements))
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
        let key = self
            .chip
            .derived_key(&self.launched, guest_svn, tcb_version)
            .map_err(failed)?;
        Ok(DerivedKey::init_with(|place| *place = key))
    }
}

fn failed(error: SnpError) -> AttesterError {
    match error {
        SnpError::FieldsAboveLaunch => AttesterError::FieldsRefused,
        SnpError::Key => AttesterError::Answer { what: "no key" },
        SnpError::Sign => AttesterError::Answer { what: "no report" },
    }
}

impl fmt::Debug for EmulatedAttester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmulatedAttester").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attestation::policy::pinned;
    use attestation::{
        Expected, Policy, Purpose, Roots, Tier, UnixTime, Verdict, assess, report_data,
    };

    const NOW: UnixTime = UnixTime::from_secs(1_795_305_600);
    const SIGNER: [u8; 32] = [0x51; 32];

    fn guest(image: &str) -> EmulatedAttester {
        EmulatedAttester::launch([7; 32], image, SIGNER).unwrap()
    }

    fn verdict(guest: &EmulatedAttester, policy: &str) -> Verdict {
        let data = report_data(Purpose::Server, &[1; 32], &[2; 32]);
        let evidence = guest.evidence(&data).unwrap();
        let roots = Roots::with_emulated(guest.root_pem()).unwrap();
        let policy = Policy::from_toml(policy.as_bytes()).unwrap();
        assess(
            &evidence,
            &roots,
            NOW,
            Some(&policy),
            &Expected::report_data(data),
        )
        .verdict()
    }

    #[test]
    fn a_policy_pinned_to_the_image_accepts_it_and_no_other() {
        let policy = pinned(&measurement("one"), &SIGNER, &[Tier::Emulated]);
        assert_eq!(verdict(&guest("one"), &policy), Verdict::Accept);
        assert_eq!(verdict(&guest("two"), &policy), Verdict::Reject);
        let other_signer = EmulatedAttester::launch([7; 32], "one", [0x52; 32]).unwrap();
        assert_eq!(verdict(&other_signer, &policy), Verdict::Reject);
    }

    #[test]
    fn the_same_chip_opens_what_another_image_of_it_sealed() {
        let fields = guest("one").sealing_fields().unwrap();
        let key = |guest: &EmulatedAttester| *guest.derived_key(&fields).unwrap().expose_secret();
        assert_eq!(key(&guest("one")), key(&guest("two")));
        let other = EmulatedAttester::launch([8; 32], "one", SIGNER).unwrap();
        assert_ne!(key(&guest("one")), key(&other));
    }

    #[test]
    fn no_key_exists_above_what_runs() {
        let fields = guest("one").sealing_fields().unwrap();
        let above = SealingFields {
            guest_svn: fields.guest_svn + 1,
            ..fields
        };
        assert!(matches!(
            guest("one").derived_key(&above),
            Err(AttesterError::FieldsRefused)
        ));
    }

    #[test]
    fn debug_shows_no_chip() {
        assert_eq!(format!("{:?}", guest("one")), "EmulatedAttester { .. }");
    }
}
