//! Intel's provisioning certification service: what it is asked, and what its answers make [Intel, "PCS API v4"].
//!
//! Nothing here connects to anything: the caller does, and hands in what came back.

use dcap_qvl::QuoteCollateralV3;

use super::model::PlatformModel;

/// Intel's own service.
pub const INTEL_PCS: &str = "https://api.trustedservices.intel.com";
/// Where Intel publishes its root's revocation list.
pub const INTEL_ROOT_CRL: &str =
    "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der";
/// The longest answer that is read, bytes. Intel's have up to 30 KiB.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The longest chain in a header, bytes, percent-encoded.
const MAX_CHAIN_BYTES: usize = 16 * 1024;

/// What the service is asked for. The root's list has an address of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Statement {
    /// TCB levels of a model.
    TcbInfo,
    /// The TD quoting enclave.
    QeIdentity,
    /// Revoked PCK certificates of an authority.
    PckCrl,
}

impl Statement {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::TcbInfo, Self::QeIdentity, Self::PckCrl];

    /// Path and query, to be put behind the service's address.
    #[must_use]
    pub fn path(self, model: &PlatformModel) -> String {
        let PlatformModel { fmspc, ca } = model;
        match self {
            Self::TcbInfo => format!(
                "/tdx/certification/v4/tcb?fmspc={}&update=standard",
                hex::encode_upper(fmspc)
            ),
            Self::QeIdentity => "/tdx/certification/v4/qe/identity?update=standard".to_owned(),
            Self::PckCrl => format!(
                "/sgx/certification/v4/pckcrl?ca={}&encoding=der",
                ca.as_str()
            ),
        }
    }

    /// The header of the answer that holds the chain of the signer.
    #[must_use]
    pub const fn chain_header(self) -> &'static str {
        match self {
            Self::TcbInfo => "tcb-info-issuer-chain",
            Self::QeIdentity => "sgx-enclave-identity-issuer-chain",
            Self::PckCrl => "sgx-pck-crl-issuer-chain",
        }
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The body.
    pub body: Vec<u8>,
    /// The value of [`Statement::chain_header`].
    pub chain: String,
}

/// All answers about a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// To [`Statement::TcbInfo`].
    pub tcb_info: Answer,
    /// To [`Statement::QeIdentity`].
    pub qe_identity: Answer,
    /// To [`Statement::PckCrl`].
    pub pck_crl: Answer,
    /// The root's list: DER, or hexadecimal as caching services give it.
    pub root_crl: Vec<u8>,
}

/// Why answers make no collateral.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PcsError {
    /// A body is not of the form that Intel gives it.
    #[error("the answer about {part} is not of Intel's form")]
    Body {
        /// What was asked for.
        part: &'static str,
    },
    /// The chain of a signer cannot be read.
    #[error("the answer about {part} names no signer")]
    Chain {
        /// What was asked for.
        part: &'static str,
    },
    /// An answer is longer than it can be.
    #[error("the answer about {part} is too long")]
    TooLong {
        /// What was asked for.
        part: &'static str,
    },
}

impl Answers {
    /// Collateral, JSON, as it travels with a quote. No signature is looked at: see
    /// [`crate::Roots::read_collateral`].
    ///
    /// # Errors
    /// [`PcsError`], the first one.
    pub fn collateral(&self) -> Result<Vec<u8>, PcsError> {
        let Self {
            tcb_info,
            qe_identity,
            pck_crl,
            root_crl,
        } = self;
        let (tcb_part, qe_part, pck_part) = ("TCB info", "the QE identity", "PCK certificates");
        let (tcb_text, tcb_signature) = signed(&tcb_info.body, "tcbInfo", tcb_part)?;
        let (qe_text, qe_signature) = signed(&qe_identity.body, "enclaveIdentity", qe_part)?;
        let collateral = QuoteCollateralV3 {
            pck_crl_issuer_chain: chain(&pck_crl.chain, pck_part)?,
            root_ca_crl: list(root_crl, "the root")?,
            pck_crl: list(&pck_crl.body, pck_part)?,
            tcb_info_issuer_chain: chain(&tcb_info.chain, tcb_part)?,
            tcb_info: tcb_text,
            tcb_info_signature: tcb_signature,
            qe_identity_issuer_chain: chain(&qe_identity.chain, qe_part)?,
            qe_identity: qe_text,
            qe_identity_signature: qe_signature,
            pck_certificate_chain: None,
        };
        serde_json::to_vec(&collateral).map_err(|_| PcsError::Body { part: tcb_part })
    }
}

