//! The sequence numbers of each tenant: 1, 2, 3, … over all logs and boots, each once.
//!
//! A number is taken before its leaf is durable, so at any moment a few of the newest may be under way. One that is
//! missing below a leaf that has long been there is missing for good.

use std::collections::{BTreeMap, HashMap};

/// Seconds after which a leaf is not under way any more.
pub const SETTLED_S: u64 = 60;

/// Numbers that were seen, in runs without a gap.
#[derive(Debug, Default)]
struct Seen {
    /// By the first number of a run: the last one, and when the first one's leaf was written.
    runs: BTreeMap<u64, (u64, u64)>,
}

/// Numbers that no leaf has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The tenant's tag; none for what is of no tenant.
    pub tenant: Option<String>,
    /// The first number.
    pub from: u64,
    /// The last one.
    pub to: u64,
    /// Whether their leaves can't be under way any more.
    pub is_settled: bool,
}

/// The numbers of all tenants.
#[derive(Debug, Default)]
pub struct Numbers {
    of: HashMap<Box<str>, Seen>,
    system: Seen,
    newest_s: u64,
}

impl Seen {
    /// Notes a number. False if it was seen before.
    fn note(&mut self, number: u64, at_s: u64) -> bool {
        let before = self.runs.range_mut(..=number).next_back();
        let mut start = number;
        if let Some((first, (last, _))) = before {
            if *last >= number {
                return false;
            }
            if last.saturating_add(1) == number {
                *last = number;
                start = *first;
            }
        }
        if start == number {
            self.runs.insert(number, (number, at_s));
        }
        // The run behind it may follow now.
        let next = number.saturating_add(1);
        if let Some((end, _)) = self.runs.remove(&next)
            && let Some((last, _)) = self.runs.get_mut(&start)
        {
            *last = end;
        }
        true
    }

    fn gaps(&self, tenant: Option<&str>, newest_s: u64, gaps: &mut Vec<Gap>) {
        let mut next = 1;
        for (first, (last, at_s)) in &self.runs {
            if *first > next {
                gaps.push(Gap {
                    tenant: tenant.map(str::to_owned),
                    from: next,
                    to: first.saturating_sub(1),
                    is_settled: at_s.saturating_add(SETTLED_S) <= newest_s,
                });
            }
            next = last.saturating_add(1);
        }
    }
}

impl Numbers {
    /// Notes the number of a leaf. False if another leaf has it.
    pub fn note(&mut self, tenant: Option<&str>, number: u64, at_s: u64) -> bool {
        self.newest_s = self.newest_s.max(at_s);
        let seen = match tenant {
            None => &mut self.system,
            Some(tag) => match self.of.get_mut(tag) {
                Some(_) => match self.of.get_mut(tag) {
                    Some(seen) => seen,
                    None => return false,
                },
                None => self.of.entry(tag.into()).or_default(),
            },
        };
        seen.note(number, at_s)
    }

    /// The tenants that have leaves.
    #[must_use]
    pub fn tenants(&self) -> usize {
        self.of.len()
    }

    /// The numbers that no leaf has, below one that a leaf has.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        self.system.gaps(None, self.newest_s, &mut gaps);
        let mut tenants: Vec<_> = self.of.iter().collect();
        tenants.sort_by_key(|(tag, _)| *tag);
        for (tag, seen) in tenants {
            seen.gaps(Some(tag), self.newest_s, &mut gaps);
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_any_order_leave_no_gap() {
        // Each order of 1 to 6.
        let mut orders = vec![Vec::new()];
        for number in 1..=6_u64 {
            orders = orders
                .into_iter()
                .flat_map(|order: Vec<u64>| {
                    (0..=order.len()).map(move |at| {
                        let mut next = order.clone();
                        next.insert(at, number);
                        next
                    })
                })
                .collect();
        }
        assert_eq!(orders.len(), 720);
        for order in orders {
            let mut numbers = Numbers::default();
            for number in &order {
                assert!(numbers.note(Some("t"), *number, 5));
            }
            assert_eq!(numbers.gaps(), []);
            for number in &order {
                assert!(
                    !numbers.note(Some("t"), *number, 5),
                    "{number} in {order:?}"
                );
            }
        }
    }

    #[test]
    fn a_gap_is_settled_when_what_follows_it_is_old() {
        let mut numbers = Numbers::default();
        let gap = |tenant: Option<&str>, from, to, is_settled| Gap {
            tenant: tenant.map(str::to_owned),
            from,
            to,
            is_settled,
        };
        for (number, at_s) in [(2, 100), (5, 120), (1, 130)] {
            assert!(numbers.note(None, number, at_s));
        }
        assert!(numbers.note(Some("t"), 3, 140));
        assert_eq!(
            numbers.gaps(),
            [gap(None, 3, 4, false), gap(Some("t"), 1, 2, false)]
        );
        assert!(numbers.note(Some("t"), 4, 180));
        assert_eq!(
            numbers.gaps(),
            [gap(None, 3, 4, true), gap(Some("t"), 1, 2, false)]
        );
        assert!(numbers.note(None, 3, 181));
        assert!(numbers.note(None, 4, 200));
        assert_eq!(numbers.gaps(), [gap(Some("t"), 1, 2, true)]);
        assert_eq!(numbers.tenants(), 1);
    }
}
