//! The manifest's SPIFFE trust domains: whose X.509-SVIDs clients may authenticate by.

use rustls_pki_types::CertificateDer;
use toml::Value;

use super::is_id;
use super::read::authority_certificate;
use crate::fields::{Faults, Fields, FromField};

/// The most trust domains.
pub const MAX_TRUST_DOMAINS: usize = 64;
/// The most certificates of a bundle.
const MAX_BUNDLE: usize = 16;
/// The longest name of a trust domain [SPIFFE-ID §2.1].
const MAX_NAME_BYTES: usize = 255;

/// A trust domain and the authorities that vouch for its workloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustDomain {
    /// Its name; unique.
    pub name: String,
    /// The vendor whose clients may be registered by its SPIFFE IDs.
    pub vendor: String,
    /// Its bundle: the certificates of its authorities, DER; at least one.
    pub bundle: Vec<CertificateDer<'static>>,
}

/// Not too many, and no name twice.
pub(super) fn distinct(domains: &[TrustDomain], faults: &mut Faults) {
    if domains.len() > MAX_TRUST_DOMAINS {
        faults.invalid("trust_domains", "must have at most 64 entries");
    }
    for (i, domain) in domains.iter().enumerate() {
        let earlier = domains.get(..i).unwrap_or(&[]);
        if earlier.iter().any(|other| other.name == domain.name) {
            faults.invalid(format!("trust_domains[{i}].name"), "occurs twice");
        }
    }
}

impl FromField for TrustDomain {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        let mut fields = Fields::read(value, path, faults)?;
        let name = fields.required::<String>("name", faults);
        if name.as_deref().is_some_and(|name| !is_trust_domain(name)) {
            faults.invalid(
                fields.path("name"),
                "must be 1 to 255 of a-z, 0-9, '.', '-' and '_', without spiffe://",
            );
        }
        let vendor = fields.required::<String>("vendor", faults);
        if vendor.as_deref().is_some_and(|vendor| !is_id(vendor)) {
            faults.invalid(fields.path("vendor"), "must be the id of a vendor");
        }
        let pems: Option<Vec<String>> = fields.required("bundle_pem", faults);
        let path = fields.path("bundle_pem");
        fields.finish(faults);
        let pems = pems?;
        if pems.is_empty() || pems.len() > MAX_BUNDLE {
            faults.invalid(&path, "must have 1 to 16 entries");
        }
        let bundle = pems
            .iter()
            .enumerate()
            .filter_map(|(i, pem)| {
                let authority = authority_certificate(pem);
                if authority.is_none() {
                    faults.invalid(
                        format!("{path}[{i}]"),
                        "must be one PEM certificate of an authority",
                    );
                }
                authority
            })
            .collect();
        Some(Self {
            name: name?,
            vendor: vendor?,
            bundle,
        })
    }
}

fn is_trust_domain(name: &str) -> bool {
    let known =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(known)
}
