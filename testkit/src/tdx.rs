//! An emulated Intel TDX platform: quotes of version 4 and 5 and the collateral for them, under a development root.
//!
//! It depends on nothing of the product and has layout constants of its own, so that a verifier that reads a field at
//! the wrong place disagrees with it.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;

const ORGANIZATION: &str = "EMULATED, Tokenkeep development, protects nothing";
/// The model that every emulated platform is.
pub const FMSPC: [u8; 6] = [0x00, 0x80, 0x6F, 0x05, 0x00, 0x00];

/// Why there is no quote.
#[derive(Debug, thiserror::Error)]
pub enum TdxError {
    /// A certificate or list cannot be made.
    #[error("cannot make a certificate")]
    Mint(#[from] rcgen::Error),
    /// A key does not sign.
    #[error("a key does not sign")]
    Key,
}

/// What the TD states, and what Intel states about its platform. Changing one makes evidence that a verifier judges.
#[derive(Debug, Clone)]
pub struct TdFields {
    /// Bits of TD attributes; SEPT_VE_DISABLE alone is the valid value.
    pub td_attributes: u64,
    /// Bits of XFAM.
    pub xfam: u64,
    /// Measurement of the firmware.
    pub mrtd: [u8; 48],
    /// What the host bound at launch.
    pub mr_config_id: [u8; 48],
    /// Run-time measurements.
    pub rtmrs: [[u8; 48]; 4],
    /// What the TD bound.
    pub report_data: [u8; 64],
    /// The second SVN of a body of type 3 or 4: what runs now, while `tee_tcb_svn` is what launched the TD.
    pub tee_tcb_svn2: [u8; 16],
    /// SVNs of the TDX module at launch.
    pub tee_tcb_svn: [u8; 16],
    /// The service TD of a body of type 3 or 4.
    pub mr_service_td: [u8; 48],
    /// Who signed the TDX module.
    pub mr_signer_seam: [u8; 48],
    /// SEAMATTRIBUTES; Intel's are zeros.
    pub seam_attributes: [u8; 8],
    /// The status of the TCB level that every platform reaches.
    pub tcb_status: String,
    /// A better level with the SVNs that it needs: UpToDate.
    pub better_level: Option<[u8; 16]>,
    /// Advisories of the better level, and of the lowest one.
    pub advisories: [Vec<String>; 2],
    /// The identity of TDX modules of major version 3: the least ISVSVN and its status.
    pub module_level: Option<(u8, String)>,
    /// Who signed the quoting enclave.
    pub qe_mr_signer: [u8; 32],
    /// The quoting enclave's security version.
    pub qe_isv_svn: u16,
    /// The product number of the quoting enclave.
    pub qe_isv_prod_id: u16,
    /// What the QE identity is about.
    pub qe_id: String,
    /// The number of the evaluation.
    pub evaluation_number: u32,
    /// Whether the list of the platform CA names the PCK.
    pub pck_revoked: bool,
    /// Whether the root's list names the signer of TCB info and QE identity.
    pub signer_revoked: bool,
    /// The number of both lists.
    pub crl_number: u64,
    /// The day of the month on which TCB info and QE identity were issued.
    pub issue_day: u8,
    /// The year and the month in which statements and lists were issued, and with which they end.
    pub month: (i32, u8),
    /// The body type: none makes a quote of version 4; 2, 3 and 4 one of version 5.
    pub body_type: Option<u16>,
}

impl Default for TdFields {
    fn default() -> Self {
        Self {
            td_attributes: 1 << 28,
            xfam: 0x600E7,
            mrtd: [0x4D; 48],
            mr_config_id: [0; 48],
            rtmrs: [[0x10; 48], [0x11; 48], [0x12; 48], [0; 48]],
            report_data: [0; 64],
            tee_tcb_svn2: [0; 16],
            tee_tcb_svn: [0; 16],
            mr_service_td: [0; 48],
            mr_signer_seam: [0; 48],
            seam_attributes: [0; 8],
            tcb_status: "UpToDate".to_owned(),
            better_level: None,
            advisories: [Vec::new(), Vec::new()],
            module_level: None,
            qe_mr_signer: [0xDC; 32],
            qe_isv_svn: 4,
            qe_isv_prod_id: 2,
            qe_id: "TD_QE".to_owned(),
            evaluation_number: 20,
            pck_revoked: false,
            signer_revoked: false,
            crl_number: 7,
            issue_day: 1,
            month: (2026, 11),
            body_type: None,
        }
    }
}

/// A quote and its collateral.
#[derive(Debug, Clone)]
pub struct TdxEvidence {
    /// The quote.
    pub quote: Vec<u8>,
    /// The collateral, JSON.
    pub collateral: Vec<u8>,
}

/// The development root and its platform. Unless it is read from its keys, they are fresh: another platform under another
/// root.
#[derive(Debug)]
pub struct TdxPlatform {
    root_key: KeyPair,
    root: CertificateParams,
    root_pem: String,
    ca_key: KeyPair,
    pck_key: KeyPair,
    signer_key: KeyPair,
}

impl TdxPlatform {
    /// A platform under a new root.
    ///
    /// # Errors
    /// [`TdxError::Mint`].
    pub fn new() -> Result<Self, TdxError> {
        let root_key = key()?;
        let root = authority("Intel SGX Root CA", 1);
        let root_pem = root.self_signed(&root_key)?.pem();
        Ok(Self {
            root_key,
            root,
            root_pem,
            ca_key: key()?,
            pck_key: key()?,
            signer_key: key()?,
        })
    }

