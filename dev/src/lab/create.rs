//! Making a lab: keys first, `host.toml` last.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use attestation::manifest::sign_manifest;
use attestation::{P256PublicKey, Platform};
use broker::Sockets;
use broker::host_config::Listen;
use jose::signing_key::to_pkcs8_pem;
use jose::{Alg, SigningKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use secrecy::ExposeSecret as _;
use testkit::pki::{ClientCertificate, client_certificate};
use testkit::tdx::TdxPlatform;
use tokenkeep::DpopKey;
use tokenkeep::private_file::read_private;
use zeroize::Zeroizing;

use super::keyholder::{LabKeyholder, NAME};
use super::write::{make_room, write_private, write_public};
use super::{
    ADMIN_CERT, ADMIN_KEY, APP_SECRET, CHIP, CLIENT_CERT, CLIENT_KEY, DPOP_KEY, HOST, LabError,
    LabFiles, MANIFEST, MAX_FILE_BYTES, POLICY, PROVIDER_ADDRESS, ROOT, SIGNATURE, SIGNER, TDX,
};
use crate::names;
use crate::ports::{self, ANY};

/// What a new lab listens on.
pub(super) struct Made {
    pub(super) sockets: Sockets,
    pub(super) provider: TcpListener,
    pub(super) keyholder: LabKeyholder,
}

/// Makes a lab on free ports, which stay bound.
pub(super) fn create(files: &LabFiles, platform: Platform) -> Result<Made, LabError> {
    let any = Listen {
        grpc: ANY,
        public: ANY,
        gateway: ANY,
    };
    let sockets = ports::sockets(&any)?;
    let listen = ports::addresses(&sockets)?;
    let provider = ports::bind("provider", ANY)?;

    match platform {
        Platform::Snp => write_private(&files.path(CHIP), &*random()?)?,
        Platform::Tdx => {
            let keys = Zeroizing::new(TdxPlatform::new()?.to_pem());
            write_private(&files.path(TDX), keys.as_bytes())?;
        }
    }
    let app_secret = Zeroizing::new(hex::encode(*random()?));
    write_private(&files.path(APP_SECRET), app_secret.as_bytes())?;

    let signer_der =
        SigningKey::generate(Alg::Es256, &SystemRandom::new()).map_err(|_| LabError::Random)?;
    write_private(&files.path(SIGNER), to_pkcs8_pem(&signer_der).as_bytes())?;
    let signer = signer_digest(&files.path(SIGNER))?;

    let admin = identity(files, names::ADMINISTRATOR, ADMIN_CERT, ADMIN_KEY)?;
    identity(files, names::CLIENT, CLIENT_CERT, CLIENT_KEY)?;
    make_room(&files.path(DPOP_KEY))?;
    DpopKey::create_file(&files.path(DPOP_KEY))?;

    let (keyholder, key, address) = LabKeyholder::create(files.dir())?;
    let manifest = format!(
        "{}{}",
        manifest_toml(&listen, &admin.spki_sha256),
        keyholders_toml(platform, &key, address)
    );
    let signature = sign_manifest(manifest.as_bytes(), &signer_der, &SystemRandom::new())?;
    write_public(&files.path(MANIFEST), &manifest)?;
    write_public(&files.path(SIGNATURE), &signature)?;

    let attester = files.launched(names::IMAGE, signer)?;
    write_public(&files.path(ROOT), attester.root_pem())?;
    write_public(&files.path(POLICY), &attester.policy())?;

    let address = ports::address("provider", &provider)?;
    write_public(&files.path(PROVIDER_ADDRESS), &format!("{address}\n"))?;
    write_public(&files.path(HOST), &host_toml(&listen))?;
    Ok(Made {
        sockets,
        provider,
        keyholder,
    })
}

/// The digest that a launch binds as HOST_DATA, from the signer's private key.
pub(super) fn signer_digest(path: &Path) -> Result<[u8; 32], LabError> {
    let damaged = || LabError::Damaged {
        path: path.to_owned(),
        expected: "a P-256 private key, PEM of PKCS#8",
    };
    let pem = read_private(path, MAX_FILE_BYTES)?;
    let der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| damaged())?;
    let pair = EcdsaKeyPair::from_pkcs8(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        der.secret_pkcs8_der(),
        &SystemRandom::new(),
    )
    .map_err(|_| damaged())?;
    let public = P256PublicKey::from_point(pair.public_key().as_ref()).map_err(|_| damaged())?;
    Ok(public.spki_sha256())
}

fn identity(
    files: &LabFiles,
    name: &str,
    cert: &str,
    key: &str,
) -> Result<ClientCertificate, LabError> {
    let made = client_certificate(name)?;
    write_private(&files.path(key), made.key_pem.expose_secret().as_bytes())?;
    write_public(&files.path(cert), &made.pem)?;
    Ok(made)
}

fn random() -> Result<Zeroizing<[u8; 32]>, LabError> {
    let mut bytes = Zeroizing::new([0; 32]);
    SystemRandom::new()
        .fill(bytes.as_mut())
        .map_err(|_| LabError::Random)?;
    Ok(bytes)
}

fn manifest_toml(listen: &Listen, admin_spki_sha256: &[u8; 32]) -> String {
    let Listen {
        grpc,
        public,
        gateway,
    } = listen;
    let admin = hex::encode(admin_spki_sha256);
    let (name, tenant, vendor) = (names::ADMINISTRATOR, names::TENANT, names::VENDOR);
    format!(
        r#"# Manifest of a development enclave. It is signed: after a change, sign it again and raise the sequence.
sequence = 1
issuer = "https://{public}"

[origins]
grpc = "https://{grpc}"
public = "https://{public}"
gateway = "https://{gateway}"

# One administrator in three roles. In production they are three people of three organisations.
[[administrators]]
name = "{name}"
spki_sha256 = "{admin}"
roles = ["operator", "tenant:{tenant}", "vendor:{vendor}"]

# The provider runs on this machine. On hardware such a manifest is refused.
[upstream]
allow_loopback = true

# Wide, so that load can be tried. Without this table the rates are 50, 100 and 5.
[rates]
client_per_s = 100000
client_burst = 100000
grant_upstream_per_s = 1000
"#
    )
}

/// The table of the lab's own keyholder.
fn keyholders_toml(platform: Platform, key: &[u8; 32], address: SocketAddr) -> String {
    let key = hex::encode(key);
    let off_chip = match platform {
        Platform::Snp => "# The state opens on this emulated chip alone.\noff_chip = false\n",
        // TDX has no key of the chip: the keyholder's share is all there is.
        Platform::Tdx => "",
    };
    format!(
        r#"
# Who holds the share that opens the root key: a keyholder that tokenkeep-dev runs by itself. In production tenants or
# third parties run them, because one that the operator runs keeps nothing from the operator.
[keyholders]
quorum = 1
{off_chip}
[[keyholders.keyholder]]
name = "{NAME}"
url = "http://{address}"
key = "{key}"
run_by = "operator"
"#
    )
}

fn host_toml(listen: &Listen) -> String {
    let Listen {
        grpc,
        public,
        gateway,
    } = listen;
    format!(
        r#"# Where a development enclave listens. The ports are those that the manifest names.
[listen]
grpc = "{grpc}"
public = "{public}"
gateway = "{gateway}"

[state]
dir = "state"

[manifest]
file = "{MANIFEST}"
signature = "{SIGNATURE}"

[log]
level = "info"
format = "json"
"#
    )
}
