//! Tests of providers' tokens for clients: each reason why not, the exchange with the client's proof, what it leaves
//! behind however it ends, and what holds the token back at the last moment.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]

use futures_util::FutureExt;
use jose::SigningKey;
use jose::dpop::{ProofParams, random_jti};
use ring::rand::SystemRandom;
use serde_json::{Value, json};

use super::*;
use crate::admin::{AdminError, NewApp, SetPolicy};
use crate::custody::{Cause, Phase};
use crate::freeze::Subject;
use crate::profile::Profile;
use crate::refresh::{
    Action, Begin, Event as Step, Exchange, MAX_CLIENT_KEYS_PER_GRANT, UpstreamAnswer,
    UpstreamRequest,
};
use crate::registry::Rotation;
use crate::secret::RawResponse;
use crate::testing::{Asking, DIRECT, GATEWAY, GRPC, World, id, key};

const TOKEN_ENDPOINT: &str = "http://127.0.0.1:1/token";
const GRANT: &str = "bound";
const GOOD: &str = r#"{"access_token":"at-canary","token_type":"DPoP","expires_in":60,"refresh_token":"r-2","scope":"contacts.read"}"#;

fn profile(dpop: bool) -> Profile {
    Profile {
        dpop,
        quiet_ms: 0,
        requests_per_s: 1_000,
        requests_burst: 1_000,
        ..Profile::default()
    }
}

fn grant(world: &World) -> Grant {
    Grant {
        id: id(GRANT),
        allow_upstream_bound: true,
        ..world.grant()
    }
}

/// With a grant that lets the provider's tokens out.
fn world() -> World {
    let world = World::with_profile(Rotation::Strict, profile(true));
    world.deposit_grant(grant(&world)).unwrap();
    world
}

/// A proof for the provider, right in all that a test leaves.
struct Proving<'a> {
    key: &'a SigningKey,
    htm: &'a str,
    htu: &'a str,
    iat_s: u64,
    nonce: Option<&'a str>,
    access_token: Option<&'a str>,
}

fn proof<'a>(world: &'a World, change: impl FnOnce(&mut Proving<'a>)) -> String {
    let mut proving = Proving {
        key: &world.dpop,
        htm: "POST",
        htu: TOKEN_ENDPOINT,
        iat_s: world.now.lo_s,
        nonce: None,
        access_token: None,
    };
    change(&mut proving);
    let rng = SystemRandom::new();
    let params = ProofParams {
        htm: proving.htm,
        htu: proving.htu,
        iat_s: proving.iat_s,
        jti: &random_jti(&rng).unwrap(),
        nonce: proving.nonce,
        access_token: proving.access_token,
    };
    params.sign(proving.key, &rng).unwrap()
}

fn seek_with(
    world: &World,
    proof: Option<&str>,
    change: impl FnOnce(&mut Asking),
) -> Result<Seeking, UpstreamBoundError> {
    let good = |asking: &mut Asking| {
        asking.grant = Some(GRANT.into());
        asking.resource = format!("{GATEWAY}/g/{GRANT}/api");
        change(asking);
    };
    let proof = proof.map(str::as_bytes);
    world.asked(good, |request| {
        world.enclave.seek_upstream(request, proof, &world.now, &())
    })
}

fn seek(world: &World, proof: Option<&str>) -> Result<Seeking, UpstreamBoundError> {
    seek_with(world, proof, |_| {})
}

/// Asks with another key.
fn seek_by(
    world: &World,
    key: &SigningKey,
    proof: Option<&str>,
) -> Result<Seeking, UpstreamBoundError> {
    let nonce = world
        .enclave
        .dpop_nonce(crate::nonce::Role::Token, &world.now);
    let htu = format!("{GRPC}{}", crate::issue::PATH);
    let own = world.proof_by(key, &htu, Some(&nonce));
    seek_with(world, proof, |asking| asking.proofs = vec![own])
}

fn exchange(seeking: Seeking) -> (Sought, RelayedProof) {
    match seeking {
        Seeking::Exchange(sought, proof) => (sought, proof),
        other @ (Seeking::Held(..) | Seeking::Refused(_)) => panic!("{other:?}"),
    }
}

fn refusal(seeking: Result<Seeking, UpstreamBoundError>) -> UpstreamBoundError {
    seeking.map(|_| ()).unwrap_err()
}

