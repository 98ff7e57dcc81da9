//! Whose turn it is: which webhooks are served next, so that none keeps the others waiting.

use std::collections::{HashMap, HashSet};

use enclave::ids::TenantId;
use enclave::webhook::Webhook;

/// Webhooks that are served at a time.
const AT_ONCE: usize = 16;

/// Of one tenant.
const AT_ONCE_OF_A_TENANT: usize = 2;

/// The wait after a first failure; it doubles with each, up to the longest.
const WAITS_MS: (u64, u64) = (1_000, 600_000);

/// How often it is written down how far a webhook was served, while nothing is posted: as far back it looks again after
/// a restart.
const NOTE_MS: u64 = 60_000;

/// Where a webhook stands in this boot.
#[derive(Clone, Debug)]
struct Standing {
    tenant: TenantId,
    next: u64,
    noted_ms: u64,
    due_ms: u64,
    failures: u32,
    failing_since_ms: Option<u64>,
    under_way: bool,
    /// The number of its last turn.
    last_turn: u64,
}

/// The standings, by what tells a webhook from one that had its name before.
#[derive(Debug, Default)]
pub(super) struct Rota {
    standings: HashMap<String, Standing>,
    /// How many turns there were.
    turns: u64,
}

/// A turn: one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) webhook: Webhook,
    /// The first leaf to look at.
    pub(super) next: u64,
    /// Whether it is to be written down how far it was served, though nothing is posted.
    pub(super) note: bool,
    /// Since when in this boot the receiver takes nothing.
    pub(super) failing_since_ms: Option<u64>,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    /// The first leaf that was not looked at, or whose event was not taken.
    pub(super) next: u64,
    /// Whether something was taken.
    pub(super) taken: bool,
    /// Whether it was written down.
    pub(super) noted: bool,
    /// Whether it failed, and by whom.
    pub(super) fault: Option<Fault>,
}

/// Whose fault it is that a turn failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Something was not taken.
    Receiver,
    /// An event could not be read or made.
    Own,
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

impl Rota {
    /// The turns of a round: of `webhooks` those with something to do, who waited longest for a turn first. `end` is how
    /// many leaves the log has.
    pub(super) fn choose(&mut self, webhooks: Vec<Webhook>, end: u64, now_ms: u64) -> Vec<Turn> {
        self.forget(&webhooks);
        let mut of_tenants: HashMap<TenantId, usize> = HashMap::new();
        let mut at_once = 0_usize;
        for standing in self.standings.values().filter(|one| one.under_way) {
            at_once = at_once.saturating_add(1);
            let own = of_tenants.entry(standing.tenant.clone()).or_default();
            *own = own.saturating_add(1);
        }
        let due = webhooks.into_iter();
        let mut due: Vec<(u64, Turn)> = due
            .filter_map(|webhook| self.due(webhook, end, now_ms))
            .collect();
        due.sort_by_key(|(last_turn, _)| *last_turn);
        let mut turns = Vec::new();
        for (_, turn) in due {
            if at_once >= AT_ONCE {
                break;
            }
            let own = of_tenants.entry(turn.webhook.tenant.clone()).or_default();
            if *own >= AT_ONCE_OF_A_TENANT {
                continue;
            }
            *own = own.saturating_add(1);
            at_once = at_once.saturating_add(1);
            self.turns = self.turns.saturating_add(1);
            if let Some(standing) = self.standings.get_mut(&turn.webhook.made) {
                standing.under_way = true;
                standing.last_turn = self.turns;
            }
            turns.push(turn);
        }
        turns
    }

    /// Deleted ones, and those that were given up, are forgotten.
    fn forget(&mut self, webhooks: &[Webhook]) {
        let there: HashSet<&str> = webhooks.iter().map(|one| one.made.as_str()).collect();
        self.standings
            .retain(|made, standing| standing.under_way || there.contains(made.as_str()));
    }

    /// A webhook's turn and the number of its last one, if it has something to do, is due and nobody serves it.
    fn due(&mut self, webhook: Webhook, end: u64, now_ms: u64) -> Option<(u64, Turn)> {
        let begin = || Standing {
            tenant: webhook.tenant.clone(),
            next: webhook.next,
            noted_ms: now_ms,
            due_ms: 0,
            failures: 0,
            failing_since_ms: None,
            under_way: false,
            // Behind those that wait already.
            last_turn: self.turns,
        };
        let standing = self.standings.entry(webhook.made.clone());
        let standing = standing.or_insert_with(begin);
        let is_late = now_ms.saturating_sub(standing.noted_ms) >= NOTE_MS;
        let is_behind = is_late && standing.next > webhook.next;
        // A mark that is left behind the log's end is taken away.
        let has_work = standing.next < end || is_behind || webhook.failing_since_s.is_some();
        if standing.under_way || standing.due_ms > now_ms || !has_work {
            return None;
        }
        let turn = Turn {
            next: standing.next,
            note: is_late,
            failing_since_ms: standing.failing_since_ms,
            webhook,
        };
        Some((standing.last_turn, turn))
    }

