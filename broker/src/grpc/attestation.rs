//! `AttestationService`: evidence, the manifest and proof of a connection, for whoever asks.

use std::sync::Arc;

use attestation::{Endorsements, Evidence, Platform, Purpose};
use proto::v1;
use proto::v1::attestation_service_server::AttestationService;
use tonic::{Request, Response, Status};

use crate::events;
use crate::evidence::EvidenceDesk;
use crate::listener::Connection;
use crate::shell::Shell;
use crate::status::Refusal;

/// The service.
#[derive(Clone, Debug)]
pub struct Attestation {
    /// The enclave, whose instance key proves connections.
    pub shell: Arc<Shell>,
    /// Who gives evidence.
    pub desk: EvidenceDesk,
    /// The manifest and its signature, byte for byte.
    pub manifest: Arc<(Vec<u8>, Vec<u8>)>,
}

#[tonic::async_trait]
impl AttestationService for Attestation {
    async fn get_evidence(
        &self,
        request: Request<v1::GetEvidenceRequest>,
    ) -> Result<Response<v1::GetEvidenceResponse>, Status> {
        let request = request.into_inner();
        let nonce = <[u8; 32]>::try_from(request.nonce.as_slice())
            .map_err(|_| Refusal::argument("nonce", "must have 32 bytes"))?;
        let purpose = match request.purpose() {
            v1::Purpose::Server => Purpose::Server,
            v1::Purpose::Deposit => Purpose::Deposit,
            v1::Purpose::Unspecified => {
                return Err(Refusal::argument("purpose", "must be SERVER or DEPOSIT").into());
            }
        };
        let answer = self.desk.evidence(nonce, purpose).await.map_err(|error| {
            events::evidence_failed(&error);
            Refusal::from(&error)
        })?;
        let siblings = answer.path.siblings().iter().map(|hash| hash.to_vec());
        Ok(Response::new(v1::GetEvidenceResponse {
            evidence: Some(evidence(&answer.evidence)),
            key_bundle: answer.bundle.bytes.clone(),
            nonce_path: Some(v1::NoncePath {
                index: answer.path.index(),
                size: answer.path.tree_size(),
                siblings: siblings.collect(),
            }),
            purpose: request.purpose,
        }))
    }

    async fn get_manifest(
        &self,
        _request: Request<v1::GetManifestRequest>,
    ) -> Result<Response<v1::GetManifestResponse>, Status> {
        let (manifest, signature) = self.manifest.as_ref().clone();
        Ok(Response::new(v1::GetManifestResponse {
            manifest,
            signature,
        }))
    }

    async fn prove_connection(
        &self,
        request: Request<v1::ProveConnectionRequest>,
    ) -> Result<Response<v1::ProveConnectionResponse>, Status> {
        // Only the accept loop makes these facts: what is signed is never a caller's choice.
        let connection = request.extensions().get::<Connection>();
        let exporter = *connection.ok_or_else(Refusal::internal)?.channel_binding();
        let wanted = request.get_ref().key_bundle_sha256.as_slice().try_into();
        let proof = self
            .shell
            .enclave
            .prove_connection(wanted.ok().as_ref(), &exporter);
        let signature = proof.map_err(|_| Refusal::internal())?;
        Ok(Response::new(v1::ProveConnectionResponse { signature }))
    }
}

fn evidence(evidence: &Evidence) -> v1::Evidence {
    let platform = match evidence.platform {
        Platform::Snp => v1::Platform::SevSnp,
        Platform::Tdx => v1::Platform::Tdx,
    };
    let Endorsements { vek, ask, ark } = &evidence.endorsements;
    // A verifier reads them by their places: without the first there is none.
    let certificates = match vek {
        Some(vek) => [
            Some(vek),
            ask.as_ref(),
            ark.as_ref().filter(|_| ask.is_some()),
        ],
        None => [None; 3],
    };
    v1::Evidence {
        platform: platform.into(),
        report: evidence.report.clone(),
        certificates: certificates.into_iter().flatten().cloned().collect(),
        collateral: evidence.collateral.clone().unwrap_or_default(),
    }
}
