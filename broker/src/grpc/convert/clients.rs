//! Clients.

use enclave::admin::AdminError;
use enclave::registry::{Client, ClientKey, ClientKind};
use enclave::spiffe::SpiffeId;
use proto::v1;

use super::{client_id, limits, limits_message, vendor_id};

/// Reads a message as a client.
///
/// # Errors
/// [`AdminError`].
pub fn client(message: v1::Client) -> Result<Client, AdminError> {
    let spki = match message.tls_spki_sha256.as_slice() {
        [] => None,
        spki => Some(spki.try_into().map_err(|_| AdminError::Field {
            field: "client.tls_spki_sha256",
            rule: "must have 32 bytes",
        })?),
    };
    Ok(Client {
        id: client_id("client.id", &message.id)?,
        vendor: vendor_id("client.vendor", &message.vendor)?,
        tls_spki_sha256: spki,
        jwks: client_keys(&message.jwks)?,
        spiffe_id: spiffe_id(&message.spiffe_id)?,
        limits: limits(message.limits),
        kind: client_kind(message.kind)?,
    })
}

fn client_kind(number: i32) -> Result<ClientKind, AdminError> {
    match v1::ClientKind::try_from(number) {
        Ok(v1::ClientKind::Unspecified | v1::ClientKind::Service) => Ok(ClientKind::Service),
        Ok(v1::ClientKind::Agent) => Ok(ClientKind::Agent),
        Err(_) => Err(AdminError::Field {
            field: "client.kind",
            rule: "unknown value",
        }),
    }
}

fn spiffe_id(text: &str) -> Result<Option<SpiffeId>, AdminError> {
    if text.is_empty() {
        return Ok(None);
    }
    SpiffeId::parse(text)
        .map(Some)
        .map_err(|_| AdminError::Field {
            field: "client.spiffe_id",
            rule: "must be spiffe://TRUST-DOMAIN/PATH, as the workload's certificate has it",
        })
}

/// The bound comes before the parsing.
fn client_keys(jwks: &[String]) -> Result<Vec<ClientKey>, AdminError> {
    const MAX_READ: usize = 64;
    jwks.iter()
        .take(MAX_READ)
        .map(|jwk| {
            ClientKey::from_json(jwk).map_err(|_| AdminError::Field {
                field: "client.jwks",
                rule: "each a public JWK for P-256 or Ed25519 signatures, as JSON",
            })
        })
        .collect()
}

/// The message for a client.
#[must_use]
pub fn client_message(client: Client) -> v1::Client {
    v1::Client {
        id: client.id.into(),
        vendor: client.vendor.into(),
        tls_spki_sha256: client.tls_spki_sha256.map(Vec::from).unwrap_or_default(),
        jwks: client.jwks.iter().map(ClientKey::to_json).collect(),
        spiffe_id: client.spiffe_id.map(Into::into).unwrap_or_default(),
        limits: limits_message(client.limits),
        kind: match client.kind {
            ClientKind::Service => v1::ClientKind::Service,
            ClientKind::Agent => v1::ClientKind::Agent,
        }
        .into(),
    }
}
