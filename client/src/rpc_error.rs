//! What a refusal of the service says, read from `google.rpc.Status` with its details.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use proto::v1::TokenRefusal;
use tokio::time::timeout;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use crate::transport::{ANSWER_TIMEOUT, TransportError};

/// The `domain` of the service's own reasons.
pub const ERROR_DOMAIN: &str = "tokenkeep.v1";

/// The most characters of a peer's text that are kept.
const MAX_TEXT_CHARS: usize = 1024;

/// The most field violations that are kept.
const MAX_VIOLATIONS: usize = 32;

/// A refused or failed call.
#[derive(Debug, Clone)]
pub struct RpcError {
    told: Box<Told>,
}

/// What is known of it; boxed, because errors travel far.
#[derive(Debug, Clone)]
struct Told {
    code: Code,
    message: String,
    reason: Option<String>,
    details: Vec<(String, String)>,
    retry_after: Option<Duration>,
    violations: Vec<FieldViolation>,
    transport: Option<Arc<TransportError>>,
}

/// One field of a request that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// The path of the field.
    pub field: String,
    /// The rule.
    pub rule: String,
}

impl RpcError {
    /// The gRPC code.
    #[must_use]
    pub const fn code(&self) -> Code {
        self.told.code
    }

    /// The phrase that goes with it; for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.told.message
    }

    /// The stable reason, such as `USE_DPOP_NONCE`, if the service gave one in its own domain.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.told.reason.as_deref()
    }

    /// More about the reason: names and values, sorted by name.
    #[must_use]
    pub fn details(&self) -> &[(String, String)] {
        &self.told.details
    }

    /// When to come back, if the service says so.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.told.retry_after
    }

    /// The fields of the request that break a rule.
    #[must_use]
    pub fn violations(&self) -> &[FieldViolation] {
        &self.told.violations
    }

    /// The failure of the connection, if the call never got an answer.
    #[must_use]
    pub fn transport(&self) -> Option<&TransportError> {
        self.told.transport.as_deref()
    }

    /// Whether the service could not be reached or asked, as against refusing.
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        matches!(self.told.code, Code::Unavailable | Code::DeadlineExceeded)
    }
}

impl From<Status> for RpcError {
    fn from(status: Status) -> Self {
        let info = status
            .get_details_error_info()
            .filter(|info| info.domain == ERROR_DOMAIN && is_reason(&info.reason));
        let mut details: Vec<_> = info
            .iter()
            .flat_map(|info| &info.metadata)
            .map(|(name, value)| (shown(name), shown(value)))
            .collect();
        details.sort();
        let violations = status
            .get_details_bad_request()
            .into_iter()
            .flat_map(|request| request.field_violations)
            .take(MAX_VIOLATIONS)
            .map(|violation| FieldViolation {
                field: shown(&violation.field),
                rule: shown(&violation.description),
            })
            .collect();
        let told = Told {
            code: status.code(),
            message: shown(status.message()),
            reason: info.map(|info| info.reason),
            details,
            retry_after: status
                .get_details_retry_info()
                .and_then(|retry| retry.retry_delay),
            violations,
            transport: transport_of(&status),
        };
        Self {
            told: Box::new(told),
        }
    }
}

/// The refusal of one token of several.
impl From<TokenRefusal> for RpcError {
    fn from(refusal: TokenRefusal) -> Self {
        let TokenRefusal {
            code,
            reason,
            message,
            oauth_error,
            retry_after_ms,
        } = refusal;
        let oauth_error = Some(oauth_error).filter(|error| !error.is_empty());
        let told = Told {
            code: Code::from_i32(code),
            message: shown(&message),
            reason: Some(reason).filter(|reason| is_reason(reason)),
            details: oauth_error
                .map(|error| ("oauth_error".to_owned(), shown(&error)))
                .into_iter()
                .collect(),
            retry_after: (retry_after_ms > 0).then(|| Duration::from_millis(retry_after_ms)),
            violations: Vec::new(),
            transport: None,
        };
        Self {
            told: Box::new(told),
        }
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.told.reason, self.told.message.is_empty()) {
            (Some(reason), true) => f.write_str(reason),
            (Some(reason), false) => write!(f, "{} ({reason})", self.told.message),
            (None, true) => f.write_str(self.told.code.description()),
            (None, false) => f.write_str(&self.told.message),
        }?;
        for FieldViolation { field, rule } in &self.told.violations {
            // The phrase may name the field already.
            let named = format!("{field}: {rule}");
            if !self.told.message.contains(&named) {
                write!(f, "; {named}")?;
            }
        }
        Ok(())
    }
}

impl Error for RpcError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // The transport's own words are the message already.
        self.told
            .transport
            .as_ref()
            .and_then(|error| error.source())
    }
}

