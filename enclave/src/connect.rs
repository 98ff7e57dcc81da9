//! Connecting: the owner consents at the provider, and the code that comes back is exchanged in here [RFC 6749 §4.1].
//!
//! The verifier [RFC 7636], the app's credential and the tokens never leave. What is under way is memory of this boot:
//! a restart means to begin anew, and costs nothing but the owner's click.

mod coming;
mod device;
mod exchange;
mod url;

use std::collections::HashMap;

use base64ct::{Base64UrlUnpadded, Encoding};
use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use thiserror::Error;

use crate::Enclave;
use crate::admin::{AdminError, Administrator};
use crate::http_url::HttpUrl;
use crate::refresh::Author;
use crate::registry::Grant;
use crate::seal::SealError;
use crate::secret::{AuthorizationCode, CodeVerifier, DpopPrivateKey};
use crate::time::Now;
use crate::upstream_dpop::BoundKey;
use crate::view::View;
use coming::Coming;

pub use coming::{Awaited, Came};
pub use device::{DeviceConnect, DeviceShown, DeviceStep, device_shown};
pub use exchange::{CodeExchange, CodeStep};

/// How long the owner has to consent, in milliseconds.
pub const LIFETIME_MS: u64 = 600_000;

/// Where browsers come back to, behind the public origin.
pub const CALLBACK_PATH: &str = "/connect/callback";

/// As many may be under way at once, and of one administrator.
const MAX_UNDER_WAY: usize = 1_024;
const MAX_OF_ONE: usize = 16;

/// The longest code, `state` and `iss` in a callback.
pub const MAX_CALLBACK_BYTES: usize = 4_096;

/// A consent to be asked for.
#[derive(Clone, Debug)]
pub struct ConnectRequest {
    /// The grant that it is to become, or the one that needs its owner again.
    pub grant: Grant,
    /// Where the owner's browser comes back to: on loopback [RFC 8252 §7.3]. `None` for the public listener's page.
    pub redirect_uri: Option<String>,
}

/// Where the owner is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectBegun {
    /// The URL.
    pub authorization_url: String,
    /// What comes back with the code: whoever began holds it against that.
    pub state: String,
    /// Where the owner's browser comes back to.
    pub redirect_uri: String,
    /// Until when it may come back, in seconds from now.
    pub expires_in_s: u64,
}

/// What came back with the owner's browser [RFC 6749 §4.1.2].
#[derive(Debug)]
pub struct Callback {
    /// `state`.
    pub state: String,
    /// `code`.
    pub code: AuthorizationCode,
    /// `iss` [RFC 9207], if there was one.
    pub iss: Option<String>,
}

/// Why nothing came of a consent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// Nothing of this `state` is under way, or another administrator began it.
    #[error("no consent of this state is under way: begin anew")]
    NotUnderWay,
    /// `iss` is not the provider's: the answer is another server's [RFC 9207 §2.4].
    #[error("the answer is another issuer's than the provider's")]
    Issuer,
    /// `iss` is absent, and the provider always sends it.
    #[error("the answer names no issuer, and the provider always does")]
    NoIssuer,
    /// Something that the grant touches is frozen.
    #[error("frozen")]
    Frozen,
    /// Too few witnesses have lately seen that this enclave goes on from the newest state.
    #[error("the witnesses' word is missing")]
    NotWitnessed,
    /// The provider could not be reached; the code was not sent.
    #[error("the provider can't be reached")]
    Unreachable,
    /// The provider gave no whole answer. The code may be spent.
    #[error("the provider gave no usable answer: begin anew")]
    Unclear,
    /// The provider refused the code.
    #[error("the provider refused the code: {0}")]
    Refused(&'static str),
    /// The provider's tokens are of no use.
    #[error("the provider's answer is of no use: {0}")]
    Unusable(&'static str),
    /// The owner consented to fewer scopes than the grant is to have.
    #[error("the owner consented to fewer scopes than the grant is to have")]
    FewerScopes,
    /// The owner, or the provider for them, said no.
    #[error("the owner did not consent")]
    Denied,
    /// The owner took too long.
    #[error("nobody consented in time: begin anew")]
    Late,
    /// What was typed is not what the page shows.
    #[error("this is not the code that the page shows")]
    Confirmation,
    /// Another person consented than the one whose grant it is.
    #[error("another person consented than before: delete the grant to connect it as theirs")]
    AnotherUser,
}

/// A consent that is under way.
struct UnderWay {
    /// Of the administrator who began it.
    by: [u8; 32],
    by_name: String,
    grant: Grant,
    redirect_uri: String,
    verifier: CodeVerifier,
    dpop_key: Option<DpopPrivateKey>,
    until_ms: u64,
    coming: Coming,
}

impl UnderWay {
    fn is_of(&self, by: &Administrator, now: &Now) -> bool {
        self.by == by.spki_sha256 && now.mono_ms < self.until_ms
    }
}

/// All that are under way, by the SHA-256 of their `state`.
#[derive(Default)]
pub(crate) struct Connects(Mutex<HashMap<[u8; 32], UnderWay>>);

impl std::fmt::Debug for Connects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connects([redacted])")
    }
}

