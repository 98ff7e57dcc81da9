//! Values that many records hold alike, each kept once.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

/// Below this many values nobody looks for those that are not used any more.
const FEW: usize = 1_024;

/// Values of which equal ones become one.
#[derive(Debug)]
pub(crate) struct Shared<T: ?Sized> {
    known: HashSet<Arc<T>>,
    /// With this many, those that nothing else holds are dropped.
    prune_at: usize,
}

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Self {
            known: HashSet::new(),
            prune_at: FEW,
        }
    }
}

impl<T: ?Sized + Eq + Hash> Shared<T> {
    /// Puts the copy that is kept in the place of `value`.
    pub(crate) fn keep(&mut self, value: &mut Arc<T>) {
        if let Some(known) = self.known.get(&**value) {
            *value = Arc::clone(known);
            return;
        }
        if self.known.len() >= self.prune_at {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.prune_at = self.known.len().saturating_mul(2).max(FEW);
        }
        self.known.insert(Arc::clone(value));
    }
}

/// What holds a value that may be shared.
pub(crate) trait Share<T: ?Sized> {
    /// Takes the copy that is kept.
    fn share(&mut self, kept: &mut Shared<T>);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_become_one_and_unused_ones_go() {
        let mut shared = Shared::<str>::default();
        let (mut one, mut two): (Arc<str>, Arc<str>) = ("acme".into(), "acme".into());
        assert!(!Arc::ptr_eq(&one, &two));
        shared.keep(&mut one);
        shared.keep(&mut two);
        assert!(Arc::ptr_eq(&one, &two));
        // However many come and go, no more stay than are in use, and a few.
        for number in 0..10 * FEW {
            shared.keep(&mut number.to_string().into());
        }
        assert!(shared.known.len() <= FEW);
        let mut three: Arc<str> = "acme".into();
        shared.keep(&mut three);
        assert!(Arc::ptr_eq(&one, &three));
    }
}
