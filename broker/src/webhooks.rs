//! Posts tenants' events to their webhooks: in their order, at least once, again and again until they are taken or the
//! webhook is given up. How far each was served is a position in the log, so nothing waits in a queue.

mod rota;

use std::sync::Arc;
use std::time::Duration;

use enclave::admin::GIVE_UP_AFTER_S;
use enclave::ids::TenantId;
use enclave::pending::Pending;
use enclave::record::RecordError;
use enclave::webhook::{AtPosition, Delivery, Webhook};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;
use url::Url;

use self::rota::{Ended, Fault, Rota, Turn};
use crate::event_feed::PlacedEvent;
use crate::events;
use crate::listener::ShutdownSignal;
use crate::places::{Place, Places};
use crate::shell::Shell;
use crate::upstream::{Ambiguous, Egress, UpstreamError};

/// How often is looked for new events. To look costs the reading of a number.
const ROUND: Duration = Duration::from_millis(500);

/// How long after the log could not be read it is tried again.
const AFTER_A_FAILURE: Duration = Duration::from_secs(10);

/// A turn that lasts so long ends before its batch does: slow receivers give their turns to others.
const LONGEST_TURN_MS: u64 = 15_000;

/// How long a posting may take, from the resolving of the name to the answer.
const POST_DEADLINE: Duration = Duration::from_secs(10);

/// Tests at a time: of one tenant, and in all.
const TESTS: (usize, usize) = (1, 4);

/// The event's id, which is the same each time that it is posted.
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// When it was posted, Unix time in seconds.
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// Compact JWS with detached content over the body.
const SIGNATURE: HeaderName = HeaderName::from_static("tokenkeep-signature");

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

    fn fault(&self) -> Fault {
        match self {
            Self::Status(_) | Self::Upstream(_) => Fault::Receiver,
            Self::Made => Fault::Own,
        }
    }
}

/// Posts.
#[derive(Debug)]
pub struct Poster {
    shell: Arc<Shell>,
    egress: Egress,
    rota: Mutex<Rota>,
    tests: Arc<Places>,
    tasks: TaskTracker,
}

fn headers(delivery: &Delivery) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(WEBHOOK_ID, HeaderValue::try_from(&delivery.id).ok()?);
    headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(delivery.timestamp_s));
    headers.insert(SIGNATURE, HeaderValue::try_from(&delivery.signature).ok()?);
    Some(headers)
}

/// What came of a turn.
#[derive(Clone, Copy, Debug)]
struct Progress {
    /// Something was taken.
    taken: bool,
    /// Nothing was refused, and the turn was not cut.
    is_whole: bool,
    /// The log's end was reached.
    at_end: bool,
    /// It is written down since when the receiver takes nothing.
    is_failing: bool,
}

impl Progress {
    /// Whether it is written down how far the webhook is served, which ends what was written of a failure: so that of a
    /// receiver that takes nothing stays, since when.
    fn is_noted(self, is_late: bool) -> bool {
        let is_over = self.is_failing && self.at_end;
        self.taken || (self.is_whole && (is_over || (is_late && !self.is_failing)))
    }
}

impl Poster {
    /// By the way out of the gateway: its classes of addresses, its roots, its bounds.
    #[must_use]
    pub fn new(shell: Arc<Shell>, egress: Egress) -> Arc<Self> {
        Arc::new(Self {
            shell,
            egress,
            rota: Mutex::default(),
            tests: Places::new(TESTS.0, TESTS.1),
            tasks: TaskTracker::new(),
        })
    }

