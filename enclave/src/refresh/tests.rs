//! Tests of the exchange against a model of a strict provider: each step, each
//! failure, and random histories with crashes.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]

use std::sync::atomic::Ordering;

use base64ct::{Base64UrlUnpadded, Encoding};
use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::admin::GrantView;
use crate::custody;
use crate::freeze::Subject;
use crate::ids::GrantId;
use crate::profile::Profile;
use crate::record::{Place, Table};
use crate::registry::Rotation;
use crate::store::Store;
use crate::testing::{REFRESH_TOKEN, World, id};
use crate::time::Now;

/// A provider with single-use refresh tokens, whose reuse revokes the family.
pub(super) struct Provider {
    pub(super) current: String,
    revoked: bool,
    pub(super) issued: u32,
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
        let kind = if request.dpop.is_some() {
            "DPoP"
        } else {
            "Bearer"
        };
        if self.rotation == Rotation::Never {
            return (
                200,
                format!(r#"{{"access_token":"at","token_type":"{kind}"}}"#),
            );
        }
        self.issued += 1;
        self.current = format!("refresh-{}-canary", self.issued);
        let body = format!(
            r#"{{"access_token":"at-{}","token_type":"{kind}","expires_in":60,"refresh_token":"{}"}}"#,
            self.issued, self.current
        );
        (200, body)
    }
}

pub(super) fn grant() -> GrantId {
    id("contacts")
}

pub(super) fn scopes(world: &World) -> Wanted {
    Wanted::with(world.grant().scopes)
}

pub(super) fn response((status, body): (u16, String)) -> UpstreamAnswer {
    UpstreamAnswer::Response {
        status,
        retry_after_s: None,
        dpop_nonce: None,
        body: RawResponse::new(body.into_bytes()),
    }
}

pub(super) fn view(world: &World) -> GrantView {
    world.enclave.grant(world.admin(), &grant()).unwrap()
}

pub(super) fn commit(world: &World, pending: Pending<()>) -> Event {
    match pending.commit(&world.store).now_or_never().unwrap() {
        Ok(durable) => Event::Committed(durable),
        Err(error) => Event::CommitFailed(error),
    }
}

/// An exchange that begins.
pub(super) fn begin(world: &World) -> (Box<Exchange>, Action) {
    let begun = world
        .enclave
        .begin_refresh(&grant(), &scopes(world), &world.now);
    match begun.unwrap() {
        Begin::Exchange(exchange, action) => (exchange, action),
        Begin::Cached(_) => panic!("a token is in the cache"),
    }
}

/// An exchange whose intent is durable, with the request that is to be sent.
pub(super) fn sent(world: &World) -> (Box<Exchange>, UpstreamRequest) {
    let (mut exchange, action) = begin(world);
    let action = committed(world, &mut exchange, action);
    let Action::Send(request) = action else {
        panic!("{action:?}");
    };
    (exchange, request)
}

/// Commits what an exchange wants committed, and gives what it wants next.
pub(super) fn committed(world: &World, exchange: &mut Exchange, action: Action) -> Action {
    let Action::Commit(pending) = action else {
        panic!("{action:?}");
    };
    let event = commit(world, pending);
    assert!(matches!(event, Event::Committed(_)), "{event:?}");
    world.enclave.step_refresh(exchange, event, &world.now)
}

/// How an exchange ended.
pub(super) fn finished(action: Action) -> Result<(), RefreshError> {
    let Action::Finish(result) = action else {
        panic!("{action:?}");
    };
    result.map(|_| ())
}

/// What a record on the disk says, with its generation.
pub(super) fn on_disk(world: &World, table: Table, name: &str) -> Option<(u64, Vec<u8>)> {
    let place = Place::tenant(&id("acme"), table, name);
    let key = world.enclave.cabinet.key(&place);
    let record = world.store.records.lock().get(&key).cloned()?;
    let view = world.enclave.view.read();
    let realm = view.realm_key(&id("acme")).unwrap();
    let (generation, sealed) = (record.generation, &record.sealed);
    let body = world
        .enclave
        .cabinet
        .open(&realm, &place, generation, sealed);
    Some((generation, body.unwrap().to_vec()))
}

