//! Runs exchanges with providers: one at a time for each grant, on a task of its
//! own, so that a caller that hangs up cancels nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use enclave::ids::{GrantId, ProviderId};
use enclave::refresh::{
    Action, Begin, Cached, Event, Exchange, RefreshError, UpstreamAccess, UpstreamAnswer,
    UpstreamRequest, Wanted,
};
use enclave::relayed_proof::RelayedProof;
use futures_util::StreamExt;
use http::header::{HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::task::TaskTracker;

use crate::events;
use crate::metrics::Watch;
use crate::metrics::upstream::{self, Answered};
use crate::shell::Shell;
use crate::store::{Folder, StateDir};
use crate::upstream::{DPOP, Egress, TokenAnswer, TokenRequest, UpstreamError};

/// How many other exchanges of its grant a caller waits for before its own.
const TURNS: usize = 8;

/// How long an exchange waits for its place among those at its provider: as long as one that holds a place may take.
const PLACE: Duration = Duration::from_secs(10);

/// How often grants are looked through for those that need use.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// How many are used in one round; the others wait for the next.
const KEPT_A_ROUND: usize = 1_024;

/// How many are used at a time.
const KEPT_AT_ONCE: usize = 8;

const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

type Outcome = Result<Arc<UpstreamAccess>, RefreshError>;

/// What the waiters of one exchange see: what it is for, and in the end its outcome.
type Flight = watch::Receiver<Option<Outcome>>;

/// Gets upstream access tokens.
#[derive(Debug)]
pub struct Refresher<F: Folder = StateDir> {
    shell: Arc<Shell<F>>,
    egress: Egress,
    flights: Mutex<HashMap<GrantId, (Wanted, Flight)>>,
    /// Those that wait for their turn at a provider whose exchanges are bounded: the
    /// bound, and its places.
    places: Mutex<HashMap<ProviderId, (u32, Arc<Semaphore>)>>,
    tasks: TaskTracker,
}

impl<F: Folder> Refresher<F> {
    /// With the enclave and the way out.
    #[must_use]
    pub fn new(shell: Arc<Shell<F>>, egress: Egress) -> Arc<Self> {
        Arc::new(Self {
            shell,
            egress,
            flights: Mutex::default(),
            places: Mutex::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// An upstream access token of a grant: a cached one, or
    /// the outcome of an exchange that may be under way already.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub async fn access(self: &Arc<Self>, grant: &GrantId, wanted: &Wanted) -> Outcome {
        for _ in 0..TURNS {
            let now = self.shell.clock.now();
            match self.shell.enclave.cached_upstream(grant, wanted, &now) {
                Some(Cached::Fresh(access)) => return Ok(access),
                Some(Cached::Ageing(access)) => {
                    // The next one is asked for while this one serves.
                    drop(self.join(grant, wanted, &mut None));
                    return Ok(access);
                }
                None => {}
            }
            if let Some(outcome) = self.turn_of(grant, wanted, &mut None).await {
                return outcome;
            }
        }
        Err(RefreshError::RateLimited { retry_after_s: 1 })
    }

    /// As [`access`](Self::access), for a token that is bound to a client's key: the client's proof goes with the
    /// exchange. One that is under way for the same key and scopes brings the token to both.
    ///
    /// # Errors
    /// [`RefreshError`].
    pub async fn relay(
        self: &Arc<Self>,
        grant: &GrantId,
        wanted: &Wanted,
        proof: RelayedProof,
    ) -> Outcome {
        let mut proof = Some(proof);
        for _ in 0..TURNS {
            let now = self.shell.clock.now();
            let cached = self.shell.enclave.cached_upstream(grant, wanted, &now);
            if let Some(Cached::Fresh(access)) = cached {
                return Ok(access);
            }
            if let Some(outcome) = self.turn_of(grant, wanted, &mut proof).await {
                return outcome;
            }
        }
        Err(RefreshError::RateLimited { retry_after_s: 1 })
    }

    /// Waits for the exchange of a grant that is under way, or for a new one. None if it was for something else.
    async fn turn_of(
        self: &Arc<Self>,
        grant: &GrantId,
        wanted: &Wanted,
        proof: &mut Option<RelayedProof>,
    ) -> Option<Outcome> {
        let (of, mut flight) = self.join(grant, wanted, proof);
        let outcome = match flight.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone(),
            Err(_) => None,
        };
        // The task ends with an outcome, unless it was torn down.
        (of == *wanted).then(|| outcome.unwrap_or(Err(RefreshError::ProviderUnclear)))
    }

    /// The exchange of a grant that is under way, or a new one, which takes the proof.
    fn join(
        self: &Arc<Self>,
        grant: &GrantId,
        wanted: &Wanted,
        proof: &mut Option<RelayedProof>,
    ) -> (Wanted, Flight) {
        let mut flights = self.flights.lock();
        if let Some((of, flight)) = flights.get(grant) {
            return (of.clone(), flight.clone());
        }
        let (done, flight) = watch::channel(None);
        flights.insert(grant.clone(), (wanted.clone(), flight.clone()));
        drop(flights);
        let (this, grant, own) = (Arc::clone(self), grant.clone(), wanted.clone());
        let proof = proof.take();
        self.tasks.spawn(async move {
            let outcome = this.fly(&grant, &own, proof).await;
            // First off the list, then the word: who comes now finds the cache.
            this.flights.lock().remove(&grant);
            done.send_replace(Some(outcome));
        });
        (wanted.clone(), flight)
    }

    /// A place among the exchanges of the grant's provider, if they are bounded. It is
    /// kept until the exchange is over: what has no successor on the disk yet is what
    /// a crash may cost.
    async fn place(&self, grant: &GrantId) -> Result<Option<OwnedSemaphorePermit>, RefreshError> {
        let Some((provider, bound)) = self.shell.enclave.in_flight(grant) else {
            return Ok(None);
        };
        let places = {
            let mut places = self.places.lock();
            let (kept, semaphore) = places
                .entry(provider)
                .or_insert_with(|| (bound, semaphore_of(bound)));
            if *kept != bound {
                (*kept, *semaphore) = (bound, semaphore_of(bound));
            }
            Arc::clone(semaphore)
        };
        turn(places).await
    }

    async fn fly(&self, grant: &GrantId, wanted: &Wanted, proof: Option<RelayedProof>) -> Outcome {
        let outcome = match self.place(grant).await {
            Err(error) => Err(error),
            Ok(_place) => {
                let now = self.shell.clock.now();
                let enclave = &self.shell.enclave;
                let begun = match proof {
                    None => enclave.begin_refresh(grant, wanted, &now),
                    Some(proof) => enclave.begin_relayed(grant, wanted, proof, &now),
                };
                let outcome = match begun {
                    Ok(Begin::Cached(access)) => return Ok(access),
                    begun => self.go_on(begun).await,
                };
                match outcome {
                    Err(RefreshError::RefusedWithProof) => Err(self.without_proof(grant).await),
                    outcome => outcome,
                }
            }
        };
        match &outcome {
            Ok(_) => events::refreshed(grant),
            Err(error) => events::refresh_failed(grant, error),
        }
        outcome
    }

    async fn go_on(&self, begun: Result<Begin, RefreshError>) -> Outcome {
        match begun {
            Ok(Begin::Cached(access)) => Ok(access),
            Ok(Begin::Exchange(exchange, action)) => self.run(*exchange, action).await,
            Err(error) => Err(error),
        }
    }

    /// A client's proof and the refresh token were refused together: whether it was the token, an exchange without
    /// that proof tells. Gives what the client is told.
    async fn without_proof(&self, grant: &GrantId) -> RefreshError {
        let doubted = RefreshError::RefusedWithProof;
        let enclave = &self.shell.enclave;
        let Some(whole) = enclave.whole_grant(grant) else {
            return RefreshError::NoSuchGrant;
        };
        let begun = enclave.begin_refresh(grant, &whole, &self.shell.clock.now());
        match self.go_on(begun).await {
            Err(error @ RefreshError::NeedsConsent { .. }) => error,
            Ok(_) | Err(_) => doubted,
        }
    }

    async fn run(&self, mut exchange: Exchange, mut action: Action) -> Outcome {
        loop {
            let event = match action {
                Action::Commit(pending) => match pending.commit(&*self.shell.store).await {
                    Ok(durable) => Event::Committed(durable),
                    Err(error) => Event::CommitFailed(error),
                },
                Action::Send(request) => Event::Answered(self.send(request).await),
                Action::Pause(ms) => {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    Event::Resumed
                }
                Action::Finish(outcome) => return outcome,
            };
            let now = self.shell.clock.now();
            action = self.shell.enclave.step_refresh(&mut exchange, event, &now);
        }
    }

    /// The grants whose exchanges are under way.
    pub(crate) fn flying(&self) -> Vec<GrantId> {
        self.flights.lock().keys().cloned().collect()
    }

    /// Whether an exchange of a grant is under way.
    pub(crate) fn is_flying(&self, grant: &GrantId) -> bool {
        self.flights.lock().contains_key(grant)
    }

    /// Sends a request to a provider, once.
    pub(crate) async fn send(&self, request: UpstreamRequest) -> UpstreamAnswer {
        let UpstreamRequest {
            url,
            authorization,
            body,
            certificate,
            dpop,
            deadline_ms,
        } = request;
        let Ok(url) = url.as_str().parse() else {
            return UpstreamAnswer::NotSent;
        };
        let mut headers = HeaderMap::new();
        if let Some(proof) = dpop {
            let Ok(proof) = HeaderValue::try_from(proof) else {
                return UpstreamAnswer::NotSent;
            };
            headers.insert(DPOP, proof);
        }
        let request = TokenRequest {
            url,
            headers,
            authorization,
            certificate,
            body,
            deadline: Some(Duration::from_millis(deadline_ms)),
        };
        let watch = Watch::start();
        let sent = self.egress.token_request(request).await;
        watch.stop(&became(&sent).took);
        match sent {
            Ok(TokenAnswer {
                status,
                body,
                cut: Some(why),
                ..
            }) => {
                events::provider_failed(&why.into());
                UpstreamAnswer::Cut {
                    status: status.as_u16(),
                    body,
                }
            }
            Ok(TokenAnswer {
                status,
                headers,
                body,
                cut: None,
            }) => UpstreamAnswer::Response {
                status: status.as_u16(),
                retry_after_s: self.retry_after_s(&headers),
                dpop_nonce: only(&headers, &DPOP_NONCE),
                body,
            },
            Err(error) => {
                events::provider_failed(&error);
                match error {
                    UpstreamError::NotSent { .. } => UpstreamAnswer::NotSent,
                    UpstreamError::Ambiguous { .. } => UpstreamAnswer::Ambiguous,
                }
            }
        }
    }

    /// `Retry-After`, as a number of seconds or as a date [RFC 9110 §10.2.3].
    fn retry_after_s(&self, headers: &HeaderMap) -> Option<u64> {
        let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
        if let Ok(seconds) = text.parse() {
            return Some(seconds);
        }
        let date = httpdate::parse_http_date(text).ok()?;
        let at_s = date.duration_since(UNIX_EPOCH).ok()?.as_secs();
        Some(at_s.saturating_sub(self.shell.clock.now().lo_s))
    }

    /// Uses refresh tokens that their providers would drop for want of use, until
    /// it is stopped.
    pub async fn keep_alive(self: Arc<Self>) {
        let mut last: Option<GrantId> = None;
        loop {
            tokio::time::sleep(KEEP_ALIVE).await;
            let now = self.shell.clock.now();
            let enclave = &self.shell.enclave;
            let due = enclave.due_for_keep_alive(&now, last.as_ref(), KEPT_A_ROUND);
            if let Some((grant, _)) = due.last() {
                last = Some(grant.clone());
            }
            let use_one = |(grant, wanted)| {
                let this = &self;
                // The outcome is written down and logged; nobody waits for it.
                async move { drop(this.access(&grant, &wanted).await) }
            };
            futures_util::stream::iter(due)
                .for_each_concurrent(KEPT_AT_ONCE, use_one)
                .await;
        }
    }

    /// Adopts the answers of exchanges that a crash cut off. Returns when all
    /// are settled.
    pub async fn resume(&self) {
        for grant in self.shell.enclave.interrupted() {
            let now = self.shell.clock.now();
            match self.shell.enclave.resume_refresh(&grant, &now) {
                Ok(Some((exchange, action))) => {
                    // Its outcome is in the store; there is no waiter.
                    drop(self.run(exchange, action).await);
                    events::exchange_resumed(&grant, true);
                }
                Ok(None) => events::exchange_resumed(&grant, false),
                Err(error) => events::refresh_failed(&grant, &error),
            }
        }
    }

    /// Waits until no exchange is under way.
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// A place, or the word that there was none for too long: whoever waits behind a provider that hangs is told so.
async fn turn(places: Arc<Semaphore>) -> Result<Option<OwnedSemaphorePermit>, RefreshError> {
    match tokio::time::timeout(PLACE, places.acquire_owned()).await {
        // They are never closed.
        Ok(place) => Ok(place.ok()),
        Err(_elapsed) => Err(RefreshError::RateLimited { retry_after_s: 1 }),
    }
}

fn semaphore_of(bound: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(usize::try_from(bound).unwrap_or(usize::MAX)))
}

/// What became of a request, as it is counted.
fn became(sent: &Result<TokenAnswer, UpstreamError>) -> &'static Answered {
    match sent {
        Ok(TokenAnswer { cut: None, .. }) => &upstream::ANSWERED,
        Ok(TokenAnswer { cut: Some(_), .. }) => &upstream::CUT,
        Err(UpstreamError::NotSent { .. }) => &upstream::NOT_SENT,
        Err(UpstreamError::Ambiguous { .. }) => &upstream::AMBIGUOUS,
    }
}

/// The value of a header that is there exactly once.
fn only(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok().map(ToOwned::to_owned)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_without_an_end_for_a_place_at_a_provider() {
        let places = semaphore_of(1);
        let held = turn(Arc::clone(&places)).await.unwrap();
        assert!(held.is_some());
        let late = turn(Arc::clone(&places)).await;
        assert_eq!(
            late.err(),
            Some(RefreshError::RateLimited { retry_after_s: 1 })
        );
        drop(held);
        assert!(turn(places).await.unwrap().is_some());
    }
}
