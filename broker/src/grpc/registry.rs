//! `RegistryService`: tenants, vendors, clients, providers and apps.

use std::sync::Arc;

use enclave::admin::{Erasure, NewApp};
use proto::v1;
use proto::v1::registry_service_server::RegistryService;
use tonic::{Request, Response, Status};

use crate::events;
use crate::grpc::administrator::{caller, refuse};
use crate::grpc::convert;
use crate::shell::Shell;

/// The service.
#[derive(Debug)]
pub struct Registry {
    /// The enclave and what it needs.
    pub shell: Arc<Shell>,
}

impl Registry {
    fn erasure(&self, erasure: Erasure) -> v1::Erasure {
        let pending = match &self.shell.root {
            Some(root) => root.pending(),
            None => Vec::new(),
        };
        convert::erasure_message(erasure, &pending)
    }
}

#[tonic::async_trait]
impl RegistryService for Registry {
    async fn create_tenant(
        &self,
        request: Request<v1::CreateTenantRequest>,
    ) -> Result<Response<v1::CreateTenantResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let message = request.into_inner();
        let tenant = convert::present("tenant", message.tenant)
            .and_then(convert::tenant)
            .map_err(refuse)?;
        let pending = self
            .shell
            .enclave
            .create_tenant(by, tenant, &self.shell.clock.now())
            .map_err(refuse)?;
        let tenant = self.shell.settle(pending).await?;
        events::registered("tenant", tenant.id.as_str(), &by.name);
        Ok(Response::new(v1::CreateTenantResponse {
            tenant: Some(convert::tenant_message(tenant)),
        }))
    }

    async fn list_tenants(
        &self,
        request: Request<v1::ListTenantsRequest>,
    ) -> Result<Response<v1::ListTenantsResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let message = request.get_ref();
        let page = convert::page(message.page_size, &message.page_token);
        let page = self.shell.enclave.tenants(by, page).map_err(refuse)?;
        let tenants = page.entries.into_iter().map(convert::tenant_message);
        Ok(Response::new(v1::ListTenantsResponse {
            tenants: tenants.collect(),
            next_page_token: page.next,
        }))
    }

    async fn get_tenant(
        &self,
        request: Request<v1::GetTenantRequest>,
    ) -> Result<Response<v1::GetTenantResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let id = convert::tenant_id("id", &request.get_ref().id).map_err(refuse)?;
        let erasure = self.shell.enclave.erasure(by, &id).map_err(refuse)?;
        let (tenant, erasure) = match erasure {
            Some(erasure) => (None, Some(self.erasure(erasure))),
            None => {
                let tenant = self.shell.enclave.tenant(by, &id).map_err(refuse)?;
                (Some(convert::tenant_message(tenant)), None)
            }
        };
        Ok(Response::new(v1::GetTenantResponse { tenant, erasure }))
    }

    async fn erase_tenant(
        &self,
        request: Request<v1::EraseTenantRequest>,
    ) -> Result<Response<v1::EraseTenantResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let id = convert::tenant_id("id", &request.get_ref().id).map_err(refuse)?;
        let pending = self
            .shell
            .enclave
            .erase_tenant(by, &id, &self.shell.clock.now())
            .map_err(refuse)?;
        let settled = self.shell.settle(pending).await;
        // Durable or not, whatever is open is looked at.
        if let Some(root) = &self.shell.root {
            root.wake();
        }
        let erasure = settled?;
        events::erasure_begun(&by.name);
        let erasure = Some(self.erasure(erasure));
        Ok(Response::new(v1::EraseTenantResponse { erasure }))
    }

    async fn set_tenant_limits(
        &self,
        request: Request<v1::SetTenantLimitsRequest>,
    ) -> Result<Response<v1::SetTenantLimitsResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let v1::SetTenantLimitsRequest { id, limits } = request.into_inner();
        let id = convert::tenant_id("id", &id).map_err(refuse)?;
        let limits = convert::limits(limits);
        let now = self.shell.clock.now();
        let pending = self.shell.enclave.set_tenant_limits(by, &id, limits, &now);
        let tenant = self.shell.settle(pending.map_err(refuse)?).await?;
        events::tenant_limits_set(&by.name);
        Ok(Response::new(v1::SetTenantLimitsResponse {
            tenant: Some(convert::tenant_message(tenant)),
        }))
    }

    async fn create_vendor(
        &self,
        request: Request<v1::CreateVendorRequest>,
    ) -> Result<Response<v1::CreateVendorResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let message = request.into_inner();
        let vendor = convert::present("vendor", message.vendor)
            .and_then(convert::vendor)
            .map_err(refuse)?;
        let pending = self
            .shell
            .enclave
            .create_vendor(by, vendor, &self.shell.clock.now())
            .map_err(refuse)?;
        let vendor = self.shell.settle(pending).await?;
        events::registered("vendor", vendor.id.as_str(), &by.name);
        Ok(Response::new(v1::CreateVendorResponse {
            vendor: Some(convert::vendor_message(vendor)),
        }))
    }

    async fn list_vendors(
        &self,
        request: Request<v1::ListVendorsRequest>,
    ) -> Result<Response<v1::ListVendorsResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let message = request.get_ref();
        let page = convert::page(message.page_size, &message.page_token);
        let page = self.shell.enclave.vendors(by, page).map_err(refuse)?;
        let vendors = page.entries.into_iter().map(convert::vendor_message);
        Ok(Response::new(v1::ListVendorsResponse {
            vendors: vendors.collect(),
            next_page_token: page.next,
        }))
    }

    async fn create_client(
        &self,
        request: Request<v1::CreateClientRequest>,
    ) -> Result<Response<v1::CreateClientResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let message = request.into_inner();
        let client = convert::present("client", message.client)
            .and_then(convert::client)
            .map_err(refuse)?;
        let pending = self
            .shell
            .enclave
            .create_client(by, client, &self.shell.clock.now())
            .map_err(refuse)?;
        let client = self.shell.settle(pending).await?;
        events::registered("client", client.id.as_str(), &by.name);
        Ok(Response::new(v1::CreateClientResponse {
            client: Some(convert::client_message(client)),
        }))
    }

    async fn update_client(
        &self,
        request: Request<v1::UpdateClientRequest>,
    ) -> Result<Response<v1::UpdateClientResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let message = request.into_inner();
        let client = convert::present("client", message.client)
            .and_then(convert::client)
            .map_err(refuse)?;
        let pending = self
            .shell
            .enclave
            .update_client(by, client, &self.shell.clock.now())
            .map_err(refuse)?;
        let client = self.shell.settle(pending).await?;
        events::client_changed(client.id.as_str(), &by.name);
        Ok(Response::new(v1::UpdateClientResponse {
            client: Some(convert::client_message(client)),
        }))
    }

    async fn get_client(
        &self,
        request: Request<v1::GetClientRequest>,
    ) -> Result<Response<v1::GetClientResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let id = convert::client_id("id", &request.get_ref().id).map_err(refuse)?;
        let client = self.shell.enclave.client(by, &id).map_err(refuse)?;
        Ok(Response::new(v1::GetClientResponse {
            client: Some(convert::client_message(client)),
        }))
    }

    async fn list_clients(
        &self,
        request: Request<v1::ListClientsRequest>,
    ) -> Result<Response<v1::ListClientsResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let message = request.get_ref();
        let vendor = convert::vendor_id("vendor", &message.vendor).map_err(refuse)?;
        let page = convert::page(message.page_size, &message.page_token);
        let page = self
            .shell
            .enclave
            .clients(by, &vendor, page)
            .map_err(refuse)?;
        let clients = page.entries.into_iter().map(convert::client_message);
        Ok(Response::new(v1::ListClientsResponse {
            clients: clients.collect(),
            next_page_token: page.next,
        }))
    }

    async fn create_provider(
        &self,
        request: Request<v1::CreateProviderRequest>,
    ) -> Result<Response<v1::CreateProviderResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let message = request.into_inner();
        let enclave = &self.shell.enclave;
        let provider = convert::present("provider", message.provider)
            .and_then(|provider| match &message.profile_file {
                None => convert::provider(provider),
                Some(file) => {
                    let file = convert::profile_file(file)?;
                    let (id, beside) = convert::beside_profile(provider)?;
                    enclave.provider_by_profile(id, &file, beside)
                }
            })
            .map_err(refuse)?;
        let pending = enclave
            .create_provider(by, provider, &self.shell.clock.now())
            .map_err(refuse)?;
        let provider = self.shell.settle(pending).await?;
        events::registered("provider", provider.id.as_str(), &by.name);
        Ok(Response::new(v1::CreateProviderResponse {
            provider: Some(convert::provider_message(provider)),
        }))
    }

    async fn get_provider(
        &self,
        request: Request<v1::GetProviderRequest>,
    ) -> Result<Response<v1::GetProviderResponse>, Status> {
        caller(&self.shell, &request)?;
        let id = convert::provider_id("id", &request.get_ref().id).map_err(refuse)?;
        let provider = self.shell.enclave.provider(&id).map_err(refuse)?;
        Ok(Response::new(v1::GetProviderResponse {
            provider: Some(convert::provider_message(provider)),
        }))
    }

    async fn list_providers(
        &self,
        request: Request<v1::ListProvidersRequest>,
    ) -> Result<Response<v1::ListProvidersResponse>, Status> {
        caller(&self.shell, &request)?;
        let message = request.get_ref();
        let page = convert::page(message.page_size, &message.page_token);
        let page = self.shell.enclave.providers(page).map_err(refuse)?;
        let providers = page.entries.into_iter().map(convert::provider_message);
        Ok(Response::new(v1::ListProvidersResponse {
            providers: providers.collect(),
            next_page_token: page.next,
        }))
    }

    async fn create_app(
        &self,
        request: Request<v1::CreateAppRequest>,
    ) -> Result<Response<v1::CreateAppResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let message = request.into_inner();
        let app = convert::present("app", message.app)
            .and_then(convert::app)
            .map_err(refuse)?;
        let new = NewApp {
            app,
            sealed_client_secret: &message.sealed_client_secret,
        };
        let pending = self
            .shell
            .enclave
            .create_app(by, new, &self.shell.clock.now())
            .map_err(refuse)?;
        let app = self.shell.settle(pending).await?;
        events::registered("app", app.id.as_str(), &by.name);
        Ok(Response::new(v1::CreateAppResponse {
            app: Some(convert::app_message(app)),
        }))
    }

    async fn get_app(
        &self,
        request: Request<v1::GetAppRequest>,
    ) -> Result<Response<v1::GetAppResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let id = convert::app_id("id", &request.get_ref().id).map_err(refuse)?;
        let app = self.shell.enclave.app(by, &id).map_err(refuse)?;
        Ok(Response::new(v1::GetAppResponse {
            app: Some(convert::app_message(app)),
        }))
    }

    async fn list_apps(
        &self,
        request: Request<v1::ListAppsRequest>,
    ) -> Result<Response<v1::ListAppsResponse>, Status> {
        let by = caller(&self.shell, &request)?;
        let message = request.get_ref();
        let vendor = convert::vendor_id("vendor", &message.vendor).map_err(refuse)?;
        let page = convert::page(message.page_size, &message.page_token);
        let page = self.shell.enclave.apps(by, &vendor, page).map_err(refuse)?;
        let apps = page.entries.into_iter().map(convert::app_message);
        Ok(Response::new(v1::ListAppsResponse {
            apps: apps.collect(),
            next_page_token: page.next,
        }))
    }
}
