//! Random histories of the state machine, with invariants: never two presentations at
//! a time, nothing released before it is durable, nothing that was revoked comes back,
//! nothing lost without a cause, and a client's token is bound to its own key.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]

use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::tests::{Provider, commit, grant, response, scopes};
use super::*;
use crate::custody;
use crate::freeze::Subject;
use crate::profile::Profile;
use crate::record::{Place, Table};
use crate::registry::Rotation;
use crate::secret::RawResponse;
use crate::testing::{World, id};

/// As long as a request that nobody waits for may be at work.
const QUIET_MS: u64 = 1_000;

/// What comes of a request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// The provider acts and its answer arrives.
    Answered,
    /// It acts, and of its answer this part arrives, in 256ths.
    Cut(u8),
    /// It acts, and nothing arrives.
    LostAfter,
    /// It never sees the request, and nothing arrives.
    LostBefore,
    /// It refuses to act: 503.
    Failed,
    /// It refuses to act: 429.
    Limited,
    /// It wants another nonce in the proof, if there is one, before it acts.
    Challenged,
    /// It can't be reached.
    NotSent,
}

/// One turn of a history.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// Somebody asks.
    Ask,
    /// A client asks for a token of its own, with its proof.
    AskFor(u8),
    /// The exchange that is under way does what it wants to do next; a request fares so.
    Step(Fate),
    /// The process dies and comes back.
    Crash,
    /// The disk is full, or not any more.
    Full(bool),
    Freeze,
    Thaw,
    /// The owner ends the grant.
    Revoke,
    /// So much time passes, in milliseconds.
    Later(u64),
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Answered),
        1 => any::<u8>().prop_map(Fate::Cut),
        1 => Just(Fate::LostAfter),
        1 => Just(Fate::LostBefore),
        1 => Just(Fate::Failed),
        1 => Just(Fate::Limited),
        1 => Just(Fate::Challenged),
        1 => Just(Fate::NotSent),
    ]
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        4 => Just(Turn::Ask),
        4 => (0..3_u8).prop_map(Turn::AskFor),
        16 => fates().prop_map(Turn::Step),
        2 => Just(Turn::Crash),
        1 => any::<bool>().prop_map(Turn::Full),
        1 => Just(Turn::Freeze),
        2 => Just(Turn::Thaw),
        1 => Just(Turn::Revoke),
        3 => (0..2 * QUIET_MS).prop_map(Turn::Later),
        2 => Just(Turn::Later(60_000)),
    ];
    prop::collection::vec(turn, 1..60)
}

fn rotations() -> impl Strategy<Value = Rotation> {
    prop_oneof![
        3 => Just(Rotation::Strict),
        1 => Just(Rotation::Grace),
        1 => Just(Rotation::Never),
    ]
}

/// The number of a token: `refresh-N-canary` or `at-N`.
fn number(token: &[u8]) -> u32 {
    let text = std::str::from_utf8(token).unwrap();
    let mut parts = text.split('-');
    parts.nth(1).map_or(0, |number| number.parse().unwrap())
}

/// What the disk holds of the grant.
fn durable(world: &World) -> (Phase, Vec<u8>) {
    let place = Place::tenant(&id("acme"), Table::Custody, grant().as_str());
    let key = world.enclave.cabinet.key(&place);
    let record = world.store.records.lock().get(&key).cloned().unwrap();
    let view = world.enclave.view.read();
    let realm = view.realm_key(&id("acme")).unwrap();
    let body = world
        .enclave
        .cabinet
        .open(&realm, &place, record.generation, &record.sealed);
    let (head, token, _) = custody::decode(&body.unwrap()).unwrap();
    (head.phase, token.expose().to_vec())
}

/// The history as it is known from outside.
struct History {
    world: World,
    provider: Provider,
    rotation: Rotation,
    flight: Option<(Box<Exchange>, Action)>,
    /// A request without an answer may be at work at the provider until then.
    at_work_until_ms: u64,
    frozen: bool,
    revoked: bool,
    /// The provider has spent a token whose successor never arrived.
    lost: bool,
    /// The highest token that was ever on the disk.
    highest: u32,
}

