//! The emulated platform: a chip with its secret, its certificates, its reports and its derived keys.

use std::fmt;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use ring::{digest, hmac};

use super::chain::{Certificates, Chain, VekKind};
use super::report::{Firmware, REPORT_BYTES, ReportFields, SIGNATURE_OFFSET, put_signature};

/// The cloud service provider of an emulated VLEK.
const CSP_ID: &str = "CN=emulated.tokenkeep.test";

/// What can be emulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// Family 0x19, model 0x01.
    Milan,
    /// Family 0x19, model 0x11.
    Genoa,
    /// Family 0x19, model 0xA0; of the Genoa line.
    Bergamo,
    /// Family 0x1A, model 0x02.
    Turin,
}

/// Why the emulated platform gives nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnpError {
    /// A committed or generated key cannot be used.
    Key,
    /// Signing failed.
    Sign,
    /// The fields of a derived key are above what runs [AMD 56860, "MSG_KEY_REQ"].
    FieldsAboveLaunch,
}

impl fmt::Display for SnpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "a key of the emulated platform cannot be used",
            Self::Sign => "the emulated platform cannot sign",
            Self::FieldsAboveLaunch => "the fields of the derived key are above what runs",
        })
    }
}

impl std::error::Error for SnpError {}

/// An emulated chip. Two with the same secret and product are the same chip: they have the same id and derive the
/// same keys. The key that signs reports is new each time, under a new certificate for that chip.
pub struct SnpPlatform {
    product: Product,
    kind: VekKind,
    chip_secret: [u8; 32],
    vek: EcdsaKeyPair,
    chain: Chain,
    certificates: Certificates,
    root_pem: String,
}

impl Product {
    /// The line of AMD's key distribution.
    pub(super) const fn line(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa | Self::Bergamo => "Genoa",
            Self::Turin => "Turin",
        }
    }

    pub(super) const fn hardware_id_bytes(self) -> usize {
        match self {
            Self::Milan | Self::Genoa | Self::Bergamo => 64,
            Self::Turin => 8,
        }
    }

    const fn cpuid(self) -> [u8; 3] {
        match self {
            Self::Milan => [0x19, 0x01, 1],
            Self::Genoa => [0x19, 0x11, 1],
            Self::Bergamo => [0x19, 0xA0, 2],
            Self::Turin => [0x1A, 0x02, 1],
        }
    }

    /// Patch levels as real platforms of 2026 had them.
    const fn tcb(self) -> [u8; 8] {
        match self {
            Self::Milan => [4, 0, 0, 0, 0, 0, 24, 219],
            Self::Genoa => [10, 0, 0, 0, 0, 0, 25, 84],
            Self::Bergamo => [10, 0, 0, 0, 0, 0, 25, 27],
            Self::Turin => [1, 1, 1, 4, 0, 0, 0, 81],
        }
    }
}

impl SnpPlatform {
    /// A Genoa chip with a VCEK: the emulated platform of the development service.
    ///
    /// # Errors
    /// [`SnpError`] if a key cannot be read or made.
    pub fn development(chip_secret: [u8; 32]) -> Result<Self, SnpError> {
        Self::new(Product::Genoa, VekKind::Vcek, chip_secret)
    }