    /// Posts until the service stops, and writes down how far it came. What it does not finish is posted after the next
    /// start.
    pub async fn keep(self: Arc<Self>, mut stop: ShutdownSignal) {
        let mut wait = ROUND;
        loop {
            tokio::select! {
                () = stop.begun() => break,
                () = sleep(wait) => {}
            }
            wait = match self.shell.events_end().await {
                Ok(end) => {
                    self.round(end, &stop);
                    ROUND
                }
                Err(error) => {
                    events::log_not_read(&error);
                    AFTER_A_FAILURE
                }
            };
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn round(self: &Arc<Self>, end: u64, stop: &ShutdownSignal) {
        let webhooks = self.shell.enclave.served_webhooks();
        let now_ms = self.shell.clock.now().mono_ms;
        let turns = self.rota.lock().choose(webhooks, end, now_ms);
        for turn in turns {
            let (poster, stop) = (Arc::clone(self), stop.clone());
            self.tasks.spawn(async move {
                let ended = poster.serve(&turn, stop).await;
                let mut random = [0];
                // Without randomness they come at once.
                SystemRandom::new().fill(&mut random).unwrap_or_default();
                let [random] = random;
                let now_ms = poster.shell.clock.now().mono_ms;
                poster.rota.lock().end(&turn.webhook, ended, now_ms, random);
            });
        }
    }

    /// Posts one batch, until its end or something is not taken.
    async fn serve(&self, turn: &Turn, mut stop: ShutdownSignal) -> Ended {
        let webhook = &turn.webhook;
        let mut ended = Ended {
            next: turn.next,
            ..Ended::default()
        };
        // Its tenant was erased.
        let Some(reader) = self.shell.enclave.webhook_reader(webhook) else {
            return ended;
        };
        let found = match self.shell.events(&reader, turn.next).await {
            Ok(found) => found,
            Err(error) => {
                events::webhook_not_read(&webhook.tenant, &webhook.id, &error);
                ended.fault = Some(Fault::Own);
                return ended;
            }
        };
        let begun_ms = self.shell.clock.now().mono_ms;
        let mut is_cut = false;
        for placed in &found.events {
            let lasts_ms = self.shell.clock.now().mono_ms.saturating_sub(begun_ms);
            if lasts_ms >= LONGEST_TURN_MS || !self.shell.enclave.is_served(webhook) {
                is_cut = true;
                break;
            }
            let posted = tokio::select! {
                () = stop.begun() => {
                    is_cut = true;
                    break;
                }
                posted = self.post_event(webhook, placed) => posted,
            };
            match posted {
                Ok(()) => {
                    ended.taken = true;
                    ended.next = placed.position.saturating_add(1);
                }
                Err(why) => {
                    events::webhook_failed(&webhook.tenant, &webhook.id, &why);
                    ended.fault = Some(why.fault());
                    break;
                }
            }
        }
        let is_whole = ended.fault.is_none() && !is_cut;
        if is_whole {
            ended.next = found.next;
        }
        let progress = Progress {
            taken: ended.taken,
            is_whole,
            at_end: found.at_end,
            is_failing: webhook.failing_since_s.is_some(),
        };
        if progress.is_noted(turn.note) {
            let served = self.shell.enclave.webhook_served(webhook, ended.next);
            ended.noted = self.write(served).await;
        }
        if ended.fault == Some(Fault::Receiver) {
            self.fails(turn, ended.taken).await;
        }
        ended
    }

    /// Notes that a webhook takes nothing, and gives it up when that lasts: by the time of day, over restarts, and by
    /// this boot's own count, so that a clock that is set does not end it.
    async fn fails(&self, turn: &Turn, taken: bool) {
        let (webhook, now) = (&turn.webhook, self.shell.clock.now());
        let since_s = webhook.failing_since_s.filter(|_| !taken);
        let Some(since_s) = since_s else {
            let fails = self.shell.enclave.webhook_fails(webhook, now.lo_s);
            self.write(fails).await;
            return;
        };
        let longest_ms = GIVE_UP_AFTER_S.saturating_mul(1_000);
        let lasts = |since_ms| now.mono_ms.saturating_sub(since_ms) >= longest_ms;
        let is_long = now.lo_s.saturating_sub(since_s) >= GIVE_UP_AFTER_S;
        if is_long && turn.failing_since_ms.is_some_and(lasts) {
            let given_up = self.shell.enclave.give_up_webhook(webhook, &now);
            if self.write(given_up).await {
                events::webhook_disabled(&webhook.tenant, &webhook.id);
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

    /// A place for a test of a tenant's; none if there are as many as may be.
    #[must_use]
    pub fn test_place(&self, tenant: &TenantId) -> Option<Place> {
        self.tests.enter(tenant)
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
        let posted = timeout(
            POST_DEADLINE,
            self.egress.post(&url, headers, delivery.body),
        )
        .await;
        let posted = posted.unwrap_or(Err(Ambiguous::Deadline.into()));
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
    fn a_note_does_not_end_what_is_written_of_a_receiver_that_takes_nothing() {
        let idle = Progress {
            taken: false,
            is_whole: true,
            at_end: true,
            is_failing: false,
        };
        let failing = Progress {
            is_failing: true,
            ..idle
        };
        let refused = Progress {
            is_whole: false,
            ..failing
        };
        for (progress, is_late, is_noted) in [
            (idle, false, false),
            (idle, true, true),
            // It failed before; there is nothing any more that it could take.
            (failing, false, true),
            (
                Progress {
                    at_end: false,
                    ..failing
                },
                true,
                false,
            ),
            (refused, false, false),
            (refused, true, false),
            (
                Progress {
                    at_end: false,
                    ..refused
                },
                true,
                false,
            ),
            (
                Progress {
                    taken: true,
                    ..refused
                },
                false,
                true,
            ),
        ] {
            assert_eq!(
                progress.is_noted(is_late),
                is_noted,
                "{progress:?} {is_late}"
            );
        }
    }
}
