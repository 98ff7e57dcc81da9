//! `EventService`: a tenant's events, as they come.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use enclave::admin::{EventKind, EventReader, TenantEvent};
use futures_util::Stream;
use proto::v1;
use proto::v1::event_service_server::EventService;
use tonic::{Request, Response, Status};

use crate::event_feed::{Events, PlacedEvent};
use crate::grpc::administrator::{caller, refuse};
use crate::grpc::convert;
use crate::grpc::outlet::{Outlet, outlet};
use crate::grpc::webhook::Webhooks;
use crate::listener::ShutdownSignal;
use crate::places::{Place, Places};
use crate::room::waits;
use crate::shell::Shell;
use crate::status::Refusal;

/// Messages of a stream that may wait for a slow reader.
const QUEUE_MESSAGES: usize = 4;

/// Streams at a time: of one tenant, and in all.
const WATCHES: (usize, usize) = (8, 256);

/// The service.
#[derive(Debug)]
pub struct EventsDoor {
    shell: Arc<Shell>,
    /// Ends the streams.
    stop: ShutdownSignal,
    watches: Arc<Places>,
    webhooks: Webhooks,
}

impl EventsDoor {
    /// The service, whose streams end at `stop`.
    #[must_use]
    pub fn new(webhooks: Webhooks, stop: ShutdownSignal) -> Self {
        Self {
            shell: Arc::clone(&webhooks.shell),
            stop,
            watches: Places::new(WATCHES.0, WATCHES.1),
            webhooks,
        }
    }
}

/// The kinds that a message names. An unknown one is never passed over.
pub(super) fn kinds(numbers: &[i32]) -> Result<BTreeSet<EventKind>, Refusal> {
    let kind = |number: &i32| match v1::EventKind::try_from(*number) {
        Ok(v1::EventKind::Freeze) => Ok(EventKind::Freeze),
        Ok(v1::EventKind::Thaw) => Ok(EventKind::Thaw),
        Ok(v1::EventKind::Loss) => Ok(EventKind::Loss),
        Ok(v1::EventKind::NeedsConsent) => Ok(EventKind::NeedsConsent),
        Ok(v1::EventKind::PolicyChange) => Ok(EventKind::PolicyChange),
        Ok(v1::EventKind::DeniedBurst) => Ok(EventKind::DeniedBurst),
        Ok(v1::EventKind::CollateralExpiry) => Ok(EventKind::CollateralExpiry),
        Ok(v1::EventKind::GrantReviewDue) => Ok(EventKind::GrantReviewDue),
        Ok(v1::EventKind::GrantConnected) => Ok(EventKind::GrantConnected),
        Ok(v1::EventKind::GrantEnded) => Ok(EventKind::GrantEnded),
        Ok(v1::EventKind::ProviderTold) => Ok(EventKind::ProviderTold),
        Ok(v1::EventKind::Webhook) => Ok(EventKind::Webhook),
        Ok(v1::EventKind::GrantChange) => Ok(EventKind::GrantChange),
        Ok(v1::EventKind::GrantSlept) => Ok(EventKind::GrantSlept),
        Ok(v1::EventKind::GrantWoken) => Ok(EventKind::GrantWoken),
        Ok(v1::EventKind::LimitsChange) => Ok(EventKind::LimitsChange),
        Ok(v1::EventKind::KeyChange) => Ok(EventKind::KeyChange),
        Ok(v1::EventKind::Unspecified) | Err(_) => {
            Err(Refusal::argument("kinds", "each must be a kind of event"))
        }
    };
    numbers.iter().map(kind).collect()
}

/// The number of a kind in the contract.
pub(super) fn kind_message(kind: EventKind) -> v1::EventKind {
    match kind {
        EventKind::Freeze => v1::EventKind::Freeze,
        EventKind::Thaw => v1::EventKind::Thaw,
        EventKind::Loss => v1::EventKind::Loss,
        EventKind::NeedsConsent => v1::EventKind::NeedsConsent,
        EventKind::PolicyChange => v1::EventKind::PolicyChange,
        EventKind::DeniedBurst => v1::EventKind::DeniedBurst,
        EventKind::CollateralExpiry => v1::EventKind::CollateralExpiry,
        EventKind::GrantReviewDue => v1::EventKind::GrantReviewDue,
        EventKind::GrantConnected => v1::EventKind::GrantConnected,
        EventKind::GrantEnded => v1::EventKind::GrantEnded,
        EventKind::ProviderTold => v1::EventKind::ProviderTold,
        EventKind::Webhook => v1::EventKind::Webhook,
        EventKind::GrantChange => v1::EventKind::GrantChange,
        EventKind::GrantSlept => v1::EventKind::GrantSlept,
        EventKind::GrantWoken => v1::EventKind::GrantWoken,
        EventKind::LimitsChange => v1::EventKind::LimitsChange,
        EventKind::KeyChange => v1::EventKind::KeyChange,
    }
}

