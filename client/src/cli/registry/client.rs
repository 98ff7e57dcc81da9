//! `client`: registered workloads.

use std::path::PathBuf;

use clap::Subcommand;
use proto::v1;
use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::json;
use tokenkeep::rpc_error::answer;
use tokenkeep::{AttestedChannel, private_file};

use super::missing;
use crate::cli::exit::manual;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::pages::all_pages;
use crate::cli::record::Record;

/// The longest certificate file that is read, bytes.
const MAX_CERTIFICATE_BYTES: usize = 64 * 1024;

/// Clients: the registered workloads of vendors
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Register a client by its TLS certificate
    #[command(after_long_help = manual!("  tokenkeep client create sync --vendor drift --tls-cert client.pem"))]
    Create {
        /// The id: 1 to 63 of a-z, 0-9 and single - inside
        id: String,
        /// The vendor that runs it
        #[arg(long)]
        vendor: String,
        /// Its TLS certificate, PEM; the SHA-256 of its public key is registered
        #[arg(long, value_name = "FILE")]
        tls_cert: PathBuf,
    },
    /// List a vendor's clients
    #[command(after_long_help = manual!("  tokenkeep client list --vendor drift"))]
    List {
        /// The vendor
        #[arg(long)]
        vendor: String,
    },
    /// Show a client
    #[command(after_long_help = manual!("  tokenkeep client show sync"))]
    Show {
        /// The id
        id: String,
    },
}

impl ClientCommand {
    pub(crate) async fn run(
        self,
        channel: &AttestedChannel,
        output: Output,
    ) -> Result<(), Failure> {
        let mut registry = channel.registry();
        match self {
            Self::Create {
                id,
                vendor,
                tls_cert,
            } => {
                let pem = private_file::read_public(&tls_cert, MAX_CERTIFICATE_BYTES)?;
                let tls_spki_sha256 = spki_sha256(&pem).ok_or_else(|| {
                    Failure::usage(
                        format!("{} is not PEM with a certificate", tls_cert.display()),
                        "give the client's X.509 certificate",
                    )
                })?;
                let request = v1::CreateClientRequest {
                    client: Some(v1::Client {
                        id,
                        vendor,
                        tls_spki_sha256,
                        jwks: Vec::new(),
                    }),
                };
                let made = answer(registry.create_client(request)).await?.into_inner();
                output.record(&record(made.client.ok_or_else(|| missing("client"))?))
            }
            Self::List { vendor } => {
                let all = all_pages(async |page_token| {
                    let request = v1::ListClientsRequest {
                        vendor: vendor.clone(),
                        page_size: 0,
                        page_token,
                    };
                    let page = answer(registry.list_clients(request)).await?.into_inner();
                    Ok((page.clients, page.next_page_token))
                })
                .await?;
                let records: Vec<Record> = all.into_iter().map(record).collect();
                output.records("clients", &records)
            }
            Self::Show { id } => {
                let request = v1::GetClientRequest { id };
                let found = answer(registry.get_client(request)).await?.into_inner();
                output.record(&record(found.client.ok_or_else(|| missing("client"))?))
            }
        }
    }
}

/// SHA-256 of the SubjectPublicKeyInfo of the first certificate of a PEM file.
fn spki_sha256(pem: &[u8]) -> Option<Vec<u8>> {
    let certificate = CertificateDer::from_pem_slice(pem).ok()?;
    let certificate = webpki::EndEntityCert::try_from(&certificate).ok()?;
    let spki = certificate.subject_public_key_info();
    Some(digest(&SHA256, spki.as_ref()).as_ref().to_vec())
}

fn record(client: v1::Client) -> Record {
    let v1::Client {
        id,
        vendor,
        tls_spki_sha256,
        jwks,
    } = client;
    Record::new([
        ("id", json!(id)),
        ("vendor", json!(vendor)),
        ("tls_spki_sha256", json!(hex::encode(tls_spki_sha256))),
        ("jwks", json!(jwks)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};

    #[test]
    fn the_digest_is_that_of_the_certificates_public_key() {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["client".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let expected = digest(&SHA256, &key.subject_public_key_info());
        let found = spki_sha256(certificate.pem().as_bytes()).unwrap();
        assert_eq!(found, expected.as_ref());
        assert_eq!(spki_sha256(b""), None);
        assert_eq!(spki_sha256(key.serialize_pem().as_bytes()), None);
    }
}
