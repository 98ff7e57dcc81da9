//! The provider over real HTTP on loopback: rotation, reuse, grace, faults, the API, the ledger.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a failed test may panic"
)]

use std::{error::Error as _, io, os::unix::fs::PermissionsExt as _};

use base64ct::{Base64, Encoding as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use testkit::{
    canary::{Canary, Encoding},
    fetch::{self, Answer as Reply, FetchError, get, post_form, post_json},
    provider::{
        Answer, ApiOutcome, Client, ClientAuth, Clock, Config, Consent, ConsentError, Event, Fault,
        FaultRefused, LedgerPage, Outcome, Provider, RevokedBy, Rotation, Running, Standing,
        Successor, TokenDigest,
    },
};

const NOW_MS: u64 = 1_900_000_000_000;
const SECRET: &str = "s3cret/with:odd &characters";

/// Headers, or form parameters.
type Pairs<'a> = &'a [(&'a str, &'a str)];

fn config() -> Config {
    Config {
        clients: vec![
            Client::confidential("basic", ClientAuth::SecretBasic(SecretString::from(SECRET))),
            Client::confidential("post", ClientAuth::SecretPost(SecretString::from(SECRET))),
            Client::public("public"),
        ],
        clock: Clock::fixed(NOW_MS),
        ..Config::default()
    }
}

async fn start(change: impl FnOnce(&mut Config)) -> Running {
    let mut config = config();
    change(&mut config);
    Provider::spawn(config).await.unwrap()
}

fn first_token(running: &Running, client_id: &str) -> String {
    let consent = Consent::of(client_id, "contacts.read contacts.write", "alice");
    let granted = running.provider().consent(&consent).unwrap();
    granted.refresh_token.expose_secret().to_owned()
}

async fn try_refresh(running: &Running, token: &str) -> Result<Reply, FetchError> {
    let parameters = [
        ("grant_type", "refresh_token"),
        ("client_id", "public"),
        ("refresh_token", token),
    ];
    post_form(&running.token_endpoint(), &[], &parameters).await
}

async fn refresh(running: &Running, token: &str) -> Reply {
    try_refresh(running, token).await.unwrap()
}

#[derive(Debug, PartialEq, Eq)]
struct Tokens {
    access: String,
    refresh: Option<String>,
}

fn tokens(reply: &Reply) -> Tokens {
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    let body: Value = reply.json().unwrap();
    assert_eq!(body["token_type"], "Bearer");
    Tokens {
        access: body["access_token"].as_str().unwrap().to_owned(),
        refresh: body["refresh_token"].as_str().map(str::to_owned),
    }
}

fn error(reply: &Reply) -> (u16, String) {
    let body: Value = reply.json().unwrap();
    (
        reply.status.as_u16(),
        body["error"].as_str().unwrap().to_owned(),
    )
}

fn invalid_grant() -> (u16, String) {
    (400, "invalid_grant".to_owned())
}

async fn call(running: &Running, path: &str, access: &str) -> Reply {
    let bearer = format!("Bearer {access}");
    let url = format!("{}{path}", running.base_url());
    get(&url, &[("authorization", &bearer)]).await.unwrap()
}

fn presentations(page: &LedgerPage) -> Vec<(Standing, Outcome)> {
    page.entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Presented {
                standing, outcome, ..
            } => Some((*standing, *outcome)),
            Event::Consented { .. }
            | Event::Revoked { .. }
            | Event::Faulted { .. }
            | Event::ApiCall { .. } => None,
        })
        .collect()
}

#[tokio::test]
async fn a_refresh_token_is_rotated_and_the_ledger_has_each_step() {
    let running = start(|_| {}).await;
    let first = first_token(&running, "public");
    let reply = refresh(&running, &first).await;
    assert_eq!(reply.headers["cache-control"], "no-store");
    let body: Value = reply.json().unwrap();
    assert_eq!(body["expires_in"], 300);
    assert_eq!(body["scope"], "contacts.read contacts.write");
    let issued = tokens(&reply);
    let second = issued.refresh.unwrap();
    assert_ne!(second, first);
    assert_eq!(
        call(&running, "/api/contacts", &issued.access).await.status,
        200
    );

    let page = running.provider().ledger();
    let grant = running.provider().grants().remove(0);
    assert_eq!(grant.current, TokenDigest::of(&second));
    assert_eq!((grant.generation, grant.revoked), (1, None));
    let events: Vec<Event> = page.entries.into_iter().map(|entry| entry.event).collect();
    assert_eq!(
        events,
        [
            Event::Consented {
                grant: grant.grant.clone(),
                client_id: "public".to_owned(),
                user: "alice".to_owned(),
                token: TokenDigest::of(&first),
            },
            Event::Presented {
                token: TokenDigest::of(&first),
                grant: Some(grant.grant.clone()),
                generation: Some(0),
                client_id: "public".to_owned(),
                standing: Standing::Current,
                concurrent: 0,
                outcome: Outcome::Rotated,
                successor: Some(TokenDigest::of(&second)),
                access_token: Some(TokenDigest::of(&issued.access)),
            },
            Event::ApiCall {
                method: "GET".to_owned(),
                path: "/api/contacts".to_owned(),
                token: Some(TokenDigest::of(&issued.access)),
                grant: Some(grant.grant),
                outcome: ApiOutcome::Accepted,
            },
        ]
    );
    running.stop().await;
}

