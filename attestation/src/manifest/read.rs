//! From a manifest file to its checked form, with all faults at once.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use toml::Value;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::keyholders::{images, keyholders, recovery};
use super::spiffe::{self, TrustDomain};
use super::witnesses::witnesses;
use super::{
    Administrator, DEFAULT_ROTATE_AFTER_DAYS, DEFAULT_TOKEN_LIFETIME_S, EnclaveKind,
    MAX_MANIFEST_BYTES, MAX_RATE_PER_S, MAX_ROTATE_AFTER_DAYS, MAX_TOKEN_LIFETIME_S, Manifest,
    Origin, Origins, Rates, Role, TlsRoots, TokenAlg, TokenLimits, Upstream, is_id,
    manifest_digest,
};
use crate::fields::{Faults, FieldFault, Fields, FromField, Hex, document};

/// The most administrators.
const MAX_ADMINISTRATORS: usize = 256;
/// The most signers of profiles.
const MAX_PROFILE_SIGNERS: usize = 16;
/// The most further roots.
const MAX_ROOTS: usize = 64;

pub(super) fn manifest(
    toml: &[u8],
    signer: [u8; 32],
    kind: EnclaveKind,
) -> Result<Manifest, Vec<FieldFault>> {
    let mut faults = Faults::default();
    let manifest = document(toml, MAX_MANIFEST_BYTES, &mut faults).and_then(|mut top| {
        let sequence = top.required("sequence", &mut faults);
        let issuer = origin("issuer", &mut top, kind, &mut faults);
        let origins = top
            .required("origins", &mut faults)
            .and_then(|fields| origins(fields, kind, &mut faults));
        let administrators: Option<Vec<Administrator>> =
            top.required("administrators", &mut faults);
        if let Some(administrators) = &administrators {
            distinct(administrators, &mut faults);
        }
        let tls = top
            .optional("tls", &mut faults)
            .map(|fields| tls(fields, &mut faults));
        let upstream = top
            .optional("upstream", &mut faults)
            .map(|fields| upstream(fields, kind, &mut faults));
        let token = top
            .optional("token", &mut faults)
            .map(|fields| token(fields, &mut faults));
        let rates = top
            .optional("rates", &mut faults)
            .map(|fields| rates(fields, &mut faults));
        let witnesses = top
            .optional("witnesses", &mut faults)
            .map(|fields| witnesses(fields, &mut faults));
        let keyholders = top
            .optional("keyholders", &mut faults)
            .map(|fields| keyholders(fields, &mut faults));
        let images = top
            .optional("images", &mut faults)
            .map(|fields| images(fields, &mut faults));
        let recovery = top
            .optional("recovery", &mut faults)
            .map(|fields| recovery(fields, &mut faults));
        let trust_domains: Vec<TrustDomain> = top
            .optional("trust_domains", &mut faults)
            .unwrap_or_default();
        spiffe::distinct(&trust_domains, &mut faults);
        let profile_signers = top
            .optional("profiles", &mut faults)
            .map(|fields| profile_signers(fields, &mut faults));
        top.finish(&mut faults);
        Some(Manifest {
            digest: manifest_digest(toml),
            signer,
            sequence: sequence?,
            issuer: issuer?,
            origins: origins?,
            administrators: administrators?,
            tls: tls.unwrap_or(TlsRoots {
                webpki_roots: true,
                roots: Vec::new(),
            }),
            upstream: upstream.unwrap_or(Upstream {
                allow_loopback: false,
            }),
            token: token.unwrap_or(TokenLimits {
                max_lifetime_s: DEFAULT_TOKEN_LIFETIME_S,
                alg: TokenAlg::default(),
                rotate_after_days: Some(DEFAULT_ROTATE_AFTER_DAYS),
            }),
            trust_domains,
            profile_signers: profile_signers.unwrap_or_default(),
            rates: rates.unwrap_or_default(),
            witnesses: whole(witnesses)?,
            keyholders: whole(keyholders)?,
            images: whole(images)?,
            recovery: whole(recovery)?,
        })
    });
    faults.settle(manifest)
}

