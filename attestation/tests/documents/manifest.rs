//! The manifest and its signature.

use attestation::manifest::{
    DEFAULT_TOKEN_LIFETIME_S, EnclaveKind, MAX_MANIFEST_BYTES, MAX_SIGNATURE_BYTES, ManifestError,
    ManifestSignature, Role, SignManifestError, SignatureFault, TokenAlg, manifest_digest,
    sign_manifest,
};
use attestation::{FieldFault, FieldProblem, Manifest, P256PublicKey};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

use crate::{fault, invalid};

const SAMPLE: &str = include_str!("../../samples/manifest.toml");

const LOCAL: &str = r#"
sequence = 7
issuer = "http://127.0.0.1:8080"
[origins]
grpc = "https://localhost:8443"
public = "http://127.0.0.1:8080"
gateway = "https://gateway.test"
[[administrators]]
name = "dev"
spki_sha256 = "1111111111111111111111111111111111111111111111111111111111111111"
roles = ["operator", "tenant:bank", "tenant-security:bank", "tenant-auditor:bank", "vendor:acme"]
"#;

fn key() -> Vec<u8> {
    let pkcs8 =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .unwrap();
    pkcs8.as_ref().to_vec()
}

/// A signature file and its signer.
fn signed(toml: &str, key: &[u8]) -> (String, [u8; 32]) {
    let file = sign_manifest(toml.as_bytes(), key, &SystemRandom::new()).unwrap();
    let signer = ManifestSignature::from_json(file.as_bytes())
        .unwrap()
        .signer();
    (file, signer)
}

fn open(toml: &str, kind: EnclaveKind) -> Result<Manifest, ManifestError> {
    let (file, signer) = signed(toml, &key());
    Manifest::open(toml.as_bytes(), file.as_bytes(), &signer, kind)
}

#[test]
fn the_documented_sample_is_a_manifest_for_hardware() {
    let manifest = open(SAMPLE, EnclaveKind::Hardware).unwrap();
    assert_eq!(manifest.digest(), &manifest_digest(SAMPLE.as_bytes()));
    assert_eq!(manifest.sequence(), 1);
    assert_eq!(manifest.issuer().as_str(), "https://tokens.example");
    assert_eq!(manifest.origins().grpc.port(), 8443);
    assert_eq!(
        manifest.administrators()[1].roles,
        [Role::Tenant("bank".to_owned())]
    );
    assert!(manifest.tls().webpki_roots);
    assert!(!manifest.upstream().allow_loopback);
    assert_eq!(manifest.token().max_lifetime_s, 300);
}

#[test]
fn what_a_manifest_leaves_out_has_the_safe_value() {
    let manifest = open(LOCAL, EnclaveKind::Emulated).unwrap();
    assert!(manifest.tls().webpki_roots && manifest.tls().roots.is_empty());
    assert!(!manifest.upstream().allow_loopback);
    assert_eq!(manifest.token().max_lifetime_s, DEFAULT_TOKEN_LIFETIME_S);
    assert_eq!(manifest.token().alg, TokenAlg::Es256);
    assert!(manifest.trust_domains().is_empty());
    let roles: Vec<String> = manifest.administrators()[0]
        .roles
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        roles,
        [
            "operator",
            "tenant:bank",
            "tenant-security:bank",
            "tenant-auditor:bank",
            "vendor:acme"
        ]
    );
}

/// A certificate of an authority, PEM.
fn authority() -> String {
    testkit::pki::Authority::new("acme").unwrap().pem()
}

fn trust_domain(name: &str, vendor: &str, pem: &str) -> String {
    format!(
        "[[trust_domains]]\nname = \"{name}\"\nvendor = \"{vendor}\"\nbundle_pem = [\"\"\"{pem}\"\"\"]\n"
    )
}

#[test]
fn trust_domains_and_the_algorithm_of_tokens_are_read() {
    let domain = trust_domain("acme.example", "acme", &authority());
    let toml = format!("{LOCAL}[token]\nalg = \"EdDSA\"\n{domain}");
    let manifest = open(&toml, EnclaveKind::Emulated).unwrap();
    assert_eq!(manifest.token().alg, TokenAlg::EdDsa);
    let [domain] = manifest.trust_domains() else {
        panic!("one trust domain");
    };
    assert_eq!(
        (domain.name.as_str(), domain.vendor.as_str()),
        ("acme.example", "acme")
    );
    assert_eq!(domain.bundle.len(), 1);
}

