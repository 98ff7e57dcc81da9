//! The schema of a profile.

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};
use serde::Deserialize;

/// A profile.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The version of the schema: 1.
    pub schema: u32,
    /// What it is called: 1 to 63 of `a-z`, `0-9` and single `-` inside.
    pub id: String,
    /// The provider's name for people.
    pub title: String,
    /// What it was tested against.
    pub tested: Tested,
    /// What whoever registers the provider must know.
    #[serde(default)]
    pub notes: Option<String>,
    /// What differs between customers of the provider.
    #[serde(default)]
    pub parameters: BTreeMap<String, Parameter>,
    /// Where it is reached.
    pub endpoints: Endpoints,
    /// How an app authenticates and asks.
    pub client: ClientRules,
    /// How refresh tokens behave.
    pub refresh: Refresh,
    /// How errors look.
    #[serde(default)]
    pub errors: Errors,
    /// The named API hosts.
    #[serde(default)]
    pub targets: Vec<Target>,
    /// What can be called there.
    #[serde(default)]
    pub operations: Vec<Operation>,
    /// Where the facts come from.
    pub sources: Vec<Source>,
}

/// What a profile was tested against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tested {
    /// The running server.
    Server,
    /// A simulation that is faithful in what the profile says.
    Simulation,
    /// Nothing: it is data only.
    No,
}

/// What differs between customers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// What it is, for people.
    pub about: String,
    /// What it may hold.
    pub kind: ParameterKind,
    /// One that could be real.
    pub example: String,
    /// What it is unless given.
    #[serde(default)]
    pub default: Option<String>,
}

/// What a parameter may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParameterKind {
    /// A host name, perhaps with a port.
    Host,
    /// One label of a host name.
    Label,
    /// One segment of a path: letters, digits, `-`, `_`, `.`.
    Segment,
    /// An origin: `https://host`, perhaps with a port. For servers that anyone may
    /// run, and for tests.
    Origin,
}

/// Where a provider is reached; templates of URLs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoints {
    /// The issuer that `iss` is held against [RFC 9207].
    #[serde(default)]
    pub issuer: Option<String>,
    /// Where the owner consents [RFC 6749 §3.1].
    #[serde(default)]
    pub authorization: Option<String>,
    /// Where tokens are got [RFC 6749 §3.2].
    pub token: String,
    /// Where tokens are revoked [RFC 7009].
    #[serde(default)]
    pub revocation: Option<String>,
    /// Where tokens are introspected [RFC 7662].
    #[serde(default)]
    pub introspection: Option<String>,
    /// Where a device asks for a code [RFC 8628].
    #[serde(default)]
    pub device_authorization: Option<String>,
}

/// How an app authenticates and asks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientRules {
    /// The methods that it accepts, the best first.
    pub authentication: Vec<Authentication>,
    /// The algorithms that assertions may be signed by, if not all [RFC 8414].
    #[serde(default)]
    pub assertion_algorithms: Vec<String>,
    /// Whom an assertion is for [RFC 7523 §3].
    #[serde(default)]
    pub assertion_audience: AssertionAudience,
    /// PKCE [RFC 7636].
    pub pkce: Support,
    /// `iss` in the authorization response [RFC 9207].
    #[serde(default = "no")]
    pub iss: Support,
    /// Sender-constrained tokens [RFC 9449].
    #[serde(default = "no")]
    pub dpop: Support,
    /// The `resource` parameter [RFC 8707].
    #[serde(default = "no")]
    pub resource: Support,
    /// What must be added to an authorization request so that a refresh token comes
    /// back, such as Google's `access_type=offline`.
    #[serde(default)]
    pub authorization_parameters: BTreeMap<String, String>,
    /// Scopes without which no refresh token comes back.
    #[serde(default)]
    pub offline_scopes: Vec<String>,
}

const fn no() -> Support {
    Support::No
}

/// How an app authenticates at the token endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authentication {
    /// A signed assertion [RFC 7523].
    PrivateKeyJwt,
    /// A client certificate [RFC 8705].
    TlsClientAuth,
    /// The secret in the `Authorization` header.
    ClientSecretBasic,
    /// The secret in the form.
    ClientSecretPost,
    /// None: a public client.
    None,
}

/// Whom an assertion is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AssertionAudience {
    /// The issuer, if the profile names it.
    #[default]
    Issuer,
    /// The token endpoint.
    TokenEndpoint,
}

/// Whether something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Support {
    /// It is demanded.
    Required,
    /// It may be used.
    Supported,
    /// It is not there, or nothing says so.
    No,
}