    /// A chip of a product, with a VCEK or a VLEK.
    ///
    /// # Errors
    /// [`SnpError`] if a key cannot be read or made.
    pub fn new(product: Product, kind: VekKind, chip_secret: [u8; 32]) -> Result<Self, SnpError> {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random)
            .map_err(|_| SnpError::Key)?;
        let vek =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8.as_ref(), &random)
                .map_err(|_| SnpError::Key)?;
        let chip_id = chip_id(product, &chip_secret);
        let chain = Chain::development(
            product,
            kind,
            vek.public_key().as_ref(),
            product.tcb(),
            &chip_id,
            CSP_ID,
        )?;
        let certificates = chain.sign()?;
        let root_pem = pem(&certificates.ark);
        Ok(Self {
            product,
            kind,
            chip_secret,
            vek,
            chain,
            certificates,
            root_pem,
        })
    }

    /// The development root, PEM: what a verifier must be handed to accept this platform.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// The chain, DER.
    #[must_use]
    pub const fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The chain before it was signed, to be changed and signed again.
    #[must_use]
    pub const fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Fields of a valid version 5 report of this chip: all that a guest, its image and its host choose is zero.
    #[must_use]
    pub fn fields(&self) -> ReportFields {
        let tcb = self.product.tcb();
        let firmware = Firmware {
            major: 1,
            minor: 55,
            build: 39,
        };
        let (key_info, chip_id) = match self.kind {
            VekKind::Vcek => (0, chip_id(self.product, &self.chip_secret)),
            // Providers that load keys also mask the chip's id.
            VekKind::Vlek => (1 << 2, [0; 64]),
        };
        ReportFields {
            version: 5,
            guest_svn: 0,
            // ABI 0.31, SMT allowed, bit 17.
            policy: 0x3_001F,
            family_id: [0; 16],
            image_id: [0; 16],
            vmpl: 0,
            signature_algorithm: 1,
            current_tcb: tcb,
            // SMT, ECC, alias check complete.
            platform_info: 0x25,
            key_info,
            report_data: [0; 64],
            measurement: [0; 48],
            host_data: [0; 32],
            id_key_digest: [0; 48],
            author_key_digest: [0; 48],
            report_id: hash_32(&self.chip_secret, b"report-id"),
            // No migration agent.
            report_id_ma: [0xFF; 32],
            reported_tcb: tcb,
            cpuid: self.product.cpuid(),
            chip_id,
            committed_tcb: tcb,
            current_firmware: firmware,
            committed_firmware: firmware,
            launch_tcb: tcb,
            launch_mitigations: 0x3F,
            current_mitigations: 0x3F,
        }
    }

    /// A signed report with these fields, right or wrong.
    ///
    /// # Errors
    /// [`SnpError::Sign`] if signing fails.
    pub fn report(&self, fields: &ReportFields) -> Result<Vec<u8>, SnpError> {
        let mut report = fields.unsigned();
        self.sign(&mut report)?;
        Ok(report.to_vec())
    }

    /// Signs the first [`SIGNATURE_OFFSET`] bytes as they are, and writes the signature behind them.
    ///
    /// # Errors
    /// [`SnpError::Sign`] if signing fails.
    pub fn sign(&self, report: &mut [u8; REPORT_BYTES]) -> Result<(), SnpError> {
        let body = report.get(..SIGNATURE_OFFSET).ok_or(SnpError::Sign)?;
        let signature = self
            .vek
            .sign(&SystemRandom::new(), body)
            .map_err(|_| SnpError::Sign)?;
        put_signature(report, signature.as_ref());
        Ok(())
    }

    /// The key that the chip derives for a guest that was launched with `launched`, selecting guest policy, guest SVN
    /// and TCB [AMD 56860, "MSG_KEY_REQ"]. The same chip gives the same key for the same fields, whatever the
    /// measurement.
    ///
    /// # Errors
    /// [`SnpError::FieldsAboveLaunch`] for a guest SVN above the guest's or a TCB above the committed one.
    pub fn derived_key(
        &self,
        launched: &ReportFields,
        guest_svn: u32,
        tcb_version: [u8; 8],
    ) -> Result<[u8; 32], SnpError> {
        let below = tcb_version
            .iter()
            .zip(launched.committed_tcb)
            .all(|(wanted, committed)| *wanted <= committed);
        if guest_svn > launched.guest_svn || !below {
            return Err(SnpError::FieldsAboveLaunch);
        }
        let mut input = b"derived-key".to_vec();
        input.extend_from_slice(&launched.policy.to_le_bytes());
        input.extend_from_slice(&guest_svn.to_le_bytes());
        input.extend_from_slice(&tcb_version);
        Ok(hash_32(&self.chip_secret, &input))
    }
}

impl fmt::Debug for SnpPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnpPlatform")
            .field("product", &self.product)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// The id that follows from the secret; on Turin 8 bytes, then zeros.
fn chip_id(product: Product, chip_secret: &[u8; 32]) -> [u8; 64] {
    let hash = digest::digest(
        &digest::SHA512,
        &[chip_secret.as_slice(), b"chip-id"].concat(),
    );
    let mut id = [0; 64];
    for (place, byte) in id
        .iter_mut()
        .zip(hash.as_ref())
        .take(product.hardware_id_bytes())
    {
        *place = *byte;
    }
    id
}

fn hash_32(secret: &[u8; 32], input: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), input);
    let mut out = [0; 32];
    for (place, byte) in out.iter_mut().zip(tag.as_ref()) {
        *place = *byte;
    }
    out
}

fn pem(der: &[u8]) -> String {
    use base64ct::{Base64, Encoding};
    let text = Base64::encode_string(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap_or_default())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_chip_derives_the_same_key_and_another_chip_another() {
        let chip = SnpPlatform::development([1; 32]).unwrap();
        let again = SnpPlatform::development([1; 32]).unwrap();
        let other = SnpPlatform::development([2; 32]).unwrap();
        let fields = chip.fields();
        let key = chip.derived_key(&fields, 0, fields.committed_tcb).unwrap();
        assert_eq!(again.derived_key(&fields, 0, fields.committed_tcb), Ok(key));
        assert_ne!(other.derived_key(&fields, 0, fields.committed_tcb), Ok(key));
        let image = ReportFields {
            measurement: [9; 48],
            host_data: [8; 32],
            ..fields.clone()
        };
        assert_eq!(chip.derived_key(&image, 0, fields.committed_tcb), Ok(key));
        let debug = ReportFields {
            policy: fields.policy | (1 << 19),
            ..fields.clone()
        };
        assert_ne!(chip.derived_key(&debug, 0, fields.committed_tcb), Ok(key));
        let mut older = fields.committed_tcb;
        older[7] = 1;
        assert_ne!(chip.derived_key(&fields, 0, older), Ok(key));
    }

    #[test]
    fn no_key_exists_above_what_runs() {
        let chip = SnpPlatform::development([1; 32]).unwrap();
        let fields = ReportFields {
            guest_svn: 3,
            ..chip.fields()
        };
        assert!(chip.derived_key(&fields, 3, fields.committed_tcb).is_ok());
        assert_eq!(
            chip.derived_key(&fields, 4, fields.committed_tcb),
            Err(SnpError::FieldsAboveLaunch)
        );
        let mut newer = fields.committed_tcb;
        newer[7] = 85;
        assert_eq!(
            chip.derived_key(&fields, 3, newer),
            Err(SnpError::FieldsAboveLaunch)
        );
    }
}