impl History {
    fn new(rotation: Rotation, dpop: bool) -> Self {
        Self::with_quiet_ms(rotation, dpop, QUIET_MS)
    }

    fn with_quiet_ms(rotation: Rotation, dpop: bool, quiet_ms: u64) -> Self {
        let profile = Profile {
            quiet_ms,
            dpop,
            requests_per_s: 1_000,
            requests_burst: 1_000,
            ..Profile::default()
        };
        Self {
            world: World::with_profile(rotation, profile),
            provider: Provider::new(rotation),
            rotation,
            flight: None,
            at_work_until_ms: 0,
            frozen: false,
            revoked: false,
            lost: false,
            highest: 1,
        }
    }

    fn turn(&mut self, turn: Turn) -> Result<(), TestCaseError> {
        match turn {
            Turn::Ask => self.ask(None)?,
            Turn::AskFor(key) => self.ask(Some(format!("key-{key}")))?,
            Turn::Step(fate) => self.step(fate)?,
            Turn::Crash => self.crash()?,
            Turn::Full(full) => self.world.store.full.store(full, Ordering::Relaxed),
            Turn::Freeze if !self.frozen && !self.is_full() => {
                self.world.freeze(Subject::Grant(grant()));
                self.frozen = true;
            }
            Turn::Thaw if self.frozen && !self.is_full() => {
                let world = &self.world;
                let subject = Subject::Grant(grant());
                let thaw = world.enclave.thaw(world.admin(), subject, None, &world.now);
                world.settle(thaw.unwrap());
                self.frozen = false;
            }
            Turn::Revoke if !self.revoked && !self.is_full() => {
                let world = &self.world;
                let ended = world
                    .enclave
                    .revoke_grant(world.admin(), &grant(), "", &world.now);
                world.settle(ended.unwrap());
                self.revoked = true;
            }
            Turn::Freeze | Turn::Thaw | Turn::Revoke => {}
            Turn::Later(ms) => self.world.now.mono_ms += ms,
        }
        self.look()
    }

    fn is_full(&self) -> bool {
        self.world.store.full.load(Ordering::Relaxed)
    }

    /// What always holds.
    fn look(&mut self) -> Result<(), TestCaseError> {
        let (phase, token) = durable(&self.world);
        if self.revoked {
            prop_assert_eq!(phase, Phase::Revoked, "what was revoked came back");
            prop_assert!(token.is_empty());
            return Ok(());
        }
        let held = number(&token);
        prop_assert!(held >= self.highest, "an older token came back");
        self.highest = held;
        if let Phase::NeedsConsent { cause } = phase {
            prop_assert!(self.lost, "{:?} although no answer was lost", cause);
            prop_assert_eq!(cause, Cause::LostInExchange);
        }
        Ok(())
    }

