//! Webhooks: made by a tenant's owner, seen by those who see the tenant, deleted by those who guard it; and how far each
//! was served.

use std::collections::BTreeSet;

use ring::digest;

use super::register::known_tenant;
use super::{AdminError, Administrator, EventKind, EventReader, forbid_unless};
use crate::Enclave;
use crate::audit::Event;
use crate::freeze::Touched;
use crate::http_url::HttpUrl;
use crate::ids::{TenantId, WebhookId};
use crate::mint::token_id;
use crate::pending::Pending;
use crate::record::{Place, RecordError, Table};
use crate::store::{Batch, Write};
use crate::time::Now;
use crate::view::{Effect, Held, View};
use crate::webhook::Webhook;

/// The most webhooks of one tenant.
pub const MAX_WEBHOOKS_OF_A_TENANT: usize = 8;

/// A webhook that nothing was taken by for so long is given up.
pub const GIVE_UP_AFTER_S: u64 = 3 * 86_400;

/// A webhook that is to be.
#[derive(Clone, Debug)]
pub struct NewWebhook {
    /// Its id.
    pub id: WebhookId,
    /// Whose events.
    pub tenant: TenantId,
    /// Where they are posted to.
    pub url: HttpUrl,
    /// Which; all if there is none.
    pub kinds: BTreeSet<EventKind>,
    /// The position in the control log of the first leaf to look at.
    pub from: u64,
}

