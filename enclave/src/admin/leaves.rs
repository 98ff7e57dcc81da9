//! Reading leaves again, for administrators: what is private in a leaf opens for those who act for its tenant, and
//! for the operator where it is of no tenant.

use std::collections::HashMap;
use std::sync::Arc;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Deserialize;

use super::{AdminError, Administrator};
use crate::Enclave;
use crate::audit::{SEAL_LABEL, VERSION, private_place};
use crate::ids::TenantId;

/// What an administrator may read of the leaves.
#[derive(Debug)]
pub struct LeafReader {
    /// By the tag that leaves name the tenant with. Its key is looked up for each leaf: it may be replaced meanwhile,
    /// or destroyed.
    tenants: HashMap<String, TenantId>,
    /// Whether it may read what is of no tenant.
    system: bool,
    /// Whether it sees its tenants' leaves only.
    only_own: bool,
}

/// A leaf that an administrator sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadLeaf {
    /// Whose it is, if the administrator may read it and it is a tenant's.
    pub tenant: Option<TenantId>,
    /// What happened, as JSON, if the administrator may read it.
    pub event: Option<String>,
}

/// What is read of a leaf.
#[derive(Deserialize)]
struct Seen<'a> {
    v: u8,
    boot: &'a str,
    kind: &'a str,
    tenant: Option<&'a str>,
    seq: u64,
    private: &'a str,
}

impl Enclave {
    /// What an administrator may read of the leaves: of one tenant, or of all.
    ///
    /// # Errors
    /// [`AdminError::Forbidden`] if it does not act for the tenant, [`AdminError::NotFound`] if the tenant has no
    /// key.
    pub fn leaf_reader(
        &self,
        by: &Administrator,
        tenant: Option<&TenantId>,
    ) -> Result<LeafReader, AdminError> {
        let view = self.view.read();
        let mut reader = LeafReader {
            tenants: HashMap::new(),
            system: by.is_operator() && tenant.is_none(),
            only_own: tenant.is_some(),
        };
        if let Some(tenant) = tenant
            && !by.sees_tenant(tenant)
        {
            return Err(AdminError::Forbidden);
        }
        let own = by.tenants();
        for own in own.filter(|own| tenant.is_none_or(|tenant| tenant == *own)) {
            if let Ok(held) = view.tenant_key(own) {
                reader.tenants.insert(held.tag.to_string(), own.clone());
            }
        }
        if tenant.is_some() && reader.tenants.is_empty() {
            return Err(AdminError::NotFound("tenant"));
        }
        Ok(reader)
    }

    /// What an administrator reads of a leaf; none if it is not among those asked for. What can't be opened is shown
    /// as it is.
    #[must_use]
    pub fn read_leaf(&self, reader: &LeafReader, entry: &[u8]) -> Option<ReadLeaf> {
        let unread = (!reader.only_own).then(ReadLeaf::default);
        let Ok(seen) = serde_json::from_slice::<Seen<'_>>(entry) else {
            return unread;
        };
        if seen.v != VERSION {
            return unread;
        }
        let (tenant, key) = match seen.tenant {
            Some(tag) => {
                let Some(tenant) = reader.tenants.get(tag) else {
                    return unread;
                };
                // Erased since: it is as closed as anybody else's.
                let Ok(key) = self.view.read().realm_key(tenant) else {
                    return unread;
                };
                (Some(tenant.clone()), key)
            }
            None if reader.system => (None, Arc::clone(&self.system_key)),
            None => return unread,
        };
        let place = private_place(seen.boot, seen.kind, seen.seq);
        let sealed = Base64UrlUnpadded::decode_vec(seen.private).ok();
        let opened = sealed.and_then(|sealed| key.open(SEAL_LABEL, &place, &sealed).ok());
        let event = opened.and_then(|opened| String::from_utf8(opened.to_vec()).ok());
        Some(ReadLeaf { tenant, event })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Role;
    use super::*;
    use crate::registry::Rotation;
    use crate::store::Log;
    use crate::testing::{World, id};

    fn administrator(roles: Vec<Role>) -> Administrator {
        Administrator {
            name: "who".into(),
            spki_sha256: [7; 32],
            roles,
        }
    }

    /// The kinds of the events that a reader sees of the store's leaves, none for what it sees closed.
    fn read(world: &World, reader: &LeafReader) -> Vec<(Option<String>, Option<String>)> {
        let leaves = world.store.leaves.lock();
        let seen = leaves.iter().filter_map(|leaf| {
            let read = world.enclave.read_leaf(reader, &leaf.bytes)?;
            let event = read.event.map(|event| {
                let event: serde_json::Value = serde_json::from_str(&event).unwrap();
                event["event"].as_str().unwrap().to_owned()
            });
            Some((read.tenant.map(String::from), event))
        });
        seen.collect()
    }

