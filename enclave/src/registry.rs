//! What is registered: tenants, vendors, clients, providers, apps and grants.

use std::collections::BTreeMap;

use jose::PublicKey;
use jose::jwk::{Jwk, JwkError};
use serde::{Deserialize, Serialize};

use crate::http_url::HttpUrl;
use crate::ids::{AppId, ClientId, GrantId, ProviderId, TargetName, TenantId, VendorId};
use crate::limits::Limits;
use crate::operation::{Operation, OperationName};
use crate::profile::Profile;
use crate::scope::Scopes;
use crate::spiffe::SpiffeId;
use crate::terms::GrantTerms;

/// The organisation whose data is at stake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name for people.
    pub display_name: String,
    /// What may be done with all of its grants together: its own to set.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
}

/// The organisation that runs an integration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vendor {
    /// Its id.
    pub id: VendorId,
    /// Its name for people.
    pub display_name: String,
}

/// One registered workload of a vendor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Its id, the `client_id` of its tokens.
    pub id: ClientId,
    /// Whose workload it is.
    pub vendor: VendorId,
    /// SHA-256 of the SubjectPublicKeyInfo of its TLS certificate, if it
    /// authenticates by one.
    pub tls_spki_sha256: Option<[u8; 32]>,
    /// The keys that it signs assertions with, each `kid` once.
    #[serde(default)]
    pub jwks: Vec<ClientKey>,
    /// The SPIFFE ID of its certificates, if it authenticates by them.
    #[serde(default)]
    pub spiffe_id: Option<SpiffeId>,
    /// What it may do, whatever the grants are: its vendor's to set.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// What it is.
    #[serde(default, skip_serializing_if = "ClientKind::is_service")]
    pub kind: ClientKind,
}

/// What a client is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientKind {
    /// A program that does what it was written for.
    #[default]
    Service,
    /// One that decides by itself what it does next, AI or other.
    Agent,
}

impl ClientKind {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde calls it with a reference"
    )]
    fn is_service(&self) -> bool {
        *self == Self::Service
    }
}

/// A public key that a client signs assertions with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientKey {
    kid: String,
    key: PublicKey,
}

impl ClientKey {
    /// Reads a public JWK. One without `kid` is known by its thumbprint
    /// [RFC 7638].
    ///
    /// # Errors
    /// Any [`JwkError`].
    pub fn from_json(text: &str) -> Result<Self, JwkError> {
        let Jwk { key, kid } = Jwk::from_json(text)?;
        let kid = kid.unwrap_or_else(|| key.thumbprint().to_string());
        Ok(Self { kid, key })
    }

    /// A key that is known by its thumbprint.
    #[must_use]
    pub fn of(key: &PublicKey) -> Self {
        Self {
            kid: key.thumbprint().to_string(),
            key: *key,
        }
    }

    /// The key as a JWK, with its `kid`.
    #[must_use]
    pub fn to_json(&self) -> String {
        self.key.to_json_with_kid(&self.kid)
    }

    /// What an assertion's header names it by.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
}

impl TryFrom<String> for ClientKey {
    type Error = JwkError;

    fn try_from(text: String) -> Result<Self, JwkError> {
        Self::from_json(&text)
    }
}

impl From<ClientKey> for String {
    fn from(key: ClientKey) -> Self {
        key.to_json()
    }
}

/// An upstream authorization server and its APIs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Its id.
    pub id: ProviderId,
    /// Its issuer identifier [RFC 8414 §2], if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Where refresh tokens are redeemed.
    pub token_endpoint: HttpUrl,
    /// Where it is told that a token is revoked [RFC 7009], if anywhere.
    #[serde(default)]
    pub revocation_endpoint: Option<HttpUrl>,
    /// How an owner consents there, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consent: Option<Consent>,
    /// How its refresh tokens behave.
    pub rotation: Rotation,
    /// Its named API hosts.
    pub targets: Vec<Target>,
    /// How else its token endpoint behaves.
    #[serde(default)]
    pub profile: Profile,
    /// The profile that it was registered by, if any.
    #[serde(default)]
    pub made_from: Option<ProfileOrigin>,
}