    /// All that makes it the same platform again: its root's certificate and its four keys, PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let keys = [
            &self.root_key,
            &self.ca_key,
            &self.pck_key,
            &self.signer_key,
        ];
        let keys = keys.map(KeyPair::serialize_pem).concat();
        format!("{}{keys}", self.root_pem)
    }

    /// The platform that [`to_pem`](Self::to_pem) wrote.
    ///
    /// # Errors
    /// [`TdxError`] for anything else.
    pub fn from_pem(text: &str) -> Result<Self, TdxError> {
        const END: &str = "-----END CERTIFICATE-----";
        let (root, rest) = text.split_once(END).ok_or(TdxError::Key)?;
        let mut keys = PrivatePkcs8KeyDer::pem_slice_iter(rest.as_bytes()).map(|der| {
            let der = der.map_err(|_| TdxError::Key)?;
            let key = KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256);
            Ok::<_, TdxError>(key?)
        });
        let mut key = || keys.next().ok_or(TdxError::Key)?;
        Ok(Self {
            root_key: key()?,
            root: authority("Intel SGX Root CA", 1),
            root_pem: format!("{root}{END}\n"),
            ca_key: key()?,
            pck_key: key()?,
            signer_key: key()?,
        })
    }

    /// The root, PEM.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// A quote over `fields` with its collateral. All of it is valid in the month of `fields`.
    ///
    /// # Errors
    /// [`TdxError`].
    pub fn evidence(&self, fields: &TdFields) -> Result<TdxEvidence, TdxError> {
        let root = Issuer::from_params(&self.root, &self.root_key);
        let Self {
            ca_key,
            pck_key,
            signer_key,
            ..
        } = self;
        let ca_params = authority("Intel SGX PCK Platform CA", 2);
        let ca_pem = ca_params.signed_by(ca_key, &root)?.pem();
        let ca = Issuer::from_params(&ca_params, ca_key);
        let mut pck = leaf("Intel SGX PCK Certificate", 3);
        pck.custom_extensions.push(sgx_extension());
        let pck_pem = pck.signed_by(pck_key, &ca)?.pem();
        let signer = leaf("Intel SGX TCB Signing", 4);
        let signer_pem = signer.signed_by(signer_key, &root)?.pem();
        let root_pem = &self.root_pem;

        let tcb_info = tcb_info(fields);
        let qe_identity = qe_identity(fields);
        let revoked: &[u64] = if fields.pck_revoked { &[3] } else { &[] };
        let signer_revoked: &[u64] = if fields.signer_revoked { &[4] } else { &[] };
        let signer_chain = format!("{signer_pem}{root_pem}");
        let collateral = serde_json::json!({
            "pck_crl_issuer_chain": format!("{ca_pem}{root_pem}"),
            "root_ca_crl": hex::encode(list(fields, signer_revoked)?.signed_by(&root)?.der()),
            "pck_crl": hex::encode(list(fields, revoked)?.signed_by(&ca)?.der()),
            "tcb_info_issuer_chain": signer_chain,
            "tcb_info_signature": hex::encode(sign(signer_key, tcb_info.as_bytes())?),
            "tcb_info": tcb_info,
            "qe_identity_issuer_chain": signer_chain,
            "qe_identity_signature": hex::encode(sign(signer_key, qe_identity.as_bytes())?),
            "qe_identity": qe_identity,
        });
        let chain = format!("{pck_pem}{ca_pem}{root_pem}");
        Ok(TdxEvidence {
            quote: quote(fields, pck_key, chain.as_bytes())?,
            collateral: collateral.to_string().into_bytes(),
        })
    }
}

