//! Room for requests: so many may be under way, and more are turned away before anything is looked at.
//!
//! Whoever comes is counted by its connection from the request's head on, and takes a place when the request's body is
//! there: who sends slowly holds up nobody else. Who has no name has a part of the room, a peer with a name a share of
//! it. What stops something has a reserve, and who waits for a provider or an owner gives its place up meanwhile.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use enclave::ids::ClientId;
use enclave::known::Known;
use http::{Extensions, HeaderMap, Response};
use parking_lot::Mutex;
use tonic::body::Body;

use crate::events;
use crate::listener::Connection;
use crate::shell::Shell;
use crate::status::Refusal;
use crate::store::Callers;

/// How long a request's body may take.
pub const BODY: Duration = Duration::from_secs(5);

/// The part of the room for those who have no name: one in so many.
const STRANGERS_PART: usize = 4;

/// The share of a connection whose peer has no name: whoever verifies the service asks two things or three.
const OF_CONNECTION: usize = 8;

/// The share of a peer with a name, on all its connections: one in so many, but so many at least.
pub(crate) const PEER_PART: usize = 8;
pub(crate) const LEAST_OF_PEER: usize = 16;

/// Places for what stops something where the room is full, for administrators and as many for all others, and how many of
/// them one peer may have.
const RESERVE: usize = 64;
const RESERVE_OF_PEER: usize = 8;

/// When those who are turned away are told to come back, in turn: together they would find the room full again.
const AFTER: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_millis(1_000),
    Duration::from_millis(1_500),
    Duration::from_millis(2_000),
];

/// What a request is about, as far as room is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Whether the service is there.
    Health,
    /// It stops something, or is an administrator's.
    Stop,
    /// Anything else.
    Other,
}

/// Why a request was turned away, and when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shed {
    /// A stable word, for logs and metrics.
    pub reason: &'static str,
    turn: usize,
}

impl Shed {
    /// When to come back.
    #[must_use]
    pub fn after(&self) -> Duration {
        AFTER.get(self.turn).copied().unwrap_or_default()
    }
}

impl From<Shed> for Refusal {
    fn from(shed: Shed) -> Self {
        Self::overloaded(shed.after())
    }
}

/// How many there are of something. No lock is taken for it.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicUsize);

