//! One line of an import: its deposit, and what is reported of it.

use std::time::Duration;

use proto::v1;
use proto::v1::{DepositRotation, GrantState};
use serde_json::{Value, json};
use tokenkeep::import::{ImportLine, LineError};
use tokenkeep::rpc_error::{RpcError, answer};
use tokenkeep::{AttestedChannel, DepositRecipient};
use tokio::sync::Mutex;
use tonic::Code;

use super::no_grant;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::record::Record;

/// How often a deposit is tried that the service can't take at the moment, and how long is waited first.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest wait between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is a grant now.
    Imported,
    /// There was one before.
    Present,
    /// There is a grant, and its provider does not take its token.
    NeedsConsent,
    /// The service refused it.
    Refused,
    /// It is no grant.
    IllFormed,
    /// The service can't be asked any more.
    Stopped,
}

impl Outcome {
    const fn word(self) -> &'static str {
        match self {
            Self::Imported => "imported",
            Self::Present => "present",
            Self::NeedsConsent => "needs_consent",
            Self::Refused => "refused",
            Self::IllFormed => "ill_formed",
            Self::Stopped => "stopped",
        }
    }
}

/// What is told of a line.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) line: u64,
    grant: Option<String>,
    pub(super) outcome: Outcome,
    /// What became of the token that was in the file, or nothing.
    pub(super) token: &'static str,
    failure: Option<Failure>,
}

impl Report {
    pub(super) fn ill_formed(line: u64, grant: Option<String>, error: LineError) -> Self {
        let next = match error {
            LineError::SameToken { .. } => {
                "have the owner consent anew for one of the two: a token presented twice may end both"
            }
            LineError::SameGrant { .. } => "give one of the two another id",
            LineError::TooLong
            | LineError::Json { .. }
            | LineError::Missing { .. }
            | LineError::Field { .. }
            | LineError::Empty { .. }
            | LineError::Token => "correct the line: see `tokenkeep grant import --help`",
        };
        Self {
            line,
            grant,
            outcome: Outcome::IllFormed,
            token: "",
            failure: Some(Failure::usage(error.to_string(), next)),
        }
    }

    /// Why the whole run ends.
    pub(super) fn stopped(&self) -> Failure {
        let why = self.failure.as_ref().map(Failure::what).unwrap_or_default();
        Failure::new(
            self.failure
                .as_ref()
                .map_or(Exit::Unavailable, Failure::exit),
            format!("stopped at line {}: {why}", self.line),
            "run it again when that is mended: it goes on where it ended",
        )
    }

    /// On standard output: a line for people, an object for programs.
    pub(super) fn show(&self, output: Output) -> Result<(), Failure> {
        let Self {
            line,
            grant,
            outcome,
            token,
            failure,
        } = self;
        if output.is_json() {
            let error = failure.as_ref().map(Failure::to_json);
            let error = error.and_then(|mut error| error.get_mut("error").map(Value::take));
            let token = (!token.is_empty()).then_some(token);
            let record = Record::new([
                ("line", json!(line)),
                ("grant", json!(grant)),
                ("outcome", json!(outcome.word())),
                ("token", json!(token)),
                ("error", json!(error)),
            ]);
            return output.json(&record.to_json());
        }
        let grant = grant.as_deref().unwrap_or("-");
        let text = format!("line {line}  {grant}  {}  {token}", outcome.word());
        output.line(text.trim_end())?;
        match failure {
            Some(failure) => {
                output.line(&format!("  {}\n  next: {}", failure.what(), failure.next()))
            }
            None => Ok(()),
        }
    }
}

/// Seals and deposits.
#[derive(Debug)]
pub(super) struct Importer {
    channel: AttestedChannel,
    leave_unrotated: bool,
    /// Whom to seal to, and how often that changed.
    recipient: Mutex<(u64, DepositRecipient)>,
}

impl Importer {
    /// Verifies fresh evidence for deposits.
    pub(super) async fn new(
        channel: &AttestedChannel,
        leave_unrotated: bool,
    ) -> Result<Self, Failure> {
        let recipient = channel.deposit_recipient().await?;
        Ok(Self {
            channel: channel.clone(),
            leave_unrotated,
            recipient: Mutex::new((0, recipient)),
        })
    }

