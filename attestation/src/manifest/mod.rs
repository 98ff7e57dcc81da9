//! The manifest: what the enclave is configured to be, signed by the one whose digest was bound at launch.

mod compare;
mod keyholders;
mod origin;
mod read;
mod signature;
mod spiffe;
mod witnesses;

pub use compare::{Change, Draft, Effect};
pub use keyholders::{
    Images, Keyholder, Keyholders, MAX_KEYHOLDERS, Recovery, RunBy, recovery_set,
};
pub use origin::{Origin, OriginError, Scheme};
pub use signature::{
    ManifestSignature, SignManifestError, SignatureFault, sign_manifest, sign_policy_change,
    sign_profile,
};
pub use spiffe::{MAX_TRUST_DOMAINS, TrustDomain};
pub use witnesses::{MAX_LEASE_S, MAX_WITNESSES, Witness, Witnesses};

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::CertificateDer;

use crate::canonical::sha256;
use crate::fields::FieldFault;

/// The most a manifest may have.
pub const MAX_MANIFEST_BYTES: usize = 256 * 1024;
/// The highest rate that a manifest may allow, a second.
pub const MAX_RATE_PER_S: u32 = 1_000_000;
/// The most a signature file may have.
pub const MAX_SIGNATURE_BYTES: usize = 4 * 1024;
/// The longest life of a token that a manifest may allow, in seconds.
pub const MAX_TOKEN_LIFETIME_S: u64 = 3_600;
/// The life of a token unless the manifest says otherwise, in seconds.
pub const DEFAULT_TOKEN_LIFETIME_S: u64 = 300;

/// After how many days a signing key is replaced unless the manifest says otherwise.
pub const DEFAULT_ROTATE_AFTER_DAYS: u64 = 90;
/// The most that a manifest may say.
pub const MAX_ROTATE_AFTER_DAYS: u64 = 3_650;

/// A manifest with comments, to begin with.
pub const TEMPLATE: &str = include_str!("../../samples/manifest.toml");

/// What kind of enclave is to serve by a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EnclaveKind {
    /// A confidential VM.
    Hardware,
    /// A development enclave without hardware.
    Emulated,
}

/// A checked manifest. Only [`Manifest::open`] makes it, after its signature and all its rules held.
///
/// ```compile_fail,E0451
/// let manifest = attestation::manifest::Manifest { sequence: 1, ..todo!() };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    digest: [u8; 32],
    signer: [u8; 32],
    sequence: u64,
    issuer: Origin,
    origins: Origins,
    administrators: Vec<Administrator>,
    tls: TlsRoots,
    upstream: Upstream,
    token: TokenLimits,
    rates: Rates,
    witnesses: Option<Witnesses>,
    keyholders: Option<Keyholders>,
    images: Option<Images>,
    recovery: Option<Recovery>,
    trust_domains: Vec<TrustDomain>,
    profile_signers: Vec<[u8; 32]>,
}

/// Where the three listeners are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origins {
    /// gRPC.
    pub grpc: Origin,
    /// Issuer metadata, keys, connect pages, log.
    pub public: Origin,
    /// The gateway.
    pub gateway: Origin,
}

/// Someone who may administer, named by the key of the client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Administrator {
    /// For logs; unique.
    pub name: String,
    /// SHA-256 over the SubjectPublicKeyInfo of the client certificate; unique.
    pub spki_sha256: [u8; 32],
    /// What this one may do; at least one.
    pub roles: Vec<Role>,
}

/// What an administrator may do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Role {
    /// Registers tenants, vendors and providers; sees no tenant's data.
    Operator,
    /// Owns the tenant of this id: may do all for it.
    Tenant(String),
    /// Guards the tenant of this id: sees all of it, and stops what it likes.
    TenantSecurity(String),
    /// Sees all of the tenant of this id, and changes nothing.
    TenantAuditor(String),
    /// Acts for the vendor of this id.
    Vendor(String),
}

/// Whom the enclave trusts upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsRoots {
    /// The public web's roots that the image carries.
    pub webpki_roots: bool,
    /// Others, DER.
    pub roots: Vec<CertificateDer<'static>>,
}

/// Where the enclave connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upstream {
    /// Whether targets on loopback are allowed; never on hardware.
    pub allow_loopback: bool,
}

/// The tokens it mints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenLimits {
    /// The longest life, in seconds.
    pub max_lifetime_s: u64,
    /// What a new signing key signs with.
    pub alg: TokenAlg,
    /// After how many days a signing key is replaced by itself; never if none.
    pub rotate_after_days: Option<u64>,
}

/// An algorithm of access tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TokenAlg {
    /// ECDSA on P-256: what every library verifies.
    #[default]
    Es256,
    /// Ed25519.
    EdDsa,
}

/// How often is often enough. What a thief with a client's key can do is bounded by these, so they are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Tokens a second for one client in the long run, and as many calls of the gateway.
    pub client_per_s: u32,
    /// As many at once.
    pub client_burst: u32,
    /// Exchanges a second of one grant's refresh token.
    pub grant_upstream_per_s: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            client_per_s: 50,
            client_burst: 100,
            grant_upstream_per_s: 5,
        }
    }
}

/// Text that names no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be operator, tenant:ID, tenant-security:ID, tenant-auditor:ID or vendor:ID")]
pub struct UnknownRole;

