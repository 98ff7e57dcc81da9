//! The records of a store: in the order of their keys, and in that in which they came.
//!
//! A key is a MAC, so keys are spread evenly: the first two bytes of one lead to
//! a short list of those that share them, in which the next four nearly always
//! tell them apart. Records themselves lie in the order in which they came, as
//! does what they refer to: a start that goes through all of them reads memory
//! from front to back, where a tree would jump to another page for each.

use enclave::store::Key;
use std::cmp::Ordering;
use std::sync::Arc;

/// One for each value of a key's first two bytes.
const LISTS: usize = 1 << 16;

/// A record's generation and sealed bytes.
pub(super) struct Stored {
    pub(super) generation: u64,
    pub(super) sealed: Arc<[u8]>,
}

/// Where a record lies.
type Place = u32;

/// A key's place in its list: its next four bytes, and where its record lies.
type Entry = (u32, Place);

/// Records by key.
pub(super) struct Records {
    lists: Box<[Vec<Entry>]>,
    records: Vec<Option<(Key, Stored)>>,
    free: Vec<Place>,
    count: usize,
}

/// No more records can be numbered.
#[derive(Debug)]
pub(super) struct Full;

impl Default for Records {
    fn default() -> Self {
        Self {
            lists: std::iter::repeat_with(Vec::new).take(LISTS).collect(),
            records: Vec::new(),
            free: Vec::new(),
            count: 0,
        }
    }
}

impl Records {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The record under a key.
    pub(super) fn get(&self, key: &Key) -> Option<&Stored> {
        let list = self.lists.get(list_of(key))?;
        let (_, place) = list.get(self.find(list, key).ok()?)?;
        self.at(*place).map(|(_, stored)| stored)
    }

    /// Puts a record under a key. Gives the one that was there.
    pub(super) fn insert(&mut self, key: Key, stored: Stored) -> Result<Option<Stored>, Full> {
        let list = self.lists.get(list_of(&key)).ok_or(Full)?;
        let found = self.find(list, &key);
        let known = found.ok().and_then(|at| list.get(at)).map(|(_, at)| *at);
        if let Some(place) = known {
            let held = self.records.get_mut(place as usize);
            let held = held.and_then(Option::as_mut).ok_or(Full)?;
            return Ok(Some(std::mem::replace(&mut held.1, stored)));
        }
        let record = Some((key, stored));
        let place = match self.free.pop() {
            Some(place) => {
                *self.records.get_mut(place as usize).ok_or(Full)? = record;
                place
            }
            None => {
                let place = Place::try_from(self.records.len()).map_err(|_over| Full)?;
                self.records.push(record);
                place
            }
        };
        let list = self.lists.get_mut(list_of(&key)).ok_or(Full)?;
        list.insert(found.unwrap_or_else(|at| at), (next_bytes(&key), place));
        self.count = self.count.saturating_add(1);
        Ok(None)
    }

    /// Takes the record under a key away.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Stored> {
        let list = self.lists.get(list_of(key))?;
        let found = self.find(list, key).ok()?;
        let list = self.lists.get_mut(list_of(key))?;
        let (_, place) = list.remove(found);
        let (_, stored) = self.records.get_mut(place as usize)?.take()?;
        self.free.push(place);
        self.count = self.count.saturating_sub(1);
        Some(stored)
    }

    /// The records whose keys follow `after`, in the order of their keys.
    pub(super) fn following(&self, after: Option<&Key>) -> impl Iterator<Item = (&Key, &Stored)> {
        let mut lists = self.lists.iter().skip(after.map_or(0, list_of));
        let begun = lists.next().map_or(&[][..], |list| {
            let from = match after.map(|after| self.find(list, after)) {
                None => 0,
                Some(Ok(found)) => found.saturating_add(1),
                Some(Err(before)) => before,
            };
            list.get(from..).unwrap_or_default()
        });
        let entries = begun.iter().chain(lists.flatten());
        entries
            .filter_map(|(_, place)| self.at(*place))
            .map(|(key, stored)| (key, stored))
    }

    /// The records that lie from the place `from` on, with their places.
    pub(super) fn in_place(&self, from: usize) -> impl Iterator<Item = (usize, &Key, &Stored)> {
        let rest = self.records.iter().enumerate().skip(from);
        rest.filter_map(|(place, record)| {
            let (key, stored) = record.as_ref()?;
            Some((place, key, stored))
        })
    }

    /// The last key.
    pub(super) fn last_key(&self) -> Option<Key> {
        let mut lists = self.lists.iter().rev();
        let (_, place) = lists.find_map(|list| list.last())?;
        self.at(*place).map(|(key, _)| *key)
    }

    fn at(&self, place: Place) -> Option<&(Key, Stored)> {
        self.records.get(place as usize)?.as_ref()
    }

    /// Where a key is in its list, or where it would be.
    fn find(&self, list: &[Entry], key: &Key) -> Result<usize, usize> {
        let wanted = next_bytes(key);
        list.binary_search_by(|(bytes, place)| {
            bytes.cmp(&wanted).then_with(|| {
                let held = self.at(*place);
                held.map_or(Ordering::Less, |(held, _)| held.cmp(key))
            })
        })
    }
}

