//! What everything is called in the development stack.

/// The tenant: the organisation whose data is at stake.
pub const TENANT: &str = "acme";
/// The vendor of the integration.
pub const VENDOR: &str = "crm-sync";
/// The vendor's workload.
pub const CLIENT: &str = "crm-sync-worker";
/// The provider.
pub const PROVIDER: &str = "example-crm";
/// The vendor's registration at the provider.
pub const APP: &str = "crm-sync-app";
/// The tenant's consent.
pub const GRANT: &str = "acme-crm";
/// The API behind the gateway.
pub const TARGET: &str = "api";
/// What may be done there.
pub const SCOPES: [&str; 2] = ["contacts.read", "contacts.write"];
/// The administrator that the manifest names.
pub const ADMINISTRATOR: &str = "dev-admin";
/// The app's `client_id` at the provider.
pub const OAUTH_CLIENT_ID: &str = "crm-sync-at-example-crm";
/// Who consents at the provider.
pub const USER: &str = "alice@acme.example";
/// The image that is measured unless another is named.
pub const IMAGE: &str = "tokenkeep-dev";

/// The resource indicator of the API behind the gateway: the token's `aud`.
#[must_use]
pub fn resource(gateway_url: &str) -> String {
    format!("{gateway_url}/g/{GRANT}/{TARGET}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ids() {
        for name in [TENANT, VENDOR, CLIENT, PROVIDER, APP, GRANT, TARGET] {
            let chars = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(
                (1..=63).contains(&name.len()) && name.chars().all(chars) && !name.contains("--"),
                "{name}"
            );
        }
    }

    #[test]
    fn the_resource_is_one_of_the_gateway() {
        let gateway = "https://127.0.0.1:5";
        let url = format!("{}/contacts", resource(gateway));
        let parsed = tokenkeep::resource_url::ResourceUrl::parse(&url, gateway).unwrap();
        assert_eq!((parsed.grant(), parsed.target()), (GRANT, TARGET));
        assert_eq!(parsed.resource(), resource(gateway));
    }
}
