//! A lab: a directory with the keys, manifest and configuration of one development enclave and its users.

mod create;
pub mod keyholder;
mod write;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use attestation::manifest::SignManifestError;
use attestation::{Platform, Policy, PolicyError, Roots, RootsError};
use broker::Sockets;
use broker::host_config::{HostConfig, HostConfigError, MAX_CONFIG_BYTES};
use testkit::pki::PkiError;
use testkit::snp::SnpError;
use testkit::tdx::{TdxError, TdxPlatform};
use tokenkeep::dpop_key::DpopKeyError;
use tokenkeep::keyholder::state::StateError;
use tokenkeep::private_file::{FileError, read_private, read_public};
use tokenkeep::tls::IdentityError;
use tokenkeep::{AttestedConfig, ClientIdentity, DpopKey, Verification};
use zeroize::Zeroizing;

use crate::emulated::EmulatedAttester;
use crate::names;
use crate::ports::{self, PortError};
use keyholder::LabKeyholder;
pub(crate) use write::write_public;

/// The emulated AMD chip's secret. It, or [`TDX`], is written first.
pub const CHIP: &str = "chip.secret";
/// The emulated Intel platform's keys, in a lab that is a TDX guest.
pub const TDX: &str = "tdx.keys";
/// The directory of the lab's keyholder, which holds the share that opens the root key.
pub const KEYHOLDER: &str = "keyholder";
/// Where it answers.
pub const KEYHOLDER_ADDRESS: &str = "keyholder.addr";
/// The manifest signer's private key, PEM of PKCS#8.
pub const SIGNER: &str = "signer.key";
/// The manifest.
pub const MANIFEST: &str = "manifest.toml";
/// Its signature.
pub const SIGNATURE: &str = "manifest.toml.sig";
/// The host's configuration. It is written last: a lab without one was never finished.
pub const HOST: &str = "host.toml";
/// The administrator's certificate.
pub const ADMIN_CERT: &str = "admin.pem";
/// The administrator's private key.
pub const ADMIN_KEY: &str = "admin.key";
/// The client's certificate.
pub const CLIENT_CERT: &str = "client.pem";
/// The client's private key.
pub const CLIENT_KEY: &str = "client.key";
/// The client's DPoP key.
pub const DPOP_KEY: &str = "dpop.key";
/// The development root.
pub const ROOT: &str = "root.pem";
/// The reference policy, pinned to this lab's image and manifest signer.
pub const POLICY: &str = "policy.toml";
/// The enclave's CA, once it was verified.
pub const CA: &str = "ca.pem";
/// The app's secret at the provider.
pub const APP_SECRET: &str = "app.secret";
/// Where the provider listens.
pub const PROVIDER_ADDRESS: &str = "provider.addr";
/// What the provider knows.
pub const PROVIDER_STATE: &str = "provider.json";
/// What the service logs under `up` and `demo`.
pub const LOG: &str = "service.log";

/// The longest file of a lab that is read, in bytes.
const MAX_FILE_BYTES: usize = 64 * 1024;

/// A directory with all that one development enclave and its users need. Its ports are bound.
#[derive(Debug)]
pub struct Lab {
    dir: PathBuf,
    host: HostConfig,
    sockets: Sockets,
    provider: Option<TcpListener>,
    keyholder: Option<LabKeyholder>,
}

/// A lab's parts: the directory, and what the service runs on.
#[derive(Debug)]
pub struct LabParts {
    /// The files.
    pub files: LabFiles,
    /// The host's configuration.
    pub host: HostConfig,
    /// The service's sockets.
    pub sockets: Sockets,
    /// The provider's socket, if the lab is new; else it is not bound yet.
    pub provider: Option<TcpListener>,
    /// The keyholder, on its socket; none if it was taken out of the lab.
    pub keyholder: Option<LabKeyholder>,
}

/// The files of a lab, by name.
#[derive(Debug, Clone)]
pub struct LabFiles {
    dir: PathBuf,
}

