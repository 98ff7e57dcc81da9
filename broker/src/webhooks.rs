//! Posts tenants' events to their webhooks: in their order, at least once, again and again until they are taken or the
//! webhook is given up. How far each was served is a position in the log, so nothing waits in a queue.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use enclave::admin::GIVE_UP_AFTER_S;
use enclave::ids::{TenantId, WebhookId};
use enclave::pending::Pending;
use enclave::record::RecordError;
use enclave::webhook::{AtPosition, Delivery, Webhook};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::event_feed::PlacedEvent;
use crate::events;
use crate::shell::Shell;
use crate::upstream::{Egress, UpstreamError};

/// How often is looked for new events. To look costs the reading of a number.
const ROUND: Duration = Duration::from_millis(500);

/// Webhooks that are posted to at a time.
const AT_ONCE: usize = 16;

/// The wait after a first failure; it doubles with each, up to the longest.
const WAITS_MS: (u64, u64) = (1_000, 600_000);

/// How often it is written down how far a webhook was served, while nothing is posted: as far back it looks again after
/// a restart.
const NOTE_MS: u64 = 60_000;

/// The event's id, which is the same each time that it is posted.
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// When it was posted, Unix time in seconds.
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// Compact JWS with detached content over the body.
const SIGNATURE: HeaderName = HeaderName::from_static("tokenkeep-signature");

type Name = (TenantId, WebhookId);

/// Where a webhook stands in this boot.
#[derive(Clone, Copy, Debug)]
struct Standing {
    next: u64,
    noted_ms: u64,
    due_ms: u64,
    failures: u32,
    under_way: bool,
}

/// Why an event was not taken.
#[derive(Clone, Debug, PartialEq)]
pub enum NotTaken {
    /// The answer was another than 2xx.
    Status(StatusCode),
    /// There was none.
    Upstream(UpstreamError),
    /// It could not be made.
    Made,
}

impl NotTaken {
    /// The stable word for it.
    #[must_use]
    pub fn word(&self) -> String {
        match self {
            Self::Status(status) => format!("status {}", status.as_u16()),
            Self::Upstream(UpstreamError::NotSent { why }) => why.to_string(),
            Self::Upstream(UpstreamError::Ambiguous { why }) => why.to_string(),
            Self::Made => "it could not be signed".to_owned(),
        }
    }
}

/// Posts.
#[derive(Debug)]
pub struct Poster {
    shell: Arc<Shell>,
    egress: Egress,
    standings: Mutex<HashMap<Name, Standing>>,
    turns: Arc<Semaphore>,
    tasks: TaskTracker,
}

/// The wait before the next try.
fn wait_ms(failures: u32, random: u8) -> u64 {
    let (first, longest) = WAITS_MS;
    let factor = 1_u64.checked_shl(failures.min(32)).unwrap_or(u64::MAX);
    let wait = first.saturating_mul(factor).min(longest);
    // Between three quarters and all of it, so that many don't come at once.
    let part = wait
        .saturating_mul(u64::from(random))
        .checked_div(1_020)
        .unwrap_or(0);
    wait.saturating_sub(part)
}

fn headers(delivery: &Delivery) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(WEBHOOK_ID, HeaderValue::try_from(&delivery.id).ok()?);
    headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(delivery.timestamp_s));
    headers.insert(SIGNATURE, HeaderValue::try_from(&delivery.signature).ok()?);
    Some(headers)
}

impl Poster {
    /// By the way out of the gateway: its classes of addresses, its roots, its bounds.
    #[must_use]
    pub fn new(shell: Arc<Shell>, egress: Egress) -> Arc<Self> {
        Arc::new(Self {
            shell,
            egress,
            standings: Mutex::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            tasks: TaskTracker::new(),
        })
    }

