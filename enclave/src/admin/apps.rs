//! Registering apps: vendors' registrations at providers, with a secret that was sealed to the enclave or a key that is
//! made in it.

use base64ct::{Base64, Encoding};
use jose::SigningKey;
use zeroize::Zeroizing;

use super::register::registered;
use super::{AdminError, Administrator, forbid_unless};
use crate::Enclave;
use crate::freeze::Touched;
use crate::http_url::HttpUrl;
use crate::keys::make_app_key;
use crate::pending::Pending;
use crate::record::{Place, Table};
use crate::registry::{App, AppKey, AuthMethod, ClientKey, Provider};
use crate::seal::SealError;
use crate::store::Write;
use crate::time::Now;
use crate::view::{Effect, Held, HeldSealed};

/// The longest `client_id` at a provider in bytes.
pub(crate) const MAX_OAUTH_CLIENT_ID_BYTES: usize = 1_024;

/// An app to register, with its secret still sealed.
#[derive(Clone, Debug)]
pub struct NewApp<'a> {
    /// The app.
    pub app: App,
    /// The secret, sealed to the enclave's HPKE key; empty for none.
    pub sealed_client_secret: &'a [u8],
}

impl Enclave {
    /// Registers an app of a vendor at a provider.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn create_app(
        &self,
        by: &Administrator,
        new: NewApp<'_>,
        now: &Now,
    ) -> Result<Pending<App>, AdminError> {
        let mut app = new.app;
        forbid_unless(by.acts_for_vendor(&app.vendor))?;
        let id_fits = (1..=MAX_OAUTH_CLIENT_ID_BYTES).contains(&app.oauth_client_id.len())
            && app
                .oauth_client_id
                .bytes()
                .all(|b| (0x20..0x7f).contains(&b));
        if !id_fits {
            return Err(AdminError::Field {
                field: "app.oauth_client_id",
                rule: "1 to 1024 characters of printable ASCII [RFC 6749 A.1]",
            });
        }
        if app.auth_method.takes_secret() == new.sealed_client_secret.is_empty() {
            return Err(AdminError::Field {
                field: "sealed_client_secret",
                rule: "present if and only if auth_method takes a secret",
            });
        }
        let view = self.view.read();
        if !view.vendors.contains_key(&app.vendor) {
            return Err(AdminError::NotFound("vendor"));
        }
        let provider = view.providers.get(&app.provider);
        let provider = provider.ok_or(AdminError::NotFound("provider"))?;
        check_method(&provider.value, app.auth_method)?;
        if view.apps.contains_key(&app.id) {
            return Err(AdminError::Exists("app"));
        }
        let secret = if app.auth_method.takes_secret() {
            Some(self.open_app_deposit(&app, new.sealed_client_secret, now)?)
        } else if app.auth_method.takes_key() {
            Some(self.new_app_key(&mut app, now)?)
        } else {
            None
        };
        let mut change = self.record(Table::Apps, app.id.as_str(), &app)?;
        let mut effects = vec![Effect::App(Held::new(1, app.clone()))];
        if let Some(secret) = secret {
            let (write, held) = self.secret_record(&app, &secret)?;
            change.writes.push(write);
            effects.push(Effect::AppSecret(app.id.clone(), held));
        }
        let event = registered("app", app.id.as_str(), by);
        change.leaves.push(self.leaf(&view, None, &event, now)?);
        Ok(Pending::new(change, effects, Touched::nothing(), app))
    }

    fn secret_record(
        &self,
        app: &App,
        secret: &Zeroizing<Vec<u8>>,
    ) -> Result<(Write, HeldSealed), AdminError> {
        let place = Place::system(Table::AppSecrets, app.id.as_str());
        let write = self
            .cabinet
            .seal(&*self.rng, &self.system_key, &place, 0, secret)?;
        let held = HeldSealed {
            generation: 1,
            sealed: write.sealed.as_deref().unwrap_or_default().into(),
        };
        Ok((write, held))
    }

    /// Makes the key of an app: the public side stays with the app, the private one is returned to be sealed.
    fn new_app_key(&self, app: &mut App, now: &Now) -> Result<Zeroizing<Vec<u8>>, AdminError> {
        let failed = AdminError::from(SealError::Failed);
        let made = make_app_key(app.id.as_str(), now, &*self.rng).map_err(|_| failed.clone())?;
        let key = SigningKey::from_pkcs8(&made.pkcs8, &*self.rng).map_err(|_| failed)?;
        app.key = Some(AppKey {
            public: ClientKey::of(key.public_key()),
            x5c: Base64::encode_string(&made.certificate),
        });
        Ok(made.pkcs8)
    }
}

/// Whether apps can authenticate so at a provider.
fn check_method(provider: &Provider, method: AuthMethod) -> Result<(), AdminError> {
    let refused = |rule| {
        Err(AdminError::Field {
            field: "app.auth_method",
            rule,
        })
    };
    let taken = &provider.profile.auth_methods;
    if !taken.is_empty() && !taken.contains(&method) {
        return refused("not one of the provider's auth_methods: see `tokenkeep provider show`");
    }
    let endpoints = [
        Some(&provider.token_endpoint),
        provider.revocation_endpoint.as_ref(),
    ];
    let secure = endpoints.into_iter().flatten().all(HttpUrl::is_https);
    if method == AuthMethod::TlsClientAuth && !secure {
        return refused("a certificate is shown over TLS: the provider's endpoints must be https");
    }
    Ok(())
}