fn challenge(nonce: Option<&str>) -> Box<UpstreamChallenge> {
    Box::new(UpstreamChallenge {
        htu: TOKEN_ENDPOINT.into(),
        nonce: nonce.map(ToOwned::to_owned),
    })
}

fn answer(status: u16, nonce: Option<&str>, body: &str) -> UpstreamAnswer {
    UpstreamAnswer::Response {
        status,
        retry_after_s: None,
        dpop_nonce: nonce.map(ToOwned::to_owned),
        body: RawResponse::new(body.as_bytes().to_vec()),
    }
}

/// Runs an exchange to its end; `answer` is asked when a request is sent.
fn drive(
    world: &World,
    mut exchange: Box<Exchange>,
    mut action: Action,
    mut answer: impl FnMut(&UpstreamRequest) -> UpstreamAnswer,
) -> Result<Arc<UpstreamAccess>, RefreshError> {
    loop {
        let event = match action {
            Action::Commit(pending) => match pending.commit(&world.store).now_or_never().unwrap() {
                Ok(durable) => Step::Committed(durable),
                Err(error) => Step::CommitFailed(error),
            },
            Action::Send(request) => Step::Answered(answer(&request)),
            Action::Pause(_) => Step::Resumed,
            Action::Finish(result) => return result,
        };
        action = world.enclave.step_refresh(&mut exchange, event, &world.now);
    }
}

fn begin(
    world: &World,
    sought: &Sought,
    proof: RelayedProof,
) -> Result<(Box<Exchange>, Action), RefreshError> {
    let begun = world
        .enclave
        .begin_relayed(&sought.grant, &sought.wanted, proof, &world.now)?;
    match begun {
        Begin::Exchange(exchange, action) => Ok((exchange, action)),
        Begin::Cached(_) => panic!("one is at hand"),
    }
}

/// Asks with a good proof and runs the exchange.
fn exchanged(
    world: &World,
    answer: impl FnMut(&UpstreamRequest) -> UpstreamAnswer,
) -> (Sought, Result<Arc<UpstreamAccess>, RefreshError>) {
    let nonce = newest(world);
    let proof = proof(world, |proving| proving.nonce = nonce.as_deref());
    let (sought, proof) = exchange(seek(world, Some(&proof)).unwrap());
    let outcome = begin(world, &sought, proof)
        .and_then(|(exchange, action)| drive(world, exchange, action, answer));
    (sought, outcome)
}

/// The enclave's own exchange for a grant.
fn own_exchange(world: &World, answer: &str, status: u16) -> Result<(), RefreshError> {
    let wanted = world.enclave.whole_grant(&id(GRANT)).unwrap();
    let begun = world
        .enclave
        .begin_refresh(&id(GRANT), &wanted, &world.now)?;
    let Begin::Exchange(exchange, action) = begun else {
        panic!("one is at hand");
    };
    drive(world, exchange, action, |_| {
        self::answer(status, None, answer)
    })
    .map(|_| ())
}

fn endpoint(world: &World) -> crate::http_url::HttpUrl {
    world.provider().token_endpoint
}

fn newest(world: &World) -> Option<String> {
    let kind = ServerKind::Authorization;
    world.enclave.server_nonces.newest(kind, &endpoint(world))
}

fn keep_nonce(world: &World, nonce: &str) {
    let kind = ServerKind::Authorization;
    world
        .enclave
        .server_nonces
        .keep(kind, &endpoint(world), nonce);
}

/// Where the grant's exchange stands, and how often its token was replaced.
fn custody(world: &World) -> (Phase, u64) {
    let view = world.enclave.view.read();
    let custody = &view.custody[&id::<GrantId>(GRANT)].value;
    (custody.phase, custody.refresh_generation)
}

/// The tenant's leaves of a kind, opened.
fn leaves(world: &World, kind: &str) -> Vec<Value> {
    let reader = world.enclave.leaf_reader(world.admin(), Some(&id("acme")));
    let reader = reader.unwrap();
    let leaves = world.store.leaves.lock();
    let read = leaves
        .iter()
        .filter_map(|leaf| world.enclave.read_leaf(&reader, &leaf.bytes)?.event);
    let events = read.map(|event| serde_json::from_str::<Value>(&event).unwrap());
    events.filter(|event| event["event"] == kind).collect()
}

