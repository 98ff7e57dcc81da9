//! Room for calls: so many may be under way until their answers have ended, and a part of them is what one client may
//! have.

use std::sync::Arc;

use enclave::ids::ClientId;
use enclave::known::Known;

use crate::room::{Count, LEAST_OF_PEER, PEER_PART, Share, Shares};

/// The room.
#[derive(Debug)]
pub(super) struct Calls {
    most: usize,
    under_way: Count,
    clients: Shares,
}

/// A place in it, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    calls: Arc<Calls>,
    client: Option<Arc<Share>>,
}

impl Calls {
    /// For so many calls.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            under_way: Count::default(),
            clients: Shares::default(),
        })
    }

    /// How many are under way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.value()
    }

    /// A place, if there is one.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Place> {
        self.under_way.take(self.most).then(|| Place {
            calls: Arc::clone(self),
            client: None,
        })
    }
}

impl Place {
    /// It is this client's now, if that has not all that it may have.
    pub(super) fn of(mut self, client: &ClientId) -> Option<Self> {
        let share = self.calls.clients.of(Known::Client(client.clone()));
        let most = (self.calls.most / PEER_PART).max(LEAST_OF_PEER);
        if !share.places.take(most) {
            return None;
        }
        self.client = Some(share);
        Some(self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.calls.under_way.give();
        if let Some(share) = &self.client {
            share.places.give();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_leaves_room_for_others() {
        let calls = Calls::new(256);
        let enter = |name: &str| calls.enter()?.of(&ClientId::parse(name).unwrap());
        let mut held: Vec<Place> = std::iter::from_fn(|| enter("greedy")).collect();
        assert_eq!(held.len(), 32);
        for number in 0..7 {
            let name = format!("client-{number}");
            held.extend(std::iter::from_fn(|| enter(&name)));
        }
        assert_eq!(held.len(), 256);
        assert!(calls.enter().is_none());
        held.clear();
        assert_eq!(calls.under_way(), 0);
        assert!(enter("greedy").is_some());
    }
}