#[tokio::test]
async fn a_reuse_revokes_the_family_where_the_provider_is_strict() {
    let running = start(|_| {}).await;
    let first = first_token(&running, "public");
    let other_grant = first_token(&running, "public");
    let issued = tokens(&refresh(&running, &first).await);
    assert_eq!(error(&refresh(&running, &first).await), invalid_grant());
    let second = issued.refresh.unwrap();
    assert_eq!(error(&refresh(&running, &second).await), invalid_grant());
    assert_eq!(
        call(&running, "/api/contacts", &issued.access).await.status,
        401
    );
    assert_eq!(refresh(&running, &other_grant).await.status, 200);
    assert_eq!(
        presentations(&running.provider().ledger()),
        [
            (Standing::Current, Outcome::Rotated),
            (Standing::Superseded, Outcome::FamilyRevoked),
            (Standing::Revoked, Outcome::Refused),
            (Standing::Current, Outcome::Rotated),
        ]
    );
    let dead: Vec<_> = running
        .provider()
        .grants()
        .into_iter()
        .filter_map(|grant| grant.revoked)
        .collect();
    assert_eq!(dead, [RevokedBy::Reuse]);
}

#[tokio::test]
async fn a_reuse_without_grace_is_refused_and_the_family_lives() {
    let running = start(|config| config.rotation = Rotation::NoGrace).await;
    let first = first_token(&running, "public");
    let second = tokens(&refresh(&running, &first).await).refresh.unwrap();
    assert_eq!(error(&refresh(&running, &first).await), invalid_grant());
    assert_eq!(refresh(&running, &second).await.status, 200);
}

fn grace(successor: Successor) -> impl FnOnce(&mut Config) {
    move |config| {
        config.rotation = Rotation::Grace {
            window_ms: 30_000,
            successor,
        };
    }
}

#[tokio::test]
async fn grace_gives_the_same_successor_again_while_it_is_unused() {
    let running = start(grace(Successor::Same)).await;
    let first = first_token(&running, "public");
    let issued = tokens(&refresh(&running, &first).await);
    running.provider().clock().advance(29_999);
    let again = tokens(&refresh(&running, &first).await);
    assert_eq!(again.refresh, issued.refresh);
    assert_ne!(again.access, issued.access);

    let second = issued.refresh.unwrap();
    assert_eq!(refresh(&running, &second).await.status, 200);
    assert_eq!(error(&refresh(&running, &first).await), invalid_grant());
    assert_eq!(
        presentations(&running.provider().ledger()),
        [
            (Standing::Current, Outcome::Rotated),
            (Standing::Superseded, Outcome::Graced),
            (Standing::Current, Outcome::Rotated),
            (Standing::Superseded, Outcome::FamilyRevoked),
        ]
    );
}

#[tokio::test]
async fn grace_ends_with_its_window() {
    for successor in [Successor::Same, Successor::NewestWins] {
        let running = start(grace(successor)).await;
        let first = first_token(&running, "public");
        let second = tokens(&refresh(&running, &first).await).refresh.unwrap();
        running.provider().clock().advance(30_000);
        assert_eq!(error(&refresh(&running, &first).await), invalid_grant());
        assert_eq!(error(&refresh(&running, &second).await), invalid_grant());
    }
}

#[tokio::test]
async fn under_newest_wins_each_reuse_supersedes_what_was_given_before() {
    let running = start(grace(Successor::NewestWins)).await;
    let first = first_token(&running, "public");
    let a = tokens(&refresh(&running, &first).await).refresh.unwrap();
    let b = tokens(&refresh(&running, &first).await).refresh.unwrap();
    assert_ne!(a, b);
    let grant = running.provider().grants().remove(0);
    assert_eq!((grant.current, grant.generation), (TokenDigest::of(&b), 2));
    running.provider().clock().advance(30_000);
    assert_eq!(refresh(&running, &b).await.status, 200);
    assert_eq!(error(&refresh(&running, &a).await), invalid_grant());
    assert_eq!(
        presentations(&running.provider().ledger()).pop(),
        Some((Standing::Superseded, Outcome::FamilyRevoked))
    );
}

#[tokio::test]
async fn without_rotation_the_answer_has_no_refresh_token() {
    let running = start(|config| config.rotation = Rotation::Never).await;
    let first = first_token(&running, "public");
    for _ in 0..2 {
        assert_eq!(tokens(&refresh(&running, &first).await).refresh, None);
    }
    assert_eq!(
        presentations(&running.provider().ledger()),
        [(Standing::Current, Outcome::Kept); 2]
    );
}

