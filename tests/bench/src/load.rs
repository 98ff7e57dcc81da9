//! The load. In a closed loop each slot sends its next call when it has the answer to the one before. In an open loop
//! calls are due at a stated rate, whether or not earlier ones are over, and each is timed from when it was due: a server
//! that stalls is seen by all calls that it held up.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::clock::now;
use crate::stats::{Sample, What, micros};

/// The thread that gives tickets sleeps so long at least: at thousands of calls a second a wake-up for each takes more of
/// the machine than the calls of a closed loop do. What a call waits for it counts, as it is timed from when it was due.
const TICK: Duration = Duration::from_micros(500);

/// A place for one call at a time.
pub(crate) trait Slot: Send + 'static {
    /// Makes one call. With a deadline the answer is given up after it.
    ///
    /// # Errors
    /// The server can't be measured: it is gone, or refuses for a reason that has nothing to do with load.
    fn call(
        &mut self,
        within: Option<Duration>,
    ) -> impl Future<Output = anyhow::Result<What>> + Send;
}

/// The slots of all connections. They stay connected between loads.
pub(crate) struct Crew<S>(Vec<S>);

/// What came of a load.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) samples: Vec<Sample>,
    pub(crate) elapsed: Duration,
}

/// An open loop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Calls that are due in a second.
    pub(crate) per_s: f64,
    /// For how long.
    pub(crate) time: Duration,
    /// How long a call may take from when it is due; a call that nobody can send before is not sent.
    pub(crate) deadline: Option<Duration>,
}

impl<S: Slot> Crew<S> {
    pub(crate) fn new(slots: Vec<S>) -> Self {
        Self(slots)
    }

    pub(crate) fn slots(&self) -> &[S] {
        &self.0
    }

    /// Keeps each slot busy for a time.
    ///
    /// # Errors
    /// A slot's.
    pub(crate) async fn closed(&mut self, time: Duration) -> anyhow::Result<Outcome> {
        let begun = now();
        let mut working = JoinSet::new();
        for mut slot in self.0.drain(..) {
            working.spawn(async move {
                let mut samples = Vec::new();
                while begun.elapsed() < time {
                    let due = now();
                    let what = slot.call(None).await?;
                    samples.push(sample(begun, due, what));
                }
                anyhow::Ok((slot, samples))
            });
        }
        self.gather(working, begun).await
    }

    /// Makes calls at a rate.
    ///
    /// # Errors
    /// A slot's, or no such rate.
    pub(crate) async fn open(&mut self, plan: Plan) -> anyhow::Result<Outcome> {
        let tickets = plan.tickets().context("no such rate")?;
        let begun = now();
        let next = Arc::new(AtomicU64::new(0));
        // One permit a ticket that is due.
        let due = Arc::new(Semaphore::new(0));
        let mut working = JoinSet::new();
        let slots = self.0.len();
        for mut slot in self.0.drain(..) {
            let (next, due) = (Arc::clone(&next), Arc::clone(&due));
            working.spawn(async move {
                let mut samples = Vec::new();
                loop {
                    due.acquire()
                        .await
                        .context("nobody gives tickets")?
                        .forget();
                    let ticket = next.fetch_add(1, Ordering::Relaxed);
                    if ticket >= tickets {
                        return anyhow::Ok((slot, samples));
                    }
                    let at = begun
                        .checked_add(plan.due(ticket))
                        .context("the time is too long")?;
                    let what = match plan.deadline.map(|all| all.checked_sub(at.elapsed())) {
                        None => slot.call(None).await?,
                        Some(Some(left)) => slot.call(Some(left)).await?,
                        Some(None) => What::Unsent,
                    };
                    samples.push(sample(begun, at, what));
                }
            });
        }
        // A thread of its own wakes up more exactly than a runtime's timer, which counts in milliseconds.
        let giver = std::thread::Builder::new().name("tickets".to_owned());
        let given = giver.spawn(move || {
            give(plan, tickets, begun, &due);
            // The slots wait for one more each, and end.
            due.add_permits(slots);
        })?;
        let outcome = self.gather(working, begun).await;
        // It has no way to fail, and it ended before the slots did.
        drop(given.join());
        outcome
    }

    async fn gather(
        &mut self,
        mut working: JoinSet<anyhow::Result<(S, Vec<Sample>)>>,
        begun: Instant,
    ) -> anyhow::Result<Outcome> {
        let mut samples = Vec::new();
        while let Some(done) = working.join_next().await {
            let (slot, found) = done??;
            self.0.push(slot);
            samples.extend(found);
        }
        Ok(Outcome {
            samples,
            elapsed: begun.elapsed(),
        })
    }
}

impl Plan {
    /// How many calls are due in all.
    fn tickets(&self) -> Option<u64> {
        let number = self.per_s * self.time.as_secs_f64();
        // Far below 2^53, and a float is cut to its whole part.
        (number.is_finite() && (1.0..1e12).contains(&number)).then_some(number as u64)
    }

    /// When a call is due, from the begin.
    fn due(&self, ticket: u64) -> Duration {
        Duration::from_secs_f64(crate::stats::whole(ticket) / self.per_s)
    }