    /// Posts until it is stopped. What it does not finish is posted after the next start.
    pub async fn keep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(ROUND).await;
            let webhooks = self.shell.enclave.served_webhooks();
            self.forget(&webhooks);
            for webhook in webhooks {
                let Some(standing) = self.enter(&webhook) else {
                    continue;
                };
                let Ok(turn) = Arc::clone(&self.turns).try_acquire_owned() else {
                    self.leave(&webhook, |_| {});
                    continue;
                };
                let poster = Arc::clone(&self);
                self.tasks.spawn(async move {
                    poster.serve(&webhook, standing).await;
                    drop(turn);
                });
            }
        }
    }

    /// Deleted ones, and those that were given up, are forgotten.
    fn forget(&self, webhooks: &[Webhook]) {
        let mut standings = self.standings.lock();
        if standings.len() > webhooks.len() {
            let there = |name: &Name| {
                let mut all = webhooks.iter();
                all.any(|webhook| webhook.tenant == name.0 && webhook.id == name.1)
            };
            standings.retain(|name, standing| standing.under_way || there(name));
        }
    }

    /// Where a webhook stands, if it is due and nobody serves it.
    fn enter(&self, webhook: &Webhook) -> Option<Standing> {
        let now_ms = self.shell.clock.now().mono_ms;
        let mut standings = self.standings.lock();
        let name = (webhook.tenant.clone(), webhook.id.clone());
        let standing = standings.entry(name).or_insert(Standing {
            next: webhook.next,
            noted_ms: now_ms,
            due_ms: 0,
            failures: 0,
            under_way: false,
        });
        // One that was deleted and made anew begins anew.
        standing.next = standing.next.max(webhook.next);
        if standing.under_way || standing.due_ms > now_ms {
            return None;
        }
        standing.under_way = true;
        Some(*standing)
    }

    fn leave(&self, webhook: &Webhook, change: impl FnOnce(&mut Standing)) {
        let name = (webhook.tenant.clone(), webhook.id.clone());
        if let Some(standing) = self.standings.lock().get_mut(&name) {
            standing.under_way = false;
            change(standing);
        }
    }

    /// Posts what there is, until there is no more or something is not taken.
    async fn serve(&self, webhook: &Webhook, standing: Standing) {
        let mut next = standing.next;
        let mut posted = false;
        let failed = loop {
            let Some(reader) = self.shell.enclave.webhook_reader(webhook) else {
                break None;
            };
            let Ok(found) = self.shell.events(&reader, next).await else {
                break None;
            };
            let mut failed = None;
            for placed in &found.events {
                match self.post_event(webhook, placed).await {
                    Ok(()) => {
                        posted = true;
                        next = placed.position.saturating_add(1);
                    }
                    Err(why) => {
                        failed = Some(why);
                        break;
                    }
                }
            }
            if failed.is_some() {
                break failed;
            }
            next = found.next;
            if found.at_end {
                break None;
            }
        };
        let now = self.shell.clock.now();
        let is_late = now.mono_ms.saturating_sub(standing.noted_ms) >= NOTE_MS;
        let mut noted_ms = standing.noted_ms;
        if posted || (is_late && next > standing.next) {
            let served = self.shell.enclave.webhook_served(webhook, next);
            if self.write(served).await {
                noted_ms = now.mono_ms;
            }
        }
        let Some(why) = failed else {
            self.leave(webhook, |standing| {
                (standing.next, standing.noted_ms) = (next, noted_ms);
                (standing.failures, standing.due_ms) = (0, 0);
            });
            return;
        };
        events::webhook_failed(&webhook.tenant, &webhook.id, &why);
        self.fails(webhook, posted).await;
        let mut random = [0];
        // Without randomness they come at once.
        SystemRandom::new().fill(&mut random).unwrap_or_default();
        let [random] = random;
        self.leave(webhook, |standing| {
            (standing.next, standing.noted_ms) = (next, noted_ms);
            if posted {
                standing.failures = 0;
            }
            let wait_ms = wait_ms(standing.failures, random);
            standing.failures = standing.failures.saturating_add(1);
            standing.due_ms = now.mono_ms.saturating_add(wait_ms);
        });
    }

    /// Notes that a webhook takes nothing, and gives it up when that lasts.
    async fn fails(&self, webhook: &Webhook, posted: bool) {
        let now = self.shell.clock.now();
        let since_s = webhook.failing_since_s.filter(|_| !posted);
        match since_s {
            Some(since_s) if now.lo_s.saturating_sub(since_s) >= GIVE_UP_AFTER_S => {
                let given_up = self.shell.enclave.give_up_webhook(webhook, &now);
                if self.write(given_up).await {
                    events::webhook_disabled(&webhook.tenant, &webhook.id);
                }
            }
            Some(_) => {}
            None => {
                let fails = self.shell.enclave.webhook_fails(webhook, now.lo_s);
                self.write(fails).await;
            }
        }
    }

    async fn post_event(&self, webhook: &Webhook, placed: &PlacedEvent) -> Result<(), NotTaken> {
        let at = AtPosition {
            position: placed.position,
            leaf_hash: placed.leaf_hash.as_bytes(),
            event: &placed.event,
        };
        let now = self.shell.clock.now();
        let delivery = self.shell.enclave.sign_event(webhook, &at, &now);
        let delivery = delivery.map_err(|_| NotTaken::Made)?;
        self.post(delivery).await.map(drop)
    }

    /// Posts a test, once.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub async fn test(&self, webhook: &Webhook) -> Result<(String, StatusCode), NotTaken> {
        let now = self.shell.clock.now();
        let delivery = self.shell.enclave.sign_test_event(webhook, &now);
        let delivery = delivery.map_err(|_| NotTaken::Made)?;
        let id = delivery.id.clone();
        self.post(delivery).await.map(|status| (id, status))
    }

    async fn post(&self, delivery: Delivery) -> Result<StatusCode, NotTaken> {
        let headers = headers(&delivery).ok_or(NotTaken::Made)?;
        let url = Url::parse(delivery.url.as_str()).map_err(|_| NotTaken::Made)?;
        let posted = self.egress.post(&url, headers, delivery.body).await;
        let status = posted.map_err(NotTaken::Upstream)?;
        if status.is_success() {
            Ok(status)
        } else {
            Err(NotTaken::Status(status))
        }
    }

    /// Whether it is durable, or there was nothing to write.
    async fn write(&self, pending: Result<Option<Pending<()>>, RecordError>) -> bool {
        let Ok(pending) = pending else {
            events::watchman_failed();
            return false;
        };
        let Some(pending) = pending else {
            return true;
        };
        match self.shell.conclude(pending).await {
            // Nothing it touches could be frozen.
            Ok((_released, _receipt)) => true,
            // Changed at the same time, or no store: the next round says so again.
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_differ() {
        let waits: Vec<u64> = (0..12).map(|failures| wait_ms(failures, 0)).collect();
        assert_eq!(waits[..4], [1_000, 2_000, 4_000, 8_000]);
        assert_eq!(waits[10..], [600_000, 600_000]);
        assert_eq!(wait_ms(u32::MAX, 0), 600_000);
        assert_eq!(wait_ms(0, 255), 750);
        assert!(wait_ms(3, 100) < wait_ms(3, 50));
    }
}