#[test]
fn further_roots_are_read() {
    let pem = testkit::snp::SnpPlatform::development([1; 32])
        .unwrap()
        .root_pem()
        .to_owned();
    let tls = |list: &str| format!("{LOCAL}[tls]\nwebpki_roots = false\nroots_pem = [{list}]\n");
    let manifest = open(&tls(&format!("'''{pem}'''")), EnclaveKind::Emulated).unwrap();
    assert_eq!(
        (manifest.tls().webpki_roots, manifest.tls().roots.len()),
        (false, 1)
    );
    let rule = "must be one PEM certificate";
    let broken = "-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n";
    let list = format!("'''{pem}''', '''{pem}{pem}''', \"x\", \"{broken}\"");
    assert_eq!(
        faults(&tls(&list), EnclaveKind::Emulated),
        [1, 2, 3].map(|i| invalid(&format!("tls.roots_pem[{i}]"), rule))
    );
}

#[test]
fn a_signature_that_does_not_vouch_for_the_file_is_refused_before_the_file_is_read() {
    let (mine, other) = (key(), key());
    let (file, signer) = signed(LOCAL, &mine);
    let (foreign, _) = signed(LOCAL, &other);
    let part = |name: &str| -> String {
        serde_json::from_str::<serde_json::Value>(&file).unwrap()[name]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let found = hex::encode(
        ManifestSignature::from_json(foreign.as_bytes())
            .unwrap()
            .signer(),
    );
    let rows: Vec<(&str, String, SignatureFault)> = vec![
        (LOCAL, foreign, SignatureFault::Signer { found }),
        ("sequence = 8", file.clone(), SignatureFault::Invalid),
        ("not = [toml", file.clone(), SignatureFault::Invalid),
        (
            LOCAL,
            file.replace("ES256", "none"),
            SignatureFault::Algorithm {
                found: "none".to_owned(),
            },
        ),
        (
            LOCAL,
            file.replace("\"alg\"", "\"algorithm\""),
            SignatureFault::Form,
        ),
        (LOCAL, file.replace('}', ",\"x\":1}"), SignatureFault::Form),
        (LOCAL, String::new(), SignatureFault::Form),
        (LOCAL, "null".to_owned(), SignatureFault::Form),
        (
            LOCAL,
            file.replace(&part("signature"), ""),
            SignatureFault::Invalid,
        ),
        (
            LOCAL,
            file.replace(&part("signature"), "***"),
            SignatureFault::Encoding,
        ),
        (
            LOCAL,
            file.replace(&part("signature"), &format!("{}==", part("signature"))),
            SignatureFault::Encoding,
        ),
        (
            LOCAL,
            file.replace(&part("signature"), &"A".repeat(86)),
            SignatureFault::Invalid,
        ),
        (
            LOCAL,
            file.replace(&part("public_key"), "AAAA"),
            SignatureFault::PublicKey,
        ),
        (
            LOCAL,
            " ".repeat(MAX_SIGNATURE_BYTES + 1),
            SignatureFault::TooLarge,
        ),
    ];
    for (toml, signature, fault) in rows {
        let result = Manifest::open(
            toml.as_bytes(),
            signature.as_bytes(),
            &signer,
            EnclaveKind::Emulated,
        );
        assert_eq!(result, Err(ManifestError::Signature(fault)), "{signature}");
    }
    let bound_to_nobody = Manifest::open(
        LOCAL.as_bytes(),
        file.as_bytes(),
        &[0; 32],
        EnclaveKind::Emulated,
    );
    let found = hex::encode(signer);
    assert_eq!(
        bound_to_nobody,
        Err(ManifestError::Signature(SignatureFault::Signer { found }))
    );
}

#[test]
fn what_is_signed_is_the_domain_and_the_digest_of_the_file() {
    use base64ct::{Base64UrlUnpadded, Encoding};
    use ring::digest::{SHA256, digest};
    use ring::signature::KeyPair;
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key(), &random).unwrap();
    let public = P256PublicKey::from_point(pair.public_key().as_ref()).unwrap();
    let file = |domain: &[u8]| {
        let message = [domain, digest(&SHA256, LOCAL.as_bytes()).as_ref()].concat();
        let signature = pair.sign(&random, &message).unwrap();
        serde_json::json!({
            "alg": "ES256",
            "public_key": Base64UrlUnpadded::encode_string(&public.spki_der()),
            "signature": Base64UrlUnpadded::encode_string(signature.as_ref()),
        })
        .to_string()
    };
    let signer: [u8; 32] = digest(&SHA256, &public.spki_der())
        .as_ref()
        .try_into()
        .unwrap();
    let open = |file: String| {
        Manifest::open(
            LOCAL.as_bytes(),
            file.as_bytes(),
            &signer,
            EnclaveKind::Emulated,
        )
    };
    assert!(open(file(b"tokenkeep/manifest/v1")).is_ok());
    let invalid = Err(ManifestError::Signature(SignatureFault::Invalid));
    assert_eq!(open(file(b"")), invalid);
    assert_eq!(open(file(b"tokenkeep/manifest/v2")), invalid);
}

