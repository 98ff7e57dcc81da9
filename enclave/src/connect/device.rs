//! Device authorization [RFC 8628]: the owner consents in a browser anywhere, by a code that a terminal shows, and the
//! enclave asks the provider until that is done. The device code never leaves.

use ::url::Url;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::ConnectError;
use crate::Enclave;
use crate::admin::{AdminError, Administrator, GrantView};
use crate::pending::Pending;
use crate::refresh::{Consented, UpstreamAnswer, UpstreamRequest};
use crate::registry::Grant;
use crate::secret::{DeviceCode, DpopPrivateKey, RawResponse};
use crate::time::Now;
use crate::upstream_dpop::BoundKey;

/// How long is waited between two questions unless the provider says otherwise [RFC 8628 §3.2], in milliseconds.
const DEFAULT_INTERVAL_MS: u64 = 5_000;

/// By how much longer from then on when the provider is asked too often [RFC 8628 §3.5], in milliseconds.
const SLOW_DOWN_MS: u64 = 5_000;

/// The longest wait between two questions, in milliseconds.
const MAX_INTERVAL_MS: u64 = 60_000;

/// The longest time that an owner has, in seconds.
const MAX_LIFETIME_S: u64 = 1_800;

/// The longest device code, user code and URI, in bytes.
const MAX_DEVICE_CODE_BYTES: usize = 4_096;
const MAX_USER_CODE_BYTES: usize = 64;
const MAX_URI_BYTES: usize = 2_048;

/// A device whose owner is asked for consent.
pub struct DeviceConnect {
    by: Administrator,
    grant: Grant,
    dpop_key: Option<DpopPrivateKey>,
    /// Whether the provider asked for a nonce for the question that is out.
    challenged: bool,
    interval_ms: u64,
    until_ms: u64,
    state: State,
}

enum State {
    /// The provider is asked for a code.
    Asking,
    /// Its owner is waited for.
    Waiting(DeviceCode),
    /// Its owner consented.
    Consented(Consented),
}

impl std::fmt::Debug for DeviceConnect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DeviceConnect({:?}, [redacted])", self.grant.id)
    }
}

/// What the terminal shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceShown {
    /// The code that the owner types.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// The same with the code in it, if the provider gives that.
    pub verification_uri_complete: Option<String>,
    /// How long the owner has, in seconds.
    pub expires_in_s: u64,
}

/// What is to be done next.
#[derive(Debug)]
pub enum DeviceStep {
    /// Show this, then wait as for [`Pause`](Self::Pause).
    Show(DeviceShown),
    /// Wait [`DeviceConnect::pause_ms`], then [`Enclave::poll_device`].
    Pause,
    /// Send this at once, then [`Enclave::device_answered`].
    Send(Box<UpstreamRequest>),
    /// There is a refresh token: [`Enclave::keep_device`].
    Keep,
}

impl DeviceConnect {
    /// The administrator who began it.
    #[must_use]
    pub fn by(&self) -> &Administrator {
        &self.by
    }

    /// How long to wait before the next question, in milliseconds.
    #[must_use]
    pub fn pause_ms(&self) -> u64 {
        self.interval_ms
    }

    fn slow_down(&mut self, longer: u64) {
        self.interval_ms = longer.min(MAX_INTERVAL_MS);
    }
}

/// An answer with a device's code [RFC 8628 §3.2].
#[derive(Deserialize)]
struct Body {
    #[serde(deserialize_with = "secret")]
    device_code: Zeroizing<String>,
    user_code: String,
    // Google's own name for it.
    #[serde(alias = "verification_url")]
    verification_uri: String,
    #[serde(default)]
    verification_uri_complete: Option<String>,
    expires_in: u64,
    #[serde(default)]
    interval: Option<u64>,
}

fn secret<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(from).map(Zeroizing::new)
}

/// What an answer with a device's code says.
pub(super) struct Given {
    code: DeviceCode,
    shown: DeviceShown,
    interval_ms: u64,
}