    #[test]
    fn what_is_private_opens_for_its_tenant_alone() {
        let world = World::new(Rotation::Strict);
        world.ask(|_| {}).unwrap();
        let acme: TenantId = id("acme");
        let all = world.store.leaves.lock().len();
        let of = |kind: &str| (Some("acme".to_owned()), Some(kind.to_owned()));

        let owner = administrator(vec![Role::Tenant(acme.clone())]);
        let reader = world.enclave.leaf_reader(&owner, Some(&acme)).unwrap();
        assert_eq!(read(&world, &reader), [of("deposited"), of("token_issued")]);

        // Of all leaves the others are shown as they are.
        let reader = world.enclave.leaf_reader(&owner, None).unwrap();
        let seen = read(&world, &reader);
        assert_eq!(seen.len(), all);
        let open = seen.iter().filter(|(_, event)| event.is_some()).count();
        assert_eq!(open, 2);

        // The operator reads what is of no tenant, and no tenant's.
        let operator = administrator(vec![Role::Operator]);
        let reader = world.enclave.leaf_reader(&operator, None).unwrap();
        let seen = read(&world, &reader);
        assert_eq!(seen.iter().filter(|(_, event)| event.is_none()).count(), 2);
        assert!(seen.iter().all(|(tenant, _)| tenant.is_none()));

        let vendor = administrator(vec![Role::Vendor(id("crm-sync"))]);
        let reader = world.enclave.leaf_reader(&vendor, None).unwrap();
        let closed = vec![(None, None); all];
        assert_eq!(read(&world, &reader), closed);
        let other: TenantId = id("other");
        for (by, tenant, expected) in [
            (&operator, &acme, AdminError::Forbidden),
            (&vendor, &acme, AdminError::Forbidden),
            (&owner, &other, AdminError::Forbidden),
            (
                &administrator(vec![Role::Tenant(other.clone())]),
                &other,
                AdminError::NotFound("tenant"),
            ),
        ] {
            let refused = world.enclave.leaf_reader(by, Some(tenant)).unwrap_err();
            assert_eq!(refused, expected);
        }
    }

    #[test]
    fn a_reader_follows_its_tenants_key_and_reads_nothing_without_it() {
        let world = World::new(Rotation::Strict);
        let acme: TenantId = id("acme");
        let owner = administrator(vec![Role::Tenant(acme.clone())]);
        let reader = world.enclave.leaf_reader(&owner, Some(&acme)).unwrap();
        let rotated = world.enclave.rotate_tenant_key(&owner, &acme, &world.now);
        world.settle(rotated.unwrap());
        world.ask(|_| {}).unwrap();
        let of = |kind: &str| (Some("acme".to_owned()), Some(kind.to_owned()));
        let all = [
            of("deposited"),
            of("tenant_key_rotated"),
            of("token_issued"),
        ];
        assert_eq!(read(&world, &reader), all);
        let erased = world.enclave.erase_tenant(&owner, &acme, &world.now);
        world.settle(erased.unwrap());
        assert_eq!(read(&world, &reader), []);
    }

    #[test]
    fn what_is_no_leaf_of_ours_is_shown_closed() {
        let world = World::new(Rotation::Strict);
        world.ask(|_| {}).unwrap();
        let acme: TenantId = id("acme");
        let owner = administrator(vec![Role::Tenant(acme.clone())]);
        let reader = world.enclave.leaf_reader(&owner, None).unwrap();
        let own = world.enclave.leaf_reader(&owner, Some(&acme)).unwrap();
        let leaves = world.store.leaves.lock();
        let good = leaves
            .iter()
            .rfind(|leaf| leaf.log == Log::Issuance)
            .unwrap();
        let good: serde_json::Value = serde_json::from_slice(&good.bytes).unwrap();
        let with = |name: &str, value: serde_json::Value| {
            let mut leaf = good.clone();
            leaf[name] = value;
            leaf.to_string().into_bytes()
        };
        let tenants = ReadLeaf {
            tenant: Some(acme),
            event: None,
        };
        let rows = [
            (b"{".to_vec(), ReadLeaf::default(), None),
            (with("v", 2.into()), ReadLeaf::default(), None),
            (with("tenant", "other".into()), ReadLeaf::default(), None),
            (with("tenant", ().into()), ReadLeaf::default(), None),
            // Moved to another place, it does not open.
            (
                with("boot", "00".into()),
                tenants.clone(),
                Some(tenants.clone()),
            ),
            (
                with("kind", "refreshed".into()),
                tenants.clone(),
                Some(tenants.clone()),
            ),
            (
                with("seq", 9.into()),
                tenants.clone(),
                Some(tenants.clone()),
            ),
            (with("private", "A".into()), tenants.clone(), Some(tenants)),
        ];
        for (leaf, all, filtered) in rows {
            let text = String::from_utf8_lossy(&leaf);
            assert_eq!(world.enclave.read_leaf(&reader, &leaf), Some(all), "{text}");
            assert_eq!(world.enclave.read_leaf(&own, &leaf), filtered, "{text}");
        }
    }
}