fn key() -> Result<KeyPair, TdxError> {
    Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?)
}

fn leaf(common_name: &str, serial: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, common_name);
    name.push(DnType::OrganizationName, ORGANIZATION);
    params.serial_number = Some(SerialNumber::from(serial));
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2033, 1, 1);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

fn authority(common_name: &str, serial: u64) -> CertificateParams {
    let mut params = leaf(common_name, serial);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn list(fields: &TdFields, revoked: &[u64]) -> Result<CertificateRevocationListParams, TdxError> {
    let ((year, month), (next_year, next_month)) = (fields.month, next(fields.month));
    let day = date_time_ymd(year, month, 1);
    Ok(CertificateRevocationListParams {
        this_update: day,
        next_update: date_time_ymd(next_year, next_month, 1),
        crl_number: SerialNumber::from(fields.crl_number),
        issuing_distribution_point: None,
        revoked_certs: revoked
            .iter()
            .map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from(*serial),
                revocation_time: day,
                reason_code: None,
                invalidity_date: None,
            })
            .collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    })
}

/// `r || s` by a key of the chain.
fn sign(key: &KeyPair, message: &[u8]) -> Result<Vec<u8>, TdxError> {
    let rng = SystemRandom::new();
    let pkcs8 = key.serialize_der();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &rng)
        .map_err(|_| TdxError::Key)?;
    let signature = key.sign(&rng, message).map_err(|_| TdxError::Key)?;
    Ok(signature.as_ref().to_vec())
}

/// DER: tag, length below 65,536, content.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    let length = match (high, low) {
        (0, 0..=0x7F) => vec![low],
        (0, _) => vec![0x81, low],
        _ => vec![0x82, high, low],
    };
    [&[tag], length.as_slice(), content].concat()
}

/// `SEQUENCE { 1.2.840.113741.1.13.1.tail, value }`.
fn entry(tail: &[u8], value: Vec<u8>) -> Vec<u8> {
    const ARC: [u8; 9] = [0x2A, 0x86, 0x48, 0x86, 0xF8, 0x4D, 1, 13, 1];
    let oid = der(6, &[&ARC, tail].concat());
    der(0x30, &[oid, value].concat())
}

/// Intel's extension of a PCK certificate [Intel, "PCK Certificate and CRL Profile", §1.3.5].
fn sgx_extension() -> CustomExtension {
    let mut tcb: Vec<u8> = (1..=17u8)
        .flat_map(|number| entry(&[2, number], der(2, &[0])))
        .collect();
    tcb.extend(entry(&[2, 18], der(4, &[0; 16])));
    let flags: Vec<u8> = (1..=3u8)
        .flat_map(|number| entry(&[7, number], der(1, &[0xFF])))
        .collect();
    let content = [
        entry(&[1], der(4, &[0x99; 16])),
        entry(&[2], der(0x30, &tcb)),
        entry(&[3], der(4, &[0; 2])),
        entry(&[4], der(4, &FMSPC)),
        entry(&[5], der(10, &[1])),
        entry(&[6], der(4, &[0x77; 16])),
        entry(&[7], der(0x30, &flags)),
    ]
    .concat();
    CustomExtension::from_oid_content(&[1, 2, 840, 113_741, 1, 13, 1], der(0x30, &content))
}