/// A table that may be absent; one that is there but was not read whole is a fault, never an absent one.
fn whole<T>(table: Option<Option<T>>) -> Option<Option<T>> {
    match table {
        None => Some(None),
        Some(read) => read.map(Some),
    }
}

/// The table of those whose profiles of providers are believed.
fn profile_signers(mut fields: Fields, faults: &mut Faults) -> Vec<[u8; 32]> {
    let signers: Vec<Hex<32>> = fields.required("signers", faults).unwrap_or_default();
    let path = fields.path("signers");
    fields.finish(faults);
    if signers.is_empty() || signers.len() > MAX_PROFILE_SIGNERS {
        faults.invalid(path, "must have 1 to 16 entries");
    }
    signers.into_iter().map(|Hex(bytes)| bytes).collect()
}

/// An origin that this kind of enclave may serve.
fn origin(
    key: &str,
    fields: &mut Fields,
    kind: EnclaveKind,
    faults: &mut Faults,
) -> Option<Origin> {
    let text: String = fields.required(key, faults)?;
    let path = fields.path(key);
    match text.parse::<Origin>() {
        Ok(origin) if kind == EnclaveKind::Emulated && !origin.is_local() => {
            faults.invalid(
                path,
                "an emulated enclave serves only loopback, .test and .localhost",
            );
            None
        }
        Ok(origin) => Some(origin),
        Err(error) => {
            faults.invalid(path, error.rule());
            None
        }
    }
}

fn origins(mut fields: Fields, kind: EnclaveKind, faults: &mut Faults) -> Option<Origins> {
    let grpc = origin("grpc", &mut fields, kind, faults);
    let public = origin("public", &mut fields, kind, faults);
    let gateway = origin("gateway", &mut fields, kind, faults);
    fields.finish(faults);
    Some(Origins {
        grpc: grpc?,
        public: public?,
        gateway: gateway?,
    })
}

/// At least one, not too many, and no name or key twice.
fn distinct(administrators: &[Administrator], faults: &mut Faults) {
    if administrators.is_empty() || administrators.len() > MAX_ADMINISTRATORS {
        faults.invalid("administrators", "must have 1 to 256 entries");
    }
    for (i, administrator) in administrators.iter().enumerate() {
        let earlier = administrators.get(..i).unwrap_or(&[]);
        if earlier.iter().any(|other| other.name == administrator.name) {
            faults.invalid(format!("administrators[{i}].name"), "occurs twice");
        }
        if earlier
            .iter()
            .any(|other| other.spki_sha256 == administrator.spki_sha256)
        {
            faults.invalid(format!("administrators[{i}].spki_sha256"), "occurs twice");
        }
    }
}

fn tls(mut fields: Fields, faults: &mut Faults) -> TlsRoots {
    let webpki_roots = fields.optional("webpki_roots", faults).unwrap_or(true);
    let pems: Vec<String> = fields.optional("roots_pem", faults).unwrap_or_default();
    if pems.len() > MAX_ROOTS {
        faults.invalid(fields.path("roots_pem"), "must have at most 64 entries");
    }
    let roots = pems
        .iter()
        .enumerate()
        .filter_map(|(i, pem)| {
            let root = only_certificate(pem);
            if root.is_none() {
                faults.invalid(
                    format!("{}[{i}]", fields.path("roots_pem")),
                    "must be one PEM certificate",
                );
            }
            root
        })
        .collect();
    fields.finish(faults);
    TlsRoots {
        webpki_roots,
        roots,
    }
}

/// Exactly one certificate in PEM, well-formed.
fn only_certificate(pem: &str) -> Option<CertificateDer<'static>> {
    let mut certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
    let only = certificates.next()?.ok()?;
    if certificates.next().is_some() {
        return None;
    }
    let (rest, _) = X509Certificate::from_der(&only).ok()?;
    rest.is_empty().then(|| only.into_owned())
}

