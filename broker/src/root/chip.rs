//! The key that the TEE derives, and what an envelope's header records of it.

use attestation::{Attester, AttesterError, DerivedKey, SealingFields};
use enclave::keys::envelope::TeeKey;

/// A derived key with what it depends on.
pub(super) struct ChipKey {
    key: DerivedKey,
    inputs: String,
}

impl ChipKey {
    /// The key that this TEE derives now; none on a TEE that derives none.
    pub(super) fn current(attester: &dyn Attester) -> Result<Option<Self>, AttesterError> {
        let fields = match attester.sealing_fields() {
            Ok(fields) => fields,
            Err(AttesterError::NoDerivedKey) => return Ok(None),
            Err(error) => return Err(error),
        };
        Self::of_fields(attester, &fields).map(Some)
    }

    /// The key that an envelope names; none if this TEE can't derive it: it derives none, or the envelope is of another
    /// configuration.
    pub(super) fn of_inputs(
        attester: &dyn Attester,
        inputs: &str,
    ) -> Result<Option<Self>, AttesterError> {
        let Some(fields) = fields_from(inputs) else {
            return Ok(None);
        };
        match Self::of_fields(attester, &fields) {
            Ok(key) => Ok(Some(key)),
            Err(AttesterError::NoDerivedKey | AttesterError::FieldsRefused) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn of_fields(attester: &dyn Attester, fields: &SealingFields) -> Result<Self, AttesterError> {
        Ok(Self {
            key: attester.derived_key(fields)?,
            inputs: fields_text(fields),
        })
    }

    pub(super) fn tee_key(&self) -> TeeKey<'_> {
        TeeKey {
            key: self.key.expose_secret(),
            inputs: &self.inputs,
        }
    }

    pub(super) fn inputs(&self) -> &str {
        &self.inputs
    }
}

fn fields_text(fields: &SealingFields) -> String {
    let tcb = u64::from_be_bytes(fields.tcb_version);
    format!("snp;policy;guest_svn={};tcb={tcb:016x}", fields.guest_svn)
}

fn fields_from(text: &str) -> Option<SealingFields> {
    let (guest_svn, tcb) = text
        .strip_prefix("snp;policy;guest_svn=")?
        .split_once(";tcb=")?;
    Some(SealingFields {
        guest_svn: guest_svn.parse().ok()?,
        tcb_version: u64::from_str_radix(tcb, 16).ok()?.to_be_bytes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_the_derived_key_come_back_as_they_were() {
        let fields = SealingFields {
            guest_svn: 7,
            tcb_version: [3, 0, 0, 0, 0, 0, 8, 115],
        };
        let text = fields_text(&fields);
        assert_eq!(text, "snp;policy;guest_svn=7;tcb=0300000000000873");
        assert_eq!(fields_from(&text), Some(fields));
        assert_eq!(fields_from("snp;policy;guest_svn=x;tcb=0"), None);
    }
}