/// What the disk says of the grant: its phase, its token's generation, its token.
pub(super) fn custody_on_disk(world: &World) -> (Phase, u64, String) {
    let (_, body) = on_disk(world, Table::Custody, "contacts").unwrap();
    let (head, token, _) = custody::decode(&body).unwrap();
    let token = String::from_utf8(token.expose().to_vec()).unwrap();
    (head.phase, head.refresh_generation, token)
}

/// The tenant's leaves, opened.
pub(super) fn leaves(world: &World) -> Vec<serde_json::Value> {
    let reader = world.enclave.leaf_reader(world.admin(), Some(&id("acme")));
    let reader = reader.unwrap();
    let leaves = world.store.leaves.lock();
    let read = leaves
        .iter()
        .filter_map(|leaf| world.enclave.read_leaf(&reader, &leaf.bytes)?.event);
    read.map(|event| serde_json::from_str(&event).unwrap())
        .collect()
}

/// Runs an exchange; `answer` decides what comes of the request.
pub(super) fn run(
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

pub(super) fn drive(
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
    // At 85 % of 60 s, if not before, it is renewed.
    world.now.mono_ms += 51_000;
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
                | UpstreamAnswer::Response { .. } => RefreshError::ProviderUnclear,
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

#[test]
fn a_token_serves_while_its_successor_is_asked_for_but_not_to_its_end() {
    let mut world = World::new(Rotation::Strict);
    let mut provider = Provider::new(Rotation::Strict);
    run(&world, |request| response(provider.present(request))).unwrap();
    let found = |world: &World, ms| {
        let now = Now {
            mono_ms: world.now.mono_ms + ms,
            ..world.now
        };
        match world
            .enclave
            .cached_upstream(&grant(), &scopes(world), &now)
        {
            Some(Cached::Fresh(_)) => "fresh",
            Some(Cached::Ageing(_)) => "ageing",
            None => "none",
        }
    };
    for (ms, expected) in [
        (0, "fresh"),
        (44_999, "fresh"),
        (51_000, "ageing"),
        (54_999, "ageing"),
        (55_000, "none"),
    ] {
        assert_eq!(found(&world, ms), expected, "after {ms} ms");
    }
    // A cache that is full takes the successor of what it holds.
    world.now.mono_ms += 52_000;
    run(&world, |request| response(provider.present(request))).unwrap();
    assert_eq!(found(&world, 0), "fresh");
}

#[test]
fn an_answer_cut_at_any_byte_gives_the_whole_successor_or_none() {
    let whole = {
        let world = World::new(Rotation::Strict);
        let mut provider = Provider::new(Rotation::Strict);
        let mut body = String::new();
        run(&world, |request| {
            body = provider.present(request).1;
            UpstreamAnswer::Ambiguous
        })
        .unwrap_err();
        body
    };
    let complete = whole.rfind('"').unwrap() + 1;
    for cut in 0..whole.len() {
        let mut world = World::new(Rotation::Strict);
        let mut provider = Provider::new(Rotation::Strict);
        let found = run(&world, |request| {
            let (status, body) = provider.present(request);
            let body = RawResponse::new(body.as_bytes()[..cut].to_vec());
            UpstreamAnswer::Cut { status, body }
        });
        assert_eq!(
            found.map(|_| ()),
            Err(RefreshError::ProviderUnclear),
            "cut at {cut}"
        );
        world.restart();
        let next = run(&world, |request| response(provider.present(request)));
        if cut >= complete {
            assert_eq!(next.unwrap().token.expose(), b"at-3", "cut at {cut}");
        } else {
            let cause = Cause::LostInExchange;
            let expected = Err(RefreshError::NeedsConsent { cause });
            assert_eq!(next.map(|_| ()), expected, "cut at {cut}");
        }
    }
}

#[test]
fn nothing_is_presented_while_an_earlier_request_may_be_at_work() {
    let profile = Profile::default();
    let quiet = |retry_after_s| Err(RefreshError::Quiet { retry_after_s });
    let silent = || unreachable!("it is quiet");
    let mut world = World::with_profile(Rotation::Grace, profile.clone());
    world.now.mono_ms += 60_000;
    let mut provider = Provider::new(Rotation::Grace);
    let found = run(&world, |_| UpstreamAnswer::Ambiguous);
    assert_eq!(found.map(|_| ()), Err(RefreshError::ProviderUnclear));
    assert_eq!(run(&world, |_| silent()).map(|_| ()), quiet(15));
    // A restart forgets when it began: it is quiet anew.
    world.now.mono_ms += 14_000;
    assert_eq!(run(&world, |_| silent()).map(|_| ()), quiet(1));
    world.restart();
    assert_eq!(run(&world, |_| silent()).map(|_| ()), quiet(15));
    world.now.mono_ms += 15_000;
    run(&world, |request| response(provider.present(request))).unwrap();

    // A whole answer, and a token that never rotates, leave nothing at work.
    let world = World::with_profile(Rotation::Strict, profile.clone());
    run(&world, |_| response((502, String::new()))).unwrap_err();
    let mut provider = Provider::new(Rotation::Strict);
    run(&world, |request| response(provider.present(request))).unwrap();
    let world = World::with_profile(Rotation::Never, profile);
    run(&world, |_| UpstreamAnswer::Ambiguous).unwrap_err();
    let mut provider = Provider::new(Rotation::Never);
    run(&world, |request| response(provider.present(request))).unwrap();
}

#[test]
fn what_the_provider_refuses_is_not_asked_again_at_once() {
    let mut world = World::new(Rotation::Strict);
    let refused = || {
        Err(RefreshError::ProviderRefused {
            code: "invalid_client",
        })
    };
    let mut asked = 0;
    for _ in 0..1_000 {
        let found = run(&world, |_| {
            asked += 1;
            response((401, r#"{"error":"invalid_client"}"#.into()))
        });
        assert_eq!(found.map(|_| ()), refused());
        world.now.mono_ms += 3_600;
    }
    // An hour: a call a minute, and a few more before it is sure.
    assert!((60..=70).contains(&asked), "{asked}");
    // Another deposit is another case.
    world.deposit("another").unwrap();
    let found = run(&world, |_| {
        response((200, r#"{"access_token":"at","token_type":"bearer"}"#.into()))
    });
    assert!(found.is_ok());
}

#[test]
fn an_error_in_a_200_is_read_as_what_it_is() {
    let profile = Profile {
        dead_codes: vec!["bad_refresh_token".into()],
        ..Profile::default()
    };
    let world = World::with_profile(Rotation::Strict, profile);
    let found = run(&world, |_| response((200, r#"{"error":"oops"}"#.into())));
    let other = RefreshError::ProviderRefused { code: "other" };
    assert_eq!(found.map(|_| ()), Err(other));
    world.enclave.pace.forget(&grant());
    let found = run(&world, |_| {
        response((200, r#"{"error":"bad_refresh_token"}"#.into()))
    });
    let cause = Cause::RefusedByProvider;
    assert_eq!(found.map(|_| ()), Err(RefreshError::NeedsConsent { cause }));
    assert!(world.enclave.view.read().journal.is_empty());
}

/// An answer with an id token of this subject.
fn with_id_token(body: &str, subject: &str) -> String {
    let claims = format!(r#"{{"iss":"https://p.example","sub":"{subject}"}}"#);
    let payload = Base64UrlUnpadded::encode_string(claims.as_bytes());
    body.replacen('{', &format!(r#"{{"id_token":"e30.{payload}.c2ln","#), 1)
}

#[test]
fn an_id_token_of_another_user_ends_the_grant_and_its_tokens_are_not_kept() {
    let mut world = World::new(Rotation::Strict);
    let mut provider = Provider::new(Rotation::Strict);
    for _ in 0..2 {
        run(&world, |request| {
            let (status, body) = provider.present(request);
            response((status, with_id_token(&body, "alice")))
        })
        .unwrap();
        world.now.mono_ms += 60_000;
        world.restart();
    }
    let kept = view(&world).refresh_generation;
    let found = run(&world, |request| {
        let (status, body) = provider.present(request);
        response((status, with_id_token(&body, "mallory")))
    });
    let cause = Cause::AnotherUser;
    assert_eq!(found.map(|_| ()), Err(RefreshError::NeedsConsent { cause }));
    assert_eq!(view(&world).refresh_generation, kept);
    assert!(world.enclave.view.read().journal.is_empty());

    let world = World::new(Rotation::Strict);
    let mut provider = Provider::new(Rotation::Strict);
    let found = run(&world, |request| {
        let (status, body) = provider.present(request);
        response((status, body.replacen('{', r#"{"id_token":"x","#, 1)))
    });
    let expected = RefreshError::UnusableToken("its id token is ill-formed");
    assert_eq!(found.map(|_| ()), Err(expected));
    assert_eq!(view(&world).refresh_generation, 2);
}

#[test]
fn a_successor_that_another_owner_left_is_adopted_and_nothing_is_presented() {
    let mut world = World::new(Rotation::Strict);
    let mut provider = Provider::new(Rotation::Strict);
    let place = Place::tenant(&id("acme"), Table::Custody, grant().as_str());
    let key = world.enclave.cabinet.key(&place);
    // Another owner writes the record while the request is out: same bytes, as if it
    // had taken the exchange over.
    let found = run(&world, |request| {
        let answer = provider.present(request);
        let mut records = world.store.records.lock();
        let record = records.get_mut(&key).unwrap();
        let view = world.enclave.view.read();
        let tenant_key = view.realm_key(&id("acme")).unwrap();
        let generation = record.generation;
        let body = world
            .enclave
            .cabinet
            .open(&tenant_key, &place, generation, &record.sealed)
            .unwrap();
        let write = world
            .enclave
            .cabinet
            .seal(
                &ring::rand::SystemRandom::new(),
                &tenant_key,
                &place,
                generation,
                &body,
            )
            .unwrap();
        record.generation += 1;
        record.sealed = write.sealed.unwrap().into();
        response(answer)
    });
    assert_eq!(found.map(|_| ()), Err(RefreshError::ProviderUnclear));
    // The other owner comes up from the same store.
    world.restart();
    for grant in world.enclave.interrupted() {
        let resumed = world.enclave.resume_refresh(&grant, &world.now).unwrap();
        assert!(resumed.is_none(), "the journal answers another generation");
    }
    let found = run(&world, |_| unreachable!("the orphan is adopted first"));
    assert_eq!(found.map(|_| ()), Err(RefreshError::ProviderUnclear));
    assert_eq!(view(&world).refresh_generation, 2);
    assert!(world.enclave.view.read().orphans.is_empty());
    let next = run(&world, |request| response(provider.present(request)));
    assert_eq!(next.unwrap().token.expose(), b"at-3");
    let scanned = world.store.scan(None, 1_000).now_or_never();
    assert!(scanned.unwrap().unwrap().len() > 1);
}

#[test]
fn a_token_is_used_before_its_provider_drops_it() {
    let profile = Profile {
        quiet_ms: 0,
        idle_lifetime_s: Some(3_600),
        ..Profile::default()
    };
    let mut world = World::with_profile(Rotation::Strict, profile);
    let mut provider = Provider::new(Rotation::Strict);
    let due = |world: &World| world.enclave.due_for_keep_alive(&world.now, None, 10);
    assert_eq!(due(&world), []);
    // It may be the half of the hour, by the clock that is fastest.
    let slack_s = world.now.hi_s - world.now.lo_s;
    world.now.lo_s += 1_799 - slack_s;
    world.now.hi_s += 1_799 - slack_s;
    assert_eq!(due(&world), []);
    world.now.lo_s += 1;
    world.now.hi_s += 1;
    assert_eq!(due(&world), [(grant(), scopes(&world))]);
    world.now.lo_s += slack_s;
    world.now.hi_s += slack_s;
    assert_eq!(due(&world), [(grant(), scopes(&world))]);
    assert_eq!(world.enclave.due_for_keep_alive(&world.now, None, 0), []);
    run(&world, |request| response(provider.present(request))).unwrap();
    assert_eq!(due(&world), []);
    world.restart();
    assert_eq!(due(&world), []);
    // A grant that needs its owner is not kept alive.
    world.now.lo_s += 1_800;
    world.now.hi_s += 1_800;
    run(&world, |_| {
        response((400, r#"{"error":"invalid_grant"}"#.into()))
    })
    .unwrap_err();
    assert_eq!(due(&world), []);
    // Providers that drop nothing are not asked for nothing.
    let mut world = World::new(Rotation::Strict);
    world.now.hi_s += 1_000_000;
    assert_eq!(due(&world), []);
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
                    RefreshError::ProviderUnreachable
                        | RefreshError::ProviderUnclear
                        // Too many failures in a row: nothing was sent.
                        | RefreshError::ProviderPaused { .. }
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
