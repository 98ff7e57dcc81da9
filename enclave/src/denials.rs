//! Refusals of known clients at known grants, counted, so that their tenants hear of bursts: once a minute for each
//! client and grant.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;

use crate::Enclave;
use crate::audit::Event;
use crate::freeze::Touched;
use crate::ids::{ClientId, GrantId, TenantId};
use crate::pending::Pending;
use crate::seal::SealError;
use crate::store::{Batch, Leaf};
use crate::time::Now;
use crate::view::View;

/// As many refusals within [`WINDOW_MS`] are a burst.
pub const BURST: u64 = 10;

/// Within how long they are counted, and how long nothing more is told of the same client and grant, milliseconds.
const WINDOW_MS: u64 = 60_000;

/// Clients and grants that are counted at a time. What is beyond them is not counted until others have been quiet.
const MAX_COUNTED: usize = 4_096;

/// Of one client, so that no client keeps the others from being counted.
const MAX_COUNTED_OF_A_CLIENT: usize = 256;

/// Bursts of one client that are told within [`WINDOW_MS`]: whoever is refused at many grants does not fill the log.
const MAX_TOLD_OF_A_CLIENT: usize = 16;

/// Bursts that are told in one batch.
const MAX_TOLD: usize = 64;

/// At what refusals are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Place {
    tenant: TenantId,
    grant: GrantId,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    refusals: u64,
    /// When the counting began.
    since_ms: u64,
    since_s: u64,
    told_ms: Option<u64>,
}

impl Count {
    fn begin(now: &Now) -> Self {
        Self {
            refusals: 0,
            since_ms: now.mono_ms,
            since_s: now.lo_s,
            told_ms: None,
        }
    }

    fn is_over(&self, now: &Now) -> bool {
        now.mono_ms.saturating_sub(self.since_ms) >= WINDOW_MS
    }

    fn is_due(&self, now: &Now) -> bool {
        let quiet = |told_ms| now.mono_ms.saturating_sub(told_ms) >= WINDOW_MS;
        self.refusals >= BURST && self.told_ms.is_none_or(quiet)
    }
}

/// A burst that is to be told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Burst {
    place: Place,
    client: ClientId,
    refusals: u64,
    since_s: u64,
    since_ms: u64,
}

/// Bursts of which leaves are on their way.
#[derive(Debug)]
pub struct Bursts(Vec<Burst>);

/// The counts of one client.
#[derive(Debug, Default)]
struct OfClient {
    counts: HashMap<Place, Count>,
    /// When its last bursts were told, as many as may be in a minute.
    told_ms: VecDeque<u64>,
}

impl OfClient {
    /// Few in a minute are forgotten. What is a burst waits until it is told.
    fn forget(&mut self, now: &Now) {
        self.counts
            .retain(|_, count| !count.is_over(now) || count.refusals >= BURST);
        let old = |told_ms: &u64| now.mono_ms.saturating_sub(*told_ms) >= WINDOW_MS;
        while self.told_ms.front().is_some_and(old) {
            self.told_ms.pop_front();
        }
    }
}

/// The counts.
#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<HashMap<ClientId, OfClient>>);

/// How many places are counted.
fn counted(all: &HashMap<ClientId, OfClient>) -> usize {
    let counts = all.values().map(|of| of.counts.len());
    counts.fold(0, usize::saturating_add)
}

/// Forgets what need not be kept, and clients of which nothing is.
fn forget(all: &mut HashMap<ClientId, OfClient>, now: &Now) {
    all.retain(|_, of| {
        of.forget(now);
        !of.counts.is_empty() || !of.told_ms.is_empty()
    });
}

