//! Intel's statements without a quote: who signed them, what they are about, how new they are.
//!
//! This is for a store that keeps them and must know what it keeps. A verdict never rests on it: whatever was kept is
//! verified again, and in full, together with a quote.

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::num_bigint::BigUint;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::collateral::{self, CollateralProblem};
use super::model::{PckCa, PlatformModel, common_name};
use super::root::{IntelRoot, list_issuer};
use crate::time::UnixTime;

/// Why collateral is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// It cannot be read.
    #[error(transparent)]
    Collateral(#[from] CollateralProblem),
    /// The issuer of the root's list is no root of the set.
    #[error("the root of the collateral is not trusted")]
    UnknownRoot,
    /// A part has not the form that Intel gives it.
    #[error("{part} cannot be read")]
    Form {
        /// Which.
        part: &'static str,
    },
    /// A part is not signed by the one who must have signed it.
    #[error("the signature of {part} is invalid")]
    Signature {
        /// Which.
        part: &'static str,
    },
    /// A signer is on the root's list.
    #[error("the signer of {part} is revoked")]
    Revoked {
        /// Of what.
        part: &'static str,
    },
    /// A statement is older than the one already known.
    #[error("{part} is older than the one already known")]
    Older {
        /// Which.
        part: &'static str,
    },
}

/// What collateral says about itself, once the signatures are known to be Intel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollateralSummary {
    /// Which platforms it is about.
    pub model: PlatformModel,
    /// The evaluation that the TCB levels rest on.
    pub tcb_evaluation_number: u32,
    /// The evaluation that the levels of the quoting enclave rest on.
    pub qe_evaluation_number: u32,
    /// When the TCB info was issued.
    pub tcb_issued_at: UnixTime,
    /// When the QE identity was issued.
    pub qe_issued_at: UnixTime,
    /// Number of the root's revocation list, hexadecimal.
    pub root_crl_number: String,
    /// Number of the revocation list of PCK certificates, hexadecimal.
    pub pck_crl_number: String,
    /// The first end among all statements.
    pub expires_at: UnixTime,
}

impl CollateralSummary {
    /// The first statement that is older here than there.
    #[must_use]
    pub fn older_than(&self, known: &Self) -> Option<&'static str> {
        let number = |hex: &str| (hex.len(), hex.to_owned());
        let rows = [
            (
                "the TCB info",
                (self.tcb_evaluation_number, self.tcb_issued_at)
                    < (known.tcb_evaluation_number, known.tcb_issued_at)
                    || self.tcb_issued_at < known.tcb_issued_at,
            ),
            (
                "the QE identity",
                (self.qe_evaluation_number, self.qe_issued_at)
                    < (known.qe_evaluation_number, known.qe_issued_at)
                    || self.qe_issued_at < known.qe_issued_at,
            ),
            (
                "the root's revocation list",
                number(&self.root_crl_number) < number(&known.root_crl_number),
            ),
            (
                "the revocation list of PCK certificates",
                number(&self.pck_crl_number) < number(&known.pck_crl_number),
            ),
        ];
        rows.into_iter()
            .find_map(|(part, older)| older.then_some(part))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stated {
    id: String,
    #[serde(default)]
    fmspc: Option<String>,
    tcb_evaluation_data_number: u32,
    issue_date: String,
    next_update: String,
}

/// Reads collateral and verifies each part under the root that it names.
pub(crate) fn read<'r>(
    json: &[u8],
    root: impl FnOnce(&[u8]) -> Option<&'r IntelRoot>,
) -> Result<CollateralSummary, StatementError> {
    let collateral = collateral::parse(Some(json))?;
    let part = "the root's revocation list";
    let name = list_issuer(&collateral.root_ca_crl).ok_or(StatementError::Form { part })?;
    let root = root(&name).ok_or(StatementError::UnknownRoot)?;
    let root = certificate(&root.der, "the root")?;
    let root_list = List::open(&collateral.root_ca_crl, &root, part)?;

    let part = "the issuer of PCK certificates";
    let ca_der = first(&collateral.pck_crl_issuer_chain, part)?;
    let ca = under(&ca_der, &root, &root_list, part)?;
    let form = StatementError::Form { part };
    let ca_name = common_name(&ca.tbs_certificate.subject).and_then(PckCa::of_common_name);
    let ca_kind = ca_name.filter(|_| ca.is_ca()).ok_or(form)?;
    let pck_list = List::open(
        &collateral.pck_crl,
        &ca,
        "the revocation list of PCK certificates",
    )?;

    let signed = |chain: &str, text: &str, signature: &[u8], id: &str, part: &'static str| {
        let signer_der = first(chain, part)?;
        let signer = under(&signer_der, &root, &root_list, part)?;
        if !has_signed(
            &signer,
            &ECDSA_P256_SHA256_FIXED,
            text.as_bytes(),
            signature,
        ) {
            return Err(StatementError::Signature { part });
        }
        let stated: Option<Stated> = serde_json::from_str(text).ok();
        let stated = stated.filter(|stated| stated.id == id);
        let form = StatementError::Form { part };
        let stated = stated.ok_or(form.clone())?;
        let issued_at = collateral::utc(&stated.issue_date).ok_or(form.clone())?;
        let expires_at = collateral::utc(&stated.next_update).ok_or(form)?;
        Ok((stated, issued_at, expires_at))
    };
    let (tcb, tcb_issued_at, tcb_expires_at) = signed(
        &collateral.tcb_info_issuer_chain,
        &collateral.tcb_info,
        &collateral.tcb_info_signature,
        "TDX",
        "the TCB info",
    )?;
    let (qe, qe_issued_at, qe_expires_at) = signed(
        &collateral.qe_identity_issuer_chain,
        &collateral.qe_identity,
        &collateral.qe_identity_signature,
        "TD_QE",
        "the QE identity",
    )?;
    let mut fmspc = [0; 6];
    let text = tcb.fmspc.unwrap_or_default();
    hex::decode_to_slice(text, &mut fmspc).map_err(|_| StatementError::Form {
        part: "the TCB info",
    })?;
    let expires_at = tcb_expires_at
        .min(qe_expires_at)
        .min(root_list.next_update)
        .min(pck_list.next_update);
    Ok(CollateralSummary {
        model: PlatformModel { fmspc, ca: ca_kind },
        tcb_evaluation_number: tcb.tcb_evaluation_data_number,
        qe_evaluation_number: qe.tcb_evaluation_data_number,
        tcb_issued_at,
        qe_issued_at,
        root_crl_number: root_list.number,
        pck_crl_number: pck_list.number,
        expires_at,
    })
}

