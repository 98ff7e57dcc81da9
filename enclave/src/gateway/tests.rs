//! Tests of admission at the gateway: what is forwarded, and each reason why not.

use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use jose::SigningKey;
use jose::dpop::{DpopError, ProofParams, random_jti};
use ring::rand::SystemRandom;

use super::*;
use crate::admin::{AdminError, Administrator, Decision, Role as AdminRole, SetPolicy};
use crate::approvals::ApprovalState;
use crate::freeze::Subject;
use crate::limits::{Counted, Limit, LimitOf, Limits, MIN_BURST_BYTES, TargetLimits};
use crate::nonce::Role;
use crate::operation::OperationName;
use crate::refresh::{Action, Begin, BoundTo, Cached, Event, UpstreamAccess, UpstreamAnswer};
use crate::registry::{Grant, Rotation};
use crate::secret::RawResponse;
use crate::store::Leaf;
use crate::terms::GrantTerms;
use crate::testing::{DIRECT, GATEWAY, World, id, key};

const PATH: &str = "/g/contacts/api/v1/people";

/// A call to be changed by a test.
struct Calling {
    method: Method,
    authority: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    body_bytes: Option<u64>,
    peer: Peer,
    /// What the proof says; made when the call is sent.
    proof: Proving,
}

struct Proving {
    key: Option<SigningKey>,
    htm: String,
    htu: String,
    nonce: Option<String>,
    token: Option<String>,
}

fn header(headers: &mut HeaderMap, name: &'static str, value: &str) {
    headers.append(
        HeaderName::from_static(name),
        HeaderValue::from_str(value).unwrap(),
    );
}

fn call(world: &World, change: impl FnOnce(&mut Calling)) -> Result<Admitted, GatewayError> {
    let token = world.ask(|_| {}).unwrap().access_token;
    let mut headers = HeaderMap::new();
    header(&mut headers, "authorization", &format!("DPoP {token}"));
    header(&mut headers, "accept", "application/json");
    header(&mut headers, "cookie", "secret=1");
    let mut calling = Calling {
        method: Method::GET,
        authority: "gateway.example".into(),
        path: PATH.into(),
        query: Some("a=1".into()),
        headers,
        body_bytes: Some(0),
        peer: Peer::default(),
        proof: Proving {
            key: None,
            htm: "GET".into(),
            htu: format!("{GATEWAY}{PATH}"),
            nonce: Some(world.enclave.dpop_nonce(Role::Gateway, &world.now)),
            token: Some(token),
        },
    };
    change(&mut calling);
    let rng = SystemRandom::new();
    let proving = &calling.proof;
    let params = ProofParams {
        htm: &proving.htm,
        htu: &proving.htu,
        iat_s: world.now.lo_s,
        jti: &random_jti(&rng).unwrap(),
        nonce: proving.nonce.as_deref(),
        access_token: proving.token.as_deref(),
    };
    let by = proving.key.as_ref().unwrap_or(&world.dpop);
    let proof = params.sign(by, &rng).unwrap();
    header(&mut calling.headers, "dpop", &proof);
    let request = GatewayRequest {
        method: &calling.method,
        authority: &calling.authority,
        path: &calling.path,
        query: calling.query.as_deref(),
        headers: &calling.headers,
        body_bytes: calling.body_bytes,
        peer: &calling.peer,
    };
    let pending = world.enclave.admit(&request, &world.now)?;
    let durable = pending.commit(&world.store).now_or_never();
    Ok(world
        .enclave
        .release(durable.unwrap().unwrap(), &world.now)?)
}

/// An upstream access token, by a good exchange.
fn access(world: &World, admitted: &Admitted) -> std::sync::Arc<UpstreamAccess> {
    let begun = world
        .enclave
        .begin_refresh(&admitted.grant, &admitted.wanted, &world.now);
    let Begin::Exchange(mut exchange, mut action) = begun.unwrap() else {
        panic!("there is no cached token");
    };
    loop {
        let event = match action {
            Action::Commit(pending) => Event::Committed(
                pending
                    .commit(&world.store)
                    .now_or_never()
                    .unwrap()
                    .unwrap(),
            ),
            Action::Send(request) => {
                let form = String::from_utf8(request.body.expose().to_vec()).unwrap();
                // The upstream token is no wider than the caller's.
                assert!(form.contains("scope=contacts.read"), "{form}");
                assert!(!form.contains("contacts.write"), "{form}");
                let body = br#"{"access_token":"bearer-canary","token_type":"Bearer"}"#;
                Event::Answered(UpstreamAnswer::Response {
                    status: 200,
                    retry_after_s: None,
                    dpop_nonce: None,
                    body: RawResponse::new(body.to_vec()),
                })
            }
            Action::Pause(_) => Event::Resumed,
            Action::Finish(result) => return result.unwrap(),
        };
        action = world.enclave.step_refresh(&mut exchange, event, &world.now);
    }
}