impl Denials {
    fn note(&self, client: &ClientId, place: Place, now: &Now) {
        let mut all = self.0.lock();
        let known = all.get(client).map(|of| &of.counts);
        if known.is_none_or(|counts| !counts.contains_key(&place)) {
            let own = known.map_or(0, HashMap::len);
            if own >= MAX_COUNTED_OF_A_CLIENT || counted(&all) >= MAX_COUNTED {
                forget(&mut all, now);
            }
            let own = all.get(client).map_or(0, |of| of.counts.len());
            if own >= MAX_COUNTED_OF_A_CLIENT || counted(&all) >= MAX_COUNTED {
                return;
            }
        }
        let of = all.entry(client.clone()).or_default();
        let count = of.counts.entry(place).or_insert_with(|| Count::begin(now));
        if count.is_over(now) && count.refusals < BURST {
            let told_ms = count.told_ms;
            *count = Count::begin(now);
            count.told_ms = told_ms;
        }
        count.refusals = count.refusals.saturating_add(1);
    }

    /// The bursts to tell now, those first that have waited longest; they are counted anew from here on.
    fn due(&self, now: &Now) -> Vec<Burst> {
        let mut all = self.0.lock();
        forget(&mut all, now);
        let mut due: Vec<Burst> = Vec::new();
        for (client, of) in all.iter_mut() {
            let mut waiting: Vec<(&Place, &mut Count)> = of.counts.iter_mut().collect();
            waiting.retain(|(_, count)| count.is_due(now));
            waiting.sort_by_key(|(place, count)| (count.told_ms, count.since_ms, (*place).clone()));
            for (place, count) in waiting {
                if due.len() == MAX_TOLD || of.told_ms.len() == MAX_TOLD_OF_A_CLIENT {
                    break;
                }
                due.push(Burst {
                    place: place.clone(),
                    client: client.clone(),
                    refusals: count.refusals,
                    since_s: count.since_s,
                    since_ms: count.since_ms,
                });
                *count = Count::begin(now);
                count.told_ms = Some(now.mono_ms);
                of.told_ms.push_back(now.mono_ms);
            }
        }
        due.sort();
        due
    }

    /// Counts bursts on, of which nobody could be told.
    fn put_back(&self, bursts: Vec<Burst>) {
        let mut all = self.0.lock();
        for burst in bursts {
            let of = all.entry(burst.client).or_default();
            of.told_ms.pop_back();
            let count = of.counts.entry(burst.place).or_insert(Count {
                refusals: 0,
                since_ms: burst.since_ms,
                since_s: burst.since_s,
                told_ms: None,
            });
            count.refusals = count.refusals.saturating_add(burst.refusals);
            count.since_ms = burst.since_ms;
            count.since_s = burst.since_s;
            count.told_ms = None;
        }
    }
}

impl Enclave {
    /// Counts that a client was refused at a grant. Of a grant that is not there nobody is told.
    pub(crate) fn count_denial(&self, view: &View, client: &ClientId, grant: &GrantId, now: &Now) {
        if let Some(held) = view.grants.get(grant) {
            let place = Place {
                tenant: held.value.tenant.clone(),
                grant: grant.clone(),
            };
            self.denials.note(client, place, now);
        }
    }

    /// Leaves about bursts of refusals, to be made durable; none if there is nothing to tell. To be asked every second
    /// or so. If they do not become durable, [`bursts_untold`](Self::bursts_untold) says so.
    ///
    /// # Errors
    /// [`SealError`] if there are no random bytes.
    pub fn denied_bursts(&self, now: &Now) -> Result<Option<(Bursts, Pending<()>)>, SealError> {
        let due = self.denials.due(now);
        if due.is_empty() {
            return Ok(None);
        }
        match self.leaves_of(&due, now) {
            Ok(leaves) => {
                let writes = Vec::new();
                let batch = Batch { writes, leaves };
                let pending = Pending::new(batch, Vec::new(), Touched::nothing(), ());
                Ok(Some((Bursts(due), pending)))
            }
            Err(error) => {
                self.denials.put_back(due);
                Err(error)
            }
        }
    }