#[tokio::test]
async fn tokens_expire_by_the_provider_s_clock() {
    let running = start(|config| config.refresh_idle_s = Some(600)).await;
    let first = first_token(&running, "public");
    let issued = tokens(&refresh(&running, &first).await);
    running.provider().clock().advance(299_999);
    assert_eq!(
        call(&running, "/api/contacts", &issued.access).await.status,
        200
    );
    running.provider().clock().advance(1);
    let reply = call(&running, "/api/contacts", &issued.access).await;
    assert_eq!(reply.status, 401);
    assert_eq!(
        reply.headers["www-authenticate"],
        "Bearer realm=\"testkit\", error=\"invalid_token\""
    );
    running.provider().clock().advance(300_000);
    let second = issued.refresh.unwrap();
    assert_eq!(error(&refresh(&running, &second).await), invalid_grant());
    assert_eq!(
        presentations(&running.provider().ledger()).pop(),
        Some((Standing::Expired, Outcome::Refused))
    );
}

fn basic(id: &str, secret: &str) -> String {
    let encode =
        |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encode(id), encode(secret));
    format!("Basic {}", Base64::encode_string(pair.as_bytes()))
}

#[tokio::test]
async fn each_client_authenticates_by_its_own_method() {
    let running = start(|_| {}).await;
    let post = async |headers: &[(&str, &str)], client: &[(&str, &str)], token: &str| {
        let mut parameters = vec![("grant_type", "refresh_token"), ("refresh_token", token)];
        parameters.extend_from_slice(client);
        post_form(&running.token_endpoint(), headers, &parameters)
            .await
            .unwrap()
    };
    let good = basic("basic", SECRET);
    let authorization = [("authorization", good.as_str())];
    let by_post = [("client_id", "post"), ("client_secret", SECRET)];
    let by_basic = first_token(&running, "basic");
    assert_eq!(post(&authorization, &[], &by_basic).await.status, 200);
    assert_eq!(
        post(&[], &by_post, &first_token(&running, "post"))
            .await
            .status,
        200
    );
    let named = [("client_id", "basic")];
    assert_eq!(
        post(&authorization, &named, &first_token(&running, "basic"))
            .await
            .status,
        200
    );

    let wrong = basic("basic", "wrong");
    let foreign = basic("post", SECRET);
    let unknown = basic("nobody", SECRET);
    let rows: [(&str, Pairs<'_>, Pairs<'_>, u16, &str); 12] = [
        (
            "wrong secret",
            &[("authorization", &wrong)],
            &[],
            401,
            "invalid_client",
        ),
        (
            "basic for a post client",
            &[("authorization", &foreign)],
            &[],
            401,
            "invalid_client",
        ),
        (
            "unknown client",
            &[("authorization", &unknown)],
            &[],
            401,
            "invalid_client",
        ),
        (
            "no base64",
            &[("authorization", "Basic *")],
            &[],
            401,
            "invalid_client",
        ),
        (
            "another scheme",
            &[("authorization", "Bearer x")],
            &[],
            401,
            "invalid_client",
        ),
        ("no client", &[], &[], 401, "invalid_client"),
        (
            "post for a basic client",
            &[],
            &[("client_id", "basic"), ("client_secret", SECRET)],
            401,
            "invalid_client",
        ),
        (
            "wrong secret in post",
            &[],
            &[("client_id", "post"), ("client_secret", "x")],
            401,
            "invalid_client",
        ),
        (
            "secret of a public client",
            &[],
            &[("client_id", "public"), ("client_secret", "x")],
            401,
            "invalid_client",
        ),
        (
            "no secret",
            &[],
            &[("client_id", "post")],
            401,
            "invalid_client",
        ),
        (
            "two methods",
            &authorization,
            &by_post,
            400,
            "invalid_request",
        ),
        (
            "two clients",
            &authorization,
            &[("client_id", "post")],
            400,
            "invalid_request",
        ),
    ];
    let token = first_token(&running, "basic");
    for (name, headers, client, status, code) in rows {
        let reply = post(headers, client, &token).await;
        assert_eq!(error(&reply), (status, code.to_owned()), "{name}");
        let challenged = reply.headers.contains_key("www-authenticate");
        assert_eq!(challenged, status == 401 && !headers.is_empty(), "{name}");
    }
    assert_eq!(post(&authorization, &[], &token).await.status, 200);
}