#[test]
fn each_reason_why_not_is_told_and_nothing_is_presented() {
    use UpstreamBoundError as Error;
    type Seek = fn(&World) -> Result<Seeking, UpstreamBoundError>;
    let mismatch = |error| Error::Proof(error);
    let rows: Vec<(&str, Seek, UpstreamBoundError)> = vec![
        (
            "no proof for the provider",
            |w| seek(w, None),
            Error::ProofRequired(challenge(None)),
        ),
        (
            "none, and a nonce is known",
            |w| {
                keep_nonce(w, "n-1");
                seek(w, None)
            },
            Error::ProofRequired(challenge(Some("n-1"))),
        ),
        (
            "to be bound to a certificate",
            |w| {
                seek_with(w, None, |a| {
                    a.bind_certificate = true;
                    a.certificate = Some([1; 32]);
                })
            },
            Error::Binding,
        ),
        (
            "a grant that does not allow it",
            |w| {
                let good = proof(w, |_| {});
                seek_with(w, Some(&good), |a| {
                    a.grant = Some("contacts".into());
                    a.resource = crate::testing::RESOURCE.into();
                })
            },
            Error::NotAllowed,
        ),
        (
            "an API that trusts this issuer",
            |w| seek_with(w, Some(&proof(w, |_| {})), |a| a.resource = DIRECT.into()),
            Error::Direct,
        ),
        (
            "no proof of its own",
            |w| seek_with(w, Some(&proof(w, |_| {})), |a| a.proofs.clear()),
            IssueError::Proof(DpopError::Missing).into(),
        ),
        (
            "a client that the grant does not name",
            |w| {
                seek_with(w, Some(&proof(w, |_| {})), |a| {
                    a.peer = Some(crate::testing::OTHER_SPKI)
                })
            },
            Denied::NoSuchGrant.into(),
        ),
        (
            "a scope that was not granted",
            |w| {
                seek_with(w, Some(&proof(w, |_| {})), |a| {
                    a.scopes.push("admin".into())
                })
            },
            Denied::Scope.into(),
        ),
        (
            "garbage",
            |w| seek(w, Some("x")),
            mismatch(DpopError::Jws(jose::jws::JwsError::SegmentCount)),
        ),
        (
            "too large",
            |w| seek(w, Some(&"x".repeat(4_097))),
            mismatch(DpopError::TooLarge),
        ),
        (
            "another key's",
            |w| {
                let other = key();
                seek(w, Some(&proof_of(w, &other)))
            },
            mismatch(DpopError::KeyMismatch),
        ),
        (
            "another method",
            |w| seek(w, Some(&proof(w, |p| p.htm = "GET"))),
            mismatch(DpopError::HtmMismatch),
        ),
        (
            "another endpoint of the provider's",
            |w| seek(w, Some(&proof(w, |p| p.htu = "http://127.0.0.1:1/revoke"))),
            mismatch(DpopError::HtuMismatch),
        ),
        (
            "another provider",
            |w| seek(w, Some(&proof(w, |p| p.htu = "https://127.0.0.1:1/token"))),
            mismatch(DpopError::HtuMismatch),
        ),
        (
            "the proof of the call itself",
            |w| seek(w, Some(&w.proof())),
            mismatch(DpopError::HtuMismatch),
        ),
        (
            "one for an API",
            |w| seek(w, Some(&proof(w, |p| p.access_token = Some("at")))),
            Error::Ath,
        ),
        (
            "without the nonce that is known",
            |w| {
                keep_nonce(w, "n-2");
                seek(w, Some(&proof(w, |_| {})))
            },
            Error::Nonce(challenge(Some("n-2"))),
        ),
        (
            "with an older nonce",
            |w| {
                keep_nonce(w, "n-1");
                keep_nonce(w, "n-2");
                seek(w, Some(&proof(w, |p| p.nonce = Some("n-1"))))
            },
            Error::Nonce(challenge(Some("n-2"))),
        ),
        (
            "used before",
            |w| {
                let once = proof(w, |_| {});
                drop(seek(w, Some(&once)).unwrap());
                seek(w, Some(&once))
            },
            Error::Replay(ReplayError::Replayed),
        ),
        (
            "one too many",
            |w| {
                for number in 0..1_000_u16 {
                    let mut id = [0; 16];
                    id[..2].copy_from_slice(&number.to_be_bytes());
                    let step = crate::nonce::Step::of(&w.now);
                    w.enclave.relayed.insert(step, id, &w.now).unwrap();
                }
                seek(w, Some(&proof(w, |_| {})))
            },
            Error::Replay(ReplayError::Full),
        ),
    ];
    for (what, seek, expected) in rows {
        let world = world();
        assert_eq!(refusal(seek(&world)), expected, "{what}");
        assert_eq!(custody(&world), (Phase::Idle, 1), "{what}");
    }
}