/// How an owner consents at a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// Where [RFC 6749 §3.1].
    pub authorization_endpoint: HttpUrl,
    /// What is added so that a refresh token comes back, such as Google's `access_type=offline`.
    #[serde(default)]
    pub parameters: BTreeMap<String, String>,
    /// Scopes without which no refresh token comes back.
    #[serde(default)]
    pub offline_scopes: Vec<String>,
    /// Whether `iss` always comes back [RFC 9207].
    #[serde(default)]
    pub iss: bool,
    /// Where a device asks for a code [RFC 8628 §3.1], if anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_authorization_endpoint: Option<HttpUrl>,
}

/// Which profile a provider was registered by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileOrigin {
    /// What the profile is called.
    pub id: String,
    /// SHA-256 of its file.
    pub sha256: [u8; 32],
    /// SHA-256 of the signer's SubjectPublicKeyInfo; `None` if the profile is part
    /// of the image.
    pub signer: Option<[u8; 32]>,
    /// What was put in the places of its parameters.
    pub parameters: BTreeMap<String, String>,
}

impl Provider {
    /// The target of a name.
    #[must_use]
    pub fn target(&self, name: &TargetName) -> Option<&Target> {
        self.targets.iter().find(|target| target.name == *name)
    }
}

/// How a provider's refresh tokens behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotation {
    /// Single-use; presenting one twice revokes the family.
    Strict,
    /// Single-use, but the last one may be presented again for a while.
    Grace,
    /// The same token stays valid.
    Never,
}

/// One API host of a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its name, unique within the provider.
    pub name: TargetName,
    /// Where it is.
    pub api: Api,
}

/// Where a target's API is, and who checks tokens for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// Behind the gateway: it takes the provider's bearer token, which the
    /// enclave injects.
    Gateway {
        /// What the request's path is appended to.
        base_url: HttpUrl,
        /// Whether each tenant has a host of its own below that of `base_url`, which its
        /// grant names.
        #[serde(default)]
        tenant_hosts: bool,
        /// What may be called there; empty: every method and path.
        #[serde(default)]
        operations: Vec<Operation>,
        /// What the provider knows it by [RFC 8707], if its access tokens are asked for with that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        upstream_resource: Option<String>,
    },
    /// It trusts this issuer and checks tokens itself.
    Direct {
        /// Its resource indicator [RFC 8707].
        resource: String,
    },
}

impl Api {
    /// What its provider knows it by, if access tokens are asked for with that.
    #[must_use]
    pub fn upstream_resource(&self) -> Option<&str> {
        match self {
            Self::Gateway {
                upstream_resource, ..
            } => upstream_resource.as_deref(),
            Self::Direct { .. } => None,
        }
    }

    /// A whole API behind the gateway: every method and path below `base_url`.
    #[must_use]
    pub fn behind_gateway(base_url: HttpUrl) -> Self {
        Self::Gateway {
            base_url,
            tenant_hosts: false,
            operations: Vec::new(),
            upstream_resource: None,
        }
    }
}

/// A vendor's registration at a provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Its id.
    pub id: AppId,
    /// Whose app it is.
    pub vendor: VendorId,
    /// Where it is registered.
    pub provider: ProviderId,
    /// Its `client_id` there.
    pub oauth_client_id: String,
    /// How it authenticates there.
    pub auth_method: AuthMethod,
    /// Its key there, if it authenticates by one; the enclave sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<AppKey>,
}

/// The public side of an app's own key at its provider: what is registered there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppKey {
    /// The public key; its `kid` is its thumbprint [RFC 7638].
    pub public: ClientKey,
    /// A self-signed certificate of it: DER in base64, as `x5c` has it [RFC 7517 §4.7].
    pub x5c: String,
}