#[tokio::test]
async fn each_bad_token_request_has_its_error() {
    let running = start(|_| {}).await;
    let token = first_token(&running, "public");
    let foreign = first_token(&running, "basic");
    let valid = [
        ("client_id", "public"),
        ("grant_type", "refresh_token"),
        ("refresh_token", &token),
    ];
    let rows: [(&str, Pairs<'_>, &str); 9] = [
        ("no grant type", &[("grant_type", "")], "invalid_request"),
        (
            "another grant type",
            &[("grant_type", "password")],
            "unsupported_grant_type",
        ),
        ("no token", &[("refresh_token", "")], "invalid_request"),
        (
            "an unknown token",
            &[("refresh_token", "rt_unknown")],
            "invalid_grant",
        ),
        (
            "another client's token",
            &[("refresh_token", &foreign)],
            "invalid_grant",
        ),
        (
            "more scope",
            &[("scope", "contacts.read admin")],
            "invalid_scope",
        ),
        ("blank scope", &[("scope", " ")], "invalid_scope"),
        (
            "repeated",
            &[("scope", "contacts.read"), ("scope", "contacts.read")],
            "invalid_request",
        ),
        (
            "an unknown client",
            &[("client_id", "nobody")],
            "invalid_client",
        ),
    ];
    for (name, change, code) in rows {
        let parameters: Vec<(&str, &str)> = valid
            .into_iter()
            .filter(|(key, _)| !change.iter().any(|(changed, _)| changed == key))
            .chain(change.iter().copied())
            .collect();
        let reply = post_form(&running.token_endpoint(), &[], &parameters)
            .await
            .unwrap();
        assert_eq!(error(&reply).1, code, "{name}");
    }
    let reply = post_json(&running.token_endpoint(), &json!({}))
        .await
        .unwrap();
    assert_eq!(error(&reply), (400, "invalid_request".to_owned()));
    let huge = "x".repeat(64 * 1024);
    let reply = post_form(&running.token_endpoint(), &[], &[("grant_type", &huge)])
        .await
        .unwrap();
    assert_eq!(reply.status, 413);

    // None of them used the token up.
    let mut narrow = valid.to_vec();
    narrow.push(("scope", "contacts.read"));
    let reply = post_form(&running.token_endpoint(), &[], &narrow)
        .await
        .unwrap();
    assert_eq!(reply.json::<Value>().unwrap()["scope"], "contacts.read");
    let reply = fetch::fetch(
        http::Method::POST,
        &format!("{}/api/contacts", running.base_url()),
        &[(
            "authorization",
            &format!("Bearer {}", tokens(&reply).access),
        )],
        "{}",
    )
    .await
    .unwrap();
    assert_eq!(reply.status, 403);
    assert_eq!(
        reply.headers["www-authenticate"],
        "Bearer realm=\"testkit\", error=\"insufficient_scope\", scope=\"contacts.write\""
    );
}

#[tokio::test]
async fn each_fault_answers_as_told_and_commits_as_told() {
    let oauth = |status, code: &str| Answer::OAuthError {
        status,
        error: code.to_owned(),
    };
    let rows = [
        (Fault::invalid_grant(), 400, Some("invalid_grant")),
        (
            Fault::at_token(false, oauth(400, "slow_down")),
            400,
            Some("slow_down"),
        ),
        (
            Fault::at_token(true, oauth(200, "token_expired")),
            200,
            Some("token_expired"),
        ),
        (Fault::server_error_before_commit(), 500, None),
        (Fault::server_error_after_commit(), 500, None),
        (
            Fault::at_token(false, Answer::Status { status: 503 }),
            503,
            None,
        ),
        (
            Fault::at_token(false, Answer::RateLimited { retry_after_s: 7 }),
            429,
            None,
        ),
        (Fault::at_token(true, Answer::Garbage), 200, None),
        (Fault::at_token(false, Answer::Empty), 200, None),
        (Fault::at_token(true, Answer::Empty), 200, None),
    ];
    for (fault, status, code) in rows {
        let running = start(|_| {}).await;
        let token = first_token(&running, "public");
        running.provider().fault(fault.clone()).unwrap();
        let reply = refresh(&running, &token).await;
        assert_eq!(reply.status, status, "{fault:?}");
        match (&fault.answer, code) {
            (_, Some(code)) => assert_eq!(error(&reply).1, code),
            (Answer::Empty, None) => assert_eq!(reply.body.len(), 0),
            (Answer::RateLimited { .. }, None) => assert_eq!(reply.headers["retry-after"], "7"),
            (_, None) => assert!(reply.json::<Value>().is_err(), "{fault:?}"),
        }
        // What the provider did shows in the second presentation of the same token.
        let expected = if fault.commit {
            [
                (Standing::Current, Outcome::Rotated),
                (Standing::Superseded, Outcome::FamilyRevoked),
            ]
        } else {
            [
                (Standing::Current, Outcome::NotProcessed),
                (Standing::Current, Outcome::Rotated),
            ]
        };
        let reply = refresh(&running, &token).await;
        assert_eq!(reply.status == 200, !fault.commit, "{fault:?}");
        assert_eq!(
            presentations(&running.provider().ledger()),
            expected,
            "{fault:?}"
        );
        assert_eq!(running.provider().faults().fired, 1);
    }
}

#[tokio::test]
async fn a_truncated_answer_ends_at_each_byte() {
    let running = start(|config| config.rotation = Rotation::Never).await;
    let token = first_token(&running, "public");
    let whole = refresh(&running, &token).await.body.len();
    for at_byte in 0..whole {
        let fault = Fault::at_token(
            true,
            Answer::Truncated {
                at_byte: u64::try_from(at_byte).unwrap(),
            },
        );
        running.provider().fault(fault).unwrap();
        match try_refresh(&running, &token).await {
            Err(FetchError::Truncated(read)) => assert_eq!(read.len(), at_byte),
            other => panic!("at byte {at_byte}: {other:?}"),
        }
    }
    assert_eq!(refresh(&running, &token).await.body.len(), whole);
}

#[tokio::test]
async fn an_oversize_answer_is_still_the_answer() {
    let running = start(|_| {}).await;
    let token = first_token(&running, "public");
    let fault = Fault::at_token(true, Answer::Oversize { bytes: 1_000_000 });
    running.provider().fault(fault).unwrap();
    let reply = refresh(&running, &token).await;
    assert_eq!(reply.body.len(), 1_000_000);
    let second = tokens(&reply).refresh.unwrap();
    assert_eq!(refresh(&running, &second).await.status, 200);
}

#[tokio::test]
async fn a_reset_gives_no_answer() {
    let running = start(|_| {}).await;
    for commit in [false, true] {
        let token = first_token(&running, "public");
        running
            .provider()
            .fault(Fault::at_token(commit, Answer::Reset))
            .unwrap();
        let failed = try_refresh(&running, &token).await.unwrap_err();
        let FetchError::Exchange(error) = &failed else {
            panic!("{failed:?}");
        };
        let kind = error
            .source()
            .and_then(|source| source.downcast_ref::<io::Error>())
            .map(io::Error::kind);
        assert_eq!(kind, Some(io::ErrorKind::ConnectionReset), "{error:?}");
        assert_eq!(refresh(&running, &token).await.status == 200, !commit);
    }
}

#[tokio::test]
async fn faults_strike_as_often_as_told_and_only_where_told() {
    let running = start(|config| config.rotation = Rotation::Never).await;
    let token = first_token(&running, "public");
    let provider = running.provider();
    provider
        .fault(Fault::at_api(false, Answer::Status { status: 502 }))
        .unwrap();
    provider
        .fault(Fault::server_error_before_commit().times(2))
        .unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(refresh(&running, &token).await.status.as_u16());
    }
    assert_eq!(seen, [500, 500, 200]);
    let access = tokens(&refresh(&running, &token).await).access;
    assert_eq!(call(&running, "/api/contacts", &access).await.status, 502);
    assert_eq!(call(&running, "/api/contacts", &access).await.status, 200);
    assert_eq!(provider.faults().fired, 3);
    provider.fault(Fault::server_error_before_commit()).unwrap();
    provider.clear_faults();
    assert_eq!(refresh(&running, &token).await.status, 200);
}

