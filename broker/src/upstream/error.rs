//! Why an outgoing request failed, and how far it got.

use http::StatusCode;
use std::io;
use thiserror::Error;

use super::address::AddressClass;
use super::origin::OriginError;

/// Why an outgoing request failed. None holds anything of the request.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum UpstreamError {
    /// No byte of the request left: whoever it was for has not seen it.
    #[error("the request was not sent")]
    NotSent {
        /// Why.
        #[source]
        why: NotSent,
    },
    /// The request may have been seen and acted upon.
    #[error("the request was sent and its outcome is not known")]
    Ambiguous {
        /// Why.
        #[source]
        why: Ambiguous,
    },
}

/// Why a request was certainly not sent.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum NotSent {
    /// The URL names no origin that we connect to.
    #[error("the URL can't be used")]
    Origin {
        /// Why.
        #[source]
        source: OriginError,
    },
    /// A header or the URL can't be put into a request.
    #[error("the request is malformed")]
    Request,
    /// The name has no address.
    #[error("the name can't be resolved ({kind})")]
    Resolve {
        /// The kind of the failure.
        kind: io::ErrorKind,
    },
    /// The name's addresses are all of kinds that are not connected to.
    #[error("the name's address is {class}")]
    Address {
        /// The class of the first one.
        class: AddressClass,
    },
    /// Plain HTTP to anything but loopback.
    #[error("plain HTTP to another machine")]
    PlainText,
    /// No address took the connection.
    #[error("no connection ({kind})")]
    Connect {
        /// The kind of the last failure.
        kind: io::ErrorKind,
    },
    /// The server's certificate is not good.
    #[error("the server's certificate is not good: {why}")]
    Certificate {
        /// What is wrong with it.
        why: rustls::CertificateError,
    },
    /// The TLS handshake failed for another reason.
    #[error("no TLS ({kind})")]
    Tls {
        /// The kind of the failure.
        kind: io::ErrorKind,
    },
    /// The deadline passed before there was a connection.
    #[error("no connection in time")]
    Deadline,
}

/// Why it is not known what became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Ambiguous {
    /// The connection broke, or what came back is not HTTP.
    #[error("no answer")]
    NoAnswer,
    /// The deadline passed before the answer was whole.
    #[error("no whole answer in time")]
    Deadline,
    /// The answer's body ended early.
    #[error("the body of an answer {status} ended early")]
    Truncated {
        /// The answer's status.
        status: StatusCode,
    },
    /// The answer's body is over the bound.
    #[error("the body of an answer {status} is too large")]
    TooLarge {
        /// The answer's status.
        status: StatusCode,
    },
}

impl From<NotSent> for UpstreamError {
    fn from(why: NotSent) -> Self {
        Self::NotSent { why }
    }
}

impl From<Ambiguous> for UpstreamError {
    fn from(why: Ambiguous) -> Self {
        Self::Ambiguous { why }
    }
}
