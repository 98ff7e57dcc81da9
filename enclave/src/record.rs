//! Stored records: their tables, their names towards the store, and how each is
//! sealed to its place.
//!
//! A sealed record is `locator length (u16) ‖ sealed locator ‖ sealed body`. The
//! locator (realm, table, name) is sealed under a key of the system and bound to
//! the record's key in the store; the body is sealed under the realm's key and
//! bound to realm, table, name, generation and schema.

use ring::hmac;
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::ids::TenantId;
use crate::seal::{SealError, SealingKey, derive, length_prefixed};
use crate::store::{Key, Record, Write};

/// The version of the records' inner formats.
pub const SCHEMA: u32 = 1;

const LOCATOR_LABEL: &[u8] = b"tokenkeep/record/locator/v1";
const BODY_LABEL: &[u8] = b"tokenkeep/record/body/v1";
const NAME_LABEL: &[u8] = b"tokenkeep/record/name/v1";

/// The tables that records stand in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// The enclave's own long-lived keys.
    Keys,
    /// The newest manifest that this state was opened under.
    Manifests,
    /// Each tenant's sealing key.
    TenantKeys,
    /// Tenants.
    Tenants,
    /// Vendors.
    Vendors,
    /// Clients.
    Clients,
    /// Providers.
    Providers,
    /// Apps, without their secrets.
    Apps,
    /// The apps' secrets at their providers.
    AppSecrets,
    /// Grants, without their tokens.
    Grants,
    /// The grants' refresh tokens and the state of their exchanges.
    Custody,
    /// Providers' answers that are not yet adopted.
    Journal,
    /// Refresh tokens that a grant's former owner left for the new one.
    Orphans,
    /// Refresh tokens of revoked grants, until their providers are told.
    Revocations,
    /// Freezes.
    Freezes,
    /// Tokens that were revoked before they expired.
    RevokedTokens,
    /// Erased tenants, and how far their erasure is.
    Erasures,
    /// Tenants' own policies.
    Policies,
    /// When grants were used last, and what was told of them.
    Lives,
    /// Tenants' webhooks, and how far each was served.
    Webhooks,
}

impl Table {
    fn word(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Manifests => "manifests",
            Self::TenantKeys => "tenant_keys",
            Self::Tenants => "tenants",
            Self::Vendors => "vendors",
            Self::Clients => "clients",
            Self::Providers => "providers",
            Self::Apps => "apps",
            Self::AppSecrets => "app_secrets",
            Self::Grants => "grants",
            Self::Custody => "custody",
            Self::Journal => "journal",
            Self::Orphans => "orphans",
            Self::Revocations => "revocations",
            Self::Freezes => "freezes",
            Self::RevokedTokens => "revoked_tokens",
            Self::Erasures => "erasures",
            Self::Policies => "policies",
            Self::Lives => "lives",
            Self::Webhooks => "webhooks",
        }
    }
}

/// Whose key a record's body is sealed under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Realm {
    /// The system's.
    System,
    /// A tenant's own.
    Tenant(TenantId),
}

/// Where a record stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// Whose key seals it.
    pub realm: Realm,
    /// Its table.
    pub table: Table,
    /// Its name within the table.
    pub name: String,
}

impl Place {
    /// A place in the system's realm.
    #[must_use]
    pub fn system(table: Table, name: &str) -> Self {
        Self {
            realm: Realm::System,
            table,
            name: name.to_owned(),
        }
    }

    /// A place in a tenant's realm.
    #[must_use]
    pub fn tenant(tenant: &TenantId, table: Table, name: &str) -> Self {
        Self {
            realm: Realm::Tenant(tenant.clone()),
            table,
            name: name.to_owned(),
        }
    }

    fn associated_data(&self, generation: u64) -> Vec<u8> {
        let (kind, tenant): (&[u8], &[u8]) = match &self.realm {
            Realm::System => (b"system", b""),
            Realm::Tenant(tenant) => (b"tenant", tenant.as_str().as_bytes()),
        };
        length_prefixed(&[
            kind,
            tenant,
            self.table.word().as_bytes(),
            self.name.as_bytes(),
            &generation.to_be_bytes(),
            &SCHEMA.to_be_bytes(),
        ])
    }
}

/// Why a record could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Sealing or opening failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The record is too short to hold a locator.
    #[error("the record is cut short")]
    Short,
    /// The locator does not name the key that the store gave the record under.
    #[error("the record stands under another's name")]
    Misplaced,
    /// The tenant's key is not there: it was never made, or erased.
    #[error("the tenant's key is absent")]
    NoRealmKey,
    /// The record opened, but its content does not parse.
    #[error("the record's content is of another schema")]
    Schema,
}

/// Names and locates records: the keys that do not belong to any realm.
pub struct Cabinet {
    name_key: hmac::Key,
    locator_key: SealingKey,
}

impl std::fmt::Debug for Cabinet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cabinet([redacted])")
    }
}

impl Cabinet {
    /// Derives the cabinet's keys from the state key.
    ///
    /// # Errors
    /// [`SealError::Failed`], which does not happen for this length.
    pub fn new(state: &[u8; 32]) -> Result<Self, SealError> {
        let name_key = derive(state, b"", NAME_LABEL)?;
        Ok(Self {
            name_key: hmac::Key::new(hmac::HMAC_SHA256, name_key.as_ref()),
            locator_key: SealingKey::new(derive(state, b"", LOCATOR_LABEL)?),
        })
    }