/// `{"NAME":TEXT,"signature":"HEX"}`. The text is what is signed, byte for byte, so it is cut out and not written
/// again.
fn signed(body: &[u8], name: &str, part: &'static str) -> Result<(String, Vec<u8>), PcsError> {
    if body.len() > MAX_ANSWER_BYTES {
        return Err(PcsError::TooLong { part });
    }
    let cut = || {
        let text = std::str::from_utf8(body).ok()?.trim();
        let text = text
            .strip_prefix(&format!("{{\"{name}\":"))?
            .strip_suffix("\"}")?;
        let (text, signature) = text.rsplit_once(",\"signature\":\"")?;
        Some((text.to_owned(), hex::decode(signature).ok()?))
    };
    cut().ok_or(PcsError::Body { part })
}

/// A list, in DER or in hexadecimal.
fn list(body: &[u8], part: &'static str) -> Result<Vec<u8>, PcsError> {
    if body.len() > MAX_ANSWER_BYTES {
        return Err(PcsError::TooLong { part });
    }
    if body.first() == Some(&0x30) && body.get(1).is_some_and(|byte| *byte >= 0x80) {
        return Ok(body.to_vec());
    }
    match hex::decode(body.trim_ascii()) {
        Ok(der) if !der.is_empty() => Ok(der),
        Ok(_) | Err(_) => Err(PcsError::Body { part }),
    }
}