impl Count {
    /// One more, unless there are as many as may be.
    pub(crate) fn take(&self, most: usize) -> bool {
        let more = |count: usize| (count < most).then(|| count.saturating_add(1));
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    /// One less, of those that were taken.
    pub(crate) fn give(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one peer, or one connection of a stranger's, has of the room.
#[derive(Debug, Default)]
pub(crate) struct Share {
    pub(crate) places: Count,
    reserved: Count,
    /// It is an administrator's, who have a reserve of their own.
    administrator: bool,
}

/// The shares of all peers that have one at the moment.
#[derive(Debug, Default)]
pub(crate) struct Shares(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    by_peer: HashMap<Known, Weak<Share>>,
    /// When there are so many, those that nobody holds are forgotten.
    tidy_at: usize,
}

impl Shares {
    /// The share of a peer.
    pub(crate) fn of(&self, peer: Known) -> Arc<Share> {
        let Held { by_peer, tidy_at } = &mut *self.0.lock();
        if let Some(share) = by_peer.get(&peer).and_then(Weak::upgrade) {
            return share;
        }
        if by_peer.len() >= *tidy_at {
            by_peer.retain(|_, share| share.strong_count() > 0);
            *tidy_at = by_peer.len().saturating_mul(2).max(64);
        }
        let share = Arc::new(Share {
            administrator: matches!(peer, Known::Administrator(_)),
            ..Share::default()
        });
        by_peer.insert(peer, Arc::downgrade(&share));
        share
    }
}

/// What a room remembers of a connection.
#[derive(Debug, Default)]
pub struct Visitor {
    own: Arc<Share>,
    /// Its peer's share, once that is known.
    named: OnceLock<Arc<Share>>,
    vouched: OnceLock<ClientId>,
}

impl Visitor {
    /// A request of this client's was authenticated on the connection.
    pub fn vouch(&self, client: &ClientId) {
        if self.named.get().is_none() {
            self.vouched.get_or_init(|| client.clone());
        }
    }

    fn named(&self, shares: &Shares, who: impl FnOnce() -> Option<Known>) -> Option<&Arc<Share>> {
        if let Some(share) = self.named.get() {
            return Some(share);
        }
        let vouched = || self.vouched.get().cloned().map(Known::Client);
        let peer = who().or_else(vouched)?;
        Some(self.named.get_or_init(|| shares.of(peer)))
    }
}

/// The room.
#[derive(Clone, Debug)]
pub struct Room {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    requests: usize,
    strangers: usize,
    /// Whether strangers have the reserve as well, where peers show no certificate.
    open: bool,
    /// Strangers whose bodies are on their way.
    coming: Count,
    working: Count,
    /// Those of them who have no name.
    nameless: Count,
    waiting: Count,
    reserved: Count,
    reserved_to_administrators: Count,
    health: Count,
    callers: Callers,
    shares: Shares,
    /// Made once: what is turned away must cost little.
    answers: [HeaderMap; AFTER.len()],
    turn: AtomicUsize,
}

impl Room {
    /// For so many requests at a time, on a listener that asks for certificates.
    #[must_use]
    pub fn new(requests: usize) -> Self {
        Self::before(requests, Callers::default())
    }

    /// As [`new`](Self::new), before a store whose callers it counts.
    #[must_use]
    pub fn before(requests: usize, callers: Callers) -> Self {
        Self::with(requests, requests.div_ceil(STRANGERS_PART), false, callers)
    }

    /// As [`new`](Self::new), where nobody shows a certificate.
    #[must_use]
    pub fn open(requests: usize) -> Self {
        Self::with(requests, requests, true, Callers::default())
    }

    fn with(requests: usize, strangers: usize, open: bool, callers: Callers) -> Self {
        let answer = |after| {
            let answer = Refusal::overloaded(after).status().into_http::<Body>();
            answer.into_parts().0.headers
        };
        Self {
            inner: Arc::new(Inner {
                requests,
                strangers,
                open,
                coming: Count::default(),
                working: Count::default(),
                nameless: Count::default(),
                waiting: Count::default(),
                reserved: Count::default(),
                reserved_to_administrators: Count::default(),
                health: Count::default(),
                callers,
                shares: Shares::default(),
                answers: AFTER.map(answer),
                turn: AtomicUsize::new(0),
            }),
        }
    }

    /// Counts a request whose head is there.
    ///
    /// # Errors
    /// [`Shed`].
    pub fn seat(&self, shell: &Shell, request: &Extensions, errand: Errand) -> Result<Seat, Shed> {
        let connection = request.get::<Connection>();
        let who = || {
            connection?.peer_spki_sha256()?;
            shell.enclave.known(&shell.peer(request))
        };
        self.come(connection.map(Connection::visitor), errand, who)
    }

    fn come(
        &self,
        visitor: Option<&Visitor>,
        errand: Errand,
        who: impl FnOnce() -> Option<Known>,
    ) -> Result<Seat, Shed> {
        let room = &self.inner;
        let named = visitor.and_then(|visitor| visitor.named(&room.shares, who));
        let own = || visitor.map(|visitor| Arc::clone(&visitor.own));
        let seat = Seat {
            room: Arc::clone(room),
            share: named.map_or_else(|| own().unwrap_or_default(), Arc::clone),
            errand,
            stranger: named.is_none(),
            held: AtomicU16::new(0),
        };
        match seat.come() {
            Ok(()) => Ok(seat),
            Err(reason) => Err(room.shed(reason)),
        }
    }

    /// The answer over gRPC to a request that was turned away.
    #[must_use]
    pub fn answer(&self, shed: Shed) -> Response<Body> {
        let mut answer = Response::new(Body::empty());
        if let Some(headers) = self.inner.answers.get(shed.turn) {
            *answer.headers_mut() = headers.clone();
        }
        answer
    }
}

impl Inner {
    /// The reserve that a share draws on.
    fn reserve_of(&self, share: &Share) -> &Count {
        if share.administrator {
            &self.reserved_to_administrators
        } else {
            &self.reserved
        }
    }

    fn shed(&self, reason: &'static str) -> Shed {
        events::requests_shed(reason);
        let shed = self.turn.fetch_add(1, Ordering::Relaxed);
        let turn = shed.checked_rem(AFTER.len()).unwrap_or_default();
        Shed { reason, turn }
    }
}

/// A request among those that are under way, until it is dropped.
#[derive(Debug)]
pub struct Seat {
    room: Arc<Inner>,
    share: Arc<Share>,
    errand: Errand,
    stranger: bool,
    /// What it holds, in bits.
    held: AtomicU16,
}

/// One of its peer's places.
const SHARE: u16 = 1;
/// Its body is on its way.
const COMING: u16 = 1 << 1;
/// A place of the room.
const WORKING: u16 = 1 << 2;
/// It counts among those without a name.
const NAMELESS: u16 = 1 << 3;
/// It waits for somebody else.
const WAITING: u16 = 1 << 4;
/// A place of the reserve.
const RESERVED: u16 = 1 << 5;
/// It asks whether the service is there.
const HEALTH: u16 = 1 << 6;
/// One of its peer's places of the reserve, or for questions of health.
const ASIDE: u16 = 1 << 7;
/// Its peer has a name, and it may come to the store.
const CALLER: u16 = 1 << 8;

const ALL: [u16; 9] = [
    SHARE, COMING, WORKING, NAMELESS, WAITING, RESERVED, HEALTH, ASIDE, CALLER,
];

impl Seat {
    fn come(&self) -> Result<(), &'static str> {
        let room = &*self.room;
        if self.errand == Errand::Health {
            return self.set_aside().ok_or("NO_ROOM_FOR_HEALTH");
        }
        let (most, reason) = if self.stranger {
            (OF_CONNECTION, "NO_ROOM_FOR_CONNECTION")
        } else {
            let most = (room.requests / PEER_PART).max(LEAST_OF_PEER);
            (most, "NO_ROOM_FOR_PEER")
        };
        if !self.share.places.take(most) {
            return self.may_reserve().ok_or(reason);
        }
        self.note(SHARE);
        if self.stranger {
            if !room.coming.take(room.requests) {
                return self.may_reserve().ok_or("NO_ROOM_FOR_ANONYMOUS");
            }
            self.note(COMING);
        } else {
            self.call();
        }
        Ok(())
    }

    /// Its body is not there yet: until it is, nobody need wait for it.
    pub fn is_late(&self) {
        self.give(CALLER);
    }

    /// It may come to the store from now on.
    fn call(&self) {
        if !self.holds(CALLER) {
            self.room.callers.come();
            self.note(CALLER);
        }
    }

    /// Takes a place: the request's body is there.
    ///
    /// # Errors
    /// [`Shed`].
    pub fn enter(&self) -> Result<(), Shed> {
        let room = &*self.room;
        self.give(COMING);
        let entered = if self.errand == Errand::Health {
            let has_room = room.health.take(room.requests);
            has_room
                .then(|| self.note(HEALTH))
                .ok_or("NO_ROOM_FOR_HEALTH")
        } else if self.holds(ASIDE) {
            self.reserve().ok_or("NO_ROOM")
        } else {
            let taken = self.take_place();
            taken.or_else(|reason| {
                let reserved = self.may_reserve().and_then(|()| self.reserve());
                reserved.ok_or(reason)
            })
        };
        entered.map_err(|reason| room.shed(reason))
    }

    /// Whether it asks for the service's health. The answer is a few bytes, and keeps no place.
    #[must_use]
    pub fn is_of_health(&self) -> bool {
        self.errand == Errand::Health
    }

    fn take_place(&self) -> Result<(), &'static str> {
        let room = &*self.room;
        if self.stranger {
            if !room.nameless.take(room.strangers) {
                return Err("NO_ROOM_FOR_ANONYMOUS");
            }
            self.note(NAMELESS);
        }
        if !room.working.take(room.requests) {
            return Err("NO_ROOM");
        }
        self.note(WORKING);
        if !self.stranger {
            self.call();
        }
        Ok(())
    }

    /// Gives its place up for one among those who wait for somebody else: a provider, an owner.
    ///
    /// # Errors
    /// [`Shed`]: too many wait already.
    pub fn wait(&self) -> Result<(), Shed> {
        let room = &*self.room;
        if !self.holds(WORKING) {
            return Ok(());
        }
        if !room.waiting.take(room.requests) {
            return Err(room.shed("NO_ROOM_TO_WAIT"));
        }
        self.note(WAITING);
        self.give(CALLER);
        self.give(WORKING);
        self.give(NAMELESS);
        Ok(())
    }

    /// One of its peer's places beside the others: of the reserve, when its body is there.
    fn may_reserve(&self) -> Option<()> {
        if self.errand != Errand::Stop || (self.stranger && !self.room.open) {
            return None;
        }
        self.set_aside()
    }

    fn set_aside(&self) -> Option<()> {
        let taken = self.share.reserved.take(RESERVE_OF_PEER);
        taken.then(|| self.note(ASIDE))
    }

    /// A place of the reserve, for what stops something.
    fn reserve(&self) -> Option<()> {
        let taken = self.room.reserve_of(&self.share).take(RESERVE);
        taken.then(|| self.note(RESERVED))
    }

    /// Its answer is there as a whole, and waits for its peer to take it: the room is free for others, and the peer's own
    /// share is not.
    pub fn is_answered(&self) {
        for what in [COMING, WORKING, NAMELESS, WAITING, RESERVED, HEALTH, CALLER] {
            self.give(what);
        }
    }

    fn holds(&self, what: u16) -> bool {
        self.held.load(Ordering::Relaxed) & what != 0
    }

    fn note(&self, what: u16) {
        self.held.fetch_or(what, Ordering::Relaxed);
    }

    fn give(&self, what: u16) {
        if self.held.fetch_and(!what, Ordering::Relaxed) & what == 0 {
            return;
        }
        let room = &*self.room;
        match what {
            SHARE => self.share.places.give(),
            COMING => room.coming.give(),
            WORKING => room.working.give(),
            NAMELESS => room.nameless.give(),
            WAITING => room.waiting.give(),
            RESERVED => room.reserve_of(&self.share).give(),
            HEALTH => room.health.give(),
            CALLER => room.callers.leave(),
            _aside => self.share.reserved.give(),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let held = *self.held.get_mut();
        for what in ALL.into_iter().filter(|what| held & what != 0) {
            self.give(what);
        }
    }
}

/// The request that came with these extensions waits for somebody else from now on.
///
/// # Errors
/// [`Shed`]: too many do already.
pub fn waits(request: &Extensions) -> Result<(), Shed> {
    request
        .get::<Arc<Seat>>()
        .map_or(Ok(()), |seat| seat.wait())
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        reason = "a test that overflows fails"
    )]