/// The month after one.
fn next((year, month): (i32, u8)) -> (i32, u8) {
    if month >= 12 {
        (year.saturating_add(1), 1)
    } else {
        (year, month.saturating_add(1))
    }
}

/// When statements were issued, and when they end.
fn issued_and_ends(fields: &TdFields) -> [String; 2] {
    let ((year, month), (next_year, next_month)) = (fields.month, next(fields.month));
    [
        format!("{year}-{month:02}-{:02}T00:00:00Z", fields.issue_day),
        format!("{next_year}-{next_month:02}-01T00:00:00Z"),
    ]
}

/// The year and month of a Unix time.
#[must_use]
pub fn month_of(unix_time_s: u64) -> (i32, u8) {
    let at = i64::try_from(unix_time_s).unwrap_or(i64::MAX);
    time::OffsetDateTime::from_unix_timestamp(at)
        .map_or((2026, 11), |at| (at.year(), u8::from(at.month())))
}

fn tcb_info(fields: &TdFields) -> String {
    let [issued, ends] = issued_and_ends(fields);
    let components = |svns: [u8; 16]| -> Vec<serde_json::Value> {
        svns.iter()
            .map(|svn| serde_json::json!({"svn": svn}))
            .collect()
    };
    let [of_better, of_lowest] = &fields.advisories;
    let level = |svns: [u8; 16], status: &str, advisories: &[String]| {
        serde_json::json!({
            "advisoryIDs": advisories,
            "tcb": {
                "sgxtcbcomponents": components([0; 16]), "pcesvn": 0,
                "tdxtcbcomponents": components(svns),
            },
            "tcbDate": "2026-10-01T00:00:00Z", "tcbStatus": status,
        })
    };
    let mut levels: Vec<serde_json::Value> = fields
        .better_level
        .iter()
        .map(|svns| level(*svns, "UpToDate", of_better))
        .collect();
    levels.push(level([0; 16], &fields.tcb_status, of_lowest));
    let modules: Vec<serde_json::Value> = fields
        .module_level
        .iter()
        .map(|(isv_svn, status)| {
            serde_json::json!({
                "id": "TDX_03",
                "mrsigner": "00".repeat(48), "attributes": "00".repeat(8),
                "attributesMask": "ff".repeat(8),
                "tcbLevels": [{
                    "tcb": {"isvsvn": isv_svn}, "tcbDate": "2026-10-01T00:00:00Z",
                    "tcbStatus": status,
                }],
            })
        })
        .collect();
    serde_json::json!({
        "id": "TDX", "version": 3,
        "issueDate": issued, "nextUpdate": ends,
        "fmspc": hex::encode(FMSPC), "pceId": "0000", "tcbType": 0,
        "tcbEvaluationDataNumber": fields.evaluation_number,
        "tdxModule": {
            "mrsigner": "00".repeat(48), "attributes": "00".repeat(8),
            "attributesMask": "ff".repeat(8),
        },
        "tdxModuleIdentities": modules,
        "tcbLevels": levels,
    })
    .to_string()
}

