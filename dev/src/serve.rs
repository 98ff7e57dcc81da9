//! `serve`: the service alone, with an emulated enclave.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attestation::manifest::{EnclaveKind, Manifest};
use attestation::{Attester as _, Platform};
use broker::host_config::HostConfig;
use broker::hygiene::{self, HygieneError};
use broker::listener::shutdown;
use broker::run::open_manifest;
use broker::telemetry::TelemetryError;
use broker::{Config, RunError, Sockets};
use serde::Serialize;
use testkit::snp::SnpError;

use crate::emulated::EmulatedAttester;
use crate::lab::keyholder::LabKeyholder;
use crate::lab::{self, Lab, LabError, LabParts};
use crate::names;
use crate::ports::{self, PortError};
use crate::stop::StopSignals;

/// What the service is started from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A lab, made if it is not there.
    State(PathBuf),
    /// A host's configuration.
    Host(PathBuf),
}

/// How the guest is emulated.
#[derive(Debug, Clone, Default)]
pub struct Emulation {
    /// The chip's secret; else `chip.secret` beside the configuration.
    pub chip: Option<PathBuf>,
    /// The image that is measured.
    pub image: Option<String>,
    /// Who signs the manifest; else `signer.key` beside the configuration.
    pub signer: Option<Signer>,
    /// The SVN of an AMD guest; else 0.
    pub guest_svn: Option<u32>,
    /// The platform of a lab that is not there yet.
    pub platform: Option<Platform>,
}

/// How the manifest signer is named.
#[derive(Debug, Clone)]
pub enum Signer {
    /// By the digest of the public key.
    Digest([u8; 32]),
    /// By a file with the private key.
    Key(PathBuf),
}

