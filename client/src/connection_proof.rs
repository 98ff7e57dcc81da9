//! Proof that a connection ends inside the attested enclave, asked for before anything else is sent on it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use attestation::{
    BadSignature, EXPORTER_BYTES, EXPORTER_CONTEXT, EXPORTER_LABEL, P256PublicKey, verify_exporter,
};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use proto::v1::ProveConnectionRequest;
use proto::v1::attestation_service_client::AttestationServiceClient;
use tonic::Status;
use tonic::body::Body;

use crate::origin::Origin;
use crate::rpc_error::{self, RpcError, transport_status};
use crate::transport::TransportError;

/// The longest reply that is read, bytes: a signature has 64.
const MAX_REPLY_BYTES: usize = 1024;

/// Why a connection is not proved to end inside the enclave.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The connection has no exporter value.
    #[error("the connection has no exporter value")]
    NoExporter(#[source] rustls::Error),
    /// The peer gave no proof.
    #[error("the peer gave no proof")]
    Refused(#[source] RpcError),
    /// What it gave is not the instance key's signature over this connection.
    #[error("the proof is not of this connection by the enclave that was verified")]
    NotThisConnection(#[source] BadSignature),
}

impl ProofError {
    /// Whether the peer may only be out of reach, so that trying again makes sense.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Refused(error) => error.is_unavailable(),
            Self::NoExporter(_) | Self::NotThisConnection(_) => false,
        }
    }
}

/// Whose signature a connection must bear.
#[derive(Debug, Clone)]
pub(crate) struct Prover {
    instance_key: P256PublicKey,
    bundle_digest: [u8; 32],
}

impl Prover {
    /// The enclave with this instance key and key bundle.
    pub(crate) const fn new(instance_key: P256PublicKey, bundle_digest: [u8; 32]) -> Self {
        Self {
            instance_key,
            bundle_digest,
        }
    }

    /// Asks the peer of a new connection for its proof and checks it.
    ///
    /// # Errors
    /// [`ProofError`].
    pub(crate) async fn demand(
        &self,
        exporter: &[u8; EXPORTER_BYTES],
        origin: &Origin,
        sender: SendRequest<Body>,
    ) -> Result<(), ProofError> {
        let connection = OneConnection {
            sender,
            origin: origin.clone(),
        };
        let mut client = AttestationServiceClient::with_origin(connection, origin.uri())
            .max_decoding_message_size(MAX_REPLY_BYTES);
        let request = ProveConnectionRequest {
            key_bundle_sha256: self.bundle_digest.to_vec(),
        };
        let reply = rpc_error::answer(client.prove_connection(request))
            .await
            .map_err(ProofError::Refused)?
            .into_inner();
        verify_exporter(
            &self.instance_key,
            &self.bundle_digest,
            exporter,
            &reply.signature,
        )
        .map_err(ProofError::NotThisConnection)
    }
}

/// The exporter value of a connection whose handshake is done [RFC 9266 §4].
///
/// # Errors
/// [`ProofError::NoExporter`].
pub(crate) fn exporter(
    session: &rustls::ClientConnection,
) -> Result<[u8; EXPORTER_BYTES], ProofError> {
    session
        .export_keying_material([0; EXPORTER_BYTES], EXPORTER_LABEL, Some(EXPORTER_CONTEXT))
        .map_err(ProofError::NoExporter)
}

/// The one connection to be proved: never another in its stead.
#[derive(Clone)]
struct OneConnection {
    sender: SendRequest<Body>,
    origin: Origin,
}

impl tower::Service<http::Request<Body>> for OneConnection {
    type Response = http::Response<Incoming>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Self { mut sender, origin } = self.clone();
        Box::pin(async move {
            sender
                .send_request(request)
                .await
                .map_err(|error| transport_status(TransportError::Http { origin, error }))
        })
    }
}