impl Enclave {
    /// Begins a consent.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn begin_connect(
        &self,
        by: &Administrator,
        request: ConnectRequest,
        now: &Now,
    ) -> Result<ConnectBegun, AdminError> {
        let ConnectRequest {
            grant,
            redirect_uri,
        } = request;
        if !by.owns_tenant(&grant.tenant) {
            return Err(AdminError::Forbidden);
        }
        let (redirect_uri, coming) = match redirect_uri {
            Some(uri) => {
                check_redirect(&uri)?;
                (uri, Coming::Elsewhere)
            }
            None => (self.config.connect_callback(), Coming::Awaited),
        };
        let view = self.view.read();
        let dpop = self.check_grant(&view, &grant, now)?;
        self.check_place(&view, &grant)?;
        self.check_unfrozen(&view, &grant)?;
        let (app, provider) = registered(&view, &grant)?;
        let consent = provider.consent.as_ref().ok_or(AdminError::Field {
            field: "grant.app",
            rule: "its provider has no authorization endpoint: deposit a refresh token instead",
        })?;

        let (state, verifier) = (self.random_text()?, self.random_text()?);
        let dpop_key = dpop.then(|| BoundKey::generate(&*self.rng)).transpose()?;
        let jkt = match &dpop_key {
            Some(key) => Some(BoundKey::open(key, &*self.rng)?.thumbprint()),
            None => None,
        };
        let asked = url::Asked {
            app,
            provider,
            consent,
            grant: &grant,
            redirect_uri: &redirect_uri,
            state: &state,
            verifier: verifier.as_bytes(),
            jkt,
        };
        let authorization_url = asked.to_url();

        let mut connects = self.connects.0.lock();
        connects.retain(|_, one| now.mono_ms < one.until_ms);
        let of_one = connects.values().filter(|one| one.by == by.spki_sha256);
        if connects.len() >= MAX_UNDER_WAY || of_one.count() >= MAX_OF_ONE {
            return Err(AdminError::Busy);
        }
        let under_way = UnderWay {
            by: by.spki_sha256,
            by_name: by.name.clone(),
            grant,
            redirect_uri: redirect_uri.clone(),
            coming,
            verifier: CodeVerifier::new(verifier.into_bytes()),
            dpop_key,
            until_ms: now.mono_ms.saturating_add(LIFETIME_MS),
        };
        connects.insert(name_of(&state), under_way);
        Ok(ConnectBegun {
            authorization_url,
            state,
            redirect_uri,
            expires_in_s: LIFETIME_MS / 1_000,
        })
    }

    /// Takes what came back, once: whatever becomes of it, the same `state` is of no use again.
    ///
    /// # Errors
    /// [`AdminError::Connect`].
    pub fn take_callback(
        &self,
        by: &Administrator,
        callback: Callback,
        now: &Now,
    ) -> Result<CodeExchange, AdminError> {
        let Callback { state, code, iss } = callback;
        let mut connects = self.connects.0.lock();
        let name = name_of(&state);
        // Another's is not taken from them.
        let own = connects
            .get(&name)
            .is_some_and(|one| one.is_of(by, now) && matches!(one.coming, Coming::Elsewhere));
        let under_way = own.then(|| connects.remove(&name)).flatten();
        let under_way = under_way.ok_or(ConnectError::NotUnderWay)?;
        drop(connects);
        self.check_iss(&under_way.grant, iss.as_deref())?;
        Ok(CodeExchange::new(by, under_way, code))
    }

    /// Whether an answer is the provider's own [RFC 9207].
    fn check_iss(&self, grant: &Grant, iss: Option<&str>) -> Result<(), AdminError> {
        let view = self.view.read();
        let (_, provider) = registered(&view, grant)?;
        let demanded = provider.consent.as_ref().is_some_and(|consent| consent.iss);
        match (iss, &provider.issuer) {
            (None, _) if demanded => Err(ConnectError::NoIssuer.into()),
            // Compared as it is written [RFC 9207 §2.4].
            (Some(found), Some(own)) if found != own => Err(ConnectError::Issuer.into()),
            // Nobody knows what it should be.
            (Some(_), None) | (None, _) | (Some(_), Some(_)) => Ok(()),
        }
    }

    /// Whether a freeze covers what the grant is to touch.
    fn check_unfrozen(&self, view: &View, grant: &Grant) -> Result<(), AdminError> {
        match view.frozen(&view.touched(grant, None, None)) {
            Some(_) => Err(ConnectError::Frozen.into()),
            None => Ok(()),
        }
    }

    /// Who asks for a grant that is to be, once nothing stands against asking.
    fn author<'v>(
        &'v self,
        view: &'v View,
        grant: &Grant,
        now: &'v Now,
    ) -> Result<Author<'v>, AdminError> {
        self.check_unfrozen(view, grant)?;
        self.check_fresh(now)
            .map_err(|_| ConnectError::NotWitnessed)?;
        let (app, provider) = registered(view, grant)?;
        let credential = self.open_credential(view, app);
        Ok(Author {
            provider,
            app,
            credential: credential.map_err(|_| SealError::Failed)?,
            rng: &*self.rng,
            now,
        })
    }

    /// 256 random bits as text.
    ///
    /// # Errors
    /// [`SealError`] if there is no randomness.
    pub fn random_text(&self) -> Result<String, SealError> {
        let mut bytes = zeroize::Zeroizing::new([0; 32]);
        self.rng
            .fill(bytes.as_mut())
            .map_err(|_| SealError::Failed)?;
        Ok(Base64UrlUnpadded::encode_string(bytes.as_ref()))
    }
}

