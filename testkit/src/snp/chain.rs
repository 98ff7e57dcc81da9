//! The development chain: ARK, ASK and VEK, each open to change before it is signed.

use ring::signature::{KeyPair, RsaKeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;

use super::certificate::{AmdExtension, CertificateSpec, Extension, Name, PublicKey, SALT_BYTES};
use super::platform::{Product, SnpError};

const ARK_KEY: &[u8] = include_bytes!("../../keys/snp_development_ark.pem");
const ASK_KEY: &[u8] = include_bytes!("../../keys/snp_development_ask.pem");

/// The organisation of every development certificate.
const ORGANIZATION: &str = "EMULATED, Tokenkeep development, protects nothing";

/// The kind of key that signs reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VekKind {
    /// Of a chip.
    Vcek,
    /// Of a cloud service provider.
    Vlek,
}

/// One of the two committed RSA keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DevelopmentKey {
    /// The root's.
    Ark,
    /// The signing key's.
    Ask,
}

/// The three certificates before they are signed. Changing one makes a chain that a verifier must refuse.
#[derive(Debug, Clone)]
pub struct Chain {
    /// The root.
    pub ark: CertificateSpec,
    /// The key that signs the root.
    pub ark_signer: DevelopmentKey,
    /// The signing key.
    pub ask: CertificateSpec,
    /// The key that signs the signing key.
    pub ask_signer: DevelopmentKey,
    /// The key that signs reports.
    pub vek: CertificateSpec,
    /// The key that signs the VEK.
    pub vek_signer: DevelopmentKey,
}

/// The signed chain, DER.
#[derive(Debug, Clone)]
pub struct Certificates {
    /// The root.
    pub ark: Vec<u8>,
    /// The signing key.
    pub ask: Vec<u8>,
    /// The key that signs reports.
    pub vek: Vec<u8>,
}

impl DevelopmentKey {
    pub(super) fn load(self) -> Result<RsaKeyPair, SnpError> {
        let pem = match self {
            Self::Ark => ARK_KEY,
            Self::Ask => ASK_KEY,
        };
        let pkcs8 = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| SnpError::Key)?;
        RsaKeyPair::from_pkcs8(pkcs8.secret_pkcs8_der()).map_err(|_| SnpError::Key)
    }

    /// DER of its RSAPublicKey.
    ///
    /// # Errors
    /// [`SnpError::Key`] if the committed key cannot be read.
    pub fn public(self) -> Result<PublicKey, SnpError> {
        Ok(PublicKey::Rsa(self.load()?.public_key().as_ref().to_vec()))
    }
}

impl Chain {
    /// A valid chain for a product: the VEK's key is `point`, its TCB `tcb`, its holder `chip_id` or `csp_id`.
    ///
    /// # Errors
    /// [`SnpError::Key`] if a committed key cannot be read.
    pub fn development(
        product: Product,
        kind: VekKind,
        point: &[u8],
        tcb: [u8; 8],
        chip_id: &[u8; 64],
        csp_id: &str,
    ) -> Result<Self, SnpError> {
        let line = product.line();
        let name = |common_name: String| Name {
            organization: ORGANIZATION.to_owned(),
            common_name,
        };
        let ark_name = name(format!("ARK-{line}"));
        let ask_name = name(match kind {
            VekKind::Vcek => format!("SEV-{line}"),
            VekKind::Vlek => format!("SEV-VLEK-{line}"),
        });
        let vek_name = name(match kind {
            VekKind::Vcek => "SEV-VCEK".to_owned(),
            VekKind::Vlek => "SEV-VLEK".to_owned(),
        });
        // The lifetimes of AMD's: 25 years for the authorities, 7 for a VCEK.
        let authority = |serial: u8, subject: &Name, key, crl_sign, path_length| CertificateSpec {
            serial: vec![2, 0, serial],
            subject: subject.clone(),
            issuer: ark_name.clone(),
            not_before: "220126153437Z".to_owned(),
            not_after: "470126153437Z".to_owned(),
            key,
            extensions: vec![
                Extension::key_usage(true, crl_sign),
                Extension::basic_constraints(true, path_length),
            ],
            version: 2,
            stated_salt_bytes: SALT_BYTES,
        };
        let vek = CertificateSpec {
            serial: vec![0],
            subject: vek_name,
            issuer: ask_name.clone(),
            not_before: "250807172141Z".to_owned(),
            not_after: "320807172141Z".to_owned(),
            key: PublicKey::P384(point.to_vec()),
            extensions: vek_extensions(product, kind, tcb, chip_id, csp_id),
            version: 2,
            stated_salt_bytes: SALT_BYTES,
        };
        Ok(Self {
            ark: authority(0, &ark_name, DevelopmentKey::Ark.public()?, true, None),
            ark_signer: DevelopmentKey::Ark,
            ask: authority(1, &ask_name, DevelopmentKey::Ask.public()?, false, Some(0)),
            ask_signer: DevelopmentKey::Ark,
            vek,
            vek_signer: DevelopmentKey::Ask,
        })
    }

    /// Signs the three certificates.
    ///
    /// # Errors
    /// [`SnpError`] if a committed key cannot be read or does not sign.
    pub fn sign(&self) -> Result<Certificates, SnpError> {
        let Self {
            ark,
            ark_signer,
            ask,
            ask_signer,
            vek,
            vek_signer,
        } = self;
        Ok(Certificates {
            ark: ark.sign(&ark_signer.load()?)?,
            ask: ask.sign(&ask_signer.load()?)?,
            vek: vek.sign(&vek_signer.load()?)?,
        })
    }
}

/// AMD's extensions in AMD's order.
fn vek_extensions(
    product: Product,
    kind: VekKind,
    tcb: [u8; 8],
    chip_id: &[u8; 64],
    csp_id: &str,
) -> Vec<Extension> {
    let name = match (product, kind) {
        (Product::Milan, VekKind::Vcek) => "Milan-B0",
        (Product::Milan, VekKind::Vlek) => "Milan",
        (Product::Genoa | Product::Bergamo, _) => "Genoa",
        (Product::Turin, _) => "Turin",
    };
    // The numbers of the patch levels in the arc, in the order of the TCB's bytes.
    let (struct_version, numbers) = match product {
        Product::Milan | Product::Genoa | Product::Bergamo => (0, [1, 2, 4, 5, 6, 7, 3, 8]),
        Product::Turin => (1, [9, 1, 2, 3, 5, 6, 7, 8]),
    };
    let mut extensions = vec![
        AmdExtension::StructVersion(struct_version),
        AmdExtension::ProductName(name.to_owned()),
    ];
    extensions.extend(
        numbers
            .into_iter()
            .zip(tcb)
            .map(|(number, level)| AmdExtension::PatchLevel(number, level)),
    );
    extensions.push(match kind {
        VekKind::Vcek => AmdExtension::HardwareId(
            chip_id
                .iter()
                .take(product.hardware_id_bytes())
                .copied()
                .collect(),
        ),
        VekKind::Vlek => AmdExtension::CspId(csp_id.to_owned()),
    });
    extensions.iter().map(AmdExtension::encode).collect()
}
