//! What an app authenticates by at its provider, opened for one request.

use base64ct::{Base64, Encoding};
use jose::SigningKey;

use super::RefreshError;
use crate::Enclave;
use crate::keys::ClientCertificate;
use crate::record::{Place, RecordError, Table};
use crate::registry::{App, AuthMethod};
use crate::secret::{AppPrivateKey, ClientSecret};
use crate::view::View;

/// What an app authenticates by.
pub(crate) enum Credential {
    /// Nothing: a public client.
    Nothing,
    /// Its secret.
    Secret(ClientSecret),
    /// The key that it signs assertions with.
    Key(Box<SigningKey>),
    /// Its certificate, with the key.
    Certificate(Box<ClientCertificate>),
}

impl Enclave {
    /// The credential of an app, opened for use.
    pub(crate) fn open_credential(
        &self,
        view: &View,
        app: &App,
    ) -> Result<Credential, RefreshError> {
        let stored = || -> Result<_, RecordError> {
            let held = view.app_secrets.get(&app.id).ok_or(RecordError::Schema)?;
            let place = Place::system(Table::AppSecrets, app.id.as_str());
            let key = &self.system_key;
            self.cabinet
                .open(key, &place, held.generation, &held.sealed)
        };
        Ok(match app.auth_method {
            AuthMethod::None => Credential::Nothing,
            AuthMethod::ClientSecretBasic | AuthMethod::ClientSecretPost => {
                Credential::Secret(ClientSecret::new(stored()?.to_vec()))
            }
            AuthMethod::PrivateKeyJwt => {
                let key = SigningKey::from_pkcs8(&stored()?, &*self.rng);
                Credential::Key(Box::new(key.map_err(|_| RecordError::Schema)?))
            }
            AuthMethod::TlsClientAuth => {
                let key = AppPrivateKey::new(stored()?.to_vec());
                let certificate = app
                    .key
                    .as_ref()
                    .and_then(|key| Base64::decode_vec(&key.x5c).ok())
                    .and_then(|der| ClientCertificate::new(der, &key, &self.rng));
                Credential::Certificate(Box::new(certificate.ok_or(RecordError::Schema)?))
            }
        })
    }
}
