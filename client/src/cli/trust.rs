//! `trust` and `jwks export`: keys of a verified enclave, for programs that cannot verify it themselves.

use attestation::TokenKey;
use clap::{Args, Subcommand};
use pem::certificate_pem;
use serde_json::json;
use tokenkeep::AttestedChannel;

use super::exit::manual;
use super::failure::Failure;
use super::output::Output;
use super::verify::fingerprint;

/// Keys that sign access tokens
#[derive(Debug, Subcommand)]
pub(crate) enum JwksCommand {
    /// Print the verified keys as a JWK set, for resource servers
    ///
    /// The keys come from evidence that was accepted, not from a web certificate that the host could obtain.
    #[command(after_long_help = manual!("  tokenkeep jwks export --verified --server https://keep.example:8443 \\\n      --policy policy.toml > jwks.json"))]
    Export(ExportArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Say that you want keys of accepted evidence; there are no others
    #[arg(long, required = true)]
    verified: bool,
}

/// Prints the certificates of the enclave's CA, and of one that is to take its place.
pub(crate) fn trust(channel: &AttestedChannel, output: Output) -> Result<(), Failure> {
    let bundle = channel.bundle();
    // One that is to take over is trusted from now on, so that nothing breaks when it does.
    let pem: String = bundle.authorities().map(certificate_pem).collect();
    if output.is_json() {
        let sha256: Vec<_> = bundle.authorities().map(fingerprint).collect();
        return output
            .json(&json!({"ca_pem": pem, "sha256": sha256.first(), "all_sha256": sha256}));
    }
    output.bytes(pem.as_bytes()).map(|_open| ())
}

/// Prints the token keys.
pub(crate) fn jwks(channel: &AttestedChannel, output: Output) -> Result<(), Failure> {
    let keys: Vec<_> = channel
        .bundle()
        .token_keys
        .iter()
        .map(TokenKey::jwk)
        .collect();
    // A JWK set is JSON for people and programs alike.
    output.json(&json!({"keys": keys}))
}

mod pem {
    //! PEM of a certificate [RFC 7468 §5].

    use base64ct::{Base64, Encoding as _};

    const LINE_CHARS: usize = 64;

    pub(super) fn certificate_pem(der: &[u8]) -> String {
        let base64 = Base64::encode_string(der);
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        let mut rest = base64.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at_checked(LINE_CHARS).unwrap_or((rest, ""));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use rustls_pki_types::CertificateDer;
        use rustls_pki_types::pem::PemObject as _;

        #[test]
        fn the_certificate_comes_back() {
            for length in [1, 47, 48, 49, 700] {
                let der = vec![0xA5; length];
                let pem = certificate_pem(&der);
                let back = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
                assert_eq!(back.as_ref(), der.as_slice());
                assert!(pem.lines().all(|line| line.len() <= LINE_CHARS));
            }
        }
    }
}