    use tonic::{Code, Status};
    use tonic_types::StatusExt as _;

    use super::*;

    fn client(name: &str) -> Option<Known> {
        Some(Known::Client(ClientId::parse(name).unwrap()))
    }

    /// A request of a stranger on this connection, with its body.
    fn stranger(room: &Room, visitor: &Visitor) -> Result<Seat, &'static str> {
        by(room, visitor, Errand::Other, None)
    }

    fn by(
        room: &Room,
        visitor: &Visitor,
        errand: Errand,
        who: Option<Known>,
    ) -> Result<Seat, &'static str> {
        let seat = room.come(Some(visitor), errand, || who);
        let seat = seat.map_err(|shed| shed.reason)?;
        seat.enter().map_err(|shed| shed.reason)?;
        Ok(seat)
    }

    /// Requests of one client after another, until there is no place left.
    fn filled(room: &Room) -> Vec<Seat> {
        let mut seats = Vec::new();
        for number in 0..1_000 {
            let visitor = Visitor::default();
            let who = || client(&format!("client-{number}"));
            while let Ok(seat) = by(room, &visitor, Errand::Other, who()) {
                seats.push(seat);
            }
            if seats.len() == room.inner.requests {
                return seats;
            }
        }
        panic!("{} of {}", seats.len(), room.inner.requests);
    }

    fn is_empty(room: &Room) -> bool {
        let Inner {
            coming,
            working,
            nameless,
            waiting,
            reserved,
            reserved_to_administrators,
            health,
            ..
        } = &*room.inner;
        [
            coming,
            working,
            nameless,
            waiting,
            reserved,
            reserved_to_administrators,
            health,
        ]
        .iter()
        .all(|count| count.value() == 0)
            && room.inner.callers.count() == 0
    }

    #[test]
    fn what_finds_no_room_is_told_when_to_come_back_not_all_at_once() {
        let room = Room::new(16);
        let held = filled(&room);
        let visitor = Visitor::default();
        let mut told = Vec::new();
        for number in 0..8 {
            let seat = room.come(Some(&visitor), Errand::Other, || client("late"));
            let shed = seat.unwrap().enter().unwrap_err();
            assert_eq!(shed.reason, "NO_ROOM");
            let refused = room.answer(shed);
            assert_eq!(refused.headers()["content-type"], "application/grpc");
            let status = Status::from_header_map(refused.headers()).unwrap();
            assert_eq!(status.code(), Code::ResourceExhausted);
            let details = status.get_error_details();
            assert_eq!(details.error_info().unwrap().reason, "OVERLOADED");
            let retry = details.retry_info().unwrap().retry_delay.unwrap();
            assert_eq!(retry, shed.after(), "{number}");
            told.push(retry.as_millis());
        }
        told.sort_unstable();
        assert_eq!(told, [500, 500, 1_000, 1_000, 1_500, 1_500, 2_000, 2_000]);
        drop(held);
        assert!(by(&room, &visitor, Errand::Other, client("late")).is_ok());
        assert!(is_empty(&room));
    }

    #[test]
    fn whoever_has_no_name_leaves_room_for_those_who_have() {
        let room = Room::new(64);
        let mut held = Vec::new();
        let mut reasons = Vec::new();
        for _ in 0..8 {
            let visitor = Visitor::default();
            loop {
                match stranger(&room, &visitor) {
                    Ok(seat) => held.push(seat),
                    Err(reason) => break reasons.push(reason),
                }
            }
        }
        assert_eq!(held.len(), 16);
        assert_eq!(reasons[0], "NO_ROOM_FOR_CONNECTION");
        assert_eq!(reasons[7], "NO_ROOM_FOR_ANONYMOUS");
        let visitor = Visitor::default();
        // A certificate that is nobody's is no name.
        assert_eq!(
            by(&room, &visitor, Errand::Stop, None).unwrap_err(),
            "NO_ROOM_FOR_ANONYMOUS"
        );
        assert!(by(&room, &visitor, Errand::Other, client("a")).is_ok());
        drop(held);
        assert!(stranger(&room, &Visitor::default()).is_ok());
        assert!(is_empty(&room));
    }

    #[test]
    fn who_sends_slowly_holds_up_nobody_else() {
        let room = Room::new(128);
        let mut slow = Vec::new();
        let mut connections = 0;
        loop {
            let visitor = Visitor::default();
            let come = || room.come(Some(&visitor), Errand::Other, || None);
            let before = slow.len();
            while let Ok(seat) = come() {
                slow.push(seat);
            }
            if slow.len() == before {
                break;
            }
            connections += 1;
        }
        assert_eq!((connections, slow.len()), (16, 128));
        assert_eq!(room.inner.working.value(), 0);
        // They shut out each other, but nobody who has a name, and no question for health.
        let visitor = Visitor::default();
        let other = room.come(Some(&visitor), Errand::Other, || None);
        assert_eq!(other.unwrap_err().reason, "NO_ROOM_FOR_ANONYMOUS");
        assert!(by(&room, &visitor, Errand::Health, None).is_ok());
        let held = filled(&room);
        assert_eq!(held.len(), 128);
        drop((held, slow));
        assert!(is_empty(&room));
    }

    #[test]
    fn what_stops_something_gets_through_a_full_room() {
        let room = Room::new(64);
        let held = filled(&room);
        let administrator = || Some(Known::Administrator([7; 32]));
        let visitor = Visitor::default();
        let other = by(&room, &visitor, Errand::Other, administrator());
        assert_eq!(other.unwrap_err(), "NO_ROOM");
        let stops: Vec<_> = (0..RESERVE_OF_PEER)
            .map(|_| by(&room, &visitor, Errand::Stop, administrator()).unwrap())
            .collect();
        let more = by(&room, &visitor, Errand::Stop, administrator());
        assert_eq!(more.unwrap_err(), "NO_ROOM");
        // Not for whoever has no name, where names can be shown.
        let stranger = Visitor::default();
        let refused = by(&room, &stranger, Errand::Stop, None);
        assert_eq!(refused.unwrap_err(), "NO_ROOM");
        let other = Visitor::default();
        assert!(by(&room, &other, Errand::Stop, client("client-1")).is_ok());
        drop((held, stops));
        assert!(is_empty(&room));

        let room = Room::open(16);
        let visitors: Vec<_> = (0..4).map(|_| Visitor::default()).collect();
        let held: Vec<_> = visitors
            .iter()
            .flat_map(|visitor| (0..4).map(|_| self::stranger(&room, visitor).unwrap()))
            .collect();
        assert_eq!(
            self::stranger(&room, &stranger).unwrap_err(),
            "NO_ROOM_FOR_ANONYMOUS"
        );
        assert!(by(&room, &stranger, Errand::Stop, None).is_ok());
        drop(held);
        assert!(is_empty(&room));
    }

    #[test]
    fn clients_that_fill_their_reserve_leave_administrators_theirs() {
        let room = Room::new(64);
        let held = filled(&room);
        let mut stops = Vec::new();
        for number in 0..RESERVE / RESERVE_OF_PEER {
            let visitor = Visitor::default();
            let who = || client(&format!("client-{number}"));
            let all =
                (0..RESERVE_OF_PEER).map(|_| by(&room, &visitor, Errand::Stop, who()).unwrap());
            stops.extend(all);
        }
        let visitor = Visitor::default();
        let more = by(&room, &visitor, Errand::Stop, client("late"));
        assert_eq!(more.unwrap_err(), "NO_ROOM");
        let administrator = Some(Known::Administrator([7; 32]));
        assert!(by(&room, &Visitor::default(), Errand::Stop, administrator).is_ok());
        drop((held, stops));
        assert!(is_empty(&room));
    }

    #[test]
    fn bodies_on_their_way_take_no_place_of_the_reserve_and_none_for_health() {
        let room = Room::open(16);
        let visitors: Vec<_> = (0..20).map(|_| Visitor::default()).collect();
        let come = |errand| {
            let mut seats = Vec::new();
            for visitor in &visitors {
                for _ in 0..OF_CONNECTION {
                    seats.extend(room.come(Some(visitor), errand, || None));
                }
            }
            seats
        };
        let others = come(Errand::Other);
        let (stops, health) = (come(Errand::Stop), come(Errand::Health));
        assert!(
            stops.len() > RESERVE && health.is_empty(),
            "{}",
            stops.len()
        );
        assert_eq!(room.inner.reserved.value(), 0);
        drop(stops);
        let health = come(Errand::Health);
        assert_eq!((health.len(), room.inner.health.value()), (160, 0));
        let visitor = Visitor::default();
        assert!(by(&room, &visitor, Errand::Health, None).is_ok());
        assert!(by(&room, &visitor, Errand::Stop, None).is_ok());
        drop((others, health));
        assert!(is_empty(&room));
    }

    #[test]
    fn answers_that_nobody_takes_fill_their_peers_share_and_not_the_room() {
        let room = Room::open(16);
        let mut untaken = Vec::new();
        for _ in 0..16 {
            let visitor = Visitor::default();
            for _ in 0..OF_CONNECTION {
                let seat = by(&room, &visitor, Errand::Other, None).unwrap();
                seat.is_answered();
                untaken.push(seat);
            }
            let more = by(&room, &visitor, Errand::Other, None);
            assert_eq!(more.unwrap_err(), "NO_ROOM_FOR_CONNECTION");
        }
        assert!(is_empty(&room));
        assert!(by(&room, &Visitor::default(), Errand::Other, None).is_ok());
        drop(untaken);
        assert!(is_empty(&room));
    }

    #[test]
    fn the_store_is_told_how_many_with_a_name_are_under_way() {
        let callers = Callers::default();
        let room = Room::before(16, callers.clone());
        let visitor = Visitor::default();
        let strangers = [(); 2].map(|()| stranger(&room, &Visitor::default()).unwrap());
        let health = by(&room, &visitor, Errand::Health, client("a")).unwrap();
        assert_eq!(callers.count(), 0);
        let come = || room.come(Some(&visitor), Errand::Other, || client("a"));
        let seats = [(); 4].map(|()| come().unwrap());
        assert_eq!(callers.count(), 4);
        let [on_its_way, waits, answered, whole] = seats;
        waits.enter().unwrap();
        waits.wait().unwrap();
        assert_eq!(callers.count(), 3);
        // Whoever sends slowly is waited for by nobody, until its body is there.
        whole.is_late();
        whole.is_late();
        assert_eq!(callers.count(), 2);
        whole.enter().unwrap();
        assert_eq!(callers.count(), 3);
        answered.enter().unwrap();
        answered.is_answered();
        assert_eq!(callers.count(), 2);
        drop((whole, strangers, health));
        assert_eq!(callers.count(), 1);
        drop((waits, answered, on_its_way));
        assert!(is_empty(&room));
    }

    #[test]
    fn a_peer_has_a_share_on_all_its_connections() {
        let room = Room::new(1_024);
        let visitors = [Visitor::default(), Visitor::default()];
        let mut held = Vec::new();
        for number in 0.. {
            match by(&room, &visitors[number % 2], Errand::Other, client("a")) {
                Ok(seat) => held.push(seat),
                Err(reason) => {
                    assert_eq!(reason, "NO_ROOM_FOR_PEER");
                    break;
                }
            }
        }
        assert_eq!(held.len(), 128);
        assert!(by(&room, &Visitor::default(), Errand::Other, client("b")).is_ok());
        drop(held);
        // Whoever showed an assertion is known by it on that connection.
        let visitor = Visitor::default();
        visitor.vouch(&ClientId::parse("a").unwrap());
        let vouched = by(&room, &visitor, Errand::Other, None).unwrap();
        assert!(!vouched.stranger && Arc::ptr_eq(&vouched.share, visitors[0].named.get().unwrap()));
        drop(vouched);
        assert!(is_empty(&room));
    }

    #[test]
    fn who_waits_for_somebody_else_leaves_its_place_to_others() {
        let room = Room::new(32);
        let held = filled(&room);
        for seat in &held {
            seat.wait().unwrap();
            // Once is enough.
            seat.wait().unwrap();
        }
        let again: Vec<_> = (0..2)
            .flat_map(|number| {
                let visitor = Visitor::default();
                let who = || client(&format!("new-{number}"));
                (0..16)
                    .map(|_| by(&room, &visitor, Errand::Other, who()).unwrap())
                    .collect::<Vec<_>>()
            })
            .collect();
        // As many may wait as may work.
        assert_eq!(again[0].wait().unwrap_err().reason, "NO_ROOM_TO_WAIT");
        drop(held);
        again[0].wait().unwrap();
        drop(again);
        assert!(is_empty(&room));
    }

    #[test]
    fn shares_that_nobody_holds_are_forgotten() {
        let shares = Shares::default();
        for number in 0..10_000 {
            drop(shares.of(client(&format!("client-{number}")).unwrap()));
        }
        let held = shares.0.lock();
        assert!(held.by_peer.len() <= 64, "{}", held.by_peer.len());
    }
}