    pub(super) async fn import(&self, line: u64, import: ImportLine) -> Report {
        let grant = import.grant.id.clone();
        let report = |outcome, token, failure| Report {
            line,
            grant: Some(grant.clone()),
            outcome,
            token,
            failure,
        };
        match self.deposit(&import).await {
            Ok(Made::New(made)) => {
                let dead = made.rotation() == DepositRotation::Refused;
                let failure = dead.then(|| dead_token(&grant));
                let outcome = if dead {
                    Outcome::NeedsConsent
                } else {
                    Outcome::Imported
                };
                report(outcome, word(made.rotation()), failure)
            }
            Ok(Made::Before(found)) => {
                let token = if found.exposed_before_deposit {
                    "exposed"
                } else {
                    "rotated"
                };
                if let Some(field) = difference(&found, &import.grant) {
                    let failure = Failure::new(
                        Exit::Refused,
                        format!("there is a grant of this id with another `{field}`"),
                        "compare with `tokenkeep grant show ID`, or give the line another id",
                    );
                    return report(Outcome::Refused, "", Some(failure));
                }
                match found.state() {
                    GrantState::Active | GrantState::Asleep => {
                        report(Outcome::Present, token, None)
                    }
                    GrantState::NeedsConsent => {
                        report(Outcome::NeedsConsent, "refused", Some(dead_token(&grant)))
                    }
                    GrantState::Revoked | GrantState::Unspecified => {
                        let failure = Failure::new(
                            Exit::Refused,
                            "the grant of this id is revoked",
                            "delete it before its id is used again",
                        );
                        report(Outcome::Refused, "", Some(failure))
                    }
                }
            }
            Err(Fault::Line(failure)) => report(Outcome::Refused, "", Some(failure)),
            Err(Fault::Run(failure)) => report(Outcome::Stopped, "", Some(failure)),
        }
    }

    async fn deposit(&self, import: &ImportLine) -> Result<Made, Fault> {
        let grant = &import.grant;
        let (mut tries, mut resealed) = (0_u32, false);
        loop {
            let (version, recipient) = self.recipient.lock().await.clone();
            let token = import.refresh_token.as_bytes();
            let sealed = recipient.seal_refresh_token(&grant.tenant, &grant.app, &grant.id, token);
            let request = v1::DepositGrantRequest {
                grant: Some(grant.clone()),
                sealed_refresh_token: sealed.map_err(|error| Fault::Line(error.into()))?,
                leave_unrotated: self.leave_unrotated,
                only_new: true,
            };
            let error = match answer(self.channel.grants().deposit_grant(request)).await {
                Ok(made) => return Ok(Made::New(Box::new(made.into_inner()))),
                Err(error) => error,
            };
            if error.reason() == Some("DEPOSIT_NOT_OPENED") && !resealed {
                // The key was replaced since.
                self.verify_again(version).await?;
                resealed = true;
                continue;
            }
            if error.code() == Code::AlreadyExists {
                return self.found(&grant.id, error).await;
            }
            tries = tries.saturating_add(1);
            if !may_pass(&error) || tries == TRIES {
                return Err(fault(error));
            }
            tokio::time::sleep(pause(&error, tries)).await;
        }
    }

    /// The grant that has the id, if it is the caller's to see.
    async fn found(&self, id: &str, taken: RpcError) -> Result<Made, Fault> {
        let request = v1::GetGrantRequest { id: id.to_owned() };
        match answer(self.channel.grants().get_grant(request)).await {
            Ok(found) => {
                let grant = found.into_inner().grant;
                Ok(Made::Before(Box::new(
                    grant.ok_or_else(|| Fault::Run(no_grant()))?,
                )))
            }
            Err(error) if error.code() == Code::NotFound => Err(Fault::Line(taken.into())),
            Err(error) => Err(fault(error)),
        }
    }

    async fn verify_again(&self, version: u64) -> Result<(), Fault> {
        let mut held = self.recipient.lock().await;
        if held.0 == version {
            let fresh = Box::pin(self.channel.deposit_recipient()).await;
            let fresh = fresh.map_err(|error| Fault::Run(error.into()))?;
            *held = (version.saturating_add(1), fresh);
        }
        Ok(())
    }
}

/// A grant of a line.
enum Made {
    New(Box<v1::DepositGrantResponse>),
    Before(Box<v1::Grant>),
}

/// Whom a failure concerns.
enum Fault {
    /// The line alone.
    Line(Failure),
    /// Each line.
    Run(Failure),
}

fn fault(error: RpcError) -> Fault {
    let concerns_all = error.transport().is_some()
        || may_pass(&error)
        || matches!(error.code(), Code::Unauthenticated | Code::Unimplemented);
    let failure = error.into();
    if concerns_all {
        Fault::Run(failure)
    } else {
        Fault::Line(failure)
    }
}