fn event_message(placed: PlacedEvent) -> v1::Event {
    let PlacedEvent {
        position,
        leaf_hash,
        event:
            TenantEvent {
                kind,
                at_s,
                number,
                detail,
            },
    } = placed;
    v1::Event {
        position,
        kind: kind_message(kind).into(),
        at_s,
        number,
        detail,
        leaf_hash: leaf_hash.as_bytes().to_vec(),
    }
}

fn message(found: Events) -> v1::WatchResponse {
    v1::WatchResponse {
        events: found.events.into_iter().map(event_message).collect(),
        next: found.next,
    }
}

#[tonic::async_trait]
impl EventService for EventsDoor {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let by = caller(&self.shell, &request)?;
        let v1::WatchRequest {
            tenant,
            from,
            kinds: numbers,
            until_now,
        } = request.get_ref();
        let tenant = convert::tenant_id("tenant", tenant).map_err(refuse)?;
        let kinds = kinds(numbers)?;
        let reader = self.shell.enclave.event_reader(by, &tenant, kinds);
        let reader = reader.map_err(refuse)?;
        let place = self.watches.enter(&tenant);
        let place = place.ok_or_else(Refusal::too_many_watches)?;
        let end = self.shell.events_end().await;
        let end = end.map_err(|error| Refusal::from(&error))?;
        let watch = Watch {
            shell: Arc::clone(&self.shell),
            reader,
            next: from.unwrap_or(end),
            until: until_now.then_some(end),
            _place: place,
        };
        let (out, stream) = outlet(QUEUE_MESSAGES, Refusal::slow_consumer);
        tokio::spawn(watch.run(out, self.stop.clone()));
        Ok(Response::new(Box::pin(stream)))
    }

    async fn create_webhook(
        &self,
        request: Request<v1::CreateWebhookRequest>,
    ) -> Result<Response<v1::CreateWebhookResponse>, Status> {
        Ok(Response::new(self.webhooks.create(&request).await?))
    }

    async fn list_webhooks(
        &self,
        request: Request<v1::ListWebhooksRequest>,
    ) -> Result<Response<v1::ListWebhooksResponse>, Status> {
        Ok(Response::new(self.webhooks.list(&request)?))
    }

    async fn get_webhook(
        &self,
        request: Request<v1::GetWebhookRequest>,
    ) -> Result<Response<v1::GetWebhookResponse>, Status> {
        Ok(Response::new(self.webhooks.get(&request)?))
    }

    async fn delete_webhook(
        &self,
        request: Request<v1::DeleteWebhookRequest>,
    ) -> Result<Response<v1::DeleteWebhookResponse>, Status> {
        Ok(Response::new(self.webhooks.delete(&request).await?))
    }

    async fn test_webhook(
        &self,
        request: Request<v1::TestWebhookRequest>,
    ) -> Result<Response<v1::TestWebhookResponse>, Status> {
        // Its receiver is waited for.
        waits(request.extensions()).map_err(Refusal::from)?;
        Ok(Response::new(self.webhooks.test(&request).await?))
    }
}

/// One stream.
struct Watch {
    shell: Arc<Shell>,
    reader: EventReader,
    next: u64,
    /// Where it ends, if it does.
    until: Option<u64>,
    _place: Place,
}

impl Watch {
    async fn run(mut self, out: Outlet<v1::WatchResponse>, mut stop: ShutdownSignal) {
        let mut caught_up = false;
        loop {
            let is_past = self.until.is_some_and(|until| self.next >= until);
            let found = if caught_up && !is_past {
                tokio::select! {
                    () = stop.begun() => return out.end(Refusal::stopping()),
                    () = out.closed() => return,
                    found = self.shell.events_to_come(&self.reader, self.next) => found,
                }
            } else {
                tokio::select! {
                    () = stop.begun() => return out.end(Refusal::stopping()),
                    () = out.closed() => return,
                    found = self.shell.events(&self.reader, self.next) => found,
                }
            };
            let found = match found {
                Ok(found) => found,
                Err(error) => return out.end(Refusal::from(&error)),
            };
            self.next = found.next;
            let is_end = found.at_end || self.until.is_some_and(|until| found.next >= until);
            let is_news = !found.events.is_empty() || (is_end && !caught_up);
            caught_up |= is_end;
            if is_news {
                let message = message(found);
                tokio::select! {
                    () = stop.begun() => return out.end(Refusal::stopping()),
                    sent = out.send(message) => if !sent { return },
                }
            }
            if is_end && self.until.is_some() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn each_kind_has_one_number() {
        let numbers: Vec<i32> = EventKind::ALL
            .iter()
            .map(|kind| kind_message(*kind).into())
            .collect();
        let again = kinds(&numbers).unwrap();
        assert_eq!(again, EventKind::ALL.iter().copied().collect());
        for number in [0, -1, 18, i32::MAX] {
            let refused = kinds(&[1, number]).unwrap_err();
            assert_eq!(
                (refused.code, refused.reason),
                (Code::InvalidArgument, "INVALID_REQUEST")
            );
        }
    }
}
