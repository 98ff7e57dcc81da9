//! An evidence bundle on its way to the caller: the statement, then the parts in pieces that fit into messages.

use std::pin::Pin;

use attestation::BundlePart;
use enclave::keys::instance::SignedStatement;
use futures_util::Stream;
use proto::v1;
use proto::v1::make_evidence_bundle_response::What;
use tonic::Status;

use super::outlet::outlet;
use crate::evidence_bundle::MadeBundle;
use crate::listener::ShutdownSignal;
use crate::places::Place;
use crate::status::Refusal;

/// Bytes of a part in one message: well below what a gRPC client takes by default.
const PIECE_BYTES: usize = 256 * 1024;

/// Messages that may wait for a slow reader.
const QUEUE_MESSAGES: usize = 2;

/// The answer's messages.
pub(super) type BundleStream =
    Pin<Box<dyn Stream<Item = Result<v1::MakeEvidenceBundleResponse, Status>> + Send>>;

/// The messages of a bundle. `place` is given back when the last one is on its way, or nobody reads.
pub(super) fn stream(made: MadeBundle, place: Place, mut stop: ShutdownSignal) -> BundleStream {
    let MadeBundle {
        statement: SignedStatement { text, signature },
        parts,
    } = made;
    let (out, stream) = outlet(QUEUE_MESSAGES, Refusal::slow_bundle_reader);
    tokio::spawn(async move {
        let _held = place;
        let first = What::Statement(v1::EvidenceStatement { text, signature });
        let pieces = parts.into_iter().flat_map(pieces).map(What::Part);
        for what in std::iter::once(first).chain(pieces) {
            let message = v1::MakeEvidenceBundleResponse { what: Some(what) };
            let sent = tokio::select! {
                () = stop.begun() => return out.end(Refusal::stopping()),
                sent = out.send(message) => sent,
            };
            if !sent {
                return;
            }
        }
    });
    Box::pin(stream)
}

/// A part in pieces; an empty one is one empty piece.
fn pieces(part: BundlePart) -> impl Iterator<Item = v1::EvidencePart> {
    let BundlePart { name, bytes } = part;
    let count = bytes.len().div_ceil(PIECE_BYTES).max(1);
    (0..count).map(move |number| {
        let from = number.saturating_mul(PIECE_BYTES);
        let to = from.saturating_add(PIECE_BYTES).min(bytes.len());
        v1::EvidencePart {
            name: name.clone(),
            data: bytes.get(from..to).unwrap_or_default().to_vec(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_put_together_are_the_part() {
        for length in [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES] {
            let bytes: Vec<u8> = (0..length)
                .map(|at| u8::try_from(at % 251).unwrap())
                .collect();
            let part = BundlePart {
                name: "sbom.cdx.json".to_owned(),
                bytes: bytes.clone(),
            };
            let found: Vec<v1::EvidencePart> = pieces(part).collect();
            assert_eq!(found.len(), length.div_ceil(PIECE_BYTES).max(1));
            assert!(found.iter().all(|piece| piece.name == "sbom.cdx.json"));
            let again: Vec<u8> = found.into_iter().flat_map(|piece| piece.data).collect();
            assert_eq!(again, bytes);
        }
    }
}
