//! Sends traces to a collector, some at a time. Nobody waits for it: what it does not take is lost.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use rustls::ClientConfig;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use url::Url;

use super::OUTCOMES;
use super::otlp;
use super::timeline::Finished;
use crate::events;
use crate::exchange::{self, Bounds, NoAnswer};
use crate::listener::ShutdownSignal;

/// Traces of one request.
const BATCH: usize = 128;

/// How long traces gather.
const GATHER: Duration = Duration::from_secs(1);

/// How long what is left may take at the end.
const LAST: Duration = Duration::from_secs(5);

/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

const BOUNDS: Bounds = Bounds {
    deadline: Duration::from_secs(5),
    max_bytes: 64 * 1024,
};

/// Why traces were not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// The collector did not answer.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    /// It answered with another status than 200.
    #[error("the collector answered {0}")]
    Status(u16),
}

/// Where traces go.
#[derive(Debug)]
pub struct Collector {
    endpoint: Url,
    tls: Arc<ClientConfig>,
}

impl Collector {
    /// A collector's prefix: `/v1/traces` comes behind it.
    #[must_use]
    pub fn new(endpoint: Url, tls: Arc<ClientConfig>) -> Self {
        Self { endpoint, tls }
    }

    /// Sends what comes until it is told to stop, and then what is left, within [`LAST`].
    pub async fn run(self, mut finished: mpsc::Receiver<Finished>, mut stop: ShutdownSignal) {
        let going_on = async {
            let mut pause = GATHER;
            loop {
                sleep(pause).await;
                let batch = gathered(&mut finished);
                if !batch.is_empty() {
                    pause = self.send(&batch, pause).await;
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.begun() => {}
            () = going_on => {}
        }
        let last = async {
            loop {
                let batch = gathered(&mut finished);
                if batch.is_empty() || self.send(&batch, GATHER).await > GATHER {
                    return;
                }
            }
        };
        drop(timeout(LAST, last).await);
    }

    /// Sends some, and gives the next pause.
    async fn send(&self, batch: &[Finished], pause: Duration) -> Duration {
        match self.post(batch).await {
            Ok(()) => {
                batch.iter().for_each(|_| OUTCOMES.one("SENT"));
                // More are waiting already.
                if batch.len() == BATCH {
                    return Duration::ZERO;
                }
                GATHER
            }
            Err(fault) => {
                batch.iter().for_each(|_| OUTCOMES.one("NOT_TAKEN"));
                events::traces_not_taken(&fault);
                pause.max(GATHER).saturating_mul(2).min(LONGEST_PAUSE)
            }
        }
    }

    async fn post(&self, batch: &[Finished]) -> Result<(), Fault> {
        let body = otlp::request(batch);
        let post = (Method::POST, otlp::PATH, body);
        let sent = exchange::send_as(
            &self.endpoint,
            &self.tls,
            BOUNDS,
            Some(otlp::CONTENT_TYPE),
            post,
        );
        match sent.await?.status().as_u16() {
            200 => Ok(()),
            status => Err(Fault::Status(status)),
        }
    }
}

/// Some of those that wait.
fn gathered(finished: &mut mpsc::Receiver<Finished>) -> Vec<Finished> {
    let next = || finished.try_recv().ok();
    std::iter::from_fn(next).take(BATCH).collect()
}
