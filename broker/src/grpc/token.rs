//! `TokenService`: access tokens for clients.

use std::sync::Arc;

use enclave::authenticate::Peer;
use enclave::issue::{IssueError, IssueRequest, Issued};
use enclave::nonce::Role;
use enclave::store::StoreError;
use proto::v1;
use proto::v1::token_service_server::TokenService;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Request, Response, Status};

use crate::events;
use crate::grpc::convert::peer;
use crate::shell::Shell;
use crate::status::Refusal;

/// The metadata with the proof.
const DPOP: &str = "dpop";

/// The metadata with the nonce to use next.
const DPOP_NONCE: &str = "dpop-nonce";

/// The service.
#[derive(Debug)]
pub struct Token {
    /// The enclave and what it needs.
    pub shell: Arc<Shell>,
}

enum Failure {
    Issue(IssueError),
    Store(StoreError),
}

impl Token {
    async fn issue(
        &self,
        peer: Peer,
        metadata: &MetadataMap,
        request: &v1::IssueTokenRequest,
    ) -> Result<Issued, Failure> {
        let proofs = metadata
            .get_all(DPOP)
            .iter()
            .map(AsciiMetadataValue::as_encoded_bytes)
            .collect();
        let request = IssueRequest {
            peer,
            proofs,
            grant: &request.grant,
            resource: &request.resource,
            scopes: &request.scopes,
        };
        let enclave = &self.shell.enclave;
        let pending = enclave
            .issue(&request, &self.shell.clock.now())
            .map_err(Failure::Issue)?;
        let durable = pending
            .commit(&*self.shell.store)
            .await
            .map_err(Failure::Store)?;
        enclave
            .release(durable)
            .map_err(|denied| Failure::Issue(denied.into()))
    }
}

#[tonic::async_trait]
impl TokenService for Token {
    async fn issue_token(
        &self,
        request: Request<v1::IssueTokenRequest>,
    ) -> Result<Response<v1::IssueTokenResponse>, Status> {
        let peer = peer(&request);
        let (metadata, _, message) = request.into_parts();
        let issued = self.issue(peer, &metadata, &message).await;
        let nonce = self
            .shell
            .enclave
            .dpop_nonce(Role::Token, &self.shell.clock.now());
        // A nonce is base64url, so this is always a metadata value.
        let nonce = AsciiMetadataValue::try_from(nonce).ok();
        match issued {
            Ok(issued) => {
                events::token_issued(&issued);
                let mut response = Response::new(v1::IssueTokenResponse {
                    access_token: issued.access_token,
                    token_type: "DPoP".to_owned(),
                    expires_in_s: u32::try_from(issued.expires_in_s).unwrap_or(u32::MAX),
                    scopes: issued.scopes.into(),
                    resource: issued.resource,
                    mode: v1::TokenMode::Minted.into(),
                });
                if let Some(nonce) = nonce {
                    response.metadata_mut().insert(DPOP_NONCE, nonce);
                }
                Ok(response)
            }
            Err(failure) => {
                let refusal = match &failure {
                    Failure::Issue(error) => Refusal::from(error),
                    Failure::Store(error) => Refusal::from(error),
                };
                events::token_refused(&refusal);
                let mut status = refusal.status();
                if let Some(nonce) = nonce {
                    status.metadata_mut().insert(DPOP_NONCE, nonce);
                }
                Err(status)
            }
        }
    }
}