#[test]
fn a_good_call_is_rebuilt_with_the_bearer_injected_last() {
    let world = World::new(Rotation::Strict);
    let leaves = world.store.leaves.lock().len();
    let admitted = call(&world, |_| {}).unwrap();
    // One for the token, one for the call.
    assert_eq!(world.store.leaves.lock().len(), leaves + 2);
    let access = access(&world, &admitted);
    let forwarded = world
        .enclave
        .forward(&admitted, &access, &world.now)
        .unwrap();
    assert_eq!(forwarded.method, Method::GET);
    assert_eq!(forwarded.base_url.as_str(), "http://127.0.0.1:1/api");
    assert_eq!(forwarded.path_and_query, "/api/v1/people?a=1");
    assert_eq!(forwarded.authorization.expose(), b"Bearer bearer-canary");
    let names: Vec<&str> = forwarded.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["accept", "accept-encoding"]);
    assert_eq!(forwarded.headers["accept-encoding"], "identity");
    assert!(!format!("{forwarded:?}").contains("canary"));
}

#[test]
fn a_clients_own_token_of_the_providers_is_never_forwarded() {
    let world = World::new(Rotation::Strict);
    let admitted = call(&world, |_| {}).unwrap();
    let own = access(&world, &admitted);
    let of_client = UpstreamAccess {
        token: UpstreamAccessToken::new(own.token.expose().to_vec()),
        bound_to: BoundTo::ClientKey("a-client's".to_owned()),
        scopes: None,
        fresh_until_ms: own.fresh_until_ms,
        usable_until_ms: own.usable_until_ms,
        ends_ms: own.ends_ms,
        obtained_ms: own.obtained_ms,
        needles: std::sync::OnceLock::new(),
    };
    let forwarded = world.enclave.forward(&admitted, &of_client, &world.now);
    let failed = GatewayError::Internal(SealError::Failed);
    assert_eq!(forwarded.map(|_| ()).unwrap_err(), failed);
}

#[test]
fn an_escaped_path_is_forwarded_as_it_was_signed() {
    let world = World::new(Rotation::Strict);
    let path = "/g/contacts/api/v1/Ada%20Lovelace/%C3%A9";
    let admitted = call(&world, |calling| {
        calling.path = path.into();
        calling.proof.htu = format!("{GATEWAY}{path}");
    });
    let admitted = admitted.unwrap();
    assert_eq!(admitted.path_and_query, "/api/v1/Ada%20Lovelace/%C3%A9?a=1");
}