    /// The enclave asks for itself, or a client with its proof.
    fn ask(&mut self, client_key: Option<String>) -> Result<(), TestCaseError> {
        if self.flight.is_some() {
            return Ok(());
        }
        let world = &self.world;
        let wanted = Wanted {
            client_key: client_key.clone(),
            ..scopes(world)
        };
        let (enclave, now) = (&world.enclave, &world.now);
        let begun = match &client_key {
            None => enclave.begin_refresh(&grant(), &wanted, now),
            Some(key) => {
                let proof = RelayedProof::unchecked(&format!("proof-by-{key}"), key);
                enclave.begin_relayed(&grant(), &wanted, proof, now)
            }
        };
        match begun {
            // Whoever has it asks for the freezes once more.
            Ok(Begin::Cached(access)) => {
                prop_assert!(!self.revoked, "a token of a revoked grant was kept");
                self.released(&access, client_key.as_deref())
            }
            Ok(Begin::Exchange(exchange, action)) => {
                prop_assert!(!self.revoked && !self.frozen);
                self.flight = Some((exchange, action));
                Ok(())
            }
            Err(RefreshError::Frozen { .. }) => {
                prop_assert!(self.frozen);
                Ok(())
            }
            Err(RefreshError::Revoked) => {
                prop_assert!(self.revoked);
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    /// A token that is given out belongs to what is on the disk, and is bound to the key of whoever asked.
    fn released(
        &self,
        access: &UpstreamAccess,
        client_key: Option<&str>,
    ) -> Result<(), TestCaseError> {
        let bound_to = match &access.bound_to {
            BoundTo::ClientKey(key) => Some(key.as_str()),
            BoundTo::OwnKey(_) | BoundTo::Nothing => None,
        };
        prop_assert_eq!(bound_to, client_key, "bound to another's key");
        if self.rotation != Rotation::Never {
            let released = number(access.token.expose());
            let (_, token) = durable(&self.world);
            prop_assert!(released <= number(&token), "released before it was durable");
        }
        Ok(())
    }

    fn step(&mut self, fate: Fate) -> Result<(), TestCaseError> {
        let Some((mut exchange, action)) = self.flight.take() else {
            return Ok(());
        };
        let event = match action {
            Action::Commit(pending) => commit(&self.world, pending),
            Action::Send(request) => Event::Answered(self.send(&exchange, &request, fate)?),
            Action::Pause(ms) => {
                self.world.now.mono_ms += ms;
                Event::Resumed
            }
            Action::Finish(_) => return Ok(()),
        };
        let now = self.world.now;
        let action = self.world.enclave.step_refresh(&mut exchange, event, &now);
        if let Action::Finish(found) = &action {
            // Decided now: what was acknowledged before holds.
            prop_assert!(
                found.is_err() || !(self.frozen || self.revoked),
                "released behind an acknowledged stop"
            );
            if let Ok(access) = found {
                self.released(access, exchange.wanted.client_key.as_deref())?;
            }
        }
        self.flight = Some((exchange, action));
        Ok(())
    }

    fn send(
        &mut self,
        exchange: &Exchange,
        request: &UpstreamRequest,
        fate: Fate,
    ) -> Result<UpstreamAnswer, TestCaseError> {
        // A token that never rotates may be presented as often as one likes.
        if self.rotation != Rotation::Never {
            let at_work = self.world.now.mono_ms < self.at_work_until_ms;
            prop_assert!(!at_work, "two presentations at a time");
        }
        if matches!(fate, Fate::NotSent) {
            return Ok(UpstreamAnswer::NotSent);
        }
        let now_ms = self.world.now.mono_ms;
        let limited = UpstreamAnswer::Response {
            status: 429,
            retry_after_s: Some(1),
            dpop_nonce: None,
            body: RawResponse::new(Vec::new()),
        };
        if let Some(relayed) = &exchange.relayed {
            prop_assert_eq!(
                request.dpop.as_deref(),
                Some(relayed.proof()),
                "another proof than the client's"
            );
        }
        let challenge = UpstreamAnswer::Response {
            status: 400,
            retry_after_s: None,
            dpop_nonce: Some("n".to_owned()),
            body: RawResponse::new(br#"{"error":"use_dpop_nonce"}"#.to_vec()),
        };
        let before = self.provider.issued;
        let answer = match fate {
            Fate::Challenged if request.dpop.is_some() => return Ok(challenge),
            Fate::Failed => return Ok(response((503, String::new()))),
            Fate::Limited => return Ok(limited),
            Fate::LostBefore | Fate::NotSent => {
                self.at_work_until_ms = now_ms + QUIET_MS;
                return Ok(UpstreamAnswer::Ambiguous);
            }
            Fate::Answered | Fate::Cut(_) | Fate::LostAfter | Fate::Challenged => {
                self.provider.present(request)
            }
        };
        let spent = self.provider.issued > before;
        Ok(match fate {
            Fate::Cut(part) => {
                let (status, body) = answer;
                let arrived = body.len() * usize::from(part) / 256;
                let arrived = body.as_bytes()[..arrived].to_vec();
                // Whole, if its closing quote is here.
                let token = format!("\"{}\"", self.provider.current);
                let whole = String::from_utf8_lossy(&arrived).contains(&token);
                self.lost |= spent && !whole;
                UpstreamAnswer::Cut {
                    status,
                    body: RawResponse::new(arrived),
                }
            }
            Fate::LostAfter => {
                self.lost |= spent;
                self.at_work_until_ms = now_ms + QUIET_MS;
                UpstreamAnswer::Ambiguous
            }
            Fate::Answered
            | Fate::LostBefore
            | Fate::Failed
            | Fate::Limited
            | Fate::Challenged
            | Fate::NotSent => response(answer),
        })
    }

    fn crash(&mut self) -> Result<(), TestCaseError> {
        if let Some((exchange, action)) = self.flight.take() {
            // An answer that is in memory alone goes with it, and a request that was
            // to be sent may have left.
            match (&exchange.state, &action) {
                (_, Action::Send(_)) => {
                    self.at_work_until_ms = self.world.now.mono_ms + QUIET_MS;
                }
                (
                    State::Journaling { .. } | State::Adopting { .. } | State::Orphaning { .. },
                    _,
                ) if self.rotation != Rotation::Never => {
                    let (_, token) = durable(&self.world);
                    let journalled = !self.world.enclave.view.read().journal.is_empty();
                    let arrived = number(&token) == self.provider.issued;
                    self.lost |= !journalled && !arrived;
                }
                _ => {}
            }
        }
        self.world.store.full.store(false, Ordering::Relaxed);
        self.world.restart();
        for grant in self.world.enclave.interrupted() {
            let now = self.world.now;
            let resumed = self.world.enclave.resume_refresh(&grant, &now).unwrap();
            if let Some((exchange, action)) = resumed {
                self.flight = Some((Box::new(exchange), action));
                self.run_out()?;
            }
        }
        Ok(())
    }

    /// What is under way comes to its end.
    fn run_out(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..32 {
            if self.flight.is_none() {
                return Ok(());
            }
            self.step(Fate::Answered)?;
            self.look()?;
        }
        Err(TestCaseError::fail("an exchange without an end"))
    }

    /// All is well again: the grant works, or says why not.
    fn end(&mut self) -> Result<(), TestCaseError> {
        self.world.store.full.store(false, Ordering::Relaxed);
        self.run_out()?;
        self.turn(Turn::Thaw)?;
        for _ in 0..4 {
            self.world.now.mono_ms += 120_000;
            self.ask(None)?;
            self.run_out()?;
        }
        self.world.now.mono_ms += 120_000;
        let world = &self.world;
        let begun = world
            .enclave
            .begin_refresh(&grant(), &scopes(world), &world.now);
        match begun {
            Ok(_) => prop_assert!(!self.revoked),
            Err(RefreshError::NeedsConsent { .. }) => prop_assert!(self.lost),
            Err(RefreshError::Revoked) => prop_assert!(self.revoked),
            Err(error) => prop_assert!(false, "{:?}", error),
        }
        Ok(())
    }
}

/// The harness sees what it is there for.
#[test]
fn a_quiet_time_that_is_too_short_is_seen() {
    let turns = [
        Turn::Ask,
        Turn::Step(Fate::Answered),
        Turn::Step(Fate::LostBefore),
        Turn::Step(Fate::Answered),
        Turn::Step(Fate::Answered),
        Turn::Ask,
        Turn::Step(Fate::Answered),
        Turn::Step(Fate::Answered),
    ];
    for (quiet_ms, holds) in [(QUIET_MS, true), (0, false)] {
        let mut history = History::with_quiet_ms(Rotation::Strict, false, quiet_ms);
        let found = turns.iter().try_for_each(|turn| history.turn(*turn));
        assert_eq!(found.is_ok(), holds, "{quiet_ms} {found:?}");
    }
}

proptest! {
    #[test]
    fn no_history_breaks_an_invariant(
        rotation in rotations(),
        dpop: bool,
        turns in turns(),
    ) {
        let mut history = History::new(rotation, dpop);
        for turn in turns {
            history.turn(turn)?;
        }
        history.end()?;
    }
}