/// Why the service did not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The lab or a file of it.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// There is no chip or signer beside the configuration.
    #[error("{} is not there: {remedy}", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
    },
    /// A TDX guest has no SVN.
    #[error("a TDX guest has no guest SVN: leave --guest-svn out")]
    NoGuestSvn,
    /// A socket is not there.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The emulated chip cannot be made.
    #[error("the emulated chip cannot be made")]
    Chip(#[from] SnpError),
    /// The process cannot be kept clean.
    #[error(transparent)]
    Hygiene(#[from] HygieneError),
    /// The log cannot begin.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The signals cannot be heard.
    #[error("the signals to stop cannot be heard")]
    Signals(#[source] io::Error),
    /// The service did not come up.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// What is printed when the service answers: one JSON object on one line.
#[derive(Debug, Serialize)]
struct ReadyLine<'a> {
    ready: bool,
    grpc_url: &'a str,
    issuer: &'a str,
    public_url: &'a str,
    gateway_url: &'a str,
    measurement: String,
    pid: u32,
}

/// Serves until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(source: Source, emulation: Emulation) -> Result<(), ServeError> {
    let hardened = hygiene::harden("tokenkeep-dev")?;
    let (host, sockets, dir, keyholder) = match source {
        Source::State(dir) => {
            let LabParts {
                files,
                host,
                sockets,
                provider: _,
                keyholder,
            } = Lab::open_on(&dir, emulation.platform)?.into_parts();
            (host, sockets, files.dir().to_owned(), keyholder)
        }
        Source::Host(file) => {
            let host = lab::read_host(&file)?;
            let sockets = ports::sockets(&host.listen)?;
            let dir = file.parent().unwrap_or(Path::new(".")).to_owned();
            let keyholder = LabKeyholder::bind(&dir)?;
            (host, sockets, dir, keyholder)
        }
    };
    let attester = attester(&dir, emulation)?;
    broker::telemetry::init(host.log)?;
    broker::events::process_hardened(hardened);
    run(host, sockets, attester, keyholder).await
}

async fn run(
    host: HostConfig,
    sockets: Sockets,
    attester: EmulatedAttester,
    keyholder: Option<LabKeyholder>,
) -> Result<(), ServeError> {
    let signer = attester.host_data().map_err(RunError::from)?;
    let (manifest, ..) = open_manifest(&host.manifest, &signer, EnclaveKind::Emulated)?;
    let issuer = manifest.issuer().as_str();
    // It answers before the service asks, and until it ends.
    let keyholder = keyholder
        .map(|keyholder| keyholder.serve(issuer))
        .transpose()?;
    let measurement = hex::encode(attester.measurement());
    let mut signals = StopSignals::listen().map_err(ServeError::Signals)?;
    let (stop, stopping) = shutdown();
    let asked = tokio::spawn(async move {
        signals.asked().await;
        stop.begin();
    });
    let config = Config {
        host,
        sockets: Some(sockets),
    };
    let ready = move || print_ready(&manifest, measurement);
    let ran = Box::pin(broker::run(config, Arc::new(attester), stopping, ready)).await;
    asked.abort();
    if let Some(keyholder) = keyholder {
        keyholder.stop().await;
    }
    Ok(ran?)
}

/// The reader of the line may be gone: the service serves all the same.
fn print_ready(manifest: &Manifest, measurement: String) {
    let origins = manifest.origins();
    let line = ReadyLine {
        ready: true,
        grpc_url: origins.grpc.as_str(),
        issuer: manifest.issuer().as_str(),
        public_url: origins.public.as_str(),
        gateway_url: origins.gateway.as_str(),
        measurement,
        pid: std::process::id(),
    };
    let line = serde_json::to_string(&line).unwrap_or_default();
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .unwrap_or_default();
}

fn attester(dir: &Path, emulation: Emulation) -> Result<EmulatedAttester, ServeError> {
    let Emulation {
        chip,
        image,
        signer,
        guest_svn,
        platform: _,
    } = emulation;
    let beside = |name, remedy| {
        let path = dir.join(name);
        if path.exists() {
            Ok(path)
        } else {
            Err(ServeError::Missing { path, remedy })
        }
    };
    let tdx = dir.join(lab::TDX);
    let chip = match chip {
        Some(path) => Some(path),
        None if tdx.exists() => None,
        None => Some(beside(
            lab::CHIP,
            "name the chip's secret, a file of 32 random bytes and mode 0600, with --chip",
        )?),
    };
    let signer = match signer {
        Some(Signer::Digest(digest)) => digest,
        Some(Signer::Key(path)) => lab::signer_digest(&path)?,
        None => lab::signer_digest(&beside(
            lab::SIGNER,
            "say who signs the manifest with --signer-digest or --signer",
        )?)?,
    };
    let image = image.as_deref().unwrap_or(names::IMAGE);
    match (chip, guest_svn) {
        (Some(chip), svn) => {
            let launched = EmulatedAttester::launch(lab::read_chip(&chip)?, image, signer)?;
            Ok(launched.with_guest_svn(svn.unwrap_or(0)))
        }
        (None, None) => {
            let platform = lab::read_tdx(&tdx)?;
            Ok(EmulatedAttester::launch_tdx(platform, image, signer))
        }
        (None, Some(_)) => Err(ServeError::NoGuestSvn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = attester(folder.path(), Emulation::default()).unwrap_err();
        let path = folder.path().join("chip.secret");
        assert_eq!(
            error.to_string(),
            format!(
                "{} is not there: name the chip's secret, a file of 32 random bytes and mode 0600, with --chip",
                path.display()
            )
        );
    }

    #[test]
    fn the_image_and_the_signer_can_be_chosen() {
        let folder = tempfile::tempdir().unwrap();
        let files = Lab::open(&folder.path().join("lab"))
            .unwrap()
            .into_parts()
            .files;
        let chosen = Emulation {
            chip: None,
            image: Some("other".to_owned()),
            signer: Some(Signer::Digest([9; 32])),
            ..Emulation::default()
        };
        let attester = attester(files.dir(), chosen).unwrap();
        assert_eq!(attester.host_data().unwrap(), [9; 32]);
        assert_eq!(
            attester.measurement(),
            &crate::emulated::measurement("other")
        );
    }
}