fn proof_of(world: &World, key: &SigningKey) -> String {
    let rng = SystemRandom::new();
    let params = ProofParams {
        htm: "POST",
        htu: TOKEN_ENDPOINT,
        iat_s: world.now.lo_s,
        jti: &random_jti(&rng).unwrap(),
        nonce: None,
        access_token: None,
    };
    params.sign(key, &rng).unwrap()
}

#[test]
fn a_proof_for_the_provider_is_of_this_minute() {
    let world = world();
    let now_s = world.now.lo_s;
    let at = |iat_s| seek(&world, Some(&proof(&world, |p| p.iat_s = iat_s)));
    for iat_s in [now_s - 60, now_s, now_s + 10] {
        assert!(at(iat_s).is_ok(), "{iat_s}");
    }
    let old = DpopError::TooOld {
        iat_s: now_s - 61,
        now_s,
    };
    assert_eq!(refusal(at(now_s - 61)), UpstreamBoundError::Proof(old));
    let early = DpopError::FromFuture {
        iat_s: now_s + 11,
        now_s,
    };
    assert_eq!(refusal(at(now_s + 11)), UpstreamBoundError::Proof(early));
}

#[test]
fn a_grant_lets_tokens_out_only_where_they_are_bound_and_not_past_its_operations() {
    let refused = |world: &World, grant: Grant| match world.deposit_grant(grant) {
        Err(AdminError::Field { field, rule }) => {
            assert_eq!(field, "grant.allow_upstream_bound");
            rule
        }
        other => panic!("{other:?}"),
    };
    let plain = World::with_profile(Rotation::Strict, profile(false));
    let rule = refused(&plain, grant(&plain));
    assert!(rule.contains("must say dpop"), "{rule}");

    let world = World::with_profile(Rotation::Strict, profile(true));
    let listed = Grant {
        allow_upstream_bound: true,
        ..world.listed_grant()
    };
    let rule = refused(&world, listed);
    assert!(rule.contains("operations"), "{rule}");

    let public = App {
        id: id("public"),
        vendor: id("crm-sync"),
        provider: id("crm"),
        oauth_client_id: "public".into(),
        auth_method: AuthMethod::None,
        key: None,
    };
    let new = NewApp {
        app: public,
        sealed_client_secret: &[],
    };
    let made = world.enclave.create_app(world.admin(), new, &world.now);
    world.settle(made.unwrap());
    let of_public = Grant {
        app: id("public"),
        ..grant(&world)
    };
    let rule = refused(&world, of_public);
    assert!(rule.contains("public client"), "{rule}");

    world.deposit_grant(grant(&world)).unwrap();
    let shown = world.enclave.grant(world.admin(), &id(GRANT)).unwrap();
    assert!(shown.grant.allow_upstream_bound);
}

