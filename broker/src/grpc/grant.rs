//! `GrantService`: deposits, grants and their end, freezes, for tenants'
//! administrators.

use std::sync::Arc;

use enclave::admin::{AdminError, DepositRequest, FreezeRequest};
use enclave::connect::{ConnectBegun, ConnectRequest};
use enclave::pending::Pending;
use proto::v1;
use proto::v1::grant_service_server::GrantService;
use tonic::{Code, Request, Response, Status};

use crate::events;
use crate::grpc::administrator::{caller, refuse};
use crate::grpc::awaiting::awaited;
use crate::grpc::connecting::Connecting;
use crate::grpc::convert::{self, Completion};
use crate::grpc::rotating::{Deposited, Rotating};
use crate::refresher::Refresher;
use crate::room::waits;
use crate::shell::Shell;
use crate::status::Refusal;

/// The service.
#[derive(Debug)]
pub struct Grants {
    /// The enclave and what it needs.
    pub shell: Arc<Shell>,
    /// Exchanges with providers.
    pub refresher: Arc<Refresher>,
}

/// How often a change is made again that an exchange was faster than. An exchange
/// has three steps that write.
const TRIES: usize = 8;

impl Grants {
    fn connecting(&self) -> Connecting {
        Connecting {
            shell: Arc::clone(&self.shell),
            refresher: Arc::clone(&self.refresher),
        }
    }

    /// Makes a change that must not wait for an exchange that is under way: each of
    /// its steps can be faster once.
    async fn outpace<T: Send + 'static>(
        &self,
        change: impl Fn() -> Result<Pending<T>, AdminError>,
    ) -> Result<T, Status> {
        for _ in 1..TRIES {
            match self.shell.settle(change().map_err(refuse)?).await {
                Err(refusal) if refusal.code == Code::Aborted => {
                    // The step is durable; its effect is there in a moment.
                    tokio::task::yield_now().await;
                }
                settled => return Ok(settled?),
            }
        }
        Ok(self.shell.settle(change().map_err(refuse)?).await?)
    }
}

