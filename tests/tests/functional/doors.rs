//! Each kind of stop holds at each door, for what is asked, what is open and what is under way; and it is acknowledged
//! only when it is true.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic")]

use std::sync::Arc;

use dev::names;
use http::Method;
use proto::v1;
use proto::v1::freeze_subject::Subject;
use testkit::provider::{Answer, Event, Fault};
use tests::caller::{Caller, Refused, refused};
use tests::https::Reply;
use tests::stack::{Blueprint, Stack};
use tests::wait::wait_for;
use tests::web_client::{WEB_CLIENT, WebClient};
use tests::witnesses::Witnesses;
use tokenkeep::AttestedChannel;
use tokenkeep::rpc_error::answer;
use tokio::task::JoinHandle;
use tonic::Code;

use crate::stop::{ENDLESS, cut, delete, introspect, kinds, open, revoke};

/// A grant whose upstream token is never in the cache when it counts.
const UNDER_WAY: &str = "under-way";

/// A stack with everything that may be stopped.
struct Doors {
    stack: Stack,
    caller: Caller,
    web: WebClient,
    /// The gRPC client's token for the usual grant.
    token: String,
    /// The web client's.
    web_token: String,
}

fn status_and_error(reply: &Reply) -> (u16, String) {
    let error = reply.json().get("error").cloned().unwrap_or_default();
    (
        reply.status.as_u16(),
        error.as_str().unwrap_or_default().to_owned(),
    )
}

impl Doors {
    async fn new() -> Self {
        let stack = Stack::start(Blueprint::default()).await;
        let web = WebClient::register(&stack).await;
        deposit(&stack, names::GRANT).await;
        let caller = Caller::of(&stack).await;
        let token = caller.token().await;
        let reply = web.token(&stack.resource()).await;
        assert_eq!(reply.status, 200, "{}", reply.json());
        let told = reply.json();
        let web_token = told.get("access_token").unwrap().as_str().unwrap();
        Self {
            token,
            web_token: web_token.to_owned(),
            stack,
            caller,
            web,
        }
    }

    /// What each door says: issuance, introspection and gateway by gRPC's client, then token endpoint and introspection
    /// by the web's.
    async fn asked(&self) -> [String; 5] {
        let (caller, web) = (&self.caller, &self.web);
        let proof = caller.issue_proof(&caller.nonce().await);
        let issued = Box::pin(caller.issue(caller.request(), &[&proof])).await;
        let issued = issued.map_or_else(|status| refused(status).1, |_| "OK".to_owned());
        let told = introspect(caller, &self.token).await;
        let told = told.map_or_else(|_| "inactive".to_owned(), |()| "OK".to_owned());
        let called = caller.call(Method::GET, "/contacts", &self.token).await;
        let called = match called.status.as_u16() {
            200 => "OK".to_owned(),
            _ => called.reason(),
        };
        let web_issued = web.token(&self.stack.resource()).await;
        let web_issued = match status_and_error(&web_issued) {
            (200, _) => "OK".to_owned(),
            (_, error) => error,
        };
        let web_told = web.introspect(&self.web_token).await;
        let web_told = match web_told.json() {
            told if told == serde_json::json!({"active": false}) => "inactive".to_owned(),
            told if told.get("active").and_then(|active| active.as_bool()) == Some(true) => {
                "OK".to_owned()
            }
            told => told.to_string(),
        };
        [issued, told, called, web_issued, web_told]
    }

    /// A call that waits for an exchange which the provider holds back.
    async fn under_way(&self) -> JoinHandle<Reply> {
        // A deposit ends what was cached.
        deposit(&self.stack, UNDER_WAY).await;
        let caller = Arc::new(self.caller.at(UNDER_WAY));
        let token = caller.token().await;
        let held = Fault::at_token(true, Answer::Honest).delayed_by_ms(1_500);
        self.stack.provider().fault(held).unwrap();
        let presented = presented(&self.stack);
        let call = tokio::spawn(async move { caller.call(Method::GET, "/contacts", &token).await });
        wait_for("the refresh token is presented", async || {
            (self::presented(&self.stack) > presented).then_some(())
        })
        .await;
        call
    }
}

fn presented(stack: &Stack) -> usize {
    let entries = stack.ledger().entries;
    let presented = entries
        .iter()
        .filter(|entry| matches!(entry.event, Event::Presented { .. }));
    presented.count()
}

