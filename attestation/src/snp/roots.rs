//! The roots that a verifier trusts: AMD's and Intel's, pinned in this crate, and on demand development roots.

use ring::digest;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::certificate::{Certificate, CertificateProblem, PublicKey};
use super::endorsement::VekKind;
use super::product::Line;
use super::revocation::{RevocationError, RevocationList, RevocationSummary};
use crate::tdx::{
    CollateralSummary, IntelRoot, PlatformModel, StatementError, is_intel_root, read_statements,
};

/// How the organisation of a development root begins.
const EMULATED: &str = "EMULATED";
/// The most certificates a development root file may hold.
const MAX_EMULATED_ROOTS: usize = 8;
/// The most bytes a development root file may have.
const MAX_ROOT_PEM_BYTES: usize = 64 * 1024;

/// One certificate of AMD's that is embedded, with the hash that a test holds it to.
struct Embedded {
    line: Line,
    der: &'static [u8],
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "a statement about the file that a test checks")
    )]
    sha256: &'static str,
}

/// AMD's root keys. Provenance: `attestation/roots/PROVENANCE.md`.
const ARKS: [Embedded; 3] = [
    Embedded {
        line: Line::Milan,
        der: include_bytes!("../../roots/amd_milan_ark.der"),
        sha256: "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
    },
    Embedded {
        line: Line::Genoa,
        der: include_bytes!("../../roots/amd_genoa_ark.der"),
        sha256: "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
    },
    Embedded {
        line: Line::Turin,
        der: include_bytes!("../../roots/amd_turin_ark.der"),
        sha256: "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
    },
];

/// AMD's signing keys, for evidence that comes without them. They are verified like any other: not trusted.
const SIGNING_KEYS: [Embedded; 6] = [
    Embedded {
        line: Line::Milan,
        der: include_bytes!("../../roots/amd_milan_ask.der"),
        sha256: "67d303bd3905fd38db8b20e0793699870e7fa612eaad5dec358293fd8c0bac1b",
    },
    Embedded {
        line: Line::Milan,
        der: include_bytes!("../../roots/amd_milan_asvk.der"),
        sha256: "c5e081f59b7efab1fe2f8b505e159704e72f29cab7ef7cf628a05a42439082f5",
    },
    Embedded {
        line: Line::Genoa,
        der: include_bytes!("../../roots/amd_genoa_ask.der"),
        sha256: "5464738c1546aed5f2cecf1dc98c5c960a92e8913238a61711bc90ec6e828521",
    },
    Embedded {
        line: Line::Genoa,
        der: include_bytes!("../../roots/amd_genoa_asvk.der"),
        sha256: "197e610743a917d6b9bb982a5a9226ccc0a15b611be0619e626aca9151457372",
    },
    Embedded {
        line: Line::Turin,
        der: include_bytes!("../../roots/amd_turin_ask.der"),
        sha256: "5b77ef5fe7a7a004fd9032668fba9d0fda22f88c4442069a479636a6ae3b3185",
    },
    Embedded {
        line: Line::Turin,
        der: include_bytes!("../../roots/amd_turin_asvk.der"),
        sha256: "104e10a8bd060a3c20a434261a57d0588fd65a88915b4f65b08bdecaf8df1a3c",
    },
];

/// Why a root set could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RootsError {
    /// One of AMD's certificates that this program carries cannot be read: a broken build.
    #[error("the embedded certificate of {line} cannot be read")]
    Embedded {
        /// Of which line.
        line: Line,
        /// Why.
        #[source]
        problem: CertificateProblem,
    },
    /// Intel's certificate that this program carries cannot be read: a broken build.
    #[error("the embedded certificate of Intel cannot be read")]
    EmbeddedIntel,
    /// The file is too large, or not PEM, or holds no certificate or too many.
    #[error("the development root is not a PEM file with 1 to {MAX_EMULATED_ROOTS} certificates")]
    Pem,
    /// A certificate in it cannot be read.
    #[error("the development root cannot be read")]
    Certificate(#[source] CertificateProblem),
    /// It is no root: not self-signed, not a certificate authority, or named neither `ARK-` and a product line nor as
    /// Intel's root.
    #[error("the development root is not a self-signed ARK certificate")]
    NotARoot,
    /// Its organisation does not begin with `EMULATED`: it could be taken for a real one.
    #[error("the organisation of a development root must begin with EMULATED")]
    NotMarked,
}

/// A set of trusted roots. What evidence supplies never enters it.
#[derive(Debug, Clone)]
pub struct Roots {
    pinned: Vec<PinnedRoot>,
    signing_keys: Vec<Certificate>,
    /// At most one a root: that with the highest number.
    revocation: Vec<RevocationList>,
    intel: Vec<IntelRoot>,
    /// Intel's statements from the verifier's own store, at most one set a model.
    collateral: Vec<OwnCollateral>,
}

/// Collateral that the verifier holds itself.
#[derive(Debug, Clone)]
struct OwnCollateral {
    summary: CollateralSummary,
    json: Vec<u8>,
}

