//! `/dev/sev-guest`: derived keys, and reports where the kernel has no configfs-tsm.

use std::sync::Mutex;

use sev::firmware::guest::{DerivedKey as Request, Firmware, GuestFieldSelect};
use zeroize::Zeroizing;

use super::{AttesterError, DerivedKey, SealingFields};

/// Where the device is.
pub const SEV_GUEST_DEVICE: &str = "/dev/sev-guest";

/// What a derived key depends on: guest policy (bit 0), guest SVN (4), TCB (5). Never the measurement (3), nor the
/// ids of image and family (1, 2) [AMD 56860, table "GUEST_FIELD_SELECT"].
const SELECTED_FIELDS: u64 = 1 | 1 << 4 | 1 << 5;

/// The version of the request: 1, which has no mitigation vector and which all firmware knows.
const MESSAGE_VERSION: u32 = 1;

/// Why the device gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum SevGuestError {
    /// It cannot be opened.
    #[error("{SEV_GUEST_DEVICE} cannot be opened")]
    Open(#[source] std::io::Error),
    /// The request failed: hypervisor, firmware or kernel.
    #[error("{SEV_GUEST_DEVICE} refuses the {request}")]
    Refused {
        /// `report` or `derived key`.
        request: &'static str,
        /// Why.
        #[source]
        error: sev::error::UserApiError,
    },
    /// An earlier request ended in the middle; no other is sent on the same message counter.
    #[error("an earlier request to {SEV_GUEST_DEVICE} did not end")]
    Poisoned,
}

/// The two requests that are made of the security processor.
pub trait GuestDevice: Send + Sync {
    /// A report, as the firmware wrote it.
    ///
    /// # Errors
    /// [`SevGuestError`].
    fn report(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, SevGuestError>;

    /// A key for `fields` and the guest's policy, at the level of `vmpl`; written to `key`.
    ///
    /// # Errors
    /// [`SevGuestError`].
    fn derived_key(
        &self,
        fields: &SealingFields,
        vmpl: u32,
        key: &mut [u8; 32],
    ) -> Result<(), SevGuestError>;
}

/// The device.
///
/// Certificates are not asked for here: the library would follow offsets that the host wrote. A report from this
/// device travels without endorsements, and its verifier needs the VCEK from elsewhere.
#[derive(Debug)]
pub struct SevGuest {
    // One request at a time: the messages are numbered, and a number is never used for two payloads.
    firmware: Mutex<Firmware>,
}

impl SevGuest {
    /// Opens it.
    ///
    /// # Errors
    /// [`SevGuestError::Open`].
    pub fn open() -> Result<Self, SevGuestError> {
        Ok(Self {
            firmware: Mutex::new(Firmware::open().map_err(SevGuestError::Open)?),
        })
    }
}

impl GuestDevice for SevGuest {
    fn report(&self, report_data: &[u8; 64]) -> Result<Vec<u8>, SevGuestError> {
        let mut firmware = self
            .firmware
            .lock()
            .map_err(|_poisoned| SevGuestError::Poisoned)?;
        firmware
            .get_report(Some(MESSAGE_VERSION), Some(*report_data), None)
            .map_err(|error| SevGuestError::Refused {
                request: "report",
                error,
            })
    }

