//! What a caller learns that is not authenticated as a client.

use std::time::Duration;

use enclave::authenticate::AuthenticationError;
use enclave::authenticate::assertion::AssertionError;
use tonic::Code;

use super::{Clocks, Refusal};

impl From<&AuthenticationError> for Refusal {
    fn from(error: &AuthenticationError) -> Self {
        let message = match error {
            AuthenticationError::NoCertificate => {
                "connect with the client certificate whose key is registered, or send an assertion"
            }
            AuthenticationError::UnknownCertificate => {
                "neither the certificate's key nor its SPIFFE ID is registered for this"
            }
            AuthenticationError::TwoMethods => {
                return Self::argument("client_assertion", "one method of authentication only");
            }
            AuthenticationError::ClientId => {
                return Self::argument("client_id", "must be the client that authenticates");
            }
            AuthenticationError::Assertion(error) => return error.into(),
        };
        Self::new(Code::Unauthenticated, "INVALID_CLIENT", message).oauth("invalid_client")
    }
}

impl From<&AssertionError> for Refusal {
    fn from(error: &AssertionError) -> Self {
        let refused = |message: String| {
            Self::new(Code::Unauthenticated, "INVALID_CLIENT", message).oauth("invalid_client")
        };
        let skewed = |claimed_s: u64, server_s: u64| {
            refused(error.to_string()).clocks(Some(Clocks {
                claimed_s,
                server_s,
            }))
        };
        match error {
            AssertionError::Repeated => {
                Self::argument("client_assertion", "one client assertion only")
            }
            // Whether there is such a client, key or signature, a stranger does not
            // learn.
            AssertionError::NotText
            | AssertionError::Jws(_)
            | AssertionError::UnknownClient
            | AssertionError::UnknownKey => {
                refused("the client assertion is not one of a registered client".to_owned())
            }
            AssertionError::Type
            | AssertionError::Claims(_)
            | AssertionError::Subject
            | AssertionError::Audience
            | AssertionError::JtiLength => refused(error.to_string()),
            AssertionError::Replayed => refused(
                "the client assertion was used before: make a new one for each request".to_owned(),
            ),
            AssertionError::BeforeBoot { iat_s, boot_s } => skewed(*iat_s, *boot_s),
            AssertionError::Expired { exp_s, now_s } | AssertionError::TooLong { exp_s, now_s } => {
                skewed(*exp_s, *now_s)
            }
            AssertionError::FromFuture { iat_s, now_s }
            | AssertionError::TooOld { iat_s, now_s } => skewed(*iat_s, *now_s),
            AssertionError::NotYetValid { nbf_s, now_s } => skewed(*nbf_s, *now_s),
            AssertionError::Full => Self::new(
                Code::ResourceExhausted,
                "TOO_MANY_ASSERTIONS",
                "too many client assertions in this time span",
            )
            .oauth("slow_down")
            .retry(Duration::from_secs(60)),
        }
    }
}