    /// How many calls are due after this time.
    fn due_after(&self, time: Duration) -> u64 {
        // The first one is due at once.
        ((time.as_secs_f64() * self.per_s) as u64).saturating_add(1)
    }
}

/// Gives a permit for each ticket when it is due.
fn give(plan: Plan, tickets: u64, begun: Instant, due: &Semaphore) {
    let mut given = 0;
    while given < tickets {
        let ready = plan.due_after(begun.elapsed()).min(tickets);
        let more = ready.saturating_sub(given);
        due.add_permits(usize::try_from(more).unwrap_or(0));
        given = ready;
        let wait = plan.due(given).saturating_sub(begun.elapsed());
        std::thread::sleep(wait.max(TICK));
    }
}

fn sample(begun: Instant, due: Instant, what: What) -> Sample {
    Sample {
        due_us: micros(due.saturating_duration_since(begun)),
        took_us: micros(due.elapsed()),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::count;

    /// A server that holds up everybody once.
    struct Stalling {
        stall: Arc<tokio::sync::Mutex<Option<Duration>>>,
        /// Whether its client gives up at the deadline.
        patient: bool,
    }

    impl Slot for Stalling {
        async fn call(&mut self, within: Option<Duration>) -> anyhow::Result<What> {
            let work = async {
                let mut stall = self.stall.lock().await;
                if let Some(time) = stall.take() {
                    tokio::time::sleep(time).await;
                }
            };
            match within {
                Some(within) if !self.patient => match tokio::time::timeout(within, work).await {
                    Ok(()) => Ok(What::Good),
                    Err(_elapsed) => Ok(What::Late),
                },
                Some(_) | None => {
                    work.await;
                    Ok(What::Good)
                }
            }
        }
    }

    fn stalling(patient: bool, time: Duration) -> Crew<Stalling> {
        let stall = Arc::new(tokio::sync::Mutex::new(Some(time)));
        Crew::new(vec![Stalling { stall, patient }])
    }

    fn plan(deadline: Option<Duration>) -> Plan {
        Plan {
            per_s: 1_000.0,
            time: Duration::from_millis(50),
            deadline,
        }
    }

    #[test]
    fn calls_are_due_at_their_rate() {
        let plan = Plan {
            per_s: 200.0,
            time: Duration::from_secs(2),
            deadline: None,
        };
        assert_eq!(plan.tickets(), Some(400));
        assert_eq!(plan.due(0), Duration::ZERO);
        assert_eq!(plan.due(3), Duration::from_millis(15));
        assert_eq!(plan.due_after(Duration::ZERO), 1);
        assert_eq!(plan.due_after(Duration::from_millis(16)), 4);
        let none = Plan { per_s: 0.0, ..plan };
        assert_eq!(none.tickets(), None);
        let mad = Plan {
            per_s: f64::NAN,
            ..plan
        };
        assert_eq!(mad.tickets(), None);
    }

    /// Whatever became due while the server stalled has waited, though it was not sent yet.
    #[tokio::test]
    async fn a_stall_is_seen_by_all_calls_that_it_held_up() {
        let mut crew = stalling(true, Duration::from_millis(100));
        let samples = crew.open(plan(None)).await.unwrap().samples;
        assert_eq!(count(&samples, What::Good), 50);
        let least = samples.iter().map(|sample| sample.took_us).min();
        assert!(least.is_some_and(|least| least >= 50_000), "{least:?}");
        // The slot is there for the next load.
        assert_eq!(crew.slots().len(), 1);
    }

    #[tokio::test]
    async fn a_call_that_nobody_can_send_in_time_is_not_sent() {
        let deadline = Some(Duration::from_millis(20));
        let mut crew = stalling(true, Duration::from_millis(100));
        let samples = crew.open(plan(deadline)).await.unwrap().samples;
        let counts = [What::Good, What::Late, What::Unsent].map(|what| count(&samples, what));
        assert_eq!(counts, [1, 0, 49]);
    }

    #[tokio::test]
    async fn a_call_is_given_up_at_its_deadline() {
        let deadline = Some(Duration::from_millis(20));
        let mut crew = stalling(false, Duration::from_secs(600));
        let samples = crew.open(plan(deadline)).await.unwrap().samples;
        assert_eq!(samples.len(), 50);
        let first = samples.iter().find(|sample| sample.due_us == 0);
        let first = first.unwrap();
        assert!(
            first.what == What::Late && first.took_us >= 20_000,
            "{first:?}"
        );
    }

    #[tokio::test]
    async fn a_closed_loop_goes_on_until_its_time_is_over() {
        let mut crew = stalling(true, Duration::ZERO);
        let outcome = crew.closed(Duration::from_millis(5)).await.unwrap();
        assert!(outcome.elapsed >= Duration::from_millis(5) && !outcome.samples.is_empty());
        assert_eq!(
            count(&outcome.samples, What::Good),
            u64::try_from(outcome.samples.len()).unwrap()
        );
        assert_eq!(crew.slots().len(), 1);
    }
}
