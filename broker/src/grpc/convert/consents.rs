//! Messages of how owners consent at a provider.

use enclave::admin::AdminError;
use enclave::connect::{Callback, MAX_CALLBACK_BYTES};
use enclave::registry::Consent;
use enclave::secret::AuthorizationCode;
use proto::v1;

use super::url;

/// How an administrator completes a consent.
#[derive(Debug)]
pub enum Completion {
    /// By what came back to its own machine.
    Callback(Callback),
    /// By the code that the public listener's page shows.
    Confirmed {
        /// `state`.
        state: String,
        /// As it was typed.
        typed: String,
    },
}

/// The longest text that is typed off a page.
const MAX_TYPED_BYTES: usize = 64;

/// Reads how a consent is completed.
///
/// # Errors
/// [`AdminError::Field`].
pub fn completion(message: v1::CompleteConnectRequest) -> Result<Completion, AdminError> {
    if message.confirmation.is_empty() {
        return callback(&message).map(Completion::Callback);
    }
    let v1::CompleteConnectRequest {
        state,
        code,
        iss,
        confirmation,
    } = message;
    if !code.is_empty() || !iss.is_empty() {
        return Err(AdminError::Field {
            field: "confirmation",
            rule: "stands alone: what came back is here already",
        });
    }
    if confirmation.len() > MAX_TYPED_BYTES {
        return Err(AdminError::Field {
            field: "confirmation",
            rule: "must be at most 64 bytes",
        });
    }
    Ok(Completion::Confirmed {
        state,
        typed: confirmation,
    })
}

fn callback(message: &v1::CompleteConnectRequest) -> Result<Callback, AdminError> {
    let v1::CompleteConnectRequest {
        state,
        code,
        iss,
        confirmation: _,
    } = message;
    let visible = |text: &str| {
        text.len() <= MAX_CALLBACK_BYTES && text.bytes().all(|b| (0x20..0x7f).contains(&b))
    };
    for (field, text) in [("state", state), ("code", code), ("iss", iss)] {
        if !visible(text) || (text.is_empty() && field != "iss") {
            return Err(AdminError::Field {
                field,
                rule: "must be 1 to 4096 characters of printable ASCII",
            });
        }
    }
    Ok(Callback {
        state: state.clone(),
        code: AuthorizationCode::new(code.clone().into_bytes()),
        iss: (!iss.is_empty()).then(|| iss.clone()),
    })
}

pub(super) fn consent(message: v1::Consent) -> Result<Consent, AdminError> {
    let v1::Consent {
        authorization_endpoint,
        parameters,
        offline_scopes,
        iss,
        device_authorization_endpoint,
    } = message;
    let field = "provider.consent.authorization_endpoint";
    let device = "provider.consent.device_authorization_endpoint";
    let endpoint = Some(&device_authorization_endpoint).filter(|text| !text.is_empty());
    Ok(Consent {
        authorization_endpoint: url(field, &authorization_endpoint)?,
        parameters: parameters.into_iter().collect(),
        offline_scopes,
        iss,
        device_authorization_endpoint: endpoint.map(|text| url(device, text)).transpose()?,
    })
}

pub(super) fn consent_message(consent: Consent) -> v1::Consent {
    let Consent {
        authorization_endpoint,
        parameters,
        offline_scopes,
        iss,
        device_authorization_endpoint,
    } = consent;
    v1::Consent {
        authorization_endpoint: authorization_endpoint.as_str().to_owned(),
        parameters: parameters.into_iter().collect(),
        offline_scopes,
        iss,
        device_authorization_endpoint: device_authorization_endpoint
            .map(|endpoint| endpoint.as_str().to_owned())
            .unwrap_or_default(),
    }
}