    fn derived_key(
        &self,
        fields: &SealingFields,
        vmpl: u32,
        key: &mut [u8; 32],
    ) -> Result<(), SevGuestError> {
        let mut firmware = self
            .firmware
            .lock()
            .map_err(|_poisoned| SevGuestError::Poisoned)?;
        let derived = firmware
            .get_derived_key(Some(MESSAGE_VERSION), request(fields, vmpl))
            .map_err(|error| SevGuestError::Refused {
                request: "derived key",
                error,
            })?;
        *key = *Zeroizing::new(derived);
        Ok(())
    }
}

/// The request, rooted in the chip's own key.
fn request(fields: &SealingFields, vmpl: u32) -> Request {
    let SealingFields {
        guest_svn,
        tcb_version,
    } = fields;
    Request::new(
        false,
        GuestFieldSelect(SELECTED_FIELDS),
        vmpl,
        *guest_svn,
        u64::from_le_bytes(*tcb_version),
        None,
    )
}

/// What of a report says which keys exist.
pub(super) struct Ceiling {
    /// The guest's SVN and the committed TCB.
    pub(super) fields: SealingFields,
    /// The level that the guest runs at.
    pub(super) vmpl: u32,
}

impl Ceiling {
    /// From a raw report [AMD 56860, table "ATTESTATION_REPORT"].
    pub(super) fn of(report: &[u8]) -> Result<Self, AttesterError> {
        let read = || {
            let word = |at: usize| report.get(at..)?.first_chunk::<4>().copied();
            Some(Self {
                fields: SealingFields {
                    guest_svn: u32::from_le_bytes(word(0x004)?),
                    tcb_version: *report.get(0x1E0..)?.first_chunk::<8>()?,
                },
                vmpl: u32::from_le_bytes(word(0x030)?),
            })
        };
        read().ok_or(AttesterError::Answer {
            what: "the report is cut short",
        })
    }

    /// Whether a key exists for `fields`: no SVN above the guest's, no part of the TCB above the committed one. Each
    /// part is one byte, in both layouts.
    fn allows(&self, fields: &SealingFields) -> bool {
        let committed = self.fields.tcb_version.iter();
        let mut parts = fields.tcb_version.iter().zip(committed);
        fields.guest_svn <= self.fields.guest_svn && parts.all(|(asked, has)| asked <= has)
    }
}

/// The key for `fields`, if one exists under `ceiling`.
pub(super) fn derive(
    device: &dyn GuestDevice,
    ceiling: &Ceiling,
    fields: &SealingFields,
) -> Result<DerivedKey, AttesterError> {
    if !ceiling.allows(fields) {
        return Err(AttesterError::FieldsRefused);
    }
    let mut result = Ok(());
    let key = DerivedKey::init_with(|key| {
        result = device.derived_key(fields, ceiling.vmpl, key);
    });
    result?;
    if key.expose_secret() == &[0; 32] {
        return Err(AttesterError::Answer {
            what: "the derived key is all zeros",
        });
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_selects_policy_svn_and_tcb_and_never_the_measurement() {
        let fields = SealingFields {
            guest_svn: 7,
            tcb_version: [3, 0, 0, 0, 0, 0, 8, 115],
        };
        let request = request(&fields, 2);
        let select = request.guest_field_select;
        assert!(select.get_guest_policy());
        assert!(select.get_svn());
        assert!(select.get_tcb_version());
        assert!(!select.get_measurement());
        assert!(!select.get_image_id());
        assert!(!select.get_family_id());
        assert!(!select.get_launch_mit_vector());
        assert_eq!(request.get_root_key_select(), 0);
        assert_eq!((request.vmpl, request.guest_svn), (2, 7));
        assert_eq!(request.tcb_version.to_le_bytes(), fields.tcb_version);
        assert_eq!(request.launch_mit_vector, None);
    }

    #[test]
    fn no_key_exists_above_what_runs() {
        let ceiling = Ceiling {
            fields: SealingFields {
                guest_svn: 5,
                tcb_version: [4, 1, 0, 0, 0, 0, 9, 200],
            },
            vmpl: 0,
        };
        let rows = [
            (5, [4, 1, 0, 0, 0, 0, 9, 200], true),
            (0, [0; 8], true),
            (5, [3, 1, 0, 0, 0, 0, 9, 200], true),
            (6, [4, 1, 0, 0, 0, 0, 9, 200], false),
            (5, [5, 1, 0, 0, 0, 0, 9, 200], false),
            (5, [3, 1, 0, 0, 0, 0, 10, 200], false),
            (5, [4, 1, 1, 0, 0, 0, 9, 200], false),
            (5, [4, 1, 0, 0, 0, 0, 9, 201], false),
        ];
        for (guest_svn, tcb_version, allowed) in rows {
            let fields = SealingFields {
                guest_svn,
                tcb_version,
            };
            assert_eq!(ceiling.allows(&fields), allowed, "{fields:?}");
        }
    }
}
