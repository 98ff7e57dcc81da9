//! Tests of consents by device: what is asked, what is shown, and each answer of a provider.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails"
)]

use futures_util::FutureExt;

use super::device::given;
use super::tests::{answer, asked, form, world};
use super::*;
use crate::admin::AdminError;
use crate::freeze::Subject;
use crate::refresh::{UpstreamAnswer, UpstreamRequest};
use crate::secret::RawResponse;
use crate::testing::{World, id};

const GIVEN: &str = r#"{"device_code":"device-canary","user_code":"WDJB-MJHT","verification_uri":"https://login.crm.example/device","verification_uri_complete":"https://login.crm.example/device?user_code=WDJB-MJHT","expires_in":900}"#;
const PENDING: &str = r#"{"error":"authorization_pending"}"#;
const TOKENS: &str = r#"{"access_token":"at","token_type":"Bearer","refresh_token":"rt-1"}"#;

fn begin(world: &World) -> (DeviceConnect, UpstreamRequest) {
    let grant = asked(world, "new").grant;
    let begun = world.enclave.begin_device(world.admin(), grant, &world.now);
    begun.unwrap()
}

fn take(
    world: &World,
    device: &mut DeviceConnect,
    answer: UpstreamAnswer,
) -> Result<DeviceStep, AdminError> {
    world.enclave.device_answered(device, answer, &world.now)
}

/// A device whose code is shown.
fn shown(world: &World) -> DeviceConnect {
    let (mut device, _) = begin(world);
    let step = take(world, &mut device, answer(200, GIVEN));
    assert!(matches!(step, Ok(DeviceStep::Show(_))), "{step:?}");
    device
}

#[test]
fn the_code_is_shown_and_the_device_code_stays() {
    let world = world(false, false);
    let (mut device, request) = begin(&world);
    assert_eq!(request.url.as_str(), "https://login.crm.example/device");
    let asked = form(&request);
    let scope = format!("{} offline_access", world.grant().scopes);
    assert_eq!(asked["scope"], scope);
    assert!(request.authorization.is_some() || asked.contains_key("client_id"));
    let step = take(&world, &mut device, answer(200, GIVEN)).unwrap();
    let DeviceStep::Show(shown) = &step else {
        panic!("{step:?}");
    };
    assert_eq!(shown.user_code, "WDJB-MJHT");
    assert_eq!(shown.verification_uri, "https://login.crm.example/device");
    assert_eq!((shown.expires_in_s, device.pause_ms()), (900, 5_000));
    let poll = world.enclave.poll_device(&device, &world.now).unwrap();
    let polled = form(&poll);
    assert_eq!(polled["device_code"], "device-canary");
    assert_eq!(
        polled["grant_type"],
        "urn:ietf:params:oauth:grant-type:device_code"
    );
    assert!(!format!("{step:?} {device:?} {poll:?}").contains("canary"));

    for _ in 0..2 {
        let step = take(&world, &mut device, answer(400, PENDING));
        assert!(matches!(step, Ok(DeviceStep::Pause)), "{step:?}");
        assert_eq!(device.pause_ms(), 5_000);
    }
    let step = take(&world, &mut device, answer(200, TOKENS));
    assert!(matches!(step, Ok(DeviceStep::Keep)), "{step:?}");
    let pending = world.enclave.keep_device(&device, &world.now).unwrap();
    let durable = pending.commit(&world.store).now_or_never().unwrap();
    let view = world.enclave.release(durable.unwrap(), &world.now).unwrap();
    assert_eq!((view.grant.id, view.refresh_generation), (id("new"), 1));
}

#[test]
fn a_provider_is_asked_less_often_when_it_says_so_or_fails() {
    let world = world(false, false);
    let slow = r#"{"error":"slow_down"}"#;
    let rows = [
        (answer(400, slow), 10_000),
        // Some answer so with 200.
        (answer(200, slow), 15_000),
        (answer(429, ""), 20_000),
        (answer(503, ""), 40_000),
        (UpstreamAnswer::Ambiguous, 60_000),
        (UpstreamAnswer::NotSent, 60_000),
        (answer(200, PENDING), 60_000),
    ];
    let mut device = shown(&world);
    for (answer, expected) in rows {
        let said = format!("{answer:?}");
        let step = take(&world, &mut device, answer);
        assert!(matches!(step, Ok(DeviceStep::Pause)), "{said}: {step:?}");
        assert_eq!(device.pause_ms(), expected, "{said}");
    }
    let mut device = shown(&world);
    let cut = UpstreamAnswer::Cut {
        status: 200,
        body: RawResponse::new(TOKENS.as_bytes().to_vec()),
    };
    assert!(matches!(
        take(&world, &mut device, cut),
        Ok(DeviceStep::Pause)
    ));
    assert_eq!(device.pause_ms(), 10_000);
}

