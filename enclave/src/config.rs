//! What the enclave is told at boot: by the signed manifest, the platform and
//! the shell's limits.

use jose::Alg;

use crate::admin::Administrator;
use crate::keys::authority::HostName;
use crate::rate::Rate;
use crate::spiffe::TrustDomain;

/// The enclave's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The issuer identifier, the `iss` of tokens.
    pub issuer: String,
    /// The origin of the gRPC listener, without a trailing slash.
    pub grpc_origin: String,
    /// The origin of the public listener, without a trailing slash.
    pub public_origin: String,
    /// The origin of the gateway, without a trailing slash.
    pub gateway_origin: String,
    /// The hosts of the three origins.
    pub hosts: Vec<HostName>,
    /// Who administers.
    pub administrators: Vec<Administrator>,
    /// The trust domains by whose SPIFFE IDs clients may be registered.
    pub trust_domains: Vec<TrustDomain>,
    /// Whose profiles of providers are believed: SHA-256 of each signer's
    /// SubjectPublicKeyInfo.
    pub profile_signers: Vec<[u8; 32]>,
    /// How long tokens live, in seconds, at most
    /// [`MAX_LIFETIME_S`](crate::mint::MAX_LIFETIME_S).
    pub token_lifetime_s: u64,
    /// What a new signing key of tokens signs with.
    pub token_alg: Alg,
    /// After how many days a signing key is replaced without being told to.
    pub signing_key_days: Option<u64>,
    /// When what endorses the platform's evidence expires, Unix time in seconds, if
    /// the platform tells: no token outlives it.
    pub endorsed_until_s: Option<u64>,
    /// Whether the enclave is emulated.
    pub emulated: bool,
    /// The assurance that tokens name: `hardware` or `emulated`.
    pub tier: String,
    /// Whether providers on loopback addresses are allowed.
    pub allow_loopback: bool,
    /// SHA-256 of the manifest.
    pub manifest_digest: [u8; 32],
    /// The manifest's sequence number, which only rises.
    pub manifest_sequence: u64,
    /// SHA-256 of the manifest signer's SubjectPublicKeyInfo.
    pub manifest_signer: [u8; 32],
    /// Who must have seen the control log, if anyone.
    pub witnesses: Option<crate::freshness::WitnessPolicy>,
    /// How often one client may ask for tokens and call the gateway, each.
    pub client_rate: Rate,
    /// How often one grant's refresh token may be exchanged.
    pub grant_upstream_rate: Rate,
    /// How many proofs are remembered against replay.
    pub replay_capacity: usize,
}

impl Config {
    /// The hosts that the listeners' certificates name: those of the origins, and all below the gateway's, which name
    /// a target and a grant each.
    #[must_use]
    pub fn certificate_hosts(&self) -> Vec<HostName> {
        let below = crate::gateway::address::wildcard(&self.gateway_origin);
        let below = below.map(HostName::Dns);
        self.hosts.iter().cloned().chain(below).collect()
    }

    /// Where the browsers of owners come back to who consent anywhere.
    #[must_use]
    pub fn connect_callback(&self) -> String {
        format!("{}{}", self.public_origin, crate::connect::CALLBACK_PATH)
    }

    /// The URL of the token endpoint, as a proof names it.
    #[must_use]
    pub fn token_endpoint(&self) -> String {
        format!(
            "{}{}",
            self.public_origin,
            crate::issue::TOKEN_ENDPOINT_PATH
        )
    }

    /// The URL of the token endpoint for clients with certificates: at the
    /// gateway, as the public listener asks for none [RFC 8705 §5].
    #[must_use]
    pub fn mtls_token_endpoint(&self) -> String {
        format!(
            "{}{}",
            self.gateway_origin,
            crate::issue::TOKEN_ENDPOINT_PATH
        )
    }

    /// The URL of a gRPC method, as a proof names it.
    pub(crate) fn grpc_url(&self, path: &str) -> String {
        format!("{}{path}", self.grpc_origin)
    }
}