impl Enclave {
    /// Makes a webhook, for the tenant's owner: it gives the tenant's events to whoever answers at the URL.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn create_webhook(
        &self,
        by: &Administrator,
        new: NewWebhook,
        now: &Now,
    ) -> Result<Pending<Webhook>, AdminError> {
        let NewWebhook {
            id,
            tenant,
            url,
            kinds,
            from,
        } = new;
        forbid_unless(by.owns_tenant(&tenant))?;
        // Without TLS whoever listens in reads them; an emulated enclave has nothing to lose.
        if !url.is_https() && !self.config.emulated {
            return Err(AdminError::Field {
                field: "webhook.url",
                rule: "must be https",
            });
        }
        let view = self.view.read();
        known_tenant(&view, &tenant)?;
        if view.webhooks.contains_key(&(tenant.clone(), id.clone())) {
            return Err(AdminError::Exists("webhook"));
        }
        if of_tenant(&view, &tenant).count() >= MAX_WEBHOOKS_OF_A_TENANT {
            return Err(AdminError::Field {
                field: "webhook",
                rule: "a tenant has at most 8",
            });
        }
        let webhook = Webhook {
            id,
            made: token_id(&*self.rng)?,
            tenant,
            url,
            kinds,
            created_at_s: now.lo_s,
            by: by.name.clone(),
            next: from,
            failing_since_s: None,
            disabled_at_s: None,
        };
        let event = Event::WebhookCreated {
            webhook: &webhook.id,
            origin: webhook.url.origin(),
            url_sha256: sha256_hex(webhook.url.as_str()),
            kinds: webhook.kinds.iter().map(|kind| kind.word()).collect(),
            by: &by.name,
        };
        let leaf = self.leaf(&view, Some(&webhook.tenant), &event, now)?;
        let (write, effect) = self.webhook_write(&view, 0, webhook.clone())?;
        let batch = Batch {
            writes: vec![write],
            leaves: vec![leaf],
        };
        Ok(Pending::new(
            batch,
            vec![effect],
            Touched::nothing(),
            webhook,
        ))
    }

    /// Deletes a webhook. Nothing is posted any more when this is durable, but what is on its way.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] if there is none.
    pub fn delete_webhook(
        &self,
        by: &Administrator,
        tenant: &TenantId,
        id: &WebhookId,
        now: &Now,
    ) -> Result<Pending<()>, AdminError> {
        forbid_unless(by.guards_tenant(tenant))?;
        let view = self.view.read();
        let name = (tenant.clone(), id.clone());
        let held = view.webhooks.get(&name);
        let held = held.ok_or(AdminError::NotFound("webhook"))?;
        let event = Event::WebhookDeleted {
            webhook: id,
            by: &by.name,
        };
        let leaf = self.leaf(&view, Some(tenant), &event, now)?;
        let batch = Batch {
            writes: vec![Write {
                key: self.cabinet.key(&webhook_place(tenant, id)),
                expected_generation: held.generation,
                sealed: None,
            }],
            leaves: vec![leaf],
        };
        let effects = vec![Effect::WebhookGone(name)];
        Ok(Pending::new(batch, effects, Touched::nothing(), ()))
    }

    /// The webhooks of a tenant, by id, for those who see the tenant. Of the URL, who does not guard the tenant sees
    /// no path: it may be what lets one post there.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn webhooks(
        &self,
        by: &Administrator,
        tenant: &TenantId,
    ) -> Result<Vec<Webhook>, AdminError> {
        forbid_unless(by.sees_tenant(tenant))?;
        let view = self.view.read();
        known_tenant(&view, tenant)?;
        let all = of_tenant(&view, tenant).cloned();
        Ok(if by.guards_tenant(tenant) {
            all.collect()
        } else {
            all.map(Webhook::without_path).collect()
        })
    }

    /// One webhook, for those who see the tenant.
    ///
    /// # Errors
    /// [`AdminError::NotFound`] if there is none.
    pub fn webhook(
        &self,
        by: &Administrator,
        tenant: &TenantId,
        id: &WebhookId,
    ) -> Result<Webhook, AdminError> {
        let all = self.webhooks(by, tenant)?;
        let found = all.into_iter().find(|webhook| webhook.id == *id);
        found.ok_or(AdminError::NotFound("webhook"))
    }

    /// A webhook that a test may be posted to, for those who guard the tenant.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn webhook_to_test(
        &self,
        by: &Administrator,
        tenant: &TenantId,
        id: &WebhookId,
    ) -> Result<Webhook, AdminError> {
        forbid_unless(by.guards_tenant(tenant))?;
        self.webhook(by, tenant, id)
    }

    /// All webhooks that are served.
    #[must_use]
    pub fn served_webhooks(&self) -> Vec<Webhook> {
        let view = self.view.read();
        let all = view.webhooks.values().map(|held| &*held.value);
        all.filter(|webhook| webhook.disabled_at_s.is_none())
            .cloned()
            .collect()
    }

    /// Whether a webhook is still there and served: not deleted, made anew or given up since, its tenant not erased.
    #[must_use]
    pub fn is_served(&self, webhook: &Webhook) -> bool {
        let view = self.view.read();
        held(&view, webhook).is_some_and(|held| held.value.disabled_at_s.is_none())
    }

    /// Reads the events of a webhook; none if its tenant has no key any more.
    #[must_use]
    pub fn webhook_reader(&self, webhook: &Webhook) -> Option<EventReader> {
        self.reader_of(&webhook.tenant, webhook.kinds.clone())
    }

    /// A webhook's events were taken up to a position, and it takes them: nothing before it is posted again. None if it
    /// is gone, or that is known.
    ///
    /// # Errors
    /// [`RecordError`] if it can't be sealed.
    pub fn webhook_served(
        &self,
        webhook: &Webhook,
        next: u64,
    ) -> Result<Option<Pending<()>>, RecordError> {
        self.change_webhook(webhook, |served| {
            served.next = served.next.max(next);
            served.failing_since_s = None;
        })
    }

    /// A webhook takes nothing since a time. None if it is gone, or that is known.
    ///
    /// # Errors
    /// [`RecordError`] if it can't be sealed.
    pub fn webhook_fails(
        &self,
        webhook: &Webhook,
        since_s: u64,
    ) -> Result<Option<Pending<()>>, RecordError> {
        self.change_webhook(webhook, |failing| {
            failing.failing_since_s.get_or_insert(since_s);
        })
    }

    /// A webhook that nothing was taken by for too long is given up, with a leaf. None if it is gone.
    ///
    /// # Errors
    /// [`RecordError`] if it can't be sealed.
    pub fn give_up_webhook(
        &self,
        webhook: &Webhook,
        now: &Now,
    ) -> Result<Option<Pending<()>>, RecordError> {
        let view = self.view.read();
        let Some(held) = held(&view, webhook) else {
            return Ok(None);
        };
        let mut given_up = (*held.value).clone();
        given_up.disabled_at_s = Some(now.lo_s);
        let event = Event::WebhookDisabled {
            webhook: &given_up.id,
            failing_since_s: given_up.failing_since_s.unwrap_or(now.lo_s),
            next: given_up.next,
        };
        let leaf = self.leaf(&view, Some(&given_up.tenant), &event, now)?;
        let (write, effect) = self.webhook_write(&view, held.generation, given_up)?;
        let batch = Batch {
            writes: vec![write],
            leaves: vec![leaf],
        };
        Ok(Some(Pending::new(
            batch,
            vec![effect],
            Touched::nothing(),
            (),
        )))
    }

    fn change_webhook(
        &self,
        webhook: &Webhook,
        change: impl FnOnce(&mut Webhook),
    ) -> Result<Option<Pending<()>>, RecordError> {
        let view = self.view.read();
        let Some(held) = held(&view, webhook) else {
            return Ok(None);
        };
        let mut changed = (*held.value).clone();
        change(&mut changed);
        if changed == *held.value {
            return Ok(None);
        }
        let (write, effect) = self.webhook_write(&view, held.generation, changed)?;
        let batch = Batch {
            writes: vec![write],
            leaves: Vec::new(),
        };
        Ok(Some(Pending::new(
            batch,
            vec![effect],
            Touched::nothing(),
            (),
        )))
    }

    fn webhook_write(
        &self,
        view: &View,
        generation: u64,
        webhook: Webhook,
    ) -> Result<(Write, Effect), RecordError> {
        let key = view.realm_key(&webhook.tenant)?;
        let place = webhook_place(&webhook.tenant, &webhook.id);
        let write = self.seal_json(&key, &place, generation, &webhook)?;
        let held = Held::new(generation.saturating_add(1), webhook);
        Ok((write, Effect::Webhook(held)))
    }
}

