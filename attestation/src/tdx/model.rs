//! The model of a platform: what Intel's statements are about, read from the PCK certificate in a quote.

use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

use super::body::Reader;
use super::quote::MAX_QUOTE_BYTES;

/// DER of the object id of the FMSPC in Intel's SGX extension, 1.2.840.113741.1.13.1.4, and the head of its six bytes.
const FMSPC: &[u8] = &[
    0x06, 0x0a, 0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01, 0x04, 0x04, 0x06,
];

/// Which of Intel's authorities issues a platform's PCK certificate, and lists those that are revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PckCa {
    /// For machines with several processors.
    Platform,
    /// For machines with one.
    Processor,
}

impl PckCa {
    const ALL: [Self; 2] = [Self::Platform, Self::Processor];

    /// Its name in requests and files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Processor => "processor",
        }
    }

    /// By its name in requests and files.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ca| ca.as_str() == name)
    }

    /// By the common name of its certificate.
    pub(super) fn of_common_name(name: &str) -> Option<Self> {
        match name {
            "Intel SGX PCK Platform CA" => Some(Self::Platform),
            "Intel SGX PCK Processor CA" => Some(Self::Processor),
            _ => None,
        }
    }
}

/// A family of platforms that share a TCB, and the authority of their certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlatformModel {
    /// Family, model, stepping, platform and custom SKU.
    pub fmspc: [u8; 6],
    /// Who issued the PCK certificate.
    pub ca: PckCa,
}

impl PlatformModel {
    /// The model that the PCK certificate of a quote names. Nothing is verified.
    #[must_use]
    pub fn of_quote(raw: &[u8]) -> Option<Self> {
        let pck = pck_of_quote(raw)?;
        let (_, certificate) = X509Certificate::from_der(&pck).ok()?;
        let issuer = common_name(&certificate.tbs_certificate.issuer)?;
        Some(Self {
            fmspc: fmspc(&pck)?,
            ca: PckCa::of_common_name(issuer)?,
        })
    }

    /// `FMSPC-CA`, as in file names: `00806f050000-platform`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}-{}", hex::encode(self.fmspc), self.ca.as_str())
    }

    /// By [`PlatformModel::name`]; the authority may be left out and is then that of platforms.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (fmspc, ca) = name.split_once('-').unwrap_or((name, "platform"));
        let mut bytes = [0; 6];
        hex::decode_to_slice(fmspc, &mut bytes).ok()?;
        Some(Self {
            fmspc: bytes,
            ca: PckCa::named(ca)?,
        })
    }
}

/// The FMSPC that a PCK certificate names.
pub(super) fn fmspc(pck: &[u8]) -> Option<[u8; 6]> {
    pck.windows(FMSPC.len().saturating_add(6))
        .find_map(|window| window.strip_prefix(FMSPC))
        .and_then(|bytes| bytes.try_into().ok())
}

/// The first common name.
pub(super) fn common_name<'a>(name: &'a x509_parser::x509::X509Name<'a>) -> Option<&'a str> {
    name.iter_common_name().next()?.as_str().ok()
}

fn pck_of_quote(raw: &[u8]) -> Option<Vec<u8>> {
    if raw.len() > MAX_QUOTE_BYTES {
        return None;
    }
    let mut from = Reader(raw);
    let version = from.u16()?;
    from.bytes(46)?;
    let body_bytes = if version == 5 {
        let (_, bytes) = (from.u16()?, from.u32()?);
        usize::try_from(bytes).ok()?
    } else {
        584
    };
    from.bytes(body_bytes)?;
    let length = usize::try_from(from.u32()?).ok()?;
    pck_certificate(from.bytes(length)?, version)
}

/// DER of the PCK certificate, the first of the chain in the signature data of a quote.
pub(super) fn pck_certificate(signature_data: &[u8], version: u16) -> Option<Vec<u8>> {
    let mut from = Reader(signature_data);
    from.bytes(64 + 64)?;
    if version >= 4 {
        // Type and size of the outer certification data.
        from.bytes(2 + 4)?;
    }
    // The QE's report and its signature.
    from.bytes(384 + 64)?;
    let length = usize::from(from.u16()?);
    from.bytes(length)?;
    // Type and size of the chain.
    from.bytes(2 + 4)?;
    Some(Pem::iter_from_buffer(from.0).next()?.ok()?.contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_read_back_from_its_name() {
        let model = PlatformModel {
            fmspc: [0x00, 0x80, 0x6F, 0x05, 0, 0],
            ca: PckCa::Processor,
        };
        assert_eq!(model.name(), "00806f050000-processor");
        assert_eq!(PlatformModel::named(&model.name()), Some(model));
        let of_platforms = PlatformModel::named("00806F050000").unwrap();
        assert_eq!(of_platforms.ca, PckCa::Platform);
        for name in ["", "00806f0500", "00806f050000-", "00806f050000-ca", "../x"] {
            assert_eq!(PlatformModel::named(name), None, "{name}");
        }
    }

    #[test]
    fn an_authority_is_known_by_the_name_in_its_certificate() {
        for (name, ca) in [
            ("Intel SGX PCK Platform CA", Some(PckCa::Platform)),
            ("Intel SGX PCK Processor CA", Some(PckCa::Processor)),
            ("Intel SGX Root CA", None),
        ] {
            assert_eq!(PckCa::of_common_name(name), ca);
        }
    }
}
