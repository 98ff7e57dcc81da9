//! The attester without hardware: an emulated AMD chip whose secret is 32 bytes of a file, or an emulated Intel platform
//! whose keys are one.

use std::fmt;

use attestation::policy::{pinned, pinned_tdx};
use attestation::{
    Attester, AttesterError, DerivedKey, Endorsements, Evidence, Platform, SealingFields, Tier,
};
use ring::digest::{SHA384, digest};
use testkit::snp::{Certificates, ReportFields, SnpError, SnpPlatform};
use testkit::tdx::{TdFields, TdxEvidence, TdxPlatform, month_of};
use tokenkeep::{Clock as _, SystemClock};

/// What the emulated launch measurement is computed over, before the image's name.
const IMAGE_DOMAIN: &[u8] = b"tokenkeep-dev/image/v1\0";

/// An emulated guest: launched from an image on a platform, with the manifest signer's digest bound.
pub struct EmulatedAttester {
    machine: Machine,
    root_pem: String,
    measurement: [u8; 48],
    manifest_signer: [u8; 32],
}

enum Machine {
    Snp(Box<SnpGuest>),
    Tdx(Box<TdxGuest>),
}

struct SnpGuest {
    chip: SnpPlatform,
    launched: ReportFields,
}

struct TdxGuest {
    platform: TdxPlatform,
    launched: TdFields,
}

impl EmulatedAttester {
    /// Launches an AMD guest. The same `chip_secret` is the same chip: it has the same id and derives the same keys.
    ///
    /// # Errors
    /// [`SnpError`] if the chip's keys cannot be made.
    pub fn launch(
        chip_secret: [u8; 32],
        image: &str,
        manifest_signer: [u8; 32],
    ) -> Result<Self, SnpError> {
        let chip = SnpPlatform::development(chip_secret)?;
        let measurement = measurement(image);
        let launched = ReportFields {
            measurement,
            host_data: manifest_signer,
            ..chip.fields()
        };
        Ok(Self {
            root_pem: chip.root_pem().to_owned(),
            machine: Machine::Snp(Box::new(SnpGuest { chip, launched })),
            measurement,
            manifest_signer,
        })
    }

    /// The same guest with the SVN that the image's owner gave it. A TDX guest has none.
    #[must_use]
    pub fn with_guest_svn(mut self, guest_svn: u32) -> Self {
        match &mut self.machine {
            Machine::Snp(guest) => guest.launched.guest_svn = guest_svn,
            Machine::Tdx(_) => {}
        }
        self
    }

    /// Launches an Intel guest: the image is what MRTD measures, and MRCONFIGID binds the signer.
    #[must_use]
    pub fn launch_tdx(platform: TdxPlatform, image: &str, manifest_signer: [u8; 32]) -> Self {
        let measurement = measurement(image);
        let mut mr_config_id = [0; 48];
        for (place, byte) in mr_config_id.iter_mut().zip(manifest_signer) {
            *place = byte;
        }
        let launched = TdFields {
            mrtd: measurement,
            mr_config_id,
            ..TdFields::default()
        };
        Self {
            root_pem: platform.root_pem().to_owned(),
            machine: Machine::Tdx(Box::new(TdxGuest { platform, launched })),
            measurement,
            manifest_signer,
        }
    }

    /// The development root, PEM: what verifiers must be handed to accept this platform.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The launch measurement: of a TDX guest MRTD.
    #[must_use]
    pub const fn measurement(&self) -> &[u8; 48] {
        &self.measurement
    }

    /// Reference values that accept this guest and no other image.
    #[must_use]
    pub fn policy(&self) -> String {
        let (signer, tiers) = (&self.manifest_signer, &[Tier::Emulated]);
        match &self.machine {
            Machine::Snp(_) => pinned(&self.measurement, signer, tiers),
            Machine::Tdx(guest) => {
                pinned_tdx(&self.measurement, &guest.launched.rtmrs, signer, tiers)
            }
        }
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
        match &self.machine {
            Machine::Snp(_) => Platform::Snp,
            Machine::Tdx(_) => Platform::Tdx,
        }
    }

