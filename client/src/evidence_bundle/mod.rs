//! Evidence bundles: asked of an attested service, and verified offline by whoever has the file.

mod check;

use attestation::evidence_bundle::{MAX_BUNDLE_PARTS, MAX_BUNDLE_PARTS_BYTES};
use attestation::{BundlePart, EvidenceBundle, EvidenceBundleError, Nonce};
use proto::v1;
use proto::v1::make_evidence_bundle_response::What;

use crate::channel::AttestedChannel;
use crate::rpc_error::{RpcError, answer};

pub use check::{BundleCheck, BundleFindings, Contents, LogHead, check};

/// Why a service gave no evidence bundle.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It refused, or was not reached.
    #[error("the service gave no evidence bundle")]
    Rpc(#[from] RpcError),
    /// What it gave is none.
    #[error("what the service gave is no evidence bundle")]
    Bundle(#[from] EvidenceBundleError),
    /// Its messages came in another order than they must.
    #[error("the service's answer does not begin with one statement")]
    Order,
}

/// Asks for a bundle about a tenant, fresh for a nonce.
///
/// # Errors
/// [`FetchError`].
pub async fn fetch(
    channel: &AttestedChannel,
    tenant: &str,
    nonce: &Nonce,
) -> Result<EvidenceBundle, FetchError> {
    let request = v1::MakeEvidenceBundleRequest {
        tenant: tenant.to_owned(),
        nonce: nonce.to_vec(),
    };
    let answered = answer(channel.audit().make_evidence_bundle(request)).await?;
    let mut stream = answered.into_inner();
    let mut collected = Collected::default();
    while let Some(message) = stream.message().await.map_err(RpcError::from)? {
        collected.take(message)?;
    }
    collected.finish()
}

/// The messages of an answer so far.
#[derive(Debug, Default)]
struct Collected {
    statement: Option<v1::EvidenceStatement>,
    parts: Vec<BundlePart>,
    bytes: usize,
}

impl Collected {
    fn take(&mut self, message: v1::MakeEvidenceBundleResponse) -> Result<(), FetchError> {
        match (message.what, &self.statement) {
            (Some(What::Statement(statement)), None) => {
                self.statement = Some(statement);
                Ok(())
            }
            (Some(What::Part(part)), Some(_)) => Ok(self.piece(part)?),
            (Some(What::Statement(_)), Some(_)) | (Some(What::Part(_)), None) | (None, _) => {
                Err(FetchError::Order)
            }
        }
    }

    fn piece(&mut self, piece: v1::EvidencePart) -> Result<(), EvidenceBundleError> {
        let v1::EvidencePart { name, data } = piece;
        self.bytes = self.bytes.saturating_add(data.len());
        if self.bytes > MAX_BUNDLE_PARTS_BYTES {
            return Err(EvidenceBundleError::PartsTooLarge);
        }
        match self.parts.last_mut() {
            Some(last) if last.name == name => last.bytes.extend(data),
            Some(_) | None => {
                self.parts.push(BundlePart { name, bytes: data });
                let found = self.parts.len();
                if found > MAX_BUNDLE_PARTS {
                    return Err(EvidenceBundleError::Parts { found });
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<EvidenceBundle, FetchError> {
        let v1::EvidenceStatement { text, signature } = self.statement.ok_or(FetchError::Order)?;
        Ok(EvidenceBundle::assemble(text, &signature, self.parts)?)
    }
}

#[cfg(test)]
mod tests;