pub(crate) async fn deposit(stack: &Stack, id: &str) {
    let admin = stack.admin().await;
    let recipient = admin.deposit_recipient().await.unwrap();
    let token = stack.consent().refresh_token;
    let sealed = recipient.seal_refresh_token(
        names::TENANT,
        names::APP,
        id,
        secrecy::ExposeSecret::expose_secret(&token).as_bytes(),
    );
    let request = v1::DepositGrantRequest {
        grant: Some(v1::Grant {
            id: id.to_owned(),
            tenant: names::TENANT.to_owned(),
            app: names::APP.to_owned(),
            clients: vec![names::CLIENT.to_owned(), WEB_CLIENT.to_owned()],
            targets: vec![names::TARGET.to_owned()],
            scopes: names::SCOPES.map(str::to_owned).to_vec(),
            ..v1::Grant::default()
        }),
        sealed_refresh_token: sealed.unwrap(),
        leave_unrotated: true,
        only_new: false,
    };
    answer(admin.grants().deposit_grant(request)).await.unwrap();
}

const OPEN: [&str; 5] = ["OK"; 5];
const FROZEN: [&str; 5] = ["FROZEN", "inactive", "FROZEN", "access_denied", "inactive"];

#[tokio::test]
async fn each_freeze_holds_at_each_door_and_ends_with_its_thaw() {
    let doors = Doors::new().await;
    for subject in kinds(&doors.caller) {
        let subjects = match &subject {
            // The doors have a client each.
            Subject::Client(_) => vec![subject.clone(), Subject::Client(WEB_CLIENT.to_owned())],
            // The exchange is another grant's.
            Subject::Grant(_) => vec![subject.clone(), Subject::Grant(UNDER_WAY.to_owned())],
            Subject::Tenant(_)
            | Subject::Vendor(_)
            | Subject::Provider(_)
            | Subject::App(_)
            | Subject::Jkt(_) => vec![subject.clone()],
        };
        assert_eq!(doors.asked().await, OPEN, "before {subject:?}");
        let stream = open(&doors.caller, ENDLESS, &doors.token).await;
        let under_way = doors.under_way().await;
        for subject in &subjects {
            doors.stack.freeze(subject.clone()).await;
        }
        assert_eq!(doors.asked().await, FROZEN, "{subject:?}");
        cut(stream).await;
        let reply = under_way.await.unwrap();
        let frozen = (403, "FROZEN".to_owned());
        assert_eq!(reply.refusal(), frozen, "under way behind {subject:?}");
        for subject in subjects {
            doors.stack.thaw(subject).await;
        }
        assert_eq!(doors.asked().await, OPEN, "after {subject:?}");
        // The exchange came to its end, and its successor is in custody.
        let resumed = doors.caller.at(UNDER_WAY).contacts().await;
        assert_eq!(resumed.status, 200, "after {subject:?}");
        delete(&doors.stack, UNDER_WAY).await;
    }
}

#[tokio::test]
async fn a_revoked_and_a_deleted_grant_are_gone_at_each_door() {
    let doors = Doors::new().await;
    let rows = [
        (
            "revoked",
            "GRANT_REVOKED",
            [
                "GRANT_REVOKED",
                "inactive",
                "GRANT_REVOKED",
                "invalid_grant",
                "inactive",
            ],
        ),
        (
            "deleted",
            "INVALID_TOKEN",
            [
                "GRANT_NOT_FOUND",
                "inactive",
                "INVALID_TOKEN",
                "invalid_target",
                "inactive",
            ],
        ),
    ];
    for (what, gone, refusals) in rows {
        assert_eq!(doors.asked().await, OPEN, "before it is {what}");
        let stream = open(&doors.caller, ENDLESS, &doors.token).await;
        let under_way = doors.under_way().await;
        let failed = doors.stack.log().matches("refresh_failed").count();
        for id in [UNDER_WAY, names::GRANT] {
            match what {
                "revoked" => drop(revoke(&doors.stack, id).await),
                _ => delete(&doors.stack, id).await,
            }
        }
        assert_eq!(doors.asked().await, refusals, "{what}");
        cut(stream).await;
        let reply = under_way.await.unwrap();
        assert_eq!(reply.reason(), gone, "under way when it was {what}");
        // The caller was told at once; the exchange itself runs to its end, and yields nothing.
        wait_for("the exchange came to its end", async || {
            let ended = doors.stack.log().matches("refresh_failed").count();
            (ended > failed).then_some(())
        })
        .await;
        if what == "revoked" {
            for id in [UNDER_WAY, names::GRANT] {
                delete(&doors.stack, id).await;
            }
        }
        deposit(&doors.stack, names::GRANT).await;
    }
}

