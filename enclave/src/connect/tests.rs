//! Tests of consents that are under way: who may complete them, when, and with what.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]

use ::url::Url;
use futures_util::FutureExt;

use super::*;
use crate::custody::Phase;
use crate::freeze::Subject;
use crate::refresh::UpstreamAnswer;
use crate::registry::{Consent, Rotation};
use crate::secret::RawResponse;
use crate::testing::{World, id};
use std::collections::BTreeMap;

pub(super) const ISSUER: &str = "https://login.crm.example";
const BACK: &str = "http://127.0.0.1:8400/callback";

/// A world whose provider can be consented at.
pub(super) fn world(iss: bool, dpop: bool) -> World {
    let world = World::new(Rotation::Strict);
    let mut view = world.enclave.view.write();
    let held = view.providers.get_mut("crm").unwrap();
    let mut provider = (*held.value).clone();
    provider.issuer = Some(ISSUER.to_owned());
    provider.profile.dpop = dpop;
    provider.consent = Some(Consent {
        authorization_endpoint: HttpUrl::parse("https://login.crm.example/auth").unwrap(),
        parameters: BTreeMap::from([("prompt".to_owned(), "consent".to_owned())]),
        offline_scopes: vec!["offline_access".to_owned()],
        iss,
        device_authorization_endpoint: HttpUrl::parse("https://login.crm.example/device").ok(),
    });
    held.value = std::sync::Arc::new(provider);
    drop(view);
    world
}

pub(super) fn asked(world: &World, name: &str) -> ConnectRequest {
    let mut grant = world.grant();
    grant.id = id(name);
    ConnectRequest {
        grant,
        redirect_uri: Some(BACK.to_owned()),
    }
}

fn begin(world: &World, name: &str) -> ConnectBegun {
    let begun = world
        .enclave
        .begin_connect(world.admin(), asked(world, name), &world.now);
    begun.unwrap()
}

pub(super) fn callback(state: &str, iss: Option<&str>) -> Callback {
    Callback {
        state: state.to_owned(),
        code: AuthorizationCode::new(b"code-1".to_vec()),
        iss: iss.map(ToOwned::to_owned),
    }
}

fn take(world: &World, state: &str, iss: Option<&str>) -> Result<CodeExchange, AdminError> {
    let callback = callback(state, iss);
    world
        .enclave
        .take_callback(world.admin(), callback, &world.now)
}

pub(super) fn form(request: &crate::refresh::UpstreamRequest) -> BTreeMap<String, String> {
    ::url::form_urlencoded::parse(request.body.expose())
        .into_owned()
        .collect()
}

pub(super) fn answer(status: u16, body: &str) -> UpstreamAnswer {
    UpstreamAnswer::Response {
        status,
        retry_after_s: None,
        dpop_nonce: None,
        body: RawResponse::new(body.as_bytes().to_vec()),
    }
}

#[test]
fn the_owner_is_asked_for_what_the_grant_says_and_the_verifier_stays() {
    let world = world(false, false);
    let begun = begin(&world, "new");
    let url = Url::parse(&begun.authorization_url).unwrap();
    assert_eq!(url.path(), "/auth");
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    let is = |name: &str, value: &str| assert_eq!(query[name], value, "{name}");
    is("response_type", "code");
    is("client_id", "oauth-client");
    is("redirect_uri", BACK);
    is("state", &begun.state);
    is("code_challenge_method", "S256");
    is("prompt", "consent");
    let scope = format!("{} offline_access", world.grant().scopes);
    is("scope", &scope);
    assert_eq!(query.len(), 8);

    let exchange = take(&world, &begun.state, None).unwrap();
    let request = world.enclave.exchange_code(&exchange, &world.now).unwrap();
    let form = form(&request);
    assert_eq!(form["grant_type"], "authorization_code");
    assert_eq!(
        (form["code"].as_str(), form["redirect_uri"].as_str()),
        ("code-1", BACK)
    );
    let challenge = digest(&SHA256, form["code_verifier"].as_bytes());
    let challenge = Base64UrlUnpadded::encode_string(challenge.as_ref());
    assert_eq!(challenge, query["code_challenge"]);
    assert!(!begun.authorization_url.contains(&form["code_verifier"]));
    assert!(!format!("{exchange:?} {request:?}").contains("code-1"));
}

