//! What a report and the certificate of its key state, as JSON, for people and for comparison.

use serde_json::{Map, Value, json};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::bits::GuestPolicy;
use super::product::{Line, Product};
use super::report::Report;
use super::tcb::{Tcb, TcbParts};
use crate::overview::validity;

/// The arc of AMD's extensions [AMD 57230, "X.509 extensions"].
const AMD_ARC: &str = "1.3.6.1.4.1.3704.1.";

/// Half of the order of P-384, rounded down, big endian: an s above it is "high" [SEC 2 §2.5.1].
const HALF_ORDER: [u8; 48] = [
    0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xe3, 0xb1, 0xa6, 0xc0, 0xfa, 0x1b, 0x96, 0xef,
    0xac, 0x0d, 0x06, 0xd9, 0x24, 0x58, 0x53, 0xbd, 0x76, 0x76, 0x0c, 0xb5, 0x66, 0x62, 0x94, 0xb9,
];

/// Short names of policy bits, in the order of the bits; bit 17 must be one.
const POLICY_BITS: [(u32, &str); 10] = [
    (16, "SMT"),
    (17, "R1"),
    (18, "MIGRATE_MA"),
    (19, "DEBUG"),
    (20, "SINGLE_SOCKET"),
    (21, "CXL_ALLOW"),
    (22, "MEM_AES_256_XTS"),
    (23, "RAPL_DIS"),
    (24, "CIPHERTEXT_HIDING"),
    (25, "PAGE_SWAP_DISABLE"),
];

/// The line of a report of version 2 that no certificate says, for people: no check asks.
///
/// Recorded reports of Milan have had a microcode past 0xcd since 2023, those of Genoa none past 0x54 until 2026.
fn older_line(report: &Report) -> Option<Line> {
    let microcode = report.current_tcb(Line::Milan).parts().microcode;
    (report.version() == 2 && microcode >= 0xc0).then_some(Line::Milan)
}

/// The fields of a report and of the certificate beside it; empty if the report cannot be read.
pub(crate) fn overview(report: &[u8], vek: Option<&[u8]>) -> Map<String, Value> {
    let Ok(report) = Report::parse(report) else {
        return Map::new();
    };
    let vek = vek.map_or_else(Vek::default, Vek::read);
    let line = vek.line().or_else(|| {
        let product = report.cpuid().and_then(|cpuid| cpuid.product());
        product.map(Product::line)
    });
    let line = line.or_else(|| older_line(&report));
    // Version 2 is older than Turin, and all lines before it share one layout.
    let layout = line.unwrap_or(Line::Genoa);
    let tcb = |read: fn(&Report, Line) -> Tcb| parts(read(&report, layout).parts());
    let (launch, current) = report.mitigations().unwrap_or((0, 0));
    let key_info = report.key_info();
    let cpuid = report
        .cpuid()
        .map_or([0; 3], |cpuid| [cpuid.family, cpuid.model, cpuid.stepping]);
    let s_is_high = report.signature_parts().map(|[_, (s, _)]| {
        let mut s = *s;
        s.reverse();
        s > HALF_ORDER
    });
    let rows = [
        ("generation", json!(line.map(Line::as_str))),
        ("report_version", json!(report.version())),
        ("guest_svn", json!(report.guest_svn())),
        ("policy", json!(format!("{:#x}", report.policy().bits()))),
        ("policy_bits", json!(policy_bits(report.policy()))),
        ("vmpl", json!(report.vmpl())),
        (
            "platform_info",
            json!(format!("{:#x}", report.platform_info().bits())),
        ),
        (
            "key_info",
            json!(format!(
                "auth{} mask{} sk{}",
                u8::from(key_info.author_key_enabled()),
                u8::from(key_info.mask_chip_key()),
                (key_info.bits() >> 2) & 7
            )),
        ),
        ("cpuid_fms", json!(hex::encode(cpuid))),
        ("current_tcb", tcb(Report::current_tcb)),
        ("reported_tcb", tcb(Report::reported_tcb)),
        ("committed_tcb", tcb(Report::committed_tcb)),
        ("launch_tcb", tcb(Report::launch_tcb)),
        (
            "firmware",
            json!(format!(
                "cur {} com {}",
                report.current_firmware(),
                report.committed_firmware()
            )),
        ),
        (
            "mitigation_vectors_hex",
            json!(hex::encode(
                [launch.to_le_bytes(), current.to_le_bytes()].concat()
            )),
        ),
        ("chip_id", json!(hex::encode(report.chip_id()))),
        ("report_data", json!(hex::encode(report.report_data()))),
        ("measurement", json!(hex::encode(report.measurement()))),
        ("host_data", json!(hex::encode(report.host_data()))),
        ("id_key_digest", json!(hex::encode(report.id_key_digest()))),
        (
            "author_key_digest",
            json!(hex::encode(report.author_key_digest())),
        ),
        ("family_id", json!(hex::encode(report.family_id()))),
        ("image_id", json!(hex::encode(report.image_id()))),
        ("report_id", json!(hex::encode(report.report_id()))),
        ("report_id_ma", json!(hex::encode(report.report_id_ma()))),
        ("signature_algorithm", json!(report.signature_algorithm())),
        ("s_is_high", json!(s_is_high)),
        ("evidence_id", json!(hex::encode(report.evidence_id()))),
    ];
    let rows = rows
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    rows.chain(vek.fields()).collect()
}

