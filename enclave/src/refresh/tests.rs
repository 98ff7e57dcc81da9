//! Tests of the exchange against a model of a strict provider: each step, each
//! failure, and random histories with crashes.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]

use std::sync::atomic::Ordering;

use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::admin::GrantView;
use crate::freeze::Subject;
use crate::ids::GrantId;
use crate::testing::{REFRESH_TOKEN, World, id};

/// A provider with single-use refresh tokens, whose reuse revokes the family.
pub(super) struct Provider {
    current: String,
    revoked: bool,
    issued: u32,
    rotation: Rotation,
}

impl Provider {
    pub(super) fn new(rotation: Rotation) -> Self {
        Self {
            current: REFRESH_TOKEN.to_owned(),
            revoked: false,
            issued: 1,
            rotation,
        }
    }

    /// Acts on a request and answers it.
    pub(super) fn present(&mut self, request: &UpstreamRequest) -> (u16, String) {
        let form = String::from_utf8(request.body.expose().to_vec()).unwrap();
        let presented = form
            .split('&')
            .find_map(|field| field.strip_prefix("refresh_token="))
            .unwrap();
        if self.revoked || presented != self.current {
            self.revoked = self.rotation == Rotation::Strict;
            return (400, r#"{"error":"invalid_grant"}"#.to_owned());
        }
        if self.rotation == Rotation::Never {
            return (
                200,
                r#"{"access_token":"at","token_type":"Bearer"}"#.to_owned(),
            );
        }
        self.issued += 1;
        self.current = format!("refresh-{}-canary", self.issued);
        let body = format!(
            r#"{{"access_token":"at-{}","token_type":"Bearer","expires_in":60,"refresh_token":"{}"}}"#,
            self.issued, self.current
        );
        (200, body)
    }
}

pub(super) fn grant() -> GrantId {
    id("contacts")
}

pub(super) fn scopes(world: &World) -> Scopes {
    world.grant().scopes
}

pub(super) fn response((status, body): (u16, String)) -> UpstreamAnswer {
    UpstreamAnswer::Response {
        status,
        retry_after_s: None,
        body: RawResponse::new(body.into_bytes()),
    }
}

fn view(world: &World) -> GrantView {
    world.enclave.grant(world.admin(), &grant()).unwrap()
}

pub(super) fn commit(world: &World, pending: Pending<()>) -> Event {
    match pending.commit(&world.store).now_or_never().unwrap() {
        Ok(durable) => Event::Committed(durable),
        Err(error) => Event::CommitFailed(error),
    }
}

/// Runs an exchange; `answer` decides what comes of the request.
fn run(
    world: &World,
    answer: impl FnMut(&UpstreamRequest) -> UpstreamAnswer,
) -> Result<Arc<UpstreamAccess>, RefreshError> {
    match world
        .enclave
        .begin_refresh(&grant(), &scopes(world), &world.now)?
    {
        Begin::Cached(access) => Ok(access),
        Begin::Exchange(mut exchange, action) => drive(world, &mut exchange, action, answer),
    }
}

fn drive(
    world: &World,
    exchange: &mut Exchange,
    mut action: Action,
    mut answer: impl FnMut(&UpstreamRequest) -> UpstreamAnswer,
) -> Result<Arc<UpstreamAccess>, RefreshError> {
    loop {
        let event = match action {
            Action::Commit(pending) => commit(world, pending),
            Action::Send(request) => Event::Answered(answer(&request)),
            Action::Pause(_) => {
                // Space returns while we wait.
                world.store.full.store(false, Ordering::Relaxed);
                Event::Resumed
            }
            Action::Finish(result) => return result,
        };
        action = world.enclave.step_refresh(exchange, event, &world.now);
    }
}

#[test]
fn a_good_exchange_rotates_before_it_releases_and_is_cached() {
    let mut world = World::new(Rotation::Strict);
    let mut provider = Provider::new(Rotation::Strict);
    let access = run(&world, |request| response(provider.present(request))).unwrap();
    assert_eq!(access.token.expose(), b"at-2");
    assert_eq!(view(&world).refresh_generation, 2);
    let cached = run(&world, |_| unreachable!("a cached token is used")).unwrap();
    assert_eq!(cached.token.expose(), b"at-2");
    // 80 % of 60 s later it is renewed.
    world.now.mono_ms += 48_000;
    let renewed = run(&world, |request| response(provider.present(request))).unwrap();
    assert_eq!(renewed.token.expose(), b"at-3");
    world.restart();
    assert_eq!(view(&world).refresh_generation, 3);
    let after = run(&world, |request| response(provider.present(request))).unwrap();
    assert_eq!(after.token.expose(), b"at-4");
}

#[test]
fn each_bad_answer_has_its_error_and_loses_nothing() {
    let text = |status, body: &str| (status, body.to_owned());
    let refused = |code| RefreshError::ProviderRefused { code };
    let rows = [
        (
            text(400, r#"{"error":"invalid_client"}"#),
            refused("invalid_client"),
        ),
        (text(400, "<html>"), refused("other")),
        (
            text(429, ""),
            RefreshError::RateLimited { retry_after_s: 5 },
        ),
        (text(500, "oops"), RefreshError::ProviderUnclear),
        (text(503, ""), RefreshError::ProviderUnclear),
        (text(302, ""), RefreshError::ProviderUnclear),
        (text(200, "garbage"), RefreshError::ProviderUnclear),
        (text(200, ""), RefreshError::ProviderUnclear),
        (text(200, "{}"), RefreshError::ProviderUnclear),
    ];
    for rotation in [Rotation::Strict, Rotation::Grace, Rotation::Never] {
        for (bad, expected) in &rows {
            let mut world = World::new(rotation);
            let mut provider = Provider::new(rotation);
            let found = run(&world, |_| response(bad.clone())).map(|_| ());
            assert_eq!(found, Err(expected.clone()), "{bad:?}");
            // The provider had not acted: the next try works, crash or not.
            world.restart();
            let next = run(&world, |request| response(provider.present(request)));
            assert!(next.is_ok(), "{rotation:?} {bad:?} {next:?}");
        }
        for unsent in [UpstreamAnswer::NotSent, UpstreamAnswer::Ambiguous] {
            let world = World::new(rotation);
            let mut provider = Provider::new(rotation);
            let expected = match unsent {
                UpstreamAnswer::NotSent => RefreshError::ProviderUnreachable,
                UpstreamAnswer::Ambiguous
                | UpstreamAnswer::Cut { .. }
                | UpstreamAnswer::Response { .. } => {
                    RefreshError::ProviderUnclear
                }
            };
            let mut unsent = Some(unsent);
            let found = run(&world, |_| unsent.take().unwrap()).map(|_| ());
            assert_eq!(found, Err(expected));
            let next = run(&world, |request| response(provider.present(request)));
            assert!(next.is_ok(), "{rotation:?} {next:?}");
        }
    }
}

#[test]
fn an_unusable_access_token_is_refused_but_its_refresh_token_is_kept() {
    let world = World::new(Rotation::Strict);
    let mut provider = Provider::new(Rotation::Strict);
    let found = run(&world, |request| {
        let (status, body) = provider.present(request);
        response((status, body.replace("Bearer", "DPoP")))
    });
    let expected = RefreshError::UnusableToken("its type is not bearer");
    assert_eq!(found.map(|_| ()), Err(expected));
    let next = run(&world, |request| response(provider.present(request)));
    assert_eq!(next.unwrap().token.expose(), b"at-3");
}

#[test]
fn a_refused_token_needs_consent_and_is_not_tried_again() {
    let mut world = World::new(Rotation::Strict);
    let cause = Cause::RefusedByProvider;
    let found = run(&world, |_| {
        response((400, r#"{"error":"invalid_grant"}"#.into()))
    });
    assert_eq!(found.map(|_| ()), Err(RefreshError::NeedsConsent { cause }));
    for _ in 0..2 {
        assert_eq!(view(&world).needs_consent, Some(cause));
        let again = run(&world, |_| unreachable!("a dead grant is not tried"));
        assert_eq!(again.map(|_| ()), Err(RefreshError::NeedsConsent { cause }));
        world.restart();
    }
    world.deposit("fresh-token").unwrap();
    assert_eq!(view(&world).needs_consent, None);
    let found = run(&world, |request| {
        let form = String::from_utf8(request.body.expose().to_vec()).unwrap();
        assert!(form.contains("refresh_token=fresh-token"), "{form}");
        response((200, r#"{"access_token":"at","token_type":"bearer"}"#.into()))
    });
    assert!(found.is_ok());
}

#[test]
fn an_answer_that_got_lost_ends_in_consent_with_its_cause() {
    let world = World::new(Rotation::Strict);
    let mut provider = Provider::new(Rotation::Strict);
    let found = run(&world, |request| {
        provider.present(request);
        UpstreamAnswer::Ambiguous
    });
    assert_eq!(found.map(|_| ()), Err(RefreshError::ProviderUnclear));
    let cause = Cause::LostInExchange;
    let found = run(&world, |request| response(provider.present(request)));
    assert_eq!(found.map(|_| ()), Err(RefreshError::NeedsConsent { cause }));
}

#[test]
fn a_freeze_during_the_exchange_keeps_the_successor_and_releases_nothing() {
    let world = World::new(Rotation::Strict);
    let mut provider = Provider::new(Rotation::Strict);
    let subject = Subject::Grant(grant());
    let found = run(&world, |request| {
        world.freeze(subject.clone());
        response(provider.present(request))
    });
    let frozen = RefreshError::Frozen {
        subject: subject.clone(),
    };
    assert_eq!(found.map(|_| ()), Err(frozen.clone()));
    assert_eq!(view(&world).refresh_generation, 2);
    let found = run(&world, |_| {
        unreachable!("nothing is sent for a frozen grant")
    });
    assert_eq!(found.map(|_| ()), Err(frozen));
    let thaw = world
        .enclave
        .thaw(world.admin(), subject, None, &world.now)
        .unwrap();
    world.settle(thaw);
    assert!(run(&world, |request| response(provider.present(request))).is_ok());
}

#[test]
fn nothing_is_sent_if_the_intent_is_not_durable() {
    let world = World::new(Rotation::Strict);
    world.store.full.store(true, Ordering::Relaxed);
    let found = run(&world, |_| unreachable!("the intent is not durable"));
    assert_eq!(
        found.map(|_| ()),
        Err(RefreshError::Store(StoreError::Full))
    );
}

#[test]
fn a_store_that_fails_after_the_answer_delays_the_release_and_loses_nothing() {
    let mut world = World::new(Rotation::Strict);
    let mut provider = Provider::new(Rotation::Strict);
    let found = run(&world, |request| {
        world.store.full.store(true, Ordering::Relaxed);
        response(provider.present(request))
    });
    assert_eq!(found.unwrap().token.expose(), b"at-2");
    world.restart();
    assert!(run(&world, |request| response(provider.present(request))).is_ok());
}

#[test]
fn a_deposit_during_an_exchange_is_refused() {
    let world = World::new(Rotation::Strict);
    let begun = world
        .enclave
        .begin_refresh(&grant(), &scopes(&world), &world.now)
        .unwrap();
    let Begin::Exchange(mut exchange, Action::Commit(intent)) = begun else {
        panic!("an exchange begins with an intent");
    };
    let event = commit(&world, intent);
    let send = world.enclave.step_refresh(&mut exchange, event, &world.now);
    assert!(matches!(send, Action::Send(_)));
    let found = world.deposit("another");
    assert_eq!(found, Err(crate::admin::AdminError::Busy));
}

#[test]
fn after_a_crash_in_an_exchange_a_deposit_is_welcome() {
    let mut world = World::new(Rotation::Strict);
    let begun = world
        .enclave
        .begin_refresh(&grant(), &scopes(&world), &world.now)
        .unwrap();
    let Begin::Exchange(_, Action::Commit(intent)) = begun else {
        panic!("an exchange begins with an intent");
    };
    assert!(matches!(commit(&world, intent), Event::Committed(_)));
    world.restart();
    assert_eq!(world.enclave.interrupted(), [grant()]);
    let resumed = world.enclave.resume_refresh(&grant(), &world.now).unwrap();
    assert!(resumed.is_none());
    assert_eq!(world.deposit("another"), Ok(()));
}

/// One turn of a random history.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// The exchange goes through.
    Good,
    /// The request does not leave.
    NotSent,
    /// It leaves, the provider does not act, no answer comes.
    LostBefore,
    /// It leaves, the provider acts, no answer comes.
    LostAfter,
    /// The provider fails before it acts.
    Failed,
    /// The process dies when this many actions were carried out.
    Crash(u8),
    /// Time passes, so that no token is cached.
    Later,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        4 => Just(Turn::Good),
        1 => Just(Turn::NotSent),
        1 => Just(Turn::LostBefore),
        1 => Just(Turn::LostAfter),
        1 => Just(Turn::Failed),
        4 => (0..5_u8).prop_map(Turn::Crash),
        3 => Just(Turn::Later),
    ];
    prop::collection::vec(turn, 1..20)
}

/// Carries out `steps` actions of an exchange, then the process dies. Gives
/// whether an answer of the provider was lost with it.
fn crash(world: &mut World, provider: &mut Provider, steps: u8) -> bool {
    let begun = world
        .enclave
        .begin_refresh(&grant(), &scopes(world), &world.now);
    let Ok(Begin::Exchange(mut exchange, mut action)) = begun else {
        world.restart();
        return false;
    };
    let before = provider.issued;
    let mut journalled = false;
    for _ in 0..steps {
        let event = match action {
            Action::Commit(pending) => {
                journalled |= provider.issued > before;
                commit(world, pending)
            }
            Action::Send(request) => Event::Answered(response(provider.present(&request))),
            Action::Pause(_) => Event::Resumed,
            Action::Finish(_) => break,
        };
        action = world.enclave.step_refresh(&mut exchange, event, &world.now);
    }
    world.restart();
    for grant in world.enclave.interrupted() {
        let resumed = world.enclave.resume_refresh(&grant, &world.now).unwrap();
        if let Some((mut exchange, action)) = resumed {
            let found = drive(world, &mut exchange, action, |_| {
                unreachable!("nothing is sent when a journal is adopted")
            });
            assert_eq!(found.map(|_| ()), Err(RefreshError::ProviderUnclear));
        }
    }
    provider.issued > before && !journalled
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever happens, a grant is lost only when an answer of the provider was
    /// lost, and then it says so; and a released token was durable before.
    #[test]
    fn a_grant_is_never_lost_silently(turns in turns()) {
        let mut world = World::new(Rotation::Strict);
        let mut provider = Provider::new(Rotation::Strict);
        let mut lost = false;
        for turn in turns {
            let found = match turn {
                Turn::Good => run(&world, |request| response(provider.present(request))),
                Turn::NotSent => run(&world, |_| UpstreamAnswer::NotSent),
                Turn::LostBefore => run(&world, |_| UpstreamAnswer::Ambiguous),
                Turn::LostAfter => run(&world, |request| {
                    let before = provider.issued;
                    provider.present(request);
                    lost |= provider.issued > before;
                    UpstreamAnswer::Ambiguous
                }),
                Turn::Failed => run(&world, |_| response((502, String::new()))),
                Turn::Crash(steps) => {
                    lost |= crash(&mut world, &mut provider, steps);
                    continue;
                }
                Turn::Later => {
                    world.now.mono_ms += 60_000;
                    continue;
                }
            };
            match found {
                Ok(_) => prop_assert_eq!(view(&world).refresh_generation, u64::from(provider.issued)),
                Err(RefreshError::NeedsConsent { cause }) => {
                    prop_assert!(lost, "needs consent ({cause:?}) although no answer was lost");
                    prop_assert_eq!(cause, Cause::LostInExchange);
                }
                Err(error) => prop_assert!(matches!(
                    error,
                    RefreshError::ProviderUnreachable | RefreshError::ProviderUnclear
                ), "{error:?}"),
            }
            prop_assert!(lost || !provider.revoked, "the family was revoked without a loss");
        }
        // In the end the grant works, or says that its owner is needed.
        world.now.mono_ms += 60_000;
        let last = run(&world, |request| response(provider.present(request)));
        match last {
            Ok(_) => prop_assert!(view(&world).needs_consent.is_none()),
            Err(RefreshError::NeedsConsent { .. }) => prop_assert!(lost),
            Err(error) => prop_assert!(false, "{error:?}"),
        }
    }
}
