//! `KeyService`: the keys that the enclave speaks with, and tenants' keys.

use std::sync::Arc;

use enclave::keys::KeyState;
use enclave::keys::ring::KeyKind;
use proto::v1;
use proto::v1::key_service_server::KeyService;
use tonic::{Request, Response, Status};

use crate::events;
use crate::grpc::administrator::{caller, refuse};
use crate::grpc::convert;
use crate::shell::Shell;
use crate::status::Refusal;

/// The service.
#[derive(Debug)]
pub struct Keys {
    /// The enclave and what it needs.
    pub shell: Arc<Shell>,
}

#[tonic::async_trait]
impl KeyService for Keys {
    async fn list_keys(
        &self,
        request: Request<v1::ListKeysRequest>,
    ) -> Result<Response<v1::ListKeysResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let tenant = convert::optional_tenant("tenant", &request.get_ref().tenant);
        let tenant = tenant.map_err(refuse)?;
        let keys = self.shell.enclave.key_states(by, tenant.as_ref());
        Ok(Response::new(v1::ListKeysResponse {
            keys: messages(keys.map_err(refuse)?),
        }))
    }

    async fn rotate_key(
        &self,
        request: Request<v1::RotateKeyRequest>,
    ) -> Result<Response<v1::RotateKeyResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let message = request.get_ref();
        let kind = match message.kind() {
            v1::KeyKind::Unspecified => {
                let rule = "must be SIGNING, CA, DEPOSIT, LOG or TENANT";
                return Err(Refusal::argument("kind", rule).into());
            }
            v1::KeyKind::Signing => Some(KeyKind::Signing),
            v1::KeyKind::Ca => Some(KeyKind::Ca),
            v1::KeyKind::Deposit => Some(KeyKind::Deposit),
            v1::KeyKind::Log => Some(KeyKind::Log),
            v1::KeyKind::Tenant => None,
        };
        let now = self.shell.clock.now();
        let enclave = &self.shell.enclave;
        let pending = match kind {
            Some(_) if !message.tenant.is_empty() => {
                return Err(Refusal::argument("tenant", "is for the kind TENANT").into());
            }
            Some(kind) => enclave.rotate_key(by, kind, message.overlap_s, &now),
            None if message.overlap_s.is_some() => {
                let rule = "a tenant's earlier keys stay: there is no overlap";
                return Err(Refusal::argument("overlap_s", rule).into());
            }
            None => {
                let tenant = convert::tenant_id("tenant", &message.tenant).map_err(refuse)?;
                enclave.rotate_tenant_key(by, &tenant, &now)
            }
        };
        let keys = self.shell.settle(pending.map_err(refuse)?).await?;
        events::key_rotated(kind.map_or("tenant", KeyKind::as_str), &by.name);
        Ok(Response::new(v1::RotateKeyResponse {
            keys: messages(keys),
        }))
    }
}

fn messages(keys: Vec<KeyState>) -> Vec<v1::Key> {
    keys.into_iter().map(message).collect()
}

fn message(key: KeyState) -> v1::Key {
    let KeyState {
        kind,
        number,
        state,
        id,
        made_at_s,
        until_s,
    } = key;
    let kind = match kind {
        "signing" => v1::KeyKind::Signing,
        "ca" => v1::KeyKind::Ca,
        "deposit" => v1::KeyKind::Deposit,
        "log" => v1::KeyKind::Log,
        _ => v1::KeyKind::Tenant,
    };
    v1::Key {
        kind: kind.into(),
        number,
        state: state.to_owned(),
        id,
        made_at_s,
        until_s,
    }
}
