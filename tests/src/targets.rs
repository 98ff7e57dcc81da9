//! More targets behind the gateway: each with a provider, an app and a grant of its own.
#![allow(
    clippy::expect_used,
    reason = "a target that cannot be registered fails the test"
)]

use dev::names;
use proto::v1;
use secrecy::ExposeSecret as _;
use tokenkeep::RpcError;
use tokenkeep::rpc_error::answer;

use crate::stack::Stack;

/// A target as it is by default: the whole API at a base URL.
#[must_use]
pub fn whole(base_url: &str) -> v1::Target {
    v1::Target {
        name: names::TARGET.to_owned(),
        api: Some(v1::target::Api::GatewayBaseUrl(base_url.to_owned())),
        ..v1::Target::default()
    }
}

/// Registers a target whose tokens come from the stack's own provider, and deposits a grant for it, of the same id,
/// that allows these operations.
pub async fn add(stack: &Stack, id: &str, target: v1::Target, operations: &[&str]) {
    let added = Box::pin(try_add(stack, id, target, operations)).await;
    added.expect("a provider");
}

/// As [`add`], if the target is one that can be registered.
///
/// # Errors
/// The refusal of the provider with that target.
pub async fn try_add(
    stack: &Stack,
    id: &str,
    target: v1::Target,
    operations: &[&str],
) -> Result<(), RpcError> {
    let admin = stack.admin().await;
    let mut registry = admin.registry();
    let name = target.name.clone();
    let provider = v1::CreateProviderRequest {
        provider: Some(v1::Provider {
            id: id.to_owned(),
            token_endpoint: format!("{}/token", stack.provider().base_url()),
            rotation: v1::RotationProfile::Strict.into(),
            targets: vec![target],
            profile: Some(v1::ProviderProfile {
                quiet_ms: Some(200),
                ..v1::ProviderProfile::default()
            }),
            ..v1::Provider::default()
        }),
        profile_file: None,
    };
    answer(registry.create_provider(provider)).await?;
    let recipient = admin.deposit_recipient().await.expect("a recipient");
    let secret = stack.files().app_secret().expect("the app's secret");
    let sealed = recipient.seal_client_secret(names::VENDOR, id, id, &secret);
    let app = v1::CreateAppRequest {
        app: Some(v1::App {
            id: id.to_owned(),
            vendor: names::VENDOR.to_owned(),
            provider: id.to_owned(),
            oauth_client_id: names::OAUTH_CLIENT_ID.to_owned(),
            auth_method: v1::ClientAuthMethod::ClientSecretBasic.into(),
            ..v1::App::default()
        }),
        sealed_client_secret: sealed.expect("a sealed secret"),
    };
    answer(registry.create_app(app)).await.expect("an app");
    let token = stack.consent().refresh_token;
    let token = token.expose_secret().as_bytes();
    let sealed = recipient.seal_refresh_token(names::TENANT, id, id, token);
    let grant = v1::DepositGrantRequest {
        grant: Some(v1::Grant {
            id: id.to_owned(),
            tenant: names::TENANT.to_owned(),
            app: id.to_owned(),
            clients: vec![names::CLIENT.to_owned()],
            targets: vec![name.clone()],
            scopes: names::SCOPES.map(str::to_owned).to_vec(),
            operations: operations
                .iter()
                .map(|operation| format!("{name}/{operation}"))
                .collect(),
            ..v1::Grant::default()
        }),
        sealed_refresh_token: sealed.expect("a sealed token"),
        leave_unrotated: true,
        only_new: false,
    };
    answer(admin.grants().deposit_grant(grant))
        .await
        .expect("a grant");
    Ok(())
}