/// Reads an answer with a device's code. Nothing of it is shown that is not what it should be.
pub(super) fn given(raw: &RawResponse) -> Result<Given, ConnectError> {
    let unusable = ConnectError::Unusable;
    let body: Body =
        serde_json::from_slice(raw.expose()).map_err(|_| unusable("it holds no device code"))?;
    let Body {
        mut device_code,
        user_code,
        verification_uri,
        verification_uri_complete,
        expires_in,
        interval,
    } = body;
    let visible = |text: &str, max: usize| {
        (1..=max).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
    };
    if !visible(&device_code, MAX_DEVICE_CODE_BYTES) {
        return Err(unusable("its device code is ill-formed"));
    }
    let code_fits = (1..=MAX_USER_CODE_BYTES).contains(&user_code.len())
        && user_code.bytes().all(|b| (0x20..0x7f).contains(&b));
    if !code_fits {
        return Err(unusable("its user code is ill-formed"));
    }
    let page = |text: &str| {
        visible(text, MAX_URI_BYTES)
            && Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "https" | "http"))
    };
    if !page(&verification_uri) {
        return Err(unusable("its verification URI is none"));
    }
    if expires_in == 0 {
        return Err(unusable("it has expired already"));
    }
    Ok(Given {
        code: DeviceCode::new(std::mem::take(&mut *device_code).into_bytes()),
        shown: DeviceShown {
            user_code,
            verification_uri,
            verification_uri_complete: verification_uri_complete.filter(|text| page(text)),
            expires_in_s: expires_in.min(MAX_LIFETIME_S),
        },
        interval_ms: match interval {
            None | Some(0) => DEFAULT_INTERVAL_MS,
            Some(interval_s) => interval_s.saturating_mul(1_000).min(MAX_INTERVAL_MS),
        },
    })
}

/// What may be shown of a provider's answer to a device [RFC 8628 §3.2].
///
/// # Errors
/// [`ConnectError::Unusable`].
pub fn device_shown(raw: &RawResponse) -> Result<DeviceShown, ConnectError> {
    given(raw).map(|given| given.shown)
}

