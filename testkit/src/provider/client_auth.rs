//! Which client is calling an OAuth endpoint, and is it really that one [RFC 6749 §2.3].

use base64ct::{Base64, Encoding};
use http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::{
    config::{Client, ClientAuth},
    form::{Form, decode_component},
    oauth_error::OAuthError,
};

/// Authenticates the caller by the one method that its client registered.
pub(crate) fn authenticate<'a>(
    clients: &'a [Client],
    headers: &HeaderMap,
    form: &Form,
) -> Result<&'a Client, OAuthError> {
    let mut authorization = headers.get_all(header::AUTHORIZATION).iter();
    let basic = authorization.next();
    if authorization.next().is_some() {
        return Err(OAuthError::InvalidRequest("several Authorization headers"));
    }
    let client_id = form.value("client_id");
    let refused = OAuthError::InvalidClient {
        basic: basic.is_some(),
    };

    if let Some(value) = basic {
        if form.value("client_secret").is_some() {
            return Err(OAuthError::InvalidRequest("several client authentications"));
        }
        let (id, secret) = value.to_str().ok().and_then(parse_basic).ok_or(refused)?;
        if client_id.is_some_and(|other| other != id) {
            return Err(OAuthError::InvalidRequest("two different clients"));
        }
        let client = find(clients, &id).ok_or(refused)?;
        return match &client.auth {
            ClientAuth::SecretBasic(expected) if same(expected, &secret) => Ok(client),
            ClientAuth::SecretBasic(_) | ClientAuth::SecretPost(_) | ClientAuth::None => {
                Err(refused)
            }
        };
    }

    let client = client_id.and_then(|id| find(clients, id)).ok_or(refused)?;
    match (&client.auth, form.value("client_secret")) {
        (ClientAuth::SecretPost(expected), Some(secret))
            if same(expected, &SecretString::from(secret)) =>
        {
            Ok(client)
        }
        (ClientAuth::None, None) => Ok(client),
        (ClientAuth::SecretBasic(_) | ClientAuth::SecretPost(_) | ClientAuth::None, _) => {
            Err(refused)
        }
    }
}

fn find<'a>(clients: &'a [Client], id: &str) -> Option<&'a Client> {
    clients.iter().find(|client| client.id == id)
}

fn same(expected: &SecretString, given: &SecretString) -> bool {
    expected
        .expose_secret()
        .as_bytes()
        .ct_eq(given.expose_secret().as_bytes())
        .into()
}

fn parse_basic(value: &str) -> Option<(String, SecretString)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(Base64::decode_vec(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((
        decode_component(id)?,
        SecretString::from(decode_component(secret)?),
    ))
}
