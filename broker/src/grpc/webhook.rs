//! The webhooks of `EventService`: messages become the enclave's types here.

use std::sync::Arc;

use enclave::admin::{AdminError, EventKind, NewWebhook};
use enclave::http_url::HttpUrl;
use enclave::ids::{TenantId, WebhookId};
use enclave::webhook::Webhook;
use proto::v1;
use tonic::Request;

use super::administrator::{caller, refuse};
use super::convert;
use super::event::{kind_message, kinds};
use crate::shell::Shell;
use crate::status::Refusal;
use crate::webhooks::Poster;

/// The webhooks' side of the service.
#[derive(Clone, Debug)]
pub struct Webhooks {
    /// The enclave and its store.
    pub shell: Arc<Shell>,
    /// Posts tests.
    pub poster: Arc<Poster>,
}

/// The message for a webhook.
fn message(webhook: Webhook) -> v1::Webhook {
    let kind = |kind: &EventKind| i32::from(kind_message(*kind));
    v1::Webhook {
        tenant: webhook.tenant.into(),
        id: webhook.id.into(),
        url: webhook.url.as_str().to_owned(),
        kinds: webhook.kinds.iter().map(kind).collect(),
        created_at_s: webhook.created_at_s,
        by: webhook.by,
        next: webhook.next,
        failing_since_s: webhook.failing_since_s.unwrap_or_default(),
        disabled_at_s: webhook.disabled_at_s.unwrap_or_default(),
    }
}

fn name(tenant: &str, id: &str) -> Result<(TenantId, WebhookId), Refusal> {
    let tenant = convert::tenant_id("tenant", tenant).map_err(refuse)?;
    let id = WebhookId::parse(id).map_err(|error| refuse(AdminError::Id { field: "id", error }))?;
    Ok((tenant, id))
}

impl Webhooks {
    pub(super) async fn create(
        &self,
        request: &Request<v1::CreateWebhookRequest>,
    ) -> Result<v1::CreateWebhookResponse, Refusal> {
        let by = caller(&self.shell, request)?;
        let v1::CreateWebhookRequest {
            tenant,
            id,
            url,
            kinds: numbers,
            from,
        } = request.get_ref();
        let (tenant, id) = name(tenant, id)?;
        let url = HttpUrl::parse(url);
        let url = url.map_err(|error| {
            refuse(AdminError::Url {
                field: "url",
                error,
            })
        })?;
        let end = self.shell.events_end().await;
        let end = end.map_err(|error| Refusal::from(&error))?;
        let from = from.unwrap_or(end);
        if from > end {
            return Err(Refusal::argument(
                "from",
                "must be a position of the control log",
            ));
        }
        let new = NewWebhook {
            id,
            tenant,
            url,
            kinds: kinds(numbers)?,
            from,
        };
        let now = self.shell.clock.now();
        let pending = self.shell.enclave.create_webhook(by, new, &now);
        let made = self.shell.settle(pending.map_err(refuse)?).await?;
        Ok(v1::CreateWebhookResponse {
            webhook: Some(message(made)),
        })
    }

    pub(super) fn list(
        &self,
        request: &Request<v1::ListWebhooksRequest>,
    ) -> Result<v1::ListWebhooksResponse, Refusal> {
        let by = caller(&self.shell, request)?;
        let tenant = convert::tenant_id("tenant", &request.get_ref().tenant).map_err(refuse)?;
        let webhooks = self.shell.enclave.webhooks(by, &tenant).map_err(refuse)?;
        Ok(v1::ListWebhooksResponse {
            webhooks: webhooks.into_iter().map(message).collect(),
        })
    }

    pub(super) fn get(
        &self,
        request: &Request<v1::GetWebhookRequest>,
    ) -> Result<v1::GetWebhookResponse, Refusal> {
        let by = caller(&self.shell, request)?;
        let v1::GetWebhookRequest { tenant, id } = request.get_ref();
        let (tenant, id) = name(tenant, id)?;
        let webhook = self
            .shell
            .enclave
            .webhook(by, &tenant, &id)
            .map_err(refuse)?;
        Ok(v1::GetWebhookResponse {
            webhook: Some(message(webhook)),
        })
    }

    pub(super) async fn delete(
        &self,
        request: &Request<v1::DeleteWebhookRequest>,
    ) -> Result<v1::DeleteWebhookResponse, Refusal> {
        let by = caller(&self.shell, request)?;
        let v1::DeleteWebhookRequest { tenant, id } = request.get_ref();
        let (tenant, id) = name(tenant, id)?;
        let now = self.shell.clock.now();
        let pending = self.shell.enclave.delete_webhook(by, &tenant, &id, &now);
        self.shell.settle(pending.map_err(refuse)?).await?;
        Ok(v1::DeleteWebhookResponse {})
    }

    pub(super) async fn test(
        &self,
        request: &Request<v1::TestWebhookRequest>,
    ) -> Result<v1::TestWebhookResponse, Refusal> {
        let by = caller(&self.shell, request)?;
        let v1::TestWebhookRequest { tenant, id } = request.get_ref();
        let (tenant, id) = name(tenant, id)?;
        let webhook = self.shell.enclave.webhook_to_test(by, &tenant, &id);
        let webhook = webhook.map_err(refuse)?;
        let place = self.poster.test_place(&tenant);
        let _place = place.ok_or_else(Refusal::too_many_tests)?;
        match self.poster.test(&webhook).await {
            Ok((event_id, status)) => Ok(v1::TestWebhookResponse {
                event_id,
                status: u32::from(status.as_u16()),
            }),
            Err(why) => Err(Refusal::webhook_not_taken(&why.word())),
        }
    }
}
