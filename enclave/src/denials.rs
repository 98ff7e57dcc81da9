//! Refusals of known clients at known grants, counted, so that their tenants hear of bursts: once a minute for each
//! client and grant.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::Enclave;
use crate::audit::Event;
use crate::freeze::Touched;
use crate::ids::{ClientId, GrantId, TenantId};
use crate::pending::Pending;
use crate::seal::SealError;
use crate::store::Batch;
use crate::time::Now;
use crate::view::View;

/// As many refusals within [`WINDOW_MS`] are a burst.
pub const BURST: u64 = 10;

/// Within how long they are counted, and how long nothing more is told of the same client and grant, milliseconds.
const WINDOW_MS: u64 = 60_000;

/// Clients and grants that are counted at a time. What is beyond them is not counted until others have been quiet.
const MAX_COUNTED: usize = 4_096;

/// Bursts that are told in one batch.
const MAX_TOLD: usize = 64;

/// Whose refusals are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Place {
    tenant: TenantId,
    client: ClientId,
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
#[derive(Clone, Debug, PartialEq, Eq)]
struct Burst {
    place: Place,
    refusals: u64,
    since_s: u64,
}

/// The counts.
#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<HashMap<Place, Count>>);

impl Denials {
    fn note(&self, place: Place, now: &Now) {
        let mut counts = self.0.lock();
        if !counts.contains_key(&place) && counts.len() >= MAX_COUNTED {
            counts.retain(|_, count| !count.is_over(now) || count.refusals >= BURST);
            if counts.len() >= MAX_COUNTED {
                return;
            }
        }
        let count = counts.entry(place).or_insert_with(|| Count::begin(now));
        // Few in a minute are forgotten. What is a burst waits until it is told.
        if count.is_over(now) && count.refusals < BURST {
            let told_ms = count.told_ms;
            *count = Count::begin(now);
            count.told_ms = told_ms;
        }
        count.refusals = count.refusals.saturating_add(1);
    }

    /// The bursts to tell now; they are counted anew from here on.
    fn due(&self, now: &Now) -> Vec<Burst> {
        let mut counts = self.0.lock();
        counts.retain(|_, count| !count.is_over(now) || count.refusals >= BURST);
        let mut due: Vec<Burst> = Vec::new();
        for (place, count) in counts.iter_mut().filter(|(_, count)| count.is_due(now)) {
            if due.len() == MAX_TOLD {
                break;
            }
            due.push(Burst {
                place: place.clone(),
                refusals: count.refusals,
                since_s: count.since_s,
            });
            *count = Count::begin(now);
            count.told_ms = Some(now.mono_ms);
        }
        due.sort_by(|a, b| a.place.cmp(&b.place));
        due
    }
}

impl Enclave {
    /// Counts that a client was refused at a grant. Of a grant that is not there nobody is told.
    pub(crate) fn count_denial(&self, view: &View, client: &ClientId, grant: &GrantId, now: &Now) {
        if let Some(held) = view.grants.get(grant) {
            let place = Place {
                tenant: held.value.tenant.clone(),
                client: client.clone(),
                grant: grant.clone(),
            };
            self.denials.note(place, now);
        }
    }

    /// Leaves about bursts of refusals, to be made durable; none if there is nothing to tell. To be asked every second
    /// or so.
    ///
    /// # Errors
    /// [`SealError`] if there are no random bytes.
    pub fn denied_bursts(&self, now: &Now) -> Result<Option<Pending<()>>, SealError> {
        let due = self.denials.due(now);
        if due.is_empty() {
            return Ok(None);
        }
        let view = self.view.read();
        let mut leaves = Vec::new();
        for burst in &due {
            let Place {
                tenant,
                client,
                grant,
            } = &burst.place;
            // It was erased meanwhile.
            if view.realm_key(tenant).is_err() {
                continue;
            }
            let event = Event::DeniedBurst {
                grant,
                client,
                refusals: burst.refusals,
                since_s: burst.since_s,
            };
            leaves.push(self.leaf(&view, Some(tenant), &event, now)?);
        }
        let batch = Batch {
            writes: Vec::new(),
            leaves,
        };
        Ok(Some(Pending::new(
            batch,
            Vec::new(),
            Touched::nothing(),
            (),
        )))
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::testing::id;

    fn at(mono_ms: u64) -> Now {
        Now {
            lo_s: 1_000_000 + mono_ms / 1_000,
            hi_s: 1_000_005 + mono_ms / 1_000,
            mono_ms,
        }
    }

    fn place(grant: &str) -> Place {
        Place {
            tenant: id("acme"),
            client: id("sync"),
            grant: id(grant),
        }
    }

    fn note(denials: &Denials, grant: &str, times: u64, mono_ms: u64) {
        for _ in 0..times {
            denials.note(place(grant), &at(mono_ms));
        }
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
    fn what_is_counted_is_bounded() {
        let denials = Denials::default();
        for number in 0..MAX_COUNTED {
            note(&denials, &format!("g{number}"), BURST, 0);
        }
        note(&denials, "more", BURST, 1);
        assert_eq!(denials.0.lock().len(), MAX_COUNTED);
        let mut told = 0;
        loop {
            match due(&denials, 2) {
                bursts if bursts.is_empty() => break,
                bursts => {
                    assert!(bursts.len() <= MAX_TOLD);
                    assert!(bursts.iter().all(|(grant, ..)| grant != "more"));
                    told += bursts.len();
                }
            }
        }
        assert_eq!(told, MAX_COUNTED);
        // Once the others have been quiet, there is room.
        note(&denials, "more", BURST, 2 * WINDOW_MS);
        assert_eq!(due(&denials, 2 * WINDOW_MS + 1).len(), 1);
    }
}