/// What a certificate says, as far as it can be read. Nothing here is judged.
#[derive(Default)]
struct Vek {
    common_name: Option<String>,
    issuer: Option<String>,
    validity: Option<String>,
    expires_at_s: Option<i64>,
    product: Option<String>,
    csp_id: Option<String>,
    hardware_id_bytes: Option<usize>,
    /// `3.1` to `3.9`, by their last number.
    levels: Vec<(u8, u8)>,
}

impl Vek {
    fn read(der: &[u8]) -> Self {
        let Ok((_, certificate)) = X509Certificate::from_der(der) else {
            return Self::default();
        };
        let tbs = &certificate.tbs_certificate;
        let mut vek = Self {
            common_name: common_name(&tbs.subject),
            issuer: common_name(&tbs.issuer),
            validity: Some(validity(&tbs.validity)),
            expires_at_s: Some(tbs.validity.not_after.timestamp()),
            ..Self::default()
        };
        for extension in certificate.extensions() {
            let oid = extension.oid.to_id_string();
            let Some(arc) = oid.strip_prefix(AMD_ARC) else {
                continue;
            };
            let value = extension.value;
            match arc {
                "2" => vek.product = ia5(value),
                "5" => vek.csp_id = ia5(value),
                // Raw, or in an OCTET STRING of two bytes more.
                "4" => {
                    vek.hardware_id_bytes = Some(match value {
                        [4, length, id @ ..] if usize::from(*length) == id.len() => id.len(),
                        raw => raw.len(),
                    });
                }
                _ => {
                    let number = arc.strip_prefix("3.").and_then(|text| text.parse().ok());
                    if let (Some(number), Some(level)) = (number, integer(value)) {
                        vek.levels.push((number, level));
                    }
                }
            }
        }
        vek
    }

    /// The line whose signing key issued it, by the issuer's name.
    fn line(&self) -> Option<Line> {
        let issuer = self.issuer.as_deref()?;
        Line::ALL
            .into_iter()
            .find(|line| issuer.ends_with(&format!("-{line}")))
    }

    fn tcb(&self) -> Option<Value> {
        let level = |wanted: u8| {
            let found = self.levels.iter().find(|(number, _)| *number == wanted);
            found.map(|(_, level)| *level)
        };
        Some(parts(TcbParts {
            fmc: level(9),
            bootloader: level(1)?,
            tee: level(2)?,
            snp: level(3)?,
            microcode: level(8)?,
        }))
    }

    fn fields(self) -> [(String, Value); 8] {
        let tcb = self.tcb();
        let Self {
            common_name,
            issuer,
            validity,
            expires_at_s,
            product,
            csp_id,
            hardware_id_bytes,
            levels: _,
        } = self;
        [
            ("vek_cn", json!(common_name)),
            ("vek_issuer", json!(issuer)),
            ("vek_validity", json!(validity)),
            ("vek_expires_at", json!(expires_at_s)),
            ("vek_product", json!(product)),
            ("vek_csp_id", json!(csp_id)),
            ("vek_hwid_len", json!(hardware_id_bytes)),
            ("vek_tcb", json!(tcb)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    }
}

fn policy_bits(policy: GuestPolicy) -> String {
    let [minor, major, ..] = policy.bits().to_le_bytes();
    let set = POLICY_BITS
        .iter()
        .filter(|(bit, _)| policy.bits().checked_shr(*bit).unwrap_or(0) & 1 == 1);
    let names: Vec<&str> = set.map(|(_, name)| *name).collect();
    format!("abi{major}.{minor} {}", names.join(","))
}

fn parts(tcb: TcbParts) -> Value {
    let TcbParts {
        fmc,
        bootloader,
        tee,
        snp,
        microcode,
    } = tcb;
    let mut value = json!({"bl": bootloader, "tee": tee, "snp": snp, "uc": microcode});
    if let (Some(fmc), Some(members)) = (fmc, value.as_object_mut()) {
        members.insert("fmc".to_owned(), json!(fmc));
    }
    value
}

fn common_name(name: &X509Name<'_>) -> Option<String> {
    let mut names = name.iter_common_name();
    names.next()?.as_str().ok().map(str::to_owned)
}

/// The text of an IA5String of fewer than 128 bytes.
fn ia5(der: &[u8]) -> Option<String> {
    match der {
        [0x16, length, text @ ..] if usize::from(*length) == text.len() => {
            String::from_utf8(text.to_vec()).ok()
        }
        _ => None,
    }
}

/// The value of an INTEGER that is one byte without its sign.
fn integer(der: &[u8]) -> Option<u8> {
    match der {
        [2, 1, value] | [2, 2, 0, value] => Some(*value),
        _ => None,
    }
}