#[test]
fn what_is_no_key_signs_nothing() {
    let result = sign_manifest(LOCAL.as_bytes(), b"key", &SystemRandom::new());
    assert_eq!(result, Err(SignManifestError::Key));
}

fn faults(toml: &str, kind: EnclaveKind) -> Vec<FieldFault> {
    match open(toml, kind) {
        Ok(_) => vec![],
        Err(ManifestError::Fields(faults)) => faults,
        Err(ManifestError::Signature(fault)) => vec![self::fault(
            "signature",
            FieldProblem::Syntax(fault.to_string()),
        )],
    }
}

#[test]
fn each_fault_is_named_with_its_path() {
    use EnclaveKind::{Emulated, Hardware};
    let swap = |from: &str, to: &str| {
        assert!(LOCAL.contains(from), "{from}");
        LOCAL.replacen(from, to, 1)
    };
    let authority = authority();
    let more = |lines: &str| format!("{LOCAL}{lines}\n");
    let only_local = "an emulated enclave serves only loopback, .test and .localhost";
    let role = "must be operator, tenant:ID, tenant-security:ID, tenant-auditor:ID or vendor:ID";
    let id = "must be 1 to 64 letters, digits, '-', '_' and '.'";
    let sha = "1111111111111111111111111111111111111111111111111111111111111111";
    let rows: Vec<(String, EnclaveKind, Vec<FieldFault>)> = vec![
        (LOCAL.to_owned(), Hardware, vec![]),
        (
            swap("http://127.0.0.1:8080", "https://tokens.example"),
            Hardware,
            vec![],
        ),
        (
            swap("http://127.0.0.1:8080", "https://tokens.example"),
            Emulated,
            vec![invalid("issuer", only_local)],
        ),
        (
            swap("https://gateway.test", "https://gateway.example"),
            Emulated,
            vec![invalid("origins.gateway", only_local)],
        ),
        (
            swap("https://localhost:8443", "https://10.0.0.1"),
            Emulated,
            vec![invalid("origins.grpc", only_local)],
        ),
        (
            swap("http://127.0.0.1:8080", "http://tokens.example"),
            Hardware,
            vec![invalid(
                "issuer",
                "must be https unless the host is on loopback or under .test or .localhost",
            )],
        ),
        (
            swap("http://127.0.0.1:8080", "https://tokens.example/"),
            Hardware,
            vec![invalid(
                "issuer",
                "must have a host in lower case, without user, path, query or fragment",
            )],
        ),
        (
            swap("sequence = 7", "sequence = -1"),
            Emulated,
            vec![invalid("sequence", "must not be negative")],
        ),
        (
            swap("sequence = 7", ""),
            Emulated,
            vec![fault("sequence", FieldProblem::Missing)],
        ),
        (
            swap("sequence = 7", "sequence = 7\nnonsense = 1"),
            Emulated,
            vec![fault("nonsense", FieldProblem::Unknown)],
        ),
        (
            swap("grpc =", "rpc ="),
            Emulated,
            vec![
                fault("origins.grpc", FieldProblem::Missing),
                fault("origins.rpc", FieldProblem::Unknown),
            ],
        ),
        (
            swap("\"dev\"", "\"d v\""),
            Emulated,
            vec![invalid("administrators[0].name", id)],
        ),
        (
            swap("\"dev\"", "\"\""),
            Emulated,
            vec![invalid("administrators[0].name", id)],
        ),
        (
            swap("\"1111", "\"111"),
            Emulated,
            vec![invalid(
                "administrators[0].spki_sha256",
                "must be 64 hex digits",
            )],
        ),
        (
            swap(
                "\"operator\", \"tenant:bank\", \"tenant-security:bank\", \"tenant-auditor:bank\", \"vendor:acme\"",
                "",
            ),
            Emulated,
            vec![invalid("administrators[0].roles", "must have an entry")],
        ),
        (
            swap("\"operator\"", "\"root\""),
            Emulated,
            vec![invalid("administrators[0].roles[0]", role)],
        ),
        (
            swap("\"operator\"", "\"operator:x\""),
            Emulated,
            vec![invalid("administrators[0].roles[0]", role)],
        ),
        (
            swap("tenant:bank", "tenant:"),
            Emulated,
            vec![invalid("administrators[0].roles[1]", role)],
        ),
        (
            swap("vendor:acme", "vendor:a/b"),
            Emulated,
            vec![invalid("administrators[0].roles[4]", role)],
        ),
        (
            swap("roles", "role"),
            Emulated,
            vec![
                fault("administrators[0].roles", FieldProblem::Missing),
                fault("administrators[0].role", FieldProblem::Unknown),
            ],
        ),
        (
            more(&format!(
                "[[administrators]]\nname = \"dev\"\nspki_sha256 = \"{sha}\"\nroles = [\"operator\"]"
            )),
            Emulated,
            vec![
                invalid("administrators[1].name", "occurs twice"),
                invalid("administrators[1].spki_sha256", "occurs twice"),
            ],
        ),
        (
            LOCAL
                .split("[[administrators]]")
                .next()
                .unwrap()
                .replace("[origins]", "administrators = []\n[origins]"),
            Emulated,
            vec![invalid("administrators", "must have 1 to 256 entries")],
        ),
        (
            LOCAL.split("[[administrators]]").next().unwrap().to_owned(),
            Emulated,
            vec![fault("administrators", FieldProblem::Missing)],
        ),
        (more("[upstream]\nallow_loopback = true"), Emulated, vec![]),
        (
            more("[upstream]\nallow_loopback = true"),
            Hardware,
            vec![invalid(
                "upstream.allow_loopback",
                "must be false on hardware",
            )],
        ),
        (
            more("[upstream]\nallow = true"),
            Hardware,
            vec![fault("upstream.allow", FieldProblem::Unknown)],
        ),
        (
            more("[token]\nmax_lifetime_s = 0"),
            Hardware,
            vec![invalid("token.max_lifetime_s", "must be 1 to 3600")],
        ),
        (
            more("[token]\nmax_lifetime_s = 3601"),
            Hardware,
            vec![invalid("token.max_lifetime_s", "must be 1 to 3600")],
        ),
        (
            more("[token]\nalg = \"RS256\""),
            Hardware,
            vec![invalid("token.alg", "must be ES256 or EdDSA")],
        ),
        (
            more(&trust_domain("Acme.example", "acme", &authority)),
            Hardware,
            vec![invalid(
                "trust_domains[0].name",
                "must be 1 to 255 of a-z, 0-9, '.', '-' and '_', without spiffe://",
            )],
        ),
        (
            more(&trust_domain("acme.example", "a b", &authority)),
            Hardware,
            vec![invalid(
                "trust_domains[0].vendor",
                "must be the id of a vendor",
            )],
        ),
        (
            more(&trust_domain("acme.example", "acme", "x")),
            Hardware,
            vec![invalid(
                "trust_domains[0].bundle_pem[0]",
                "must be one PEM certificate of an authority",
            )],
        ),
        (
            more(&trust_domain(
                "acme.example",
                "acme",
                &testkit::pki::client_certificate("leaf").unwrap().pem,
            )),
            Hardware,
            vec![invalid(
                "trust_domains[0].bundle_pem[0]",
                "must be one PEM certificate of an authority",
            )],
        ),
        (
            more(&trust_domain("acme.example", "acme", &authority).repeat(2)),
            Hardware,
            vec![invalid("trust_domains[1].name", "occurs twice")],
        ),
        (
            more("[[trust_domains]]\nname = \"a\"\nvendor = \"a\"\nbundle_pem = []"),
            Hardware,
            vec![invalid(
                "trust_domains[0].bundle_pem",
                "must have 1 to 16 entries",
            )],
        ),
        (
            more("[tls]\nverify = false"),
            Hardware,
            vec![fault("tls.verify", FieldProblem::Unknown)],
        ),
        (
            " ".repeat(MAX_MANIFEST_BYTES + 1),
            Hardware,
            vec![fault(
                "",
                FieldProblem::TooLarge {
                    max_bytes: MAX_MANIFEST_BYTES,
                },
            )],
        ),
    ];
    for (toml, kind, expected) in rows {
        assert_eq!(faults(&toml, kind), expected, "{kind:?} {}", toml.trim());
    }
}

#[test]
fn all_faults_are_named_at_once() {
    let toml = "sequence = \"x\"\nissuer = \"ftp://x\"\nextra = 1\n[origins]\ngrpc = 1\n[token]\nmax_lifetime_s = 0\n";
    let mut paths: Vec<String> = Manifest::check(toml.as_bytes(), EnclaveKind::Hardware)
        .unwrap_err()
        .into_iter()
        .map(|fault| fault.path)
        .collect();
    paths.sort();
    assert_eq!(
        paths,
        [
            "administrators",
            "extra",
            "issuer",
            "origins.gateway",
            "origins.grpc",
            "origins.public",
            "sequence",
            "token.max_lifetime_s",
        ]
    );
}
