//! From the global flags to an attested channel.

use std::path::{Path, PathBuf};

use attestation::{Policy, Roots};
use clap::Args;
use tokenkeep::{AttestedChannel, AttestedConfig, ClientIdentity, Inspection, Verification};

use super::bound_manifest::Found;
use super::failure::{Failure, chain};
use super::output::Output;

/// The longest root file that is read, bytes.
const MAX_ROOT_BYTES: usize = 64 * 1024;

/// The longest revocation list that is read, bytes.
const MAX_REVOCATION_LIST_BYTES: usize = 64 * 1024;

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Where the service's gRPC is: https://HOST:PORT
    #[arg(long, global = true, env = "TOKENKEEP_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,

    /// The reference values that the evidence must match
    #[arg(long, global = true, env = "TOKENKEEP_POLICY", value_name = "FILE")]
    pub(crate) policy: Option<PathBuf>,

    /// Trust evidence under this development root; an emulated enclave protects nothing
    #[arg(
        long,
        global = true,
        env = "TOKENKEEP_ALLOW_EMULATED",
        value_name = "ROOT.pem"
    )]
    pub(crate) allow_emulated: Option<PathBuf>,

    /// A list of revoked signing keys by AMD (DER); hardware is accepted with a current one only; repeat
    /// for more product lines
    #[arg(long = "revocation-list", global = true, value_name = "FILE")]
    pub(crate) revocation_lists: Vec<PathBuf>,

    /// The folder that `collateral fetch` keeps revocation lists and Intel's statements in
    #[arg(long, global = true, env = "TOKENKEEP_COLLATERAL", value_name = "DIR")]
    pub(crate) collateral: Option<PathBuf>,

    /// Your TLS certificate; it is shown to the verified enclave only
    #[arg(
        long,
        global = true,
        env = "TOKENKEEP_CERT",
        value_name = "FILE",
        requires = "key"
    )]
    pub(crate) cert: Option<PathBuf>,

    /// The private key of --cert
    #[arg(
        long,
        global = true,
        env = "TOKENKEEP_KEY",
        value_name = "FILE",
        requires = "cert"
    )]
    pub(crate) key: Option<PathBuf>,

    /// Print JSON: results on standard output, errors on standard error
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// The manufacturers' roots, and those of a development root's file.
fn roots(allow_emulated: Option<&Path>) -> Result<Roots, Failure> {
    Ok(match allow_emulated {
        Some(path) => {
            let pem = tokenkeep::private_file::read_public(path, MAX_ROOT_BYTES)?;
            let pem = String::from_utf8_lossy(&pem);
            Roots::with_emulated(&pem)?
        }
        None => Roots::amd()?,
    })
}

impl Global {
    /// The roots alone, without what a store holds.
    pub(crate) fn roots(&self) -> Result<Roots, Failure> {
        roots(self.allow_emulated.as_deref())
    }

    pub(crate) const fn output(&self) -> Output {
        Output::new(self.json)
    }

    /// What evidence is verified with: roots, revocation lists, reference values.
    pub(crate) fn verification(&self) -> Result<Verification, Failure> {
        let Self {
            server: _,
            policy,
            allow_emulated,
            revocation_lists,
            collateral,
            cert: _,
            key: _,
            json: _,
        } = self;
        let mut roots = roots(allow_emulated.as_deref())?;
        if let Some(folder) = collateral {
            tokenkeep::collateral::Store::new(folder)
                .load(&mut roots)
                .map_err(super::collateral::refused)?;
        }
        for path in revocation_lists {
            let der = tokenkeep::private_file::read_public(path, MAX_REVOCATION_LIST_BYTES)?;
            roots.add_revocation_list(&der)?;
        }
        let policy = match policy {
            Some(path) => {
                let max_bytes = attestation::policy::MAX_POLICY_BYTES;
                let text = tokenkeep::private_file::read_public(path, max_bytes)?;
                Some(Policy::from_toml(&text)?)
            }
            None => None,
        };
        Ok(Verification::new(roots, policy))
    }

    /// What a channel is made from.
    pub(crate) fn config(&self) -> Result<AttestedConfig, Failure> {
        let server = self.server.as_ref().ok_or_else(|| {
            Failure::usage(
                "no server is named",
                "give --server https://HOST:PORT or set TOKENKEEP_SERVER",
            )
        })?;
        let mut config = AttestedConfig::new(server, self.verification()?);
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            config.client_identity = Some(ClientIdentity::from_pem_files(cert, key)?);
        }
        Ok(config)
    }

    /// Evidence and its appraisal, whatever the verdict.
    pub(crate) async fn inspect(&self) -> Result<Inspection, Failure> {
        Ok(Box::pin(tokenkeep::inspect(&self.config()?)).await?)
    }

    /// The manifest that inspected evidence binds, or why it is not known.
    pub(crate) async fn bound_manifest(&self, inspection: &Inspection) -> Result<Found, Failure> {
        let config = self.config()?;
        let found = Box::pin(tokenkeep::bound_manifest(&config, inspection)).await;
        Ok(found.map_err(|error| chain(&error)))
    }

    /// A channel; the verdict must be `accept`.
    pub(crate) async fn channel(&self) -> Result<AttestedChannel, Failure> {
        Ok(Box::pin(AttestedChannel::connect(&self.config()?)).await?)
    }
}
