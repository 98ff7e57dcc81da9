//! `client`: registered workloads.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use jose::jwk::Jwk;
use proto::v1;
use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokenkeep::rpc_error::answer;
use tokenkeep::{AttestedChannel, private_file};

use super::missing;
use crate::cli::exit::manual;
use crate::cli::failure::Failure;
use crate::cli::limits::{self, LimitChange};
use crate::cli::output::Output;
use crate::cli::pages::all_pages;
use crate::cli::record::Record;

/// The longest certificate file that is read, bytes.
const MAX_CERTIFICATE_BYTES: usize = 64 * 1024;

/// The longest file of public keys that is read, bytes.
const MAX_JWKS_BYTES: usize = 64 * 1024;

/// Clients: the registered workloads of vendors
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Register a client by its TLS certificate, its SPIFFE ID or its public keys
    ///
    /// It authenticates by any one of them.
    #[command(after_long_help = manual!("  tokenkeep client create sync --vendor drift --tls-cert client.pem\n  tokenkeep client create sync --vendor drift --jwks jwks.json\n  tokenkeep client create sync --vendor drift --spiffe-id spiffe://drift.example/sync\n  tokenkeep client create assistant --vendor drift --tls-cert agent.pem --kind agent"))]
    Create {
        /// The id: 1 to 63 of a-z, 0-9 and single - inside
        id: String,
        /// The vendor that runs it
        #[arg(long)]
        vendor: String,
        /// Its TLS certificate, PEM; the SHA-256 of its public key is registered
        #[arg(long, value_name = "FILE", required_unless_present_any = ["jwks", "spiffe_id"])]
        tls_cert: Option<PathBuf>,
        /// Its public keys for private_key_jwt: a JWK Set or one JWK
        #[arg(long, value_name = "FILE")]
        jwks: Option<PathBuf>,
        /// The SPIFFE ID of its certificates, in a trust domain of the manifest
        #[arg(long, value_name = "ID")]
        spiffe_id: Option<String>,
        /// What it may do, whatever the grants are: tokens, calls or bytes, as calls=10/s:20 or bytes=5G/d; repeat for
        /// more
        #[arg(long = "limit", value_name = limits::FORM, value_parser = limits::limit_change)]
        limits: Vec<LimitChange>,
        /// What it is
        #[arg(long, value_enum, default_value = "service")]
        kind: Kind,
    },
    /// Change the keys that a client is recognised by, or its limits
    ///
    /// What no option names stays. When this returns, what was taken away is nobody's. To change a key for
    /// private_key_jwt without a gap, add the new one, let the client use it, remove the old one. Tokens that were
    /// issued before live to their end, at most 300 s: freeze the client to stop them at once.
    #[command(after_long_help = manual!("  tokenkeep client update sync --tls-cert new.pem\n  tokenkeep client update sync --add-jwks new.json\n  tokenkeep client update sync --remove-kid 2026-10\n  tokenkeep client update sync --limit calls=50/s:100"))]
    Update {
        /// The id
        id: String,
        #[command(flatten)]
        change: Change,
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

/// What changes of a client.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Change {
    /// Its new TLS certificate, PEM
    #[arg(long, value_name = "FILE", conflicts_with = "no_tls_cert")]
    tls_cert: Option<PathBuf>,
    /// It has no TLS certificate of its own any more
    #[arg(long)]
    no_tls_cert: bool,
    /// Its public keys, instead of all that it has: a JWK Set or one JWK
    #[arg(long, value_name = "FILE", conflicts_with_all = ["add_jwks", "remove_kids"])]
    jwks: Option<PathBuf>,
    /// Public keys beside those that it has: a JWK Set or one JWK
    #[arg(long, value_name = "FILE")]
    add_jwks: Option<PathBuf>,
    /// A key to take away, by its kid as `client show` prints it; repeat for more
    #[arg(long = "remove-kid", value_name = "KID")]
    remove_kids: Vec<String>,
    /// Its SPIFFE ID
    #[arg(long, value_name = "ID", conflicts_with = "no_spiffe_id")]
    spiffe_id: Option<String>,
    /// It has no SPIFFE ID any more
    #[arg(long)]
    no_spiffe_id: bool,
    /// What it may do, whatever the grants are, as calls=10/s:20 or calls=none; repeat for more
    #[arg(long = "limit", value_name = limits::FORM, value_parser = limits::limit_change)]
    limits: Vec<LimitChange>,
    /// What it is
    #[arg(long, value_enum)]
    kind: Option<Kind>,
}