#[test]
fn each_call_that_is_not_granted_is_refused() {
    let denied_token = |error: TokenError| GatewayError::Token(error);
    type Change = Box<dyn Fn(&World, &mut Calling)>;
    let rows: Vec<(&str, Change, GatewayError)> = vec![
        (
            "TRACE",
            Box::new(|_, c| c.method = Method::TRACE),
            GatewayError::Method,
        ),
        (
            "CONNECT",
            Box::new(|_, c| c.method = Method::CONNECT),
            GatewayError::Method,
        ),
        (
            "OPTIONS",
            Box::new(|_, c| c.method = Method::OPTIONS),
            GatewayError::Method,
        ),
        (
            "dot segments",
            Box::new(|_, c| c.path = "/g/contacts/api/../x".into()),
            PathError::NotNormal.into(),
        ),
        (
            "no grant",
            Box::new(|_, c| c.path = "/x".into()),
            PathError::Form.into(),
        ),
        (
            "no credentials",
            Box::new(|_, c| {
                c.headers.remove("authorization");
            }),
            GatewayError::Authorization,
        ),
        (
            "two credentials",
            Box::new(|_, c| {
                let v = c.headers["authorization"].clone();
                c.headers.append("authorization", v);
            }),
            GatewayError::Authorization,
        ),
        (
            "bearer scheme",
            Box::new(|_, c| {
                let v = c.headers["authorization"]
                    .to_str()
                    .unwrap()
                    .replace("DPoP", "Bearer");
                c.headers.insert("authorization", v.parse().unwrap());
            }),
            denied_token(TokenError::Scheme),
        ),
        (
            "basic scheme",
            Box::new(|_, c| {
                let basic = HeaderValue::from_static("Basic eDp5");
                c.headers.insert("authorization", basic);
            }),
            GatewayError::Authorization,
        ),
        (
            "garbage token",
            Box::new(|_, c| {
                c.headers
                    .insert("authorization", HeaderValue::from_static("DPoP x"));
            }),
            denied_token(jose::jws::JwsError::SegmentCount.into()),
        ),
        (
            "a proof as token",
            Box::new(|w, c| {
                c.headers.insert(
                    "authorization",
                    format!("DPoP {}", w.proof()).parse().unwrap(),
                );
            }),
            denied_token(TokenError::Type),
        ),
        (
            "changed signature",
            Box::new(|_, c| {
                let mut v = c.headers["authorization"].to_str().unwrap().to_owned();
                let at = v.len() - 20;
                let other = if v.as_bytes()[at] == b'A' { "B" } else { "A" };
                v.replace_range(at..=at, other);
                c.headers.insert("authorization", v.parse().unwrap());
            }),
            denied_token(jose::jws::JwsError::BadSignature.into()),
        ),
        (
            "token for a direct API",
            Box::new(|w, c| {
                let issued = w.ask(|ask| ask.resource = DIRECT.into()).unwrap();
                c.headers.insert(
                    "authorization",
                    format!("DPoP {}", issued.access_token).parse().unwrap(),
                );
            }),
            denied_token(TokenError::Audience),
        ),
        (
            "another target",
            Box::new(|_, c| c.path = "/g/contacts/direct/x".into()),
            denied_token(TokenError::Audience),
        ),
        (
            "another key",
            Box::new(|_, c| c.proof.key = Some(key())),
            DpopError::KeyMismatch.into(),
        ),
        (
            "another method",
            Box::new(|_, c| c.proof.htm = "POST".into()),
            DpopError::HtmMismatch.into(),
        ),
        (
            "another path",
            Box::new(|_, c| c.proof.htu.push('x')),
            DpopError::HtuMismatch.into(),
        ),
        (
            "another token's proof",
            Box::new(|_, c| c.proof.token = Some("x".into())),
            DpopError::AthMismatch.into(),
        ),
        (
            "a proof without ath",
            Box::new(|_, c| c.proof.token = None),
            DpopError::ClaimMissing(jose::dpop::Claim::Ath).into(),
        ),
        (
            "no nonce",
            Box::new(|_, c| c.proof.nonce = None),
            NonceError::Missing.into(),
        ),
        (
            "the token service's nonce",
            Box::new(|w, c| c.proof.nonce = Some(w.enclave.dpop_nonce(Role::Token, &w.now))),
            NonceError::Foreign.into(),
        ),
        (
            "two proofs",
            Box::new(|_, c| header(&mut c.headers, "dpop", "x")),
            DpopError::Repeated.into(),
        ),
    ];
    let world = World::new(Rotation::Strict);
    for (what, change, expected) in rows {
        let found = call(&world, |calling| change(&world, calling));
        assert_eq!(found.map(|_| ()), Err(expected), "{what}");
    }
}

#[test]
fn a_token_of_a_certificate_passes_over_its_connections_alone() {
    let world = World::new(Rotation::Strict);
    let (own, other) = ([7; 32], [8; 32]);
    let issued = world.ask(|ask| {
        ask.certificate = Some(own);
        ask.bind_certificate = true;
        ask.proofs.clear();
    });
    let token = issued.unwrap().access_token;
    let show = |scheme: &str, certificate: Option<[u8; 32]>| {
        call(&world, |c| {
            let value = format!("{scheme} {token}").parse().unwrap();
            c.headers.insert("authorization", value);
            c.peer.certificate_sha256 = certificate;
        })
        .map(|_| ())
    };
    let no = |error: TokenError| Err(GatewayError::Token(error));
    let rows = [
        ("Bearer", Some(own), Ok(())),
        ("bearer", Some(own), Ok(())),
        // M01, M02
        ("Bearer", None, no(TokenError::Certificate)),
        ("Bearer", Some(other), no(TokenError::Certificate)),
        // M03: with a good proof of another key beside it.
        ("DPoP", Some(own), no(TokenError::Scheme)),
    ];
    for (scheme, certificate, expected) in rows {
        assert_eq!(
            show(scheme, certificate),
            expected,
            "{scheme} {certificate:?}"
        );
    }
}