#[test]
fn the_clients_proof_goes_with_the_exchange_and_the_token_is_for_its_key_alone() {
    let mut world = world();
    let sent = proof(&world, |_| {});
    let (sought, relayed) = exchange(seek(&world, Some(&sent)).unwrap());
    let (exchange, action) = begin(&world, &sought, relayed).unwrap();
    let access = drive(&world, exchange, action, |request| {
        // As it came, and not one of the enclave's.
        assert_eq!(request.dpop.as_deref(), Some(sent.as_str()));
        assert!(request.authorization.is_some());
        let form = String::from_utf8(request.body.expose().to_vec()).unwrap();
        assert!(form.contains("scope=contacts.read") && !form.contains("write"));
        answer(200, Some("n-1"), GOOD)
    });
    let pending = world
        .enclave
        .give_upstream(sought, &access.unwrap(), &world.now);
    let issued = world.settle(pending.unwrap());
    assert_eq!(issued.access_token, "at-canary");
    assert_eq!(issued.token_type, "DPoP");
    assert_eq!(issued.expires_in_s, 60);
    assert_eq!(issued.scopes.to_string(), "contacts.read");
    assert_eq!(issued.resource, format!("{GATEWAY}/g/{GRANT}/api"));
    assert!(!format!("{issued:?}").contains("canary"));
    assert_eq!(custody(&world), (Phase::Idle, 2));
    let jkt = world.dpop.public_key().thumbprint().to_string();
    let released = json!({
        "event": "upstream_token_released",
        "grant": GRANT,
        "client": "worker",
        "resource": format!("{GATEWAY}/g/{GRANT}/api"),
        "scope": "contacts.read",
        "jkt": jkt,
        "token_sha256": hex::encode(digest(&SHA256, b"at-canary")),
        "expires_at_s": world.now.lo_s + 60,
    });
    assert_eq!(leaves(&world, "upstream_token_released"), [released]);

    // While it is fresh the same key gets it without a proof, with a leaf each time.
    world.now.mono_ms += 10_000;
    let Ok(Seeking::Held(sought, access)) = seek(&world, None) else {
        panic!("it is at hand");
    };
    let pending = world.enclave.give_upstream(sought, &access, &world.now);
    let again = world.settle(pending.unwrap());
    assert_eq!(again.access_token, "at-canary");
    assert_eq!(again.expires_in_s, 50);
    assert_eq!(leaves(&world, "upstream_token_released").len(), 2);

    // Another key has none, nor has the enclave.
    let other = key();
    let refused = refusal(seek_by(&world, &other, None));
    let required = UpstreamBoundError::ProofRequired(challenge(Some("n-1")));
    assert_eq!(refused, required);
    let whole = world.enclave.whole_grant(&id(GRANT)).unwrap();
    for wanted in [
        whole.clone(),
        Wanted {
            scopes: Scopes::parse(["contacts.read"]).unwrap(),
            ..whole
        },
    ] {
        let own = world
            .enclave
            .cached_upstream(&id(GRANT), &wanted, &world.now);
        assert!(own.is_none());
    }
    // Nor is it given to another key by mistake.
    let proof = proof(&world, |p| {
        (p.key, p.nonce) = (&other, Some("n-1"));
    });
    let (theirs, _) = self::exchange(seek_by(&world, &other, Some(&proof)).unwrap());
    let given = world.enclave.give_upstream(theirs, &access, &world.now);
    let failed = UpstreamBoundError::Issue(IssueError::Internal(SealError::Failed));
    assert_eq!(given.map(|_| ()).unwrap_err(), failed);

    // Behind most of its life another is asked for.
    world.now.mono_ms += 45_000;
    assert_eq!(refusal(seek(&world, None)), required);
}

#[test]
fn the_enclaves_own_token_goes_on_beside_it() {
    let world = world();
    let (_, access) = exchanged(&world, |_| answer(200, None, GOOD));
    assert!(access.is_ok());
    assert_eq!(
        own_exchange(&world, &GOOD.replace("r-2", "r-3"), 200),
        Ok(())
    );
    let whole = world.enclave.whole_grant(&id(GRANT)).unwrap();
    let own = world
        .enclave
        .cached_upstream(&id(GRANT), &whole, &world.now);
    let Some(Cached::Fresh(own)) = own else {
        panic!("it is kept");
    };
    assert!(matches!(own.bound_to, BoundTo::OwnKey(_)));
    assert!(matches!(seek(&world, None), Ok(Seeking::Held(..))));
    assert_eq!(custody(&world), (Phase::Idle, 3));
}

#[test]
fn an_answer_that_is_of_no_use_to_a_client_keeps_its_refresh_token() {
    let rows = [
        (GOOD.replace("DPoP", "Bearer"), "its type is not DPoP"),
        (
            GOOD.replace("\"contacts.read\"", "\"contacts.read contacts.write\""),
            "its scope is wider than what was asked for",
        ),
    ];
    for (body, why) in rows {
        let world = world();
        let (sought, access) = exchanged(&world, |_| answer(200, None, &body));
        let error = access.unwrap_err();
        assert_eq!(error, RefreshError::UnusableToken(why));
        assert_eq!(
            sought.refused(error.clone()),
            UpstreamBoundError::Refresh(error)
        );
        assert_eq!(custody(&world), (Phase::Idle, 2));
        assert_eq!(leaves(&world, "refreshed")[0]["refused"], why);
        assert!(leaves(&world, "upstream_token_released").is_empty());
        assert!(seek(&world, None).is_err(), "nothing is kept of it");
    }
}