    fn is_emulated(&self) -> bool {
        true
    }

    fn development_root(&self) -> Option<String> {
        Some(self.root_pem.clone())
    }

    fn host_data(&self) -> Result<[u8; 32], AttesterError> {
        Ok(self.manifest_signer)
    }

    fn evidence(&self, report_data: &[u8; 64]) -> Result<Evidence, AttesterError> {
        match &self.machine {
            Machine::Snp(guest) => {
                let SnpGuest { chip, launched } = guest.as_ref();
                let fields = ReportFields {
                    report_data: *report_data,
                    ..launched.clone()
                };
                let report = chip.report(&fields).map_err(failed)?;
                let Certificates { ark, ask, vek } = chip.certificates().clone();
                let endorsements = Endorsements {
                    vek: Some(vek),
                    ask: Some(ask),
                    ark: Some(ark),
                };
                Ok(Evidence::snp(report, endorsements))
            }
            Machine::Tdx(guest) => {
                let TdxGuest { platform, launched } = guest.as_ref();
                let fields = TdFields {
                    report_data: *report_data,
                    // Intel's statements are of the month in which they are asked for.
                    month: month_of(SystemClock.unix_time_s()),
                    ..launched.clone()
                };
                let what = "no quote";
                let made = platform.evidence(&fields);
                let TdxEvidence { quote, collateral } =
                    made.map_err(|_| AttesterError::Answer { what })?;
                Ok(Evidence::tdx(quote, Some(collateral)))
            }
        }
    }

    fn sealing_fields(&self) -> Result<SealingFields, AttesterError> {
        match &self.machine {
            Machine::Snp(guest) => Ok(SealingFields {
                guest_svn: guest.launched.guest_svn,
                tcb_version: guest.launched.committed_tcb,
            }),
            Machine::Tdx(_) => Err(AttesterError::NoDerivedKey),
        }
    }

    fn derived_key(&self, fields: &SealingFields) -> Result<DerivedKey, AttesterError> {
        let SealingFields {
            guest_svn,
            tcb_version,
        } = *fields;
        match &self.machine {
            Machine::Snp(guest) => {
                let SnpGuest { chip, launched } = guest.as_ref();
                let key = chip
                    .derived_key(launched, guest_svn, tcb_version)
                    .map_err(failed)?;
                Ok(DerivedKey::init_with(|place| *place = key))
            }
            Machine::Tdx(_) => Err(AttesterError::NoDerivedKey),
        }
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
    use attestation::{Expected, Policy, Purpose, Roots, UnixTime, Verdict, assess, report_data};

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
    fn an_intel_guest_is_accepted_by_its_own_policy_and_derives_no_key() {
        let platform = TdxPlatform::new().unwrap();
        let kept = TdxPlatform::from_pem(&platform.to_pem()).unwrap();
        let root = platform.root_pem().to_owned();
        let guest = EmulatedAttester::launch_tdx(kept, "one", SIGNER);
        // A lab's users keep the root that the platform had when it was made.
        assert_eq!(guest.root_pem(), root);
        let other = EmulatedAttester::launch_tdx(platform, "two", SIGNER);
        let now = UnixTime::from_secs(SystemClock.unix_time_s());
        let verdict = |guest: &EmulatedAttester, policy: &str| {
            let evidence = guest.evidence(&[7; 64]).unwrap();
            let roots = Roots::with_emulated(guest.root_pem()).unwrap();
            let policy = Policy::from_toml(policy.as_bytes()).unwrap();
            let expected = Expected::report_data([7; 64]);
            assess(&evidence, &roots, now, Some(&policy), &expected).verdict()
        };
        assert_eq!(verdict(&guest, &guest.policy()), Verdict::Accept);
        assert_eq!(verdict(&other, &guest.policy()), Verdict::Reject);
        assert!(matches!(
            guest.sealing_fields(),
            Err(AttesterError::NoDerivedKey)
        ));
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