/// Whether what the service said may be over in a while.
fn may_pass(error: &RpcError) -> bool {
    matches!(
        error.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted
    )
}

fn pause(error: &RpcError, tries: u32) -> Duration {
    let factor = 1_u32.checked_shl(tries.min(8)).unwrap_or(u32::MAX);
    let wait = error
        .retry_after()
        .unwrap_or_else(|| FIRST_PAUSE.saturating_mul(factor));
    wait.min(LONGEST_PAUSE)
}

fn dead_token(grant: &str) -> Failure {
    Failure::new(
        Exit::Refused,
        "the provider does not take the token: the grant is there and needs its owner",
        format!("have the owner consent: `tokenkeep grant reconnect {grant}`"),
    )
}

/// What became of a deposited token.
pub(super) const fn word(rotation: DepositRotation) -> &'static str {
    match rotation {
        DepositRotation::Rotated => "rotated",
        DepositRotation::Exposed => "exposed",
        DepositRotation::Pending => "pending",
        DepositRotation::Left => "left",
        DepositRotation::Refused => "refused",
        DepositRotation::Unspecified => "unknown",
    }
}

/// The first field in which what is there is not what the line says. Their order says nothing.
fn difference(found: &v1::Grant, line: &v1::Grant) -> Option<&'static str> {
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    let hosts = |hosts: &[v1::TargetHost]| {
        let pairs = hosts.iter();
        let mut pairs: Vec<_> = pairs
            .map(|host| (host.target.clone(), host.host.clone()))
            .collect();
        pairs.sort();
        pairs
    };
    let same = [
        ("tenant", found.tenant == line.tenant),
        ("app", found.app == line.app),
        ("clients", sorted(&found.clients) == sorted(&line.clients)),
        ("targets", sorted(&found.targets) == sorted(&line.targets)),
        (
            "operations",
            sorted(&found.operations) == sorted(&line.operations),
        ),
        ("hosts", hosts(&found.hosts) == hosts(&line.hosts)),
        ("scopes", sorted(&found.scopes) == sorted(&line.scopes)),
        ("expires_at_s", found.expires_at_s == line.expires_at_s),
    ];
    let other = same.into_iter().find(|(_, same)| !same);
    other.map(|(field, _)| field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> v1::Grant {
        v1::Grant {
            id: "g".to_owned(),
            tenant: "t".to_owned(),
            app: "a".to_owned(),
            clients: vec!["c".to_owned(), "d".to_owned()],
            targets: vec!["x".to_owned()],
            scopes: vec!["r".to_owned(), "w".to_owned()],
            ..v1::Grant::default()
        }
    }

    #[test]
    fn what_is_there_is_compared_field_by_field() {
        let mut same = grant();
        same.clients.reverse();
        same.scopes.reverse();
        same.created_at_s = 9;
        assert_eq!(difference(&same, &grant()), None);
        type Change = fn(&mut v1::Grant);
        let rows: [(&str, Change); 8] = [
            ("tenant", |grant| grant.tenant.push('x')),
            ("app", |grant| grant.app.push('x')),
            ("clients", |grant| grant.clients.push("e".to_owned())),
            ("targets", |grant| grant.targets.clear()),
            ("operations", |grant| {
                grant.operations.push("x/y".to_owned())
            }),
            ("hosts", |grant| {
                grant.hosts.push(v1::TargetHost {
                    target: "x".to_owned(),
                    host: "h.example".to_owned(),
                });
            }),
            ("scopes", |grant| grant.scopes.truncate(1)),
            ("expires_at_s", |grant| grant.expires_at_s = 1),
        ];
        for (field, change) in rows {
            let mut other = grant();
            change(&mut other);
            assert_eq!(difference(&other, &grant()), Some(field));
        }
    }

    #[test]
    fn what_concerns_each_line_ends_the_run_and_what_concerns_one_does_not() {
        for (code, run) in [
            (Code::Unavailable, true),
            (Code::DeadlineExceeded, true),
            (Code::ResourceExhausted, true),
            (Code::Aborted, true),
            (Code::Unauthenticated, true),
            (Code::Unimplemented, true),
            (Code::PermissionDenied, false),
            (Code::NotFound, false),
            (Code::InvalidArgument, false),
            (Code::FailedPrecondition, false),
        ] {
            let found = fault(RpcError::from(tonic::Status::new(code, "said")));
            assert_eq!(matches!(found, Fault::Run(_)), run, "{code:?}");
        }
    }
}