/// The PEM of a percent-encoded header.
fn chain(header: &str, part: &'static str) -> Result<String, PcsError> {
    if header.len() > MAX_CHAIN_BYTES {
        return Err(PcsError::TooLong { part });
    }
    let mut bytes = Vec::with_capacity(header.len());
    let mut rest = header.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let mut byte = [0];
                hex::decode_to_slice([*high, *low], &mut byte)
                    .map_err(|_| PcsError::Chain { part })?;
                bytes.extend(byte);
                tail
            }
            (b'%', _) => return Err(PcsError::Chain { part }),
            (other, tail) => {
                bytes.push(*other);
                tail
            }
        };
    }
    let text = String::from_utf8(bytes).map_err(|_| PcsError::Chain { part })?;
    if text.trim_start().starts_with("-----BEGIN CERTIFICATE-----") {
        Ok(text)
    } else {
        Err(PcsError::Chain { part })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tdx::PckCa;

    const PEM: &str = "-----BEGIN%20CERTIFICATE-----%0AQUJD%2B%0A-----END%20CERTIFICATE-----%0A";

    fn answers() -> Answers {
        let answer = |body: &str| Answer {
            body: body.as_bytes().to_vec(),
            chain: PEM.to_owned(),
        };
        Answers {
            tcb_info: answer("{\"tcbInfo\":{\"a\": 1},\"signature\":\"0102\"}"),
            qe_identity: answer("{\"enclaveIdentity\":{\"b\":2},\"signature\":\"03\"}\n"),
            pck_crl: answer("308201"),
            root_crl: vec![0x30, 0x82, 1],
        }
    }

    #[test]
    fn what_is_signed_is_cut_out_byte_for_byte() {
        let json = answers().collateral().unwrap();
        let found: QuoteCollateralV3 = serde_json::from_slice(&json).unwrap();
        assert_eq!(found.tcb_info, "{\"a\": 1}");
        assert_eq!(found.tcb_info_signature, [1, 2]);
        assert_eq!(found.qe_identity, "{\"b\":2}");
        assert_eq!(found.pck_crl, [0x30, 0x82, 1]);
        assert_eq!(found.root_ca_crl, [0x30, 0x82, 1]);
        let pem = "-----BEGIN CERTIFICATE-----\nQUJD+\n-----END CERTIFICATE-----\n";
        assert_eq!(found.tcb_info_issuer_chain, pem);
    }

    #[test]
    fn an_answer_of_another_form_is_refused() {
        type Edit = fn(&mut Answers);
        let (tcb, qe, pck) = ("TCB info", "the QE identity", "PCK certificates");
        let rows: [(Edit, PcsError); 9] = [
            (|a| a.tcb_info.body.clear(), PcsError::Body { part: tcb }),
            (
                |a| a.tcb_info.body.truncate(30),
                PcsError::Body { part: tcb },
            ),
            (
                |a| a.qe_identity.body = a.tcb_info.body.clone(),
                PcsError::Body { part: qe },
            ),
            (
                |a| a.tcb_info.body.resize(MAX_ANSWER_BYTES + 1, b' '),
                PcsError::TooLong { part: tcb },
            ),
            (
                |a| a.pck_crl.body = b"<html>".to_vec(),
                PcsError::Body { part: pck },
            ),
            (|a| a.root_crl.clear(), PcsError::Body { part: "the root" }),
            (
                |a| a.tcb_info.chain = "%4".to_owned(),
                PcsError::Chain { part: tcb },
            ),
            (
                |a| a.pck_crl.chain = "%FF".to_owned(),
                PcsError::Chain { part: pck },
            ),
            (
                |a| a.qe_identity.chain.clear(),
                PcsError::Chain { part: qe },
            ),
        ];
        for (edit, expected) in rows {
            let mut answers = answers();
            edit(&mut answers);
            assert_eq!(answers.collateral(), Err(expected), "{answers:?}");
        }
    }

    #[test]
    fn an_answer_may_be_as_long_as_its_bound() {
        let too_long = |part| Err(PcsError::TooLong { part });
        let (tcb, pck) = ("TCB info", "PCK certificates");
        let text = |bytes: usize| {
            let mut answers = answers();
            answers.tcb_info.body.resize(bytes, b' ');
            answers.collateral().map(|_| ())
        };
        assert_eq!(text(MAX_ANSWER_BYTES), Ok(()));
        assert_eq!(text(MAX_ANSWER_BYTES + 1), too_long(tcb));
        let list = |bytes: usize| {
            let mut answers = answers();
            answers.pck_crl.body.resize(bytes, b' ');
            answers.collateral().map(|_| ())
        };
        assert_eq!(list(MAX_ANSWER_BYTES), Ok(()));
        assert_eq!(list(MAX_ANSWER_BYTES + 1), too_long(pck));
        let chain = |bytes: usize| {
            let mut answers = answers();
            let room = bytes - PEM.len();
            answers.tcb_info.chain.push_str(&"A".repeat(room));
            answers.collateral().map(|_| ())
        };
        assert_eq!(chain(MAX_CHAIN_BYTES), Ok(()));
        assert_eq!(chain(MAX_CHAIN_BYTES + 1), too_long(tcb));
    }

    #[test]
    fn a_list_in_der_is_told_from_one_in_hexadecimal() {
        let rows: [(&[u8], Option<&[u8]>); 6] = [
            (&[0x30, 0x82, 1], Some(&[0x30, 0x82, 1])),
            (&[0x30, 0x80, 1], Some(&[0x30, 0x80, 1])),
            // Digits that begin as DER does.
            (b"0102", Some(&[1, 2])),
            (b" 3082\n", Some(&[0x30, 0x82])),
            (&[0x31, 0x82, 1], None),
            (&[0x30, 0x7F, 1], None),
        ];
        for (body, expected) in rows {
            assert_eq!(list(body, "PCK").ok().as_deref(), expected, "{body:?}");
        }
    }

    #[test]
    fn questions_are_those_of_the_documentation() {
        let model = PlatformModel {
            fmspc: [0, 0x80, 0x6F, 5, 0, 0],
            ca: PckCa::Platform,
        };
        assert_eq!(
            Statement::ALL.map(|statement| statement.path(&model)),
            [
                "/tdx/certification/v4/tcb?fmspc=00806F050000&update=standard",
                "/tdx/certification/v4/qe/identity?update=standard",
                "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
            ]
        );
    }
}