/// A trusted root.
#[derive(Debug, Clone)]
pub(crate) struct PinnedRoot {
    pub(crate) line: Line,
    /// Whether it is a development root: everything under it has the emulated tier.
    pub(crate) emulated: bool,
    pub(crate) certificate: Certificate,
}

impl Roots {
    /// The manufacturers' roots that this program carries: AMD's for Milan, Genoa and Turin, Intel's for TDX.
    ///
    /// # Errors
    /// [`RootsError::Embedded`], [`RootsError::EmbeddedIntel`] if this build is broken.
    pub fn amd() -> Result<Self, RootsError> {
        let parse = |Embedded {
                         line,
                         der,
                         sha256: _,
                     }: Embedded| {
            Certificate::parse(der)
                .map(|certificate| (line, certificate))
                .map_err(|problem| RootsError::Embedded { line, problem })
        };
        let pinned = ARKS
            .into_iter()
            .map(parse)
            .map(|ark| {
                ark.map(|(line, certificate)| PinnedRoot {
                    line,
                    emulated: false,
                    certificate,
                })
            })
            .collect::<Result<_, _>>()?;
        let signing_keys = SIGNING_KEYS
            .into_iter()
            .map(parse)
            .map(|key| key.map(|(_, key)| key))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            pinned,
            signing_keys,
            revocation: Vec::new(),
            intel: vec![IntelRoot::pinned().ok_or(RootsError::EmbeddedIntel)?],
            collateral: Vec::new(),
        })
    }

    /// The manufacturers' roots and the development roots of a PEM file: the only door for emulated evidence, which never gets a
    /// tier above [`crate::Tier::Emulated`].
    ///
    /// # Errors
    /// [`RootsError`], by what is wrong with the file.
    pub fn with_emulated(root_pem: &str) -> Result<Self, RootsError> {
        if root_pem.len() > MAX_ROOT_PEM_BYTES {
            return Err(RootsError::Pem);
        }
        let mut roots = Self::amd()?;
        let mut count = 0usize;
        for der in CertificateDer::pem_slice_iter(root_pem.as_bytes()) {
            let der = der.map_err(|_| RootsError::Pem)?;
            count = count.saturating_add(1);
            if count > MAX_EMULATED_ROOTS {
                return Err(RootsError::Pem);
            }
            if is_intel_root(&der) {
                roots.intel.push(emulated_intel_root(&der)?);
            } else {
                roots.pinned.push(emulated_root(&der)?);
            }
        }
        if count == 0 {
            Err(RootsError::Pem)
        } else {
            Ok(roots)
        }
    }

    /// Takes in a revocation list, DER, from the verifier's own store or from AMD; never from evidence. It must be
    /// signed by a root of the set, and a list with a lower number than a known one is refused.
    ///
    /// # Errors
    /// [`RevocationError`]; the set is then as it was.
    pub fn add_revocation_list(&mut self, der: &[u8]) -> Result<(), RevocationError> {
        let list =
            RevocationList::open(der, |name| self.named(name).map(|root| &root.certificate))?;
        if self
            .revocation_of(&list.issuer)
            .is_some_and(|known| list.is_older_than(known))
        {
            return Err(RevocationError::Older);
        }
        self.revocation.retain(|known| known.issuer != list.issuer);
        self.revocation.push(list);
        Ok(())
    }

    /// What a revocation list says about itself, once a root of the set is known to have signed it. The set stays as
    /// it is.
    ///
    /// # Errors
    /// [`RevocationError`], but not `Older`.
    pub fn read_revocation_list(&self, der: &[u8]) -> Result<RevocationSummary, RevocationError> {
        let list =
            RevocationList::open(der, |name| self.named(name).map(|root| &root.certificate))?;
        let root = self
            .named(&list.issuer)
            .ok_or(RevocationError::UnknownIssuer)?;
        Ok(list.summary(root.line))
    }

    /// Takes in collateral for TDX, JSON, from the verifier's own store or from Intel. From then on what comes with a
    /// quote of its model must not be older in any part, or it is not looked at and this is used in its place.
    ///
    /// # Errors
    /// [`StatementError`]; the set is then as it was.
    pub fn add_collateral(&mut self, json: &[u8]) -> Result<CollateralSummary, StatementError> {
        let summary = self.read_collateral(json)?;
        let known = self.collateral.iter().map(|own| &own.summary);
        let known = known
            .filter(|known| known.model == summary.model)
            .find_map(|known| summary.older_than(known));
        if let Some(part) = known {
            return Err(StatementError::Older { part });
        }
        self.collateral
            .retain(|own| own.summary.model != summary.model);
        self.collateral.push(OwnCollateral {
            summary: summary.clone(),
            json: json.to_vec(),
        });
        Ok(summary)
    }

    /// What collateral for TDX says about itself, once its signatures are known to be those of a root of the set. The
    /// set stays as it is.
    ///
    /// # Errors
    /// [`StatementError`], but not `Older`.
    pub fn read_collateral(&self, json: &[u8]) -> Result<CollateralSummary, StatementError> {
        read_statements(json, |name| self.intel(name))
    }

    /// Whether there is collateral of the verifier's own, for any model.
    pub(crate) fn has_own_collateral(&self) -> bool {
        !self.collateral.is_empty()
    }

    /// The collateral to verify a quote of `model` with, if not what came with it: the verifier's own, where that is
    /// newer in any part or nothing readable came.
    pub(crate) fn own_collateral(
        &self,
        model: &PlatformModel,
        supplied: Option<&[u8]>,
    ) -> Option<&[u8]> {
        let own = self
            .collateral
            .iter()
            .find(|own| own.summary.model == *model)?;
        let supplied = supplied.and_then(|json| self.read_collateral(json).ok());
        let as_new = supplied.is_some_and(|supplied| {
            supplied.model == *model && supplied.older_than(&own.summary).is_none()
        });
        (!as_new).then_some(own.json.as_slice())
    }

    /// The revocation list of the root whose subject is `name`, DER.
    pub(crate) fn revocation_of(&self, name: &[u8]) -> Option<&RevocationList> {
        self.revocation.iter().find(|list| list.issuer == name)
    }

    /// The root whose subject is `name`, DER.
    pub(crate) fn named(&self, name: &[u8]) -> Option<&PinnedRoot> {
        self.pinned
            .iter()
            .find(|root| root.certificate.subject == name)
    }

    /// The root of Intel's hierarchy whose subject is `name`, DER.
    pub(crate) fn intel(&self, name: &[u8]) -> Option<&IntelRoot> {
        self.intel.iter().find(|root| root.subject == name)
    }

    /// The signing key of AMD's whose subject is `name`, DER.
    pub(crate) fn signing_key(&self, name: &[u8]) -> Option<&Certificate> {
        self.signing_keys.iter().find(|key| key.subject == name)
    }
}