#[test]
fn an_expired_token_is_refused() {
    let mut world = World::new(Rotation::Strict);
    let token = world.ask(|_| {}).unwrap().access_token;
    let audience = format!("{GATEWAY}/g/contacts/api");
    let check = |world: &World| {
        world
            .enclave
            .check_token(&token, &audience, &world.now)
            .map(|_| ())
    };
    assert_eq!(check(&world), Ok(()));
    // Expiry is checked against the latest the time may be.
    world.now.hi_s = world.now.lo_s + 299;
    assert_eq!(check(&world), Ok(()));
    world.now.hi_s = world.now.lo_s + 300;
    assert_eq!(check(&world), Err(TokenError::Expired));
}

#[test]
fn a_freeze_stops_a_token_that_was_issued_before() {
    let world = World::new(Rotation::Strict);
    let admitted = call(&world, |_| {}).unwrap();
    let access = access(&world, &admitted);
    let subject = Subject::Client(id("worker"));
    let late = call(&world, |_| world.freeze(subject.clone()));
    let frozen = Denied::Frozen {
        subject: subject.clone(),
    };
    assert_eq!(late.map(|_| ()), Err(frozen.clone().into()));
    // Even one that was admitted is not forwarded any more.
    let found = world
        .enclave
        .forward(&admitted, &access, &world.now)
        .map(|_| ());
    assert_eq!(found, Err(frozen.into()));
}

#[test]
fn an_answer_passes_its_rules() {
    let world = World::new(Rotation::Strict);
    let admitted = call(&world, |_| {}).unwrap();
    let access = access(&world, &admitted);
    let forwarded = world
        .enclave
        .forward(&admitted, &access, &world.now)
        .unwrap();
    let mut headers = HeaderMap::new();
    header(&mut headers, "location", "/api/v1/people/7");
    let (headers, mut echo) = forwarded.answer.accept(&headers).unwrap();
    let expected = format!("{GATEWAY}/g/contacts/api/v1/people/7");
    assert_eq!(headers["location"], expected.as_str());
    assert_eq!(echo.push("you sent bearer-canary".into()), Err(Echoed));

    let forwarded = world
        .enclave
        .forward(&admitted, &access, &world.now)
        .unwrap();
    let mut headers = HeaderMap::new();
    header(&mut headers, "x-debug", "Bearer bearer-canary");
    let found = forwarded.answer.accept(&headers).map(|_| ());
    assert_eq!(found, Err(AnswerError::Echoed(Echoed)));
}

#[test]
fn a_discarded_token_is_not_used_again() {
    let world = World::new(Rotation::Strict);
    let admitted = call(&world, |_| {}).unwrap();
    let first = access(&world, &admitted);
    let cached = || {
        let (grant, wanted) = (&admitted.grant, &admitted.wanted);
        world.enclave.cached_upstream(grant, wanted, &world.now)
    };
    assert!(cached().is_some());
    world.enclave.discard_upstream(&admitted, &first);
    assert!(cached().is_none());
    // One who comes late does not throw the next one away.
    let second = access(&world, &admitted);
    world.enclave.discard_upstream(&admitted, &first);
    assert!(
        matches!(cached(), Some(Cached::Fresh(found)) if std::sync::Arc::ptr_eq(&found, &second))
    );
}

#[test]
fn a_refused_token_is_doubted_when_it_is_not_new() {
    let mut world = World::new(Rotation::Strict);
    let admitted = call(&world, |_| {}).unwrap();
    let access = access(&world, &admitted);
    world.now.mono_ms += 4_999;
    assert!(!world.enclave.doubt_upstream(&admitted, &access, &world.now));
    let cached = |world: &World| {
        let (grant, wanted) = (&admitted.grant, &admitted.wanted);
        world.enclave.cached_upstream(grant, wanted, &world.now)
    };
    assert!(cached(&world).is_some());
    world.now.mono_ms += 1;
    assert!(world.enclave.doubt_upstream(&admitted, &access, &world.now));
    assert!(cached(&world).is_none());
}