/// A revocation list with a valid signature.
struct List {
    number: String,
    next_update: UnixTime,
    revoked: Vec<BigUint>,
}

impl List {
    fn open(
        der: &[u8],
        issuer: &X509Certificate<'_>,
        part: &'static str,
    ) -> Result<Self, StatementError> {
        let form = StatementError::Form { part };
        let (rest, list) = CertificateRevocationList::from_der(der).map_err(|_| form.clone())?;
        let tbs = &list.tbs_cert_list;
        if !rest.is_empty() || tbs.issuer.as_raw() != issuer.tbs_certificate.subject.as_raw() {
            return Err(form);
        }
        let signature = &list.signature_value.data;
        if !has_signed(issuer, &ECDSA_P256_SHA256_ASN1, tbs.as_ref(), signature) {
            return Err(StatementError::Signature { part });
        }
        let next_update = tbs.next_update.ok_or(form.clone())?.timestamp();
        let number = list.crl_number().ok_or(form.clone())?.to_bytes_be();
        Ok(Self {
            number: hex::encode(number),
            next_update: UnixTime::from_secs(u64::try_from(next_update).map_err(|_| form)?),
            revoked: list
                .iter_revoked_certificates()
                .map(|entry| entry.serial().clone())
                .collect(),
        })
    }
}

/// DER of the first certificate of a chain. Those above it are pinned, whatever the chain says.
fn first(chain: &str, part: &'static str) -> Result<Vec<u8>, StatementError> {
    match Pem::iter_from_buffer(chain.as_bytes()).next() {
        Some(Ok(pem)) => Ok(pem.contents),
        Some(Err(_)) | None => Err(StatementError::Form { part }),
    }
}

fn certificate<'a>(
    der: &'a [u8],
    part: &'static str,
) -> Result<X509Certificate<'a>, StatementError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) | Err(_) => Err(StatementError::Form { part }),
    }
}

/// A certificate that the root itself signed and has not revoked.
fn under<'a>(
    der: &'a [u8],
    root: &X509Certificate<'_>,
    list: &List,
    part: &'static str,
) -> Result<X509Certificate<'a>, StatementError> {
    let found = certificate(der, part)?;
    let tbs = &found.tbs_certificate;
    let named = tbs.issuer.as_raw() == root.tbs_certificate.subject.as_raw();
    let signature = &found.signature_value.data;
    if !named || !has_signed(root, &ECDSA_P256_SHA256_ASN1, tbs.as_ref(), signature) {
        return Err(StatementError::Signature { part });
    }
    if list.revoked.contains(&tbs.serial) {
        return Err(StatementError::Revoked { part });
    }
    Ok(found)
}

fn has_signed(
    signer: &X509Certificate<'_>,
    algorithm: &'static dyn VerificationAlgorithm,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let key = &signer.tbs_certificate.public_key().subject_public_key.data;
    UnparsedPublicKey::new(algorithm, key.as_ref())
        .verify(message, signature)
        .is_ok()
}
