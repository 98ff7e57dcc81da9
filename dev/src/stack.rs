//! Provider, service and their users' files together, in this process.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attestation::manifest::EnclaveKind;
use attestation::{Attester as _, AttesterError, Platform};
use base64ct::{Base64, Encoding as _};
use broker::listener::{Shutdown, shutdown};
use broker::run::open_manifest;
use broker::telemetry;
use broker::{Config, RunError};
use testkit::provider::{Provider, Running};
use tokenkeep::private_file::FileError;
use tokenkeep::{AttestedChannel, ConnectError};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

use crate::lab::keyholder::{self, Answering};
use crate::lab::{self, Lab, LabError, LabFiles, write_public};
use crate::names;
use crate::provider::{self, ProviderProcessError};
use crate::registration::{self, RegistrationError};

/// Base64 characters in a line of PEM [RFC 7468 §2].
const PEM_LINE_CHARS: usize = 64;

/// A running provider and service.
#[derive(Debug)]
pub struct Stack {
    files: LabFiles,
    provider: Running,
    service: JoinHandle<Result<(), RunError>>,
    stop: Shutdown,
    urls: Urls,
    keyholder: Option<Answering>,
}

/// Where the service is reached.
#[derive(Debug, Clone)]
pub struct Urls {
    /// gRPC.
    pub grpc: String,
    /// The issuer of the tokens.
    pub issuer: String,
    /// The gateway.
    pub gateway: String,
}

/// Where the service's log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logs {
    /// To a file of the lab, for the whole process; once in it.
    ToFile,
    /// Wherever the process sends its events, if it does.
    Elsewhere,
}