#[test]
fn a_consent_is_completed_once_in_time_by_whoever_began_it() {
    let mut world = world(false, false);
    let not_under_way = || AdminError::Connect(ConnectError::NotUnderWay);
    let begun = begin(&world, "new");
    let mut other = world.admin().clone();
    other.spki_sha256 = [9; 32];
    let stolen = callback(&begun.state, None);
    let found = world.enclave.take_callback(&other, stolen, &world.now);
    assert_eq!(found.map(|_| ()), Err(not_under_way()));
    let found = take(&world, "another-state", None);
    assert_eq!(found.map(|_| ()), Err(not_under_way()));
    // It is still there for its own.
    assert!(take(&world, &begun.state, None).is_ok());
    let found = take(&world, &begun.state, None);
    assert_eq!(found.map(|_| ()), Err(not_under_way()));

    let begun = begin(&world, "new");
    world.now.mono_ms += LIFETIME_MS;
    let found = take(&world, &begun.state, None);
    assert_eq!(found.map(|_| ()), Err(not_under_way()));
}

#[test]
fn an_answer_of_another_issuer_is_refused() {
    let refused = |error| Err(AdminError::Connect(error));
    let rows = [
        (false, None, Ok(())),
        (false, Some(ISSUER), Ok(())),
        (true, Some(ISSUER), Ok(())),
        (true, None, refused(ConnectError::NoIssuer)),
        (
            false,
            Some("https://evil.example"),
            refused(ConnectError::Issuer),
        ),
        (
            true,
            Some("https://login.crm.example/"),
            refused(ConnectError::Issuer),
        ),
    ];
    for (demanded, iss, expected) in rows {
        let world = world(demanded, false);
        let begun = begin(&world, "new");
        let found = take(&world, &begun.state, iss).map(|_| ());
        assert_eq!(found, expected, "{demanded} {iss:?}");
        // Whatever it was, the same state is of no use again.
        let again = take(&world, &begun.state, Some(ISSUER)).map(|_| ());
        assert_eq!(again, refused(ConnectError::NotUnderWay));
    }
}

#[test]
fn the_browser_comes_back_to_loopback_only() {
    let world = world(false, false);
    for uri in [
        "https://127.0.0.1:8400/callback",
        "http://localhost:8400/callback",
        "http://evil.example/callback",
        "http://10.0.0.1/callback",
        "callback",
        "",
    ] {
        let mut asked = asked(&world, "new");
        asked.redirect_uri = Some(uri.to_owned());
        let found = world
            .enclave
            .begin_connect(world.admin(), asked, &world.now)
            .unwrap_err();
        let (AdminError::Field { field, .. } | AdminError::Url { field, .. }) = &found else {
            panic!("{uri}: {found}");
        };
        assert_eq!(*field, "redirect_uri", "{uri}");
    }
    let mut six = asked(&world, "new");
    six.redirect_uri = Some("http://[::1]:8400/callback".to_owned());
    let begun = world.enclave.begin_connect(world.admin(), six, &world.now);
    assert!(begun.is_ok());
}

#[test]
fn no_more_are_under_way_than_that() {
    let mut world = world(false, false);
    for number in 0..MAX_OF_ONE {
        begin(&world, &format!("new-{number}"));
    }
    let one_more = |world: &World| {
        let asked = asked(world, "one-more");
        let begun = world
            .enclave
            .begin_connect(world.admin(), asked, &world.now);
        begun.map(|_| ())
    };
    assert_eq!(one_more(&world), Err(AdminError::Busy));
    world.now.mono_ms += LIFETIME_MS;
    assert_eq!(one_more(&world), Ok(()));
}

#[test]
fn a_freeze_holds_a_consent_back_before_and_after() {
    let world = world(false, false);
    let begun = begin(&world, "new");
    let exchange = take(&world, &begun.state, None).unwrap();
    world.freeze(Subject::Provider(id("crm")));
    let frozen = || Err(AdminError::Connect(ConnectError::Frozen));
    let found = world.enclave.exchange_code(&exchange, &world.now);
    assert_eq!(found.map(|_| ()), frozen());
    let asked = asked(&world, "other");
    let found = world
        .enclave
        .begin_connect(world.admin(), asked, &world.now);
    assert_eq!(found.map(|_| ()), frozen());
}