#[tokio::test]
async fn a_fault_that_makes_no_sense_is_refused() {
    let running = start(|_| {}).await;
    let rows = [
        (Fault::invalid_grant().times(0), "times is 0"),
        (
            Fault::invalid_grant().delayed_by_ms(600_001),
            "delay_ms is above 600000",
        ),
        (
            Fault::at_token(true, Answer::Status { status: 199 }),
            "status is outside 200 to 599",
        ),
        (
            Fault::at_token(true, Answer::Status { status: 600 }),
            "status is outside 200 to 599",
        ),
        (
            Fault::at_token(
                true,
                Answer::Oversize {
                    bytes: (1 << 30) + 1,
                },
            ),
            "bytes is above 1073741824",
        ),
        (
            Fault::at_token(false, Answer::Truncated { at_byte: 1 }),
            "truncated and oversize answers need commit: true",
        ),
    ];
    for (fault, rule) in rows {
        assert_eq!(running.provider().fault(fault), Err(FaultRefused(rule)));
    }
    for _ in 0..1_024 {
        running.provider().fault(Fault::invalid_grant()).unwrap();
    }
    let full = running.provider().fault(Fault::invalid_grant());
    assert_eq!(full, Err(FaultRefused("too many faults wait")));
}

#[tokio::test]
async fn presentations_that_overlap_are_seen() {
    let running = start(grace(Successor::Same)).await;
    let token = first_token(&running, "public");
    let slow = Fault::at_token(true, Answer::Honest)
        .delayed_by_ms(1_000)
        .times(2);
    running.provider().fault(slow).unwrap();
    let (a, b) = tokio::join!(refresh(&running, &token), refresh(&running, &token));
    assert_eq!((a.status.as_u16(), b.status.as_u16()), (200, 200));
    refresh(&running, &token).await;
    let concurrent: Vec<u32> = running
        .provider()
        .ledger()
        .entries
        .into_iter()
        .filter_map(|entry| match entry.event {
            Event::Presented { concurrent, .. } => Some(concurrent),
            Event::Consented { .. }
            | Event::Revoked { .. }
            | Event::Faulted { .. }
            | Event::ApiCall { .. } => None,
        })
        .collect();
    assert_eq!(concurrent, [0, 1, 0]);
}