#[test]
fn a_providers_challenge_spends_nothing_and_tells_the_nonce() {
    let world = world();
    let mut times = 0;
    let (sought, access) = exchanged(&world, |_| {
        times += 1;
        answer(400, Some("n-9"), r#"{"error":"use_dpop_nonce"}"#)
    });
    // Only the client can make another proof.
    assert_eq!(times, 1);
    let expected = UpstreamBoundError::Nonce(challenge(Some("n-9")));
    assert_eq!(sought.refused(access.unwrap_err()), expected);
    assert_eq!(custody(&world), (Phase::Idle, 1));
    // It holds nobody back.
    let (_, access) = exchanged(&world, |_| answer(200, None, GOOD));
    assert!(access.is_ok());
    assert_eq!(custody(&world), (Phase::Idle, 2));
}

#[test]
fn a_clients_proof_ends_no_grant_and_holds_back_nobody_else() {
    for (body, expected) in [
        ("invalid_grant", RefreshError::RefusedWithProof),
        (
            "invalid_dpop_proof",
            RefreshError::ProviderRefused {
                code: "invalid_dpop_proof",
            },
        ),
        (
            "something_else",
            RefreshError::ProviderRefused { code: "other" },
        ),
    ] {
        let world = world();
        let body = json!({ "error": body }).to_string();
        let (_, access) = exchanged(&world, |_| answer(400, None, &body));
        assert_eq!(access.unwrap_err(), expected);
        assert_eq!(custody(&world), (Phase::Idle, 1), "{body}");
        assert_eq!(leaves(&world, "refresh_refused").len(), 1);
        assert_eq!(own_exchange(&world, GOOD, 200), Ok(()), "{body}");
    }
    // What the enclave's own exchange is told is about the token.
    let world = world();
    let invalid = r#"{"error":"invalid_grant"}"#;
    let (_, access) = exchanged(&world, |_| answer(400, None, invalid));
    assert!(access.is_err());
    let cause = Cause::RefusedByProvider;
    let lost = Err(RefreshError::NeedsConsent { cause });
    assert_eq!(own_exchange(&world, invalid, 400), lost);
    assert_eq!(
        refusal(seek(&world, None)),
        Denied::NeedsConsent { cause }.into()
    );
    // A refusal of the app is one whatever the proof.
    let world = self::world();
    let (_, access) = exchanged(&world, |_| {
        answer(401, None, r#"{"error":"invalid_client"}"#)
    });
    let error = access.unwrap_err();
    assert_eq!(own_exchange(&world, GOOD, 200), Err(error));
}

#[test]
fn what_was_lost_in_an_exchange_with_a_clients_proof_is_found_by_the_next() {
    let world = world();
    let (_, access) = exchanged(&world, |_| UpstreamAnswer::Ambiguous);
    assert_eq!(access.unwrap_err(), RefreshError::ProviderUnclear);
    assert_eq!(custody(&world), (Phase::Uncertain { attempt: 1 }, 1));
    let invalid = r#"{"error":"invalid_grant"}"#;
    let (_, access) = exchanged(&world, |_| answer(400, None, invalid));
    assert_eq!(access.unwrap_err(), RefreshError::RefusedWithProof);
    assert_eq!(custody(&world).0, Phase::Uncertain { attempt: 1 });
    let cause = Cause::LostInExchange;
    let lost = Err(RefreshError::NeedsConsent { cause });
    assert_eq!(own_exchange(&world, invalid, 400), lost);
}

#[test]
fn a_freeze_in_the_middle_keeps_the_refresh_token_and_releases_nothing() {
    // While the request is out.
    let world = world();
    let (_, access) = exchanged(&world, |_| {
        world.freeze(Subject::Grant(id(GRANT)));
        answer(200, None, GOOD)
    });
    let subject = Subject::Grant(id(GRANT));
    assert_eq!(access.unwrap_err(), RefreshError::Frozen { subject });
    assert_eq!(custody(&world), (Phase::Idle, 2));
    assert!(leaves(&world, "upstream_token_released").is_empty());

    // Behind the exchange, and behind the leaf: of the grant, or of the key.
    let jkt = |world: &World| world.dpop.public_key().thumbprint().to_string();
    let subjects: [fn(&World, String) -> Subject; 3] = [
        |_, _| Subject::Grant(id(GRANT)),
        |_, jkt| Subject::Key(jkt),
        |_, _| Subject::Client(id("worker")),
    ];
    for subject in subjects {
        let world = self::world();
        let (sought, access) = exchanged(&world, |_| answer(200, None, GOOD));
        let access = access.unwrap();
        let subject = subject(&world, jkt(&world));
        let pending = world.enclave.give_upstream(sought, &access, &world.now);
        let durable = pending.unwrap().commit(&world.store).now_or_never();
        world.freeze(subject.clone());
        let released = world.enclave.release(durable.unwrap().unwrap(), &world.now);
        let frozen = Denied::Frozen { subject };
        assert_eq!(released.map(|_| ()), Err(frozen.clone()));
        // What is kept is not given out either.
        assert_eq!(refusal(seek(&world, None)), frozen.into());
    }
}

#[test]
fn a_token_without_a_leaf_does_not_leave() {
    let world = world();
    let (sought, access) = exchanged(&world, |_| answer(200, None, GOOD));
    let pending = world
        .enclave
        .give_upstream(sought, &access.unwrap(), &world.now);
    world
        .store
        .full
        .store(true, std::sync::atomic::Ordering::Relaxed);
    let durable = pending.unwrap().commit(&world.store).now_or_never();
    assert_eq!(
        durable.unwrap().map(|_| ()),
        Err(crate::store::StoreError::Full)
    );
}

#[test]
fn a_token_that_would_outlive_its_grant_is_not_given() {
    for (ends_in_s, given) in [(60, true), (59, false)] {
        let world = World::with_profile(Rotation::Strict, profile(true));
        let ending = Grant {
            expires_at_s: Some(world.now.lo_s + ends_in_s),
            ..grant(&world)
        };
        world.deposit_grant(ending).unwrap();
        let (sought, access) = exchanged(&world, |_| answer(200, None, GOOD));
        let pending = world
            .enclave
            .give_upstream(sought, &access.unwrap(), &world.now);
        let expected = if given {
            Ok(())
        } else {
            Err(Denied::Expired.into())
        };
        assert_eq!(pending.map(|_| ()), expected, "{ends_in_s}");
    }
}

#[test]
fn a_grant_has_tokens_of_so_many_keys() {
    let world = world();
    let keys: Vec<SigningKey> = (0..=MAX_CLIENT_KEYS_PER_GRANT).map(|_| key()).collect();
    let relay = |number: usize| {
        let key = &keys[number];
        let proof = proof_of(&world, key);
        let (sought, proof) = exchange(seek_by(&world, key, Some(&proof)).unwrap());
        let body = GOOD.replace("r-2", &format!("r-{}", number + 2));
        begin(&world, &sought, proof)
            .and_then(|(exchange, action)| {
                drive(&world, exchange, action, |_| answer(200, None, &body))
            })
            .map(|_| ())
    };
    for number in 0..MAX_CLIENT_KEYS_PER_GRANT {
        assert_eq!(relay(number), Ok(()), "{number}");
    }
    let generation = custody(&world).1;
    let full = RefreshError::TooManyKeys { retry_after_s: 60 };
    assert_eq!(relay(MAX_CLIENT_KEYS_PER_GRANT), Err(full));
    assert_eq!(custody(&world), (Phase::Idle, generation));
    // All of them are at hand, and the enclave's own has a place beside them.
    for key in &keys[..MAX_CLIENT_KEYS_PER_GRANT] {
        assert!(matches!(seek_by(&world, key, None), Ok(Seeking::Held(..))));
    }
    assert_eq!(
        own_exchange(&world, &GOOD.replace("r-2", "r-99"), 200),
        Ok(())
    );
}

#[test]
fn one_token_is_kept_for_a_key() {
    let world = world();
    let (_, access) = exchanged(&world, |_| answer(200, None, GOOD));
    assert!(access.is_ok());
    let write = |asking: &mut Asking| asking.scopes = vec!["contacts.write".into()];
    let proof = proof(&world, |_| {});
    let (sought, relayed) = exchange(seek_with(&world, Some(&proof), write).unwrap());
    let (exchange, action) = begin(&world, &sought, relayed).unwrap();
    let body = GOOD
        .replace("contacts.read", "contacts.write")
        .replace("r-2", "r-3");
    let second = drive(&world, exchange, action, |_| answer(200, None, &body));
    assert!(second.is_ok());
    assert!(matches!(
        seek_with(&world, None, write),
        Ok(Seeking::Held(..))
    ));
    assert!(seek(&world, None).is_err(), "the one before made room");
}

#[test]
fn a_crash_behind_the_providers_answer_keeps_the_refresh_token_and_releases_nothing() {
    let mut world = world();
    let proof = proof(&world, |_| {});
    let (sought, relayed) = exchange(seek(&world, Some(&proof)).unwrap());
    let (mut exchange, mut action) = begin(&world, &sought, relayed).unwrap();
    // Intent, request, journal.
    for _ in 0..3 {
        let event = match action {
            Action::Commit(pending) => {
                let durable = pending.commit(&world.store).now_or_never().unwrap();
                Step::Committed(durable.unwrap())
            }
            Action::Send(_) => Step::Answered(answer(200, None, GOOD)),
            other @ (Action::Pause(_) | Action::Finish(_)) => panic!("{other:?}"),
        };
        action = world.enclave.step_refresh(&mut exchange, event, &world.now);
    }
    drop((exchange, action));
    world.restart();
    let resumed = world
        .enclave
        .resume_refresh(&id(GRANT), &world.now)
        .unwrap();
    let (exchange, action) = resumed.unwrap();
    let outcome = drive(&world, Box::new(exchange), action, |_| {
        panic!("nothing is sent")
    });
    assert_eq!(outcome.unwrap_err(), RefreshError::ProviderUnclear);
    assert_eq!(custody(&world), (Phase::Idle, 2));
    assert!(seek(&world, None).is_err());
}

#[test]
fn an_exchange_carries_the_proof_of_the_key_that_it_is_for() {
    let world = world();
    let (sought, _) = exchange(seek(&world, Some(&proof(&world, |_| {}))).unwrap());
    let failed = RefreshError::Record(crate::record::RecordError::Seal(SealError::Failed));
    let (enclave, now) = (&world.enclave, &world.now);
    let without = enclave.begin_refresh(&sought.grant, &sought.wanted, now);
    assert_eq!(without.map(|_| ()).unwrap_err(), failed);
    let other = RelayedProof::unchecked("p", "another");
    let with = enclave.begin_relayed(&sought.grant, &sought.wanted, other, now);
    assert_eq!(with.map(|_| ()).unwrap_err(), failed);
}

#[test]
fn the_tenants_policy_is_asked_and_once_more_at_the_last_moment() {
    let world = world();
    let policy = |text: &str, sequence| {
        let change = SetPolicy {
            tenant: id("acme"),
            text: Some(text.as_bytes()),
            sequence,
            signature: &[],
        };
        let pending = world.enclave.set_policy(world.admin(), &change, &world.now);
        world.settle(pending.unwrap());
    };
    let all = "@id(\"all\") permit(principal, action, resource);\n";
    let stop =
        "@id(\"stop\") forbid(principal, action, resource)\nwhen { context.target == \"api\" };\n";
    policy(all, 0);
    let (sought, access) = exchanged(&world, |_| answer(200, None, GOOD));
    let access = access.unwrap();
    let pending = world.enclave.give_upstream(sought, &access, &world.now);
    let durable = pending.unwrap().commit(&world.store).now_or_never();
    policy(&format!("{all}{stop}"), 1);
    let released = world.enclave.release(durable.unwrap().unwrap(), &world.now);
    assert_eq!(released.map(|_| ()), Err(Denied::PolicyChanged));
    let leaf = &leaves(&world, "upstream_token_released")[0];
    assert_eq!(leaf["policy"]["by"], json!(["all"]));

    // Nothing is begun, and what is kept is not given out.
    for proof in [None, Some(proof(&world, |_| {}))] {
        let Ok(Seeking::Refused(refusal)) = seek(&world, proof.as_deref()) else {
            panic!("the policy denies it");
        };
        let durable = refusal.commit(&world.store).now_or_never();
        let told = world.enclave.release(durable.unwrap().unwrap(), &world.now);
        assert!(matches!(told, Err(Denied::Policy { .. })), "{told:?}");
    }
    assert_eq!(leaves(&world, "policy_denied").len(), 2);
    assert_eq!(custody(&world), (Phase::Idle, 2));
}
