//! A failure as the caller sees it: what happened, what to do next, how the program ends.

use std::error::Error;

use attestation::{DepositError, PolicyError, RevocationError, RootsError, Verdict};
use serde_json::{Value, json};
use tokenkeep::channel::ConnectError;
use tokenkeep::dpop_key::DpopKeyError;
use tokenkeep::gateway::CallError;
use tokenkeep::private_file::FileError;
use tokenkeep::rpc_error::RpcError;
use tokenkeep::tls::IdentityError;
use tokenkeep::token_client::TokenError;
use tokenkeep::transport::TransportError;
use tonic::Code;

use super::exit::Exit;
use super::verify::emulated_hint;

/// What ends a command early.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    what: String,
    next: String,
    reason: Option<String>,
    retry_after_s: Option<u64>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            exit,
            what: what.into(),
            next: next.into(),
            reason: None,
            retry_after_s: None,
        }
    }

    /// Wrong usage.
    pub(crate) fn usage(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what, next)
    }

    /// An answer that is not what the contract promises.
    pub(crate) fn answer(what: impl Into<String>) -> Self {
        Self::new(
            Exit::Refused,
            what,
            "server and client do not agree: compare their versions",
        )
    }

    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }

    /// What happened.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// What to do next.
    pub(crate) fn next(&self) -> &str {
        &self.next
    }

    pub(crate) fn for_people(&self) -> String {
        let Self { what, next, .. } = self;
        format!("tokenkeep: {what}\n  next: {next}")
    }

    pub(crate) fn to_json(&self) -> Value {
        let Self {
            exit,
            what,
            next,
            reason,
            retry_after_s,
        } = self;
        json!({"error": {
            "exit_code": exit.number(),
            "message": what,
            "next": next,
            "reason": reason,
            "retry_after_s": retry_after_s,
        }})
    }

    fn of(exit: Exit, error: &dyn Error, next: impl Into<String>) -> Self {
        Self::new(exit, chain(error), next)
    }
}

/// An error with its causes in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

const UNREACHED: &str = "check --server and that the service runs, then try again";
const UNTRUSTED: &str =
    "someone may be between you and the enclave: do not go on; run `tokenkeep verify`";

impl From<&TransportError> for Failure {
    fn from(error: &TransportError) -> Self {
        if error.is_untrusted_peer() {
            Self::of(Exit::Refused, error, UNTRUSTED)
        } else {
            Self::of(Exit::Unavailable, error, UNREACHED)
        }
    }
}

impl From<RpcError> for Failure {
    fn from(error: RpcError) -> Self {
        if let Some(transport) = error.transport() {
            return transport.into();
        }
        let (exit, next) = match error.code() {
            Code::Unavailable | Code::DeadlineExceeded => (
                Exit::Unavailable,
                "try again later; the service said which side is out of reach",
            ),
            Code::Unauthenticated => (
                Exit::Refused,
                "give a registered certificate with --cert and --key, and the right --dpop-key",
            ),
            Code::PermissionDenied => (
                Exit::Refused,
                "ask the administrator whose role or grant allows it",
            ),
            Code::NotFound => (
                Exit::Refused,
                "check the ids; what you may not know about is answered in the same way",
            ),
            Code::FailedPrecondition => (
                Exit::Refused,
                "see `tokenkeep grant show ID` and `tokenkeep freezes` for what stands in the way",
            ),
            Code::InvalidArgument | Code::OutOfRange => {
                (Exit::Refused, "correct what is named and try again")
            }
            Code::AlreadyExists => (Exit::Refused, "choose another id, or use what exists"),
            Code::ResourceExhausted => (Exit::Refused, "slow down and try again later"),
            Code::Unimplemented => (
                Exit::Refused,
                "the server is of another version: compare versions",
            ),
            Code::Aborted | Code::Cancelled => (Exit::Refused, "try again"),
            Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => {
                (Exit::Refused, "tell the operator what this says")
            }
        };
        let mut failure = Self::of(exit, &error, next);
        failure.reason = error.reason().map(str::to_owned);
        failure.retry_after_s = error.retry_after().map(|after| after.as_secs());
        failure
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match &error {
            ConnectError::Url(_) => {
                Self::of(Exit::Usage, &error, "give --server as https://HOST:PORT")
            }
            ConnectError::Transport(transport) => transport.into(),
            ConnectError::Rpc(rpc) => rpc.clone().into(),
            ConnectError::Tls(_) => Self::of(
                Exit::Refused,
                &error,
                "check --cert and --key; if they are right, tell the operator",
            ),
            ConnectError::Reply(_) => Self::of(
                Exit::Refused,
                &error,
                "do not trust this server; tell the operator what this says",
            ),
            ConnectError::KeysChanged | ConnectError::Random => {
                Self::of(Exit::Unavailable, &error, "try again")
            }
            ConnectError::NotAccepted(inspection) => {
                let (exit, next) = match inspection.verdict() {
                    Verdict::Authentic => (
                        Exit::AuthenticOnly,
                        "give the reference values with --policy FILE, and for AMD hardware --collateral DIR; `tokenkeep verify` shows each check",
                    ),
                    Verdict::Accept | Verdict::Reject => {
                        let next = emulated_hint(inspection);
                        (
                            Exit::Refused,
                            next.unwrap_or(
                                "do not trust this server; `tokenkeep verify` shows each check",
                            ),
                        )
                    }
                };
                Self::of(exit, &error, next)
            }
        }
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Rpc(rpc) => rpc.into(),
            TokenError::Signer(_) | TokenError::Proof => {
                Self::of(Exit::Usage, &error, "check --dpop-key")
            }
            TokenError::Answer(_) | TokenError::Answers { .. } => Self::answer(chain(&error)),
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Token(token) => token.into(),
            CallError::Transport(transport) => (&transport).into(),
            CallError::Url(_) => Self::of(
                Exit::Usage,
                &error,
                "give a URL as `tokenkeep grant show ID` lists under resources, and what follows",
            ),
            CallError::Header { .. } | CallError::Request(_) => {
                Self::of(Exit::Usage, &error, "leave it out")
            }
            CallError::Signer(_) => Self::of(Exit::Usage, &error, "check --dpop-key"),
            CallError::RequestBody(_) => Self::of(Exit::Usage, &error, "check --data"),
            CallError::Body(_) | CallError::Idle => Self::of(Exit::Unavailable, &error, UNREACHED),
        }
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let next = match &error {
            FileError::Io { .. } => "check path and permissions",
            FileError::NotAFile { .. } | FileError::TooLarge { .. } => "name the right file",
            FileError::Exposed { .. } => {
                "make the key the owner's alone; if others may have read it, make a new one"
            }
            FileError::Exists { .. } => {
                "choose another name, or remove the file if nothing uses it"
            }
        };
        Self::of(Exit::Usage, &error, next)
    }
}