/// The app and the provider of a grant that is to be.
fn registered<'v>(
    view: &'v View,
    grant: &Grant,
) -> Result<(&'v crate::registry::App, &'v crate::registry::Provider), AdminError> {
    let app = view.apps.get(&grant.app);
    let app = &app.ok_or(AdminError::NotFound("app"))?.value;
    let provider = view.providers.get(&app.provider);
    let provider = &provider.ok_or(AdminError::NotFound("provider"))?.value;
    Ok((app, provider))
}

/// Nobody else hears what comes to a port of the administrator's own machine [RFC 8252 §7.3]; `localhost` may be
/// resolved to elsewhere [§8.3].
fn check_redirect(uri: &str) -> Result<(), AdminError> {
    let url = HttpUrl::parse(uri).map_err(|error| AdminError::Url {
        field: "redirect_uri",
        error,
    })?;
    let address = url.host().parse::<std::net::IpAddr>();
    if url.is_https() || !address.is_ok_and(|address| address.is_loopback()) {
        return Err(AdminError::Field {
            field: "redirect_uri",
            rule: "must be http on a loopback address [RFC 8252]",
        });
    }
    Ok(())
}

fn name_of(state: &str) -> [u8; 32] {
    let mut name = [0; 32];
    name.copy_from_slice(digest(&SHA256, state.as_bytes()).as_ref());
    name
}

#[cfg(test)]
mod coming_tests;
#[cfg(test)]
mod device_tests;
#[cfg(test)]
mod tests;