#[test]
fn a_completed_call_leaves_a_leaf() {
    let world = World::new(Rotation::Strict);
    let admitted = call(&world, |_| {}).unwrap();
    let completed = Completed {
        status: Some(200),
        request_bytes: 0,
        answer_bytes: 7,
        end: CallEnd::Complete,
    };
    let leaves = world.store.leaves.lock().len();
    let of = |admitted: &Admitted| admitted.completed(completed);
    let (one, other) = (of(&admitted), of(&admitted));
    let nobody = Admitted {
        tenant: id("erased"),
        ..admitted
    };
    let calls = [one, of(&nobody), other];
    world.settle(world.enclave.complete_calls(&calls, &world.now).unwrap());
    let found = world.store.leaves.lock();
    assert_eq!(found.len(), leaves + 2);
    for leaf in found.iter().skip(leaves) {
        let text = String::from_utf8(leaf.bytes.clone()).unwrap();
        assert!(text.contains("\"kind\":\"gateway_completed\""), "{text}");
    }
}

const LISTED: &str = "/g/listed/listed";

/// A call to the target that lists operations.
fn call_listed(
    world: &World,
    method: Method,
    rest: &str,
    query: Option<&str>,
    change: impl FnOnce(&mut Calling),
) -> Result<Admitted, GatewayError> {
    let token = world.ask(|ask| {
        ask.grant = Some("listed".into());
        ask.resource = format!("{GATEWAY}{LISTED}");
    });
    let token = token.unwrap().access_token;
    call(world, |c| {
        c.headers
            .insert("authorization", format!("DPoP {token}").parse().unwrap());
        c.path = format!("{LISTED}{rest}");
        c.query = query.map(Into::into);
        c.proof.htu = format!("{GATEWAY}{}", c.path);
        c.proof.htm = method.to_string();
        c.proof.token = Some(token);
        c.method = method;
        change(c);
    })
}

#[test]
fn a_listed_operation_goes_to_the_tenants_own_host() {
    let world = World::new(Rotation::Strict);
    world.deposit_grant(world.listed_grant()).unwrap();
    let admitted = call_listed(&world, Method::GET, "/people", Some("page=2"), |_| {}).unwrap();
    assert_eq!(admitted.base_url.as_str(), "https://acme.my.crm.example/v1");
    assert_eq!(admitted.path_and_query, "/v1/people?page=2");
    assert_eq!(admitted.max_body_bytes(), None);
    let added = call_listed(&world, Method::POST, "/people", None, |c| {
        header(&mut c.headers, "content-type", "application/json");
        c.body_bytes = None;
    });
    let added = added.unwrap();
    assert_eq!(added.max_body_bytes(), Some(64));
    let too_large = OperationError::TooLarge {
        operation: id("people-add"),
        max_bytes: 64,
    };
    assert_eq!(added.body_too_large(), Some(too_large.into()));
    let leaves = world.store.leaves.lock();
    let text = String::from_utf8(leaves.last().unwrap().bytes.clone()).unwrap();
    assert!(text.contains("\"kind\":\"gateway_call\""), "{text}");
}

#[test]
fn a_call_that_is_no_operation_of_the_grant_is_refused() {
    let world = World::new(Rotation::Strict);
    world.deposit_grant(world.listed_grant()).unwrap();
    let refused = |method, rest: &str, query, body_bytes| {
        let found = call_listed(&world, method, rest, query, |c| c.body_bytes = body_bytes);
        found.map(|_| ()).unwrap_err()
    };
    let rows = [
        // The target has it, the grant does not.
        (
            refused(Method::GET, "/people/7", None, Some(0)),
            OperationError::NotGranted(id("people-get")),
        ),
        (
            refused(Method::GET, "/other", None, Some(0)),
            OperationError::Unknown,
        ),
        (
            refused(Method::DELETE, "/people", None, Some(0)),
            OperationError::Unknown,
        ),
        (
            refused(Method::GET, "/people", Some("all=1"), Some(0)),
            OperationError::Query(id("people-list")),
        ),
        (
            refused(Method::GET, "/people", None, None),
            OperationError::ContentType(id("people-list")),
        ),
        (
            refused(Method::POST, "/people", None, Some(7)),
            OperationError::ContentType(id("people-add")),
        ),
    ];
    for (found, expected) in rows {
        assert_eq!(found, expected.into());
    }
    let calls = |leaf: &&Leaf| String::from_utf8_lossy(&leaf.bytes).contains("\"gateway_call\"");
    assert_eq!(world.store.leaves.lock().iter().filter(calls).count(), 0);
    // A grant that lists none has all that the target has, and no more.
    let all = Grant {
        id: id("all"),
        operations: Vec::new(),
        ..world.listed_grant()
    };
    world.deposit_grant(all).unwrap();
    let call_all = |rest: &str| {
        let token = world.ask(|ask| {
            ask.grant = Some("all".into());
            ask.resource = format!("{GATEWAY}/g/all/listed");
        });
        let token = token.unwrap().access_token;
        let found = call(&world, |c| {
            c.headers
                .insert("authorization", format!("DPoP {token}").parse().unwrap());
            c.path = format!("/g/all/listed{rest}");
            c.query = None;
            c.proof.htu = format!("{GATEWAY}{}", c.path);
            c.proof.token = Some(token);
        });
        found.map(|_| ())
    };
    assert_eq!(call_all("/people/7"), Ok(()));
    assert_eq!(call_all("/people/x"), Err(OperationError::Unknown.into()));
}