#[tokio::test]
async fn the_api_serves_who_has_a_good_token() {
    let running = start(|_| {}).await;
    let access = tokens(&refresh(&running, &first_token(&running, "public")).await).access;
    let bearer = format!("Bearer {access}");
    let body = call(&running, "/api/contacts", &access).await;
    assert_eq!(
        body.json::<Value>().unwrap()["contacts"][1]["name"],
        "Alan Turing"
    );
    let url = format!("{}/api/contacts", running.base_url());
    let created = fetch::fetch(
        http::Method::POST,
        &url,
        &[("authorization", &bearer)],
        r#"{"name":"Grace Hopper","email":"grace@example.com"}"#,
    )
    .await
    .unwrap();
    assert_eq!(
        (created.status.as_u16(), &created.headers["location"]),
        (201, &http::HeaderValue::from_static("/api/contacts/3"))
    );
    let shown = call(&running, "/api/contacts/3", &access).await;
    assert_eq!(shown.json::<Value>().unwrap()["name"], "Grace Hopper");
    assert_eq!(call(&running, "/api/contacts/4", &access).await.status, 404);

    let streamed = call(
        &running,
        "/api/stream?chunks=3&chunk_bytes=100&interval_ms=1",
        &access,
    )
    .await;
    assert_eq!(streamed.body.len(), 300);
    assert_eq!(streamed.body[100..102], *b"1 ");

    let echoed = call(&running, "/api/echo-headers?q=1", &access).await;
    assert_eq!(Canary::of(&access).find(&echoed.body), None);
    let echoed: Value = echoed.json().unwrap();
    assert_eq!(echoed["query"], "q=1");
    let shown = json!([
        "authorization",
        format!("Bearer sha256:{}", TokenDigest::of(&access))
    ]);
    assert!(
        echoed["headers"].as_array().unwrap().contains(&shown),
        "{echoed}"
    );

    let careless = call(&running, "/api/careless?pad_bytes=5", &access).await;
    assert_eq!(
        Canary::of(&access).find(&careless.body),
        Some(Encoding::Plain)
    );
    let redirect = call(&running, "/api/redirect?to=http://127.0.0.1:1/", &access).await;
    assert_eq!(
        (
            redirect.status.as_u16(),
            redirect.headers["location"].to_str().unwrap()
        ),
        (302, "http://127.0.0.1:1/")
    );
}

