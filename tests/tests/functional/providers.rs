//! Providers and APIs that fail: what the caller learns, what becomes of the grant, and that it works again.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a failed test may panic"
)]

use http::Method;
use proto::v1::GrantState;
use testkit::provider::{Answer, Event, Fault, Outcome, Rotation, Standing, Successor};
use tests::caller::Caller;
use tests::stack::{Blueprint, Stack};

/// A fault at the token endpoint and all that follows from it.
struct Row {
    name: &'static str,
    fault: Fault,
    /// Status and reason for the caller who met it.
    met: (u16, &'static str),
    /// State and cause of the grant then.
    state: (GrantState, &'static str),
    /// Status and reason for the next caller, when the provider is well again.
    next: (u16, &'static str),
    /// State and cause of the grant in the end.
    end: (GrantState, &'static str),
}

const ACTIVE: (GrantState, &str) = (GrantState::Active, "");
const REFUSED: (GrantState, &str) = (GrantState::NeedsConsent, "refused_by_provider");
const LOST: (GrantState, &str) = (GrantState::NeedsConsent, "lost_in_exchange");
const OK: (u16, &str) = (200, "");
const UNCLEAR: (u16, &str) = (502, "PROVIDER_UNCLEAR");
const PROVIDER_REFUSED: (u16, &str) = (502, "PROVIDER_REFUSED");
const NEEDS_CONSENT: (u16, &str) = (403, "NEEDS_CONSENT");

impl Row {
    /// The refresh token was not used up: the grant goes on as if nothing had been.
    fn harmless(name: &'static str, fault: Fault, met: (u16, &'static str)) -> Self {
        Self {
            name,
            fault,
            met,
            state: ACTIVE,
            next: OK,
            end: ACTIVE,
        }
    }

    /// The refresh token was used up, and of the answer its successor arrived whole.
    fn salvaged(name: &'static str, answer: Answer) -> Self {
        Self::harmless(name, Fault::at_token(true, answer), UNCLEAR)
    }

    /// The refresh token was used up and its successor never arrived: a strict provider kills the grant at
    /// the next try, and the grant says why.
    fn lost(name: &'static str, answer: Answer) -> Self {
        Self {
            name,
            fault: Fault::at_token(true, answer),
            met: UNCLEAR,
            state: ACTIVE,
            next: NEEDS_CONSENT,
            end: LOST,
        }
    }
}

fn oauth_error(status: u16, error: &str) -> Fault {
    let error = error.to_owned();
    Fault::at_token(false, Answer::OAuthError { status, error })
}

/// Runs one row on a grant of its own.
async fn check(stack: &Stack, caller: &Caller, number: usize, row: Row) {
    let Row {
        name,
        fault,
        met,
        state,
        next,
        end,
    } = row;
    let id = format!("row-{number}");
    stack.deposit_as(&id).await;
    let caller = caller.at(&id);
    let token = caller.token().await;
    let fired = stack.provider().faults().fired;
    stack.provider().fault(fault).unwrap();
    let told = |(status, reason): (u16, &str)| (status, reason.to_owned());
    let grant = async || {
        let (state, cause) = stack.grant_state(&id).await;
        (state, cause)
    };

    let reply = caller.call(Method::GET, "/contacts", &token).await;
    assert_eq!(reply.refusal(), told(met), "{name}: {:?}", reply.body);
    assert_eq!(
        stack.provider().faults().fired,
        fired + 1,
        "{name}: the fault has struck"
    );
    assert_eq!(grant().await, (state.0, state.1.to_owned()), "{name}");

    let reply = caller.call_in_turn("/contacts", &token, next.1).await;
    assert_eq!(reply.refusal(), told(next), "{name}: {:?}", reply.body);
    assert_eq!(grant().await, (end.0, end.1.to_owned()), "{name}");

    if end.0 == GrantState::NeedsConsent {
        // A dead grant is not tried again, and a new consent brings it back.
        let before = presentations(stack).len();
        let reply = caller.call(Method::GET, "/contacts", &token).await;
        assert_eq!(reply.refusal(), told(NEEDS_CONSENT), "{name}");
        assert!(
            reply.json().to_string().contains(end.1),
            "{name}: the cause is told"
        );
        assert_eq!(
            presentations(stack).len(),
            before,
            "{name}: not tried again"
        );
        stack.deposit_as(&id).await;
        let reply = caller.call(Method::GET, "/contacts", &token).await;
        assert_eq!(reply.refusal(), told(OK), "{name}");
        assert_eq!(grant().await, (GrantState::Active, String::new()), "{name}");
    }
}

/// What was presented, in order: how good it was and what came of it.
fn presentations(stack: &Stack) -> Vec<(Standing, Outcome)> {
    let entries = stack.ledger().entries.into_iter();
    entries
        .filter_map(|entry| match entry.event {
            Event::Presented {
                standing, outcome, ..
            } => Some((standing, outcome)),
            Event::Consented { .. }
            | Event::Revoked { .. }
            | Event::Faulted { .. }
            | Event::ApiCall { .. } => None,
        })
        .collect()
}

#[tokio::test]
async fn each_answer_of_a_strict_provider_has_its_outcome() {
    let stack = Stack::start(Blueprint::default()).await;
    let caller = Caller::of(&stack).await;
    let status = |status| Answer::Status { status };
    let rows = [
        Row {
            name: "invalid_grant, although the token is good",
            fault: Fault::invalid_grant(),
            met: NEEDS_CONSENT,
            state: REFUSED,
            next: NEEDS_CONSENT,
            end: REFUSED,
        },
        Row::harmless(
            "invalid_request",
            oauth_error(400, "invalid_request"),
            PROVIDER_REFUSED,
        ),
        Row::harmless(
            "invalid_client",
            oauth_error(401, "invalid_client"),
            PROVIDER_REFUSED,
        ),
        Row::harmless(
            "an error of its own",
            oauth_error(403, "x_suspended"),
            PROVIDER_REFUSED,
        ),
        Row::harmless(
            "400 with a page",
            Fault::at_token(false, status(400)),
            PROVIDER_REFUSED,
        ),
        Row::harmless(
            "slow_down",
            oauth_error(400, "slow_down"),
            (503, "PROVIDER_RATE_LIMITED"),
        ),
        Row::harmless(
            "429",
            Fault::at_token(false, Answer::RateLimited { retry_after_s: 7 }),
            (503, "PROVIDER_RATE_LIMITED"),
        ),
        Row::harmless(
            "500 before it acted",
            Fault::server_error_before_commit(),
            UNCLEAR,
        ),
        Row::harmless(
            "503 before it acted",
            Fault::at_token(false, status(503)),
            UNCLEAR,
        ),
        Row::harmless("a redirect", Fault::at_token(false, status(307)), UNCLEAR),
        Row::harmless(
            "garbage before it acted",
            Fault::at_token(false, Answer::Garbage),
            UNCLEAR,
        ),
        Row::harmless(
            "nothing before it acted",
            Fault::at_token(false, Answer::Empty),
            UNCLEAR,
        ),
        Row::harmless(
            "a reset before it acted",
            Fault::at_token(false, Answer::Reset),
            UNCLEAR,
        ),
        Row::lost("500 after it acted", status(500)),
        Row::lost("garbage after it acted", Answer::Garbage),
        Row::lost("nothing after it acted", Answer::Empty),
        Row::lost("a reset after it acted", Answer::Reset),
        Row::lost(
            "cut off after the first bytes",
            Answer::Truncated { at_byte: 20 },
        ),
        Row::salvaged(
            "an answer over 64 KiB",
            Answer::Oversize {
                bytes: 64 * 1024 + 1,
            },
        ),
        Row::harmless(
            "an answer of 64 KiB, which is honest",
            Fault::at_token(true, Answer::Oversize { bytes: 64 * 1024 }),
            OK,
        ),
    ];
    for (number, row) in rows.into_iter().enumerate() {
        check(&stack, &caller, number, row).await;
    }
}

#[tokio::test]
async fn a_provider_with_grace_loses_no_grant() {
    let stack = Stack::start(Blueprint {
        rotation: Rotation::Grace {
            window_ms: 600_000,
            successor: Successor::Same,
        },
        ..Blueprint::default()
    })
    .await;
    let caller = Caller::of(&stack).await;
    let rows = [
        ("500 after it acted", Answer::Status { status: 500 }),
        ("garbage after it acted", Answer::Garbage),
        ("a reset after it acted", Answer::Reset),
        ("cut off", Answer::Truncated { at_byte: 20 }),
    ];
    for (number, (name, answer)) in rows.into_iter().enumerate() {
        let fault = Fault::at_token(true, answer);
        check(&stack, &caller, number, Row::harmless(name, fault, UNCLEAR)).await;
    }
}

#[tokio::test]
async fn a_provider_that_does_not_answer_in_time_is_left_after_ten_seconds() {
    let stack = Stack::start(Blueprint::default()).await;
    let caller = Caller::of(&stack).await;
    let slow =
        |commit| Fault::at_token(commit, Answer::Status { status: 200 }).delayed_by_ms(60_000);
    check(
        &stack,
        &caller,
        0,
        Row::harmless("silent", slow(false), UNCLEAR),
    )
    .await;
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_has_seen_nothing() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    stack.provider_down().await;
    for _ in 0..2 {
        let reply = caller.call(Method::GET, "/contacts", &token).await;
        assert_eq!(reply.refusal(), (502, "PROVIDER_UNREACHABLE".to_owned()));
    }
    stack.provider_up().await;
    assert_eq!(
        stack.grant_state(dev::names::GRANT).await,
        (GrantState::Active, String::new())
    );
    assert_eq!(
        caller.call(Method::GET, "/contacts", &token).await.status,
        200
    );
    assert_eq!(
        presentations(&stack),
        [(Standing::Current, Outcome::Rotated)]
    );
}

#[tokio::test]
async fn answers_of_the_api_are_passed_on_or_named() {
    let stack = Stack::with_grant(Blueprint::default()).await;
    let caller = Caller::of(&stack).await;
    let token = caller.token().await;
    assert_eq!(
        caller.call(Method::GET, "/contacts", &token).await.status,
        200
    );
    let status = |status| Answer::Status { status };
    let rows = [
        ("500", status(500), 500, "", "api"),
        ("404", status(404), 404, "", "api"),
        (
            "429",
            Answer::RateLimited { retry_after_s: 9 },
            429,
            "",
            "api",
        ),
        ("garbage", Answer::Garbage, 200, "", "api"),
        ("reset", Answer::Reset, 504, "API_NO_ANSWER", "gateway"),
    ];
    for (name, answer, status, reason, by) in rows {
        // A connection that waited for the call and ends before an answer is replaced once: the second one ends, too.
        let times = if matches!(answer, Answer::Reset) {
            2
        } else {
            1
        };
        for _ in 0..times {
            let fault = Fault::at_api(false, answer.clone());
            stack.provider().fault(fault).unwrap();
        }
        let reply = caller.call(Method::GET, "/contacts", &token).await;
        stack.provider().clear_faults();
        assert_eq!(reply.refusal(), (status, reason.to_owned()), "{name}");
        assert_eq!(reply.header("tokenkeep-answered-by"), by, "{name}");
    }
    let cut = Fault::at_api(true, Answer::Truncated { at_byte: 10 });
    stack.provider().fault(cut).unwrap();
    let nonce = caller.gateway_nonce().await;
    let cut = caller
        .try_call(Method::GET, "/contacts", &token, &nonce)
        .await;
    assert!(
        cut.is_err(),
        "an answer that was cut must not look whole: {cut:?}"
    );
    assert_eq!(
        caller.call(Method::GET, "/contacts", &token).await.status,
        200
    );
    let whole = caller
        .call(Method::GET, "/stream?chunks=64&chunk_bytes=65536", &token)
        .await;
    assert_eq!(
        (whole.status.as_u16(), whole.body.len()),
        (200, 64 * 65_536)
    );
}