/// Killed right behind the acknowledgement, each stop and each thaw is there again.
#[tokio::test]
async fn what_is_acknowledged_is_durable() {
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    for subject in kinds(&Caller::of(&stack).await) {
        stack.freeze(subject.clone()).await;
        stack.kill().await;
        stack.restart().await;
        let caller = Caller::of(&stack).await;
        let frozen = (Code::FailedPrecondition, "FROZEN".to_owned());
        assert_eq!(issue(&caller).await, Err(frozen), "{subject:?}");
        stack.thaw(subject.clone()).await;
        stack.kill().await;
        stack.restart().await;
        let caller = Caller::of(&stack).await;
        assert_eq!(issue(&caller).await, Ok(()), "{subject:?}");
    }
    drop(revoke(&stack, names::GRANT).await);
    stack.kill().await;
    stack.restart().await;
    let revoked = (Code::FailedPrecondition, "GRANT_REVOKED".to_owned());
    assert_eq!(issue(&Caller::of(&stack).await).await, Err(revoked));
    delete(&stack, names::GRANT).await;
    stack.kill().await;
    stack.restart().await;
    let deleted = (Code::NotFound, "GRANT_NOT_FOUND".to_owned());
    assert_eq!(issue(&Caller::of(&stack).await).await, Err(deleted));
}

async fn issue(caller: &Caller) -> Result<(), Refused> {
    let proof = caller.issue_proof(&caller.nonce().await);
    let issued = Box::pin(caller.issue(caller.request(), &[&proof])).await;
    issued.map(|_| ()).map_err(refused)
}

/// With witnesses: acknowledged when a quorum has cosigned a log that holds the change, and never without.
#[tokio::test]
async fn what_is_acknowledged_is_cosigned() {
    let witnesses = Witnesses::start(3).await;
    let mut stack = Stack::with_grant(Blueprint::default()).await;
    // So long that it does not end within the test.
    stack.watch(&witnesses, 30).await;
    let admin = stack.admin().await;
    let subjects = kinds(&Caller::of(&stack).await);
    let log = stack.control_log().await;
    let mut seen = witnesses.seen_by_quorum(&log);
    for subject in &subjects {
        for change in [Change::Freeze, Change::Thaw] {
            assert_eq!(change.ask(admin.clone(), subject.clone()).await, Ok(()));
            let now = witnesses.seen_by_quorum(&log);
            assert!(
                now > seen,
                "{change:?} {subject:?}: {now} leaves, {seen} before"
            );
            seen = now;
        }
    }
    witnesses.stop();
    for change in [Change::Freeze, Change::Thaw, Change::Revoke, Change::Delete] {
        // All at once: each waits for witnesses that do not come.
        let mut asked = tokio::task::JoinSet::new();
        let subjects = match change {
            Change::Freeze | Change::Thaw => &subjects[..],
            Change::Revoke | Change::Delete => &subjects[..1],
        };
        for subject in subjects {
            asked.spawn(change.ask(admin.clone(), subject.clone()));
        }
        let not_cosigned = (Code::Unavailable, "NOT_COSIGNED".to_owned());
        let expected = vec![Err(not_cosigned); subjects.len()];
        assert_eq!(asked.join_all().await, expected, "{change:?}");
    }
}

/// What an administrator may ask for.
#[derive(Clone, Copy, Debug)]
enum Change {
    Freeze,
    Thaw,
    Revoke,
    Delete,
}

impl Change {
    async fn ask(self, admin: AttestedChannel, subject: Subject) -> Result<(), Refused> {
        let mut grants = admin.grants();
        let (tenant, id) = (names::TENANT.to_owned(), names::GRANT.to_owned());
        let subject = Some(v1::FreezeSubject {
            subject: Some(subject),
        });
        let reason = String::new();
        let asked = match self {
            Self::Freeze => {
                let request = v1::FreezeRequest {
                    subject,
                    reason,
                    tenant,
                };
                grants.freeze(request).await.map(drop)
            }
            Self::Thaw => {
                let request = v1::ThawRequest { subject, tenant };
                grants.thaw(request).await.map(drop)
            }
            Self::Revoke => {
                let request = v1::RevokeGrantRequest { id, reason };
                grants.revoke_grant(request).await.map(drop)
            }
            Self::Delete => {
                let request = v1::DeleteGrantRequest { id };
                grants.delete_grant(request).await.map(drop)
            }
        };
        asked.map_err(refused)
    }
}