/// What a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A program that does what it was written for
    Service,
    /// One that decides by itself what it does next, AI or other
    Agent,
}

impl Kind {
    const fn wire(self) -> v1::ClientKind {
        match self {
            Self::Service => v1::ClientKind::Service,
            Self::Agent => v1::ClientKind::Agent,
        }
    }
}

impl Change {
    fn apply(self, client: &mut v1::Client) -> Result<(), Failure> {
        let Self {
            tls_cert,
            no_tls_cert,
            jwks,
            add_jwks,
            remove_kids,
            spiffe_id,
            no_spiffe_id,
            limits: of_client,
            kind,
        } = self;
        if let Some(kind) = kind {
            client.set_kind(kind.wire());
        }
        limits::apply(of_client, &mut client.limits);
        if let Some(file) = tls_cert {
            client.tls_spki_sha256 = certificate_file(&file)?;
        } else if no_tls_cert {
            client.tls_spki_sha256.clear();
        }
        if let Some(file) = jwks {
            client.jwks = jwks_file(&file)?;
        }
        for kid in remove_kids {
            let before = client.jwks.len();
            client.jwks.retain(|jwk| !is_called(jwk, &kid));
            if client.jwks.len() == before {
                return Err(Failure::usage(
                    format!("the client has no key with the kid {kid:?}"),
                    format!("see its keys: tokenkeep client show {}", client.id),
                ));
            }
        }
        if let Some(file) = add_jwks {
            client.jwks.extend(jwks_file(&file)?);
        }
        if let Some(id) = spiffe_id {
            client.spiffe_id = id;
        } else if no_spiffe_id {
            client.spiffe_id.clear();
        }
        Ok(())
    }
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
                jwks,
                spiffe_id,
                limits: changes,
                kind,
            } => {
                let mut of_client = None;
                limits::apply(changes, &mut of_client);
                let request = v1::CreateClientRequest {
                    client: Some(v1::Client {
                        id,
                        vendor,
                        tls_spki_sha256: tls_cert
                            .map(|file| certificate_file(&file))
                            .transpose()?
                            .unwrap_or_default(),
                        jwks: jwks
                            .map(|file| jwks_file(&file))
                            .transpose()?
                            .unwrap_or_default(),
                        spiffe_id: spiffe_id.unwrap_or_default(),
                        limits: of_client,
                        kind: kind.wire().into(),
                    }),
                };
                let made = answer(registry.create_client(request)).await?.into_inner();
                output.record(&record(made.client.ok_or_else(|| missing("client"))?))
            }
            Self::Update { id, change } => {
                let request = v1::GetClientRequest { id };
                let found = answer(registry.get_client(request)).await?.into_inner();
                let mut client = found.client.ok_or_else(|| missing("client"))?;
                change.apply(&mut client)?;
                let request = v1::UpdateClientRequest {
                    client: Some(client),
                };
                let made = answer(registry.update_client(request)).await?.into_inner();
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

fn certificate_file(file: &Path) -> Result<Vec<u8>, Failure> {
    let pem = private_file::read_public(file, MAX_CERTIFICATE_BYTES)?;
    spki_sha256(&pem).ok_or_else(|| {
        Failure::usage(
            format!("{} is not PEM with a certificate", file.display()),
            "give the client's X.509 certificate",
        )
    })
}

fn jwks_file(file: &Path) -> Result<Vec<String>, Failure> {
    let text = private_file::read_public(file, MAX_JWKS_BYTES)?;
    public_keys(&text).map_err(|what| {
        Failure::usage(
            format!("{}: {what}", file.display()),
            "give public keys for ES256 or EdDSA, as a JWK Set or one JWK",
        )
    })
}

/// The keys of a JWK Set, or the one JWK. A private key is not even sent.
fn public_keys(text: &[u8]) -> Result<Vec<String>, String> {
    let whole: Value = serde_json::from_slice(text).map_err(|_| "it is not JSON".to_owned())?;
    let keys = match whole.get("keys") {
        Some(Value::Array(keys)) => keys.clone(),
        Some(_) => return Err("keys is no array".to_owned()),
        None => vec![whole],
    };
    keys.iter()
        .map(|key| {
            let key = key.to_string();
            Jwk::from_json(&key).map_err(|error| error.to_string())?;
            Ok(key)
        })
        .collect()
}

fn is_called(jwk: &str, kid: &str) -> bool {
    Jwk::from_json(jwk).is_ok_and(|jwk| jwk.kid.as_deref() == Some(kid))
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
        spiffe_id,
        limits: of_client,
        kind: number,
    } = client;
    let kind = match v1::ClientKind::try_from(number) {
        Ok(v1::ClientKind::Unspecified | v1::ClientKind::Service) => "service".to_owned(),
        Ok(v1::ClientKind::Agent) => "agent".to_owned(),
        Err(_) => format!("unknown ({number})"),
    };
    Record::new([
        ("id", json!(id)),
        ("vendor", json!(vendor)),
        ("kind", json!(kind)),
        ("tls_spki_sha256", json!(hex::encode(tls_spki_sha256))),
        ("spiffe_id", json!(spiffe_id)),
        ("jwks", json!(jwks)),
        ("limits", json!(limits::shown(of_client.as_ref()))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};

    const JWK: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","kid":"1"}"#;

    #[test]
    fn public_keys_come_from_a_set_or_alone() {
        assert_eq!(public_keys(JWK.as_bytes()).map(|keys| keys.len()), Ok(1));
        let set = format!("{{\"keys\":[{JWK}]}}");
        assert_eq!(public_keys(set.as_bytes()).map(|keys| keys.len()), Ok(1));
        let rows = [
            ("", "it is not JSON"),
            ("{\"keys\":1}", "keys is no array"),
            ("{\"kty\":\"oct\"}", "JWK key type is not supported"),
            (
                &JWK.replace("\"kid\"", "\"d\""),
                "JWK holds a private member",
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(public_keys(text.as_bytes()), Err(expected.to_owned()));
        }
    }

    #[test]
    fn what_no_option_names_stays() {
        let mut client = v1::Client {
            id: "sync".to_owned(),
            tls_spki_sha256: vec![1; 32],
            jwks: vec![JWK.to_owned()],
            ..Default::default()
        };
        let nothing = || Change {
            tls_cert: None,
            no_tls_cert: false,
            jwks: None,
            add_jwks: None,
            remove_kids: Vec::new(),
            spiffe_id: None,
            no_spiffe_id: false,
            limits: Vec::new(),
            kind: None,
        };
        let change = Change {
            no_tls_cert: true,
            spiffe_id: Some("spiffe://a.test/b".to_owned()),
            ..nothing()
        };
        change.apply(&mut client).unwrap();
        assert!(client.tls_spki_sha256.is_empty());
        assert_eq!(client.jwks, [JWK]);
        assert_eq!(client.spiffe_id, "spiffe://a.test/b");
        let change = Change {
            remove_kids: vec!["1".to_owned()],
            no_spiffe_id: true,
            ..nothing()
        };
        change.apply(&mut client).unwrap();
        assert!(client.jwks.is_empty() && client.spiffe_id.is_empty());
        let again = Change {
            remove_kids: vec!["1".to_owned()],
            ..nothing()
        };
        let said = again.apply(&mut client).unwrap_err().for_people();
        assert!(
            said.contains("the client has no key with the kid \"1\""),
            "{said}"
        );
    }

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