fn webhook_place(tenant: &TenantId, id: &WebhookId) -> Place {
    Place::tenant(tenant, Table::Webhooks, id.as_str())
}

/// The webhook as it is now; none if it is gone, though another may have its id.
fn held<'v>(view: &'v View, webhook: &Webhook) -> Option<&'v Held<Webhook>> {
    let name = (webhook.tenant.clone(), webhook.id.clone());
    let held = view.webhooks.get(&name);
    held.filter(|held| held.value.made == webhook.made)
}

fn sha256_hex(text: &str) -> String {
    hex::encode(digest::digest(&digest::SHA256, text.as_bytes()))
}

fn of_tenant<'v>(view: &'v View, tenant: &'v TenantId) -> impl Iterator<Item = &'v Webhook> {
    let all = view.webhooks.iter();
    all.filter(move |((of, _), _)| of == tenant)
        .map(|(_, held)| &*held.value)
}

#[cfg(test)]
mod tests {
    use super::super::Role;
    use super::*;
    use crate::registry::Rotation;
    use crate::testing::{World, id};

    fn administrator(roles: Vec<Role>) -> Administrator {
        Administrator {
            name: "who".into(),
            spki_sha256: [7; 32],
            roles,
        }
    }

    fn owner() -> Administrator {
        administrator(vec![Role::Tenant(id("acme"))])
    }

    fn new(name: &str) -> NewWebhook {
        NewWebhook {
            id: id(name),
            tenant: id("acme"),
            url: HttpUrl::parse("https://siem.example/hook").unwrap(),
            kinds: BTreeSet::new(),
            from: 3,
        }
    }

    fn create(world: &World, name: &str) -> Webhook {
        let made = world
            .enclave
            .create_webhook(&owner(), new(name), &world.now);
        world.settle(made.unwrap())
    }