#[test]
fn what_the_provider_answers_becomes_a_grant_or_nothing() {
    let scope = World::new(Rotation::Strict).grant().scopes.to_string();
    let good = format!(
        r#"{{"access_token":"at","token_type":"Bearer","refresh_token":"rt-1","scope":"{scope} more"}}"#
    );
    let fewer =
        r#"{"access_token":"at","token_type":"Bearer","refresh_token":"rt-1","scope":"other"}"#;
    let rows = [
        (200, good.as_str(), Ok(())),
        (
            400,
            r#"{"error":"invalid_grant"}"#,
            Err(ConnectError::Refused("invalid_grant")),
        ),
        (
            401,
            r#"{"error":"invalid_client"}"#,
            Err(ConnectError::Refused("invalid_client")),
        ),
        (
            200,
            r#"{"error":"invalid_grant"}"#,
            Err(ConnectError::Refused("invalid_grant")),
        ),
        (503, "", Err(ConnectError::Unclear)),
        (200, "<html>", Err(ConnectError::Unclear)),
        (
            200,
            r#"{"access_token":"at","token_type":"Bearer"}"#,
            Err(ConnectError::Unusable("there is no refresh token in it")),
        ),
        (
            200,
            r#"{"access_token":"at","token_type":"DPoP","refresh_token":"rt-1"}"#,
            Err(ConnectError::Unusable(
                "its type is DPoP, which was not asked for",
            )),
        ),
        (200, fewer, Err(ConnectError::FewerScopes)),
    ];
    for (status, body, expected) in rows {
        let world = world(false, false);
        let begun = begin(&world, "new");
        let mut exchange = take(&world, &begun.state, None).unwrap();
        let step = world
            .enclave
            .code_answered(&mut exchange, answer(status, body), &world.now);
        let found = step.map(|step| assert!(matches!(step, CodeStep::Keep)));
        let expected = expected.map_err(AdminError::Connect);
        assert_eq!(found, expected, "{status} {body}");
        if found.is_err() {
            assert!(!world.enclave.view.read().grants.contains_key("new"));
            continue;
        }
        let pending = world.enclave.keep_consent(&exchange, &world.now).unwrap();
        let durable = pending
            .commit(&world.store)
            .now_or_never()
            .unwrap()
            .unwrap();
        let view = world.enclave.release(durable, &world.now).unwrap();
        assert_eq!((view.grant.id, view.refresh_generation), (id("new"), 1));
        let view = world.enclave.view.read();
        assert_eq!(view.custody["new"].value.phase, Phase::Idle);
    }
}

#[test]
fn another_persons_consent_does_not_take_the_place_of_the_first() {
    let world = world(false, false);
    let complete = |sub: &str| {
        let begun = begin(&world, "new");
        let mut exchange = take(&world, &begun.state, None).unwrap();
        let claims = format!(r#"{{"iss":"{ISSUER}","sub":"{sub}"}}"#);
        let claims = Base64UrlUnpadded::encode_string(claims.as_bytes());
        let body = format!(
            r#"{{"access_token":"at","token_type":"Bearer","refresh_token":"rt","id_token":"e30.{claims}.x"}}"#
        );
        let step = world
            .enclave
            .code_answered(&mut exchange, answer(200, &body), &world.now);
        assert!(step.is_ok());
        let pending = world.enclave.keep_consent(&exchange, &world.now)?;
        let durable = pending
            .commit(&world.store)
            .now_or_never()
            .unwrap()
            .unwrap();
        Ok(world.enclave.release(durable, &world.now).unwrap())
    };
    assert_eq!(complete("alice").map(|view| view.refresh_generation), Ok(1));
    let another = AdminError::Connect(ConnectError::AnotherUser);
    assert_eq!(complete("bob").map(|_| ()), Err(another));
    assert_eq!(complete("alice").map(|view| view.refresh_generation), Ok(2));
}

#[test]
fn a_bound_consent_is_bound_to_a_key_of_its_own() {
    let world = world(false, true);
    let begun = begin(&world, "new");
    let url = Url::parse(&begun.authorization_url).unwrap();
    let jkt = url.query_pairs().find(|(name, _)| name == "dpop_jkt");
    let jkt = jkt.unwrap().1.into_owned();
    let mut exchange = take(&world, &begun.state, None).unwrap();
    let request = world.enclave.exchange_code(&exchange, &world.now).unwrap();
    let proof = request.dpop.unwrap();
    let header = proof.split('.').next().unwrap();
    let header = Base64UrlUnpadded::decode_vec(header).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    let key = jose::PublicKey::from_json(&header["jwk"].to_string()).unwrap();
    assert_eq!(key.thumbprint().to_string(), jkt);
    // A challenge is followed once.
    let challenge = || UpstreamAnswer::Response {
        status: 400,
        retry_after_s: None,
        dpop_nonce: Some("n-1".to_owned()),
        body: RawResponse::new(br#"{"error":"use_dpop_nonce"}"#.to_vec()),
    };
    let enclave = &world.enclave;
    let again = enclave.code_answered(&mut exchange, challenge(), &world.now);
    let CodeStep::Send(again) = again.unwrap() else {
        panic!("it is sent once more");
    };
    assert_ne!(again.dpop.unwrap(), proof);
    let found = enclave.code_answered(&mut exchange, challenge(), &world.now);
    assert_eq!(
        found.map(|_| ()),
        Err(AdminError::Connect(ConnectError::Refused("use_dpop_nonce")))
    );
}