#[test]
fn each_end_has_its_reason() {
    let fewer =
        r#"{"access_token":"at","token_type":"Bearer","refresh_token":"rt","scope":"other"}"#;
    let rows = [
        (400, r#"{"error":"access_denied"}"#, ConnectError::Denied),
        (
            400,
            r#"{"error":"authorization_declined"}"#,
            ConnectError::Denied,
        ),
        (200, r#"{"error":"access_denied"}"#, ConnectError::Denied),
        (400, r#"{"error":"expired_token"}"#, ConnectError::Late),
        (
            400,
            r#"{"error":"invalid_grant"}"#,
            ConnectError::Refused("invalid_grant"),
        ),
        (
            401,
            r#"{"error":"invalid_client"}"#,
            ConnectError::Refused("invalid_client"),
        ),
        (200, "<html>", ConnectError::Unclear),
        (
            200,
            r#"{"access_token":"at","token_type":"Bearer"}"#,
            ConnectError::Unusable("there is no refresh token in it"),
        ),
        (200, fewer, ConnectError::FewerScopes),
    ];
    for (status, body, expected) in rows {
        let world = world(false, false);
        let mut device = shown(&world);
        let found = take(&world, &mut device, answer(status, body)).map(|_| ());
        assert_eq!(found, Err(AdminError::Connect(expected)), "{status} {body}");
        let kept = world.enclave.keep_device(&device, &world.now).map(|_| ());
        assert_eq!(kept, Err(AdminError::Connect(ConnectError::NotUnderWay)));
    }
}

#[test]
fn nothing_is_asked_beyond_the_end_of_the_code_or_a_freeze() {
    let mut world = world(false, false);
    let device = shown(&world);
    let poll = |world: &World| world.enclave.poll_device(&device, &world.now).map(|_| ());
    world.now.mono_ms += 899_999;
    assert_eq!(poll(&world), Ok(()));
    world.freeze(Subject::Provider(id("crm")));
    let frozen = AdminError::Connect(ConnectError::Frozen);
    assert_eq!(poll(&world), Err(frozen.clone()));
    let grant = asked(&world, "other").grant;
    let begun = world.enclave.begin_device(world.admin(), grant, &world.now);
    assert_eq!(begun.map(|_| ()), Err(frozen));
    world.now.mono_ms += 1;
    assert_eq!(poll(&world), Err(AdminError::Connect(ConnectError::Late)));
}

#[test]
fn a_code_that_is_none_is_not_shown() {
    let read = |body: &str| given(&RawResponse::new(body.as_bytes().to_vec())).map(|_| ());
    assert_eq!(read(GIVEN), Ok(()));
    let google = GIVEN.replace("verification_uri\"", "verification_url\"");
    assert_eq!(read(&google), Ok(()));
    let without = |from: &str, to: &str| {
        assert!(GIVEN.contains(from), "{from}");
        GIVEN.replacen(from, to, 1)
    };
    let no_code = "it holds no device code";
    let user_code = "its user code is ill-formed";
    let uri = "its verification URI is none";
    let page = "\"verification_uri\":\"https://login.crm.example/device\"";
    let rows = [
        ("{}".to_owned(), no_code),
        ("<html>".to_owned(), no_code),
        (
            without("\"expires_in\":900", "\"expires_in\":\"900\""),
            no_code,
        ),
        (
            without("\"expires_in\":900", "\"expires_in\":0"),
            "it has expired already",
        ),
        (
            without("device-canary", ""),
            "its device code is ill-formed",
        ),
        (
            without("device-canary", "a b"),
            "its device code is ill-formed",
        ),
        (without("WDJB-MJHT", ""), user_code),
        (without("WDJB-MJHT", "\\u001b[2J"), user_code),
        (without("WDJB-MJHT", &"W".repeat(65)), user_code),
        (without(page, "\"verification_uri\":\"\""), uri),
        (
            without(page, "\"verification_uri\":\"javascript:alert(1)\""),
            uri,
        ),
        (without(page, "\"verification_uri\":\"/device\""), uri),
        (without(page, "\"verification_uri\":\"https://a b\""), uri),
    ];
    for (body, expected) in rows {
        assert_eq!(read(&body), Err(ConnectError::Unusable(expected)), "{body}");
    }
}

#[test]
fn a_provider_without_an_endpoint_for_devices_is_told_so() {
    let world = world(false, false);
    let mut view = world.enclave.view.write();
    let held = view.providers.get_mut("crm").unwrap();
    let mut provider = (*held.value).clone();
    if let Some(consent) = &mut provider.consent {
        consent.device_authorization_endpoint = None;
    }
    held.value = std::sync::Arc::new(provider);
    drop(view);
    let grant = asked(&world, "new").grant;
    let begun = world.enclave.begin_device(world.admin(), grant, &world.now);
    let Err(AdminError::Field { field, .. }) = begun else {
        panic!("{begun:?}");
    };
    assert_eq!(field, "grant.app");
}

#[test]
fn a_bound_consent_by_device_is_challenged_once_for_each_question() {
    let world = world(false, true);
    let mut device = shown(&world);
    let challenge = || UpstreamAnswer::Response {
        status: 400,
        retry_after_s: None,
        dpop_nonce: Some("n-1".to_owned()),
        body: RawResponse::new(br#"{"error":"use_dpop_nonce"}"#.to_vec()),
    };
    let first = world.enclave.poll_device(&device, &world.now).unwrap();
    for _ in 0..2 {
        let step = take(&world, &mut device, challenge()).unwrap();
        let DeviceStep::Send(again) = step else {
            panic!("{step:?}");
        };
        assert_ne!(again.dpop, first.dpop);
        let step = take(&world, &mut device, answer(400, PENDING));
        assert!(matches!(step, Ok(DeviceStep::Pause)), "{step:?}");
    }
    let bound = TOKENS.replace("Bearer", "DPoP");
    let step = take(&world, &mut device, answer(200, &bound));
    assert!(matches!(step, Ok(DeviceStep::Keep)), "{step:?}");
}
