//! Protected-resource metadata [RFC 9728]: who issues tokens for a resource of the
//! gateway, and how they are shown.
//!
//! The document follows from the names in its URL, so that asking tells nobody
//! which grants there are.

use enclave::config::Config;
use enclave::gateway::address;
use enclave::ids::{GrantId, TargetName};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response};
use serde_json::json;

use super::{AnswerBody, full};

/// Between the host and the path of a resource [RFC 9728 §3].
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// The resource that a path lies in, `/g/{grant}/{target}`, and what follows it.
fn resource(path: &str) -> Option<(String, Option<&str>)> {
    let mut parts = path.strip_prefix("/g/")?.splitn(3, '/');
    let grant = GrantId::parse(parts.next()?).ok()?;
    let target = TargetName::parse(parts.next()?).ok()?;
    Some((format!("/g/{grant}/{target}"), parts.next()))
}

/// The URL of the metadata of the resource that a path lies in.
#[must_use]
pub fn url(config: &Config, path: &str) -> Option<String> {
    let (prefix, _) = resource(path)?;
    Some(format!("{}{WELL_KNOWN}{prefix}", config.gateway_origin))
}

/// The URL of the metadata of the resource that a host names.
#[must_use]
pub fn url_below_host(config: &Config, authority: &str) -> Option<String> {
    let resource = address::resource_of_authority(&config.gateway_origin, authority)?;
    Some(format!("{resource}{WELL_KNOWN}"))
}

/// The answer, if the request asks for metadata: of the resource that its host names, or of one that its path names.
pub(super) fn answer(
    config: &Config,
    method: &Method,
    authority: &str,
    path: &str,
) -> Option<Response<AnswerBody>> {
    if *method != Method::GET && *method != Method::HEAD {
        return None;
    }
    let path = path.strip_prefix(WELL_KNOWN)?;
    let resource = match address::resource_of_authority(&config.gateway_origin, authority) {
        Some(resource) if path.is_empty() => resource,
        Some(_) => return None,
        None => {
            let (prefix, None) = resource(path)? else {
                return None;
            };
            format!("{}{prefix}", config.gateway_origin)
        }
    };
    let document = json!({
        "resource": resource,
        "authorization_servers": [config.issuer],
        "bearer_methods_supported": ["header"],
        // A token may be bound to a certificate instead [RFC 8705 §3].
        "dpop_bound_access_tokens_required": false,
        "dpop_signing_alg_values_supported": ["ES256", "EdDSA"],
        "tls_client_certificate_bound_access_tokens": true,
    });
    let mut response = Response::new(full(document.to_string().into_bytes()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=300"),
    );
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    const ORIGIN: &str = "https://gateway.test";

    async fn ask(method: Method, path: &str) -> Option<serde_json::Value> {
        ask_at("gateway.test", method, path).await
    }

    async fn ask_at(host: &str, method: Method, path: &str) -> Option<serde_json::Value> {
        let config = crate::public::tests::config();
        let config = Config {
            gateway_origin: ORIGIN.into(),
            ..config
        };
        let response = answer(&config, &method, host, path)?;
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Some(serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_resource_says_who_issues_tokens_for_it() {
        let path = "/.well-known/oauth-protected-resource/g/contacts/api";
        let told = ask(Method::GET, path).await.unwrap();
        assert_eq!(told["resource"], "https://gateway.test/g/contacts/api");
        let servers = &told["authorization_servers"];
        assert_eq!(servers[0], crate::public::tests::config().issuer);
        assert_eq!(told["tls_client_certificate_bound_access_tokens"], true);
    }

    #[tokio::test]
    async fn a_host_that_names_a_resource_has_its_metadata_at_the_root() {
        let host = "api--contacts.gateway.test";
        let path = "/.well-known/oauth-protected-resource";
        let told = ask_at(host, Method::GET, path).await.unwrap();
        assert_eq!(told["resource"], "https://api--contacts.gateway.test");
        // All else below it is the API's.
        let path = format!("{path}/g/contacts/api");
        assert_eq!(ask_at(host, Method::GET, &path).await, None);
    }

    #[tokio::test]
    async fn what_is_no_resource_has_no_metadata() {
        for path in [
            "/.well-known/oauth-protected-resource",
            "/.well-known/oauth-protected-resource/g/contacts",
            "/.well-known/oauth-protected-resource/g/contacts/api/",
            "/.well-known/oauth-protected-resource/g/contacts/api/x",
            "/.well-known/oauth-protected-resource/g/Contacts/api",
            "/.well-known/oauth-protected-resource/x/contacts/api",
            "/g/contacts/api",
        ] {
            assert_eq!(ask(Method::GET, path).await, None, "{path}");
        }
        let path = "/.well-known/oauth-protected-resource/g/contacts/api";
        assert_eq!(ask(Method::POST, path).await, None);
    }

    #[test]
    fn a_challenge_points_at_the_resource_of_its_path() {
        let config = Config {
            gateway_origin: ORIGIN.into(),
            ..crate::public::tests::config()
        };
        let expected = "https://gateway.test/.well-known/oauth-protected-resource/g/contacts/api";
        for path in [
            "/g/contacts/api",
            "/g/contacts/api/",
            "/g/contacts/api/v1/x",
        ] {
            assert_eq!(url(&config, path).as_deref(), Some(expected), "{path}");
        }
        for path in ["/", "/g/contacts", "/g/con\"tacts/api"] {
            assert_eq!(url(&config, path), None, "{path}");
        }
    }
}