impl PinnedRoot {
    /// SHA-256 over the root's modulus, to show which root is meant.
    pub(crate) fn key_fingerprint(&self) -> String {
        match &self.certificate.key {
            PublicKey::Rsa4096 { modulus, .. } => {
                hex::encode(digest::digest(&digest::SHA256, modulus))
            }
            PublicKey::P384(point) => hex::encode(digest::digest(&digest::SHA256, point)),
        }
    }
}

/// Reads a development root: self-signed, marked, named after a line.
fn emulated_root(der: &[u8]) -> Result<PinnedRoot, RootsError> {
    let certificate = Certificate::parse(der).map_err(RootsError::Certificate)?;
    if !certificate
        .organization
        .as_deref()
        .is_some_and(|name| name.starts_with(EMULATED))
    {
        return Err(RootsError::NotMarked);
    }
    let line = Line::ALL
        .into_iter()
        .find(|line| certificate.common_name == ark_common_name(*line))
        .ok_or(RootsError::NotARoot)?;
    let authority = certificate.authority;
    let is_root = certificate.subject == certificate.issuer
        && authority.ca
        && authority.certificate_sign
        && certificate.is_signed_by(&certificate);
    if is_root {
        Ok(PinnedRoot {
            line,
            emulated: true,
            certificate,
        })
    } else {
        Err(RootsError::NotARoot)
    }
}

/// Reads a development root in the place of Intel's: self-signed, marked.
fn emulated_intel_root(der: &[u8]) -> Result<IntelRoot, RootsError> {
    let root = IntelRoot::emulated(der).ok_or(RootsError::NotARoot)?;
    if root
        .organization()
        .is_some_and(|name| name.starts_with(EMULATED))
    {
        Ok(root)
    } else {
        Err(RootsError::NotMarked)
    }
}

/// The common name of a line's root.
pub(crate) fn ark_common_name(line: Line) -> String {
    format!("ARK-{line}")
}

/// The kind of VEK that a signing key with this common name issues under `line`.
pub(crate) fn issued_kind(common_name: &str, line: Line) -> Option<VekKind> {
    [VekKind::Vcek, VekKind::Vlek]
        .into_iter()
        .find(|kind| kind.issuer_common_name(line) == common_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::sha256;

    #[test]
    fn every_embedded_certificate_has_the_hash_written_beside_it() {
        for Embedded {
            line,
            der,
            sha256: expected,
        } in ARKS.into_iter().chain(SIGNING_KEYS)
        {
            assert_eq!(hex::encode(sha256(der)), expected, "{line}");
        }
    }

    #[test]
    fn amds_roots_sign_themselves_and_their_signing_keys() {
        let roots = Roots::amd().unwrap();
        assert_eq!(roots.pinned.len(), 3);
        for root in &roots.pinned {
            assert_eq!(root.certificate.common_name, ark_common_name(root.line));
            assert_eq!(
                root.certificate.organization.as_deref(),
                Some("Advanced Micro Devices")
            );
            assert!(
                root.certificate.is_signed_by(&root.certificate),
                "{}",
                root.line
            );
        }
        assert_eq!(roots.signing_keys.len(), 6);
        for key in &roots.signing_keys {
            let root = roots.named(&key.issuer).unwrap();
            assert!(key.is_signed_by(&root.certificate), "{}", key.common_name);
            assert!(
                issued_kind(&key.common_name, root.line).is_some(),
                "{}",
                key.common_name
            );
        }
    }
}
