//! Authentication: who calls. What they may do is decided elsewhere.
//!
//! A client shows a certificate whose key is registered [RFC 8705 §2.2] or whose
//! SPIFFE ID is, or an assertion that a registered key signed [RFC 7523 §2.2];
//! never a shared secret.
//! A client is authenticated when its assertion, if it sent one, is spent: that
//! comes last, after all else that a request must prove.

pub mod assertion;
mod spent;

use std::net::IpAddr;
use std::sync::Arc;

use thiserror::Error;

use crate::registry::Client;
use crate::spiffe::SpiffeId;
use crate::time::Now;
use crate::view::{Held, View};

use assertion::{Assertion, AssertionError, Rules};
pub(crate) use spent::SpentAssertions;

/// What the transport proved about the peer: it holds the private key of this
/// certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// SHA-256 of the SubjectPublicKeyInfo of the peer's certificate, if it sent
    /// one.
    pub spki_sha256: Option<[u8; 32]>,
    /// SHA-256 of that certificate, over its DER.
    pub certificate_sha256: Option<[u8; 32]>,
    /// The SPIFFE ID that its trust domain's authority vouches for.
    pub spiffe_id: Option<SpiffeId>,
    /// Where it connected from, or the load balancer before it. The host could lie
    /// about it.
    pub address: Option<IpAddr>,
}

/// What a caller shows to be recognised as a client.
#[derive(Clone, Default)]
pub struct Credentials<'a> {
    /// What the transport proved.
    pub peer: Peer,
    /// The assertions that came with the request; one at most is allowed.
    pub assertions: Vec<&'a [u8]>,
    /// The `client_id` that the request names, if it names one.
    pub client_id: Option<&'a str>,
}

impl std::fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("peer", &self.peer)
            .field("assertions", &self.assertions.len())
            .field("client_id", &self.client_id)
            .finish()
    }
}

/// Why a caller was not recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AuthenticationError {
    /// The connection has no client certificate, and there is no assertion.
    #[error("the connection has no client certificate")]
    NoCertificate,
    /// Neither the certificate's key nor its SPIFFE ID is registered for this use.
    #[error("neither the certificate's key nor its SPIFFE ID is registered")]
    UnknownCertificate,
    /// A registered certificate and an assertion at once [RFC 6749 §2.3], or a
    /// certificate whose key is one client's and whose SPIFFE ID another's.
    #[error("more than one method of authentication")]
    TwoMethods,
    /// The request's `client_id` is not the client that was authenticated.
    #[error("the client_id is not the authenticated client")]
    ClientId,
    /// The assertion is refused.
    #[error(transparent)]
    Assertion(#[from] AssertionError),
}

/// A client whose credentials hold, but whose assertion is not yet spent.
#[derive(Debug)]
#[must_use = "spend the assertion"]
pub(crate) struct Caller {
    client: Arc<Client>,
    assertion: Option<Assertion>,
}

/// An authenticated client. Only this module makes one.
///
/// ```compile_fail
/// fn forge(client: std::sync::Arc<enclave::registry::Client>) -> enclave::authenticate::Authenticated {
///     enclave::authenticate::Authenticated { client } // private
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Authenticated {
    client: Arc<Client>,
}

impl Authenticated {
    /// Who it is.
    #[must_use]
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// As [`client`](Self::client), to be kept.
    pub(crate) fn into_client(self) -> Arc<Client> {
        self.client
    }
}

impl Caller {
    /// Who it is.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Spends the assertion, if there is one: of two uses, one is refused.
    pub(crate) fn enter(
        self,
        spent: &SpentAssertions,
        now: &Now,
    ) -> Result<Authenticated, AuthenticationError> {
        let Self { client, assertion } = self;
        if let Some(assertion) = assertion {
            spent.spend(&client.id, &assertion, now)?;
        }
        Ok(Authenticated { client })
    }
}

/// The client that shows these credentials.
pub(crate) fn caller(
    view: &View,
    credentials: &Credentials<'_>,
    rules: &Rules<'_>,
) -> Result<Caller, AuthenticationError> {
    let Credentials {
        peer,
        assertions,
        client_id,
    } = credentials;
    let by_certificate = by_certificate(view, peer)?;
    let caller = if assertions.is_empty() {
        if peer.spki_sha256.is_none() {
            return Err(AuthenticationError::NoCertificate);
        }
        let held = by_certificate.ok_or(AuthenticationError::UnknownCertificate)?;
        Caller {
            client: Arc::clone(&held.value),
            assertion: None,
        }
    } else {
        if by_certificate.is_some() {
            return Err(AuthenticationError::TwoMethods);
        }
        let (client, assertion) = assertion::check(view, assertions, rules)?;
        Caller {
            client,
            assertion: Some(assertion),
        }
    };
    if client_id.is_some_and(|named| named != caller.client.id.as_str()) {
        return Err(AuthenticationError::ClientId);
    }
    Ok(caller)
}

/// The client that a certificate names, by its key or its SPIFFE ID.
pub(crate) fn by_certificate<'a>(
    view: &'a View,
    peer: &Peer,
) -> Result<Option<&'a Held<Client>>, AuthenticationError> {
    let by_key = peer
        .spki_sha256
        .and_then(|spki| view.clients_by_spki.get(&spki));
    let by_spiffe_id = peer
        .spiffe_id
        .as_ref()
        .and_then(|id| view.clients_by_spiffe_id.get(id));
    match (by_key, by_spiffe_id) {
        (Some(one), Some(other)) if one != other => Err(AuthenticationError::TwoMethods),
        (Some(id), _) | (None, Some(id)) => Ok(view.clients.get(id)),
        (None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests;
