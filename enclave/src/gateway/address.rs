//! How a resource of the gateway is named: by a path, or by a host of its own.
//!
//! `{gateway}/g/{grant}/{target}` and `https://{target}--{grant}.{gateway's host}` name the same target of the same
//! grant. Each is a resource indicator of its own, the audience of a token of its own, and what its proofs are for.

use crate::ids::{GrantId, TargetName};

/// Between target and grant: no id has two hyphens in a row.
const BETWEEN: &str = "--";

/// The longest label of a name in bytes [RFC 1035 §2.3.4].
const MAX_LABEL_BYTES: usize = 63;

/// The longest host in bytes.
const MAX_HOST_BYTES: usize = 253;

const HTTPS: &str = "https://";

/// The resource indicator by path.
pub(crate) fn by_path(gateway_origin: &str, grant: &GrantId, target: &TargetName) -> String {
    format!("{gateway_origin}/g/{grant}/{target}")
}

/// The resource indicator by host, if the gateway's host is a name and both ids fit one label.
pub(crate) fn by_host(
    gateway_origin: &str,
    grant: &GrantId,
    target: &TargetName,
) -> Option<String> {
    let authority = named_authority(gateway_origin)?;
    let label = format!("{target}{BETWEEN}{grant}");
    let host = authority.split(':').next().unwrap_or_default();
    let length = label.len().saturating_add(1).saturating_add(host.len());
    (label.len() <= MAX_LABEL_BYTES && length <= MAX_HOST_BYTES)
        .then(|| format!("{HTTPS}{label}.{authority}"))
}

/// The grant and target of a resource indicator by host.
pub(crate) fn of_host(gateway_origin: &str, resource: &str) -> Option<(GrantId, TargetName)> {
    of_authority(gateway_origin, resource.strip_prefix(HTTPS)?)
}

/// The grant and target that the authority of a request names, if it is below the gateway's. It is compared as names
/// are, without regard to case; the default port may be spelled out.
pub(crate) fn of_authority(gateway_origin: &str, authority: &str) -> Option<(GrantId, TargetName)> {
    let own = named_authority(gateway_origin)?;
    let (label, parent) = authority.split_once('.')?;
    let default = parent.strip_suffix(":443");
    if !parent.eq_ignore_ascii_case(own) && !default.is_some_and(|p| p.eq_ignore_ascii_case(own)) {
        return None;
    }
    let label = label.to_ascii_lowercase();
    let (target, grant) = label.split_once(BETWEEN)?;
    Some((GrantId::parse(grant).ok()?, TargetName::parse(target).ok()?))
}

/// The resource indicator that the authority of a request names, if it is below the gateway's.
#[must_use]
pub fn resource_of_authority(gateway_origin: &str, authority: &str) -> Option<String> {
    let (grant, target) = of_authority(gateway_origin, authority)?;
    by_host(gateway_origin, &grant, &target)
}

/// Whether an authority is below the gateway's own, so that all of its paths are an API's.
#[must_use]
pub fn is_below(gateway_origin: &str, authority: &str) -> bool {
    of_authority(gateway_origin, authority).is_some()
}

/// Host and port of the gateway's origin, if the host is a name.
fn named_authority(gateway_origin: &str) -> Option<&str> {
    let authority = gateway_origin.strip_prefix(HTTPS)?;
    let host = authority.split(':').next().unwrap_or_default();
    // The last label of a name is never a number alone.
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit());
    (!numeric && !authority.starts_with('[')).then_some(authority)
}

/// The name that a certificate for all hosts of the gateway has: none if it has a single label, below which no
/// verifier takes a wildcard.
#[must_use]
pub fn wildcard(gateway_origin: &str) -> Option<String> {
    let authority = named_authority(gateway_origin)?;
    let host = authority.split(':').next().unwrap_or_default();
    host.contains('.').then(|| format!("*.{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "https://gateway.example:8445";

    fn grant(text: &str) -> GrantId {
        GrantId::parse(text).unwrap()
    }

    fn target(text: &str) -> TargetName {
        TargetName::parse(text).unwrap()
    }

    #[test]
    fn a_host_names_target_and_grant() {
        let host = by_host(ORIGIN, &grant("acme-crm"), &target("api")).unwrap();
        assert_eq!(host, "https://api--acme-crm.gateway.example:8445");
        let named = Some((grant("acme-crm"), target("api")));
        assert_eq!(of_host(ORIGIN, &host), named);
        for authority in [
            "api--acme-crm.gateway.example:8445",
            "API--Acme-CRM.Gateway.Example:8445",
        ] {
            assert_eq!(of_authority(ORIGIN, authority), named, "{authority}");
        }
        let standard = "https://gateway.example";
        for authority in [
            "api--acme-crm.gateway.example",
            "api--acme-crm.gateway.example:443",
        ] {
            assert_eq!(of_authority(standard, authority), named, "{authority}");
        }
    }

    #[test]
    fn other_authorities_name_nothing() {
        for authority in [
            "",
            "gateway.example:8445",
            "api.gateway.example:8445",
            "api--acme-crm.gateway.example",
            "api--acme-crm.gateway.example:443",
            "api--acme-crm.evil.example:8445",
            "api--acme-crm.x.gateway.example:8445",
            "x.api--acme-crm.gateway.example:8445",
            "api--acme--crm.gateway.example:8445",
            "api---acme.gateway.example:8445",
            "--acme.gateway.example:8445",
            "api--.gateway.example:8445",
            "api--acme_crm.gateway.example:8445",
            "api--acme-crm.gateway.example.:8445",
            "a@api--acme-crm.gateway.example:8445",
        ] {
            assert_eq!(of_authority(ORIGIN, authority), None, "{authority}");
            assert!(!is_below(ORIGIN, authority));
        }
    }

    #[test]
    fn an_address_and_ids_that_fit_no_label_have_no_host_form() {
        let (g, t) = (grant("acme"), target("api"));
        for origin in ["https://127.0.0.1:1", "https://[::1]:1", "https://10.0.0.1"] {
            assert_eq!(by_host(origin, &g, &t), None, "{origin}");
            assert_eq!(wildcard(origin), None, "{origin}");
        }
        let long = grant(&"g".repeat(58));
        assert!(by_host(ORIGIN, &long, &t).is_some());
        let longer = grant(&"g".repeat(59));
        assert_eq!(by_host(ORIGIN, &longer, &t), None);
        assert_eq!(wildcard(ORIGIN).unwrap(), "*.gateway.example");
        assert_eq!(wildcard("https://localhost:1"), None);
    }
}
