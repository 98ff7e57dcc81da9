//! `provider profiles|profile|check|sign`: what is known of providers, as files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use attestation::manifest::{ManifestSignature, sign_profile};
use ring::rand::SystemRandom;
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokenkeep::private_file::read_private;

use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::output::Output;
use crate::cli::record::Record;

/// The most that is read of a file: more than a profile may have.
const MAX_READ: u64 = 128 * 1024;

/// The longest key file.
const MAX_KEY_BYTES: usize = 16 * 1024;

/// The bytes of a file.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(
            format!("{} cannot be read: {error}", path.display()),
            "check the path",
        )
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_READ).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    Ok(bytes)
}

pub(super) fn list(output: Output) -> Result<(), Failure> {
    let record = |shipped: &profiles::shipped::Shipped| {
        let document = shipped.document().map_err(|_| broken(shipped.id))?;
        let parameters: Vec<&String> = document.parameters.keys().collect();
        Ok(Record::new([
            ("id", json!(shipped.id)),
            ("title", json!(document.title)),
            ("parameters", json!(parameters)),
            ("targets", json!(document.targets.len())),
            ("operations", json!(document.operations.len())),
            ("tested", json!(tested(document.tested))),
        ]))
    };
    let records = profiles::shipped::ALL
        .iter()
        .map(record)
        .collect::<Result<Vec<_>, Failure>>()?;
    output.records("profiles", &records)
}

fn broken(id: &str) -> Failure {
    Failure::new(
        Exit::Refused,
        format!("the profile {id} of this build breaks a rule"),
        "report it",
    )
}

const fn tested(tested: profiles::document::Tested) -> &'static str {
    match tested {
        profiles::document::Tested::Server => "the running server",
        profiles::document::Tested::Simulation => "a simulation",
        profiles::document::Tested::No => "not live",
    }
}

pub(super) fn print(id: &str, output: Output) -> Result<(), Failure> {
    let shipped = profiles::shipped::find(id).ok_or_else(|| {
        Failure::usage(
            format!("there is no profile {id}"),
            "`tokenkeep provider profiles` lists them",
        )
    })?;
    if output.is_json() {
        return output.json(&json!({"id": id, "profile": shipped.toml}));
    }
    output.bytes(shipped.toml.as_bytes()).map(|_open| ())
}

pub(super) fn check(files: &[impl AsRef<Path>], output: Output) -> Result<(), Failure> {
    let mut all: Vec<Value> = Vec::new();
    let mut bad = 0_usize;
    for file in files {
        let path = file.as_ref();
        let faults: Vec<String> = match profiles::read(&bytes(path)?) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.iter().map(ToString::to_string).collect(),
        };
        bad = bad.saturating_add(usize::from(!faults.is_empty()));
        let name = path.display().to_string();
        if output.is_json() {
            all.push(json!({"file": name, "ok": faults.is_empty(), "faults": faults}));
        } else if faults.is_empty() {
            output.line(&format!("{name}: good"))?;
        } else {
            for fault in &faults {
                output.line(&format!("{name}: {fault}"))?;
            }
        }
    }
    if output.is_json() {
        output.json(&json!({"ok": bad == 0, "files": all}))?;
    }
    match bad {
        0 => Ok(()),
        bad => Err(Failure::new(
            Exit::Refused,
            format!("{bad} of {} profiles are not good", files.len()),
            "mend what is named; docs/providers.md describes the schema",
        )),
    }
}

/// Signs a profile that breaks no rule.
pub(super) fn sign(file: &Path, key_file: &Path, output: Output) -> Result<(), Failure> {
    let toml = bytes(file)?;
    let document = profiles::read(&toml).map_err(|faults| {
        let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Failure::new(
            Exit::Refused,
            format!("{} is not signed: {}", file.display(), all.join("; ")),
            "mend what is named; docs/providers.md describes the schema",
        )
    })?;
    let no_key = || {
        Failure::usage(
            format!("{} holds no ES256 key in PKCS#8 (PEM)", key_file.display()),
            "`tokenkeep key new FILE` makes one",
        )
    };
    let pem = read_private(key_file, MAX_KEY_BYTES)?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| no_key())?;
    let signature = sign_profile(&toml, key.secret_pkcs8_der(), &SystemRandom::new());
    let signature = signature.map_err(|_| no_key())?;
    if !output.is_json() {
        return output.bytes(signature.as_bytes()).map(|_open| ());
    }
    let signer = ManifestSignature::from_json(signature.as_bytes());
    output.json(&json!({
        "id": document.id,
        "profile_sha256": hex::encode(profiles::digest_of(&toml)),
        "signature": signature,
        "signer": signer.ok().map(|signature| hex::encode(signature.signer())),
    }))
}