    /// The store's key for a place.
    #[must_use]
    pub fn key(&self, place: &Place) -> Key {
        let tag = hmac::sign(&self.name_key, &place.associated_data(0));
        let mut key = [0; 32];
        for (to, from) in key.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        Key(key)
    }

    /// Seals a body to its place, as the write that makes it generation
    /// `expected_generation + 1`.
    ///
    /// # Errors
    /// [`RecordError::Seal`] if the system gives no random bytes.
    pub fn seal(
        &self,
        rng: &dyn SecureRandom,
        realm_key: &SealingKey,
        place: &Place,
        expected_generation: u64,
        body: &[u8],
    ) -> Result<Write, RecordError> {
        let key = self.key(place);
        let locator = serde_json::to_vec(place).map_err(|_| RecordError::Schema)?;
        let locator = self
            .locator_key
            .seal(rng, LOCATOR_LABEL, &key.0, &locator)?;
        let generation = expected_generation.saturating_add(1);
        let body = realm_key.seal(rng, BODY_LABEL, &place.associated_data(generation), body)?;
        let locator_len = u16::try_from(locator.len()).map_err(|_| RecordError::Schema)?;
        let mut sealed = locator_len.to_be_bytes().to_vec();
        sealed.extend_from_slice(&locator);
        sealed.extend_from_slice(&body);
        Ok(Write {
            key,
            expected_generation,
            sealed: Some(sealed),
        })
    }

    /// Where a record of the store stands.
    ///
    /// # Errors
    /// [`RecordError`] if it is not one that this enclave sealed under that key.
    pub fn locate(&self, record: &Record) -> Result<Place, RecordError> {
        let (locator, _) = split(&record.sealed)?;
        let locator = self
            .locator_key
            .open(LOCATOR_LABEL, &record.key.0, locator)?;
        let place: Place = serde_json::from_slice(&locator).map_err(|_| RecordError::Schema)?;
        if self.key(&place) != record.key {
            return Err(RecordError::Misplaced);
        }
        Ok(place)
    }

    /// The body of a record at its place.
    ///
    /// # Errors
    /// [`RecordError`] if it is not what was sealed there at that generation.
    pub fn open(
        &self,
        realm_key: &SealingKey,
        place: &Place,
        generation: u64,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, RecordError> {
        let (_, body) = split(sealed)?;
        Ok(realm_key.open(BODY_LABEL, &place.associated_data(generation), body)?)
    }
}

fn split(sealed: &[u8]) -> Result<(&[u8], &[u8]), RecordError> {
    let (len, rest) = sealed.split_first_chunk::<2>().ok_or(RecordError::Short)?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))
        .ok_or(RecordError::Short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;

    fn cabinet() -> Cabinet {
        Cabinet::new(&[7; 32]).unwrap()
    }

    fn key(byte: u8) -> SealingKey {
        SealingKey::new(Zeroizing::new([byte; 32]))
    }

    fn place(tenant: &str, table: Table, name: &str) -> Place {
        Place::tenant(&TenantId::parse(tenant).unwrap(), table, name)
    }

    #[test]
    fn a_record_opens_at_its_own_place_and_generation_only() {
        let (cabinet, rng) = (cabinet(), SystemRandom::new());
        let home = place("acme", Table::Grants, "g1");
        let write = cabinet.seal(&rng, &key(1), &home, 4, b"body").unwrap();
        let sealed = write.sealed.unwrap();
        let record = |key, sealed: &[u8]| Record {
            key,
            generation: 5,
            sealed: sealed.into(),
        };
        assert_eq!(
            cabinet.locate(&record(write.key, &sealed)),
            Ok(home.clone())
        );
        let opened = cabinet.open(&key(1), &home, 5, &sealed).unwrap();
        assert_eq!(opened.as_slice(), b"body");

        let refused = Err(RecordError::Seal(SealError::NotAuthentic));
        let rows = [
            ("older generation", key(1), home.clone(), 4),
            ("newer generation", key(1), home.clone(), 6),
            ("another tenant's key", key(2), home.clone(), 5),
            (
                "another tenant's place",
                key(1),
                place("other", Table::Grants, "g1"),
                5,
            ),
            (
                "another table",
                key(1),
                place("acme", Table::Custody, "g1"),
                5,
            ),
            (
                "another name",
                key(1),
                place("acme", Table::Grants, "g2"),
                5,
            ),
            (
                "the system's place",
                key(1),
                Place::system(Table::Grants, "g1"),
                5,
            ),
        ];
        for (what, realm_key, at, generation) in rows {
            let found = cabinet
                .open(&realm_key, &at, generation, &sealed)
                .map(|body| body.to_vec());
            assert_eq!(found, refused, "{what}");
        }
        let elsewhere = cabinet.key(&place("acme", Table::Grants, "g2"));
        assert_eq!(
            cabinet.locate(&record(elsewhere, &sealed)),
            Err(RecordError::Seal(SealError::NotAuthentic))
        );
        assert_eq!(
            cabinet.locate(&record(write.key, &[9])),
            Err(RecordError::Short)
        );
        assert_eq!(
            cabinet.locate(&record(write.key, &[1, 0, 0])),
            Err(RecordError::Short)
        );
    }
}