fn list_of(key: &Key) -> usize {
    let [first, second, ..] = key.0;
    usize::from(u16::from_be_bytes([first, second]))
}

fn next_bytes(key: &Key) -> u32 {
    let [_, _, a, b, c, d, ..] = key.0;
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn stored(generation: u64) -> Stored {
        Stored {
            generation,
            sealed: Arc::from([]),
        }
    }

    /// Keys of which some share a list, and of those some differ late only.
    fn key() -> impl Strategy<Value = Key> {
        let byte = || prop::sample::select(vec![0, 127, 255]);
        (byte(), byte(), byte(), byte()).prop_map(|(first, second, fourth, last)| {
            let mut key = [0; 32];
            key[0] = first;
            key[1] = second;
            key[3] = fourth;
            key[31] = last;
            Key(key)
        })
    }

    proptest! {
        #[test]
        fn they_are_a_map_in_order(changes in prop::collection::vec((key(), any::<bool>()), 0..90)) {
            let mut records = Records::default();
            let mut expected = BTreeMap::new();
            for (generation, (key, put)) in (1..).zip(changes) {
                let (found, before) = if put {
                    let found = records.insert(key, stored(generation)).unwrap();
                    (found, expected.insert(key, generation))
                } else {
                    (records.remove(&key), expected.remove(&key))
                };
                prop_assert_eq!(found.map(|stored| stored.generation), before);
                prop_assert_eq!(records.len(), expected.len());
                prop_assert_eq!(records.last_key(), expected.keys().next_back().copied());
                let got = records.get(&key).map(|stored| stored.generation);
                prop_assert_eq!(got, expected.get(&key).copied());
                let pairs = |(key, stored): (&Key, &Stored)| (*key, stored.generation);
                let rest = expected.iter().filter(|(held, _)| **held > key);
                let rest: Vec<_> = rest.map(|(key, generation)| (*key, *generation)).collect();
                let found: Vec<_> = records.following(Some(&key)).map(pairs).collect();
                prop_assert_eq!(found, rest);
                let expected: Vec<_> = expected.iter().map(|(k, g)| (*k, *g)).collect();
                let all: Vec<_> = records.following(None).map(pairs).collect();
                prop_assert_eq!(&all, &expected);
                // Each once in the order of places, too, and some at a time as at once.
                let mut placed: Vec<_> = records.in_place(0).collect();
                if let Some((half, ..)) = placed.get(placed.len() / 2).copied() {
                    let from_half: Vec<_> = records.in_place(half).map(|(p, ..)| p).collect();
                    let behind: Vec<_> = placed.iter().map(|(p, ..)| *p).collect();
                    prop_assert_eq!(&from_half[..], &behind[behind.len() / 2..]);
                }
                placed.sort_by_key(|(_, key, _)| **key);
                let placed: Vec<_> = placed.iter().map(|(_, key, s)| (**key, s.generation)).collect();
                prop_assert_eq!(placed, expected);
            }
        }
    }
}