#[tokio::test]
async fn the_api_refuses_who_has_none() {
    let running = start(|_| {}).await;
    let refresh_token = first_token(&running, "public");
    let access = tokens(&refresh(&running, &refresh_token).await).access;
    let good = format!("Bearer {access}");
    let as_refresh = format!("Bearer {refresh_token}");
    let plain = "Bearer realm=\"testkit\"";
    let invalid = "Bearer realm=\"testkit\", error=\"invalid_token\"";
    let rows: [(&str, Pairs<'_>, &str, ApiOutcome); 5] = [
        ("nothing", &[], plain, ApiOutcome::Missing),
        (
            "another scheme",
            &[("authorization", "Basic eDp5")],
            plain,
            ApiOutcome::Missing,
        ),
        (
            "two headers",
            &[("authorization", &good), ("authorization", &good)],
            plain,
            ApiOutcome::Missing,
        ),
        (
            "garbage",
            &[("authorization", "Bearer x")],
            invalid,
            ApiOutcome::InvalidToken,
        ),
        (
            "a refresh token",
            &[("authorization", &as_refresh)],
            invalid,
            ApiOutcome::InvalidToken,
        ),
    ];
    for path in [
        "contacts",
        "contacts/1",
        "stream",
        "echo-headers",
        "careless",
        "redirect?to=x",
    ] {
        for (name, headers, challenge, outcome) in rows {
            let url = format!("{}/api/{path}", running.base_url());
            let reply = get(&url, headers).await.unwrap();
            assert_eq!(reply.status, 401, "{path}: {name}");
            assert_eq!(
                reply.headers["www-authenticate"], challenge,
                "{path}: {name}"
            );
            let last = running.provider().ledger().entries.pop().unwrap().event;
            let Event::ApiCall {
                outcome: recorded,
                grant: None,
                ..
            } = last
            else {
                panic!("{last:?}");
            };
            assert_eq!(recorded, outcome, "{path}: {name}");
        }
    }
}

#[tokio::test]
async fn revocation_and_introspection_agree() {
    let running = start(|_| {}).await;
    let issued = tokens(&refresh(&running, &first_token(&running, "public")).await);
    let refresh_token = issued.refresh.clone().unwrap();
    let ask = async |path: &str, client: &str, token: &str| {
        let url = format!("{}{path}", running.base_url());
        let parameters = [
            ("client_id", client),
            ("client_secret", SECRET),
            ("token", token),
        ];
        let count = if client == "public" {
            [0, 2].map(|at| parameters[at]).to_vec()
        } else {
            parameters.to_vec()
        };
        post_form(&url, &[], &count).await.unwrap()
    };
    let active = async |client: &str, token: &str| {
        let body: Value = ask("/introspect", client, token).await.json().unwrap();
        body["active"].as_bool().unwrap()
    };
    assert!(active("public", &issued.access).await);
    assert!(active("public", &refresh_token).await);
    assert!(!active("post", &issued.access).await);
    assert!(!active("public", "unknown").await);
    let body: Value = ask("/introspect", "public", &issued.access)
        .await
        .json()
        .unwrap();
    assert_eq!(body["exp"], (NOW_MS / 1_000) + 300);
    assert_eq!(body["sub"], "alice");

    // Another client's revocation changes nothing; an access token dies alone.
    assert_eq!(ask("/revoke", "post", &refresh_token).await.status, 200);
    assert!(active("public", &refresh_token).await);
    assert_eq!(ask("/revoke", "public", &issued.access).await.status, 200);
    assert!(!active("public", &issued.access).await);
    assert!(active("public", &refresh_token).await);
    let issued = tokens(&refresh(&running, &refresh_token).await);
    let refresh_token = issued.refresh.unwrap();
    assert_eq!(ask("/revoke", "public", &refresh_token).await.status, 200);
    assert!(!active("public", &refresh_token).await);
    assert!(!active("public", &issued.access).await);
    assert_eq!(
        error(&refresh(&running, &refresh_token).await),
        invalid_grant()
    );
    assert_eq!(
        running.provider().grants()[0].revoked,
        Some(RevokedBy::Client)
    );
    assert_eq!(ask("/revoke", "public", "unknown").await.status, 200);
    let reply = ask("/revoke", "nobody", "unknown").await;
    assert_eq!(error(&reply), (401, "invalid_client".to_owned()));
}

#[tokio::test]
async fn the_metadata_names_what_is_there() {
    let running = start(|_| {}).await;
    let url = format!(
        "{}/.well-known/oauth-authorization-server",
        running.base_url()
    );
    let metadata: Value = get(&url, &[]).await.unwrap().json().unwrap();
    assert_eq!(metadata["issuer"], running.base_url());
    assert_eq!(metadata["token_endpoint"], running.token_endpoint());
    for endpoint in [
        "token_endpoint",
        "revocation_endpoint",
        "introspection_endpoint",
    ] {
        let reply = post_form(metadata[endpoint].as_str().unwrap(), &[], &[("x", "y")]).await;
        assert_eq!(
            error(&reply.unwrap()),
            (401, "invalid_client".to_owned()),
            "{endpoint}"
        );
    }
}

#[tokio::test]
async fn the_tester_s_door_works_over_http() {
    let running = start(|_| {}).await;
    let url = |path: &str| format!("{}/_testkit/{path}", running.base_url());
    let consent = json!({ "client_id": "public", "scope": "contacts.read", "user": "bob" });
    let granted: Value = post_json(&url("consent"), &consent)
        .await
        .unwrap()
        .json()
        .unwrap();
    let token = granted["refresh_token"].as_str().unwrap();

    let fault = json!({ "endpoint": "token", "commit": true, "answer": { "kind": "truncated", "at_byte": 9 } });
    assert_eq!(post_json(&url("fault"), &fault).await.unwrap().status, 204);
    assert!(matches!(
        try_refresh(&running, token).await,
        Err(FetchError::Truncated(_))
    ));
    let report: Value = get(&url("fault"), &[]).await.unwrap().json().unwrap();
    assert_eq!(report, json!({ "waiting": [], "fired": 1 }));
    let fault = json!({ "endpoint": "token", "commit": false, "answer": { "kind": "oauth_error", "status": 400, "error": "x" } });
    assert_eq!(post_json(&url("fault"), &fault).await.unwrap().status, 204);
    let cleared = fetch::fetch(http::Method::DELETE, &url("fault"), &[], "")
        .await
        .unwrap();
    assert_eq!(cleared.status, 204);

    let page: LedgerPage = get(&url("ledger"), &[]).await.unwrap().json().unwrap();
    assert_eq!(page, running.provider().ledger());
    assert_eq!(page.next_seq, 3);
    let rest: LedgerPage = get(&url("ledger?since=1&limit=1"), &[])
        .await
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(
        (rest.entries, rest.next_seq),
        (page.entries[1..2].to_vec(), 2)
    );

    let grants: Value = get(&url("grants"), &[]).await.unwrap().json().unwrap();
    assert_eq!(
        (&grants[0]["user"], &grants[0]["generation"]),
        (&json!("bob"), &json!(1))
    );
    let before = running.provider().clock().now_ms();
    assert_eq!(
        post_json(&url("advance"), &json!({ "ms": 5 }))
            .await
            .unwrap()
            .status,
        204
    );
    assert_eq!(running.provider().clock().now_ms(), before + 5);
    let name = json!({ "grant": granted["grant"] });
    assert_eq!(post_json(&url("revoke"), &name).await.unwrap().status, 204);
    assert_eq!(post_json(&url("revoke"), &name).await.unwrap().status, 404);

    for (path, body, status) in [
        (
            "consent",
            json!({ "client_id": "nobody", "scope": "contacts.read" }),
            400,
        ),
        (
            "consent",
            json!({ "client_id": "public", "scope": "admin" }),
            400,
        ),
        (
            "consent",
            json!({ "client_id": "public", "scope": "contacts.read", "x": 1 }),
            422,
        ),
        (
            "fault",
            json!({ "endpoint": "token", "commit": true, "answer": { "kind": "unheard" } }),
            422,
        ),
        (
            "fault",
            json!({ "endpoint": "token", "commit": true, "times": 0, "answer": { "kind": "reset" } }),
            400,
        ),
    ] {
        assert_eq!(
            post_json(&url(path), &body).await.unwrap().status,
            status,
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_restart_finds_its_grants_and_the_ledger_file_has_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let marker = Canary::new(b"provider tokens");
    let files = |config: &mut Config| {
        config.state_file = Some(dir.path().join("state.json"));
        config.ledger_file = Some(dir.path().join("ledger.jsonl"));
        config.token_marker = marker.expose().to_owned();
    };
    let running = start(files).await;
    let first = first_token(&running, "public");
    assert!(first.starts_with(marker.expose()));
    let issued = tokens(&refresh(&running, &first).await);
    let before = running.provider().grants();
    let entries = running.provider().ledger().entries.len();
    running.stop().await;

    let mode = std::fs::metadata(dir.path().join("state.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let ledger = std::fs::read(dir.path().join("ledger.jsonl")).unwrap();
    assert_eq!(
        ledger.iter().filter(|byte| **byte == b'\n').count(),
        entries
    );
    assert_eq!(marker.find(&ledger), None);

    let running = start(files).await;
    assert_eq!(running.provider().grants(), before);
    assert_eq!(
        call(&running, "/api/contacts", &issued.access).await.status,
        200
    );
    let second = issued.refresh.unwrap();
    assert_eq!(refresh(&running, &second).await.status, 200);
    // A reuse is still seen as one after the restart.
    assert_eq!(error(&refresh(&running, &first).await), invalid_grant());
    assert_eq!(
        presentations(&running.provider().ledger()).pop(),
        Some((Standing::Superseded, Outcome::FamilyRevoked))
    );
}

#[tokio::test]
async fn memory_is_bounded_and_no_current_token_is_forgotten() {
    let running = start(|config| {
        config.max_grants = 2;
        config.max_tokens = 8;
        config.max_ledger_entries = 4;
    })
    .await;
    let idle = first_token(&running, "public");
    let mut token = first_token(&running, "public");
    let consent = Consent::of("public", "contacts.read", "alice");
    assert_eq!(
        running.provider().consent(&consent).unwrap_err(),
        ConsentError::Full
    );
    let oldest = token.clone();
    for _ in 0..50 {
        token = tokens(&refresh(&running, &token).await).refresh.unwrap();
    }
    let page = running.provider().ledger();
    assert_eq!(
        (page.entries.len(), page.dropped, page.next_seq),
        (4, 48, 52)
    );
    // Long forgotten, so it is unknown; what is current works however old it is.
    assert_eq!(error(&refresh(&running, &oldest).await), invalid_grant());
    assert_eq!(refresh(&running, &idle).await.status, 200);
    assert_eq!(refresh(&running, &token).await.status, 200);
}

#[tokio::test]
async fn a_stop_closes_the_door() {
    let running = start(|_| {}).await;
    let token = first_token(&running, "public");
    let (endpoint, address) = (running.token_endpoint(), running.address());
    assert_eq!(refresh(&running, &token).await.status, 200);
    running.stop().await;
    let failed = post_form(&endpoint, &[], &[]).await.unwrap_err();
    assert!(matches!(failed, FetchError::Connect(_)), "{failed:?}");
    drop(tokio::net::TcpListener::bind(address).await.unwrap());
}

#[test]
fn nothing_that_is_shown_shows_a_secret() {
    let secret = Canary::new(b"client secret");
    let client = Client::confidential(
        "basic",
        ClientAuth::SecretPost(SecretString::from(secret.expose())),
    );
    let config = Config {
        clients: vec![client],
        ..Config::default()
    };
    let provider = Provider::new(config, "http://127.0.0.1:1").unwrap();
    let granted = provider
        .consent(&Consent::of("basic", "contacts.read", "alice"))
        .unwrap();
    let token = Canary::of(granted.refresh_token.expose_secret());
    let shown = format!("{provider:?} {granted:?} {:?}", provider.ledger());
    assert_eq!(secret.find(shown.as_bytes()), None);
    assert_eq!(token.find(shown.as_bytes()), None);
}