/// Waits for a call, at most [`ANSWER_TIMEOUT`] for all of its answer.
///
/// # Errors
/// [`RpcError`].
pub async fn answer<T>(
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<Response<T>, RpcError> {
    raw_answer(call).await.map_err(RpcError::from)
}

/// As [`answer`], with the metadata that an [`RpcError`] leaves out.
pub(crate) async fn raw_answer<T>(
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<Response<T>, Status> {
    timeout(ANSWER_TIMEOUT, Box::pin(call))
        .await
        .unwrap_or_else(|_elapsed| {
            Err(Status::deadline_exceeded(format!(
                "no answer within {} s",
                ANSWER_TIMEOUT.as_secs()
            )))
        })
}

/// `UPPER_SNAKE`, at most 63 characters [google.rpc.ErrorInfo].
fn is_reason(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// A peer's text as it may be shown on a terminal: bounded, without control characters.
fn shown(text: &str) -> String {
    text.chars()
        .take(MAX_TEXT_CHARS)
        .map(|character| {
            if character.is_control() {
                '\u{fffd}'
            } else {
                character
            }
        })
        .collect()
}

/// Finds the transport's error again, which travelled as the source of a status.
fn transport_of(status: &Status) -> Option<Arc<TransportError>> {
    let Carried(error) = status.source()?.downcast_ref()?;
    Some(Arc::clone(error))
}

/// The status as which the transport's error travels through the generated clients.
pub(crate) fn transport_status(error: TransportError) -> Status {
    let mut status = Status::unavailable(error.to_string());
    status.set_source(Arc::new(Carried(Arc::new(error))));
    status
}

/// A transport's error inside a status.
#[derive(Debug)]
struct Carried(Arc<TransportError>);

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Carried {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use tonic_types::ErrorDetails;

    #[test]
    fn details_are_read() {
        let mut details = ErrorDetails::new();
        details
            .set_error_info(
                "USE_DPOP_NONCE",
                ERROR_DOMAIN,
                HashMap::from([
                    ("b".to_owned(), "2".to_owned()),
                    ("a".to_owned(), "1".to_owned()),
                ]),
            )
            .set_retry_info(Some(Duration::from_secs(3)))
            .add_bad_request_violation("grant.id", "must not be empty");
        let status =
            Status::with_error_details(Code::Unauthenticated, "a nonce is needed", details);
        let error = RpcError::from(status);
        assert_eq!(error.code(), Code::Unauthenticated);
        assert_eq!(error.reason(), Some("USE_DPOP_NONCE"));
        assert_eq!(
            error.details(),
            [
                ("a".to_owned(), "1".to_owned()),
                ("b".to_owned(), "2".to_owned())
            ]
        );
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
        assert_eq!(
            error.violations(),
            [FieldViolation {
                field: "grant.id".to_owned(),
                rule: "must not be empty".to_owned()
            }]
        );
        assert_eq!(
            error.to_string(),
            "a nonce is needed (USE_DPOP_NONCE); grant.id: must not be empty"
        );
        assert!(!error.is_unavailable());
    }

    #[test]
    fn a_violation_that_the_message_names_is_not_said_twice() {
        let mut details = ErrorDetails::new();
        details.add_bad_request_violation("grant.id", "must not be empty");
        details.add_bad_request_violation("grant.app", "too long");
        let said = "grant.id: must not be empty";
        let status = Status::with_error_details(Code::InvalidArgument, said, details);
        assert_eq!(
            RpcError::from(status).to_string(),
            "grant.id: must not be empty; grant.app: too long"
        );
    }

    #[test]
    fn a_reason_of_another_domain_or_form_is_none_of_ours() {
        for (reason, domain) in [
            ("USE_DPOP_NONCE", "googleapis.com"),
            ("use_dpop_nonce", ERROR_DOMAIN),
            ("", ERROR_DOMAIN),
            ("A\nB", ERROR_DOMAIN),
        ] {
            let details = ErrorDetails::with_error_info(reason, domain, HashMap::new());
            let status = Status::with_error_details(Code::Unauthenticated, "no", details);
            assert_eq!(RpcError::from(status).reason(), None, "{reason:?} {domain}");
        }
    }

    #[test]
    fn undecodable_details_leave_code_and_message() {
        let status = Status::with_details(Code::NotFound, "gone", vec![0xff; 9].into());
        let error = RpcError::from(status);
        assert_eq!((error.code(), error.reason()), (Code::NotFound, None));
        assert_eq!(error.to_string(), "gone");
    }

    #[test]
    fn a_peer_cannot_write_to_the_terminal() {
        let error = RpcError::from(Status::internal("a\u{1b}[2Jb\n"));
        assert_eq!(error.to_string(), "a\u{fffd}[2Jb\u{fffd}");
        let long = RpcError::from(Status::internal("x".repeat(5000)));
        assert_eq!(long.message().len(), MAX_TEXT_CHARS);
    }

    #[test]
    fn the_transports_error_is_found_again() {
        let origin = crate::Origin::parse("https://keep.example").unwrap();
        let error = TransportError::ServerName { origin };
        let error = RpcError::from(transport_status(error));
        assert!(error.is_unavailable());
        assert!(matches!(
            error.transport(),
            Some(TransportError::ServerName { .. })
        ));
    }
}