#[tonic::async_trait]
impl GrantService for Grants {
    async fn deposit_grant(
        &self,
        request: Request<v1::DepositGrantRequest>,
    ) -> Result<Response<v1::DepositGrantResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        if !request.get_ref().leave_unrotated {
            waits(request.extensions()).map_err(Refusal::from)?;
        }
        let message = request.into_inner();
        let grant = convert::present("grant", message.grant)
            .and_then(convert::grant)
            .map_err(refuse)?;
        let deposit = DepositRequest {
            grant,
            sealed_refresh_token: &message.sealed_refresh_token,
            rotate: !message.leave_unrotated,
            only_new: message.only_new,
        };
        let pending = self
            .shell
            .enclave
            .deposit(by, deposit, &self.shell.clock.now())
            .map_err(refuse)?;
        let (by, leave_unrotated) = (by.clone(), message.leave_unrotated);
        let (shell, refresher) = (Arc::clone(&self.shell), Arc::clone(&self.refresher));
        // A caller that hangs up does not leave the token as it was.
        let deposited = self.shell.afterwards.spawn(async move {
            let view = shell.settle(pending).await?;
            events::grant_deposited(&view.grant, &by.name);
            if leave_unrotated {
                return Ok::<_, Refusal>(Deposited::left(view));
            }
            let rotating = Rotating { shell, refresher };
            Ok(rotating.run(by, view).await)
        });
        let deposited = deposited
            .await
            .map_err(|_torn_down| Status::internal("the deposit was torn down"))??;
        Ok(Response::new(deposited.into_message()))
    }

    async fn begin_connect(
        &self,
        request: Request<v1::BeginConnectRequest>,
    ) -> Result<Response<v1::BeginConnectResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let message = request.into_inner();
        let grant = convert::present("grant", message.grant)
            .and_then(convert::grant)
            .map_err(refuse)?;
        let redirect_uri = message.redirect_uri;
        let asked = ConnectRequest {
            grant,
            redirect_uri: (!redirect_uri.is_empty()).then_some(redirect_uri),
        };
        let now = self.shell.clock.now();
        let begun = self.shell.enclave.begin_connect(by, asked, &now);
        let ConnectBegun {
            authorization_url,
            state,
            redirect_uri,
            expires_in_s,
        } = begun.map_err(refuse)?;
        Ok(Response::new(v1::BeginConnectResponse {
            authorization_url,
            state,
            expires_in_s: u32::try_from(expires_in_s).unwrap_or(u32::MAX),
            redirect_uri,
        }))
    }

    async fn complete_connect(
        &self,
        request: Request<v1::CompleteConnectRequest>,
    ) -> Result<Response<v1::CompleteConnectResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let by = by.clone();
        waits(request.extensions()).map_err(Refusal::from)?;
        let completion = convert::completion(request.into_inner()).map_err(refuse)?;
        let (now, enclave) = (self.shell.clock.now(), &self.shell.enclave);
        let exchange = match completion {
            Completion::Callback(callback) => enclave.take_callback(&by, callback, &now),
            Completion::Confirmed { state, typed } => {
                enclave.confirm_connect(&by, &state, &typed, &now)
            }
        };
        let exchange = exchange.map_err(refuse)?;
        let connecting = self.connecting();
        // The code is spent once it is sent: neither a caller that hangs up nor a stop of the service cuts it off.
        let exchanged = self.shell.afterwards.spawn(connecting.run(exchange)).await;
        let view =
            exchanged.map_err(|_torn_down| Status::internal("the exchange was torn down"))??;
        Ok(Response::new(v1::CompleteConnectResponse {
            grant: Some(convert::grant_message(view)),
        }))
    }

    async fn begin_device_connect(
        &self,
        request: Request<v1::BeginDeviceConnectRequest>,
    ) -> Result<Response<v1::BeginDeviceConnectResponse>, Status> {
        let by = caller(&self.shell, &request)?.clone();
        waits(request.extensions()).map_err(Refusal::from)?;
        let grant = convert::present("grant", request.into_inner().grant)
            .and_then(convert::grant)
            .map_err(refuse)?;
        let begun = self.connecting().begin_device(&by, grant).await?;
        Ok(Response::new(begun))
    }

    async fn await_connect(
        &self,
        request: Request<v1::AwaitConnectRequest>,
    ) -> Result<Response<v1::AwaitConnectResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        waits(request.extensions()).map_err(Refusal::from)?;
        let handle = &request.get_ref().handle;
        Ok(Response::new(awaited(&self.shell, by, handle).await?))
    }

    async fn get_grant(
        &self,
        request: Request<v1::GetGrantRequest>,
    ) -> Result<Response<v1::GetGrantResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let id = convert::grant_id("id", &request.get_ref().id).map_err(refuse)?;
        let view = self.shell.enclave.grant(by, &id).map_err(refuse)?;
        Ok(Response::new(v1::GetGrantResponse {
            grant: Some(convert::grant_message(view)),
        }))
    }

    async fn list_grants(
        &self,
        request: Request<v1::ListGrantsRequest>,
    ) -> Result<Response<v1::ListGrantsResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let message = request.get_ref();
        let tenant = convert::tenant_id("tenant", &message.tenant).map_err(refuse)?;
        let page = convert::page(message.page_size, &message.page_token);
        let review_before_s = Some(message.review_before_s).filter(|before_s| *before_s != 0);
        let page = self
            .shell
            .enclave
            .grants(by, &tenant, review_before_s, page)
            .map_err(refuse)?;
        let grants = page.entries.into_iter().map(convert::grant_message);
        Ok(Response::new(v1::ListGrantsResponse {
            grants: grants.collect(),
            next_page_token: page.next,
        }))
    }

    async fn update_grant(
        &self,
        request: Request<v1::UpdateGrantRequest>,
    ) -> Result<Response<v1::UpdateGrantResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let v1::UpdateGrantRequest { id, terms } = request.into_inner();
        let id = convert::grant_id("id", &id).map_err(refuse)?;
        let terms = convert::terms(terms).map_err(refuse)?;
        let now = self.shell.clock.now();
        let pending = self.shell.enclave.update_grant(by, &id, terms, &now);
        let view = self.shell.settle(pending.map_err(refuse)?).await?;
        events::grant_changed(&id, &by.name);
        Ok(Response::new(v1::UpdateGrantResponse {
            grant: Some(convert::grant_message(view)),
        }))
    }

    async fn wake_grant(
        &self,
        request: Request<v1::WakeGrantRequest>,
    ) -> Result<Response<v1::WakeGrantResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let id = convert::grant_id("id", &request.get_ref().id).map_err(refuse)?;
        let now = self.shell.clock.now();
        let pending = self.shell.enclave.wake_grant(by, &id, &now);
        let view = self.shell.settle(pending.map_err(refuse)?).await?;
        events::grant_woken(&id, &by.name);
        Ok(Response::new(v1::WakeGrantResponse {
            grant: Some(convert::grant_message(view)),
        }))
    }

    async fn list_approvals(
        &self,
        request: Request<v1::ListApprovalsRequest>,
    ) -> Result<Response<v1::ListApprovalsResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let tenant = convert::tenant_id("tenant", &request.get_ref().tenant).map_err(refuse)?;
        let now = self.shell.clock.now();
        let found = self.shell.enclave.approvals(by, &tenant, &now);
        let found = found.map_err(refuse)?.into_iter();
        Ok(Response::new(v1::ListApprovalsResponse {
            approvals: found.map(convert::approval_message).collect(),
        }))
    }

    async fn decide_approval(
        &self,
        request: Request<v1::DecideApprovalRequest>,
    ) -> Result<Response<v1::DecideApprovalResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let v1::DecideApprovalRequest {
            id,
            decision,
            reason,
        } = request.get_ref();
        let decision = convert::decision(*decision).map_err(refuse)?;
        let (now, enclave) = (self.shell.clock.now(), &self.shell.enclave);
        let pending = enclave.decide_approval(by, id, decision, reason, &now);
        let approval = self.shell.settle(pending.map_err(refuse)?).await?;
        events::approval_decided(&approval.grant, &by.name);
        Ok(Response::new(v1::DecideApprovalResponse {
            approval: Some(convert::approval_message(approval)),
        }))
    }

    async fn revoke_grant(
        &self,
        request: Request<v1::RevokeGrantRequest>,
    ) -> Result<Response<v1::RevokeGrantResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let v1::RevokeGrantRequest { id, reason } = request.get_ref();
        let id = convert::grant_id("id", id).map_err(refuse)?;
        let enclave = &self.shell.enclave;
        let now = || self.shell.clock.now();
        let view = self
            .outpace(|| enclave.revoke_grant(by, &id, reason, &now()))
            .await?;
        events::grant_revoked(&id, &by.name);
        Ok(Response::new(v1::RevokeGrantResponse {
            grant: Some(convert::grant_message(view)),
        }))
    }

    async fn delete_grant(
        &self,
        request: Request<v1::DeleteGrantRequest>,
    ) -> Result<Response<v1::DeleteGrantResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let id = convert::grant_id("id", &request.get_ref().id).map_err(refuse)?;
        let enclave = &self.shell.enclave;
        let now = || self.shell.clock.now();
        self.outpace(|| enclave.delete_grant(by, &id, &now()))
            .await?;
        events::grant_deleted(&id, &by.name);
        Ok(Response::new(v1::DeleteGrantResponse {}))
    }

    async fn set_policy(
        &self,
        request: Request<v1::SetPolicyRequest>,
    ) -> Result<Response<v1::SetPolicyResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let change = convert::set_policy(request.get_ref()).map_err(refuse)?;
        let pending = self
            .shell
            .enclave
            .set_policy(by, &change, &self.shell.clock.now())
            .map_err(refuse)?;
        let policy = self.shell.settle(pending).await?;
        events::policy_set(&by.name);
        Ok(Response::new(v1::SetPolicyResponse {
            policy: Some(convert::policy_message(policy)),
        }))
    }

    async fn get_policy(
        &self,
        request: Request<v1::GetPolicyRequest>,
    ) -> Result<Response<v1::GetPolicyResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let tenant = convert::tenant_id("tenant", &request.get_ref().tenant).map_err(refuse)?;
        let policy = self.shell.enclave.policy(by, &tenant).map_err(refuse)?;
        Ok(Response::new(v1::GetPolicyResponse {
            policy: Some(convert::policy_message(policy)),
        }))
    }

    async fn freeze(
        &self,
        request: Request<v1::FreezeRequest>,
    ) -> Result<Response<v1::FreezeResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let message = request.into_inner();
        let freeze = FreezeRequest {
            subject: convert::subject(message.subject).map_err(refuse)?,
            tenant: convert::optional_tenant("tenant", &message.tenant).map_err(refuse)?,
            reason: message.reason,
        };
        let pending = self
            .shell
            .enclave
            .freeze(by, freeze, &self.shell.clock.now())
            .map_err(refuse)?;
        let freeze = self.shell.settle(pending).await?;
        events::frozen(&by.name);
        Ok(Response::new(v1::FreezeResponse {
            freeze: Some(convert::freeze_message(freeze)),
            epoch: self.shell.enclave.freeze_epoch(),
        }))
    }

    async fn thaw(
        &self,
        request: Request<v1::ThawRequest>,
    ) -> Result<Response<v1::ThawResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let message = request.into_inner();
        let subject = convert::subject(message.subject).map_err(refuse)?;
        let tenant = convert::optional_tenant("tenant", &message.tenant).map_err(refuse)?;
        let pending = self
            .shell
            .enclave
            .thaw(by, subject, tenant, &self.shell.clock.now())
            .map_err(refuse)?;
        self.shell.settle(pending).await?;
        events::thawed(&by.name);
        Ok(Response::new(v1::ThawResponse {
            epoch: self.shell.enclave.freeze_epoch(),
        }))
    }

    async fn list_freezes(
        &self,
        request: Request<v1::ListFreezesRequest>,
    ) -> Result<Response<v1::ListFreezesResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let tenant =
            convert::optional_tenant("tenant", &request.get_ref().tenant).map_err(refuse)?;
        let freezes = self
            .shell
            .enclave
            .list_freezes(by, tenant.as_ref())
            .map_err(refuse)?;
        Ok(Response::new(v1::ListFreezesResponse {
            freezes: freezes.into_iter().map(convert::freeze_message).collect(),
        }))
    }
}