    /// Ends a webhook's turn.
    pub(super) fn end(&mut self, webhook: &Webhook, ended: Ended, now_ms: u64, random: u8) {
        let Some(standing) = self.standings.get_mut(&webhook.made) else {
            return;
        };
        let Ended {
            next,
            taken,
            noted,
            fault,
        } = ended;
        standing.under_way = false;
        standing.next = next;
        if noted {
            standing.noted_ms = now_ms;
        }
        if taken || fault.is_none() {
            (standing.failures, standing.due_ms) = (0, 0);
            standing.failing_since_ms = None;
        }
        let Some(fault) = fault else {
            return;
        };
        if fault == Fault::Receiver {
            standing.failing_since_ms.get_or_insert(now_ms);
        }
        standing.due_ms = now_ms.saturating_add(wait_ms(standing.failures, random));
        standing.failures = standing.failures.saturating_add(1);
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeSet;

    use enclave::http_url::HttpUrl;
    use enclave::ids::WebhookId;

    use super::*;

    fn webhook(tenant: &str, id: &str) -> Webhook {
        Webhook {
            id: WebhookId::parse(id).unwrap(),
            made: format!("{tenant}/{id}/1"),
            tenant: TenantId::parse(tenant).unwrap(),
            url: HttpUrl::parse("https://siem.example/hook").unwrap(),
            kinds: BTreeSet::new(),
            created_at_s: 1,
            by: "owner".to_owned(),
            next: 0,
            failing_since_s: None,
            disabled_at_s: None,
        }
    }

    fn ids(turns: &[Turn]) -> Vec<String> {
        let ids = turns.iter().map(|turn| &turn.webhook);
        ids.map(|one| format!("{}/{}", one.tenant, one.id))
            .collect()
    }

    fn taken(next: u64) -> Ended {
        Ended {
            next,
            taken: true,
            noted: true,
            fault: None,
        }
    }

    fn failed(next: u64, fault: Fault) -> Ended {
        Ended {
            next,
            fault: Some(fault),
            ..Ended::default()
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_differ() {
        let waits: Vec<u64> = (0..12).map(|failures| wait_ms(failures, 0)).collect();
        assert_eq!(waits[..4], [1_000, 2_000, 4_000, 8_000]);
        assert_eq!(waits[10..], [600_000, 600_000]);
        assert_eq!(wait_ms(u32::MAX, 0), 600_000);
        assert_eq!(wait_ms(0, 255), 750);
        assert!(wait_ms(3, 100) < wait_ms(3, 50));
    }

    #[test]
    fn each_of_many_has_its_turn_before_any_has_another() {
        // Each with a backlog that no turn comes to the end of.
        let tenants = 0..40;
        let all: Vec<Webhook> = tenants
            .map(|number| webhook(&format!("t{number:02}"), "siem"))
            .collect();
        let mut rota = Rota::default();
        let mut seen = Vec::new();
        for round in 0..5 {
            let turns = rota.choose(all.clone(), 1_000_000, round);
            assert_eq!(turns.len(), AT_ONCE);
            seen.extend(ids(&turns));
            for turn in turns {
                rota.end(&turn.webhook, taken(turn.next + 1), round, 0);
            }
        }
        let (first, rest) = seen.split_at(all.len());
        assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(*rest, first[..rest.len()], "and then again in that order");
    }

    #[test]
    fn each_of_a_tenants_has_its_turn_beside_those_of_others() {
        let mut all: Vec<Webhook> = Vec::new();
        for tenant in ["a", "b", "c"] {
            all.extend((0..8).map(|number| webhook(tenant, &format!("w{number}"))));
        }
        let mut rota = Rota::default();
        let mut seen = BTreeSet::new();
        for round in 0..4 {
            let turns = rota.choose(all.clone(), 1_000_000, round);
            assert_eq!(turns.len(), 3 * AT_ONCE_OF_A_TENANT);
            seen.extend(ids(&turns));
            for turn in turns {
                rota.end(&turn.webhook, taken(turn.next + 1), round, 0);
            }
        }
        assert_eq!(seen.len(), all.len());
    }

    #[test]
    fn receivers_that_keep_their_turns_leave_places_for_other_tenants() {
        let mut all: Vec<Webhook> = Vec::new();
        for tenant in ["a", "b", "c", "d", "e", "f", "g"] {
            all.extend((0..8).map(|number| webhook(tenant, &format!("w{number}"))));
        }
        let mut rota = Rota::default();
        // Nobody of these comes to an end.
        let turns = rota.choose(all.clone(), 9, 0);
        assert_eq!(turns.len(), 7 * AT_ONCE_OF_A_TENANT);
        assert_eq!(rota.choose(all.clone(), 9, 1), []);
        all.push(webhook("z", "siem"));
        assert_eq!(ids(&rota.choose(all.clone(), 9, 2)), ["z/siem"]);
        // One that ends lets its tenant's others follow.
        rota.end(&turns[0].webhook, taken(1), 3, 0);
        let next = rota.choose(all, 9, 4);
        assert_eq!(next.len(), 1);
        assert_eq!(next[0].webhook.tenant, turns[0].webhook.tenant);
        assert_ne!(next[0].webhook.id, turns[0].webhook.id);
    }

    #[test]
    fn who_has_nothing_to_do_has_no_turn() {
        let mut rota = Rota::default();
        let mut one = webhook("acme", "siem");
        one.next = 9;
        assert_eq!(rota.choose(vec![one.clone()], 9, 0), []);
        let turns = rota.choose(vec![one.clone()], 10, 0);
        assert_eq!((turns[0].next, turns[0].note), (9, false));
        // It passed over what is no event: that is written down once a minute.
        let passed = Ended {
            next: 10,
            ..Ended::default()
        };
        rota.end(&one, passed, 0, 0);
        assert_eq!(rota.choose(vec![one.clone()], 10, NOTE_MS - 1), []);
        let turns = rota.choose(vec![one.clone()], 10, NOTE_MS);
        assert!(turns[0].note);
        let noted = Ended {
            noted: true,
            ..passed
        };
        rota.end(&one, noted, NOTE_MS, 0);
        one.next = 10;
        assert_eq!(rota.choose(vec![one.clone()], 10, 2 * NOTE_MS), []);
        // A mark at the log's end is to be taken away.
        one.failing_since_s = Some(5);
        assert_eq!(rota.choose(vec![one], 10, 2 * NOTE_MS).len(), 1);
    }

    #[test]
    fn failures_wait_and_the_receivers_are_counted() {
        let mut rota = Rota::default();
        let one = webhook("acme", "siem");
        let mut turn = |now_ms| rota.choose(vec![one.clone()], 9, now_ms).pop();
        assert_eq!(turn(0).unwrap().failing_since_ms, None);
        rota.end(&one, failed(0, Fault::Own), 0, 0);
        let mut turn = |now_ms| rota.choose(vec![one.clone()], 9, now_ms).pop();
        assert_eq!(turn(999), None);
        // What is the service's own fault is not held against the receiver.
        assert_eq!(turn(1_000).unwrap().failing_since_ms, None);
        rota.end(&one, failed(0, Fault::Receiver), 1_000, 0);
        let mut turn = |now_ms| rota.choose(vec![one.clone()], 9, now_ms).pop();
        assert_eq!(turn(2_999), None);
        assert_eq!(turn(3_000).unwrap().failing_since_ms, Some(1_000));
        rota.end(&one, failed(0, Fault::Receiver), 3_000, 0);
        let mut turn = |now_ms| rota.choose(vec![one.clone()], 9, now_ms).pop();
        assert_eq!(turn(7_000).unwrap().failing_since_ms, Some(1_000));
        // One event that is taken begins it anew.
        let some = Ended {
            taken: true,
            ..failed(1, Fault::Receiver)
        };
        rota.end(&one, some, 7_000, 0);
        let mut turn = |now_ms| rota.choose(vec![one.clone()], 9, now_ms).pop();
        assert_eq!(turn(7_999), None);
        let turn = turn(8_000).unwrap();
        assert_eq!((turn.next, turn.failing_since_ms), (1, Some(7_000)));
    }

    #[test]
    fn one_that_is_made_anew_begins_where_it_says() {
        let mut rota = Rota::default();
        let before = webhook("acme", "siem");
        assert_eq!(rota.choose(vec![before.clone()], 9, 0).len(), 1);
        // Deleted and made anew while the one before is served still.
        let after = Webhook {
            made: "acme/siem/2".to_owned(),
            next: 3,
            ..before.clone()
        };
        let turns = rota.choose(vec![after.clone()], 9, 1);
        assert_eq!((turns[0].next, turns[0].failing_since_ms), (3, None));
        rota.end(&before, failed(5, Fault::Receiver), 2, 0);
        rota.end(&after, taken(4), 2, 0);
        let turns = rota.choose(vec![after], 9, 3);
        assert_eq!((turns[0].next, turns[0].failing_since_ms), (4, None));
        assert_eq!(rota.standings.len(), 1, "the one before is forgotten");
    }
}
