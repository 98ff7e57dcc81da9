//! A tenant's events, as the walk through an incident hears them.

use std::collections::VecDeque;
use std::time::Duration;

use proto::v1;
use serde_json::Value;
use tokenkeep::rpc_error::answer;
use tokenkeep::{AttestedChannel, RpcError};
use tokio::time::timeout;

use super::{IncidentError, wrong};
use crate::names::TENANT;

/// How long an event may take: a burst of refusals is looked for every second, a provider is told at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// A tenant's events, in their order.
pub(crate) struct Events {
    stream: tonic::Streaming<v1::WatchResponse>,
    waiting: VecDeque<v1::Event>,
}

/// One of them.
pub(crate) struct Heard {
    pub(crate) position: u64,
    pub(crate) number: u64,
    pub(crate) leaf_hash: Vec<u8>,
    pub(crate) detail: Value,
}

impl Heard {
    pub(crate) fn member(&self, name: &str) -> String {
        match self.detail.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => "nothing".to_owned(),
        }
    }
}

impl Events {
    pub(crate) async fn watch(admin: &AttestedChannel) -> Result<Self, IncidentError> {
        let request = v1::WatchRequest {
            tenant: TENANT.to_owned(),
            from: None,
            kinds: Vec::new(),
            until_now: false,
        };
        let stream = answer(admin.events().watch(request)).await?.into_inner();
        Ok(Self {
            stream,
            waiting: VecDeque::new(),
        })
    }

    /// The next event of a kind; those before it are passed over.
    pub(crate) async fn next(&mut self, kind: v1::EventKind) -> Result<Heard, IncidentError> {
        let found = timeout(PATIENCE, self.find(kind)).await;
        found.map_err(|_elapsed| wrong("the events", kind.as_str_name(), "none in 30 s"))?
    }

    async fn find(&mut self, kind: v1::EventKind) -> Result<Heard, IncidentError> {
        loop {
            while let Some(event) = self.waiting.pop_front() {
                if event.kind() != kind {
                    continue;
                }
                let detail = serde_json::from_str(&event.detail);
                return Ok(Heard {
                    position: event.position,
                    number: event.number,
                    leaf_hash: event.leaf_hash,
                    detail: detail.unwrap_or(Value::Null),
                });
            }
            let message = self.stream.message().await.map_err(RpcError::from)?;
            let message = message.ok_or_else(|| wrong("the events", "a stream", "its end"))?;
            self.waiting.extend(message.events);
        }
    }
}