#[test]
fn a_policy_sees_the_operation_and_what_it_denies_goes_nowhere() {
    let world = World::new(Rotation::Strict);
    world.deposit_grant(world.listed_grant()).unwrap();
    let policy = |text: &str, sequence| {
        let change = SetPolicy {
            tenant: id("acme"),
            text: Some(text.as_bytes()),
            sequence,
            signature: b"",
        };
        let pending = world.enclave.set_policy(world.admin(), &change, &world.now);
        drop(world.settle(pending.unwrap()));
    };
    let text = r#"
        @id("tokens") permit(principal, action == Action::"issue", resource);
        @id("lists") permit(principal, action == Action::"call", resource)
        when { context.operation == "people-list" && context.method == "GET" };
        @id("near") forbid(principal, action == Action::"call", resource)
        unless { context has address && context.address.isLoopback() };
    "#;
    policy(text, 0);
    let near = |c: &mut Calling| c.peer.address = Some([127, 0, 0, 1].into());
    let afar = |c: &mut Calling| c.peer.address = Some([192, 0, 2, 1].into());
    let nowhere = |_: &mut Calling| {};
    let added = |c: &mut Calling| {
        near(c);
        header(&mut c.headers, "content-type", "application/json");
        c.body_bytes = Some(2);
    };
    let admitted = call_listed(&world, Method::GET, "/people", None, near).unwrap();
    let whole = call(&world, near);
    let rows = [
        (
            "from afar",
            call_listed(&world, Method::GET, "/people", None, afar),
        ),
        (
            "from an unknown place",
            call_listed(&world, Method::GET, "/people", None, nowhere),
        ),
        (
            "by another method",
            call_listed(&world, Method::HEAD, "/people", None, near),
        ),
        (
            "another operation",
            call_listed(&world, Method::POST, "/people", None, added),
        ),
        ("a target that lists none", whole),
    ];
    let count = rows.len();
    for (what, found) in rows {
        let found = found.map(|_| ());
        let denied = matches!(found, Err(GatewayError::Denied(Denied::Policy { .. })));
        assert!(denied, "{what}: {found:?}");
    }
    let of_kind = |kind: &str| {
        let leaves = world.store.leaves.lock();
        let texts = leaves
            .iter()
            .map(|leaf| String::from_utf8_lossy(&leaf.bytes).into_owned());
        texts.filter(|text| text.contains(kind)).count()
    };
    assert_eq!(of_kind("\"policy_denied\""), count);
    assert_eq!(of_kind("\"gateway_call\""), 1);

    // What the grant refuses, it refuses as without a policy.
    let found = call_listed(&world, Method::GET, "/people/7", None, near).map(|_| ());
    let refused = OperationError::NotGranted(id("people-get"));
    assert_eq!(found, Err(refused.into()));

    // A call that is open meets a policy that is set meanwhile.
    let touched = admitted.touched();
    assert_eq!(world.enclave.stopped(&touched, &world.now), None);
    let more = "@id(\"hours\") forbid(principal, action, resource) when { context.weekday == 9 };";
    policy(&format!("{text}{more}"), 1);
    assert_eq!(world.enclave.stopped(&touched, &world.now), None);
    let stop = "@id(\"stop\") forbid(principal, action, resource);";
    policy(&format!("{text}{more}{stop}"), 2);
    let stopped = world.enclave.stopped(&touched, &world.now);
    assert_eq!(stopped, Some(Denied::PolicyChanged));
}