    #[test]
    fn a_webhook_is_kept_over_a_restart_with_how_far_it_was_served() {
        let mut world = World::new(Rotation::Strict);
        let made = create(&world, "siem");
        assert_eq!((made.next, made.failing_since_s), (3, None));
        let fails = world.enclave.webhook_fails(&made, 50).unwrap();
        world.settle(fails.unwrap());
        assert!(world.enclave.webhook_fails(&made, 60).unwrap().is_none());
        world.restart();
        let kept = world.enclave.served_webhooks();
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].next, kept[0].failing_since_s), (3, Some(50)));
        let served = world.enclave.webhook_served(&made, 9).unwrap();
        world.settle(served.unwrap());
        // It never goes back.
        assert!(world.enclave.webhook_served(&made, 5).unwrap().is_none());
        let given_up = world.enclave.give_up_webhook(&made, &world.now).unwrap();
        world.settle(given_up.unwrap());
        world.restart();
        assert_eq!(world.enclave.served_webhooks(), []);
        let kept = world.enclave.webhook(&owner(), &id("acme"), &id("siem"));
        let kept = kept.unwrap();
        assert_eq!((kept.next, kept.failing_since_s), (9, None));
        assert_eq!(kept.disabled_at_s, Some(world.now.lo_s));
        let deleted = world
            .enclave
            .delete_webhook(&owner(), &id("acme"), &id("siem"), &world.now);
        world.settle(deleted.unwrap());
        assert!(world.enclave.webhook_served(&made, 20).unwrap().is_none());
        world.restart();
        assert_eq!(
            world.enclave.webhooks(&owner(), &id("acme")),
            Ok(Vec::new())
        );
    }

    #[test]
    fn one_that_is_made_anew_has_nothing_of_the_one_before() {
        let world = World::new(Rotation::Strict);
        let before = create(&world, "siem");
        let fails = world.enclave.webhook_fails(&before, 50).unwrap();
        world.settle(fails.unwrap());
        let acme = id("acme");
        let deleted = world
            .enclave
            .delete_webhook(&owner(), &acme, &before.id, &world.now);
        world.settle(deleted.unwrap());
        assert!(!world.enclave.is_served(&before));
        let after = create(&world, "siem");
        assert_ne!(before.made, after.made);
        // Who still serves the one before changes nothing of this one.
        let enclave = &world.enclave;
        assert!(enclave.webhook_served(&before, 9).unwrap().is_none());
        assert!(enclave.webhook_fails(&before, 60).unwrap().is_none());
        let given_up = enclave.give_up_webhook(&before, &world.now).unwrap();
        assert!(given_up.is_none());
        assert!(!enclave.is_served(&before) && enclave.is_served(&after));
        assert_eq!(enclave.served_webhooks(), std::slice::from_ref(&after));
        assert_eq!((after.next, after.failing_since_s), (3, None));
        let given_up = enclave.give_up_webhook(&after, &world.now).unwrap();
        world.settle(given_up.unwrap());
        assert!(!world.enclave.is_served(&after));
    }

    #[test]
    fn auditors_and_the_log_have_no_path_of_the_url() {
        let world = World::new(Rotation::Strict);
        let made = create(&world, "siem");
        let acme: TenantId = id("acme");
        let url = |role: Role| {
            let by = administrator(vec![role]);
            let found = world.enclave.webhook(&by, &acme, &made.id).unwrap();
            found.url.as_str().to_owned()
        };
        let whole = "https://siem.example/hook";
        assert_eq!(url(Role::Tenant(acme.clone())), whole);
        assert_eq!(url(Role::TenantSecurity(acme.clone())), whole);
        let auditor = Role::TenantAuditor(acme.clone());
        assert_eq!(url(auditor), "https://siem.example/");
        let reader = world.enclave.leaf_reader(&owner(), Some(&acme)).unwrap();
        let leaves = world.store.leaves.lock();
        let last = world
            .enclave
            .read_leaf(&reader, &leaves.last().unwrap().bytes);
        let event: serde_json::Value = serde_json::from_str(&last.unwrap().event.unwrap()).unwrap();
        assert_eq!(event["origin"], "https://siem.example");
        assert_eq!(event["url_sha256"], sha256_hex(whole));
        assert!(!event.to_string().contains("/hook"), "{event}");
    }

    #[test]
    fn each_role_reaches_its_own() {
        let world = World::new(Rotation::Strict);
        create(&world, "siem");
        let acme: TenantId = id("acme");
        let siem: WebhookId = id("siem");
        // Makes, deletes or tests, sees.
        let rows = [
            (Role::Tenant(acme.clone()), true, true, true),
            (Role::TenantSecurity(acme.clone()), false, true, true),
            (Role::TenantAuditor(acme.clone()), false, false, true),
            (Role::Operator, false, false, false),
            (Role::Vendor(id("crm-sync")), false, false, false),
            (Role::Tenant(id("other")), false, false, false),
        ];
        for (role, makes, guards, sees) in rows {
            let by = administrator(vec![role.clone()]);
            let made = world.enclave.create_webhook(&by, new("more"), &world.now);
            let refused = |allowed: bool| (!allowed).then_some(AdminError::Forbidden);
            assert_eq!(made.err(), refused(makes), "{role:?}");
            let deleted = world.enclave.delete_webhook(&by, &acme, &siem, &world.now);
            assert_eq!(deleted.err(), refused(guards), "{role:?}");
            let tested = world.enclave.webhook_to_test(&by, &acme, &siem);
            assert_eq!(tested.err(), refused(guards), "{role:?}");
            let listed = world.enclave.webhooks(&by, &acme);
            assert_eq!(listed.err(), refused(sees), "{role:?}");
        }
    }

    #[test]
    fn what_can_be_no_webhook_is_refused() {
        let world = World::new(Rotation::Strict);
        create(&world, "siem");
        let made = world
            .enclave
            .create_webhook(&owner(), new("siem"), &world.now);
        assert_eq!(made.err(), Some(AdminError::Exists("webhook")));
        for number in 1..MAX_WEBHOOKS_OF_A_TENANT {
            create(&world, &format!("w{number}"));
        }
        let made = world
            .enclave
            .create_webhook(&owner(), new("more"), &world.now);
        let full = AdminError::Field {
            field: "webhook",
            rule: "a tenant has at most 8",
        };
        assert_eq!(made.err(), Some(full));
        let nobody = administrator(vec![Role::Tenant(id("nobody"))]);
        let of_nobody = NewWebhook {
            tenant: id("nobody"),
            ..new("siem")
        };
        let made = world.enclave.create_webhook(&nobody, of_nobody, &world.now);
        assert_eq!(made.err(), Some(AdminError::NotFound("tenant")));
        let gone = world.enclave.webhook(&owner(), &id("acme"), &id("other"));
        assert_eq!(gone.err(), Some(AdminError::NotFound("webhook")));
    }
}