    /// These bursts could not be told: they are counted on, and told with what comes.
    pub fn bursts_untold(&self, bursts: Bursts) {
        self.denials.put_back(bursts.0);
    }

    fn leaves_of(&self, bursts: &[Burst], now: &Now) -> Result<Vec<Leaf>, SealError> {
        let view = self.view.read();
        // Some may have been erased meanwhile.
        let known = bursts
            .iter()
            .filter(|burst| view.realm_key(&burst.place.tenant).is_ok());
        let leaves = known.map(|burst| {
            let event = Event::DeniedBurst {
                grant: &burst.place.grant,
                client: &burst.client,
                refusals: burst.refusals,
                since_s: burst.since_s,
            };
            self.leaf(&view, Some(&burst.place.tenant), &event, now)
        });
        leaves.collect()
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::registry::{Client, Rotation};
    use crate::testing::{World, id};

    fn at(mono_ms: u64) -> Now {
        Now {
            lo_s: 1_000_000 + mono_ms / 1_000,
            hi_s: 1_000_005 + mono_ms / 1_000,
            mono_ms,
        }
    }

    fn note_of(denials: &Denials, client: &str, grant: &str, times: u64, mono_ms: u64) {
        for _ in 0..times {
            let place = Place {
                tenant: id("acme"),
                grant: id(grant),
            };
            denials.note(&id(client), place, &at(mono_ms));
        }
    }

    fn note(denials: &Denials, grant: &str, times: u64, mono_ms: u64) {
        note_of(denials, "sync", grant, times, mono_ms);
    }

    fn due(denials: &Denials, mono_ms: u64) -> Vec<(String, u64, u64)> {
        let due = denials.due(&at(mono_ms)).into_iter();
        due.map(|burst| {
            let since_s = burst.since_s - 1_000_000;
            (burst.place.grant.to_string(), burst.refusals, since_s)
        })
        .collect()
    }

    #[test]
    fn a_burst_is_told_at_once_and_then_once_a_minute() {
        let denials = Denials::default();
        note(&denials, "crm", BURST - 1, 0);
        assert_eq!(due(&denials, 1), []);
        note(&denials, "crm", 1, 5_000);
        note(&denials, "mail", BURST, 6_000);
        let both = [("crm".to_owned(), 10, 0), ("mail".to_owned(), 10, 6)];
        assert_eq!(due(&denials, 7_000), both);
        // What follows within the minute waits for its end, and is one number.
        note(&denials, "crm", 500, 8_000);
        assert_eq!(due(&denials, 66_999), []);
        assert_eq!(due(&denials, 67_000), [("crm".to_owned(), 500, 7)]);
        assert_eq!(due(&denials, 200_000), []);
        assert!(denials.0.lock().is_empty(), "nothing is kept");
    }

    #[test]
    fn few_in_each_minute_are_no_burst() {
        let denials = Denials::default();
        for minute in 0..5 {
            note(&denials, "crm", BURST - 1, minute * WINDOW_MS);
            assert_eq!(due(&denials, minute * WINDOW_MS + 1), []);
        }
        // One that was told does not make those behind it one.
        note(&denials, "crm", 1, 4 * WINDOW_MS + 2);
        assert_eq!(due(&denials, 4 * WINDOW_MS + 3).len(), 1);
        note(&denials, "crm", BURST - 1, 4 * WINDOW_MS + 4);
        assert_eq!(due(&denials, 6 * WINDOW_MS), []);
    }

    #[test]
    fn no_client_takes_the_places_of_the_others_or_fills_the_log() {
        let denials = Denials::default();
        for number in 0..=MAX_COUNTED_OF_A_CLIENT {
            note(&denials, &format!("g{number}"), BURST, 0);
        }
        assert_eq!(counted(&denials.0.lock()), MAX_COUNTED_OF_A_CLIENT);
        note_of(&denials, "other", "crm", BURST, 0);
        // Of each client so many a minute; the others wait, and lose nothing.
        assert_eq!(due(&denials, 1).len(), MAX_TOLD_OF_A_CLIENT + 1);
        assert_eq!(due(&denials, WINDOW_MS), []);
        let mut told = MAX_TOLD_OF_A_CLIENT;
        let mut mono_ms = 1;
        while told < MAX_COUNTED_OF_A_CLIENT {
            mono_ms += WINDOW_MS;
            let bursts = due(&denials, mono_ms);
            assert_eq!(bursts.len(), MAX_TOLD_OF_A_CLIENT);
            assert!(bursts.iter().all(|(_, refusals, _)| *refusals == BURST));
            told += bursts.len();
        }
        assert_eq!(due(&denials, mono_ms + WINDOW_MS), []);
        assert!(denials.0.lock().is_empty(), "nothing is kept");
    }

    #[test]
    fn who_goes_on_at_many_grants_is_told_of_at_each_in_turn() {
        let denials = Denials::default();
        let grants: Vec<_> = (0..3 * MAX_TOLD_OF_A_CLIENT)
            .map(|number| format!("g{number:02}"))
            .collect();
        let mut told = Vec::new();
        for minute in 0..3 {
            for grant in &grants {
                note(&denials, grant, BURST, minute * WINDOW_MS);
            }
            let bursts = due(&denials, minute * WINDOW_MS + 1).into_iter();
            told.extend(bursts.map(|(grant, ..)| grant));
        }
        told.sort();
        assert_eq!(told, grants);
    }

    #[test]
    fn what_could_not_be_told_is_told_with_what_comes() {
        let denials = Denials::default();
        note(&denials, "crm", BURST, 5_000);
        let untold = denials.due(&at(6_000));
        assert_eq!(untold.len(), 1);
        note(&denials, "crm", 2, 7_000);
        denials.put_back(untold);
        assert_eq!(due(&denials, 8_000), [("crm".to_owned(), BURST + 2, 5)]);
        assert_eq!(due(&denials, 8_001), []);
    }

    #[test]
    fn whoever_names_a_foreign_grant_is_counted_there_by_its_id_and_by_its_resource() {
        let world = World::new(Rotation::Strict);
        let other = Client {
            id: id("other"),
            tls_spki_sha256: Some([9; 32]),
            ..(*world.enclave.view.read().clients["worker"].value).clone()
        };
        let made = world
            .enclave
            .create_client(world.admin(), other, &world.now);
        world.settle(made.unwrap());
        let of_worker: GrantId = id("contacts");
        let by_other = |grant: Option<&str>| {
            let asked = world.ask(|asking| {
                asking.peer = Some([9; 32]);
                asking.grant = grant.map(Into::into);
            });
            asked.unwrap_err();
        };
        for _ in 0..BURST / 2 {
            by_other(Some("contacts"));
            by_other(None);
        }
        by_other(Some("nowhere"));
        let due = world.enclave.denials.due(&world.now);
        let [burst] = &due[..] else {
            panic!("one burst: {due:?}");
        };
        assert_eq!(burst.place.grant, of_worker);
        assert_eq!((burst.client.as_str(), burst.refusals), ("other", BURST));
    }

    #[test]
    fn what_is_counted_is_bounded() {
        let denials = Denials::default();
        for client in 0..MAX_COUNTED / MAX_COUNTED_OF_A_CLIENT {
            for number in 0..MAX_COUNTED_OF_A_CLIENT {
                note_of(&denials, &format!("c{client}"), &format!("g{number}"), 1, 0);
            }
        }
        note_of(&denials, "more", "crm", BURST, 1);
        assert_eq!(counted(&denials.0.lock()), MAX_COUNTED);
        assert_eq!(due(&denials, 2), []);
        // Once the others have been quiet, there is room.
        note_of(&denials, "more", "crm", BURST, WINDOW_MS);
        assert_eq!(due(&denials, WINDOW_MS + 1).len(), 1);
    }
}