fn qe_identity(fields: &TdFields) -> String {
    let [issued, ends] = issued_and_ends(fields);
    serde_json::json!({
        "id": fields.qe_id, "version": 2,
        "issueDate": issued, "nextUpdate": ends,
        "tcbEvaluationDataNumber": fields.evaluation_number,
        "miscselect": "00000000", "miscselectMask": "ffffffff",
        "attributes": "00".repeat(16), "attributesMask": "ff".repeat(16),
        "mrsigner": "dc".repeat(32), "isvprodid": 2,
        "tcbLevels": [{
            "tcb": {"isvsvn": 4}, "tcbDate": "2026-10-01T00:00:00Z", "tcbStatus": "UpToDate",
        }, {
            "tcb": {"isvsvn": 2}, "tcbDate": "2026-09-01T00:00:00Z", "tcbStatus": "OutOfDate",
        }],
    })
    .to_string()
}

/// Header, body, signature data.
fn quote(fields: &TdFields, pck: &KeyPair, chain: &[u8]) -> Result<Vec<u8>, TdxError> {
    let version: u16 = if fields.body_type.is_some() { 5 } else { 4 };
    let mut quote = version.to_le_bytes().to_vec();
    quote.extend([2, 0, 0x81, 0, 0, 0, 0, 0, 0, 0]);
    quote.extend([
        0x93, 0x9A, 0x72, 0x33, 0xF7, 0x9C, 0x4C, 0xA9, 0x94, 0x0A, 0x0D, 0xB3, 0x95, 0x7F, 0x06,
        0x07,
    ]);
    quote.extend([0; 20]);
    let more: usize = match fields.body_type {
        Some(4) => 64 + 237,
        Some(3) => 64,
        Some(_) | None => 0,
    };
    if let Some(number) = fields.body_type {
        quote.extend(number.to_le_bytes());
        quote.extend(length(584usize.saturating_add(more)));
    }
    quote.extend(fields.tee_tcb_svn);
    // MRSEAM, then signer and attributes of the module.
    quote.extend([0; 48]);
    quote.extend(fields.mr_signer_seam);
    quote.extend(fields.seam_attributes);
    quote.extend(fields.td_attributes.to_le_bytes());
    quote.extend(fields.xfam.to_le_bytes());
    quote.extend(fields.mrtd);
    quote.extend(fields.mr_config_id);
    quote.extend([0; 48 + 48]);
    quote.extend(fields.rtmrs.concat());
    quote.extend(fields.report_data);
    let mut later = fields.tee_tcb_svn2.to_vec();
    later.extend(fields.mr_service_td);
    later.resize(more.max(later.len()), 0);
    quote.extend(later.iter().take(more));

    let attestation_key = key()?;
    let rng = SystemRandom::new();
    let pair = EcdsaKeyPair::from_pkcs8(
        &ECDSA_P256_SHA256_FIXED_SIGNING,
        &attestation_key.serialize_der(),
        &rng,
    )
    .map_err(|_| TdxError::Key)?;
    // Without the byte that says "uncompressed".
    let point = pair
        .public_key()
        .as_ref()
        .split_first()
        .ok_or(TdxError::Key)?
        .1;
    let authentication = [0u8; 32];
    let binding = digest(&SHA256, &[point, &authentication].concat());

    // CPUSVN, MISCSELECT, reserved, attributes, MRENCLAVE, reserved.
    let mut qe_report = vec![0; 16 + 4 + 28 + 16 + 32 + 32];
    qe_report.extend(fields.qe_mr_signer);
    qe_report.extend([0; 96]);
    qe_report.extend(fields.qe_isv_prod_id.to_le_bytes());
    qe_report.extend(fields.qe_isv_svn.to_le_bytes());
    qe_report.extend([0; 60]);
    qe_report.extend(binding.as_ref());
    qe_report.extend([0; 32]);

    let mut certification = qe_report.clone();
    certification.extend(sign(pck, &qe_report)?);
    certification.extend([32, 0]);
    certification.extend(authentication);
    certification.extend([5, 0]);
    certification.extend(length(chain.len()));
    certification.extend(chain);

    let mut data = sign(&attestation_key, &quote)?;
    data.extend(point);
    data.extend([6, 0]);
    data.extend(length(certification.len()));
    data.extend(certification);
    quote.extend(length(data.len()));
    quote.extend(data);
    Ok(quote)
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes()
}