impl From<DpopKeyError> for Failure {
    fn from(error: DpopKeyError) -> Self {
        match error {
            DpopKeyError::File(file) => file.into(),
            DpopKeyError::NotText | DpopKeyError::Key(_) => Self::of(
                Exit::Usage,
                &error,
                "make a key with `tokenkeep key new FILE`",
            ),
        }
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::File(file) => file.into(),
            IdentityError::Certificates | IdentityError::Key => {
                Self::of(Exit::Usage, &error, "check --cert and --key")
            }
        }
    }
}

impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Self {
        Self::of(Exit::Usage, &error, "correct the file given with --policy")
    }
}

impl From<RootsError> for Failure {
    fn from(error: RootsError) -> Self {
        Self::of(
            Exit::Usage,
            &error,
            "give --allow-emulated the root file of a development server",
        )
    }
}

impl From<RevocationError> for Failure {
    fn from(error: RevocationError) -> Self {
        Self::of(
            Exit::Usage,
            &error,
            "give --revocation-list AMD's current list for the product line, as DER",
        )
    }
}

impl From<DepositError> for Failure {
    fn from(error: DepositError) -> Self {
        Self::of(Exit::Usage, &error, "check the secret and the ids")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenkeep::Origin;
    use tokenkeep::resource_url::ResourceUrlError;
    use tonic::Status;

    #[test]
    fn each_code_of_the_service_has_its_exit_code() {
        for (code, exit) in [
            (Code::Unavailable, Exit::Unavailable),
            (Code::DeadlineExceeded, Exit::Unavailable),
            (Code::Unauthenticated, Exit::Refused),
            (Code::PermissionDenied, Exit::Refused),
            (Code::NotFound, Exit::Refused),
            (Code::FailedPrecondition, Exit::Refused),
            (Code::InvalidArgument, Exit::Refused),
            (Code::AlreadyExists, Exit::Refused),
            (Code::ResourceExhausted, Exit::Refused),
            (Code::Internal, Exit::Refused),
        ] {
            let failure = Failure::from(RpcError::from(Status::new(code, "said")));
            assert_eq!(failure.exit(), exit, "{code:?}");
            assert!(
                failure
                    .for_people()
                    .starts_with("tokenkeep: said\n  next: ")
            );
        }
    }

    #[test]
    fn what_the_caller_got_wrong_is_usage() {
        let origin = Origin::parse("nonsense").unwrap_err();
        assert_eq!(Failure::from(ConnectError::Url(origin)).exit(), Exit::Usage);
        assert_eq!(
            Failure::from(CallError::Url(ResourceUrlError::Form)).exit(),
            Exit::Usage
        );
        let exists = FileError::Exists { path: "k".into() };
        assert_eq!(
            Failure::from(DpopKeyError::File(exists)).exit(),
            Exit::Usage
        );
    }

    #[test]
    fn a_failure_is_an_object_for_programs() {
        let failure = Failure::usage("no server", "give --server");
        assert_eq!(
            failure.to_json(),
            json!({"error": {
                "exit_code": 2, "message": "no server", "next": "give --server",
                "reason": null, "retry_after_s": null,
            }})
        );
    }
}