/// How refresh tokens behave.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// Whether a use replaces the token.
    pub rotation: Rotation,
    /// What happens when a replaced token is presented.
    pub reuse: Reuse,
    /// For how long a replaced token is still taken, in seconds.
    #[serde(default)]
    pub grace_s: Option<u64>,
    /// After how long without use a token ends, in seconds.
    #[serde(default)]
    pub idle_lifetime_s: Option<u64>,
    /// After how long a grant ends whatever is done, in seconds.
    #[serde(default)]
    pub absolute_lifetime_s: Option<u64>,
    /// How long an access token usually lives, in seconds.
    #[serde(default)]
    pub access_lifetime_s: Option<u64>,
    /// Whether `scope` may narrow a refresh [RFC 6749 §6].
    #[serde(default = "yes")]
    pub narrows_scope: bool,
}

const fn yes() -> bool {
    true
}

/// Whether a use replaces the refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rotation {
    /// Each use does.
    Always,
    /// Some uses do, by settings or by chance.
    Sometimes,
    /// None does.
    Never,
}

/// What happens when a replaced refresh token is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reuse {
    /// The whole family ends.
    FamilyRevoked,
    /// It is refused, and nothing else happens.
    Refused,
    /// It is taken, for a while at least.
    Accepted,
    /// Nothing says so: the worst is assumed.
    Unknown,
}

/// How errors look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Errors {
    /// Whether errors of the token endpoint come with status 200.
    #[serde(default)]
    pub with_status_200: bool,
    /// Error codes of its own that mean what `invalid_grant` means.
    #[serde(default)]
    pub dead_codes: Vec<String>,
}

/// A named API host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Its name: 1 to 63 of `a-z`, `0-9` and single `-` inside.
    pub name: String,
    /// Where its paths begin; a template.
    pub base_url: String,
}

/// Something that can be called.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// What policy calls it: words of `a-z` and `0-9`, joined by `.` and `_`.
    pub id: String,
    /// The target.
    pub target: String,
    /// The method.
    pub method: Method,
    /// The path behind the target's base, with `{name}` for one segment and
    /// `{name*}` at the end for the rest.
    pub path: String,
    /// The names that the query may have.
    #[serde(default)]
    pub query: Vec<String>,
    /// The media types that the body may have; none: no body.
    #[serde(default)]
    pub body: Vec<String>,
    /// The largest body in bytes; the gateway's own bound unless given.
    #[serde(default)]
    pub max_body_bytes: Option<u64>,
}

/// A method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// PATCH
    Patch,
    /// DELETE
    Delete,
}

impl Method {
    /// As it stands in a request.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Whether a request may have a body.
    #[must_use]
    pub const fn has_body(self) -> bool {
        matches!(self, Self::Post | Self::Put | Self::Patch)
    }
}

/// Where facts come from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// What it vouches for: tables (`refresh`) or fields (`refresh.grace_s`).
    pub of: Vec<String>,
    /// The page; absent for an assumption.
    #[serde(default)]
    pub url: Option<String>,
    /// Why it is assumed; absent for a page.
    #[serde(default)]
    pub assumed: Option<String>,
    /// The day on which it was read or assumed: `YYYY-MM-DD`.
    pub read: String,
}

impl Document {
    /// The parameters with their values: those given, and the defaults of others.
    ///
    /// # Errors
    /// [`ParameterError`]: an unknown one, one that is missing, or a bad value.
    pub fn with_parameters(
        &self,
        given: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, ParameterError> {
        if let Some(name) = given
            .keys()
            .find(|name| !self.parameters.contains_key(*name))
        {
            return Err(ParameterError::Unknown { name: name.clone() });
        }
        let value = |(name, parameter): (&String, &Parameter)| {
            let value = given.get(name).or(parameter.default.as_ref());
            let value = value.ok_or_else(|| ParameterError::Missing {
                name: name.clone(),
                about: parameter.about.clone(),
                example: parameter.example.clone(),
            })?;
            if !parameter.kind.accepts(value) {
                return Err(ParameterError::Value {
                    name: name.clone(),
                    rule: parameter.kind.rule(),
                });
            }
            Ok((name.clone(), value.clone()))
        };
        self.parameters.iter().map(value).collect()
    }
}

/// Why a profile cannot be used with the parameters that were given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// The profile has no such parameter.
    #[error("the profile has no parameter {name:?}")]
    Unknown {
        /// Which.
        name: String,
    },
    /// It has no value.
    #[error("the parameter {name:?} is missing: {about}, such as {example:?}")]
    Missing {
        /// Which.
        name: String,
        /// What it is.
        about: String,
        /// One that could be real.
        example: String,
    },
    /// It has a value that it may not have.
    #[error("the parameter {name:?} must be {rule}")]
    Value {
        /// Which.
        name: String,
        /// What it must be.
        rule: &'static str,
    },
}

/// SHA-256 of a profile's bytes, which its signature covers.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}