/// Why there is no stack.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The provider.
    #[error(transparent)]
    Provider(#[from] ProviderProcessError),
    /// The log file cannot be written.
    #[error("the log {} cannot be written", .path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Something else in the process takes events already.
    #[error("the log cannot begin")]
    Subscriber(#[from] tracing::subscriber::SetGlobalDefaultError),
    /// The emulated platform.
    #[error(transparent)]
    Platform(#[from] AttesterError),
    /// The service did not come up.
    #[error("the service did not come up")]
    Run(#[from] RunError),
    /// The service ended before it was told to.
    #[error("the service ended by itself")]
    Ended,
    /// The service's task failed.
    #[error("the service's task failed")]
    Task(#[source] JoinError),
    /// The enclave was not verified or not reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Something was not registered or deposited.
    #[error(transparent)]
    Registration(#[from] RegistrationError),
}

impl Stack {
    /// Starts provider and service from the lab in `dir`.
    ///
    /// # Errors
    /// [`StackError`].
    pub async fn start(dir: &Path, logs: Logs) -> Result<Self, StackError> {
        Box::pin(Self::start_on(dir, None, logs)).await
    }

    /// The same with a guest of `platform`, if it is named.
    ///
    /// # Errors
    /// [`StackError`].
    pub async fn start_on(
        dir: &Path,
        platform: Option<Platform>,
        logs: Logs,
    ) -> Result<Self, StackError> {
        let parts = Lab::open_on(dir, platform)?.into_parts();
        let files = parts.files;
        match logs {
            Logs::ToFile => log_to_file(&files, parts.host.log)?,
            Logs::Elsewhere => {}
        }
        let provider = provider::start(&files, parts.provider)?;
        let attester = files.attester()?;
        let signer = attester.host_data()?;
        let (manifest, ..) = open_manifest(&parts.host.manifest, &signer, EnclaveKind::Emulated)?;
        let urls = Urls {
            grpc: manifest.origins().grpc.as_str().to_owned(),
            issuer: manifest.issuer().as_str().to_owned(),
            gateway: manifest.origins().gateway.as_str().to_owned(),
        };
        // It answers before the service asks it for the share that opens the root key.
        let keyholder = parts
            .keyholder
            .map(|keyholder| keyholder.serve(&urls.issuer))
            .transpose()?;
        let (stop, stopping) = shutdown();
        let (ready, is_ready) = oneshot::channel();
        let config = Config {
            host: parts.host,
            sockets: Some(parts.sockets),
        };
        let service = tokio::spawn(Box::pin(broker::run(
            config,
            Arc::new(attester),
            stopping,
            // Whoever waits for it is gone only if the start was given up.
            move || ready.send(()).unwrap_or_default(),
        )));
        if is_ready.await.is_err() {
            let ended = service.await;
            // Its port is free for the next start.
            if let Some(keyholder) = keyholder {
                keyholder.stop().await;
            }
            ended.map_err(StackError::Task)??;
            return Err(StackError::Ended);
        }
        Ok(Self {
            files,
            provider,
            service,
            stop,
            urls,
            keyholder,
        })
    }

    /// How many shares the lab's keyholder holds for this service.
    ///
    /// # Errors
    /// [`StackError::Lab`].
    pub fn keyholder_shares(&self) -> Result<usize, StackError> {
        Ok(keyholder::shares(self.files.dir(), &self.urls.issuer)?)
    }

    /// A channel of the administrator to the verified enclave.
    ///
    /// # Errors
    /// [`StackError`].
    pub async fn admin(&self) -> Result<AttestedChannel, StackError> {
        let config = self.files.admin_config(&self.urls.grpc)?;
        Ok(Box::pin(AttestedChannel::connect(&config)).await?)
    }

    /// A channel of the client to the verified enclave.
    ///
    /// # Errors
    /// [`StackError`].
    pub async fn client(&self) -> Result<AttestedChannel, StackError> {
        let config = self.files.client_config(&self.urls.grpc)?;
        Ok(Box::pin(AttestedChannel::connect(&config)).await?)
    }

    /// Registers and deposits what is missing, as a user would, and keeps the verified CA for other programs.
    ///
    /// # Errors
    /// [`StackError`].
    pub async fn furnish(&self) -> Result<(), StackError> {
        let admin = self.admin().await?;
        self.keep_ca(&admin)?;
        if registration::grant(&admin).await?.is_none() {
            let url = self.provider.base_url();
            Box::pin(registration::register(&admin, &self.files, url)).await?;
            Box::pin(registration::deposit(&admin, self.provider())).await?;
        }
        Ok(())
    }

    /// Writes the CA of a verified enclave to a file, for programs that cannot verify it themselves.
    ///
    /// # Errors
    /// [`StackError::Lab`].
    pub fn keep_ca(&self, verified: &AttestedChannel) -> Result<(), StackError> {
        let pem = certificate_pem(&verified.bundle().enclave_ca_der);
        let written: Result<(), FileError> = write_public(&self.files.path(lab::CA), &pem);
        Ok(written.map_err(LabError::from)?)
    }

    /// The files of the lab.
    #[must_use]
    pub const fn files(&self) -> &LabFiles {
        &self.files
    }

    /// The provider.
    #[must_use]
    pub fn provider(&self) -> &Provider {
        self.provider.provider()
    }

    /// Where the service is reached.
    #[must_use]
    pub const fn urls(&self) -> &Urls {
        &self.urls
    }

    /// The resource indicator of the API behind the gateway.
    #[must_use]
    pub fn resource(&self) -> String {
        names::resource(&self.urls.gateway)
    }

    /// Returns when the service ends by itself.
    ///
    /// # Errors
    /// [`StackError`], always: nobody told it to.
    pub async fn ended(&mut self) -> Result<(), StackError> {
        (&mut self.service).await.map_err(StackError::Task)??;
        Err(StackError::Ended)
    }

    /// Drains the service and stops the provider.
    ///
    /// # Errors
    /// [`StackError`] if the service had failed.
    pub async fn stop(self) -> Result<(), StackError> {
        let Self {
            files: _,
            provider,
            service,
            stop,
            urls: _,
            keyholder,
        } = self;
        stop.begin();
        let ended = service.await.map_err(StackError::Task)?;
        if let Some(keyholder) = keyholder {
            keyholder.stop().await;
        }
        provider.stop().await;
        Ok(ended?)
    }
}

fn log_to_file(files: &LabFiles, log: broker::host_config::Log) -> Result<(), StackError> {
    let path = files.path(lab::LOG);
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| StackError::Log { path, error })?;
    let subscriber = telemetry::subscriber(log, Arc::new(file));
    tracing::subscriber::set_global_default(subscriber)?;
    Ok(())
}

/// PEM of a certificate [RFC 7468 §5].
/// A certificate as PEM.
#[must_use]
pub fn certificate_pem(der: &[u8]) -> String {
    let base64 = Base64::encode_string(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(PEM_LINE_CHARS).unwrap_or((rest, ""));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;

    #[test]
    fn a_certificate_comes_back_from_its_pem() {
        for length in [1, 47, 48, 49, 700] {
            let der = vec![0xA5; length];
            let pem = certificate_pem(&der);
            let back = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
            assert_eq!(back.as_ref(), der.as_slice());
            assert!(pem.lines().all(|line| line.len() <= PEM_LINE_CHARS));
        }
    }
}
