//! What a user would register and deposit, over verified channels: who takes part, the app's secret, one grant.

use attestation::DepositError;
use proto::v1;
use secrecy::ExposeSecret as _;
use testkit::provider::{Consent, ConsentError, Provider};
use tokenkeep::rpc_error::answer;
use tokenkeep::{AttestedChannel, ConnectError, RpcError};

use crate::lab::{LabError, LabFiles};
use crate::names::{
    APP, CLIENT, GRANT, OAUTH_CLIENT_ID, PROVIDER, SCOPES, TARGET, TENANT, USER, VENDOR,
};

/// Why something is not registered or deposited.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The service refused.
    #[error("the {what} was not taken: {error}")]
    Refused {
        /// What.
        what: &'static str,
        /// Why.
        error: RpcError,
    },
    /// A file of the lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The provider gives no consent.
    #[error(transparent)]
    Consent(#[from] ConsentError),
    /// There is no verified enclave to seal to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A secret cannot be sealed.
    #[error(transparent)]
    Seal(#[from] DepositError),
    /// The answer says nothing.
    #[error("the answer of the service has no grant")]
    Answer,
}

fn refused(what: &'static str) -> impl FnOnce(RpcError) -> RegistrationError {
    move |error| RegistrationError::Refused { what, error }
}

/// The grant, if there is one.
///
/// # Errors
/// [`RegistrationError::Refused`].
pub async fn grant(admin: &AttestedChannel) -> Result<Option<v1::Grant>, RegistrationError> {
    let request = v1::GetGrantRequest {
        id: GRANT.to_owned(),
    };
    match answer(admin.grants().get_grant(request)).await {
        Ok(found) => Ok(found.into_inner().grant),
        Err(error) if error.code() == tonic::Code::NotFound => Ok(None),
        Err(error) => Err(refused("question for the grant")(error)),
    }
}

/// Registers tenant, vendor, client, provider and app. What is there already stays as it is.
///
/// # Errors
/// [`RegistrationError`].
pub async fn register(
    admin: &AttestedChannel,
    files: &LabFiles,
    provider_url: &str,
) -> Result<(), RegistrationError> {
    let mut registry = admin.registry();
    let tenant = v1::CreateTenantRequest {
        tenant: Some(v1::Tenant {
            id: TENANT.to_owned(),
            display_name: "Acme Corporation".to_owned(),
            ..Default::default()
        }),
    };
    new_or_there(
        "tenant",
        answer(registry.create_tenant(tenant)).await.map(drop),
    )?;
    let vendor = v1::CreateVendorRequest {
        vendor: Some(v1::Vendor {
            id: VENDOR.to_owned(),
            display_name: "CRM Sync".to_owned(),
        }),
    };
    new_or_there(
        "vendor",
        answer(registry.create_vendor(vendor)).await.map(drop),
    )?;
    let client = v1::CreateClientRequest {
        client: Some(v1::Client {
            id: CLIENT.to_owned(),
            vendor: VENDOR.to_owned(),
            tls_spki_sha256: files.client_spki_sha256()?.to_vec(),
            ..Default::default()
        }),
    };
    new_or_there(
        "client",
        answer(registry.create_client(client)).await.map(drop),
    )?;
    let provider = v1::CreateProviderRequest {
        provider: Some(v1::Provider {
            id: PROVIDER.to_owned(),
            token_endpoint: format!("{provider_url}/token"),
            revocation_endpoint: format!("{provider_url}/revoke"),
            rotation: v1::RotationProfile::Strict.into(),
            targets: vec![v1::Target {
                name: TARGET.to_owned(),
                api: Some(v1::target::Api::GatewayBaseUrl(format!(
                    "{provider_url}/api"
                ))),
                ..v1::Target::default()
            }],
            // A lab is in a hurry, and its provider answers at once.
            profile: Some(v1::ProviderProfile {
                quiet_ms: Some(200),
                ..v1::ProviderProfile::default()
            }),
            ..v1::Provider::default()
        }),
        profile_file: None,
    };
    new_or_there(
        "provider",
        answer(registry.create_provider(provider)).await.map(drop),
    )?;
    let recipient = admin.deposit_recipient().await?;
    let secret = files.app_secret()?;
    let app = v1::CreateAppRequest {
        app: Some(v1::App {
            id: APP.to_owned(),
            vendor: VENDOR.to_owned(),
            provider: PROVIDER.to_owned(),
            oauth_client_id: OAUTH_CLIENT_ID.to_owned(),
            auth_method: v1::ClientAuthMethod::ClientSecretBasic.into(),
            ..v1::App::default()
        }),
        sealed_client_secret: recipient.seal_client_secret(VENDOR, APP, PROVIDER, &secret)?,
    };
    new_or_there("app", answer(registry.create_app(app)).await.map(drop))
}

fn new_or_there(what: &'static str, made: Result<(), RpcError>) -> Result<(), RegistrationError> {
    match made {
        Err(error) if error.code() != tonic::Code::AlreadyExists => Err(refused(what)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The user consents at the provider, and the tenant's administrator deposits the refresh token.
///
/// # Errors
/// [`RegistrationError`].
pub async fn deposit(
    admin: &AttestedChannel,
    provider: &Provider,
) -> Result<v1::Grant, RegistrationError> {
    let recipient = admin.deposit_recipient().await?;
    let granted = provider.consent(&Consent::of(OAUTH_CLIENT_ID, &SCOPES.join(" "), USER))?;
    let refresh_token = granted.refresh_token.expose_secret().as_bytes();
    let request = v1::DepositGrantRequest {
        grant: Some(v1::Grant {
            id: GRANT.to_owned(),
            tenant: TENANT.to_owned(),
            app: APP.to_owned(),
            clients: vec![CLIENT.to_owned()],
            targets: vec![TARGET.to_owned()],
            scopes: SCOPES.map(str::to_owned).to_vec(),
            ..v1::Grant::default()
        }),
        sealed_refresh_token: recipient.seal_refresh_token(TENANT, APP, GRANT, refresh_token)?,
        // The consent came from the provider just now: there is no copy of the token to end.
        leave_unrotated: true,
        only_new: false,
    };
    let done = answer(admin.grants().deposit_grant(request))
        .await
        .map_err(refused("grant"))?;
    done.into_inner().grant.ok_or(RegistrationError::Answer)
}