/// Exactly one certificate in PEM, of an authority [RFC 5280 §4.2.1.9].
pub(super) fn authority_certificate(pem: &str) -> Option<CertificateDer<'static>> {
    let der = only_certificate(pem)?;
    let is_authority = X509Certificate::from_der(&der)
        .ok()
        .and_then(|(_, certificate)| {
            let constraints = certificate.basic_constraints().ok()??;
            Some(constraints.value.ca)
        });
    (is_authority == Some(true)).then_some(der)
}

fn upstream(mut fields: Fields, kind: EnclaveKind, faults: &mut Faults) -> Upstream {
    let allow_loopback = fields.optional("allow_loopback", faults).unwrap_or(false);
    if allow_loopback && kind == EnclaveKind::Hardware {
        faults.invalid(fields.path("allow_loopback"), "must be false on hardware");
    }
    fields.finish(faults);
    Upstream { allow_loopback }
}

fn token(mut fields: Fields, faults: &mut Faults) -> TokenLimits {
    let max_lifetime_s = fields
        .optional("max_lifetime_s", faults)
        .unwrap_or(DEFAULT_TOKEN_LIFETIME_S);
    if !(1..=MAX_TOKEN_LIFETIME_S).contains(&max_lifetime_s) {
        faults.invalid(fields.path("max_lifetime_s"), "must be 1 to 3600");
    }
    let alg = fields.optional::<String>("alg", faults);
    let alg = match alg.as_deref() {
        None => TokenAlg::default(),
        Some("ES256") => TokenAlg::Es256,
        Some("EdDSA") => TokenAlg::EdDsa,
        Some(_) => {
            faults.invalid(fields.path("alg"), "must be ES256 or EdDSA");
            TokenAlg::default()
        }
    };
    let days = fields
        .optional("rotate_after_days", faults)
        .unwrap_or(DEFAULT_ROTATE_AFTER_DAYS);
    if days > MAX_ROTATE_AFTER_DAYS {
        faults.invalid(
            fields.path("rotate_after_days"),
            "must be 1 to 3650, or 0 for never",
        );
    }
    fields.finish(faults);
    TokenLimits {
        max_lifetime_s,
        alg,
        rotate_after_days: (days > 0).then_some(days),
    }
}

fn rates(mut fields: Fields, faults: &mut Faults) -> Rates {
    let mut rate = |key, default| {
        let rate = fields.optional(key, faults).unwrap_or(u64::from(default));
        match u32::try_from(rate) {
            Ok(rate) if (1..=MAX_RATE_PER_S).contains(&rate) => rate,
            Ok(_) | Err(_) => {
                faults.invalid(fields.path(key), "must be 1 to 1000000");
                default
            }
        }
    };
    let Rates {
        client_per_s,
        client_burst,
        grant_upstream_per_s,
    } = Rates::default();
    let rates = Rates {
        client_per_s: rate("client_per_s", client_per_s),
        client_burst: rate("client_burst", client_burst),
        grant_upstream_per_s: rate("grant_upstream_per_s", grant_upstream_per_s),
    };
    fields.finish(faults);
    rates
}

impl FromField for Administrator {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        let mut fields = Fields::read(value, path, faults)?;
        let name = fields.required::<String>("name", faults);
        if name.as_deref().is_some_and(|name| !is_id(name)) {
            faults.invalid(
                fields.path("name"),
                "must be 1 to 64 letters, digits, '-', '_' and '.'",
            );
        }
        let spki_sha256 = fields.required("spki_sha256", faults);
        let roles: Option<Vec<Role>> = fields.required("roles", faults);
        if roles.as_ref().is_some_and(Vec::is_empty) {
            faults.invalid(fields.path("roles"), "must have an entry");
        }
        fields.finish(faults);
        let Hex(spki_sha256) = spki_sha256?;
        Some(Self {
            name: name?,
            spki_sha256,
            roles: roles?,
        })
    }
}

impl FromField for Role {
    fn read(value: Value, path: &str, faults: &mut Faults) -> Option<Self> {
        let text = String::read(value, path, faults)?;
        text.parse().ok().or_else(|| {
            faults.invalid(
                path,
                "must be operator, tenant:ID, tenant-security:ID, tenant-auditor:ID or vendor:ID",
            );
            None
        })
    }
}