#[test]
fn a_call_counts_for_client_target_grant_and_tenant() {
    let calls = Limits {
        calls: Some(Limit {
            amount: 1,
            period_s: 86_400,
            burst: 1,
        }),
        ..Limits::default()
    };
    let kinds = [
        LimitOf::Client,
        LimitOf::Target,
        LimitOf::Grant,
        LimitOf::Tenant,
    ];
    for of in kinds {
        let world = World::new(Rotation::Strict);
        let (e, by, now) = (&world.enclave, world.admin(), &world.now);
        let limit = |limits: Limits| match of {
            LimitOf::Client => {
                let mut client = e.client(by, &id("worker")).unwrap();
                client.limits = limits;
                drop(world.settle(e.update_client(by, client, now).unwrap()));
            }
            LimitOf::Tenant => {
                let set = e.set_tenant_limits(by, &id("acme"), limits, now);
                drop(world.settle(set.unwrap()));
            }
            LimitOf::Target | LimitOf::Grant => {
                let mut terms = GrantTerms::default();
                if of == LimitOf::Grant {
                    terms.limits = limits;
                } else {
                    let target = id("api");
                    terms.target_limits = vec![TargetLimits { target, limits }];
                }
                let update = e.update_grant(by, &id("contacts"), terms, now);
                drop(world.settle(update.unwrap()));
            }
        };
        let reached = |counted| LimitError::Reached {
            of,
            counted,
            retry_after_ms: 86_400_000,
        };
        limit(calls);
        let found = call(&world, |_| {}).map(|admitted| admitted.byte_budgets().is_none());
        assert_eq!(found, Ok(true), "{of:?}");
        let found = call(&world, |_| {}).map(|_| ());
        assert_eq!(found, Err(reached(Counted::Calls).into()), "{of:?}");

        // Bytes are spent as they pass; when none are left, no call begins.
        let bytes = Limits {
            bytes: Some(Limit {
                amount: 1,
                period_s: 86_400,
                burst: MIN_BURST_BYTES,
            }),
            ..Limits::default()
        };
        limit(bytes);
        let admitted = call(&world, |_| {}).unwrap();
        let budgets = admitted.byte_budgets().unwrap();
        let half = MIN_BURST_BYTES / 2;
        assert_eq!(e.spend_bytes(&budgets, half, now), Ok(0));
        assert!(call(&world, |_| {}).is_ok(), "{of:?}");
        let too_many = e.spend_bytes(&budgets, half + 1, now);
        assert_eq!(too_many, Err(reached(Counted::Bytes)), "{of:?}");
        assert_eq!(e.spend_bytes(&budgets, half, now), Ok(0));
        let found = call(&world, |_| {}).map(|_| ());
        assert_eq!(found, Err(reached(Counted::Bytes).into()), "{of:?}");
    }
}