/// Why there is no lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The directory cannot be made or looked at.
    #[error("{} cannot be used as state directory", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// It holds something else.
    #[error(
        "{} holds other files: name an empty or new directory, or one that tokenkeep-dev made", .path.display()
    )]
    NotALab {
        /// The directory.
        path: PathBuf,
    },
    /// Others can reach it.
    #[error("{} has mode {mode:04o}, and the keys in it are yours alone: run chmod 700 on it", .path.display())]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file does not hold what it should.
    #[error("{} is not {expected}: begin anew with another state directory", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should be.
        expected: &'static str,
    },
    /// The host's configuration is refused.
    #[error("{}", .path.display())]
    Host {
        /// The file.
        path: PathBuf,
        /// Its faults.
        #[source]
        error: HostConfigError,
    },
    /// A socket is not there.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The emulated chip cannot be made.
    #[error("the emulated chip cannot be made")]
    Chip(#[from] SnpError),
    /// The emulated Intel platform cannot be made.
    #[error("the emulated TDX platform cannot be made")]
    Tdx(#[from] TdxError),
    /// It is a guest of another platform.
    #[error("{} is a lab of platform {}: name another --state directory, or leave --platform out", .path.display(), .found.as_str())]
    OtherPlatform {
        /// The directory.
        path: PathBuf,
        /// Its platform.
        found: Platform,
    },
    /// The lab's keyholder.
    #[error("the lab's keyholder")]
    Keyholder(#[from] StateError),
    /// A certificate cannot be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The DPoP key cannot be made or read.
    #[error(transparent)]
    DpopKey(#[from] DpopKeyError),
    /// The manifest cannot be signed.
    #[error("the manifest cannot be signed")]
    Sign(#[from] SignManifestError),
    /// No randomness, or a key that cannot be made of it.
    #[error("no randomness")]
    Random,
    /// A client identity cannot be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The policy cannot be read.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The roots cannot be read.
    #[error(transparent)]
    Roots(#[from] RootsError),
}

impl Lab {
    /// Opens the lab in `dir`, or makes one of an AMD guest there, and binds the service's ports: those that its manifest
    /// names.
    ///
    /// # Errors
    /// [`LabError`]; [`PortError::Taken`] if a port of a kept lab is in use.
    pub fn open(dir: &Path) -> Result<Self, LabError> {
        Self::open_on(dir, None)
    }

    /// The same for a guest of `platform`, if it is named.
    ///
    /// # Errors
    /// [`LabError`]; [`LabError::OtherPlatform`] if the lab is a guest of another one.
    pub fn open_on(dir: &Path, platform: Option<Platform>) -> Result<Self, LabError> {
        let files = LabFiles::of_directory(dir)?;
        if files.path(HOST).exists() {
            let found = files.platform();
            if platform.is_some_and(|platform| platform != found) {
                let path = files.dir;
                return Err(LabError::OtherPlatform { path, found });
            }
            let host = read_host(&files.path(HOST))?;
            let sockets = ports::sockets(&host.listen)?;
            Ok(Self {
                keyholder: LabKeyholder::bind(&files.dir)?,
                dir: files.dir,
                host,
                sockets,
                provider: None,
            })
        } else {
            let made = create::create(&files, platform.unwrap_or(Platform::Snp))?;
            let host = read_host(&files.path(HOST))?;
            Ok(Self {
                dir: files.dir,
                host,
                sockets: made.sockets,
                provider: Some(made.provider),
                keyholder: Some(made.keyholder),
            })
        }
    }

    /// Takes the lab apart.
    #[must_use]
    pub fn into_parts(self) -> LabParts {
        let Self {
            dir,
            host,
            sockets,
            provider,
            keyholder,
        } = self;
        LabParts {
            files: LabFiles { dir },
            host,
            sockets,
            provider,
            keyholder,
        }
    }
}

impl LabFiles {
    /// The directory, made with mode 0700 if it is not there.
    ///
    /// # Errors
    /// [`LabError::Directory`], [`LabError::NotALab`], [`LabError::Exposed`].
    pub fn of_directory(dir: &Path) -> Result<Self, LabError> {
        use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
        let failed = |error| LabError::Directory {
            path: dir.to_owned(),
            error,
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(failed)?;
        let dir = dir.canonicalize().map_err(failed)?;
        let mode = std::fs::metadata(&dir)
            .map_err(failed)?
            .permissions()
            .mode()
            & 0o7777;
        let mut entries = std::fs::read_dir(&dir).map_err(failed)?;
        let is_lab = dir.join(CHIP).exists() || dir.join(TDX).exists();
        if !is_lab && entries.next().is_some() {
            return Err(LabError::NotALab { path: dir });
        }
        if mode & 0o077 != 0 {
            return Err(LabError::Exposed { path: dir, mode });
        }
        Ok(Self { dir })
    }

    /// The directory, absolute.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The absolute path of a file.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The platform whose guest it is.
    #[must_use]
    pub fn platform(&self) -> Platform {
        if self.path(TDX).exists() {
            Platform::Tdx
        } else {
            Platform::Snp
        }
    }

    /// The emulated guest that runs here.
    ///
    /// # Errors
    /// [`LabError`] if chip or signer cannot be read.
    pub fn attester(&self) -> Result<EmulatedAttester, LabError> {
        let signer = create::signer_digest(&self.path(SIGNER))?;
        self.launched(names::IMAGE, signer)
    }

    fn launched(&self, image: &str, signer: [u8; 32]) -> Result<EmulatedAttester, LabError> {
        Ok(match self.platform() {
            Platform::Snp => EmulatedAttester::launch(read_chip(&self.path(CHIP))?, image, signer)?,
            Platform::Tdx => {
                EmulatedAttester::launch_tdx(read_tdx(&self.path(TDX))?, image, signer)
            }
        })
    }

    /// What this lab's users verify with: its root and its policy.
    ///
    /// # Errors
    /// [`LabError`] if a file cannot be read.
    pub fn verification(&self) -> Result<Verification, LabError> {
        let root = read_text(&self.path(ROOT), "the development root")?;
        let policy = read_public(&self.path(POLICY), MAX_FILE_BYTES)?;
        Ok(Verification::new(
            Roots::with_emulated(&root)?,
            Some(Policy::from_toml(&policy)?),
        ))
    }

    /// How the administrator connects.
    ///
    /// # Errors
    /// [`LabError`] if a file cannot be read.
    pub fn admin_config(&self, grpc_url: &str) -> Result<AttestedConfig, LabError> {
        self.config(grpc_url, ADMIN_CERT, ADMIN_KEY)
    }

    /// How the client connects.
    ///
    /// # Errors
    /// [`LabError`] if a file cannot be read.
    pub fn client_config(&self, grpc_url: &str) -> Result<AttestedConfig, LabError> {
        self.config(grpc_url, CLIENT_CERT, CLIENT_KEY)
    }

    fn config(&self, grpc_url: &str, cert: &str, key: &str) -> Result<AttestedConfig, LabError> {
        let mut config = AttestedConfig::new(grpc_url, self.verification()?);
        let identity = ClientIdentity::from_pem_files(&self.path(cert), &self.path(key))?;
        config.client_identity = Some(identity);
        Ok(config)
    }

    /// SHA-256 over the SubjectPublicKeyInfo of the client's certificate.
    ///
    /// # Errors
    /// [`LabError`] if the file cannot be read or is no certificate.
    pub fn client_spki_sha256(&self) -> Result<[u8; 32], LabError> {
        use rustls_pki_types::CertificateDer;
        use rustls_pki_types::pem::PemObject as _;
        let path = self.path(CLIENT_CERT);
        let pem = read_public(&path, MAX_FILE_BYTES)?;
        let der = CertificateDer::from_pem_slice(&pem).map_err(|_| LabError::Damaged {
            path,
            expected: "a certificate in PEM",
        })?;
        Ok(testkit::pki::spki_sha256(&der)?)
    }

    /// The client's DPoP key.
    ///
    /// # Errors
    /// [`LabError`] if the file cannot be read.
    pub fn dpop_key(&self) -> Result<DpopKey, LabError> {
        Ok(DpopKey::from_file(&self.path(DPOP_KEY))?)
    }

    /// The app's secret at the provider.
    ///
    /// # Errors
    /// [`LabError`] if the file cannot be read.
    pub fn app_secret(&self) -> Result<Zeroizing<Vec<u8>>, LabError> {
        Ok(read_private(&self.path(APP_SECRET), MAX_FILE_BYTES)?)
    }

    /// Where the provider listens.
    ///
    /// # Errors
    /// [`LabError`] if the file cannot be read or holds no address.
    pub fn provider_address(&self) -> Result<SocketAddr, LabError> {
        read_address(&self.path(PROVIDER_ADDRESS))
    }
}

fn read_address(path: &Path) -> Result<SocketAddr, LabError> {
    let text = read_text(path, "an address and port")?;
    text.trim().parse().map_err(|_| LabError::Damaged {
        path: path.to_owned(),
        expected: "an address and port",
    })
}

/// Reads and checks a `host.toml`.
///
/// # Errors
/// [`LabError::File`], [`LabError::Host`] with all faults.
pub fn read_host(path: &Path) -> Result<HostConfig, LabError> {
    let bytes = read_public(path, MAX_CONFIG_BYTES)?;
    let text = String::from_utf8_lossy(&bytes);
    let base = path.parent().unwrap_or(Path::new("."));
    HostConfig::parse(&text, base).map_err(|error| LabError::Host {
        path: path.to_owned(),
        error,
    })
}

/// Reads an emulated chip's secret: 32 bytes that are the owner's alone.
///
/// # Errors
/// [`LabError::File`], [`LabError::Damaged`].
pub fn read_chip(path: &Path) -> Result<[u8; 32], LabError> {
    let bytes = read_private(path, MAX_FILE_BYTES)?;
    bytes.as_slice().try_into().map_err(|_| LabError::Damaged {
        path: path.to_owned(),
        expected: "the secret of an emulated chip, 32 bytes",
    })
}

/// Reads an emulated Intel platform's keys.
///
/// # Errors
/// [`LabError::File`], [`LabError::Damaged`].
pub fn read_tdx(path: &Path) -> Result<TdxPlatform, LabError> {
    let pem = read_private(path, MAX_FILE_BYTES)?;
    let text = std::str::from_utf8(&pem).unwrap_or_default();
    TdxPlatform::from_pem(text).map_err(|_| LabError::Damaged {
        path: path.to_owned(),
        expected: "the keys of an emulated TDX platform",
    })
}

/// SHA-256 over the SubjectPublicKeyInfo of a manifest signer, from the private key: what a launch binds.
///
/// # Errors
/// [`LabError::File`], [`LabError::Damaged`].
pub fn signer_digest(path: &Path) -> Result<[u8; 32], LabError> {
    create::signer_digest(path)
}

fn read_text(path: &Path, expected: &'static str) -> Result<String, LabError> {
    let bytes = read_public(path, MAX_FILE_BYTES)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| LabError::Damaged {
        path: path.to_owned(),
        expected,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_lab_comes_back_as_it_was() {
        let folder = folder();
        let dir = folder.path().join("lab");
        let made = Lab::open(&dir).unwrap();
        assert_eq!(mode(&dir), 0o700);
        let listen = made.host.listen;
        let files = made.into_parts().files;
        let before = files.attester().unwrap();
        let chip = std::fs::read(files.path(CHIP)).unwrap();

        let again = Lab::open(&dir).unwrap().into_parts();
        assert_eq!(again.host.listen, listen);
        assert_eq!(std::fs::read(again.files.path(CHIP)).unwrap(), chip);
        let attester = again.files.attester().unwrap();
        assert_eq!(attester.measurement(), before.measurement());
        for secret in [
            CHIP,
            "keyholder/seed",
            SIGNER,
            ADMIN_KEY,
            CLIENT_KEY,
            DPOP_KEY,
            APP_SECRET,
        ] {
            assert_eq!(mode(&again.files.path(secret)), 0o600, "{secret}");
        }
    }

    #[test]
    fn a_labs_manifest_is_one_that_its_enclave_opens() {
        use attestation::Attester as _;
        use attestation::manifest::EnclaveKind;
        let folder = folder();
        let parts = Lab::open(&folder.path().join("lab")).unwrap().into_parts();
        let signer = parts.files.attester().unwrap().host_data().unwrap();
        let files = &parts.host.manifest;
        let (manifest, ..) =
            broker::run::open_manifest(files, &signer, EnclaveKind::Emulated).unwrap();
        let grpc = format!("https://{}", parts.host.listen.grpc);
        assert_eq!(manifest.origins().grpc.as_str(), grpc);
        assert!(manifest.upstream().allow_loopback);
    }

    #[test]
    fn two_programs_cannot_have_the_same_lab() {
        let folder = folder();
        let dir = folder.path().join("lab");
        let first = Lab::open(&dir).unwrap();
        assert!(matches!(
            Lab::open(&dir),
            Err(LabError::Port(PortError::Taken { name: "gRPC listener", address }))
                if address == first.host.listen.grpc
        ));
    }

    #[test]
    fn a_lab_that_was_not_finished_is_made_again() {
        let folder = folder();
        let dir = folder.path().join("lab");
        drop(Lab::open(&dir).unwrap());
        std::fs::remove_file(dir.join(HOST)).unwrap();
        drop(Lab::open(&dir).unwrap());
    }

    #[test]
    fn a_directory_with_other_files_or_open_to_others_is_refused() {
        let folder = folder();
        let other = folder.path().join("home");
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("letter"), "dear").unwrap();
        assert!(matches!(Lab::open(&other), Err(LabError::NotALab { .. })));
        let open = folder.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(
            Lab::open(&open),
            Err(LabError::Exposed { mode: 0o750, .. })
        ));
    }
}
