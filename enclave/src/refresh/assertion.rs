//! The assertion that an app authenticates by at its provider [RFC 7523].

use jose::SigningKey;
use jose::dpop::random_jti;
use jose::json::ObjectWriter;
use jose::jws::{self, HeaderMember};
use ring::rand::SecureRandom;

use crate::registry::{App, Provider};
use crate::seal::SealError;
use crate::time::Now;

/// The form's `client_assertion_type` [RFC 7523 §2.2].
pub(super) const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How long an assertion may be used, in seconds: for the one request that it is made for.
const LIFETIME_S: u64 = 60;

/// Whom an assertion is for: the issuer, so that no other server can use it [RFC 9700 §4.4], where that is known and
/// nothing else is asked for.
pub(super) fn audience(provider: &Provider) -> &str {
    let named = provider.profile.assertion_audience.as_deref();
    named
        .or(provider.issuer.as_deref())
        .unwrap_or(provider.token_endpoint.as_str())
}

/// Signs an assertion with a `jti` of its own. Its time is the earliest that it may be: a provider refuses one from the
/// future sooner than one that is a little old.
pub(super) fn sign(
    app: &App,
    audience: &str,
    key: &SigningKey,
    now: &Now,
    rng: &dyn SecureRandom,
) -> Result<String, SealError> {
    let failed = |_| SealError::Failed;
    let kid = key.public_key().thumbprint().to_string();
    let id = app.oauth_client_id.as_str();
    let claims = ObjectWriter::with_capacity(512)
        .string("iss", id)
        .string("sub", id)
        .string("aud", audience)
        .string("jti", &random_jti(rng).map_err(failed)?)
        .u64("iat", now.lo_s)
        .u64("exp", now.lo_s.saturating_add(LIFETIME_S))
        .finish();
    // Without `typ`: providers that check it at all disagree on its value.
    let members = [HeaderMember::Kid(&kid)];
    jws::sign(&members, claims.as_bytes(), key, rng).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jose::Alg;
    use jose::jws::Compact;
    use ring::rand::SystemRandom;

    use super::*;
    use crate::http_url::HttpUrl;
    use crate::registry::{AuthMethod, Rotation};
    use crate::testing::{World, id, key};

    #[test]
    fn an_assertion_is_for_one_audience_and_one_use_and_a_minute() {
        let (key, now) = (key(), World::new(Rotation::Strict).now);
        let app = App {
            id: id("a"),
            vendor: id("v"),
            provider: id("p"),
            oauth_client_id: "id \"1\"".to_owned(),
            auth_method: AuthMethod::PrivateKeyJwt,
            key: None,
        };
        let mut seen = BTreeSet::new();
        for _ in 0..3 {
            let text = sign(&app, "https://op.example", &key, &now, &SystemRandom::new()).unwrap();
            let jws = Compact::parse(&text).unwrap();
            assert_eq!(
                jws.kid(),
                Some(key.public_key().thumbprint().to_string().as_str())
            );
            let claims = jws.verify(key.public_key(), &[Alg::Es256]).unwrap();
            let claims = claims.claims().unwrap();
            for name in ["iss", "sub"] {
                assert_eq!(claims.str(name), Ok("id \"1\""), "{name}");
            }
            assert_eq!(claims.str("aud"), Ok("https://op.example"));
            assert_eq!(claims.u64("iat"), Ok(now.lo_s));
            assert_eq!(claims.u64("exp"), Ok(now.lo_s + 60));
            assert!(seen.insert(claims.str("jti").unwrap().to_owned()));
        }
    }

    #[test]
    fn the_issuer_is_the_audience_where_it_is_known_and_nothing_else_asked_for() {
        let mut provider = World::new(Rotation::Strict).provider();
        provider.token_endpoint = HttpUrl::parse("https://op.example/token").unwrap();
        assert_eq!(audience(&provider), "https://op.example/token");
        provider.issuer = Some("https://op.example".to_owned());
        assert_eq!(audience(&provider), "https://op.example");
        provider.profile.assertion_audience = Some("urn:op".to_owned());
        assert_eq!(audience(&provider), "urn:op");
    }
}