#[test]
fn a_call_that_needs_approval_waits_for_a_person_of_the_tenant() {
    let world = World::new(Rotation::Strict);
    let (e, now) = (&world.enclave, &world.now);
    let by = |role| Administrator {
        name: "someone".into(),
        spki_sha256: [7; 32],
        roles: vec![role],
    };
    world.deposit_grant(world.listed_grant()).unwrap();
    let terms = |names: &[&str]| GrantTerms {
        approval_operations: names
            .iter()
            .map(|name| OperationName::parse(name).unwrap())
            .collect(),
        ..GrantTerms::default()
    };
    let owner = by(AdminRole::Tenant(id("acme")));
    let security = by(AdminRole::TenantSecurity(id("acme")));
    let update = |by: &Administrator, terms| {
        let updated = e.update_grant(by, &id("listed"), terms, now)?;
        drop(world.settle(updated));
        Ok::<(), AdminError>(())
    };
    // What the grant does not allow, is no operation, or is named twice.
    let rule = "at most 64 operations that the grant's targets have, each once";
    let field = "grant.terms.approval_operations";
    for names in [
        &["listed/people-get"][..],
        &["listed/unknown"],
        &["api/people-add"],
        &["listed/people-add", "listed/people-add"],
    ] {
        let refused = Err(AdminError::Field { field, rule });
        assert_eq!(update(&owner, terms(names)), refused, "{names:?}");
    }
    assert_eq!(update(&security, terms(&["listed/people-add"])), Ok(()));
    let no = Err(AdminError::Forbidden);
    assert_eq!(update(&security, terms(&[])), no);

    let post = || {
        let json = |calling: &mut Calling| {
            calling.body_bytes = Some(7);
            let value = HeaderValue::from_static("application/json");
            calling.headers.insert("content-type", value);
        };
        call_listed(&world, Method::POST, "/people", None, json)
    };
    let required = |found: Result<Admitted, GatewayError>| match found {
        Err(GatewayError::Denied(Denied::ApprovalRequired { approval })) => approval,
        found => panic!("{found:?}"),
    };
    let asked = required(post());
    assert_eq!(required(post()), asked, "the same call waits once");
    // Operations that need none pass meanwhile.
    let get = call_listed(&world, Method::GET, "/people", None, |_| {});
    assert!(get.is_ok());

    let waiting = e.approvals(&owner, &id("acme"), now).unwrap();
    let [waiting] = waiting.as_slice() else {
        panic!("{waiting:?}");
    };
    assert_eq!(waiting.operation.to_string(), "listed/people-add");
    assert_eq!(waiting.path_and_query, "/people");
    let decide = |by: &Administrator, id: &str, decision| {
        let decided = e.decide_approval(by, id, decision, "asked by phone", now)?;
        Ok::<_, AdminError>(world.settle(decided).state)
    };
    let absent = Err(AdminError::NotFound("approval"));
    for role in [
        AdminRole::Operator,
        AdminRole::Vendor(id("crm-sync")),
        AdminRole::Tenant(id("other")),
    ] {
        let by = by(role);
        assert_eq!(decide(&by, &asked, Decision::Approve), absent);
        let listed = e.approvals(&by, &id("acme"), now);
        assert_eq!(listed, Err(AdminError::Forbidden));
    }
    let auditor = by(AdminRole::TenantAuditor(id("acme")));
    assert_eq!(
        decide(&auditor, &asked, Decision::Approve),
        Err(AdminError::Forbidden)
    );
    assert_eq!(e.approvals(&auditor, &id("acme"), now).unwrap().len(), 1);
    assert_eq!(decide(&security, "unknown", Decision::Approve), absent);
    let long = "r".repeat(513);
    let found = e.decide_approval(&security, &asked, Decision::Approve, &long, now);
    let refused = AdminError::Field {
        field: "reason",
        rule: "at most 512 bytes",
    };
    assert_eq!(found.map(|_| ()), Err(refused));

    let denied = ApprovalState::Denied {
        by: "someone".into(),
    };
    assert_eq!(decide(&security, &asked, Decision::Deny), Ok(denied));
    let found = post().map(|_| ());
    let refused = Denied::ApprovalDenied {
        approval: asked.clone(),
    };
    assert_eq!(found, Err(refused.into()));
    let approved = ApprovalState::Approved {
        by: "someone".into(),
    };
    assert_eq!(decide(&owner, &asked, Decision::Approve), Ok(approved));
    assert!(post().is_ok());
    assert_ne!(required(post()), asked, "it was used");

    let reader = e.leaf_reader(&auditor, Some(&id("acme"))).unwrap();
    let leaves = world.store.leaves.lock();
    let read = leaves
        .iter()
        .filter_map(|leaf| e.read_leaf(&reader, &leaf.bytes));
    let events: Vec<serde_json::Value> = read
        .map(|read| serde_json::from_str(&read.event.unwrap()).unwrap())
        .collect();
    let of = |kind: &str| {
        let texts = leaves
            .iter()
            .map(|leaf| String::from_utf8_lossy(&leaf.bytes).into_owned());
        texts
            .filter(|text| text.contains(&format!("\"kind\":\"{kind}\"")))
            .count()
    };
    assert_eq!(of("approval_asked"), 2);
    assert_eq!(of("approval_denied"), 1);
    assert_eq!(of("approval_approved"), 1);
    assert_eq!(of("approval_used"), 1);
    let made = events
        .iter()
        .find(|event| event["approval"] == asked.as_str() && event["event"] == "gateway_call");
    assert!(
        made.is_some(),
        "the call says by which approval it was made"
    );
}