impl Enclave {
    /// Begins a consent by device, with the first request.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn begin_device(
        &self,
        by: &Administrator,
        grant: Grant,
        now: &Now,
    ) -> Result<(DeviceConnect, UpstreamRequest), AdminError> {
        if !by.owns_tenant(&grant.tenant) {
            return Err(AdminError::Forbidden);
        }
        let view = self.view.read();
        let dpop = self.check_grant(&view, &grant, now)?;
        self.check_place(&view, &grant)?;
        let author = self.author(&view, &grant, now)?;
        let provider = author.provider;
        let consent = provider.consent.as_ref();
        let endpoint = consent.and_then(|consent| consent.device_authorization_endpoint.as_ref());
        let endpoint = endpoint.ok_or(AdminError::Field {
            field: "grant.app",
            rule: "its provider has no device authorization endpoint: connect with a browser instead",
        })?;
        let offline = consent.map(|consent| consent.offline_scopes.as_slice());
        let scope = super::url::asked_scopes(&grant, offline.unwrap_or_default());
        let resources = super::url::asked_resources(&grant, provider);
        let request = author.device(endpoint, &scope, &resources)?;
        let dpop_key = dpop.then(|| BoundKey::generate(&*self.rng)).transpose()?;
        let device = DeviceConnect {
            by: by.clone(),
            grant,
            dpop_key,
            challenged: false,
            interval_ms: DEFAULT_INTERVAL_MS,
            until_ms: now
                .mono_ms
                .saturating_add(MAX_LIFETIME_S.saturating_mul(1_000)),
            state: State::Asking,
        };
        Ok((device, request))
    }

    /// The next question whether the owner consented. The freezes are looked at first.
    ///
    /// # Errors
    /// [`AdminError`]; the device code is of no use any more.
    pub fn poll_device(
        &self,
        device: &DeviceConnect,
        now: &Now,
    ) -> Result<UpstreamRequest, AdminError> {
        let State::Waiting(code) = &device.state else {
            return Err(ConnectError::NotUnderWay.into());
        };
        if now.mono_ms >= device.until_ms {
            return Err(ConnectError::Late.into());
        }
        let view = self.view.read();
        let author = self.author(&view, &device.grant, now)?;
        let provider = author.provider;
        let proof = self.token_proof(provider, device.dpop_key.as_ref(), now)?;
        let resource = super::url::first_resource(&device.grant, provider);
        Ok(author.device_token(code, resource, proof)?)
    }

    /// Takes in the provider's answer.
    ///
    /// # Errors
    /// [`AdminError::Connect`]: nothing came of it.
    pub fn device_answered(
        &self,
        device: &mut DeviceConnect,
        answer: UpstreamAnswer,
        now: &Now,
    ) -> Result<DeviceStep, AdminError> {
        let waiting = match device.state {
            State::Asking => false,
            State::Waiting(_) => true,
            State::Consented(_) => return Ok(DeviceStep::Keep),
        };
        let (status, dpop_nonce, body) = match answer {
            // Whatever became of it: less often from now on [RFC 8628 §3.5].
            UpstreamAnswer::NotSent | UpstreamAnswer::Ambiguous | UpstreamAnswer::Cut { .. }
                if waiting =>
            {
                device.slow_down(device.interval_ms.saturating_mul(2));
                return Ok(DeviceStep::Pause);
            }
            UpstreamAnswer::NotSent => return Err(ConnectError::Unreachable.into()),
            UpstreamAnswer::Ambiguous | UpstreamAnswer::Cut { .. } => {
                return Err(ConnectError::Unclear.into());
            }
            UpstreamAnswer::Response {
                status,
                retry_after_s: _,
                dpop_nonce,
                body,
            } => (status, dpop_nonce, body),
        };
        if waiting {
            return self.device_polled(device, (status, dpop_nonce, &body), now);
        }
        // Some answer errors with 200.
        if status != 200 || crate::refresh::error_code(&body).is_some() {
            let refused = crate::refresh::consented(status, &body, false);
            return Err(refused.err().unwrap_or(ConnectError::Unclear).into());
        }
        let Given {
            code,
            shown,
            interval_ms,
        } = given(&body)?;
        device.state = State::Waiting(code);
        device.interval_ms = interval_ms;
        let life_ms = shown.expires_in_s.saturating_mul(1_000);
        device.until_ms = now.mono_ms.saturating_add(life_ms);
        Ok(DeviceStep::Show(shown))
    }

    fn device_polled(
        &self,
        device: &mut DeviceConnect,
        (status, dpop_nonce, body): (u16, Option<String>, &RawResponse),
        now: &Now,
    ) -> Result<DeviceStep, AdminError> {
        if let Some(nonce) = &dpop_nonce {
            self.keep_token_nonce(&device.grant, nonce)?;
        }
        let bound = device.dpop_key.is_some();
        let asks_for_nonce = bound
            && dpop_nonce.is_some()
            && crate::refresh::asks_for_nonce(status, body)
            && !device.challenged;
        if asks_for_nonce {
            device.challenged = true;
            return Ok(DeviceStep::Send(Box::new(self.poll_device(device, now)?)));
        }
        device.challenged = false;
        match crate::refresh::error_code(body).as_deref() {
            Some("authorization_pending") => return Ok(DeviceStep::Pause),
            Some("slow_down") => {
                device.slow_down(device.interval_ms.saturating_add(SLOW_DOWN_MS));
                return Ok(DeviceStep::Pause);
            }
            // The second is Microsoft Entra's.
            Some("access_denied" | "authorization_declined") => {
                return Err(ConnectError::Denied.into());
            }
            Some("expired_token") => return Err(ConnectError::Late.into()),
            Some(_) | None => {}
        }
        if status == 429 {
            device.slow_down(device.interval_ms.saturating_add(SLOW_DOWN_MS));
            return Ok(DeviceStep::Pause);
        }
        if status == 408 || status >= 500 {
            device.slow_down(device.interval_ms.saturating_mul(2));
            return Ok(DeviceStep::Pause);
        }
        let consented = crate::refresh::consented(status, body, bound)?;
        self.check_consented(&device.grant, &consented)?;
        device.state = State::Consented(consented);
        Ok(DeviceStep::Keep)
    }

    /// As [`keep_consent`](Self::keep_consent), for a device.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn keep_device(
        &self,
        device: &DeviceConnect,
        now: &Now,
    ) -> Result<Pending<GrantView>, AdminError> {
        let State::Consented(consented) = &device.state else {
            return Err(ConnectError::NotUnderWay.into());
        };
        let key = device.dpop_key.as_ref();
        self.keep_consented(&device.by, &device.grant, consented, key, now)
    }
}
