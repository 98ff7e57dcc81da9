//! The parameters of a form-encoded request, each at most once [RFC 6749 §3.2].

use std::{borrow::Cow, collections::BTreeMap, fmt};

use secrecy::{ExposeSecret, SecretString};
use url::form_urlencoded;

use super::oauth_error::OAuthError;

/// Parsed parameters; their values may be secrets and are not shown.
pub(crate) struct Form(BTreeMap<String, SecretString>);

impl Form {
    /// Parses `body`. A parameter without a value counts as absent.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, OAuthError> {
        let mut parameters = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(body) {
            if parameters.contains_key(name.as_ref()) {
                return Err(OAuthError::InvalidRequest("a parameter is repeated"));
            }
            parameters.insert(name.into_owned(), SecretString::from(value.into_owned()));
        }
        parameters.retain(|_, value| !value.expose_secret().is_empty());
        Ok(Self(parameters))
    }

    /// A parameter's value.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(ExposeSecret::expose_secret)
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Undoes form encoding of one value, as in `client_secret_basic` [RFC 6749 §2.3.1].
pub(crate) fn decode_component(text: &str) -> Option<String> {
    // `&` and `=` would end the value early; an encoded value has neither.
    if text.contains(['&', '=']) {
        return None;
    }
    let mut pairs = form_urlencoded::parse(text.as_bytes());
    let decoded = pairs.next().map_or(Cow::Borrowed(""), |(name, _)| name);
    Some(decoded.into_owned())
}
