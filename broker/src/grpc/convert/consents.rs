//! Messages of how owners consent at a provider.

use enclave::admin::AdminError;
use enclave::connect::{Callback, MAX_CALLBACK_BYTES};
use enclave::registry::Consent;
use enclave::secret::AuthorizationCode;
use proto::v1;

use super::url;

/// Reads what came back with an owner's browser.
///
/// # Errors
/// [`AdminError::Field`].
pub fn callback(message: &v1::CompleteConnectRequest) -> Result<Callback, AdminError> {
    let v1::CompleteConnectRequest { state, code, iss } = message;
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
    } = message;
    let field = "provider.consent.authorization_endpoint";
    Ok(Consent {
        authorization_endpoint: url(field, &authorization_endpoint)?,
        parameters: parameters.into_iter().collect(),
        offline_scopes,
        iss,
    })
}

pub(super) fn consent_message(consent: Consent) -> v1::Consent {
    let Consent {
        authorization_endpoint,
        parameters,
        offline_scopes,
        iss,
    } = consent;
    v1::Consent {
        authorization_endpoint: authorization_endpoint.as_str().to_owned(),
        parameters: parameters.into_iter().collect(),
        offline_scopes,
        iss,
    }
}
