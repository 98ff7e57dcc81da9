//! The URL that the owner is sent to [RFC 6749 §4.1.1].

use base64ct::{Base64UrlUnpadded, Encoding};
use ring::digest::{SHA256, digest};
use url::Url;

use crate::registry::{App, Consent, Grant, Provider};

/// The grant's scopes, and those without which no refresh token comes back.
pub(super) fn asked_scopes(grant: &Grant, offline: &[String]) -> String {
    let mut scopes: Vec<&str> = grant.scopes.iter().collect();
    for offline in offline {
        if !scopes.contains(&offline.as_str()) {
            scopes.push(offline);
        }
    }
    scopes.join(" ")
}

/// What the provider knows the grant's targets by [RFC 8707].
pub(super) fn asked_resources<'a>(grant: &Grant, provider: &'a Provider) -> Vec<&'a str> {
    let targets = grant.targets.iter();
    let targets = targets.filter_map(|name| provider.target(name));
    targets
        .filter_map(|target| target.api.upstream_resource())
        .collect()
}

/// The one that the first access token is asked for with.
pub(super) fn first_resource<'a>(grant: &Grant, provider: &'a Provider) -> Option<&'a str> {
    asked_resources(grant, provider).first().copied()
}

/// All that the owner is asked.
pub(super) struct Asked<'a> {
    pub(super) app: &'a App,
    pub(super) provider: &'a Provider,
    pub(super) consent: &'a Consent,
    pub(super) grant: &'a Grant,
    pub(super) redirect_uri: &'a str,
    pub(super) state: &'a str,
    pub(super) verifier: &'a [u8],
    /// The thumbprint of the key that the tokens are to be bound to.
    pub(super) jkt: Option<String>,
}

impl Asked<'_> {
    pub(super) fn to_url(&self) -> String {
        let scope = asked_scopes(self.grant, &self.consent.offline_scopes);
        let challenge = digest(&SHA256, self.verifier);
        let challenge = Base64UrlUnpadded::encode_string(challenge.as_ref());
        let endpoint = &self.consent.authorization_endpoint;
        // It was parsed before, so it parses.
        let Ok(mut url) = Url::parse(endpoint.as_str()) else {
            return endpoint.as_str().to_owned();
        };
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.app.oauth_client_id)
            .append_pair("redirect_uri", self.redirect_uri)
            .append_pair("scope", &scope)
            .append_pair("state", self.state)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        if let Some(jkt) = &self.jkt {
            query.append_pair("dpop_jkt", jkt);
        }
        for resource in asked_resources(self.grant, self.provider) {
            query.append_pair("resource", resource);
        }
        for (name, value) in &self.consent.parameters {
            query.append_pair(name, value);
        }
        drop(query);
        url.into()
    }
}
