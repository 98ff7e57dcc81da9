//! What an enclave asks of the hardware it runs on: evidence about itself and a key that only this chip gives.

mod certificate_table;
mod hardware;
mod sev_guest;
mod tsm;

use std::fmt;

use secrecy::{ExposeSecret, SecretBox};

use crate::evidence::{Evidence, Platform};

pub use certificate_table::{
    CertificateTable, CertificateTableFault, MAX_CERTIFICATE_BYTES, MAX_ENTRIES, MAX_TABLE_BYTES,
};
pub use hardware::{HardwareAttester, NoHardware, ReportSource};
pub use sev_guest::{GuestDevice, SEV_GUEST_DEVICE, SevGuest, SevGuestError};
pub use tsm::{
    CONFIGFS_TSM, KernelFiles, MAX_ATTEMPTS, MAX_BLOB_BYTES, Provider, ReportFiles, Step, Tsm,
    TsmError, TsmReport,
};

/// A source of evidence and derived keys. The service is handed one and cannot tell more than this about it.
pub trait Attester: Send + Sync {
    /// The kind of hardware.
    fn platform(&self) -> Platform;

    /// Whether there is no hardware: such an enclave serves only issuers on loopback, `.test` or `.localhost`.
    fn is_emulated(&self) -> bool;

    /// The root, PEM, that emulated evidence ends in. None on hardware: its roots are the manufacturers'.
    fn development_root(&self) -> Option<String> {
        None
    }

    /// What was bound at launch: the digest of the manifest signer (HOST_DATA).
    ///
    /// # Errors
    /// [`AttesterError`] if the hardware does not answer.
    fn host_data(&self) -> Result<[u8; 32], AttesterError>;

    /// A fresh report over `report_data`, with its endorsements.
    ///
    /// # Errors
    /// [`AttesterError`] if the hardware does not answer.
    fn evidence(&self, report_data: &[u8; 64]) -> Result<Evidence, AttesterError>;

    /// The fields that a key derived now would select, to be recorded beside what it seals.
    ///
    /// # Errors
    /// [`AttesterError::NoDerivedKey`] on hardware without such keys.
    fn sealing_fields(&self) -> Result<SealingFields, AttesterError>;

    /// The key that this chip derives for these fields. It selects guest policy, guest SVN and TCB, never the
    /// measurement: which image may open the state is the keyholder's decision. Never used but through HKDF.
    ///
    /// # Errors
    /// [`AttesterError::NoDerivedKey`] on hardware without such keys; [`AttesterError::FieldsRefused`] for fields
    /// above what runs.
    fn derived_key(&self, fields: &SealingFields) -> Result<DerivedKey, AttesterError>;
}

/// What a derived key depends on besides chip and guest policy [AMD 56860, "MSG_KEY_REQ"].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SealingFields {
    /// At most the guest's own.
    pub guest_svn: u32,
    /// The raw TCB version; at most the committed one. An older value opens what was sealed before an update.
    pub tcb_version: [u8; 8],
}

/// A key that the hardware derived: 32 bytes.
pub struct DerivedKey {
    key: SecretBox<[u8; 32]>,
}

impl DerivedKey {
    /// Takes the key over; `init` writes it into its place.
    #[must_use]
    pub fn init_with(init: impl FnOnce(&mut [u8; 32])) -> Self {
        Self {
            key: SecretBox::init_with_mut(init),
        }
    }

    /// The 32 bytes.
    #[must_use]
    pub fn expose_secret(&self) -> &[u8; 32] {
        self.key.expose_secret()
    }

    /// Whether both are the same key; in constant time.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let pairs = self.expose_secret().iter().zip(other.expose_secret());
        pairs.fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
    }
}

impl fmt::Debug for DerivedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DerivedKey(..)")
    }
}

/// Why the hardware gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum AttesterError {
    /// The device or the kernel interface failed.
    #[error("the platform did not answer")]
    Device(#[source] std::io::Error),
    /// configfs-tsm gave no report.
    #[error(transparent)]
    Tsm(#[from] TsmError),
    /// The certificates that the host put beside the report cannot be read.
    #[error("the certificate table that came with the report cannot be read")]
    Certificates(#[from] CertificateTableFault),
    /// The guest device gave nothing.
    #[error(transparent)]
    SevGuest(#[from] SevGuestError),
    /// What it answered is not what was asked for.
    #[error("the platform answered something else than what was asked for: {what}")]
    Answer {
        /// What is wrong.
        what: &'static str,
    },
    /// This hardware derives no keys.
    #[error("this platform derives no keys")]
    NoDerivedKey,
    /// The fields are above what runs, so no key exists for them.
    #[error("no key exists for a guest SVN or TCB above what runs")]
    FieldsRefused,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_key() {
        let key = DerivedKey::init_with(|key| key.fill(0x5A));
        assert_eq!(key.expose_secret(), &[0x5A; 32]);
        assert_eq!(format!("{key:?}"), "DerivedKey(..)");
        assert!(key.is_same(&DerivedKey::init_with(|key| key.fill(0x5A))));
        let other = DerivedKey::init_with(|key| {
            key.fill(0x5A);
            key[31] = 0x5B;
        });
        assert!(!key.is_same(&other));
    }
}