/// Why a manifest was not opened: every fault of the signature, or every fault of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The signature does not vouch for the file; what the file says was not looked at.
    #[error("the manifest's signature is not valid")]
    Signature(#[source] SignatureFault),
    /// The file breaks rules.
    #[error("the manifest has {} fault(s): {}", .0.len(), .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Fields(Vec<FieldFault>),
}

impl Manifest {
    /// Opens a manifest: the signature first, then every rule.
    ///
    /// `toml` and `signature` are the two files; `expected_signer` is SHA-256 of the signer's SubjectPublicKeyInfo as
    /// bound at launch (HOST_DATA).
    ///
    /// # Errors
    /// [`ManifestError::Signature`] before anything of the file is believed; else [`ManifestError::Fields`] with all
    /// its faults.
    pub fn open(
        toml: &[u8],
        signature: &[u8],
        expected_signer: &[u8; 32],
        kind: EnclaveKind,
    ) -> Result<Self, ManifestError> {
        ManifestSignature::from_json(signature)
            .and_then(|signature| signature.verify(toml, expected_signer))
            .map_err(ManifestError::Signature)?;
        read::manifest(toml, *expected_signer, kind).map_err(ManifestError::Fields)
    }

    /// Every fault of a manifest file, without its signature: for those who write one.
    ///
    /// # Errors
    /// The faults.
    pub fn check(toml: &[u8], kind: EnclaveKind) -> Result<(), Vec<FieldFault>> {
        read::manifest(toml, [0; 32], kind).map(|_| ())
    }

    /// SHA-256 of the file: what the key bundle names.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// SHA-256 of the signer's SubjectPublicKeyInfo.
    #[must_use]
    pub const fn signer(&self) -> &[u8; 32] {
        &self.signer
    }

    /// Rises with every new manifest; the enclave refuses one that is lower than it has seen.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The issuer of the tokens.
    #[must_use]
    pub const fn issuer(&self) -> &Origin {
        &self.issuer
    }

    /// Where the listeners are reached.
    #[must_use]
    pub const fn origins(&self) -> &Origins {
        &self.origins
    }

    /// The first administrators.
    #[must_use]
    pub fn administrators(&self) -> &[Administrator] {
        &self.administrators
    }

    /// Whom to trust upstream.
    #[must_use]
    pub const fn tls(&self) -> &TlsRoots {
        &self.tls
    }

    /// Where to connect to.
    #[must_use]
    pub const fn upstream(&self) -> Upstream {
        self.upstream
    }

    /// Limits of tokens.
    #[must_use]
    pub const fn token(&self) -> TokenLimits {
        self.token
    }

    /// Who must have seen the control log; none if nobody watches over the state.
    #[must_use]
    pub const fn witnesses(&self) -> Option<&Witnesses> {
        self.witnesses.as_ref()
    }

    /// Who holds the shares that open the root key; none for an emulated enclave with a share file.
    #[must_use]
    pub const fn keyholders(&self) -> Option<&Keyholders> {
        self.keyholders.as_ref()
    }

    /// Which images may open the state; none if the keyholders alone decide.
    #[must_use]
    pub const fn images(&self) -> Option<&Images> {
        self.images.as_ref()
    }

    /// Whom the root key is wrapped for besides the keyholders, if anyone.
    #[must_use]
    pub const fn recovery(&self) -> Option<&Recovery> {
        self.recovery.as_ref()
    }

    /// The SPIFFE trust domains by whose IDs clients may be registered.
    #[must_use]
    pub fn trust_domains(&self) -> &[TrustDomain] {
        &self.trust_domains
    }

    /// Whose profiles of providers are believed, beside those that are part of the image: SHA-256 of each signer's
    /// SubjectPublicKeyInfo.
    #[must_use]
    pub fn profile_signers(&self) -> &[[u8; 32]] {
        &self.profile_signers
    }

    /// The rates.
    #[must_use]
    pub const fn rates(&self) -> Rates {
        self.rates
    }
}

/// SHA-256 of a manifest file.
#[must_use]
pub fn manifest_digest(toml: &[u8]) -> [u8; 32] {
    sha256(toml)
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let id = |id: &str| {
            if is_id(id) {
                Ok(id.to_owned())
            } else {
                Err(UnknownRole)
            }
        };
        match text.split_once(':') {
            None if text == "operator" => Ok(Self::Operator),
            Some(("tenant", tenant)) => id(tenant).map(Self::Tenant),
            Some(("tenant-security", tenant)) => id(tenant).map(Self::TenantSecurity),
            Some(("tenant-auditor", tenant)) => id(tenant).map(Self::TenantAuditor),
            Some(("vendor", vendor)) => id(vendor).map(Self::Vendor),
            None | Some(_) => Err(UnknownRole),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str("operator"),
            Self::Tenant(id) => write!(f, "tenant:{id}"),
            Self::TenantSecurity(id) => write!(f, "tenant-security:{id}"),
            Self::TenantAuditor(id) => write!(f, "tenant-auditor:{id}"),
            Self::Vendor(id) => write!(f, "vendor:{id}"),
        }
    }
}

/// Whether text is an id: 1 to 64 letters, digits, `-`, `_` and `.`.
fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
}
