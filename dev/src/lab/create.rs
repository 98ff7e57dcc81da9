//! Making a lab: keys first, `host.toml` last.

use std::net::TcpListener;
use std::path::Path;

use attestation::manifest::sign_manifest;
use attestation::policy::pinned;
use attestation::{P256PublicKey, Tier};
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
use tokenkeep::DpopKey;
use tokenkeep::private_file::read_private;
use zeroize::Zeroizing;

use super::write::{make_room, write_private, write_public};
use super::{
    ADMIN_CERT, ADMIN_KEY, APP_SECRET, CHIP, CLIENT_CERT, CLIENT_KEY, DPOP_KEY, HOST, LabError,
    LabFiles, MANIFEST, MAX_FILE_BYTES, POLICY, PROVIDER_ADDRESS, ROOT, SHARE, SIGNATURE, SIGNER,
};
use crate::emulated::EmulatedAttester;
use crate::names;
use crate::ports::{self, ANY};

/// Makes a lab on free ports, which stay bound.
pub(super) fn create(files: &LabFiles) -> Result<(Sockets, TcpListener), LabError> {
    let any = Listen {
        grpc: ANY,
        public: ANY,
        gateway: ANY,
    };
    let sockets = ports::sockets(&any)?;
    let listen = ports::addresses(&sockets)?;
    let provider = ports::bind("provider", ANY)?;

    let chip = random()?;
    write_private(&files.path(CHIP), &*chip)?;
    write_private(&files.path(SHARE), &*random()?)?;
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

    let manifest = manifest_toml(&listen, &admin.spki_sha256);
    let signature = sign_manifest(manifest.as_bytes(), &signer_der, &SystemRandom::new())?;
    write_public(&files.path(MANIFEST), &manifest)?;
    write_public(&files.path(SIGNATURE), &signature)?;

    let attester = EmulatedAttester::launch(*chip, names::IMAGE, signer)?;
    let policy = pinned(attester.measurement(), &signer, &[Tier::Emulated]);
    write_public(&files.path(ROOT), attester.root_pem())?;
    write_public(&files.path(POLICY), &policy)?;

    let address = ports::address("provider", &provider)?;
    write_public(&files.path(PROVIDER_ADDRESS), &format!("{address}\n"))?;
    write_public(&files.path(HOST), &host_toml(&listen))?;
    Ok((sockets, provider))
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
share_file = "{SHARE}"

[manifest]
file = "{MANIFEST}"
signature = "{SIGNATURE}"

[log]
level = "info"
format = "json"
"#
    )
}
