//! Where an owner's browser comes back to after a consent [RFC 6749 §4.1.2, RFC 9207].
//!
//! Who the browser is, is not known: what it brings is kept, and nothing is exchanged before whoever began the consent
//! has typed what the page shows.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use enclave::admin::AdminError;
use enclave::connect::{CALLBACK_PATH, Callback, ConnectError, MAX_CALLBACK_BYTES};
use enclave::secret::AuthorizationCode;

use super::consent_page::{Page, to_be_granted};
use super::form::Form;
use crate::shell::Shell;

pub(super) fn router(shell: &Arc<Shell>) -> Router {
    Router::new()
        .route(CALLBACK_PATH, get(callback))
        .with_state(Arc::clone(shell))
}

async fn callback(State(shell): State<Arc<Shell>>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let page = match answer(query) {
        Ok(answer) => took(&shell, answer),
        Err(why) => Page::failed(StatusCode::BAD_REQUEST, why),
    };
    page.into_response()
}

/// What came back.
#[derive(Debug)]
enum Answer {
    /// The owner consented.
    Consented(Callback),
    /// The provider, or the owner there, said no to what has this `state`.
    Refused(String),
}

fn answer(query: &str) -> Result<Answer, &'static str> {
    let ill_formed = "This answer is ill-formed.";
    let form = Form::parse(query.as_bytes()).map_err(|_| ill_formed)?;
    let value = |name: &str| match form.value(name) {
        Some(value) if !fits(value) => Err(ill_formed),
        found => Ok(found.map(str::to_owned)),
    };
    let [state, code, iss, error] = ["state", "code", "iss", "error"].map(value);
    let state = state?.ok_or("This answer does not say what it is the answer to.")?;
    match (code?, error?) {
        (Some(code), None) => Ok(Answer::Consented(Callback {
            state,
            code: AuthorizationCode::new(code.into_bytes()),
            iss: iss?,
        })),
        (None, Some(_)) => Ok(Answer::Refused(state)),
        (None, None) | (Some(_), Some(_)) => Err(ill_formed),
    }
}

fn fits(value: &str) -> bool {
    value.len() <= MAX_CALLBACK_BYTES && value.bytes().all(|b| (0x20..0x7f).contains(&b))
}

fn took(shell: &Shell, answer: Answer) -> Page {
    let now = shell.clock.now();
    let taken = match answer {
        Answer::Consented(callback) => shell.enclave.browser_came(callback, &now),
        Answer::Refused(state) => {
            let noted = shell.enclave.browser_was_refused(&state, &now);
            noted.and(Err(ConnectError::Denied.into()))
        }
    };
    let (page, anybody_waits) = match taken {
        Ok(came) => (to_be_granted(&came), true),
        Err(error) => refused(&error),
    };
    if anybody_waits {
        shell.consents.browser_came();
    }
    page
}

/// What a stranger learns, which is nothing of what is under way; and whether it is the answer that somebody waits for.
fn refused(error: &AdminError) -> (Page, bool) {
    let is = |kinds: &[ConnectError]| {
        let mut kinds = kinds.iter();
        kinds.any(|kind| *error == AdminError::Connect(kind.clone()))
    };
    if is(&[ConnectError::Denied]) {
        let why = "You did not consent.";
        (Page::failed(StatusCode::OK, why), true)
    } else if is(&[ConnectError::Issuer, ConnectError::NoIssuer]) {
        let why = "This answer is not that of the provider that was asked.";
        (Page::failed(StatusCode::BAD_REQUEST, why), true)
    } else {
        let why =
            "Nothing of this is under way: it was answered already, or took too long. Begin anew.";
        (Page::failed(StatusCode::BAD_REQUEST, why), false)
    }
}

#[cfg(test)]
mod tests;
