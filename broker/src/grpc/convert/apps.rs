//! Messages of apps, and of how they authenticate at their providers.

use enclave::admin::AdminError;
use enclave::registry::{App, AuthMethod};
use proto::v1;

use super::{app_id, provider_id, vendor_id};

/// Reads a message as an app; what the enclave sets itself is not read.
///
/// # Errors
/// [`AdminError`].
pub fn app(message: v1::App) -> Result<App, AdminError> {
    Ok(App {
        id: app_id("app.id", &message.id)?,
        vendor: vendor_id("app.vendor", &message.vendor)?,
        provider: provider_id("app.provider", &message.provider)?,
        oauth_client_id: message.oauth_client_id,
        auth_method: auth_method("app.auth_method", message.auth_method)?,
        key: None,
    })
}

pub(super) fn auth_method(field: &'static str, number: i32) -> Result<AuthMethod, AdminError> {
    match v1::ClientAuthMethod::try_from(number) {
        Ok(v1::ClientAuthMethod::None) => Ok(AuthMethod::None),
        Ok(v1::ClientAuthMethod::ClientSecretBasic) => Ok(AuthMethod::ClientSecretBasic),
        Ok(v1::ClientAuthMethod::ClientSecretPost) => Ok(AuthMethod::ClientSecretPost),
        Ok(v1::ClientAuthMethod::PrivateKeyJwt) => Ok(AuthMethod::PrivateKeyJwt),
        Ok(v1::ClientAuthMethod::TlsClientAuth) => Ok(AuthMethod::TlsClientAuth),
        Ok(v1::ClientAuthMethod::Unspecified) | Err(_) => Err(AdminError::Field {
            field,
            rule: "must be NONE, CLIENT_SECRET_BASIC, CLIENT_SECRET_POST, PRIVATE_KEY_JWT or TLS_CLIENT_AUTH",
        }),
    }
}

pub(super) const fn auth_method_message(method: AuthMethod) -> v1::ClientAuthMethod {
    match method {
        AuthMethod::None => v1::ClientAuthMethod::None,
        AuthMethod::ClientSecretBasic => v1::ClientAuthMethod::ClientSecretBasic,
        AuthMethod::ClientSecretPost => v1::ClientAuthMethod::ClientSecretPost,
        AuthMethod::PrivateKeyJwt => v1::ClientAuthMethod::PrivateKeyJwt,
        AuthMethod::TlsClientAuth => v1::ClientAuthMethod::TlsClientAuth,
    }
}

/// The message for an app.
#[must_use]
pub fn app_message(app: App) -> v1::App {
    let (jwks, certificate_pem) = app
        .key
        .map(|key| (key.to_jwks(), key.to_pem()))
        .unwrap_or_default();
    v1::App {
        id: app.id.into(),
        vendor: app.vendor.into(),
        provider: app.provider.into(),
        oauth_client_id: app.oauth_client_id,
        auth_method: auth_method_message(app.auth_method).into(),
        jwks,
        certificate_pem,
    }
}
