//! The certificates beside a report: DER or PEM, apart or in one file.

use std::path::{Path, PathBuf};

use attestation::Endorsements;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::{Failure, MAX_PART_BYTES, bounded};

/// The names that a VEK goes by; the first that is there counts.
const VEK: [&str; 6] = [
    "vek.der", "vek.pem", "vcek.der", "vcek.pem", "vlek.der", "vlek.pem",
];
/// Those of the certificate that signed it.
const ASK: [&str; 4] = ["ask.der", "ask.pem", "asvk.der", "asvk.pem"];
/// Those of the root.
const ARK: [&str; 2] = ["ark.der", "ark.pem"];
/// What AMD's service hands out beside a VEK: the signing key, then the root.
const CHAIN: &str = "cert_chain.pem";

/// A file that has more than any certificate.
#[derive(Debug)]
pub(super) struct TooLong(pub(super) PathBuf);

/// Reads what is there; none of it is verified.
pub(super) fn beside(folder: &Path) -> Result<Result<Endorsements, TooLong>, Failure> {
    let mut found = [Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    for (slot, names) in found
        .iter_mut()
        .zip([&VEK[..], &ASK, &ARK, std::slice::from_ref(&CHAIN)])
    {
        let files = names.iter().map(|name| folder.join(name));
        if let Some(file) = files.into_iter().find(|file| file.is_file()) {
            let Some(bytes) = bounded(&file, MAX_PART_BYTES)? else {
                return Ok(Err(TooLong(file)));
            };
            *slot = parts(bytes);
        }
    }
    let [veks, asks, arks, chain] = found;
    let mut veks = veks.into_iter();
    let vek = veks.next();
    // A file of its own counts before what follows the VEK, and that before the chain.
    let mut above = veks.chain(chain);
    let ask = asks.into_iter().next().or_else(|| above.next());
    let ark = arks.into_iter().next().or_else(|| above.next());
    Ok(Ok(Endorsements { vek, ask, ark }))
}

/// The certificates of a file. What is no PEM is taken for DER: whether it is, the verifier says.
fn parts(bytes: Vec<u8>) -> Vec<Vec<u8>> {
    if !bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
        return vec![bytes];
    }
    let read: Result<Vec<CertificateDer<'_>>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => {
            certificates.iter().map(|der| der.to_vec()).collect()
        }
        Ok(_) | Err(_) => vec![bytes],
    }
}