impl AppKey {
    /// A JWK set of the one key [RFC 7517 §5].
    #[must_use]
    pub fn to_jwks(&self) -> String {
        let own = serde_json::from_str(&self.public.to_json());
        let mut jwk: serde_json::Map<String, serde_json::Value> = own.unwrap_or_default();
        jwk.insert("use".to_owned(), "sig".into());
        jwk.insert("alg".to_owned(), self.public.key().alg().name().into());
        jwk.insert("x5c".to_owned(), vec![self.x5c.as_str()].into());
        serde_json::json!({ "keys": [jwk] }).to_string()
    }

    /// The certificate as PEM [RFC 7468 §5].
    #[must_use]
    pub fn to_pem(&self) -> String {
        let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
        let mut rest = self.x5c.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at_checked(64).unwrap_or((rest, ""));
            pem.push_str(line);
            pem.push('\n');
            rest = after;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }
}

/// How an app authenticates at its provider's token endpoint [RFC 6749 §2.3].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMethod {
    /// A public client: its `client_id` alone.
    None,
    /// The secret in the header `Authorization: Basic`.
    ClientSecretBasic,
    /// The secret in the form.
    ClientSecretPost,
    /// An assertion signed by a key of its own [RFC 7523 §2.2].
    PrivateKeyJwt,
    /// A TLS client certificate of a key of its own [RFC 8705 §2].
    TlsClientAuth,
}

impl AuthMethod {
    /// Whether the method takes a secret.
    #[must_use]
    pub fn takes_secret(self) -> bool {
        match self {
            Self::None | Self::PrivateKeyJwt | Self::TlsClientAuth => false,
            Self::ClientSecretBasic | Self::ClientSecretPost => true,
        }
    }

    /// Whether the method takes a key, which is made in the enclave.
    #[must_use]
    pub fn takes_key(self) -> bool {
        match self {
            Self::None | Self::ClientSecretBasic | Self::ClientSecretPost => false,
            Self::PrivateKeyJwt | Self::TlsClientAuth => true,
        }
    }
}

/// A tenant's consent to an app at a provider, and what may be done with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// Who owns it.
    pub tenant: TenantId,
    /// The app that was consented to.
    pub app: AppId,
    /// The clients that may ask.
    pub clients: Vec<ClientId>,
    /// The targets that tokens may be used at.
    pub targets: Vec<TargetName>,
    /// The scopes that tokens may carry.
    pub scopes: Scopes,
    /// When it was deposited first, Unix time in seconds.
    pub created_at_s: u64,
    /// When it ends, Unix time in seconds, if its owner set an end.
    #[serde(default)]
    pub expires_at_s: Option<u64>,
    /// The operations that may be called; empty: all that the targets have.
    #[serde(default)]
    pub operations: Vec<OperationName>,
    /// The hosts of its targets that have one for each tenant.
    #[serde(default)]
    pub hosts: Vec<TargetHost>,
    /// What its tenant sets for it beside, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Box<GrantTerms>>,
    /// Whether clients may have the provider's own access tokens, bound to their keys.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_upstream_bound: bool,
}

/// The host of a tenant's own at a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetHost {
    /// The target.
    pub target: TargetName,
    /// The host, below that of the target's base URL.
    pub host: String,
}

impl Grant {
    /// The tenant's own host at a target, if the grant names one.
    #[must_use]
    pub fn host_at(&self, target: &TargetName) -> Option<&str> {
        self.hosts
            .iter()
            .find(|host| host.target == *target)
            .map(|host| host.host.as_str())
    }

    /// Whether its tenant wants a person's approval for each call of an operation.
    #[must_use]
    pub fn needs_approval(&self, operation: &OperationName) -> bool {
        let terms = self.terms.as_deref();
        terms.is_some_and(|terms| terms.approval_operations.contains(operation))
    }

    /// How many actors a token may be asked for on behalf of.
    #[must_use]
    pub fn max_actor_depth(&self) -> u32 {
        self.terms
            .as_deref()
            .map_or(0, |terms| terms.max_actor_depth)
    }

    /// Whether the grant allows an operation of a target.
    #[must_use]
    pub fn allows(&self, target: &TargetName, operation: &Operation) -> bool {
        self.operations.is_empty()
            || self
                .operations
                .iter()
                .any(|name| name.target == *target && name.operation == operation.id)
    }
}
